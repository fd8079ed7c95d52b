"""One cycle of one target: whatever goes wrong, an observation comes out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

import pytest

from exporter import observer
from exporter.diagnosis.verdict import judge as sound_judge
from exporter.diagnosis.zones import ZoneMap
from exporter.model import (
    FULL_TTL,
    Confidence,
    Controlled,
    Controls,
    Failure,
    FailureReason,
    Family,
    Flow,
    Handshake,
    Hop,
    Known,
    Observation,
    Plan,
    ProbeError,
    ReplyKind,
    Sounding,
    State,
    StopReason,
    Surroundings,
    Target,
    Trace,
    Verdict,
)
from exporter.observer import ADDRESS_SPACING, NOTHING_KNOWN, observe
from exporter.schedule.depth import plan_of
from exporter.verbs import Probing, refusing
from tests.unit import samples, virtual

T = TypeVar("T")
TARGET = samples.target()
NO_CONTROLS = replace(TARGET, controls=Controls((), echo=False, canary=False, failing_flows=1))
ALL = replace(TARGET, host="db.example", all_addresses=True)
OTHER, SIX = "10.9.11.3", "fd09:0:0:b::2"
OPEN = samples.opened()
BLOCKED = cast("Trace", samples.filtered().trace)
ZONES = ZoneMap(())
CONNECTED = Handshake(success=True, duration=0.012)
REFUSED = Handshake(success=False, duration=0.012, error="Connection refused")
UNHEARD = Handshake(success=False, duration=3.2, error="no answer within 3.2 s")
NO_CONTROL = ProbeError(Failure(FailureReason.INTERNAL, "no buffer space available"))
NO_ROUTE = Failure(FailureReason.NO_ROUTE, "this host has no route")


@dataclass
class Verbs:
    """What resolve, trace and connect give: a value, an error that is raised, or None to hang."""

    addresses: list[str] | Exception | None = field(default_factory=lambda: [samples.DESTINATION])
    trace: Trace | Exception | None = OPEN.trace
    #: Address -> what its trace gives instead.
    traces: Mapping[str, Trace | Exception] = field(default_factory=dict)
    handshake: Handshake | Exception | None = CONNECTED
    #: Seconds that a connect takes.
    connecting: float = 0.0
    #: (address, preferred source port, seconds since the start) of each trace.
    traced: list[tuple[str, int, float]] = field(default_factory=list)
    #: Address -> the plan by which it was traced.
    plans: dict[str, Plan] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    #: What the canary gives, and the ports at which it was asked.
    canary: Trace | Exception | None = None
    canaries: list[int] = field(default_factory=list)
    #: What every sounding gives, and the ports that were sounded.
    sounding: Trace | Exception = NO_CONTROL
    sounded: list[int] = field(default_factory=list)
    #: What was begun, in order.
    order: list[str] = field(default_factory=list)

    async def resolve(self, _host: str, _port: int, _family: Family) -> list[str]:
        """Look up."""
        return await self._give("resolve", self.addresses)

    async def probe(self, address: str, port: int, plan: Plan, source_port: int) -> Trace:
        """Trace to the address that is asked for."""
        self.order.append("trace")
        self.plans[address] = plan
        self.traced.append((address, source_port, virtual.now()))
        made = await self._give("trace", self.traces.get(address, self.trace))
        return replace(made, flow=Flow(samples.SOURCE, source_port or 33434, address, port))

    async def connect(self, _address: str, _port: int) -> Handshake:
        """Connect."""
        self.order.append("connect")
        await asyncio.sleep(self.connecting)
        return await self._give("connect", self.handshake)

    async def ask(self, _address: str, port: int) -> Trace | None:
        """Ask the canary."""
        self.canaries.append(port)
        if isinstance(self.canary, Exception):
            raise self.canary
        return self.canary

    async def sound(self, address: str, port: int, _sounding: Sounding, source_port: int) -> Trace:
        """Sound a port."""
        self.sounded.append(port)
        if isinstance(self.sounding, Exception):
            raise self.sounding
        flow = Flow(samples.SOURCE, source_port, address, port)
        return replace(self.sounding, flow=flow)

    async def _give(self, verb: str, result: T | Exception | None) -> T:
        try:
            if result is None:
                await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.cancelled.append(verb)
            raise
        if result is None or isinstance(result, Exception):
            raise result or AssertionError(f"{verb} was waited for")
        return result

    def probing(self, *, connects: bool = True) -> Probing:
        """All of them as the observer takes them."""
        connect = self.connect if connects else None
        return Probing(self.resolve, self.probe, connect, sound=self.sound, canary=self.ask)


def observed(
    verbs: Verbs, known: Mapping[str, Known] = NOTHING_KNOWN, target: Target = TARGET
) -> Observation:
    """One cycle in virtual time."""
    return virtual.run(observe(target, verbs.probing(), ZONES, known))


# -- what is observed ------------------------------------------------------------------


def test_a_cycle_that_succeeds() -> None:
    """An observation has address, trace, handshake, places and verdict, and no failure."""
    seen = observed(Verbs())
    assert seen.target is TARGET
    assert seen.address == samples.DESTINATION
    assert seen.trace
    assert seen.handshake is CONNECTED
    assert seen.failure is None
    assert seen.verdict.state is State.OPEN
    assert set(seen.places) == {answer.reply.address for answer in seen.trace.answers}
    assert seen.duration >= 0


def test_the_plain_connect_goes_first() -> None:
    """The connect has sent its SYN when the trace begins, and the trace does not wait for more."""
    verbs = Verbs(connecting=3.0)
    assert observed(verbs).handshake is CONNECTED
    assert verbs.order == ["connect", "trace"]
    assert verbs.traced[0][2] == 0


def test_without_the_plain_connect() -> None:
    """Where the connect is switched off there is no handshake, and no wait for one."""
    verbs = Verbs()
    seen = virtual.run(observe(TARGET, verbs.probing(connects=False), ZONES))
    assert seen.handshake is None
    assert seen.verdict.state is State.OPEN
    assert verbs.traced[0][2] == 0


def test_what_the_traces_have_shown_reaches_the_verdict() -> None:
    """Trace and connect go into the memory first, and what is then known weighs the verdict."""
    learnt: list[tuple[Trace, Handshake | None]] = []

    def learn(trace: Trace, handshake: Handshake | None) -> Surroundings:
        learnt.append((trace, handshake))
        return Surroundings(ignores_ttls=True, untraceable="nobody counts")

    near = samples.trace([samples.end(1, ReplyKind.SYN_ACK)], StopReason.DESTINATION)
    seen = virtual.run(observe(TARGET, Verbs(trace=near).probing(), ZONES, learn=learn))
    assert learnt == [(seen.trace, CONNECTED)]
    assert (seen.verdict.state, seen.verdict.last_reachable_hop) == (State.OPEN, 0)
    assert "tracing is not possible here: nobody counts" in seen.verdict.reason


def test_a_cycle_without_a_trace_teaches_nothing() -> None:
    """The memory is asked about traces alone."""

    def learn(_trace: Trace, _handshake: Handshake | None) -> Surroundings:
        raise AssertionError("there is no trace")

    verbs = Verbs(trace=ProbeError(NO_ROUTE))
    seen = virtual.run(observe(TARGET, verbs.probing(), ZONES, learn=learn))
    assert seen.verdict.state is State.ERROR


def test_the_last_good_trace_of_the_address_reaches_the_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The judge sees the last good trace to the address that is traced, never another's."""
    judged: list[object] = []

    def judge(trace: Trace | None, **known: object) -> Verdict:
        judged.append(known["last_good"])
        assert trace
        return OPEN.verdict

    monkeypatch.setattr(observer, "judge", judge)
    known = {OTHER: Known(1, samples.filtered().trace), samples.DESTINATION: Known(2, OPEN.trace)}
    virtual.run(observe(TARGET, Verbs().probing(), ZONES, known))
    virtual.run(observe(TARGET, Verbs(addresses=["192.0.2.77"]).probing(), ZONES, known))
    assert judged == [OPEN.trace, None]


