"""One cycle of one target: resolve, trace and connect side by side, judge.

Whatever goes wrong becomes an `Observation` of that target; nothing is raised.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from exporter.diagnosis.verdict import judge
from exporter.diagnosis.zones import ZoneMap
from exporter.model import (
    Failure,
    FailureReason,
    Handshake,
    Observation,
    Plan,
    ProbeError,
    Target,
    Trace,
)

log = logging.getLogger(__name__)

#: The plain connect goes first: a rejecting router may send six ICMP errors at once and then one
#: a second, and the application's view must not wait for what the trace uses up.
HEAD_START = 0.1


@dataclass(frozen=True, slots=True)
class Probing:
    """The verbs of a cycle; engines and resolvers stay behind them."""

    #: (host, port) -> addresses; raises `ProbeError`.
    resolve: Callable[[str, int], Awaitable[list[str]]]
    #: (address, port, plan, preferred source port) -> trace; raises `ProbeError`.
    trace: Callable[[str, int, Plan, int], Awaitable[Trace]]
    #: (address, port) -> the application's view; None switches it off.
    connect: Callable[[str, int], Awaitable[Handshake]] | None


def refusing(reason: str) -> Callable[[str, int, Plan, int], Awaitable[Trace]]:
    """Make the `Probing.trace` of a process that has no engine."""

    async def trace(_address: str, _port: int, _plan: Plan, _source_port: int) -> Trace:
        raise ProbeError(Failure(FailureReason.PERMISSION, f"no probe can be sent: {reason}"))

    return trace


async def observe(
    target: Target,
    probing: Probing,
    zones: ZoneMap,
    latest: Observation | None = None,
    last_good: Observation | None = None,
) -> Observation:
    """Observe a target once.

    `latest` keeps address and flow stable from trace to trace, `last_good` narrows suspects.
    """
    started_at, began = time.time(), time.monotonic()
    address: str | None = None
    trace: Trace | None = None
    handshake: Handshake | None = None
    failure: Failure | None = None
    connecting: asyncio.Task[Handshake | None] | None = None
    try:
        before = latest.trace.flow if latest and latest.trace else None
        addresses = await probing.resolve(target.host, target.port)
        # Of several addresses the one traced before, as long as the name still has it:
        # otherwise a rotating answer would look like a path that changes.
        address = before.destination if before and before.destination in addresses else addresses[0]
        same_flow = before.source_port if before and before.destination == address else 0
        connecting = asyncio.create_task(_connect(probing, address, target.port))
        await asyncio.wait((connecting,), timeout=HEAD_START)
        try:
            trace = await probing.trace(address, target.port, target.plan, same_flow)
            failure = trace.failure
        except ProbeError as error:
            # Even without a trace, the application's view is worth having.
            failure = error.failure
        handshake = await connecting
    except ProbeError as error:
        failure = error.failure
    except Exception as error:
        log.exception("internal error while tracing %r", target.name)
        failure = Failure(FailureReason.INTERNAL, f"internal error ({type(error).__name__})")
    finally:
        if connecting:
            connecting.cancel()
    good = last_good.trace if last_good else None
    return Observation(
        target=target,
        started_at=started_at,
        duration=time.monotonic() - began,
        verdict=judge(trace, zones=zones, failure=failure, handshake=handshake, last_good=good),
        address=address,
        trace=trace,
        handshake=handshake,
        failure=failure,
        zones=zones.zones_of(trace) if trace else {},
    )


async def _connect(probing: Probing, address: str, port: int) -> Handshake | None:
    return await probing.connect(address, port) if probing.connect else None
