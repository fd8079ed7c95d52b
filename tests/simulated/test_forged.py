"""Whoever answers in the destination's name, whatever is lost: who it was is not told wrongly.

A firewall anywhere on the way resets a port, or a proxy accepts it, before its TTL check or after.
Other ports of the destination pass, or no control is made at all. A proxy is a firewall whose RSTs
are read as SYN-ACKs, and an engine that does not see reply TTLs one whose replies lose them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.diagnosis.verdict import judge
from exporter.model import (
    TCP_KINDS,
    Answer,
    Confidence,
    Controlled,
    Hop,
    Location,
    Reply,
    ReplyKind,
    State,
    Trace,
    Verdict,
)
from tests.scenarios import FAMILIES, Rule, Scenario
from tests.simulated.chains import CLOSED_PORT, chain, zones_of
from tests.simulated.controls import controlled
from tests.simulated.network import Conditions, SimulatedNetwork, fate
from tests.simulated.run import trace_over

#: The same examples in every run: a failure here is a change's, not the day's.
repeatable = settings(max_examples=120, derandomize=True)

Alter = Callable[[Scenario, Answer, int], Reply]


@dataclass(frozen=True, slots=True)
class Cycle:
    """A trace to `CLOSED_PORT` and the controls beside it, 443 open and 80 closed."""

    scenario: Scenario
    trace: Trace
    controlled: Controlled

    def seen(self, alter: Alter) -> Cycle:
        """The same with other replies."""
        return replace(
            self,
            trace=self._seen(self.trace, alter),
            controlled=Controlled(
                flows=tuple(self._seen(one, alter) for one in self.controlled.flows),
                ports=tuple(self._seen(one, alter) for one in self.controlled.ports),
            ),
        )

    def _seen(self, trace: Trace, alter: Alter) -> Trace:
        def altered(hop: Hop) -> Hop:
            port = trace.flow.destination_port
            answers = (a._replace(reply=alter(self.scenario, a, port)) for a in hop.answers)
            return replace(hop, answers=tuple(answers))

        full = trace.confirmation and altered(trace.confirmation)
        return replace(trace, hops=tuple(map(altered, trace.hops)), confirmation=full)

    def verdict(self, *, alone: bool = False) -> Verdict:
        """What is said of it, without the controls where the trace is alone."""
        beside = Controlled() if alone else self.controlled
        return judge(self.trace, zones=zones_of(self.scenario), controlled=beside)

    @property
    def forger(self) -> int | None:
        """The hop of who speaks in the destination's name."""
        rules = self.scenario.rules
        return rules[0].hop if rules else None


def accepting(scenario: Scenario, answer: Answer, port: int) -> Reply:
    """What resets here accepts."""
    forged = fate(scenario, answer.probe.ttl, port).action == "tcp-reset"
    return answer.reply._replace(kind=ReplyKind.SYN_ACK) if forged else answer.reply


def blind(_scenario: Scenario, answer: Answer, _port: int) -> Reply:
    """The connect engine does not see with which TTL TCP answers arrive."""
    reply = answer.reply
    return reply._replace(ttl=None) if reply.kind in TCP_KINDS else reply


@st.composite
def cycles(
    draw: st.DrawFn, loss: float = 0.0, *, forged: bool | None = None, silent: float = 0.2
) -> Cycle:
    """Chains of 2 to 16 hops, with a forger for `CLOSED_PORT` at any hop, or without one."""
    hops = draw(st.integers(2, 16))
    rules: tuple[Rule, ...] = ()
    if draw(st.booleans()) if forged is None else forged:
        at = draw(st.sampled_from(("forward", "ingress")))
        rules = (Rule(draw(st.integers(1, hops - 1)), "tcp-reset", at, (CLOSED_PORT,)),)
    scenario = chain(
        hops,
        rules=rules,
        silent=tuple(hop for hop in range(1, hops) if draw(st.floats(0, 1)) < silent),
        delay=draw(st.sampled_from((0.0, 0.001, 0.01))),
        platform_hops=draw(st.integers(0, hops)),
        family=draw(st.sampled_from(FAMILIES)),
    )
    conditions = Conditions(
        seed=draw(st.integers(0, 2**32 - 1)),
        loss=draw(st.floats(0.0, loss)),
        jitter=draw(st.sampled_from((0.0, 0.01, 0.1))),
        reorder=draw(st.sampled_from((0.0, 0.2))),
        duplicate=draw(st.sampled_from((0.0, 0.3))),
    )
    network = SimulatedNetwork(scenario, conditions)
    (trace,) = trace_over(network, [(scenario.destination, CLOSED_PORT)])
    return Cycle(scenario, trace, controlled(network, trace))


def accuses_rightly(cycle: Cycle, verdict: Verdict) -> bool:
    """Whether a blocked state names suspects with the forger among them, and his side or none."""
    suspects, forger = verdict.suspect_hops, cycle.forger
    if suspects is None or forger is None:
        return suspects is None
    inside = forger <= cycle.scenario.platform_hops
    wrong = Location.EXTERNAL if inside else Location.PLATFORM
    return suspects[0] <= forger <= suspects[1] and verdict.location is not wrong