# -- controls --------------------------------------------------------------------------

SEEN_BEFORE = {samples.DESTINATION: Known(2, OPEN.trace)}
SILENT_CONTROL = samples.trace((), StopReason.SILENCE, confirmation=Hop(FULL_TTL, 3))
ANSWERED_CONTROL = samples.trace(
    (), StopReason.DESTINATION, confirmation=samples.end(FULL_TTL, ReplyKind.SYN_ACK, sent=1)
)


def test_a_healthy_cycle_has_a_canary_and_no_control() -> None:
    """Beside an open target that nothing speaks against, the canary of its port alone is asked."""
    verbs = Verbs(canary=SILENT_CONTROL)
    seen = virtual.run(observe(TARGET, verbs.probing(), ZONES, SEEN_BEFORE))
    assert seen.controlled == Controlled(canary=SILENT_CONTROL)
    assert (verbs.canaries, verbs.sounded) == ([443], [])


def test_a_healthy_cycle_with_several_flows() -> None:
    """Whoever wants several flows each time has them, and nothing else."""
    several = replace(TARGET, controls=Controls(flows=3))
    verbs = Verbs(sounding=cast("Trace", OPEN.trace))
    seen = observed(verbs, SEEN_BEFORE, several)
    assert (verbs.sounded, len(seen.controlled.flows)) == ([443, 443], 2)


