"""Names to addresses, by the system's resolver, as the applications on this host see them.

getaddrinfo(3) blocks and cannot be cancelled, so each look-up has a daemon thread of its own:
one that hangs delays nobody else and does not keep the process from ending. A target whose last
look-up still hangs gets no second one, so there are never more threads than targets.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address, ip_address

from exporter.model import FAMILY_NAMES, Failure, FailureReason, Family, ProbeError

#: How long a look-up may take; resolv.conf(5) waits 5 s for one server.
LOOKUP_TIMEOUT = 5.0

#: (host, port, family) -> addresses in the order in which an application would try them. Blocks.
Lookup = Callable[[str, int, Family], list[str]]

#: The same, asked.
_Question = tuple[str, int, Family]

_AF = {
    Family.AUTO: socket.AF_UNSPEC,
    Family.IPV4: socket.AF_INET,
    Family.IPV6: socket.AF_INET6,
}
#: What getaddrinfo says of a name that exists, or may exist, without an address of the family.
_NO_ADDRESS = frozenset({socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_ADDRFAMILY})


def system_lookup(host: str, port: int, family: Family) -> list[str]:
    """The addresses of a host, each once, in the order of RFC 6724.

    Without a family the ones that applications get by default (AI_ADDRCONFIG): IPv6 addresses
    only if this host has one itself.
    """
    flags = socket.AI_ADDRCONFIG if family is Family.AUTO else 0
    try:
        return _addresses(host, port, family, flags)
    except socket.gaierror as error:
        if error.errno in _NO_ADDRESS and (others := _others(host, port)):
            raise OSError(errno.EADDRNOTAVAIL, _missing(others, family)) from error
        raise


def _addresses(host: str, port: int, family: Family, flags: int = 0) -> list[str]:
    found = socket.getaddrinfo(host, port, _AF[family], socket.SOCK_STREAM, 0, flags)
    texts = dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found)
    return [text for text in texts if _has_a_path(text)]


def _others(host: str, port: int) -> list[str]:
    """The host's addresses of whatever family, none when it has none."""
    with suppress(socket.gaierror):
        return _addresses(host, port, Family.AUTO)
    return []


def _missing(others: list[str], family: Family) -> str:
    """Why none of a name's addresses will do."""
    has = " and ".join(sorted({FAMILY_NAMES[Family.of(address)] for address in others}))
    wants = "this host has none of its own" if family is Family.AUTO else f"family is {family}"
    return f"it has {has} addresses only, and {wants}"


def _is_address(host: str) -> bool:
    with suppress(ValueError):
        ip_address(host)
        return True
    return False


def _has_a_path(text: str) -> bool:
    """Not so one's own link (RFC 4007), or an IPv4 address in IPv6's form (RFC 4291 2.5.5.2)."""
    address = ip_address(text)
    return isinstance(address, IPv4Address) or not (address.scope_id or address.ipv4_mapped)


class Resolver:
    """Looks names up beside the running asyncio loop."""

    def __init__(self, lookup: Lookup = system_lookup, timeout: float = LOOKUP_TIMEOUT) -> None:
        self._lookup = lookup
        self._timeout = timeout
        self._pending: dict[_Question, asyncio.Future[list[str]]] = {}

    async def resolve(self, host: str, port: int, family: Family) -> list[str]:
        """The addresses of a host, at least one. Raises `ProbeError` with reason RESOLVE.

        An address is its own answer.
        """
        if _is_address(host):
            return [host]
        question = (host, port, family)
        future = self._pending.get(question) or self._begin(question)
        try:
            # Not wait_for(): in Python 3.11 it swallows a cancellation that meets the result.
            async with asyncio.timeout(self._timeout):
                addresses = await asyncio.shield(future)
        except TimeoutError:
            raise _failure(host, f"no answer within {self._timeout:g} s") from None
        except (OSError, UnicodeError) as error:
            text = error.strerror if isinstance(error, OSError) else str(error)
            raise _failure(host, text or "the look-up failed") from error
        if not addresses:
            raise _failure(host, "the name has no address that can be traced")
        return addresses

    def _begin(self, question: _Question) -> asyncio.Future[list[str]]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[str]] = loop.create_future()

        def settle(result: list[str] | Exception) -> None:
            self._pending.pop(question, None)
            if isinstance(result, Exception):
                future.set_exception(result)
                future.exception()  # a look-up nobody waits for any more is not worth a warning
            else:
                future.set_result(result)

        def work() -> None:
            result: list[str] | Exception
            try:
                result = self._lookup(*question)
            except Exception as error:  # noqa: BLE001  -- goes to whoever awaits the future
                result = error
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(settle, result)

        threading.Thread(target=work, name=f"lookup {question[0]}", daemon=True).start()
        # Last, for a thread that cannot be started must leave nothing to wait for.
        self._pending[question] = future
        return future


def _failure(host: str, why: str) -> ProbeError:
    return ProbeError(Failure(FailureReason.RESOLVE, f"{host} does not resolve: {why}"))
