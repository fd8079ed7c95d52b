"""Every scenario's truth is what a trace in virtual time and its verdict say."""

from __future__ import annotations

import pytest

from exporter.diagnosis.verdict import judge
from tests import scenarios
from tests.scenarios import Expectation, Scenario
from tests.simulated.chains import zones_of
from tests.simulated.network import CALM, Conditions
from tests.simulated.run import trace

CASES = {
    f"{scenario.name}-{expectation.port}-{scenario.family}": (scenario, expectation)
    for scenario in scenarios.in_both_families()
    for expectation in scenario.expectations
}
#: What must not change a verdict: nothing is lost here, some of it is late or twice.
CONDITIONS = {
    "calm": CALM,
    "unlimited-icmp": Conditions(icmp_rate=None),
    "jitter": Conditions(seed=1, jitter=0.03, reorder=0.1),
    "duplicates": Conditions(seed=2, jitter=0.01, duplicate=0.5),
    "third-syn": Conditions(answers_from_attempt=3),
}


@pytest.mark.parametrize("conditions", CONDITIONS.values(), ids=CONDITIONS)
@pytest.mark.parametrize(("scenario", "expectation"), CASES.values(), ids=CASES)
def test_the_verdict_is_the_truth(
    scenario: Scenario, expectation: Expectation, conditions: Conditions
) -> None:
    """The verdict on each port of each scenario says what the scenario's author knows."""
    verdict = judge(
        trace(scenario, expectation.port, conditions=conditions),
        zones=zones_of(scenario),
    )
    blocked_by = scenario.address(expectation.blocked_by) if expectation.blocked_by else None
    said = (
        verdict.state,
        verdict.last_reachable_hop,
        verdict.blocked_at_hop,
        verdict.suspect_hops,
        verdict.blocked_by,
        verdict.location,
    )
    true = (
        expectation.state,
        expectation.last_reachable_hop,
        expectation.blocked_at_hop,
        expectation.suspect_hops,
        blocked_by,
        expectation.location,
    )
    assert said == true, verdict.reason
