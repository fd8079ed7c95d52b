"""Controls: which ones a trace gets, within its time and its probes, and what becomes of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.controls.choice import AT_FULL_TTL, SHORTEST_SWEEP
from exporter.controls.making import MARGIN, MOMENT, TIME, controlled
from exporter.controls.need import Need, is_plain_failure, need_of
from exporter.model import (
    FULL_TTL,
    Answer,
    Controlled,
    Controls,
    Failure,
    FailureReason,
    Family,
    Flow,
    Handshake,
    Hop,
    Plan,
    Probe,
    ProbeError,
    Reply,
    ReplyKind,
    Sounding,
    State,
    StopReason,
    Target,
    Trace,
)
from exporter.verbs import Probing
from tests.unit import samples, virtual

ECHO = 0
PORT = 5432
TARGET = samples.target(port=PORT)
FILTERED = cast("Trace", samples.filtered().trace)
REJECTED = cast("Trace", samples.rejected().trace)
OPEN = cast("Trace", samples.opened(port=PORT).trace)
CLOSED = cast("Trace", samples.closed(port=PORT).trace)
NO_BUFFER = Failure(FailureReason.INTERNAL, "no buffer space available")
NO_ROUTE = ProbeError(Failure(FailureReason.NO_ROUTE, "no route"))
#: What a sounder takes for three probes that nobody answers, and for one that somebody does.
SILENCE, ROUND_TRIP = 1.3, 0.02


@dataclass(frozen=True)
class Way:
    """What a control meets: who answers in the end, how far away, and to which of its probes."""

    end: ReplyKind | None = ReplyKind.SYN_ACK
    distance: int = samples.DISTANCE
    attempt: int = 1
    round_trip: float = ROUND_TRIP
    reply_ttl: int | None = 53
    #: Raised, or in the trace, instead.
    error: Exception | None = None
    failure: Failure | None = None
    #: Fewer probes than were wanted.
    sent: int | None = None
    hangs: bool = False
    #: Answers the opening and not the sweep.
    fades: bool = False
    #: What the whole trace of this flow shows.
    trace: Trace | None = None

    def sounded(self, flow: Flow, sounding: Sounding) -> Trace:
        """What a sounder makes of it."""
        answered = self.end is not None and self.attempt <= sounding.attempts
        sent = self.attempt if answered else sounding.attempts
        full = Hop(FULL_TTL, sent if self.sent is None else self.sent)
        hops: tuple[Hop, ...] = ()
        if answered:
            full = replace(full, answers=(self._answer(flow, FULL_TTL, self.attempt),))
        swept = answered or (sounding.attempts == 0 and self.end is not None and not self.fades)
        if swept and sounding.first:
            last = min(self.distance, sounding.last)
            unasked = (Hop(ttl, 0) for ttl in range(1, sounding.first))
            asked = (
                Hop(ttl, 1, (self._answer(flow, ttl, 1),))
                for ttl in range(sounding.first, last + 1)
            )
            hops = (*unasked, *asked)
        reason = DESTINATION if answered else StopReason.SILENCE
        confirmation = full if sounding.attempts else None
        return Trace(flow, "syn", 0.0, 0.1, reason, hops, confirmation, failure=self.failure)

    def _answer(self, flow: Flow, ttl: int, attempt: int) -> Answer:
        at = 1.0 + self.round_trip
        reply = Reply(ReplyKind.TIME_EXCEEDED, samples.address(ttl), at, 64 - ttl, (11, 0))
        if ttl >= self.distance and self.end:
            reply = Reply(self.end, flow.destination, at, self.reply_ttl)
        return Answer(Probe(ttl, attempt, 1.0), reply)


DESTINATION = StopReason.DESTINATION
OPEN_WAY, SILENT, RST = Way(), Way(end=None), Way(end=ReplyKind.RST)


@dataclass
class World:
    """What is asked, and what comes of it."""

    #: Port -> what its control meets; ECHO for the echo.
    ports: Mapping[int, Way] = field(default_factory=dict)
    #: What the further flows meet, in their order; the last one goes for the rest.
    flows: tuple[Way, ...] = (SILENT,)
    measured: int | None = 53
    connect_engine: bool = False
    #: (port, source port, sounding) of all that was asked, and when.
    asked: list[tuple[int, int, Sounding]] = field(default_factory=list)
    #: (port, expected TTL) of what was measured.
    measurements: list[tuple[int, int]] = field(default_factory=list)
    #: Source ports that were traced.
    traced: list[int] = field(default_factory=list)
    sent: int = 0
    ended: float = 0.0
    _flows: dict[int, Way] = field(default_factory=dict)

    def probing(self) -> Probing:
        """All verbs."""
        return Probing(
            self.resolve,
            self.trace,
            None,
            sound=self.sound,
            echo=self.echo,
            reply_ttl=self.reply_ttl if self.connect_engine else None,
        )

    async def resolve(self, _host: str, _port: int, _family: Family) -> list[str]:
        """No control looks a name up."""
        raise AssertionError

    async def trace(self, address: str, port: int, _plan: Plan, source_port: int) -> Trace:
        """Trace a flow that was sounded before."""
        self.traced.append(source_port)
        way = self._flows[source_port]
        if way.error or way.trace is None:
            raise way.error or AssertionError("no trace is expected")
        return replace(way.trace, flow=Flow(samples.SOURCE, source_port, address, port))

    async def sound(self, address: str, port: int, sounding: Sounding, source_port: int) -> Trace:
        """Sound a port."""
        self.asked.append((port, source_port, sounding))
        way = self.ports.get(port, SILENT)
        if port == PORT:
            nth = min(len(self._flows), len(self.flows) - 1)
            way = self._flows.setdefault(source_port, self.flows[nth])
        return await self._sounded(way, Flow(samples.SOURCE, source_port, address, port), sounding)

    async def echo(self, address: str, sounding: Sounding) -> Trace:
        """Sound by echo requests."""
        self.asked.append((ECHO, 0, sounding))
        way = self.ports.get(ECHO, SILENT)
        return await self._sounded(way, Flow(samples.SOURCE, 0, address, 0), sounding)

    async def reply_ttl(self, _address: str, port: int, expected: int) -> int | None:
        """Measure."""
        self.measurements.append((port, expected))
        await asyncio.sleep(ROUND_TRIP)
        return self.measured

    async def _sounded(self, way: Way, flow: Flow, sounding: Sounding) -> Trace:
        if way.hangs:
            await asyncio.sleep(3600)
        if way.error:
            raise way.error
        made = way.sounded(flow, sounding)
        self.sent += sent(made)
        await asyncio.sleep(way.round_trip + 0.5 * (way.attempt - 1) if made.answers else SILENCE)
        return made

    def soundings(self, port: int) -> list[Sounding]:
        """What a port was asked."""
        return [sounding for asked, _, sounding in self.asked if asked == port]

    def source_ports(self, port: int) -> list[int]:
        """From where."""
        return [source for asked, source, _ in self.asked if asked == port]


def sent(trace: Trace) -> int:
    """Probes of a trace."""
    return sum(hop.sent for hop in (*trace.hops, *filter(None, [trace.confirmation])))


def made(
    world: World,
    trace: Trace = FILTERED,
    *,
    need: Need = Need.EVERYTHING,
    target: Target = TARGET,
    **controls: Any,
) -> tuple[Trace, Controlled]:
    """The controls of a trace, in virtual time."""
    target = replace(target, controls=replace(Controls(), **controls))

    async def main() -> tuple[Trace, Controlled]:
        found = await controlled(trace, target, world.probing(), need)
        world.ended = virtual.now()
        return found

    return virtual.run(main())


# -- which ones ------------------------------------------------------------------------


def test_a_healthy_trace_gets_none() -> None:
    """Where nothing fails nothing is sent, and no time passes."""
    world = World()
    assert made(world, OPEN, need=Need.NOTHING) == (OPEN, Controlled())
    assert (world.asked, world.ended) == ([], 0)


def test_a_healthy_trace_that_is_new_is_compared_with_one_other_port() -> None:
    """Whether that port is as far away: a SYN that is meant to arrive, and one for that TTL."""
    world = World({443: Way(distance=samples.DISTANCE + 2)})
    trace, found = made(world, OPEN, need=Need.DISTANCE)
    assert trace is OPEN
    assert world.soundings(443) == [Sounding(samples.DISTANCE, samples.DISTANCE, attempts=1)]
    assert len(world.asked) == 1
    (port,) = found.ports
    assert port.hops[-1].addresses == (samples.address(samples.DISTANCE),)


def test_a_new_target_without_control_ports_is_compared_with_none() -> None:
    """Nothing is asked that was not permitted."""
    world = World()
    assert made(world, OPEN, need=Need.DISTANCE, ports=()) == (OPEN, Controlled())
    assert world.asked == []


def test_a_port_that_is_closed_as_ever_is_compared_with_an_echo() -> None:
    """An echo request that is meant to arrive, one for the hop before, and one for that TTL."""
    world = World({ECHO: Way(ReplyKind.ECHO_REPLY)})
    _, found = made(world, CLOSED, need=Need.ECHO)
    first, last = samples.DISTANCE - 1, samples.DISTANCE
    assert world.asked == [(ECHO, 0, Sounding(first, last, attempts=1))]
    assert (world.sent, found.ports, found.flows) == (3, (), ())
    assert found.echo


def test_flows_of_every_cycle() -> None:
    """A target that wants four flows each time gets three more, hop by hop, and nothing else."""
    world = World(flows=(OPEN_WAY,))
    trace, found = made(world, OPEN, need=Need.NOTHING, flows=4)
    assert trace is OPEN
    assert [flow.distance for flow in found.flows] == [12, 12, 12]
    assert world.soundings(PORT) == [Sounding(first=1, last=30)] * 3
    assert len(world.asked) == 3


def test_a_failing_trace_gets_flows_ports_and_an_echo() -> None:
    """All of them side by side: four that are silent take no longer than one."""
    world = World({443: OPEN_WAY, ECHO: OPEN_WAY})
    trace, found = made(world)
    assert trace is FILTERED
    assert len(found.flows) == 3
    assert [port.flow.destination_port for port in found.ports] == [443, 80]
    assert [bool(port.answers) for port in found.ports] == [True, False]
    assert found.echo
    assert world.ended == pytest.approx(SILENCE)


def test_what_is_switched_off_is_not_asked() -> None:
    """No ports, no echo, no further flow: nothing is sent."""
    world = World()
    assert made(world, ports=(), echo=False, failing_flows=1) == (FILTERED, Controlled())
    assert world.asked == []


def test_the_targets_own_port_is_no_control() -> None:
    """A control port that is the target's is left out."""
    world = World()
    _, found = made(world, ports=(PORT, 80), failing_flows=1)
    assert [port.flow.destination_port for port in found.ports] == [80]
    assert world.soundings(PORT) == []


