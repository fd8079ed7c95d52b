"""One cycle of one target: whatever goes wrong, an observation comes out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar, cast

import pytest

from exporter import observer
from exporter.diagnosis.verdict import judge as sound_judge
from exporter.diagnosis.zones import ZoneMap
from exporter.model import (
    Failure,
    FailureReason,
    Family,
    Flow,
    Handshake,
    Known,
    Observation,
    Plan,
    ProbeError,
    ReplyKind,
    State,
    StopReason,
    Surroundings,
    Target,
    Trace,
    Verdict,
)
from exporter.observer import ADDRESS_SPACING, NOTHING_KNOWN, Probing, observe, refusing
from tests.unit import samples, virtual

T = TypeVar("T")
TARGET = samples.target()
ALL = replace(TARGET, host="db.example", all_addresses=True)
OTHER, SIX = "10.9.11.3", "fd09:0:0:b::2"
OPEN = samples.opened()
BLOCKED = cast("Trace", samples.filtered().trace)
ZONES = ZoneMap(())
CONNECTED = Handshake(success=True, duration=0.012)
REFUSED = Handshake(success=False, duration=0.012, error="Connection refused")
UNHEARD = Handshake(success=False, duration=3.2, error="no answer within 3.2 s")
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
    cancelled: list[str] = field(default_factory=list)
    #: What was begun, in order.
    order: list[str] = field(default_factory=list)

    async def resolve(self, _host: str, _port: int, _family: Family) -> list[str]:
        """Look up."""
        return await self._give("resolve", self.addresses)

    async def probe(self, address: str, port: int, _plan: Plan, source_port: int) -> Trace:
        """Trace to the address that is asked for."""
        self.order.append("trace")
        self.traced.append((address, source_port, virtual.now()))
        made = await self._give("trace", self.traces.get(address, self.trace))
        return replace(made, flow=Flow(samples.SOURCE, source_port or 33434, address, port))

    async def connect(self, _address: str, _port: int) -> Handshake:
        """Connect."""
        self.order.append("connect")
        await asyncio.sleep(self.connecting)
        return await self._give("connect", self.handshake)

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
        """All three as the observer takes them."""
        return Probing(self.resolve, self.probe, self.connect if connects else None)


def observed(
    verbs: Verbs, known: Mapping[str, Known] = NOTHING_KNOWN, target: Target = TARGET
) -> Observation:
    """One cycle in virtual time."""
    return virtual.run(observe(target, verbs.probing(), ZONES, known))


# -- what is observed ------------------------------------------------------------------


def test_a_cycle_that_succeeds() -> None:
    """An observation has address, trace, handshake, zones and verdict, and no failure."""
    seen = observed(Verbs())
    assert seen.target is TARGET
    assert seen.address == samples.DESTINATION
    assert seen.trace
    assert seen.handshake is CONNECTED
    assert seen.failure is None
    assert seen.verdict.state is State.OPEN
    assert set(seen.zones) == {answer.reply.address for answer in seen.trace.answers}
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
