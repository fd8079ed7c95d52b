"""How controls are made: in little time and with few probes.

1. What a trace needs (need.py) is chosen (choice.py): the same endpoint from other source ports,
   other ports of the destination, an ICMP echo.
2. All of that is over after TIME. What fails, or is not ready by then, is left out, and so is a
   silent one that was not asked often enough.
3. Controls add at most half as many probes as the trace has sent, or would have if no hop were
   spared any. What early answers save goes to the sweeps, first come, first served; so each waits
   a moment until it is known what the others need. Only the first one gets the shortest sweep of
   use in any case. What comes on top: silent hops are asked twice, and a trace that a near device
   ends at once has sent very few. A sweep ends with what it has found before TIME is over. It
   begins one round trip and a MOMENT after the opening and takes another one, so where that is
   longer than some 0.6 s, only the nearer hops answer in time, or none.
4. A flow that gets less far than the trace is the one to look at: it is traced as any target is,
   and takes the trace's place.
5. Where the engine cannot see with which TTL an answer over TCP arrives, that is measured, for the
   traced endpoint and for the first port that answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from exporter.controls.choice import Choice, Control, Kind, Reach
from exporter.controls.need import Need
from exporter.controls.reply_ttls import lacks_reply_ttl, with_reply_ttl
from exporter.model import (
    FULL_TTL,
    Controlled,
    Failure,
    FailureReason,
    ProbeError,
    Sounding,
    Target,
    Trace,
)
from exporter.verbs import Probing

log = logging.getLogger(__name__)

Measure = Callable[[str, int, int], Awaitable[int | None]]

#: Seconds that all controls of a trace may take together.
TIME = 1.5
#: Seconds in which most of what is answered at all is answered.
MOMENT = 0.1
#: Seconds before the end of TIME at which a sweep has to end, to be heard of on a busy loop.
MARGIN = 0.05
#: SYNs that it takes to learn a reply's TTL in an ordinary case.
MEASUREMENT = 2

_ASKED_TOO_LITTLE = Failure(FailureReason.TIMEOUT, "too few probes could be sent in its time")


async def controlled(
    trace: Trace, target: Target, probing: Probing, need: Need
) -> tuple[Trace, Controlled]:
    """The trace that stands for this cycle, and the controls beside it."""
    if probing.sound is None:
        return trace, Controlled()
    everything = need is Need.EVERYTHING
    measure = probing.reply_ttl if everything and lacks_reply_ttl(trace) else None
    choice = Choice(trace, target, probing.sound, probing.echo)
    controls = {
        Need.NOTHING: choice.of_every_cycle,
        Need.DISTANCE: choice.of_first_sight,
        Need.ECHO: choice.of_closed_as_ever,
        Need.EVERYTHING: choice.of_failure,
    }[need]()
    making = _Making(trace, target, tuple(controls), measure)
    await making.run()
    trace, flows = await _worst_first(making.trace, making.found("flow"), target, probing)
    return trace, Controlled(
        flows=flows,
        ports=making.found("port"),
        echo=next(iter(making.found("echo")), None),
    )


class _Making:
    """The controls of one trace while they are made."""

    def __init__(
        self,
        trace: Trace,
        target: Target,
        controls: Sequence[Control],
        measure: Measure | None,
    ) -> None:
        #: The trace, with what was learnt of its replies' TTL.
        self.trace = trace
        self._target = target
        self._controls = controls
        self._measure = measure
        self._found: dict[Control, Trace] = {}
        #: Probes that may yet be sent, less than 0 where the trace has sent few.
        self._left = _sent_alone(trace, target) // 2 - sum(one.opening.attempts for one in controls)
        if measure:
            self._left -= 2 * MEASUREMENT
        loop = asyncio.get_running_loop()
        self._ends_at = loop.time() + TIME
        self._swept = self._port_measured = False
        self._unopened = len(controls)
        self._all_opened: asyncio.Future[None] = loop.create_future()

    def found(self, kind: Kind) -> tuple[Trace, ...]:
        """What has come of the controls of a kind, in their order."""
        return tuple(self._found[c] for c in self._controls if c.kind == kind and c in self._found)

    async def run(self) -> None:
        """Make them, as far as the time goes."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._ends_at), asyncio.TaskGroup() as group:
                for control in self._controls:
                    group.create_task(self._guard(control.kind, self._make(control)))
                if self._measure:
                    group.create_task(self._guard("reply TTL", self._measure_trace()))

    async def _guard(self, what: str, step: Awaitable[None]) -> None:
        """Take a step that may fail without disturbing the others."""
        try:
            await step
        except ProbeError as error:
            log.debug("%r does without a control (%s): %s", self._target.name, what, error)
        except Exception:
            log.exception("internal error in a control (%s) of %r", what, self._target.name)

    async def _make(self, control: Control) -> None:
        found = self._found[control] = await self._open(control)
        if Reach.of(found) > control.beyond and (hops := await self._granted(control)):
            found = self._found[control] = await self._sweep(control, found, hops)
        if control.kind == "port" and not self._port_measured and lacks_reply_ttl(found):
            self._port_measured = True
            self._found[control] = await self._measured(found)

    async def _open(self, control: Control) -> Trace:
        try:
            found = await control.ask(control.opening, control.source_port)
            self._left += control.opening.attempts - _sent(found)
        finally:
            self._unopened -= 1
            if not self._unopened:  # soon, so that the last one does not overtake who waits
                asyncio.get_running_loop().call_soon(self._all_opened.set_result, None)
        if not _is_complete(found, control.opening):
            raise ProbeError(found.failure or _ASKED_TOO_LITTLE)
        return found

    async def _granted(self, control: Control) -> int:
        """For how many hops there are probes, 0 for none."""
        await asyncio.wait((self._all_opened,), timeout=MOMENT)
        hops = max(self._left, 0 if self._swept else control.shortest)
        if hops < control.shortest:
            return 0
        hops = min(hops, control.longest)
        self._swept = True
        self._left -= hops
        return hops

    async def _sweep(self, control: Control, opened: Trace, hops: int) -> Trace:
        """The same flow hop by hop; what is known already where nothing answers any more."""
        last = min(control.first + hops - 1, self._target.plan.max_hops)
        sounding = Sounding(
            control.first,
            last,
            attempts=0,
            round_trip=max(answer.rtt for answer in opened.answers),
            seconds=self._ends_at - MARGIN - asyncio.get_running_loop().time(),
        )
        swept = await control.ask(sounding, opened.flow.source_port)
        self._left += hops - _sent(swept)
        if swept.failure or not swept.answers:
            return opened
        return replace(
            swept,
            confirmation=opened.confirmation,
            stop_reason=opened.stop_reason,
            captured=opened.captured + swept.captured,
        )

    async def _measure_trace(self) -> None:
        self.trace = await self._measured(self.trace)

    async def _measured(self, trace: Trace) -> Trace:
        """The trace with the TTL of its replies over TCP, where it can be told."""
        if self._measure is None:
            return trace
        flow, distance = trace.flow, trace.distance or self.trace.distance or 1
        ttl = await self._measure(flow.destination, flow.destination_port, FULL_TTL - distance + 1)
        return trace if ttl is None else with_reply_ttl(trace, ttl)


