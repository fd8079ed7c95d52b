"""Which controls a trace needs, and how they are made: in little time and with few probes.

1. A trace that is plainly healthy needs none, unless the target wants several flows each time.
   Where nothing is known yet of the destination's distance, one port is asked whether it is as far
   away: a proxy that answers for the traced port alone stands nearer.
2. Else the same endpoint is asked from other source ports, other ports of the destination are,
   and the destination is asked for an ICMP echo. All of that is over after TIME. What fails, or is
   not ready by then, is left out, and so is a silent one that was not asked often enough.
3. Each is asked with FULL_TTL first, for that takes one probe where somebody answers. What gets
   through is then asked hop by hop: ports and echo from the last hop on that both should have in
   common with the trace, a flow only where it gets farther than the trace, and from the first hop
   on, for it shows another branch.
4. Controls add at most half as many probes as the trace has sent. What early answers save goes to
   the sweeps, first come, first served; so each waits a moment until it is known what the others
   need. Only the first one gets the shortest sweep of use in any case. What comes on top: silent
   hops are asked twice, and a trace that a near device ends at once has sent very few. A sweep
   ends with what it has found before TIME is over. It begins one round trip and a MOMENT after the
   opening and takes another one, so where that is longer than some 0.6 s, only the nearer hops
   answer in time, or none.
5. A flow that gets less far than the trace is the one to look at: it is traced as any target is,
   and takes the trace's place.
6. Where the engine cannot see with which TTL an answer over TCP arrives, that is measured, for the
   traced endpoint and for the first port that answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum, IntEnum, auto
from functools import partial
from typing import Literal

from exporter.canary import answered
from exporter.diagnosis.placing import reply_distance
from exporter.model import (
    END_KINDS,
    FULL_TTL,
    TCP_KINDS,
    Answer,
    Controlled,
    Failure,
    FailureReason,
    Handshake,
    Hop,
    ProbeError,
    ReplyKind,
    Sounding,
    State,
    StopReason,
    Target,
    Trace,
    Verdict,
)
from exporter.verbs import Probing

log = logging.getLogger(__name__)

Kind = Literal["flow", "port", "echo"]
Sound = Callable[[str, int, Sounding, int], Awaitable[Trace]]
Echo = Callable[[str, Sounding], Awaitable[Trace]]
Measure = Callable[[str, int, int], Awaitable[int | None]]

#: Seconds that all controls of a trace may take together.
TIME = 1.5
#: The least that shows where a device stands: the hop before it, its own, the next.
SHORTEST_SWEEP = 3
#: So many hops are looked at by each control where the trace has heard nobody.
NEAREST_HOPS = 5
#: The first hop to ask is so many before the one at which the traced endpoint answers.
BEFORE_THE_END = 2
AT_FULL_TTL = Sounding()
#: Seconds in which most of what is answered at all is answered.
MOMENT = 0.1
#: Seconds before the end of TIME at which a sweep has to end, to be heard of on a busy loop.
MARGIN = 0.05
#: SYNs that it takes to learn a reply's TTL in an ordinary case.
MEASUREMENT = 2

_ASKED_TOO_LITTLE = Failure(FailureReason.TIMEOUT, "too few probes could be sent in its time")

#: Source ports of controls follow from that of the trace, so that each keeps its way from cycle to
#: cycle. The step is a prime and wider than what the ports of a trace differ by (connect.py).
_FIRST_PORT, _PORTS, _STEP = 32_768, 28_232, 4_099


class Need(Enum):
    """What controls a trace calls for."""

    #: It is plainly healthy, and as far away as ever.
    NOTHING = auto()
    #: It is plainly healthy, as far as a first look goes.
    DISTANCE = auto()
    EVERYTHING = auto()


class Reach(IntEnum):
    """How far the SYNs of a trace get."""

    NOWHERE = 0
    REFUSED = 1
    ACCEPTED = 2

    @classmethod
    def of(cls, trace: Trace) -> Reach:
        """By what came back in the name of the destination; an echo counts as accepted."""
        kinds = {answer.reply.kind for answer in trace.answers} & END_KINDS
        if not kinds:
            return cls.NOWHERE
        return cls.REFUSED if kinds == {ReplyKind.RST} else cls.ACCEPTED


def need_of(
    verdict: Verdict,
    trace: Trace,
    handshake: Handshake | None,
    canary: Trace | None,
    last_good: Trace | None,
) -> Need:
    """Everything, as soon as something speaks against `open`."""
    healthy = (
        verdict.state is State.OPEN
        and (handshake is None or handshake.success)
        and not answered(canary)
        and not _answers_from_nearer(trace)
        and (last_good is None or last_good.distance == trace.distance)
    )
    if not healthy:
        return Need.EVERYTHING
    return Need.NOTHING if last_good else Need.DISTANCE


async def controlled(
    trace: Trace, target: Target, probing: Probing, need: Need
) -> tuple[Trace, Controlled]:
    """The trace that stands for this cycle, and the controls beside it."""
    if probing.sound is None:
        return trace, Controlled()
    everything = need is Need.EVERYTHING
    measure = probing.reply_ttl if everything and _lacks_reply_ttl(trace) else None
    choice = _Choice(trace, target, probing.sound, probing.echo)
    controls = {
        Need.NOTHING: choice.of_every_cycle,
        Need.DISTANCE: choice.of_first_sight,
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


# -- which ones ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Control:
    """A control: what is asked first, and the sweep if that gets farther than `beyond`."""

    kind: Kind
    #: (sounding, source port) -> trace.
    ask: Callable[[Sounding, int], Awaitable[Trace]]
    source_port: int
    opening: Sounding = AT_FULL_TTL
    beyond: Reach = Reach.ACCEPTED
    #: The TTLs of the sweep: the first one, and the fewest that are of use.
    first: int = 1
    shortest: int = SHORTEST_SWEEP
    longest: int = FULL_TTL


@dataclass(frozen=True, slots=True)
class _Choice:
    """Names the controls of a trace."""

    trace: Trace
    target: Target
    sound: Sound
    echo: Echo | None

    def of_every_cycle(self) -> Iterator[_Control]:
        """The flows of a target that wants several in any case, each of them hop by hop."""
        whole = Sounding(first=1, last=self.target.plan.max_hops)
        for number in range(1, self.target.controls.flows):
            yield self._sounding("flow", number, self.target.port, opening=whole)

    def of_first_sight(self) -> Iterator[_Control]:
        """Whether another port is farther away than the traced one."""
        yield from self.of_every_cycle()
        distance, controls = self.trace.distance, self.target.controls
        if distance and (others := self._other_ports()):
            there = Sounding(first=distance, last=distance, attempts=1)
            yield self._sounding("port", controls.flows, others[0], opening=there)

    def of_failure(self) -> Iterator[_Control]:
        """All that may tell why something fails."""
        controls, common = self.target.controls, _in_common(self.trace)
        reach, shortest = Reach.of(self.trace), common + SHORTEST_SWEEP - 1
        # A device that speaks is asked once: it repeats itself, or has spent its ICMP errors.
        # Where not even the first hop was heard, what counts is who else hears it.
        unheard = not self.trace.last_answering_ttl
        silent = self.trace.stop_reason is StopReason.SILENCE and not unheard
        opening = AT_FULL_TTL if silent else replace(AT_FULL_TTL, attempts=1)
        longest = NEAREST_HOPS if unheard else FULL_TTL
        for number in range(1, controls.failing_flows):
            control = self._sounding("flow", number, self.target.port, opening=opening)
            yield replace(control, beyond=reach, first=1, shortest=shortest)
        for number, port in enumerate(self._other_ports(), controls.failing_flows):
            control = self._sounding("port", number, port)
            yield replace(control, beyond=Reach.NOWHERE, first=common, longest=longest)
        if self.echo and controls.echo:
            ask = partial(_echo, self.echo, self.trace.flow.destination)
            yield _Control("echo", ask, 0, beyond=Reach.NOWHERE, first=common, longest=longest)

    def _other_ports(self) -> list[int]:
        return [port for port in self.target.controls.ports if port != self.target.port]

    def _sounding(
        self, kind: Kind, number: int, port: int, opening: Sounding = AT_FULL_TTL
    ) -> _Control:
        flow = self.trace.flow
        source_port = _FIRST_PORT + (flow.source_port - _FIRST_PORT + number * _STEP) % _PORTS
        return _Control(kind, partial(self.sound, flow.destination, port), source_port, opening)


async def _echo(echo: Echo, address: str, sounding: Sounding, _source_port: int) -> Trace:
    return await echo(address, sounding)


def _in_common(trace: Trace) -> int:
    """The farthest hop that a control of the same destination should have in common."""
    if trace.distance:
        return max(1, trace.distance - BEFORE_THE_END)
    expired = (a.probe.ttl for a in trace.answers if a.reply.kind is ReplyKind.TIME_EXCEEDED)
    return max((ttl for ttl in expired if ttl != FULL_TTL), default=1)


# -- how they are made -----------------------------------------------------------------


class _Making:
    """The controls of one trace while they are made."""

    def __init__(
        self,
        trace: Trace,
        target: Target,
        controls: Sequence[_Control],
        measure: Measure | None,
    ) -> None:
        #: The trace, with what was learnt of its replies' TTL.
        self.trace = trace
        self._target = target
        self._controls = controls
        self._measure = measure
        self._found: dict[_Control, Trace] = {}
        #: Probes that may yet be sent, less than 0 where the trace has sent few.
        self._left = _sent(trace) // 2 - sum(one.opening.attempts for one in controls)
        if measure:
            self._left -= 2 * MEASUREMENT
        self._ends_at = asyncio.get_running_loop().time() + TIME
        self._swept = self._port_measured = False
        self._unopened = len(controls)
        self._all_opened = asyncio.Event()

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

    async def _make(self, control: _Control) -> None:
        found = self._found[control] = await self._open(control)
        if Reach.of(found) > control.beyond and (hops := await self._granted(control)):
            found = self._found[control] = await self._sweep(control, found, hops)
        if control.kind == "port" and not self._port_measured and _lacks_reply_ttl(found):
            self._port_measured = True
            self._found[control] = await self._measured(found)

    async def _open(self, control: _Control) -> Trace:
        try:
            found = await control.ask(control.opening, control.source_port)
            self._left += control.opening.attempts - _sent(found)
        finally:
            self._unopened -= 1
            if not self._unopened:  # soon, so that the last one does not overtake who waits
                asyncio.get_running_loop().call_soon(self._all_opened.set)
        if not _is_complete(found, control.opening):
            raise ProbeError(found.failure or _ASKED_TOO_LITTLE)
        return found

    async def _granted(self, control: _Control) -> int:
        """For how many hops there are probes, 0 for none."""
        with suppress(TimeoutError):
            async with asyncio.timeout(MOMENT):
                await self._all_opened.wait()
        hops = max(self._left, 0 if self._swept else control.shortest)
        if hops < control.shortest:
            return 0
        hops = min(hops, control.longest)
        self._swept = True
        self._left -= hops
        return hops

    async def _sweep(self, control: _Control, opened: Trace, hops: int) -> Trace:
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
        return replace(swept, confirmation=opened.confirmation, stop_reason=opened.stop_reason)

    async def _measure_trace(self) -> None:
        self.trace = await self._measured(self.trace)

    async def _measured(self, trace: Trace) -> Trace:
        """The trace with the TTL of its replies over TCP, where it can be told."""
        if self._measure is None:
            return trace
        flow, distance = trace.flow, trace.distance or self.trace.distance or 1
        ttl = await self._measure(flow.destination, flow.destination_port, FULL_TTL - distance + 1)
        return trace if ttl is None else _with_reply_ttl(trace, ttl)


async def _worst_first(
    trace: Trace, flows: Sequence[Trace], target: Target, probing: Probing
) -> tuple[Trace, tuple[Trace, ...]]:
    """The flow that gets least far, traced, and the others (rule 5)."""
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


# -- traces ----------------------------------------------------------------------------


def _sent(trace: Trace) -> int:
    confirmed = trace.confirmation.sent if trace.confirmation else 0
    return confirmed + sum(hop.sent for hop in trace.hops)


def _is_complete(found: Trace, sounding: Sounding) -> bool:
    """Whether its silence counts: the host sent, and as often as was meant."""
    if found.failure:
        return False
    return bool(found.answers) or _sent(found) >= sounding.attempts


def _answers_from_nearer(trace: Trace) -> bool:
    """Whether some answer's own TTL fits a sender nearer than the destination is."""
    distance = trace.distance or 0
    senders = (
        reply_distance(answer.reply.ttl)
        for answer in trace.answers
        if answer.reply.kind in TCP_KINDS
    )
    return any(sender < distance for sender in senders if sender)


def _lacks_reply_ttl(trace: Trace) -> bool:
    """Whether it has replies over TCP whose own TTL the engine did not see."""
    return any(a.reply.kind in TCP_KINDS and a.reply.ttl is None for a in trace.answers)


def _with_reply_ttl(trace: Trace, ttl: int) -> Trace:
    confirmation = trace.confirmation
    return replace(
        trace,
        hops=tuple(_hop_with_reply_ttl(hop, ttl) for hop in trace.hops),
        confirmation=confirmation and _hop_with_reply_ttl(confirmation, ttl),
    )


def _hop_with_reply_ttl(hop: Hop, ttl: int) -> Hop:
    return replace(hop, answers=tuple(_answer_with_reply_ttl(one, ttl) for one in hop.answers))


def _answer_with_reply_ttl(answer: Answer, ttl: int) -> Answer:
    reply = answer.reply
    if reply.kind not in TCP_KINDS or reply.ttl is not None:
        return answer
    return answer._replace(reply=reply._replace(ttl=ttl))