# -- with a control that passes, and nothing lost --------------------------------------


@repeatable
@given(cycles())
def test_an_rst_is_told_from_a_forged_one(cycle: Cycle) -> None:
    """Where nothing is lost and a control passes, `reset` and `closed` are told apart, always."""
    verdict = cycle.verdict()
    assert verdict.state is (State.RESET if cycle.forger else State.CLOSED), verdict.reason
    assert accuses_rightly(cycle, verdict), verdict.reason


@repeatable
@given(cycles(forged=True))
def test_a_proxy_is_told_from_the_destination(cycle: Cycle) -> None:
    """The same for who accepts: `intercepted`, where the proxy stands, and nothing is blocked."""
    verdict = cycle.seen(accepting).verdict()
    assert (verdict.state, verdict.location) == (State.INTERCEPTED, Location.NONE), verdict.reason
    # Where nobody on the way says time-exceeded, it may be the hop before.
    assert cycle.forger in {verdict.last_reachable_hop, verdict.last_reachable_hop + 1}
    assert (verdict.blocked_at_hop, verdict.suspect_hops, verdict.blocked_by) == (0, None, None)


@repeatable
@given(cycles(forged=True))
def test_the_range_of_a_forger_is_narrow(cycle: Cycle) -> None:
    """A control that passes leaves at most two suspects."""
    first, last = cycle.verdict().suspect_hops or (0, 99)
    assert last - first <= 1


@repeatable
@given(cycles(forged=False, silent=0.0))
def test_the_destination_of_a_chain_that_answers_is_known(cycle: Cycle) -> None:
    """Who is closed stands at his own distance, and the network lets the traffic through."""
    verdict = cycle.verdict()
    assert (verdict.state, verdict.blocked_at_hop) == (State.CLOSED, 0)
    assert verdict.last_reachable_hop == cycle.scenario.hops


# -- with loss, or without eyes --------------------------------------------------------


@repeatable
@given(cycles(loss=0.4), st.booleans())
def test_loss_makes_no_forger(cycle: Cycle, alone: bool) -> None:  # noqa: FBT001 - drawn
    """Whatever is lost, nobody is accused of an RST of the destination's own, nor another hop's."""
    verdict = cycle.verdict(alone=alone)
    if verdict.state is State.RESET:
        assert cycle.forger, verdict.reason
        assert accuses_rightly(cycle, verdict), verdict.reason


@repeatable
@given(cycles(loss=0.4), st.booleans())
def test_nothing_wrong_is_said_with_high_confidence(cycle: Cycle, alone: bool) -> None:  # noqa: FBT001
    """What is said with high confidence is the truth, for who resets and for who accepts."""
    for seen, forged, genuine in (
        (cycle, State.RESET, State.CLOSED),
        (cycle.seen(accepting), State.INTERCEPTED, State.CLOSED),
    ):
        verdict = seen.verdict(alone=alone)
        if verdict.confidence is Confidence.HIGH:
            assert verdict.state is (forged if cycle.forger else genuine), verdict.reason


@repeatable
@given(cycles(loss=0.2))
def test_an_engine_without_reply_ttls_is_never_wrong(cycle: Cycle) -> None:
    """It says `reset` where a router stands behind who resets, else that it cannot tell."""
    verdict = cycle.seen(blind).verdict()
    told = State.RESET if cycle.forger else State.INCONCLUSIVE
    assert verdict.state in {told, State.INCONCLUSIVE}, verdict.reason
    assert accuses_rightly(cycle, verdict), verdict.reason
    assert verdict.confidence is not Confidence.HIGH


# -- other ways back -------------------------------------------------------------------


@repeatable
@given(cycles(), st.integers(1, 16), st.integers(-6, 6))
def test_another_way_back_makes_no_forger(cycle: Cycle, start: int, longer: int) -> None:
    """From some hop on all answers come back another way: nobody is accused who stands elsewhere.

    What can be wrong is `closed`, where the destination's way back is as much shorter as the
    firewall is nearer, and then it is not said with high confidence.
    """

    def returning(scenario: Scenario, answer: Answer, port: int) -> Reply:
        ttl, hop = answer.reply.ttl or 0, fate(scenario, answer.probe.ttl, port).hop
        return answer.reply._replace(ttl=min(ttl - longer * (hop >= start), 64))

    verdict = cycle.seen(returning).verdict()
    if verdict.state is State.RESET:
        assert cycle.forger, verdict.reason
        assert accuses_rightly(cycle, verdict), verdict.reason
    elif cycle.forger:
        assert verdict.confidence is not Confidence.HIGH, verdict.reason


def test_a_closed_port_far_away_is_never_reset() -> None:
    """A closed port 24 hops away is not called reset in 100 cycles that lose 40 % each way."""
    for seed in range(100):
        network = SimulatedNetwork(chain(24), Conditions(seed, 0.4, jitter=0.05))
        (trace,) = trace_over(network, [(network.scenario.destination, CLOSED_PORT)])
        verdict = Cycle(network.scenario, trace, controlled(network, trace)).verdict()
        assert verdict.state is not State.RESET, f"seed {seed}: {verdict.reason}"
