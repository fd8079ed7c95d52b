"""Every situation of the accuracy matrix once, by every engine and IP version: the truth is said.

The command in real networks, some at a time, ahead of the tests that look at them. `make
accuracy` plays the same with the peers beside it, and as often as it is told.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.accuracy import namespaces, tun_situations
from tests.accuracy.matrix import SITUATIONS, answered
from tests.accuracy.run import AT_ONCE, ENGINES, Case, Found, observe
from tests.accuracy.situation import Blind, Truth, score
from tests.lab.forking import Run, Starter
from tests.lab.lab import LabError

CASES = {
    f"{situation.name}-{engine}-{family}": (Case(situation, engine), family)
    for situation in SITUATIONS.values()
    for engine in ENGINES
    for family in situation.families
}
#: (situation, engine) -> what is said of it, under way.
Outcomes = Mapping[tuple[str, str], Future[dict[str, Found]]]


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Iterator[Outcomes]:
    """The cases that were selected, under way."""
    selected = (
        CASES[str(item.callspec.params["case"])][0]
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.path == request.path
        and "outcomes" in item.fixturenames
    )
    cases = {(case.situation.name, case.engine): case for case in selected}
    # Those first that take longest.
    ordered = sorted(cases, key=lambda key: not cases[key].situation.changes)
    with Starter() as starter, ThreadPoolExecutor(AT_ONCE) as pool:
        yield {key: pool.submit(observe, cases[key], starter) for key in ordered}
        pool.shutdown(cancel_futures=True)


@pytest.mark.alone
@pytest.mark.parametrize("case", CASES)
def test_the_program_says_the_truth(case: str, outcomes: Outcomes) -> None:
    """State, suspects, location and hops are those that the situation's author knows."""
    (situation, engine), family = CASES[case]
    try:
        found = outcomes[situation.name, engine].result()[family]
    except LabError as error:
        pytest.fail(str(error), pytrace=False)
    assert found["engine"] == engine
    answer = answered(situation, engine, found)
    assert answer.right, answer.complaint


@pytest.mark.alone
@pytest.mark.parametrize("engine", ENGINES)
def test_the_forked_command_has_the_privileges_that_it_is_given(engine: str) -> None:
    """What may choose an engine chooses by them, and traces in the world's network."""
    situation = SITUATIONS["open"]
    endpoint = f"{situation.target['ipv4']}:{situation.port}"
    try:
        with situation.world() as world, Starter() as starter:
            assert world.prober
            run = Run(world.prober, ("trace", "--json", endpoint), {}, privileged=engine == "syn")
            found = json.loads(starter.run(run).printed)
    except LabError as error:
        pytest.fail(str(error), pytrace=False)
    assert (found["engine"], found["verdict"]["state"]) == (engine, "open")


# -- the score itself ------------------------------------------------------------------

DROPPED = Truth(frozenset({"filtered"}), frozenset({"external"}), 5, last_reachable_hop=5, widest=2)
REJECTED = Truth(
    frozenset({"rejected"}), frozenset({"external"}), 5, {"ipv4": "10.9.4.2"}, last_reachable_hop=5
)
OPEN = Truth(frozenset({"open"}), last_reachable_hop=8)
FILTERED = {
    "state": "filtered",
    "last_reachable_hop": 5,
    "suspect_hops": [5, 6],
    "blocked_by": None,
    "location": "external",
    "confidence": "high",
    "flows": 4,
    "flows_blocked": 4,
}


def verdict(**changes: Any) -> Found:
    """A right answer to DROPPED, but for the changes."""
    return {"address": "10.9.7.2", "verdict": {**FILTERED, **changes}}


@pytest.mark.parametrize(
    ("truth", "found", "wrong"),
    [
        (DROPPED, verdict(), ()),
        (DROPPED, verdict(suspect_hops=[4, 5]), ()),
        (DROPPED, verdict(suspect_hops=[6, 7]), ("suspects",)),
        (DROPPED, verdict(suspect_hops=[4, 8]), ("narrow",)),
        (DROPPED, verdict(location="boundary"), ("location",)),
        (DROPPED, verdict(last_reachable_hop=4), ("last_reachable_hop",)),
        (DROPPED, verdict(blocked_by="10.9.4.2"), ("blocked_by",)),
        (REJECTED, verdict(state="rejected"), ("blocked_by",)),
        (REJECTED, verdict(state="rejected", blocked_by="10.9.5.2"), ("blocked_by",)),
        (REJECTED, verdict(state="rejected", blocked_by="10.9.4.2"), ()),
        (OPEN, verdict(last_reachable_hop=8), ("state", "suspects", "location")),
    ],
)
def test_what_is_wrong_is_named(truth: Truth, found: Found, wrong: tuple[str, ...]) -> None:
    """The mark names each part of the verdict that is not the truth."""
    assert score(found, truth, "syn").wrong == wrong


def test_a_wrong_statement_with_high_confidence_is_told_apart() -> None:
    """It is the worst that can be printed; the same with less confidence is only wrong."""
    assert score(verdict(location="platform"), DROPPED, "syn").wrong_at_high
    assert not score(verdict(location="platform", confidence="low"), DROPPED, "syn").wrong_at_high


def test_a_truth_about_some_flows_wants_both_kinds() -> None:
    """Blocked on some paths is neither blocked on all of them nor on none."""
    truth = Truth(frozenset({"filtered"}), frozenset({"external"}), 5, some_flows=True)
    assert score(verdict(flows_blocked=1), truth, "syn").right
    assert score(verdict(flows_blocked=4), truth, "syn").wrong == ("flows",)


def test_blindness_excuses_the_connect_engine_alone() -> None:
    """Where the truth says that an engine cannot know, only that engine may say so."""
    truth = Truth(
        frozenset({"filtered"}), frozenset({"external"}), 5, allowed_on_connect=Blind("a reason")
    )
    unknown = verdict(state="inconclusive", suspect_hops=None, location="none", confidence="low")
    assert score(unknown, truth, "connect").right
    assert score(unknown, truth, "syn").wrong == ("state", "location")
    sure = verdict(state="inconclusive", suspect_hops=None, location="none")
    assert score(sure, truth, "connect").wrong == ("state",)
    accused = verdict(state="inconclusive", location="none", confidence="low")
    assert score(accused, truth, "connect").wrong == ("suspects",)


def test_every_situation_has_a_name_and_a_title_of_its_own() -> None:
    """Both are what a reader finds a row by."""
    every = (*namespaces.SITUATIONS, *tun_situations.SITUATIONS)
    assert len({one.name for one in every}) == len({one.title for one in every}) == len(every)