def test_the_first_healthy_cycle_compares_one_other_port() -> None:
    """How far away the destination is no earlier trace has shown."""
    verbs = Verbs(sounding=SILENT_CONTROL)
    seen = observed(verbs)
    assert (verbs.sounded, len(seen.controlled.ports)) == ([80], 1)


CLOSED = cast("Trace", samples.closed().trace)
#: In which cycle a closed target is checked, and in which it is traced wholly.
CHECKED, WHOLE = (
    next(n for n in range(1, 99) if plan_of(TARGET, Known(steady=n)).quick is quick)
    for quick in (True, False)
)


def echoed(distance: int) -> Trace:
    """An echo that is answered from so far away, by one router fewer on the way."""
    end = samples.end(distance, ReplyKind.ECHO_REPLY, sent=1)
    (answer,) = end.answers
    full = answer._replace(probe=answer.probe._replace(ttl=FULL_TTL))
    hops = [Hop(ttl, 0) for ttl in range(1, distance - 1)]
    hops += [samples.router(distance - 1, sent=1), end]
    return samples.trace(hops, StopReason.DESTINATION, 0, Hop(FULL_TTL, 1, (full,)))


UNHEARD_ECHO = samples.trace((), StopReason.SILENCE, 0, Hop(FULL_TTL, 1))


@pytest.mark.parametrize(
    ("steady", "echo", "canary", "alone"),
    [
        (CHECKED, echoed(12), SILENT_CONTROL, True),
        (WHOLE, echoed(12), SILENT_CONTROL, False),
        (0, echoed(12), SILENT_CONTROL, False),
        (CHECKED, echoed(14), SILENT_CONTROL, False),
        (CHECKED, UNHEARD_ECHO, SILENT_CONTROL, False),
        (CHECKED, NO_CONTROL, SILENT_CONTROL, False),
        (CHECKED, echoed(12), ANSWERED_CONTROL, False),
    ],
    ids=["as ever", "whole", "new", "from farther", "no echo", "none sent", "the canary sings"],
)
def test_a_port_that_is_closed_as_ever_needs_an_echo_alone(
    steady: int, echo: Trace | ProbeError, canary: Trace, *, alone: bool
) -> None:
    """Where it comes from elsewhere or not at all, the port is looked at as what fails."""
    asked = 0

    async def ask(_address: str, _sounding: Sounding) -> Trace:
        nonlocal asked
        asked += 1
        if isinstance(echo, ProbeError):
            raise echo
        return echo

    verbs = Verbs(trace=CLOSED, handshake=REFUSED, canary=canary, sounding=SILENT_CONTROL)
    probing = replace(verbs.probing(), echo=ask)
    known = {samples.DESTINATION: Known(40002, CLOSED, steady)}
    seen = virtual.run(observe(TARGET, probing, ZONES, known))
    assert asked >= 1
    assert bool(verbs.sounded) is not alone
    if alone:
        assert (seen.verdict.state, seen.verdict.confidence) == (State.CLOSED, Confidence.HIGH)
        assert seen.controlled == Controlled(canary=canary, echo=echoed(12))


