"""The real command in real networks: every scenario's truth is what `trace --json` says.

Each trace has a lab of its own. Routers limit their ICMP errors per recipient, and a fresh
router has its full burst: to build a lab takes a fraction of a second, to wait until the
routers of a used one have it again takes six. Most of a trace's time is waiting, so
some run at a time, ahead of the tests that look at them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import scenarios
from tests.lab.lab import Lab, LabError
from tests.scenarios import Expectation, Scenario

FOLDER = Path(__file__).parents[2]
CASES = {
    f"{scenario.name}-{expectation.port}": (scenario, expectation)
    for scenario in scenarios.load_all()
    for expectation in scenario.expectations
}
#: So many labs at a time; they wait more than they work.
LABS = 8
#: What `trace` exits with; a state that is not here is blocked, and exits with 1.
EXIT_STATUS = {"open": 0, "closed": 3, "inconclusive": 4}
#: The parts of a verdict that a scenario knows.
KNOWN = (
    "state",
    "last_reachable_hop",
    "blocked_at_hop",
    "suspect_hops",
    "blocked_by",
    "location",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How `egress-exporter trace --json` ended and what it printed."""

    status: int
    found: dict[str, Any]
    errors: str


def trace(scenario: Scenario, expectation: Expectation) -> Outcome:
    """Trace one port of a scenario's destination in a fresh lab."""
    argv = [sys.executable, "-m", "exporter", "trace", "--json"]
    if scenario.platform_hops:
        argv += ["--platform", ",".join(scenario.platform_networks)]
    argv.append(f"{scenario.destination}:{expectation.port}")
    with Lab(scenario) as lab:
        done = lab.run(
            argv,
            cwd=FOLDER,
            env={"PATH": os.environ["PATH"]},  # the caller's settings are not the test's
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    return Outcome(done.returncode, json.loads(done.stdout or "{}"), done.stderr)


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[Outcome]]]:
    """The traces of the cases that were selected, under way."""
    selected = [
        str(item.callspec.params["case"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == request.path
    ]
    with ThreadPoolExecutor(LABS) as pool:
        yield {case: pool.submit(trace, *CASES[case]) for case in selected}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("case", CASES)
def test_the_trace_says_the_truth(case: str, outcomes: Mapping[str, Future[Outcome]]) -> None:
    """Verdict, exit status and hops are those that the scenario's author knows."""
    scenario, expectation = CASES[case]
    try:
        outcome = outcomes[case].result()
    except LabError as error:
        pytest.fail(str(error), pytrace=False)
    assert outcome.found, outcome.errors
    verdict = outcome.found["verdict"]
    assert said(verdict) == truth(scenario, expectation), verdict["reason"]
    assert outcome.status == EXIT_STATUS.get(expectation.state, 1)
    assert chain(outcome.found, expectation) == true_chain(scenario, expectation)


def said(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """What can be compared with a scenario's truth."""
    return {key: verdict[key] for key in KNOWN}


def truth(scenario: Scenario, expectation: Expectation) -> dict[str, Any]:
    """The expectation as the JSON object has it."""
    values: dict[str, Any] = {key: getattr(expectation, key) for key in KNOWN}
    suspects, rejecter = expectation.suspect_hops, expectation.blocked_by
    values["suspect_hops"] = list(suspects) if suspects else None
    values["blocked_by"] = scenario.address(rejecter) if rejecter else None
    return values


def chain(found: Mapping[str, Any], expectation: Expectation) -> dict[int, list[str]]:
    """Hop -> its responders, up to the last reachable hop."""
    return {
        hop["hop"]: [responder["address"] for responder in hop["responders"]]
        for hop in found["hops"]
        if hop["hop"] <= expectation.last_reachable_hop
    }


def true_chain(scenario: Scenario, expectation: Expectation) -> dict[int, list[str]]:
    """Every device up to the last reachable one answers for its hop, unless it is silent."""
    return {
        hop: [] if hop in scenario.silent else [scenario.address(hop)]
        for hop in range(1, expectation.last_reachable_hop + 1)
    }
