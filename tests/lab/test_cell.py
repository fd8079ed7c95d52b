"""Cloud Foundry's own block for real: what the command says on a cell, and what it never says.

Hops are counted from the container: its cell is hop 1, the lab's first router hop 2. A firewall
stands at hop 3, outside the platform. Root's capabilities allow the syn engine, vcap (uid 2000)
has none in effect and gets the connect engine.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pytest

from tests import scenarios
from tests.lab.cell import CONTAINER, ENVIRONMENT, GATEWAY, INSTANCE_GUID, USERS, Cell
from tests.lab.chain import counted
from tests.lab.exporting import COMMAND, ROOT, exporting
from tests.lab.lab import Lab, LabError
from tests.scenarios import Rule

SCENARIO = replace(
    scenarios.load(scenarios.FOLDER / "mid_path_firewall.toml"),
    name="behind a cell",
    hops=4,
    platform_hops=1,
    open_ports=(443,),
    rules=(Rule(2, "drop", ports=(8443,)), Rule(2, "admin-prohibited", ports=(9443,))),
    expectations=(),
)
DESTINATION = SCENARIO.destination
ALLOWED = f"ip daddr {DESTINATION} tcp dport {{ 80, 443, 8443, 9443 }}"
CELL, FIREWALL = ENVIRONMENT["CF_INSTANCE_IP"], "10.9.1.2"
NETWORKS = {"PLATFORM_NETWORKS": ",".join(SCENARIO.platform_networks)}
ENGINES = {"root": "syn", "vcap": "connect"}
#: So many cells at a time; they wait more than they work.
CELLS = 8


@dataclass(frozen=True, slots=True)
class Truth:
    """What is true of one port of the destination, seen from the container."""

    port: int
    state: str
    last_reachable_hop: int
    blocked_at_hop: int = 0
    suspect_hops: tuple[int, int] | None = None
    blocked_by: str | None = None
    location: str = "none"
    status: int = 1


TRUTHS = {
    "blocked by a security group": Truth(
        5432, "rejected", 1, 1, (1, 1), blocked_by=GATEWAY, location="platform"
    ),
    "dropped outside": Truth(8443, "filtered", 3, 4, (3, 4), location="external"),
    "rejected outside": Truth(
        9443, "rejected", 3, 3, (3, 3), blocked_by=FIREWALL, location="external"
    ),
    "allowed": Truth(443, "open", 5, status=0),
    "allowed, nothing listens": Truth(80, "closed", 5, status=3),
}
PARTS = ("state", "last_reachable_hop", "blocked_at_hop", "blocked_by", "location")
Traced = subprocess.CompletedProcess[str]
OpenCell = Callable[[], tuple[Lab, Cell]]


@pytest.fixture
def open_cell() -> Iterator[OpenCell]:
    """Opens cells, ALLOWED in force, that are closed when the test ends."""
    with ExitStack() as stack:

        def enter() -> tuple[Lab, Cell]:
            try:
                lab = stack.enter_context(Lab(SCENARIO))
                cell = stack.enter_context(Cell(lab))
                cell.allow([ALLOWED])
            except LabError as error:
                pytest.fail(str(error), pytrace=False)
            return lab, cell

        yield enter


def run(cell: Cell, user: str, *words: str, **settings: str) -> Traced:
    """Run a command of the exporter in the container."""
    return cell.run(
        [*COMMAND, *words],
        user,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **settings},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def trace(cell: Cell, user: str, port: int, **settings: str) -> Traced:
    """Trace one port of the destination from the container."""
    return run(cell, user, "trace", "--json", f"{DESTINATION}:{port}", **settings)


def trace_anew(user: str, port: int) -> Traced:
    """Trace from a cell of its own, which has its full burst of ICMP errors."""
    with Lab(SCENARIO) as lab, Cell(lab) as cell:
        cell.allow([ALLOWED])
        return trace(cell, user, port, **ENVIRONMENT, **NETWORKS)


@pytest.fixture(scope="module")
def traces() -> Iterator[Mapping[tuple[str, str], Future[Traced]]]:
    """(user, case) -> its trace, under way."""
    with ThreadPoolExecutor(CELLS) as pool:
        yield {
            (user, case): pool.submit(trace_anew, user, truth.port)
            for case, truth in TRUTHS.items()
            for user in USERS
        }
        pool.shutdown(cancel_futures=True)


@pytest.fixture
def result(user: str, case: str, traces: Mapping[tuple[str, str], Future[Traced]]) -> Traced:
    """How the trace of a case ended and what it printed."""
    try:
        return traces[user, case].result()
    except LabError as error:
        pytest.fail(str(error), pytrace=False)


# -- one trace -------------------------------------------------------------------------


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("case", TRUTHS)
def test_the_verdict_is_the_truth(user: str, case: str, result: Traced) -> None:
    """A block by the cell is the platform's, one behind it is not, and neither engine errs."""
    truth = TRUTHS[case]
    assert result.stdout, result.stderr
    found = json.loads(result.stdout)
    verdict = found["verdict"]
    assert {part: verdict[part] for part in PARTS} == {part: getattr(truth, part) for part in PARTS}
    assert verdict["suspect_hops"] == (list(truth.suspect_hops) if truth.suspect_hops else None)
    assert (result.returncode, found["engine"]) == (truth.status, ENGINES[user])
    assert found["source"] == CONTAINER


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("case", ["blocked by a security group"])
def test_the_reason_says_what_to_look_for(user: str, result: Traced) -> None:
    """A security group's block names it, the cell and the instance, and the refused connect()."""
    verdict = json.loads(result.stdout)["verdict"]
    for words in ("application security group (ASG)", f"cell {CELL}", INSTANCE_GUID):
        assert words in verdict["reason"], user
    assert verdict["confidence"] == "high"
    evidence = "\n".join(verdict["evidence"])
    assert f"DENY_{INSTANCE_GUID[:23]}" in evidence
    assert "failed: Connection refused" in evidence
    assert "no RST came" in evidence


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("case", [case for case in TRUTHS if "security group" not in case])
def test_no_other_reason_blames_a_security_group(user: str, result: Traced) -> None:
    """What happens behind the cell is never put down to a security group."""
    assert "security group" not in result.stdout, user


