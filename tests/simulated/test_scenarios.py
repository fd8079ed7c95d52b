"""Every scenario's truth is what a cycle in virtual time says: a trace, controls, a verdict."""

from __future__ import annotations

import pytest

from exporter.model import Location, State, Verdict
from tests import scenarios
from tests.scenarios import Expectation, Scenario
from tests.simulated.controls import verdict_with_controls
from tests.simulated.network import CALM, Conditions

CASES = {
    f"{scenario.name}-{expectation.port}-{scenario.family}": (scenario, expectation)
    for scenario in scenarios.in_both_families()
    for expectation in scenario.expectations
}
#: The parts of a verdict that a scenario knows.
KNOWN = (
    "state",
    "last_reachable_hop",
    "blocked_at_hop",
    "suspect_hops",
    "blocked_by",
    "location",
)
#: What must not change a verdict: nothing is lost here, some of it is late or twice.
CONDITIONS = {
    "calm": CALM,
    "unlimited-icmp": Conditions(icmp_rate=None),
    "jitter": Conditions(seed=1, jitter=0.03, reorder=0.1),
    "duplicates": Conditions(seed=2, jitter=0.01, duplicate=0.5),
}
#: Controls that are answered late look like those of a lossy path.
THIRD_SYN = Conditions(answers_from_attempt=3)


@pytest.mark.parametrize("conditions", CONDITIONS.values(), ids=CONDITIONS)
@pytest.mark.parametrize(("scenario", "expectation"), CASES.values(), ids=CASES)
def test_the_verdict_is_the_truth(
    scenario: Scenario, expectation: Expectation, conditions: Conditions
) -> None:
    """The verdict on each port of each scenario says what the scenario's author knows."""
    verdict = verdict_with_controls(scenario, expectation.port, conditions)
    assert said(verdict) == truth(scenario, expectation), verdict.reason


@pytest.mark.parametrize(("scenario", "expectation"), CASES.values(), ids=CASES)
def test_a_destination_that_answers_the_third_syn_alone(
    scenario: Scenario, expectation: Expectation
) -> None:
    """The verdict is the same, only that the suspects may reach farther, and be on either side.

    Where no hop answers either, it may be loss.
    """
    verdict = verdict_with_controls(scenario, expectation.port, THIRD_SYN)
    if verdict.state is State.INCONCLUSIVE and not expectation.last_reachable_hop:
        return
    found, true = said(verdict), truth(scenario, expectation)
    if verdict.suspect_hops and expectation.suspect_hops:
        first, last = verdict.suspect_hops
        assert (first, max(last, expectation.suspect_hops[1])) == verdict.suspect_hops
        if last > expectation.suspect_hops[1] and verdict.location is Location.UNKNOWN:
            found["location"] = true["location"]
        found["suspect_hops"] = true["suspect_hops"]
    assert found == true, verdict.reason


def said(verdict: Verdict) -> dict[str, object]:
    """What of a verdict can be compared with a scenario's truth."""
    return {key: getattr(verdict, key) for key in KNOWN}


def truth(scenario: Scenario, expectation: Expectation) -> dict[str, object]:
    """The same of an expectation."""
    values = {key: getattr(expectation, key) for key in KNOWN}
    rejecter = expectation.blocked_by
    return values | {"blocked_by": scenario.address(rejecter) if rejecter else None}