def test_without_an_engine_there_are_no_controls() -> None:
    """Who cannot sound makes none."""
    world = World()
    probing = replace(world.probing(), sound=None)
    assert virtual.run(controlled(FILTERED, TARGET, probing, Need.EVERYTHING))[1] == Controlled()


def test_every_control_has_a_source_port_of_its_own() -> None:
    """None is the trace's, no two are alike, and the next cycle has the same ones."""
    first, second = World(flows=(SILENT,)), World(flows=(SILENT,))
    for world in (first, second):
        made(world, failing_flows=16, ports=tuple(range(1, 9)))
    ports = [source for port, source, _ in first.asked if port != ECHO]
    assert len(set(ports) | {FILTERED.flow.source_port}) == 15 + 8 + 1
    assert [asked[:2] for asked in first.asked] == [asked[:2] for asked in second.asked]


# -- hop by hop ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trace", "first"),
    [(FILTERED, 6), (CLOSED, 10), (REJECTED, REJECTED.last_answering_ttl - 1)],
    ids=["silence", "answered over TCP", "ICMP error"],
)
def test_where_a_sweep_begins(trace: Trace, first: int) -> None:
    """At the last hop in common: what answered last, or two hops before the end."""
    world = World({443: OPEN_WAY}, flows=(RST if trace is CLOSED else SILENT,))
    made(world, trace, ports=(443,))
    assert world.soundings(443)[0] == AT_FULL_TTL
    assert world.soundings(443)[1].first == first


