"""The real command in real networks: every scenario's truth is what `trace --json` says.

By every engine and over both IP versions, each engine with no more privilege than it needs: which
one runs the command chooses by itself. Each case has a lab of its own. Routers limit their ICMP
errors per recipient, and a fresh router has its full burst: to build a lab takes a fraction of a
second, to wait until the routers of a used one have it again takes six. The budgets of IPv4 and
IPv6 are apart, so the two share a lab. Most of a trace's time is waiting, so some labs run at a
time, ahead of the tests that look at them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from exporter.model import joined
from exporter.probing.engines import ENGINES
from tests import scenarios
from tests.lab.chain import CHAIN
from tests.lab.conftest import OpenLab
from tests.lab.forking import Ended, Run, Starter
from tests.lab.lab import Lab, LabError
from tests.scenarios import FAMILIES, Expectation, Scenario

pytestmark = pytest.mark.alone

CASES = {
    f"{scenario.name}-{expectation.port}": (scenario, expectation)
    for scenario in scenarios.load_all()
    for expectation in scenario.expectations
}
#: What is to be the same with and without any capability.
ALIKE = {
    "open": "mid_path_firewall-443",
    "closed": "mid_path_firewall-8443",
    "dropped in forward": "mid_path_firewall-5432",
    "dropped at ingress": "drop_at_ingress-5432",
    "admin-prohibited": "mid_path_firewall-6379",
    "port-unreachable": "icmp_from_mid_path-4003",
}
#: So many labs at a time; they wait more than they work.
LABS = 16
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


class Outcome(NamedTuple):
    """How `egress-exporter trace --json` ended and what it printed."""

    status: int
    found: dict[str, Any]
    errors: str


def trace(starter: Starter, engine: str, scenario: Scenario, port: int) -> dict[str, Outcome]:
    """Family -> what a trace of the destination's port says in a fresh lab."""
    with Lab(scenario) as lab:
        return traced(starter, lab, engine, port)


def traced(starter: Starter, lab: Lab, engine: str, port: int) -> dict[str, Outcome]:
    """Trace a port of the destination over both IP versions at once."""
    runs = [
        Run(lab.pid, arguments(replace(lab.scenario, family=family), port), {}, engine == "syn")
        for family in FAMILIES
    ]
    with ThreadPoolExecutor(len(runs)) as pool:
        return dict(zip(FAMILIES, map(_outcome, pool.map(starter.run, runs)), strict=True))


def arguments(scenario: Scenario, port: int) -> Sequence[str]:
    """The command's arguments that have it trace a port of a scenario's destination."""
    networks = ",".join(scenario.platform_networks)
    platform = ("--platform", networks) if networks else ()
    return ("trace", "--json", *platform, joined(scenario.destination, port))


def _outcome(ended: Ended) -> Outcome:
    return Outcome(ended.status, json.loads(ended.printed or "{}"), ended.errors)


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    """What forks the command."""
    with Starter() as one:
        yield one


#: (engine, case) -> the traces, under way.
Outcomes = Mapping[tuple[str, str], Future[dict[str, Outcome]]]


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, starter: Starter) -> Iterator[Outcomes]:
    """The traces of the cases that were selected."""
    selected = dict.fromkeys(
        wanted
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == request.path
        for wanted in _wanted(item)
    )
    with ThreadPoolExecutor(LABS) as pool:
        yield {key: pool.submit(_trace, starter, *key) for key in selected}
        pool.shutdown(cancel_futures=True)


def _wanted(item: pytest.Function) -> Iterator[tuple[str, str]]:
    match item.callspec.params:
        case {"case": str(case), "engine": str(engine)}:
            yield engine, case
        case {"alike": str(alike)}:
            yield from ((engine, ALIKE[alike]) for engine in ENGINES)


def _trace(starter: Starter, engine: str, case: str) -> dict[str, Outcome]:
    scenario, expectation = CASES[case]
    return trace(starter, engine, scenario, expectation.port)


def outcome_of(outcomes: Outcomes, engine: str, case: str, family: str) -> Outcome:
    """What a trace said that has said something."""
    try:
        outcome = outcomes[engine, case].result()[family]
    except LabError as error:
        pytest.fail(str(error), pytrace=False)
    assert outcome.found, outcome.errors
    return outcome


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", CASES)
def test_the_trace_says_the_truth(case: str, family: str, engine: str, outcomes: Outcomes) -> None:
    """Verdict, exit status and hops are those that the scenario's author knows."""
    scenario, expectation = CASES[case]
    scenario = replace(scenario, family=family)
    outcome = outcome_of(outcomes, engine, case, family)
    assert outcome.found["engine"] == engine
    verdict = outcome.found["verdict"]
    assert said(verdict) == truth(scenario, expectation), verdict["reason"]
    assert outcome.status == EXIT_STATUS.get(expectation.state, 1)
    assert chain(outcome.found, expectation) == true_chain(scenario, expectation)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("alike", ALIKE)
def test_without_any_capability_it_says_what_root_is_told(
    alike: str, family: str, outcomes: Outcomes
) -> None:
    """Once it has given up what it may, verdict, hops and status are root's."""
    root, bare = (
        outcome_of(outcomes, engine, ALIKE[alike], family) for engine in ("syn", "connect")
    )
    assert said(bare.found["verdict"]) == said(root.found["verdict"])
    assert hops(bare.found) == hops(root.found)
    assert bare.status == root.status


@pytest.mark.parametrize("engine", list(ENGINES)[1:])
@pytest.mark.parametrize("distance", [1, 2])
def test_a_dead_neighbour(open_lab: OpenLab, starter: Starter, engine: str, distance: int) -> None:
    """That a destination on the own network, or a gateway, is not there this host says itself."""
    dead = replace(CHAIN, hops=distance, rules=(), open_ports=(), destination_exists=False)
    lab = open_lab(dead)
    if distance == 2:
        for gateway in ("10.9.0.9", "fd09::9"):
            lab.run(["ip", "route", "replace", "default", "via", gateway], check=True)
    for family, outcome in traced(starter, lab, engine, 443).items():
        verdict = outcome.found["verdict"]
        said = (verdict["state"], verdict["last_reachable_hop"])
        assert said == ("unreachable", 0), (verdict["reason"], verdict["evidence"])
        assert replace(dead, family=family).source in " ".join(verdict["evidence"])


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


def hops(found: Mapping[str, Any]) -> dict[int, list[tuple[Any, ...]]]:
    """Hop -> its responders and what they said, silent ones without."""
    return {
        hop["hop"]: [(one["address"], one["reply"], one["icmp"]) for one in hop["responders"]]
        for hop in found["hops"]
    }


def chain(found: Mapping[str, Any], expectation: Expectation) -> dict[int, list[str]]:
    """Hop -> its responders' addresses, up to the last reachable hop."""
    return {
        hop: [address for address, *_ in responders]
        for hop, responders in hops(found).items()
        if hop <= expectation.last_reachable_hop
    }


def true_chain(scenario: Scenario, expectation: Expectation) -> dict[int, list[str]]:
    """Every device up to the last reachable one answers for its hop, unless it is silent."""
    return {
        hop: [] if hop in scenario.silent else [scenario.address(hop)]
        for hop in range(1, expectation.last_reachable_hop + 1)
    }
