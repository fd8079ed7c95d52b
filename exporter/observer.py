"""One cycle of one target: resolve, trace and connect side by side, judge.

Whatever goes wrong becomes an `Observation` of that target; nothing is raised.

1. A target is traced to one address of its host: the one traced before as long as the name still
   has it, since a rotating answer would otherwise look like a path that changes, and as long as
   the system still prefers its family.
2. With `all_addresses` it is traced to each, one after the other, ADDRESS_SPACING apart or more:
   all of these traces cross the same first hops, and three probes to each hop in three seconds
   is what the ICMP limit of a Linux router (one a second) replenishes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeVar

from exporter.diagnosis.addresses import combine
from exporter.diagnosis.verdict import judge
from exporter.diagnosis.zones import ZoneMap
from exporter.model import (
    MAX_ADDRESSES,
    Failure,
    FailureReason,
    Family,
    Handshake,
    Known,
    Observation,
    Plan,
    ProbeError,
    Sounding,
    Source,
    Surroundings,
    Target,
    Trace,
    Verdict,
    Zone,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

INTERNAL_ERROR = "internal error while tracing %r"
#: Seconds from the start of the trace to one address of a target to that of the next.
ADDRESS_SPACING = 3.0
SOMEWHERE = Source()
NOTHING_KNOWN: Mapping[str, Known] = MappingProxyType({})

Learn = Callable[[Trace, Handshake | None], Surroundings]


@dataclass(frozen=True, slots=True)
class Probing:
    """The verbs of a cycle; engines and resolvers stay behind them."""

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


def nothing_learnt(_trace: Trace, _handshake: Handshake | None) -> Surroundings:
    """What is known of the surroundings where nobody remembers traces."""
    return Surroundings()


async def observe(
    target: Target,
    probing: Probing,
    zones: ZoneMap,
    known: Mapping[str, Known] = NOTHING_KNOWN,
    source: Source = SOMEWHERE,
    learn: Learn = nothing_learnt,
) -> Observation:
    """Observe a target once.

    `known` is what earlier cycles have shown of the host's addresses, the one traced last at
    the end: it keeps address and flow stable from trace to trace, and narrows suspects. `source`
    is where the probes come from. `learn` takes each trace and the plain connect beside it, and
    says what all targets' have shown of the surroundings.
    """
    started_at, began = time.time(), time.monotonic()
    observation = await _Cycle(target, probing, zones, known, source, learn).observe()
    return replace(observation, started_at=started_at, duration=time.monotonic() - began)


@dataclass(slots=True)
class _Seen:
    """What has come so far of one address, or of the look-up that should give some."""

    address: str | None = None
    trace: Trace | None = None
    handshake: Handshake | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class _Cycle:
    """What `observe` was given."""

    target: Target
    probing: Probing
    zones: ZoneMap
    known: Mapping[str, Known]
    source: Source
    learn: Learn

    async def observe(self) -> Observation:
        """The target's observation, from one address or from all."""
        seen = _Seen()
        addresses = await self._attempt(seen, self._addresses())
        if addresses is None:
            return self._conclude(seen, time.time(), time.monotonic())
        chosen, left_out = addresses
        if not self.target.all_addresses:
            return await self._observe_address(chosen[0])
        return combine(await self._observe_each(chosen), left_out)

    async def _addresses(self) -> tuple[list[str], list[str]]:
        """The addresses to trace, at least one, and the others."""
        target = self.target
        found = await self.probing.resolve(target.host, target.port, target.family)
        chosen = _several(found, self.known) if target.all_addresses else [_one(found, self.known)]
        return chosen, [address for address in found if address not in chosen]

    async def _observe_each(self, addresses: Sequence[str]) -> list[Observation]:
        clock = asyncio.get_running_loop().time
        each: list[Observation] = []
        not_before = clock()
        for address in addresses:
            await asyncio.sleep(not_before - clock())
            not_before = clock() + ADDRESS_SPACING
            each.append(await self._observe_address(address))
        return each

    async def _observe_address(self, address: str) -> Observation:
        started_at, began = time.time(), time.monotonic()
        seen = _Seen(address)
        await self._attempt(seen, self._probe(seen, address))
        return self._conclude(seen, started_at, began)

    async def _probe(self, seen: _Seen, address: str) -> None:
        """Trace and connect side by side."""
        target, source_port = self.target, self._known(address).source_port
        connecting = asyncio.create_task(_connect(self.probing, address, target.port))
        try:
            # Its SYN goes first: a rejecting router may send six ICMP errors at once and then one
            # a second, and the application's view must not wait for what the trace uses up.
            await asyncio.sleep(0)
            try:
                seen.trace = await self.probing.trace(
                    address, target.port, target.plan, source_port
                )
                seen.failure = seen.trace.failure
            except ProbeError as error:
                # Even without a trace, the application's view is worth having.
                seen.failure = error.failure
            seen.handshake = await connecting
        finally:
            connecting.cancel()

    async def _attempt(self, seen: _Seen, step: Awaitable[T]) -> T | None:
        """Take a step; what goes wrong becomes the failure of what was seen."""
        try:
            return await step
        except ProbeError as error:
            seen.failure = error.failure
        except Exception as error:
            log.exception(INTERNAL_ERROR, self.target.name)
            seen.failure = _internal(error)
        return None

    def _conclude(self, seen: _Seen, started_at: float, began: float) -> Observation:
        verdict, zones = self._judge(seen)
        return Observation(
            target=self.target,
            started_at=started_at,
            duration=time.monotonic() - began,
            verdict=verdict,
            address=seen.address,
            trace=seen.trace,
            handshake=seen.handshake,
            failure=seen.failure,
            zones=zones,
        )

    def _judge(self, seen: _Seen) -> tuple[Verdict, dict[str, Zone]]:
        try:
            verdict = judge(
                seen.trace,
                zones=self.zones,
                failure=seen.failure,
                handshake=seen.handshake,
                last_good=self._known(seen.address).last_good,
                source=self.source,
                surroundings=self._surroundings(seen),
            )
            return verdict, self.zones.zones_of(seen.trace) if seen.trace else {}
        except Exception as error:
            log.exception(INTERNAL_ERROR, self.target.name)
            seen.failure = _internal(error)
            return judge(None, zones=self.zones, failure=seen.failure), {}

    def _surroundings(self, seen: _Seen) -> Surroundings:
        return self.learn(seen.trace, seen.handshake) if seen.trace else Surroundings()

    def _known(self, address: str | None) -> Known:
        return self.known.get(address or "", Known())


def _one(found: Sequence[str], known: Mapping[str, Known]) -> str:
    """The address to trace; see 1 above."""
    preferred = [address for address in found if Family.of(address) is Family.of(found[0])]
    before = (address for address in reversed(tuple(known)) if address in preferred)
    return next(before, preferred[0])


def _several(found: Sequence[str], known: Mapping[str, Known]) -> list[str]:
    """The addresses to trace, as many as there is room for; those traced before stay in order."""
    stay = [address for address in known if address in found]
    return [*stay, *(address for address in found if address not in stay)][:MAX_ADDRESSES]


def _internal(error: Exception) -> Failure:
    return Failure(FailureReason.INTERNAL, f"internal error ({type(error).__name__})")


async def _connect(probing: Probing, address: str, port: int) -> Handshake | None:
    return await probing.connect(address, port) if probing.connect else None