def test_a_sweep_that_begins_with_the_first_hop() -> None:
    """Where no hop has answered, or the destination is next door, that is hop 1."""
    next_door = samples.trace([samples.end(1, ReplyKind.RST)], DESTINATION, PORT)
    unheard = samples.trace(samples.silence(1, 30), StopReason.SILENCE, PORT, Hop(FULL_TTL, 3))
    for trace in (next_door, unheard):
        world = World({443: OPEN_WAY}, flows=(SILENT,) if trace is unheard else (RST,))
        made(world, trace, ports=(443,))
        assert world.soundings(443)[1].first == 1


def test_what_gets_nowhere_is_not_swept() -> None:
    """Silence costs the probes of the opening and no more."""
    world = World()
    made(world)
    assert {sounding for _, _, sounding in world.asked} == {AT_FULL_TTL}
    assert world.sent == 6 * 3


def test_a_sweep_is_part_of_the_same_control() -> None:
    """It comes from the same source port, and repeats nothing that the opening has asked."""
    world = World({443: Way(attempt=1)})
    _, found = made(world, ports=(443,))
    assert len(set(world.source_ports(443))) == 1
    (port,) = found.ports
    assert port.confirmation
    assert (port.confirmation.sent, port.confirmation.received) == (1, 1)
    assert port.hops[5].addresses == (samples.address(6),)


