"""Whatever order, loss, delay or duplication does, what a trace says stays true."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.diagnosis.verdict import judge
from exporter.model import (
    BLOCKED_STATES,
    REACHED_STATES,
    TCP_KINDS,
    Answer,
    Confidence,
    Flow,
    Location,
    Plan,
    Reply,
    ReplyKind,
    State,
    StopReason,
    Trace,
    Verdict,
)
from exporter.probing.tracer import CONFIRMATIONS, LOSSY_CONFIRMATIONS
from tests.scenarios import ACTIONS, FAMILIES, Rule, Scenario
from tests.simulated.chains import (
    CLOSED_PORT,
    OPEN_PORT,
    TCP_ACTIONS,
    answering_routers,
    chain,
    ending,
    farthest_reachable,
    zones_of,
)
from tests.simulated.network import (
    REFUSALS,
    Conditions,
    SendError,
    SimulatedNetwork,
    fate,
)
from tests.simulated.run import trace, trace_many, trace_over

#: The tracer's own deadline is 30 s; an answer may be waited for a little longer.
LONGEST_TRACE = 31.0

#: The same examples in every run: a failure here is a change's, not the day's.
repeatable = settings(max_examples=200, derandomize=True)

seeds = st.integers(0, 2**32 - 1)
ports = st.sampled_from((OPEN_PORT, CLOSED_PORT))
plans = st.builds(
    Plan,
    max_hops=st.integers(1, 30),
    attempts=st.integers(1, 5),
    timeout=st.sampled_from((0.5, 1.0, 2.0)),
)


def conditions(losses: st.SearchStrategy[float]) -> st.SearchStrategy[Conditions]:
    """Networks from calm to bad, with so much loss."""
    return st.builds(
        Conditions,
        seed=seeds,
        loss=losses,
        jitter=st.sampled_from((0.0, 0.01, 0.1)),
        reorder=st.sampled_from((0.0, 0.2)),
        duplicate=st.sampled_from((0.0, 0.3)),
        icmp_rate=st.sampled_from((1.0, None)),
        answers_from_attempt=st.integers(1, 3),
    )


any_conditions = conditions(st.floats(0.0, 0.9))
lossy = conditions(st.floats(0.0, 0.4))
lossless = conditions(st.just(0.0))


@st.composite
def chains(
    draw: st.DrawFn, actions: tuple[str, ...] = ACTIONS, firewalls: int = 1, silent: int = 4
) -> Scenario:
    """Chains with up to so many silent routers; with a firewall, no destination, or neither."""
    hops = draw(st.integers(1, 20))
    hop = st.integers(1, hops)
    rule = st.builds(
        lambda hop, action, early: Rule(hop, action, _chain_at(hop, hops, early=early)),
        hop,
        st.sampled_from(actions),
        st.booleans(),
    )
    return chain(
        hops,
        rules=tuple(draw(st.lists(rule, max_size=firewalls))),
        silent=tuple(draw(st.lists(hop, max_size=silent, unique=True))),
        delay=draw(st.sampled_from((0.0, 0.001, 0.01))),
        platform_hops=draw(st.integers(0, hops)),
        destination_exists=draw(st.booleans()) if firewalls else True,
        family=draw(st.sampled_from(FAMILIES)),
    )


def _chain_at(hop: int, hops: int, *, early: bool) -> str:
    if early:
        return "ingress"
    return "input" if hop == hops else "forward"


#: Chains through which everything passes.
clear_chains = chains(firewalls=0)


def verdict_of(scenario: Scenario, result: Trace) -> Verdict:
    """The verdict with the scenario's own networks as the platform."""
    return judge(result, zones=zones_of(scenario))


# -- traces ----------------------------------------------------------------------------


@repeatable
@given(chains(), ports, plans, any_conditions)
def test_a_trace_keeps_its_bounds(
    scenario: Scenario, port: int, plan: Plan, conditions: Conditions
) -> None:
    """A trace ends in time and sends no more than its plan allows."""
    result = trace(scenario, port, plan, conditions)
    assert 0.0 <= result.duration <= LONGEST_TRACE
    assert [hop.ttl for hop in result.hops] == list(range(1, len(result.hops) + 1))
    assert len(result.hops) <= plan.max_hops
    # Over a lossy path each additional confirmation asks the next hops once more.
    most = plan.attempts + LOSSY_CONFIRMATIONS - CONFIRMATIONS
    assert all(hop.received <= hop.sent <= most for hop in result.hops)
    if conditions.loss == 0 and conditions.icmp_rate is None:
        assert all(hop.sent <= plan.attempts for hop in result.hops)
    assert result.confirmation is None or result.confirmation.sent <= LOSSY_CONFIRMATIONS


