"""The verbs of a cycle; engines and resolvers stay behind them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from exporter.model import (
    Failure,
    FailureReason,
    Family,
    Handshake,
    Plan,
    ProbeError,
    Sounding,
    Trace,
)


@dataclass(frozen=True, slots=True)
class Probing:
    """What can be done toward an address; None is what is switched off or not possible here."""

    #: (host, port, family) -> addresses; raises `ProbeError`.
    resolve: Callable[[str, int, Family], Awaitable[list[str]]]
    #: (address, port, plan, preferred source port) -> trace; raises `ProbeError`.
    trace: Callable[[str, int, Plan, int], Awaitable[Trace]]
    #: (address, port) -> the application's view; None switches it off.
    connect: Callable[[str, int], Awaitable[Handshake]] | None
    #: (address, port, sounding, preferred source port) -> trace; raises `ProbeError`. None where
    #: no engine is.
    sound: Callable[[str, int, Sounding, int], Awaitable[Trace]] | None = None
    #: (address, sounding) -> trace of ICMP echo requests; raises `ProbeError`. None where the host
    #: does not permit them.
    echo: Callable[[str, Sounding], Awaitable[Trace]] | None = None
    #: (address, port) -> trace of that port toward the canary of the address's family, None where
    #: it cannot be asked; the verb itself is None where no engine is.
    canary: Callable[[str, int], Awaitable[Trace | None]] | None = None
    #: (address, port, TTL that is expected) -> the IP TTL with which TCP answers of that endpoint
    #: arrive, None when it cannot be told; the verb itself is None where replies bear theirs.
    reply_ttl: Callable[[str, int, int], Awaitable[int | None]] | None = None
    #: ICMP errors that the kernel has kept from the engine since the start; int() is 0.
    unseen_errors: Callable[[], int] = int


def refusing(reason: str) -> Callable[[str, int, Plan, int], Awaitable[Trace]]:
    """Make the `Probing.trace` of a process that has no engine."""

    async def trace(_address: str, _port: int, _plan: Plan, _source_port: int) -> Trace:
        raise ProbeError(Failure(FailureReason.PERMISSION, f"no probe can be sent: {reason}"))

    return trace