def test_a_sweep_that_meets_silence_takes_nothing_away() -> None:
    """What the opening has shown stays, where the sweep's own SYN is lost."""
    world = World({443: Way(fades=True)})
    _, found = made(world, ports=(443,), failing_flows=1)
    assert len(world.soundings(443)) == 2
    (port,) = found.ports
    assert (port.hops, bool(port.answers)) == ((), True)


def test_a_flow_that_fails_alike_is_not_swept() -> None:
    """Silent like the trace, or refused like it: there is no other branch to show."""
    once = replace(AT_FULL_TTL, attempts=1)
    for way, trace, opening in ((SILENT, FILTERED, AT_FULL_TTL), (RST, CLOSED, once)):
        world = World(flows=(way,))
        _, found = made(world, trace)
        assert world.soundings(PORT) == [opening] * 3
        assert len(found.flows) == 3


def test_a_flow_that_gets_through_shows_its_branch() -> None:
    """Where the trace is blocked and another flow is not, that one is seen from hop 1 on.

    It is seen as far as there are probes, but past the last hop that answered the trace.
    """
    answered = {443: RST, 80: RST, ECHO: OPEN_WAY}
    world = World(answered, flows=(OPEN_WAY,))
    trace, found = made(world)
    assert trace is FILTERED
    assert found.flows[0].distance == samples.DISTANCE
    world = World(flows=(SILENT, OPEN_WAY, SILENT))
    _, found = made(world)
    assert [flow.last_answering_ttl for flow in found.flows] == [0, 10, 0]
    assert all(hop.answers for hop in found.flows[1].hops)
    assert world.traced == []


# -- within the budget -----------------------------------------------------------------


def test_one_long_sweep_rather_than_none() -> None:
    """What is saved by an early answer goes to the first who asks; then the rest may be too little.

    Filtered at hop 6 of 12: 53 probes allow for 26. Six openings need 18 of them at most.
    """
    allowed = sent(FILTERED) // 2
    assert allowed == 26
    world = World({443: OPEN_WAY, 80: OPEN_WAY, ECHO: OPEN_WAY})
    _, found = made(world)
    assert found.ports[0].distance == samples.DISTANCE
    assert world.sent <= allowed


def test_a_trace_of_few_probes_still_gets_one_sweep() -> None:
    """Where half of the probes is less than one sweep takes, there is one of the shortest kind."""
    world = World({443: OPEN_WAY, 80: OPEN_WAY, ECHO: OPEN_WAY}, flows=(RST,))
    near = samples.trace([*samples.routers(3), samples.end(4, ReplyKind.RST)], DESTINATION, PORT)
    made(world, near)
    sweeps = [sounding for _, _, sounding in world.asked if sounding.first]
    assert [(one.first, one.last, one.attempts) for one in sweeps] == [(2, 1 + SHORTEST_SWEEP, 0)]
    assert world.sent == 6 + SHORTEST_SWEEP


WAYS = st.builds(
    Way,
    end=st.sampled_from([ReplyKind.SYN_ACK, ReplyKind.RST, None]),
    distance=st.integers(1, 30),
    attempt=st.integers(1, 3),
)


