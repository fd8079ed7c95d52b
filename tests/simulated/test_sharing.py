"""Traces that share their first hops: nothing is lost, nothing is wrong, and changes show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from exporter.diagnosis.verdict import judge
from exporter.diagnosis.zones import ZoneMap
from exporter.model import Plan, State, StopReason, Trace
from tests.scenarios import Rule
from tests.simulated.chains import CLOSED_PORT, OPEN_PORT
from tests.simulated.crowds import (
    DROPPED_PORT,
    FIREWALL_HOP,
    REJECTED_PORT,
    SHARED_HOPS,
    Crowd,
    Endpoint,
    Rounds,
    endpoints,
    middle_firewall,
    probes,
    routers,
    whole,
)
from tests.simulated.network import Conditions

MOVED = "10.99.0.3"
#: The farthest hop that shows itself as a router, by port.
LAST_ROUTER = {
    OPEN_PORT: 11,
    CLOSED_PORT: 11,
    DROPPED_PORT: FIREWALL_HOP,
    REJECTED_PORT: FIREWALL_HOP,
}
STATE = {
    OPEN_PORT: State.OPEN,
    CLOSED_PORT: State.CLOSED,
    DROPPED_PORT: State.FILTERED,
    REJECTED_PORT: State.REJECTED,
}


def steady(endpoint: Endpoint) -> Plan:
    """Quick for what is well, as the schedule has it."""
    return Plan(quick=endpoint[1] in {OPEN_PORT, CLOSED_PORT})


def truth(network: Crowd, endpoint: Endpoint) -> dict[int, str]:
    """TTL -> the router that would answer one prober alone."""
    address, port = endpoint
    return {ttl: network.address_of(address, ttl) for ttl in range(1, LAST_ROUTER[port] + 1)}


def settled(number: int, shared: int = SHARED_HOPS, **conditions: float) -> Rounds:
    """A crowd that has been traced three times: whole, then as the schedule has it."""
    rounds = Rounds(Crowd(middle_firewall(), Conditions(**conditions), shared))  # type: ignore[arg-type]
    rounds.run(endpoints(number), whole)
    rounds.run(endpoints(number), steady, rounds=2)
    return rounds


def shares(traces: dict[Endpoint, Trace], network: Crowd) -> Iterator[tuple[int, int, int]]:
    """For each trace how many hops it shows rightly, wrongly, and should show."""
    for endpoint, trace in traces.items():
        shown, true = routers(trace), truth(network, endpoint)
        right = sum(shown.get(ttl) == address for ttl, address in true.items())
        yield right, len(shown) - right, len(true)


@pytest.mark.parametrize("number", [10, 100, 200])
def test_every_hop_is_shown_and_none_is_wrong(number: int) -> None:
    """However many share a limited router, each trace shows the whole path, from the first on."""
    rounds = Rounds(Crowd(middle_firewall()))
    for plan in (whole, steady, steady):
        [traces] = rounds.run(endpoints(number), plan)
        for endpoint, trace in traces.items():
            assert routers(trace) == truth(rounds.network, endpoint)


@pytest.mark.parametrize("number", [10, 100, 200])
def test_states_are_those_of_a_trace_alone(number: int) -> None:
    """What a spared trace means is what a whole one means."""
    rounds, zones = settled(number), ZoneMap(())
    [traces] = rounds.run(endpoints(number), steady)
    for (_, port), trace in traces.items():
        verdict = judge(trace, zones=zones)
        assert verdict.state is STATE[port]
        assert verdict.last_reachable_hop == trace.distance or LAST_ROUTER[port]


def test_shared_routers_are_not_asked_more_than_they_answer() -> None:
    """Nine of ten probes that reach a limited router of the first hops are answered."""
    rounds = settled(100)
    [traces] = rounds.run(endpoints(100), steady)
    near = [hop for trace in traces.values() for hop in trace.hops[:SHARED_HOPS]]
    assert sum(hop.received for hop in near) >= 0.9 * sum(hop.sent for hop in near)


def test_a_target_costs_less_in_a_larger_crowd() -> None:
    """The probes of a target get fewer, not more, with the number of targets."""
    each = []
    for number in (10, 100, 200):
        [traces] = settled(number).run(endpoints(number), steady)
        each.append(probes(traces.values()) / number)
    assert each == sorted(each, reverse=True)


def test_a_hop_that_was_not_asked_claims_no_probe() -> None:
    """Shared answers stand beside the hop's own, which are none, and its probes, which are none."""
    [traces] = settled(100).run(endpoints(100), steady)
    spared = [hop for trace in traces.values() for hop in trace.hops if not hop.sent]
    assert spared
    for hop in spared:
        assert hop.shared
        assert not hop.answers
        assert hop.ttl <= SHARED_HOPS


def test_a_replaced_shared_router_shows_everywhere_within_two_rounds() -> None:
    """When all targets' way changes at a shared hop, each of them shows it in the second round."""
    rounds = settled(100)
    rounds.network.moved[3, None] = MOVED
    _, traces = rounds.run(endpoints(100), steady, rounds=2)
    for endpoint, trace in traces.items():
        assert routers(trace) == truth(rounds.network, endpoint)