def test_without_the_platform_s_word_the_reason_is_neutral(
    open_cell: OpenCell,
) -> None:
    """Who does not know of Cloud Foundry names the gateway on the link, and still says inside."""
    _, cell = open_cell()
    verdict = json.loads(trace(cell, "root", 5432).stdout)["verdict"]
    assert verdict["reason"].startswith(f"This host's link-local gateway, {GATEWAY} at hop 1, ")
    assert (verdict["state"], verdict["location"]) == ("rejected", "platform")
    assert "security group" not in verdict["reason"]


def test_what_a_container_knows_of_itself_makes_nobody_external(
    open_cell: OpenCell,
) -> None:
    """Without PLATFORM_NETWORKS the cell is inside, and what is behind it is not known."""
    _, cell = open_cell()
    found = json.loads(trace(cell, "root", 8443, **ENVIRONMENT).stdout)
    assert (found["verdict"]["state"], found["verdict"]["location"]) == ("filtered", "unknown")
    zones = [hop["responders"][0]["zone"] for hop in found["hops"] if hop["responders"]]
    assert zones == ["platform", "unknown", "unknown"]


def test_check_shows_what_the_container_reveals(
    open_cell: OpenCell,
) -> None:
    """`check` names silk's network and the cell beside the networks that are configured."""
    _, cell = open_cell()
    settings = {"ENDPOINTS": f"{DESTINATION}:443", **ENVIRONMENT, **NETWORKS}
    printed = run(cell, "vcap", "check", **settings).stdout
    assert "platform networks: 10.9.0.0/24\n" in printed
    assert "10.255.0.0/16 (Cloud Foundry's containers)" in printed
    assert f"{CELL}/32 (this instance's cell)" in printed


# -- all the time ----------------------------------------------------------------------


def test_many_blocked_targets_are_never_blamed_on_somebody_else(
    open_cell: OpenCell,
) -> None:
    """Eight targets, blocked at once, use up the cell's ICMP errors: unknown then, never wrong."""
    lab, cell = open_cell()
    blocked = {f"blocked{number}": 5000 + number for number in range(8)}
    ports = {**blocked, "web": 443}
    endpoints = " ".join(f"{name}={DESTINATION}:{port}" for name, port in ports.items())
    settings = {"ENDPOINTS": endpoints, "INTERVAL_SECONDS": "10", **ENVIRONMENT}
    with exporting(lab, settings, *cell.inside("vcap")) as exporter:
        exporter.wait_for_traces(*ports)
        states = set()
        for name in blocked:
            verdict = json.loads(exporter.fetch(f"/api/v1/targets/{name}")[1])["verdict"]
            states.add((verdict["state"], verdict["location"]))
        assert json.loads(exporter.fetch("/api/v1/targets/web")[1])["verdict"]["state"] == "open"
        page = exporter.fetch("/targets/blocked0")[1]
    assert ("rejected", "platform") in states
    assert states <= {("rejected", "platform"), ("inconclusive", "none")}
    assert f"look for instance GUID {INSTANCE_GUID}" in page


def test_a_security_group_that_is_bound_now_opens_the_way(
    open_cell: OpenCell,
) -> None:
    """With dynamic security groups the verdict follows without a restart."""
    lab, cell = open_cell()
    settings = {"ENDPOINTS": f"web={DESTINATION}:443", "INTERVAL_SECONDS": "5", **ENVIRONMENT}
    cell.allow([])
    with exporting(lab, settings, *cell.inside("root")) as exporter:
        exporter.wait_for("verdict: rejected, blocked at hop 1")
        cell.allow([ALLOWED])
        exporter.wait_for("verdict: open")


# -- the lab itself --------------------------------------------------------------------


def test_capabilities_are_those_of_a_container(
    open_cell: OpenCell,
) -> None:
    """Bounding and inheritable hold Docker's default for both users, effective for root alone."""
    _, cell = open_cell()
    for user, effective in (("root", 0xA80425FB), ("vcap", 0)):
        told = cell.run(["cat", "/proc/self/status"], user, capture_output=True, text=True).stdout
        held = dict(line.split(":\t") for line in told.splitlines() if line.startswith("Cap"))
        sets = {name: int(value, 16) for name, value in held.items()}
        assert sets["CapBnd"] == sets["CapInh"] == 0xA80425FB
        assert sets["CapEff"] == effective


def test_the_cell_speaks_in_its_own_name(open_cell: Callable[[], tuple[Lab, Cell]]) -> None:
    """Behind the cell nobody sees the container's address, only the cell's."""
    lab, cell = open_cell()
    for network in ("10.255.0.0/16", CELL):
        lab.nft(1, f"add rule inet lab forward ip saddr {network} counter")
    trace(cell, "root", 443)
    containers, cells = counted(lab, 1, "forward")
    assert containers == 0
    assert cells > 0