def test_a_cycle_that_fails_has_controls() -> None:
    """They are part of the observation, and whoever answers them has a place in it."""
    verbs = Verbs(trace=BLOCKED, handshake=UNHEARD, sounding=ANSWERED_CONTROL)
    others = replace(samples.trace(samples.routers(3), StopReason.HOP_LIMIT))
    probing, asked = verbs.probing(), list[Trace]()

    def elsewhere(trace: Trace) -> tuple[Trace, ...]:
        asked.append(trace)
        return (others,)

    seen = virtual.run(observe(TARGET, probing, ZONES, elsewhere=elsewhere))
    controlled = seen.controlled
    assert (len(controlled.flows), len(controlled.ports)) == (3, 1)
    assert controlled.elsewhere == (others,)
    assert asked == [seen.trace]
    assert samples.DESTINATION in seen.places


@pytest.mark.parametrize(
    "verbs",
    [
        Verbs(handshake=UNHEARD),
        Verbs(canary=ANSWERED_CONTROL),
    ],
    ids=["the connect fails", "the canary answers"],
)
def test_an_open_target_that_is_suspicious_has_controls(verbs: Verbs) -> None:
    """What looks open although something speaks against it is looked at as what fails."""
    verbs.sounding = ANSWERED_CONTROL
    seen = observed(verbs)
    assert seen.controlled.ports
    assert seen.controlled.canary is verbs.canary


def test_the_verdict_rests_on_the_controls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judged once with them, and before to see whether they are wanted, unless that is plain."""
    judged: list[Controlled] = []

    def judge(trace: Trace | None, *, controlled: Controlled, **known: Any) -> Verdict:
        judged.append(controlled)
        return sound_judge(trace, controlled=controlled, **known)

    monkeypatch.setattr(observer, "judge", judge)
    verbs = Verbs(trace=BLOCKED, handshake=UNHEARD, sounding=SILENT_CONTROL)
    seen = observed(verbs)
    assert judged == [seen.controlled]
    judged.clear()
    observed(Verbs(trace=CLOSED, handshake=REFUSED, sounding=SILENT_CONTROL))
    assert len(judged) == 2
    judged.clear()
    virtual.run(observe(TARGET, Verbs().probing(), ZONES, SEEN_BEFORE))
    assert len(judged) == 1


def test_no_canary_beside_what_nobody_answers() -> None:
    """It would take an ICMP error from a router that has few, and tells nothing of silence."""
    verbs = Verbs(trace=BLOCKED, handshake=UNHEARD, canary=SILENT_CONTROL)
    assert observed(verbs).controlled.canary is None
    assert verbs.canaries == []


def test_a_reset_is_held_against_the_canary() -> None:
    """Whoever resets for an address that nobody has resets in others' names."""
    verbs = Verbs(trace=samples.closed().trace, handshake=UNHEARD, canary=ANSWERED_CONTROL)
    assert observed(verbs).controlled.canary is ANSWERED_CONTROL
    assert verbs.canaries == [443]


def test_a_target_may_do_without_a_canary() -> None:
    """Where it is switched off it is not asked."""
    verbs = Verbs(canary=ANSWERED_CONTROL)
    seen = observed(verbs, target=replace(TARGET, controls=Controls(canary=False)))
    assert (verbs.canaries, seen.controlled) == ([], Controlled())


