"""How thoroughly a target is traced, and when soon again."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from exporter.model import Known, Observation, Plan, Target
from exporter.schedule.depth import FULL_EVERY, is_to_confirm, plan_of
from tests.unit import samples

PLAN = Plan(max_hops=20, attempts=5)
TARGETS = [Target(f"t{n}", "db.example", 1000 + n, plan=PLAN) for n in range(1000)]


def test_what_is_not_steady_is_traced_wholly() -> None:
    """A target that fails, is new, or has just begun to answer is traced as it is configured."""
    assert {plan_of(target, Known()) for target in TARGETS} == {PLAN}


def test_one_of_ten_traces_of_a_steady_target_is_whole() -> None:
    """In any ten cycles in a row, whichever the target is."""
    for target in TARGETS[:100]:
        plans = [plan_of(target, Known(steady=steady)) for steady in range(1, 2 * FULL_EVERY + 1)]
        assert Counter(plans) == {PLAN: 2, replace(PLAN, quick=True): 2 * FULL_EVERY - 2}
        turns = [number for number, plan in enumerate(plans) if not plan.quick]
        assert turns[1] - turns[0] == FULL_EVERY


def test_the_whole_traces_are_spread_over_the_cycles() -> None:
    """Of targets that have begun together about a tenth is traced wholly in each cycle."""
    for steady in range(1, 30):
        whole = sum(not plan_of(target, Known(steady=steady)).quick for target in TARGETS)
        assert whole == pytest.approx(len(TARGETS) / FULL_EVERY, rel=0.4)


@pytest.mark.parametrize(
    ("before", "seen", "soon"),
    [
        (None, samples.opened(), False),
        (None, samples.filtered(), True),
        (samples.opened(), samples.filtered(), True),
        (samples.opened(), samples.unresolved(), True),
        (samples.rejected(), samples.filtered(), True),
        (samples.filtered(), samples.filtered(), False),
        (samples.filtered(), samples.opened(), False),
        (samples.opened(), samples.closed(), False),
    ],
    ids=[
        "well at first",
        "blocked at first",
        "blocked now",
        "no address now",
        "blocked otherwise",
        "blocked as before",
        "well again",
        "closed now",
    ],
)
def test_a_new_failure_is_to_be_confirmed(
    before: Observation | None, seen: Observation, *, soon: bool
) -> None:
    """The first time, whatever fails; what fails as before is known, and what is well is well."""
    assert is_to_confirm(seen, before) is soon
