"""A firewall on the way that all targets share: each verdict is right, and none is another one.

28 targets, a quarter of them each open, closed, dropped and rejected, have their first eight hops
in common, the firewall at the sixth among them, and all of these limit their ICMP errors. 100
targets have all routers in common: more is rejected there than the firewall has errors for.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from exporter.diagnosis.verdict import judge
from exporter.model import REACHED_STATES, State, Trace, Verdict
from exporter.surroundings import Memory
from tests.simulated.chains import CLOSED_PORT, OPEN_PORT, zones_of
from tests.simulated.crowds import (
    DROPPED_PORT,
    FIREWALL_HOP,
    REJECTED_PORT,
    Crowd,
    Endpoint,
    Rounds,
    endpoints,
    middle_firewall,
)

TARGETS, SHARED, ROUNDS = 28, 8, 4
STATES = {
    OPEN_PORT: State.OPEN,
    CLOSED_PORT: State.CLOSED,
    DROPPED_PORT: State.FILTERED,
    REJECTED_PORT: State.REJECTED,
}
#: Port, and the verdicts on its targets in each round.
Seen = tuple[int, list[Verdict]]


def verdicts_of(number: int, shared: int, rounds: int) -> list[Seen]:
    """What is said of each target in each round, by its trace and the last good one."""
    scenario = middle_firewall()
    zones, memory = zones_of(scenario), Memory()
    good: dict[Endpoint, Trace] = {}
    said: dict[Endpoint, list[Verdict]] = {}
    network = Crowd(scenario, shared=shared)

    def take_in(traces: Mapping[Endpoint, Trace]) -> None:
        for target, trace in traces.items():
            verdict = judge(
                trace,
                zones=zones,
                last_good=good.get(target),
                surroundings=memory.learn(trace, None, network.clock()),
            )
            said.setdefault(target, []).append(verdict)
            if verdict.state in REACHED_STATES:
                good[target] = trace

    for traces in Rounds(network).run(endpoints(number), rounds=rounds):
        take_in(traces)
    return [(port, found) for (_, port), found in said.items()]


@pytest.fixture(scope="module")
def verdicts() -> list[Seen]:
    """What is said where the firewall has errors enough."""
    return verdicts_of(TARGETS, SHARED, ROUNDS)


def test_a_rejection_in_silence_is_no_drop() -> None:
    """Where a router rejects more than its limit allows it to say, the rest is not known."""
    for port, found in verdicts_of(100, 11, 3):
        unsure = {State.INCONCLUSIVE} if port in {DROPPED_PORT, REJECTED_PORT} else set()
        assert {verdict.state for verdict in found} <= {STATES[port]} | unsure


def test_no_state_is_another_one(verdicts: list[Seen]) -> None:
    """Only a silence may be left open, where limits cannot be told from loss."""
    for port, found in verdicts:
        states = {verdict.state for verdict in found}
        unsure = {State.INCONCLUSIVE} if port == DROPPED_PORT else set()
        assert states <= {STATES[port]} | unsure


def test_the_hops_are_right(verdicts: list[Seen]) -> None:
    """Whoever was spared, distances and the firewall's hop are the same in every round."""
    for port, found in verdicts:
        hop = 12 if port in {OPEN_PORT, CLOSED_PORT} else FIREWALL_HOP
        assert {verdict.last_reachable_hop for verdict in found} == {hop}
        if port == REJECTED_PORT:
            assert {verdict.suspect_hops for verdict in found} == {(hop, hop)}
        if port == DROPPED_PORT:
            suspects = [verdict.suspect_hops for verdict in found if verdict.suspect_hops]
            assert suspects
            assert {first for first, _ in suspects} == {hop}
