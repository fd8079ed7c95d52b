"""Thirty targets behind the same rate-limited first hops, in one exporter: every verdict is right.

The hops that all traces cross may send one ICMP error a second each, and are asked for far more.
The targets start half a second apart. Where the firewall itself is among these hops, it cannot say
all that it rejects: some verdicts are open then, and none is wrong.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from tests.accuracy.namespaces import filtered, reached, said_by
from tests.accuracy.run import ENGINES
from tests.accuracy.situation import Truth, score
from tests.accuracy.tun import Destination, Filter, Net, TunWorld
from tests.lab.engines import WRAPPERS
from tests.lab.exporting import Exporter, serving
from tests.lab.lab import LabError

pytestmark = pytest.mark.alone

TARGETS, HOPS, MIDDLE = 30, 8, 5
INTERVAL = 15
NET = Net(
    HOPS,
    Destination(ports=(443, 5432, 6379)),
    (Filter(MIDDLE, ports=(5432,)), Filter(MIDDLE, "admin-prohibited", ports=(6379,))),
    delay=0.003,
    paths=TARGETS,
    shared_hops=3,
)
#: The same, but one firewall for all.
SHARED_FIREWALL = replace(NET, shared_hops=MIDDLE)


def truth(port: int, path: int) -> Truth:
    """What is true of a port of the destination of a path."""
    if port == 6379:
        said = said_by("rejected", MIDDLE)
        return Truth(
            said.states, said.locations, MIDDLE, {"ipv4": NET.address("ipv4", MIDDLE, path)}
        )
    return {443: reached("open"), 5432: filtered(MIDDLE, MIDDLE), 8443: reached("closed")}[port]


PORTS = (443, 5432, 8443, 6379)
ENDPOINTS = {
    f"t{path}": (NET.target(path)["ipv4"], PORTS[path % len(PORTS)], path)
    for path in range(TARGETS)
}


#: What a crowd is called by -> its network, and in how many rounds it is looked at.
CROWDS = {"apart": (NET, 1), "behind one firewall": (SHARED_FIREWALL, 2)}
#: Target -> what is said of it.
Round = dict[str, dict[str, Any]]


def heard(net: Net, engine: str, rounds: int) -> list[Round]:
    """What an exporter that traces all of them says in the rounds after its first traces."""
    settings = {
        "PATH": os.environ["PATH"],
        "ENGINE": engine,
        "ENDPOINTS": " ".join(f"{name}={at}:{port}" for name, (at, port, _) in ENDPOINTS.items()),
        "INTERVAL_SECONDS": str(INTERVAL),
        "PLATFORM_NETWORKS": net.platform_networks,
        "LOG_TRACES": "all",
    }
    with (
        TunWorld(net) as world,
        serving(world.popen, settings, *WRAPPERS.get(engine, ())) as exporter,
    ):
        return [said_of_all(exporter) for _ in range(rounds)]


def said_of_all(exporter: Exporter) -> Round:
    """What it says of each target once all have been traced again."""
    exporter.wait_for_traces(*ENDPOINTS)
    return {name: json.loads(exporter.fetch(f"/api/v1/targets/{name}")[1]) for name in ENDPOINTS}


@pytest.fixture(scope="module")
def crowds() -> Iterator[Mapping[tuple[str, str], Future[list[Round]]]]:
    """(crowd, engine) -> what is said of it, under way: they wait more than they work."""
    wanted = [(name, engine) for name in CROWDS for engine in ENGINES]
    with ThreadPoolExecutor(len(wanted)) as pool:
        yield {
            (name, engine): pool.submit(heard, net, engine, rounds)
            for name, engine in wanted
            for net, rounds in [CROWDS[name]]
        }


def rounds_of(crowd: Future[list[Round]]) -> list[Round]:
    """The rounds, once they are over."""
    try:
        return crowd.result()
    except LabError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.mark.parametrize("engine", ENGINES)
def test_thirty_targets_at_once_are_all_judged_right(
    engine: str, crowds: Mapping[tuple[str, str], Future[list[Round]]]
) -> None:
    """First hops that have no answers left neither block anybody nor hide who does."""
    (said,) = rounds_of(crowds["apart", engine])
    wrong = {
        f"{name} {ENDPOINTS[name][1]}": (mark.wrong, one["verdict"])
        for name, one in said.items()
        for mark in [score(one, truth(*ENDPOINTS[name][1:]), engine)]
        if not mark.right
    }
    assert wrong == {}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_firewall_that_all_share_is_never_misread(
    engine: str, crowds: Mapping[tuple[str, str], Future[list[Round]]]
) -> None:
    """What it rejects in silence is not known; nothing is taken for something else."""
    for said in rounds_of(crowds["behind one firewall", engine]):
        for name, one in said.items():
            _, port, path = ENDPOINTS[name]
            verdict, states = one["verdict"], set(truth(port, path).states)
            unsure = {"inconclusive"} if port in {5432, 6379} else set()
            assert verdict["state"] in states | unsure, (name, port, verdict)