@pytest.mark.parametrize(
    "verbs",
    [
        Verbs(addresses=ProbeError(Failure(FailureReason.RESOLVE, "does not resolve"))),
        Verbs(trace=ProbeError(NO_ROUTE)),
        Verbs(trace=samples.refused_by_host().trace),
    ],
    ids=["unresolved", "no trace", "the host refused"],
)
def test_where_the_host_fails_there_is_nothing_to_control(verbs: Verbs) -> None:
    """Without an address or a trace worth the name no control is made."""
    verbs.sounding = ANSWERED_CONTROL
    assert observed(verbs).controlled == Controlled()
    assert verbs.sounded == []


def test_controls_that_fail_disturb_nothing() -> None:
    """Where none can be made, the verdict is that of the trace alone."""
    alone = observed(Verbs(trace=BLOCKED, handshake=UNHEARD), target=NO_CONTROLS)
    seen = observed(Verbs(trace=BLOCKED, handshake=UNHEARD, sounding=NO_CONTROL))
    assert seen.controlled == Controlled()
    assert seen.verdict == alone.verdict


def test_bugs_in_controls_disturb_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Neither one in the canary nor one in what other targets show takes the verdict away."""

    def elsewhere(_trace: Trace) -> tuple[Trace, ...]:
        raise ZeroDivisionError

    verbs = Verbs(handshake=UNHEARD, canary=ZeroDivisionError())
    seen = virtual.run(observe(TARGET, verbs.probing(), ZONES, elsewhere=elsewhere))
    assert seen.failure is None
    assert seen.verdict.state is State.OPEN
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2


# -- what stays the same from trace to trace -------------------------------------------


def test_the_address_before_is_kept() -> None:
    """Of several addresses in any order the one traced before is traced again, from its port."""
    verbs = Verbs(addresses=["192.0.2.1", OTHER, samples.DESTINATION])
    known = {OTHER: Known(40001), samples.DESTINATION: Known(40002)}
    assert observed(verbs, known).address == samples.DESTINATION
    assert verbs.traced[0][:2] == (samples.DESTINATION, 40002)


def test_an_address_that_is_gone_is_given_up() -> None:
    """When the name has moved its first address is traced, from a new port."""
    verbs = Verbs(addresses=["192.0.2.1", OTHER])
    assert observed(verbs, {samples.DESTINATION: Known(40002)}).address == "192.0.2.1"
    assert verbs.traced[0][:2] == ("192.0.2.1", 0)


def test_an_address_of_the_other_family_is_not_kept() -> None:
    """When the system has come to prefer the other family, its address is traced."""
    verbs = Verbs(addresses=[SIX, samples.DESTINATION])
    assert observed(verbs, {samples.DESTINATION: Known(40002)}).address == SIX


def test_the_first_address_of_all() -> None:
    """Without a trace before, the system's first choice is traced."""
    verbs = Verbs(addresses=["192.0.2.9", samples.DESTINATION])
    observed(verbs)
    assert verbs.traced[0][:2] == ("192.0.2.9", 0)


@pytest.mark.parametrize("steady", [0, 1])
def test_what_answers_as_ever_is_traced_quickly(steady: int) -> None:
    """An address that is steady is checked, any other one is traced by the whole plan."""
    verbs = Verbs()
    observed(verbs, {samples.DESTINATION: Known(40002, OPEN.trace, steady)})
    assert verbs.plans == {samples.DESTINATION: replace(TARGET.plan, quick=bool(steady))}


# -- all addresses ---------------------------------------------------------------------


def test_every_address_is_traced_and_the_worst_one_is_the_targets() -> None:
    """One blocked address beside two open ones: its trace and state, and a sentence on all."""
    verbs = Verbs([SIX, samples.DESTINATION, OTHER], traces={OTHER: BLOCKED}, handshake=UNHEARD)
    seen = observed(verbs, target=ALL)
    assert [address for address, *_ in verbs.traced] == [SIX, samples.DESTINATION, OTHER]
    assert (seen.address, seen.verdict.state) == (OTHER, State.FILTERED)
    assert [one.address for one in seen.each] == [OTHER, SIX, samples.DESTINATION]
    assert [one.verdict.state for one in seen.each] == [State.FILTERED, State.OPEN, State.OPEN]
    assert seen.verdict.reason.startswith(
        f"1 of 3 addresses of {ALL.host} fails: {OTHER} is filtered, "
        f"{SIX} and {samples.DESTINATION} are open. Traffic to {OTHER}:443 is answered up to hop 6"
    )
    assert seen.trace
    assert seen.trace.flow.destination == OTHER


