"""Soundings by the real driver over every scenario's network, in virtual time."""

from __future__ import annotations

import pytest

from exporter.model import FULL_TTL, ReplyKind, Sounding, StopReason
from tests import scenarios
from tests.scenarios import Expectation, Scenario
from tests.simulated.chains import ending
from tests.simulated.network import CALM, Conditions, SimulatedNetwork
from tests.simulated.run import sound_over

CASES = {
    f"{scenario.name}-{expectation.port}-{scenario.family}": (scenario, expectation)
    for scenario in scenarios.in_both_families()
    for expectation in scenario.expectations
}
CONDITIONS = {"calm": CALM, "jitter": Conditions(seed=1, jitter=0.03, reorder=0.1)}
END_OF_ACTION = {"open": ReplyKind.SYN_ACK, "closed": ReplyKind.RST, "tcp-reset": ReplyKind.RST}


@pytest.mark.parametrize("conditions", CONDITIONS.values(), ids=CONDITIONS)
@pytest.mark.parametrize(("scenario", "expectation"), CASES.values(), ids=CASES)
def test_a_sounding_finds_who_answers_and_how_far_away(
    scenario: Scenario, expectation: Expectation, conditions: Conditions
) -> None:
    """The destination's answer and its distance, an ICMP error, or silence; within its time."""
    network = SimulatedNetwork(scenario, conditions)
    (found,) = sound_over(network, [(scenario.destination, expectation.port)], Sounding(first=1))
    fate = ending(scenario, expectation.port)
    assert found.duration <= 1.5 + 1e-3
    assert found.confirmation is not None
    assert found.confirmation.ttl == FULL_TTL
    if kind := END_OF_ACTION.get(fate.action):
        assert found.stop_reason is StopReason.DESTINATION
        assert {answer.reply.kind for answer in found.confirmation.answers} == {kind}
        assert found.distance == len(found.hops) == expectation.last_reachable_hop
    else:
        assert found.distance is None
        assert found.stop_reason in {StopReason.SILENCE, StopReason.ICMP_ERROR}
