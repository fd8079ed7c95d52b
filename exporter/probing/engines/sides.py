"""An engine's two sides, IPv4 and IPv6: each proves itself when the engine opens.

A host may lack one, because it is switched off, or its loopback is down, or a sandbox lets only
the other pass. Then destinations there are refused, and the refusal says why; the other side's
are traced. An engine without any side does not open.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv6Address
from typing import Generic, Protocol, TypeVar

from exporter.model import (
    FAMILY_NAMES,
    FULL_TTL,
    Failure,
    FailureReason,
    Family,
    ProbeError,
    ReplyKind,
)
from exporter.probing.engines.engine import Engine

#: How long a self-test waits for what the kernel itself sends over loopback, in seconds.
SELF_TEST_SECONDS = 1.0


class Dialect(Protocol):
    """What differs between the IP versions for an engine; each has its own such table."""

    @property
    def family(self) -> Family:
        """Which one it is."""
        ...

    @property
    def address_family(self) -> int:
        """Its number in the socket module."""
        ...

    @property
    def loopback(self) -> str:
        """The address of its loopback."""
        ...


class Side(Protocol):
    """What an engine holds open for one IP version."""

    def close(self) -> None:
        """Close it."""
        ...


_NO_LOOPBACK = "loopback is down or has no address"

DialectT = TypeVar("DialectT", bound=Dialect)
SideT = TypeVar("SideT", bound=Side)


class Sides(Generic[SideT]):
    """See the module's text; iterating gives the sides that this host has."""

    def __init__(self) -> None:
        self._present: dict[Family, SideT] = {}
        self._absent: dict[Family, Failure] = {}

    def __iter__(self) -> Iterator[SideT]:
        return iter(self._present.values())

    def start(
        self,
        dialects: Iterable[DialectT],
        open_side: Callable[[DialectT], SideT],
        prove: Callable[[SideT], None],
    ) -> None:
        """Open a side for each dialect and keep it if `prove` raises no OSError.

        Raises the first one's OSError where there is no side at all.
        """
        refusals = []
        for dialect in dialects:
            family = dialect.family
            try:
                side = self._present[family] = open_side(dialect)
                prove(side)
            except OSError as error:
                if family in self._present:
                    self._present.pop(family).close()
                self._absent[family] = _absence(family, error)
                refusals.append(error)
        if not self._present:
            raise refusals[0]

    def toward(self, destination: str) -> SideT:
        """The side that a destination is on. Raises `ProbeError` where this host has none."""
        family = Family.of(destination)
        if family in self._absent:
            raise ProbeError(self._absent[family])
        if family is Family.IPV6 and _is_pathless(destination):
            raise ProbeError(
                Failure(
                    FailureReason.NO_ROUTE,
                    "there is no path to trace to a link-local or an IPv4-mapped address",
                )
            )
        return self._present[family]

    def close(self) -> None:
        """Close every side."""
        for side in self:
            side.close()


def _is_pathless(destination: str) -> bool:
    """Whether it is reached without a router, or over IPv4."""
    address = IPv6Address(destination)
    return address.is_link_local or address.ipv4_mapped is not None


def _absence(family: Family, error: OSError) -> Failure:
    denied = isinstance(error, PermissionError)
    return Failure(
        FailureReason.PERMISSION if denied else FailureReason.NO_ROUTE,
        f"{FAMILY_NAMES[family]} does not work on this host ({error.strerror or error})",
    )


# -- the self-test ---------------------------------------------------------------------


def prove_by_loopback(engine: Engine, dialect: Dialect) -> None:
    """Raise OSError unless a SYN to a closed port of this host shows as RST."""
    with socket.socket(dialect.address_family, socket.SOCK_STREAM) as closed:
        try:
            closed.bind((dialect.loopback, 0))
        except OSError as error:
            raise OSError(f"{_NO_LOOPBACK}: {error.strerror}") from error
        try:
            flow = engine.open(*closed.getsockname()[:2])
            engine.send(flow, FULL_TTL, 1)
        except ProbeError as error:
            raise OSError(f"{_NO_LOOPBACK}: {error}") from error
        kind = _first_kind(engine)
        engine.release(flow)
    if kind is not ReplyKind.RST:
        raise OSError("what is sent over loopback is not answered")


def _first_kind(engine: Engine) -> ReplyKind | None:
    """What the only probe on its way is answered with, None for nothing in time."""
    deadline = time.monotonic() + SELF_TEST_SECONDS
    kinds: list[ReplyKind] = []
    while not kinds and (left := deadline - time.monotonic()) > 0:
        select.select(engine.filenos(), (), (), left)
        kinds = [answer.reply.kind for _, answer in engine.receive()]
    return kinds[0] if kinds else None
