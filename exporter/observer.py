"""One cycle of one target: resolve, trace and connect side by side, control, judge.

Whatever goes wrong becomes an `Observation` of that target; nothing is raised.

1. A target is traced to one address of its host: the one traced before as long as the name still
   has it, since a rotating answer would otherwise look like a path that changes, and as long as
   the system still prefers its family.
2. With `all_addresses` it is traced to each, one after the other, ADDRESS_SPACING apart or more:
   all of these traces cross the same first hops, and three probes to each hop in three seconds
   is what the ICMP limit of a Linux router (one a second) replenishes.
3. Beside a trace, the canary of its port is asked, unless it is known to be silent. What a trace
   then means decides whether it needs controls, and with these it is judged again.
4. An address that answers as it has answered before is traced quickly, now and then wholly
   (schedule/depth.py).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeVar

from exporter.controls.making import controlled
from exporter.controls.need import Need, is_plain_failure, need_of, suffices
from exporter.diagnosis.addresses import combine
from exporter.diagnosis.conditions import conditions_of
from exporter.diagnosis.verdict import judge
from exporter.diagnosis.zones import ZoneMap
from exporter.model import (
    MAX_ADDRESSES,
    TCP_KINDS,
    Condition,
    Controlled,
    Failure,
    FailureReason,
    Family,
    Handshake,
    Known,
    Observation,
    Place,
    ProbeError,
    Source,
    State,
    Surroundings,
    Target,
    Trace,
    Verdict,
)
from exporter.schedule.depth import plan_of
from exporter.verbs import Probing

log = logging.getLogger(__name__)

T = TypeVar("T")

INTERNAL_ERROR = "internal error while tracing %r"
#: Seconds from the start of the trace to one address of a target to that of the next.
ADDRESS_SPACING = 3.0
SOMEWHERE = Source()
#: Without a destination, or where the host did not do its part, no control says more.
NOTHING_TO_CONTROL = frozenset({State.ERROR, State.UNRESOLVED})
NOTHING_KNOWN: Mapping[str, Known] = MappingProxyType({})

Learn = Callable[[Trace, Handshake | None], Surroundings]
Elsewhere = Callable[[Trace], tuple[Trace, ...]]


def nothing_learnt(_trace: Trace, _handshake: Handshake | None) -> Surroundings:
    """What is known of the surroundings where nobody remembers traces."""
    return Surroundings()


def nowhere_else(_trace: Trace) -> tuple[Trace, ...]:
    """The good traces of other targets where there are no other targets."""
    return ()


async def observe(
    target: Target,
    probing: Probing,
    zones: ZoneMap,
    known: Mapping[str, Known] = NOTHING_KNOWN,
    *,
    source: Source = SOMEWHERE,
    learn: Learn = nothing_learnt,
    elsewhere: Elsewhere = nowhere_else,
) -> Observation:
    """Observe a target once.

    `known` is what earlier cycles have shown of the host's addresses, the one traced last at
    the end: it keeps address and flow stable from trace to trace, and narrows suspects. `source`
    is where the probes come from. `learn` takes each trace and the plain connect beside it, and
    says what all targets' have shown of the surroundings. `elsewhere` gives the good traces of
    other targets that share the first hops of a trace.
    """
    started_at, began = time.time(), time.monotonic()
    observation = await _Cycle(target, probing, zones, known, source, learn, elsewhere).observe()
    return replace(observation, started_at=started_at, duration=time.monotonic() - began)


@dataclass(slots=True)
class _Seen:
    """What has come so far of one address, or of the look-up that should give some."""

    address: str | None = None
    trace: Trace | None = None
    handshake: Handshake | None = None
    failure: Failure | None = None
    controlled: Controlled = field(default_factory=Controlled)
    surroundings: Surroundings = field(default_factory=Surroundings)


@dataclass(frozen=True, slots=True)
class _Cycle:
    """What `observe` was given."""

    target: Target
    probing: Probing
    zones: ZoneMap
    known: Mapping[str, Known]
    source: Source
    learn: Learn
    elsewhere: Elsewhere

    async def observe(self) -> Observation:
        """The target's observation, from one address or from all."""
        seen = _Seen()
        addresses = await self._attempt(seen, self._addresses())
        if addresses is None:
            return self._observation(seen, self._judge(seen))
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
        verdict = await self._judge_with_controls(seen)
        observation = self._observation(seen, verdict)
        if not self.target.all_addresses:
            return observation  # the times are the whole cycle's
        return replace(observation, started_at=started_at, duration=time.monotonic() - began)

    async def _probe(self, seen: _Seen, address: str) -> None:
        """Trace and connect side by side, and the canary as soon as the connection succeeds."""
        target, known = self.target, self._known(address)
        connecting = asyncio.create_task(self._connect(address))
        try:
            # Its SYN goes first: a rejecting router may send six ICMP errors at once and then one
            # a second, and the application's view must not wait for what the trace uses up.
            await asyncio.sleep(0)
            try:
                seen.trace = await self.probing.trace(
                    address, target.port, plan_of(target, known), known.source_port
                )
                seen.failure = seen.trace.failure
            except ProbeError as error:
                # Even without a trace, the application's view is worth having.
                seen.failure = error.failure
            seen.handshake, canary = await connecting
            if seen.trace:
                seen.surroundings = self.learn(seen.trace, seen.handshake)
                seen.controlled = Controlled(canary=canary)
        finally:
            connecting.cancel()

    async def _connect(self, address: str) -> tuple[Handshake | None, Trace | None]:
        """The plain connect, and after it what the canary says."""
        handshake = None
        if connect := self.probing.connect:
            handshake = await connect(address, self.target.port)
            # Not where nobody answers: a router that rejects has few ICMP errors to give away.
            if not handshake.success:
                return handshake, None
        return handshake, await self._ask_canary(address)

    async def _ask_canary(self, address: str) -> Trace | None:
        target, ask = self.target, self.probing.canary
        if ask is None or not target.controls.canary:
            return None
        try:
            return await ask(address, target.port)
        except Exception:
            log.exception(INTERNAL_ERROR, target.name)
            return None

    async def _judge_with_controls(self, seen: _Seen) -> Verdict:
        """What was seen means, with the controls that it calls for."""
        trace = seen.trace
        if trace and not seen.failure and is_plain_failure(trace, seen.handshake):
            await self._control(seen, trace, Need.EVERYTHING)
            return self._judge(seen)
        verdict = self._judge(seen)
        if trace is None or verdict.state in NOTHING_TO_CONTROL:
            return verdict
        need = self._need(seen, trace, verdict)
        if await self._control(seen, trace, need):
            verdict = self._judge(seen)
        if suffices(need, verdict, seen.controlled.canary):
            return verdict
        # What only looked as it should until another one was asked needs all of them after all.
        await self._control(seen, seen.trace or trace, Need.EVERYTHING)
        return self._judge(seen)

    def _need(self, seen: _Seen, trace: Trace, verdict: Verdict) -> Need:
        known = self._known(seen.address)
        echoes = self.probing.echo is not None and self.target.controls.echo
        quick = echoes and plan_of(self.target, known).quick
        return need_of(
            verdict, trace, seen.handshake, seen.controlled.canary, known.last_good, quick=quick
        )

    async def _control(self, seen: _Seen, trace: Trace, need: Need) -> bool:
        """Make the controls of a trace; whether there is more to judge now."""
        if need is Need.NOTHING and self.target.controls.flows == 1:
            return False
        canary = seen.controlled.canary
        asking = None
        if canary is None and any(a.reply.kind in TCP_KINDS for a in trace.answers):
            asking = asyncio.create_task(self._ask_canary(trace.flow.destination))
        try:
            chosen, found = await controlled(trace, self.target, self.probing, need)
            canary = await asking if asking else canary
            elsewhere = self.elsewhere(chosen) if need is Need.EVERYTHING else ()
        except Exception:
            log.exception(INTERNAL_ERROR, self.target.name)
            return False
        finally:
            if asking:
                asking.cancel()
        before, after = seen.controlled, replace(found, canary=canary, elsewhere=elsewhere)
        seen.trace, seen.controlled = chosen, after
        return before != after or chosen is not trace

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

    def _judge(self, seen: _Seen) -> Verdict:
        try:
            return judge(
                seen.trace,
                zones=self.zones,
                failure=seen.failure,
                handshake=seen.handshake,
                last_good=self._known(seen.address).last_good,
                source=self.source,
                surroundings=seen.surroundings,
                controlled=seen.controlled,
            )
        except Exception as error:
            log.exception(INTERNAL_ERROR, self.target.name)
            seen.failure = _internal(error)
            return judge(None, zones=self.zones, failure=seen.failure)

    def _observation(self, seen: _Seen, verdict: Verdict) -> Observation:
        """All of it in one value, but for its times."""
        places, conditions = self._described(seen)
        return Observation(
            target=self.target,
            started_at=0.0,
            duration=0.0,
            verdict=verdict,
            address=seen.address,
            trace=seen.trace,
            handshake=seen.handshake,
            failure=seen.failure,
            places=places,
            controlled=seen.controlled,
            conditions=conditions,
        )

    def _described(self, seen: _Seen) -> tuple[Mapping[str, Place], Mapping[int, Condition]]:
        """Where everybody stands who answered, and how they do."""
        if seen.trace is None:
            return {}, {}
        try:
            places = self.zones.places_of(seen.trace, seen.controlled.traces)
            return places, conditions_of(seen.trace)
        except Exception as error:
            log.exception(INTERNAL_ERROR, self.target.name)
            seen.failure = _internal(error)
            return {}, {}

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