@settings(max_examples=100)
@given(
    last=st.integers(0, 29),
    ports=st.dictionaries(st.sampled_from([ECHO, 443, 80, 22]), WAYS),
    flows=st.lists(WAYS, min_size=1, max_size=4).map(tuple),
)
def test_controls_add_half_of_the_probes(
    last: int, ports: dict[int, Way], flows: tuple[Way, ...]
) -> None:
    """Whatever answers, there are no more than half as many, but for the least that is of use."""
    trace = cast("Trace", samples.filtered(last=last).trace)
    world = World(ports, flows)
    _, found = made(world, trace, ports=(443, 80))
    openings = 3 * 6
    least = openings + max(last, 1) + SHORTEST_SWEEP - 1
    assert world.sent <= max(sent(trace) // 2, least)
    assert world.ended <= TIME
    assert all(trace.stop_reason for trace in found.traces)


# -- within the time -------------------------------------------------------------------


def test_what_is_not_ready_is_left_out() -> None:
    """After a second and a half the cycle goes on with what there is."""
    world = World({443: Way(hangs=True), 80: OPEN_WAY}, flows=(SILENT, Way(hangs=True)))
    _, found = made(world)
    assert world.ended == pytest.approx(TIME)
    assert [port.flow.destination_port for port in found.ports] == [80]
    assert len(found.flows) == 1


@pytest.mark.parametrize("round_trip", [ROUND_TRIP, 0.4])
def test_a_sweep_knows_its_round_trip_and_its_time(round_trip: float) -> None:
    """It ends by itself before the time is over, so that what it has found is not lost."""
    world = World({443: Way(round_trip=round_trip)})
    made(world, ports=(443,), failing_flows=1)
    _, sweep = world.soundings(443)
    assert sweep.round_trip == pytest.approx(round_trip)
    assert TIME - MOMENT - MARGIN <= round_trip + sweep.seconds <= TIME - MARGIN


def test_a_sweep_that_is_cut_off_leaves_the_opening() -> None:
    """What is known when the time is over counts."""

    class Slow(World):
        async def _sounded(self, way: Way, flow: Flow, sounding: Sounding) -> Trace:
            if sounding.first:
                await asyncio.sleep(3600)
            return await super()._sounded(way, flow, sounding)

    _, found = made(Slow({443: OPEN_WAY}), ports=(443,), failing_flows=1)
    (port,) = found.ports
    assert (bool(port.answers), port.hops) == (True, ())


def test_cancellation_ends_every_control() -> None:
    """A cycle that is cancelled leaves no control behind."""
    world = World({443: Way(hangs=True)}, flows=(Way(hangs=True),))

    async def main() -> None:
        making = asyncio.create_task(controlled(FILTERED, TARGET, world.probing(), Need.EVERYTHING))
        await asyncio.sleep(1)
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making
        assert virtual.now() == 1
        assert asyncio.all_tasks() == {asyncio.current_task()}

    virtual.run(main())


# -- what fails ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "way",
    [Way(error=NO_ROUTE), Way(failure=NO_BUFFER), Way(end=None, sent=2)],
    ids=["raised", "in the trace", "too few probes"],
)
def test_a_control_that_fails_is_left_out(way: Way, caplog: pytest.LogCaptureFixture) -> None:
    """The others are made, and the reason is in the log for who wants to know."""
    caplog.set_level(logging.DEBUG, "exporter.controls")
    _, found = made(World({443: way, 80: OPEN_WAY}))
    assert [port.flow.destination_port for port in found.ports] == [80]
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG
    assert record.getMessage().startswith("'db' does without a control (port): ")