@repeatable
@given(chains(), ports, plans, any_conditions)
def test_every_answer_is_from_the_path(
    scenario: Scenario, port: int, plan: Plan, conditions: Conditions
) -> None:
    """A hop shows the device that ended the way of its probes, and no other."""
    for answer in trace(scenario, port, plan, conditions).answers:
        end = fate(scenario, answer.probe.ttl, port)
        in_its_name = end.action in TCP_ACTIONS
        own = scenario.address(end.hop) if end.hop else scenario.source
        assert answer.reply.address == (scenario.destination if in_its_name else own)
        assert in_its_name == (answer.reply.kind in TCP_KINDS)
        assert answer.rtt >= 0.0


class Repeating(SimulatedNetwork):
    """A network whose engine hands on each answer again with whatever comes later."""

    def __init__(self, scenario: Scenario, conditions: Conditions) -> None:
        super().__init__(scenario, conditions)
        self.first: dict[tuple[Flow, int, int], Answer] = {}

    def receive(self) -> Iterable[tuple[Flow, Answer]]:
        """The new answers and, as if just received, the old ones."""
        fresh = list(super().receive())
        now = self.clock()
        again = [
            (flow, Answer(old.probe, _received(old, now)))
            for (flow, _, _), old in self.first.items()
        ]
        for flow, answer in fresh:
            self.first[flow, answer.probe.ttl, answer.probe.attempt] = answer
        return [*again, *fresh] if fresh else []


@repeatable
@given(chains(), ports, any_conditions)
def test_the_first_answer_counts(scenario: Scenario, port: int, conditions: Conditions) -> None:
    """A duplicate never replaces the first answer, nor its round-trip time."""
    network = Repeating(scenario, conditions)
    (result,) = trace_over(network, [(scenario.destination, port)])
    for answer in result.answers:
        assert answer == network.first[result.flow, answer.probe.ttl, answer.probe.attempt]


@repeatable
@given(chains(), ports, any_conditions)
def test_found_routers_exist(scenario: Scenario, port: int, conditions: Conditions) -> None:
    """The routers that a trace names stand where it says."""
    found = routers(trace(scenario, port, conditions=conditions))
    assert found.items() <= answering_routers(scenario, port).items()


@repeatable
@given(chains(), ports, lossless)
def test_without_loss_every_router_is_found(
    scenario: Scenario, port: int, conditions: Conditions
) -> None:
    """Without loss a trace finds every router that answers, however late or mixed up."""
    found = routers(trace(scenario, port, conditions=conditions))
    assert found == answering_routers(scenario, port)


@repeatable
@given(clear_chains, ports, lossless)
def test_without_loss_the_destination_is_found(
    scenario: Scenario, port: int, conditions: Conditions
) -> None:
    """Without loss a trace reaches the destination at its distance."""
    result = trace(scenario, port, conditions=conditions)
    assert result.stop_reason is StopReason.DESTINATION
    assert result.distance == scenario.hops


@pytest.mark.parametrize(
    ("error", "stop_reason"),
    [
        (SendError(1, 2), StopReason.DESTINATION),
        (SendError(8, 10), StopReason.DESTINATION),
        (SendError(1, 10**6), StopReason.SEND_FAILED),
        (SendError(8, 10**6), StopReason.SEND_FAILED),
    ],
)
def test_refusals_of_the_host(error: SendError, stop_reason: StopReason) -> None:
    """A trace outlives a few refused sends, and names the failure when there is no end of them."""
    result = trace(chain(12), OPEN_PORT, conditions=Conditions(send_errors=(error,)))
    assert result.stop_reason is stop_reason
    assert result.failure == (error.failure if stop_reason is StopReason.SEND_FAILED else None)


def routers(result: Trace) -> dict[int, str]:
    """TTL -> the router that said that a probe had expired."""
    return {
        answer.probe.ttl: answer.reply.address
        for answer in result.answers
        if answer.reply.kind is ReplyKind.TIME_EXCEEDED
    }


# -- verdicts --------------------------------------------------------------------------


@repeatable
@given(clear_chains, ports, lossy)
def test_loss_is_no_block(scenario: Scenario, port: int, conditions: Conditions) -> None:
    """A loss of 40 % in each direction never turns a target that answers into a blocked one."""
    verdict = verdict_of(scenario, trace(scenario, port, conditions=conditions))
    assert verdict.state in REACHED_STATES | {State.INCONCLUSIVE}, verdict.reason


@repeatable
@given(clear_chains, ports, lossless)
def test_without_loss_a_target_that_answers_is_reached(
    scenario: Scenario, port: int, conditions: Conditions
) -> None:
    """Without loss an open port is open and a closed one closed, at the destination's distance."""
    verdict = verdict_of(scenario, trace(scenario, port, conditions=conditions))
    assert verdict.state == (State.OPEN if port == OPEN_PORT else State.CLOSED), verdict.reason
    assert verdict.last_reachable_hop == scenario.hops


@pytest.mark.parametrize("port", [OPEN_PORT, CLOSED_PORT])
def test_heavy_loss_far_away_is_no_block(port: int) -> None:
    """A target 24 hops away is never called blocked in 300 traces that lose 40 % each way."""
    scenario = chain(24)
    states = {
        seed: verdict_of(scenario, trace(scenario, port, conditions=Conditions(seed, 0.4))).state
        for seed in range(300)
    }
    blocked = {seed: state for seed, state in states.items() if state in BLOCKED_STATES}
    assert blocked == {}