async def _worst_first(
    trace: Trace, flows: Sequence[Trace], target: Target, probing: Probing
) -> tuple[Trace, tuple[Trace, ...]]:
    """The flow that gets least far, traced, and the others (rule 4)."""
    worse = [flow for flow in flows if Reach.of(flow) < Reach.of(trace)]
    if not worse:
        return trace, tuple(flows)
    flow = worse[0].flow
    others = tuple(one for one in flows if one is not worse[0])
    try:
        traced = await probing.trace(
            flow.destination, flow.destination_port, target.plan, flow.source_port
        )
    except ProbeError as error:
        log.debug("the other flow of %r was not traced: %s", target.name, error)
        return trace, tuple(flows)
    if traced.failure:
        return trace, tuple(flows)
    if Reach.of(traced) < Reach.of(trace):
        return traced, (trace, *others)
    return trace, (traced, *others)


def _sent(trace: Trace) -> int:
    confirmed = trace.confirmation.sent if trace.confirmation else 0
    return confirmed + sum(hop.sent for hop in trace.hops)


def _sent_alone(trace: Trace, target: Target) -> int:
    """How many probes the trace takes where no hop is spared any."""
    confirmed = trace.confirmation.sent if trace.confirmation else 0
    attempts = target.plan.attempts
    return confirmed + sum(max(hop.sent, attempts * bool(hop.known)) for hop in trace.hops)


def _is_complete(found: Trace, sounding: Sounding) -> bool:
    """Whether its silence counts: the host sent, and as often as was meant."""
    if found.failure:
        return False
    return bool(found.answers) or _sent(found) >= sounding.attempts
