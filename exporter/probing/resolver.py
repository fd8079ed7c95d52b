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

from exporter.model import Failure, FailureReason, ProbeError

#: How long a look-up may take; resolv.conf(5) waits 5 s for one server.
LOOKUP_TIMEOUT = 5.0

#: (host, port) -> addresses in the order in which an application would try them. Blocks.
Lookup = Callable[[str, int], list[str]]


def system_lookup(host: str, port: int) -> list[str]:
    """The IPv4 addresses of a host, each once."""
    if ":" in host:
        raise OSError(errno.EAFNOSUPPORT, "this version cannot trace IPv6 yet")
    found = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class Resolver:
    """Looks names up beside the running asyncio loop."""

    def __init__(self, lookup: Lookup = system_lookup, timeout: float = LOOKUP_TIMEOUT) -> None:
        self._lookup = lookup
        self._timeout = timeout
        self._pending: dict[tuple[str, int], asyncio.Future[list[str]]] = {}

    async def resolve(self, host: str, port: int) -> list[str]:
        """The addresses of a host, at least one. Raises `ProbeError` with reason RESOLVE."""
        future = self._pending.get((host, port)) or self._begin(host, port)
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
            raise _failure(host, "the name has no address")
        return addresses

    def _begin(self, host: str, port: int) -> asyncio.Future[list[str]]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[str]] = loop.create_future()

        def settle(result: list[str] | Exception) -> None:
            self._pending.pop((host, port), None)
            if isinstance(result, Exception):
                future.set_exception(result)
                future.exception()  # a look-up nobody waits for any more is not worth a warning
            else:
                future.set_result(result)

        def work() -> None:
            result: list[str] | Exception
            try:
                result = self._lookup(host, port)
            except Exception as error:  # noqa: BLE001  -- goes to whoever awaits the future
                result = error
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(settle, result)

        threading.Thread(target=work, name=f"lookup {host}", daemon=True).start()
        # Last, for a thread that cannot be started must leave nothing to wait for.
        self._pending[host, port] = future
        return future


def _failure(host: str, why: str) -> ProbeError:
    return ProbeError(Failure(FailureReason.RESOLVE, f"{host} does not resolve: {why}"))