# `reset` is not judged yet: who resets looks like the destination, one hop farther than it is.
@repeatable
@given(chains(tuple(action for action in ACTIONS if action != "tcp-reset")), ports, lossy)
def test_no_verdict_reaches_too_far(scenario: Scenario, port: int, conditions: Conditions) -> None:
    """The last reachable hop is not beyond the farthest device that can answer.

    Where every SYN that just reaches the destination is lost it seems a hop farther; then its
    reply's own TTL says otherwise, and the verdict must not be sure of itself.
    """
    verdict = verdict_of(scenario, trace(scenario, port, conditions=conditions))
    if verdict.confidence is Confidence.HIGH or verdict.state not in REACHED_STATES:
        assert verdict.last_reachable_hop <= farthest_reachable(scenario, port), verdict.reason


@repeatable
@given(chains(REFUSALS), ports, lossy)
def test_the_suspects_contain_who_refuses(
    scenario: Scenario, port: int, conditions: Conditions
) -> None:
    """A device that refuses by ICMP is among the suspects, whatever was lost on the way."""
    end = ending(scenario, port)
    suspects = verdict_of(scenario, trace(scenario, port, conditions=conditions)).suspect_hops
    if end.action in REFUSALS and end.hop not in scenario.silent and suspects:
        assert suspects[0] <= end.hop <= suspects[1]


@repeatable
@given(chains(("drop",), silent=0), ports, lossless)
def test_the_suspects_contain_who_drops(
    scenario: Scenario, port: int, conditions: Conditions
) -> None:
    """Where every router answers and nothing is lost, who drops is among the suspects."""
    end = ending(scenario, port)
    suspects = verdict_of(scenario, trace(scenario, port, conditions=conditions)).suspect_hops
    if end.action == "drop" and suspects:
        assert suspects[0] <= end.hop <= suspects[1]


@repeatable
@given(chains(), ports, any_conditions)
def test_external_is_never_said_wrongly(
    scenario: Scenario, port: int, conditions: Conditions
) -> None:
    """Whoever blocks inside the platform, a trace never puts the blame outside."""
    end = ending(scenario, port)
    verdict = verdict_of(scenario, trace(scenario, port, conditions=conditions))
    if end.hop <= scenario.platform_hops:
        assert verdict.location is not Location.EXTERNAL, verdict.reason


#: Who refuses 20 targets at once at the platform's second hop, of three.
PLATFORM_FIREWALLS = {
    f"{action}-{place}": chain(12, rules=(Rule(2, action, place),), platform_hops=3)
    for action in ("drop", "port-unreachable", "admin-prohibited", "host-unreachable")
    for place in ("forward", "ingress")
}
TWENTY = [(f"10.9.11.{host}", OPEN_PORT) for host in range(2, 22)]


@pytest.mark.parametrize("scenario", PLATFORM_FIREWALLS.values(), ids=PLATFORM_FIREWALLS)
@pytest.mark.parametrize("seed", range(3))
def test_twenty_blocked_targets_at_once(scenario: Scenario, seed: int) -> None:
    """Twenty targets over a few rate-limited hops share the answers; none is blamed outside."""
    results = trace_many(scenario, TWENTY, conditions=Conditions(seed, jitter=0.005 * seed))
    locations = {verdict_of(scenario, result).location for result in results}
    assert Location.EXTERNAL not in locations


@pytest.mark.parametrize("icmp_burst", [6, 1])
@pytest.mark.parametrize("port", [OPEN_PORT, CLOSED_PORT])
def test_twenty_reachable_targets_at_once(port: int, icmp_burst: int) -> None:
    """Twenty targets over silent-looking first hops are reached all the same."""
    endpoints = [(destination, port) for destination, _ in TWENTY]
    scenario = chain(12, platform_hops=3)
    results = trace_many(scenario, endpoints, conditions=Conditions(icmp_burst=icmp_burst))
    states = {verdict_of(scenario, result).state for result in results}
    assert states == {State.OPEN if port == OPEN_PORT else State.CLOSED}


@pytest.mark.parametrize("action", ["drop", "port-unreachable"])
def test_one_external_block_among_twenty(action: str) -> None:
    """Of twenty targets one is blocked outside, and its verdict does not blame the platform."""
    rule = Rule(6, action, ports=(CLOSED_PORT,))
    scenario = chain(12, rules=(rule,), platform_hops=3)
    results = trace_many(scenario, [*TWENTY[:-1], (scenario.destination, CLOSED_PORT)])
    verdicts = [verdict_of(scenario, result) for result in results]
    assert {verdict.state for verdict in verdicts[:-1]} == {State.OPEN}
    assert verdicts[-1].state in BLOCKED_STATES | {State.INCONCLUSIVE}
    assert verdicts[-1].location is not Location.PLATFORM


def _received(answer: Answer, now: float) -> Reply:
    return answer.reply._replace(received_at=now)