def test_a_bug_in_a_control_disturbs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its traceback."""
    _, found = made(World({443: Way(error=ZeroDivisionError()), 80: OPEN_WAY}))
    assert [port.flow.destination_port for port in found.ports] == [80]
    (record,) = caplog.records
    assert (record.levelno, bool(record.exc_info)) == (logging.ERROR, True)


# -- another flow is worse -------------------------------------------------------------


def test_a_flow_that_is_blocked_takes_the_traces_place() -> None:
    """The trace got through, one flow does not: that one is traced, the first joins the others."""
    world = World(flows=(OPEN_WAY, Way(end=None, trace=FILTERED), OPEN_WAY))
    trace, found = made(world, OPEN)
    assert world.traced == [trace.flow.source_port]
    assert trace.stop_reason is StopReason.SILENCE
    assert len(found.flows) == 3
    assert OPEN in found.flows
    assert trace.flow not in {flow.flow for flow in found.flows}


def test_a_flow_of_every_cycle_that_is_blocked_takes_it_too() -> None:
    """With several flows each time, it needs no failing connect."""
    world = World(flows=(Way(end=None, trace=FILTERED),))
    trace, found = made(world, OPEN, need=Need.NOTHING, flows=2)
    assert (trace.stop_reason, found.flows) == (StopReason.SILENCE, (OPEN,))


def test_a_flow_that_was_only_unlucky_does_not() -> None:
    """Traced, it gets through: its three lost SYNs were chance, and the trace stays."""
    world = World(flows=(Way(end=None, trace=OPEN), OPEN_WAY))
    trace, found = made(world, OPEN)
    assert trace is OPEN
    assert [bool(flow.answers) for flow in found.flows] == [True] * 3


def test_a_flow_that_cannot_be_traced_stays_a_control() -> None:
    """What its sounding has shown is kept."""
    way = Way(end=None, trace=replace(FILTERED, failure=NO_BUFFER))
    trace, found = made(World(flows=(way, OPEN_WAY)), OPEN)
    assert trace is OPEN
    assert [bool(flow.answers) for flow in found.flows] == [False, True, True]


def test_a_flow_whose_trace_is_refused_stays_a_control() -> None:
    """So it is where the trace cannot begin."""

    class Refusing(World):
        async def trace(self, *_: object) -> Trace:
            raise NO_ROUTE

    trace, found = made(Refusing(flows=(SILENT, OPEN_WAY)), OPEN)
    assert trace is OPEN
    assert [bool(flow.answers) for flow in found.flows] == [False, True, True]


# -- reply TTLs ------------------------------------------------------------------------

UNSEEN = replace(
    CLOSED,
    hops=tuple(
        replace(
            hop,
            answers=tuple(
                one._replace(reply=one.reply._replace(ttl=None))
                if one.reply.kind is ReplyKind.RST
                else one
                for one in hop.answers
            ),
        )
        for hop in CLOSED.hops
    ),
)


def reply_ttls(trace: Trace) -> set[int | None]:
    """With what its answers in the destination's name have come."""
    return {a.reply.ttl for a in trace.answers if a.reply.kind is not ReplyKind.TIME_EXCEEDED}


def test_reply_ttls_that_the_engine_cannot_see_are_measured() -> None:
    """Those of the traced endpoint, and of the first port that answers; routers' are left alone."""
    unseen = Way(reply_ttl=None)
    world = World({443: unseen, 80: unseen}, flows=(RST,), measured=51, connect_engine=True)
    trace, found = made(world, UNSEEN)
    assert world.measurements == [(PORT, 53), (443, 53)]
    assert reply_ttls(trace) == {51}
    assert [reply_ttls(port) for port in found.ports] == [{51}, {None}]
    assert trace.hops[0] == UNSEEN.hops[0]


def test_a_reply_ttl_that_cannot_be_told_stays_unknown() -> None:
    """The trace is as it was."""
    trace, _ = made(World(flows=(RST,), measured=None, connect_engine=True), UNSEEN)
    assert trace == UNSEEN


@pytest.mark.parametrize("trace", [CLOSED, FILTERED], ids=["seen", "no answer over TCP"])
def test_nothing_to_measure(trace: Trace) -> None:
    """Where the engine has seen it, or nothing has come over TCP, no SYN is sent for it."""
    world = World({443: Way(reply_ttl=None)}, flows=(RST,), connect_engine=True)
    made(world, trace)
    assert world.measurements == []


# -- what is healthy -------------------------------------------------------------------

OPENED = samples.opened(port=PORT).verdict
CONNECTED = Handshake(success=True, duration=0.01)
UNHEARD = Handshake(success=False, duration=3.2, error="no answer within 3.2 s")
ANSWERED = Way().sounded(Flow(samples.SOURCE, 1, "198.51.100.1", PORT), Sounding(1))
UNANSWERED = SILENT.sounded(Flow(samples.SOURCE, 1, "198.51.100.1", PORT), Sounding(1))


def with_reply_ttl(trace: Trace, ttl: int | None) -> Trace:
    """The trace, its end's answers having come with this TTL."""
    *hops, last = trace.hops
    answers = tuple(one._replace(reply=one.reply._replace(ttl=ttl)) for one in last.answers)
    return replace(trace, hops=(*hops, replace(last, answers=answers)))