def test_addresses_are_traced_one_after_the_other() -> None:
    """Three seconds or more lie between the traces, for they cross the same first hops."""
    verbs = Verbs(addresses=[samples.DESTINATION, OTHER, SIX], connecting=4.0)
    observed(verbs, target=ALL)
    assert [began for *_, began in verbs.traced] == [0, 4, 8]
    hasty = Verbs(addresses=[samples.DESTINATION, OTHER, SIX])
    observed(hasty, target=ALL)
    assert [began for *_, began in hasty.traced] == [0, ADDRESS_SPACING, 2 * ADDRESS_SPACING]


def test_each_address_keeps_its_port() -> None:
    """Every address is traced from the port that it was traced from before."""
    known = {OTHER: Known(40001), samples.DESTINATION: Known(40002)}
    verbs = Verbs(addresses=[SIX, samples.DESTINATION, OTHER])
    observed(verbs, known, ALL)
    assert [flow[:2] for flow in verbs.traced] == [
        (OTHER, 40001),
        (samples.DESTINATION, 40002),
        (SIX, 0),
    ]


def test_eight_addresses_are_traced_and_the_others_named() -> None:
    """Those known stay among the eight; for the rest there is a line of evidence."""
    many = [f"192.0.2.{n}" for n in range(20)]
    verbs = Verbs(addresses=many)
    seen = observed(verbs, {"192.0.2.19": Known(40001)}, ALL)
    assert [address for address, *_ in verbs.traced] == ["192.0.2.19", *many[:7]]
    assert seen.verdict.evidence[-1] == (
        f"not traced, since a cycle has room for 8 addresses: {', '.join(many[7:15])} and 4 more"
    )


def test_an_address_that_cannot_be_traced_does_not_end_the_others() -> None:
    """A bug or a refusal at one address is that address's, and the others go on."""
    verbs = Verbs(
        addresses=[samples.DESTINATION, OTHER, SIX],
        traces={OTHER: ProbeError(NO_ROUTE), SIX: ZeroDivisionError()},
    )
    seen = observed(verbs, target=ALL)
    assert [one.verdict.state for one in seen.each] == [State.ERROR, State.ERROR, State.OPEN]
    assert [one.failure and one.failure.reason for one in seen.each] == [
        FailureReason.NO_ROUTE,
        FailureReason.INTERNAL,
        None,
    ]


def test_one_address_is_all() -> None:
    """A name with one address has no sentence on several."""
    seen = observed(Verbs(), target=ALL)
    assert [one.address for one in seen.each] == [samples.DESTINATION]
    assert seen.verdict == seen.each[0].verdict


def test_a_name_without_an_address_has_none_to_trace() -> None:
    """Where the look-up fails there are no addresses, with all_addresses as without."""
    failure = Failure(FailureReason.RESOLVE, "db.example does not resolve")
    seen = observed(Verbs(addresses=ProbeError(failure)), target=ALL)
    assert (seen.verdict.state, seen.each) == (State.UNRESOLVED, ())


# -- what fails ------------------------------------------------------------------------


def test_a_name_that_does_not_resolve() -> None:
    """Without an address nothing is traced, and the state is unresolved."""
    failure = Failure(FailureReason.RESOLVE, "db.example does not resolve")
    verbs = Verbs(addresses=ProbeError(failure))
    seen = observed(verbs)
    assert (seen.failure, seen.address, seen.trace) == (failure, None, None)
    assert seen.verdict.state is State.UNRESOLVED
    assert verbs.traced == []


