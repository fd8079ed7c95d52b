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
    Verdict,
    Zone,
)

log = logging.getLogger(__name__)

INTERNAL_ERROR = "internal error while tracing %r"


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


@dataclass(slots=True)
class _Cycle:
    """What has come of a cycle so far."""

    address: str | None = None
    trace: Trace | None = None
    handshake: Handshake | None = None
    failure: Failure | None = None


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
    cycle = _Cycle()
    try:
        await _run(cycle, target, probing, latest)
    except ProbeError as error:
        cycle.failure = error.failure
    except Exception as error:
        log.exception(INTERNAL_ERROR, target.name)
        cycle.failure = _internal(error)
    verdict, seen = _judge(cycle, target, zones, last_good)
    return Observation(
        target=target,
        started_at=started_at,
        duration=time.monotonic() - began,
        verdict=verdict,
        address=cycle.address,
        trace=cycle.trace,
        handshake=cycle.handshake,
        failure=cycle.failure,
        zones=seen,
    )


async def _run(cycle: _Cycle, target: Target, probing: Probing, latest: Observation | None) -> None:
    before = latest.trace.flow if latest and latest.trace else None
    addresses = await probing.resolve(target.host, target.port)
    # Of several addresses the one traced before, as long as the name still has it:
    # otherwise a rotating answer would look like a path that changes.
    stay = before is not None and before.destination in addresses
    address = before.destination if before and stay else addresses[0]
    same_flow = before.source_port if before and stay else 0
    cycle.address = address
    connecting = asyncio.create_task(_connect(probing, address, target.port))
    try:
        # Its SYN goes first: a rejecting router may send six ICMP errors at once and then one a
        # second, and the application's view must not wait for what the trace uses up.
        await asyncio.sleep(0)
        try:
            cycle.trace = await probing.trace(address, target.port, target.plan, same_flow)
            cycle.failure = cycle.trace.failure
        except ProbeError as error:
            # Even without a trace, the application's view is worth having.
            cycle.failure = error.failure
        cycle.handshake = await connecting
    finally:
        connecting.cancel()


def _judge(
    cycle: _Cycle, target: Target, zones: ZoneMap, last_good: Observation | None
) -> tuple[Verdict, dict[str, Zone]]:
    good = last_good.trace if last_good else None
    try:
        verdict = judge(
            cycle.trace,
            zones=zones,
            failure=cycle.failure,
            handshake=cycle.handshake,
            last_good=good,
        )
        return verdict, zones.zones_of(cycle.trace) if cycle.trace else {}
    except Exception as error:
        log.exception(INTERNAL_ERROR, target.name)
        cycle.failure = _internal(error)
        return judge(None, zones=zones, failure=cycle.failure), {}


def _internal(error: Exception) -> Failure:
    return Failure(FailureReason.INTERNAL, f"internal error ({type(error).__name__})")


async def _connect(probing: Probing, address: str, port: int) -> Handshake | None:
    return await probing.connect(address, port) if probing.connect else None