REFUSED = Handshake(success=False, duration=0.01, error="Connection refused")
CLOSED_UNSEEN = with_reply_ttl(CLOSED, None)
AS_EVER: dict[str, Any] = {
    "verdict": replace(OPENED, state=State.CLOSED),
    "trace": CLOSED,
    "last_good": CLOSED,
    "handshake": REFUSED,
    "canary": None,
    "quick": True,
}


@pytest.mark.parametrize(
    ("expected", "changes"),
    [
        (Need.DISTANCE, {}),
        (Need.DISTANCE, {"handshake": None, "canary": None}),
        (Need.NOTHING, {"last_good": OPEN}),
        (Need.DISTANCE, {"trace": with_reply_ttl(OPEN, 128 - 11)}),
        (Need.EVERYTHING, {"verdict": replace(OPENED, state=State.CLOSED)}),
        (Need.EVERYTHING, {"handshake": UNHEARD}),
        (Need.EVERYTHING, {"canary": ANSWERED}),
        (
            Need.EVERYTHING,
            {"last_good": samples.trace([samples.end(9, ReplyKind.SYN_ACK)], DESTINATION)},
        ),
        (Need.EVERYTHING, {"last_good": FILTERED}),
        (Need.EVERYTHING, {"trace": with_reply_ttl(OPEN, 60)}),
        (Need.ECHO, AS_EVER),
        (Need.ECHO, AS_EVER | {"handshake": None}),
        (Need.EVERYTHING, AS_EVER | {"quick": False}),
        (Need.EVERYTHING, AS_EVER | {"handshake": CONNECTED}),
        (Need.EVERYTHING, AS_EVER | {"last_good": None}),
        (Need.EVERYTHING, AS_EVER | {"last_good": with_reply_ttl(OPEN, 53)}),
        (Need.EVERYTHING, AS_EVER | {"last_good": with_reply_ttl(CLOSED, 52)}),
        (Need.EVERYTHING, AS_EVER | {"trace": CLOSED_UNSEEN, "last_good": CLOSED_UNSEEN}),
        (Need.EVERYTHING, AS_EVER | {"verdict": replace(OPENED, state=State.RESET)}),
    ],
    ids=[
        "all is well",
        "not asked",
        "the same distance as before",
        "another initial TTL",
        "not open",
        "no plain connect",
        "the canary sings",
        "another distance than before",
        "no distance before",
        "from a nearer device",
        "closed as ever",
        "closed as ever, not connected",
        "closed, and traced wholly",
        "closed, and connected",
        "closed for the first time",
        "open before",
        "closed from elsewhere before",
        "closed, the reply TTL not seen",
        "reset",
    ],
)
def test_what_a_trace_needs(expected: Need, changes: dict[str, Any]) -> None:
    """Nothing for an `open`, an echo for a `closed` as ever, that nothing speaks against."""
    given: dict[str, Any] = {
        "verdict": OPENED,
        "trace": with_reply_ttl(OPEN, 53),
        "handshake": CONNECTED,
        "canary": UNANSWERED,
        "last_good": None,
    }
    assert need_of(**(given | changes)) is expected


@pytest.mark.parametrize(
    ("plain", "changes", "handshake"),
    [
        (True, {}, None),
        (True, {}, replace(CONNECTED, success=False)),
        (False, {}, CONNECTED),
        (False, {"stop_reason": StopReason.DEADLINE}, None),
        (False, {"failure": Failure(FailureReason.TIMEOUT, "too slow")}, None),
        (False, {"hops": OPEN.hops}, None),
        (False, {"hops": (samples.end(1, ReplyKind.UNREACHABLE, by=samples.SOURCE),)}, None),
        (True, {"hops": REJECTED.hops}, None),
    ],
    ids=[
        "silence",
        "not connected",
        "connected",
        "out of time",
        "not traced",
        "open",
        "refused by this host",
        "rejected",
    ],
)
def test_what_needs_everything_whatever_the_verdict(
    changes: dict[str, Any], handshake: Handshake | None, *, plain: bool
) -> None:
    """What neither the destination nor this host has answered."""
    assert is_plain_failure(replace(FILTERED, **changes), handshake) is plain