@pytest.mark.parametrize("reason", [r for r in FailureReason if r is not FailureReason.RESOLVE])
def test_a_trace_that_cannot_begin(reason: FailureReason) -> None:
    """Without a trace the state is error, and the application's view is kept."""
    failure = Failure(reason, "said why")
    seen = observed(Verbs(trace=ProbeError(failure), handshake=REFUSED))
    assert (seen.failure, seen.trace, seen.handshake) == (failure, None, REFUSED)
    assert seen.verdict.state is State.ERROR
    assert "said why" in seen.verdict.reason


def test_a_trace_that_ended_early() -> None:
    """The failure inside a trace is the observation's, and the trace is kept."""
    stuck = samples.refused_by_host()
    seen = observed(Verbs(trace=stuck.trace))
    assert seen.trace
    assert seen.failure == stuck.failure
    assert seen.verdict.state is State.ERROR


@pytest.mark.parametrize(
    "verbs",
    [
        Verbs(addresses=ZeroDivisionError()),
        Verbs(addresses=[]),
        Verbs(trace=ZeroDivisionError()),
        Verbs(handshake=ZeroDivisionError()),
    ],
    ids=["resolve", "no-address", "trace", "connect"],
)
def test_a_bug_becomes_an_observation(verbs: Verbs, caplog: pytest.LogCaptureFixture) -> None:
    """A fault of the program is logged with its traceback and becomes an internal error."""
    seen = observed(verbs)
    assert seen.failure
    assert seen.failure.reason is FailureReason.INTERNAL
    assert seen.verdict.state is State.ERROR
    (record,) = (record for record in caplog.records if record.name == "exporter.observer")
    assert record.levelno == logging.ERROR
    assert record.exc_info


def test_a_bug_in_the_verdict_becomes_an_observation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace that cannot be judged is kept, and the state is error."""

    def judge(trace: Trace | None, *, zones: ZoneMap, failure: Failure, **_: object) -> Verdict:
        if trace:
            raise KeyError("bug")
        return sound_judge(trace, zones=zones, failure=failure)

    monkeypatch.setattr(observer, "judge", judge)
    seen = observed(Verbs())
    assert seen.trace
    assert seen.failure == Failure(FailureReason.INTERNAL, "internal error (KeyError)")
    assert seen.verdict.state is State.ERROR


def test_without_an_engine() -> None:
    """A process that has no engine still resolves and connects, and says what is missing."""
    verbs = Verbs()
    probing = Probing(verbs.resolve, refusing("CAP_NET_RAW is missing"), verbs.connect)
    seen = virtual.run(observe(TARGET, probing, ZONES))
    assert seen.failure
    assert seen.failure.reason is FailureReason.PERMISSION
    assert "CAP_NET_RAW is missing" in seen.verdict.reason
    assert seen.handshake is CONNECTED


# -- cancellation ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verbs", "cancelled"),
    [
        (Verbs(addresses=None), {"resolve"}),
        (Verbs(trace=None), {"trace"}),
        (Verbs(handshake=None), {"connect"}),
        (Verbs(trace=None, handshake=None), {"trace", "connect"}),
    ],
    ids=["resolve", "trace", "connect", "both"],
)
def test_cancellation_is_prompt(verbs: Verbs, cancelled: set[str]) -> None:
    """Wherever a cycle hangs, cancelling it ends everything it has begun, at once."""

    async def main() -> None:
        cycle = asyncio.create_task(observe(TARGET, verbs.probing(), ZONES))
        await asyncio.sleep(1)
        cycle.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cycle
        await virtual.settle()
        assert virtual.now() == 1
        assert set(verbs.cancelled) == cancelled
        assert asyncio.all_tasks() == {asyncio.current_task()}

    virtual.run(main())


def test_cancellation_ends_the_canary() -> None:
    """A cycle that waits for the canary alone ends with it."""
    verbs, ended = Verbs(), list[str]()

    async def ask(_address: str, _port: int) -> Trace | None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("canary")
        return None

    async def main() -> None:
        probing = replace(verbs.probing(), canary=ask)
        cycle = asyncio.create_task(observe(TARGET, probing, ZONES))
        await asyncio.sleep(1)
        cycle.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cycle
        await virtual.settle()
        assert ended == ["canary"]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    virtual.run(main())