@pytest.mark.parametrize(
    "hops",
    [pytest.param((3,), id="one hop alone"), pytest.param(range(2, 9), id="and those behind")],
)
def test_a_changed_way_of_one_target_shows_within_two_rounds(hops: range) -> None:
    """A hop that others still pass is asked anew often enough; the others keep theirs."""
    rounds, targets = settled(100), endpoints(100)
    for hop in hops:
        rounds.network.moved[hop, targets[0][0]] = f"10.99.0.{hop}"
    _, traces = rounds.run(targets, steady, rounds=2)
    for endpoint, trace in traces.items():
        assert routers(trace) == truth(rounds.network, endpoint)


def test_a_new_target_on_another_way_is_not_given_the_others() -> None:
    """What nearly all targets share is only a guess for a new one, and dropped when it is wrong."""
    rounds = settled(100)
    stranger = ("10.77.0.1", OPEN_PORT)
    for hop in range(2, 9):
        rounds.network.moved[hop, stranger[0]] = f"10.99.0.{hop}"
    for traces in rounds.run([*endpoints(100), stranger], steady, rounds=2):
        assert routers(traces[stranger]) == truth(rounds.network, stranger)


BLOCKS: dict[str, tuple[Rule, ...]] = {
    "drop at a shared hop": (Rule(2, "drop", ports=(OPEN_PORT,)),),
    "drop at the first hop": (Rule(1, "drop", ports=(OPEN_PORT,)),),
    "drop before the TTL check": (Rule(3, "drop", ports=(OPEN_PORT,), chain="ingress"),),
    "reject at a shared hop": (Rule(3, "admin-prohibited", ports=(OPEN_PORT,)),),
    "reset at a shared hop": (Rule(3, "tcp-reset", ports=(OPEN_PORT,)),),
    "reset before the TTL check": (Rule(2, "tcp-reset", ports=(OPEN_PORT,), chain="ingress"),),
    "drop at an own hop": (Rule(8, "drop", ports=(OPEN_PORT,)),),
    "all of it dropped": (Rule(2, "drop"),),
}


@pytest.mark.parametrize("rules", BLOCKS.values(), ids=BLOCKS)
@pytest.mark.parametrize("number", [8, 40])
def test_a_new_block_is_judged_as_by_a_trace_alone(rules: tuple[Rule, ...], number: int) -> None:
    """Shared knowledge hides no block: what it rests on is asked when the answers stay away."""
    rounds, targets = settled(number), endpoints(number)
    scenario = rounds.network.scenario
    rounds.network.scenario = replace(scenario, rules=(*rules, *scenario.rules))
    alone = Rounds(Crowd(rounds.network.scenario, Conditions(icmp_rate=None)), near=None)
    zones = ZoneMap(())
    blocked = [target for target in targets if target[1] == OPEN_PORT]
    [true] = alone.run(blocked, whole)
    [traces] = rounds.run(targets, steady)
    for target in blocked:
        one, other = judge(traces[target], zones=zones), judge(true[target], zones=zones)
        assert one.state is other.state
        assert one.last_reachable_hop <= other.last_reachable_hop
        for hop in traces[target].hops[max(1, other.last_reachable_hop) :]:
            assert not hop.shared


def test_nobody_shares_without_others() -> None:
    """A single target is traced as ever, hop by hop with all attempts."""
    rounds = Rounds(Crowd(middle_firewall()))
    for traces in rounds.run(endpoints(1), whole, rounds=3):
        [trace] = traces.values()
        assert [hop.sent for hop in trace.hops] == [3] * 12


def test_a_quick_trace_asks_each_hop_once() -> None:
    """One probe a hop is enough for a path that answers as before; loss gets more attempts."""
    rounds = Rounds(Crowd(middle_firewall()))
    rounds.run(endpoints(1), whole)
    [traces] = rounds.run(endpoints(1), steady)
    [trace] = traces.values()
    assert [hop.sent for hop in trace.hops] == [1] * 12
    assert trace.stop_reason is StopReason.DESTINATION


@pytest.mark.parametrize("seed", range(5))
def test_loss_makes_no_hop_wrong(seed: int) -> None:
    """With a tenth of the packets lost, what is shown is still true."""
    rounds = settled(60, seed=seed, loss=0.1)
    [traces] = rounds.run(endpoints(60), steady)
    assert not any(wrong for _, wrong, _ in shares(traces, rounds.network))


def test_a_firewall_that_all_share_does_not_drown_in_probes() -> None:
    """Where half the targets fail at one limited router, most hops are still found, none wrong."""
    rounds = settled(60, shared=11)
    [traces] = rounds.run(endpoints(60), steady)
    counts = list(shares(traces, rounds.network))
    assert not any(wrong for _, wrong, _ in counts)
    assert sum(right for right, _, _ in counts) >= 0.9 * sum(of for _, _, of in counts)
