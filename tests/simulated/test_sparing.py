"""A trace that leaves near hops to what they have answered others means what a whole one does.

Whole traces over the simulated network are made into such as the tracer makes where it shares, and
judged beside themselves.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings

from exporter.diagnosis.verdict import judge
from exporter.model import (
    BLOCKED_STATES,
    Controlled,
    Surroundings,
    Trace,
    Verdict,
)
from tests.scenarios import Expectation, Scenario
from tests.simulated.chains import zones_of
from tests.simulated.controls import controlled
from tests.simulated.network import CALM, Conditions, SimulatedNetwork
from tests.simulated.run import trace_over
from tests.simulated.sparing import (
    as_the_tracer_would,
    asked_once,
    is_no_surer,
    up_to_any_answer,
)
from tests.simulated.test_forged import Cycle, cycles
from tests.simulated.test_properties import (
    chains,
    clear_chains,
    lossless,
    lossy,
    ports,
)
from tests.simulated.test_scenarios import CASES, said

#: The same examples in every run: a failure here is a change's, not the day's.
repeatable = settings(max_examples=60, derandomize=True)
#: Whoever spares a hop knows of routers that answer.
HEARD = Surroundings(routers_answer=True)


def traced(
    scenario: Scenario, port: int, conditions: Conditions = CALM
) -> tuple[Trace, Controlled]:
    """A trace, and the controls beside it."""
    network = SimulatedNetwork(scenario, conditions)
    (trace,) = trace_over(network, [(scenario.destination, port)])
    return trace, controlled(network, trace)


def judged(
    scenario: Scenario, trace: Trace, beside: Controlled, good: Trace | None = None
) -> Verdict:
    """The verdict on a trace, with the scenario's own networks as the platform."""
    return judge(
        trace,
        zones=zones_of(scenario),
        surroundings=HEARD,
        controlled=beside,
        last_good=good,
    )


@pytest.mark.parametrize(("scenario", "expectation"), CASES.values(), ids=CASES)
def test_spared_hops_change_no_verdict(scenario: Scenario, expectation: Expectation) -> None:
    """On each port of each scenario a trace means the same, whichever near hops it spares."""
    whole, beside = traced(scenario, expectation.port)
    for controls in (beside, Controlled()):
        verdict = judged(scenario, whole, controls)
        for trace in as_the_tracer_would(whole):
            found = judged(scenario, trace, controls)
            assert said(found) == said(verdict), found.reason
            assert is_no_surer(found, verdict), found.reason


@pytest.mark.parametrize(("scenario", "expectation"), CASES.values(), ids=CASES)
def test_single_attempts_change_no_verdict(scenario: Scenario, expectation: Expectation) -> None:
    """On each port of each scenario a trace means the same with one attempt a hop that answers."""
    whole, beside = traced(scenario, expectation.port)
    for controls in (beside, Controlled()):
        verdict, found = (judged(scenario, one, controls) for one in (whole, asked_once(whole)))
        assert said(found) == said(verdict), found.reason
        assert is_no_surer(found, verdict), found.reason


@repeatable
@given(chains(), ports, lossless)
def test_sparing_makes_nothing_surer(scenario: Scenario, port: int, conditions: Conditions) -> None:
    """Whatever is spared or limited, a verdict says no more than that on the whole trace."""
    whole, beside = traced(scenario, port, conditions)
    for controls in (beside, Controlled()):
        verdict = judged(scenario, whole, controls)
        for trace in up_to_any_answer(whole):
            found = judged(scenario, trace, controls)
            assert is_no_surer(found, verdict), (found, verdict)


@repeatable
@given(chains(), ports, lossy)
def test_what_is_remembered_of_a_sparing_trace_makes_nothing_surer(
    scenario: Scenario, port: int, conditions: Conditions
) -> None:
    """A last good trace that spared hops says no more of a block than a whole one does."""
    passing = replace(scenario, rules=(), destination_exists=True)
    good, _ = traced(passing, port)
    whole, beside = traced(scenario, port, conditions)
    for controls in (beside, Controlled()):
        verdict = judged(scenario, whole, controls, good)
        for one in as_the_tracer_would(good):
            found = judged(scenario, whole, controls, one)
            assert is_no_surer(found, verdict), (found, verdict)


@repeatable
@given(cycles())
def test_sparing_makes_no_forger_surer(cycle: Cycle) -> None:
    """Who answers in the destination's name is not told better where hops were spared."""
    for controls in (cycle.controlled, Controlled()):
        verdict = judged(cycle.scenario, cycle.trace, controls)
        for trace in as_the_tracer_would(cycle.trace):
            found = judged(cycle.scenario, trace, controls)
            assert is_no_surer(found, verdict), (found, verdict)


@repeatable
@given(cycles())
def test_an_end_that_was_asked_for_too_late_is_doubted(cycle: Cycle) -> None:
    """Where all hops before the first answer over TCP were spared, no distance is claimed."""
    for trace in up_to_any_answer(cycle.trace):
        found = judged(cycle.scenario, trace, cycle.controlled)
        verdict = judged(cycle.scenario, cycle.trace, cycle.controlled)
        assert is_no_surer(found, verdict), (found, verdict)


@repeatable
@given(clear_chains, ports, lossy)
def test_fewer_probes_make_no_block_of_loss(
    scenario: Scenario, port: int, conditions: Conditions
) -> None:
    """A loss of 40 % in each direction, seen by fewer probes, blocks no target."""
    whole, beside = traced(scenario, port, conditions)
    for trace in (asked_once(whole), *as_the_tracer_would(whole)):
        for controls in (beside, Controlled()):
            found = judged(scenario, trace, controls)
            assert found.state not in BLOCKED_STATES, found.reason


@repeatable
@given(chains(), ports, lossless)
def test_single_attempts_make_nothing_surer(
    scenario: Scenario, port: int, conditions: Conditions
) -> None:
    """Where nothing is lost, one attempt a hop says the same as three, or less."""
    whole, beside = traced(scenario, port, conditions)
    for controls in (beside, Controlled()):
        verdict, found = (judged(scenario, one, controls) for one in (whole, asked_once(whole)))
        assert is_no_surer(found, verdict), (found, verdict)
