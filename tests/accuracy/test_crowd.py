"""Thirty targets behind the same rate-limited first hops, in one exporter: every verdict is right.

The three hops that all traces cross may send one ICMP error a second each, and are asked for far
more. The targets start half a second apart.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.accuracy.namespaces import filtered, reached, said_by
from tests.accuracy.situation import Truth, score
from tests.accuracy.tun import Destination, Filter, Net, TunWorld
from tests.lab.engines import WRAPPERS
from tests.lab.exporting import serving
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


@pytest.fixture(params=("syn", "connect"))
def found(request: pytest.FixtureRequest) -> Iterator[tuple[str, dict[str, Any]]]:
    """The engine, and what it said of each target in the first round."""
    engine: str = request.param
    settings = {
        "PATH": os.environ["PATH"],
        "ENGINE": engine,
        "ENDPOINTS": " ".join(f"{name}={at}:{port}" for name, (at, port, _) in ENDPOINTS.items()),
        "INTERVAL_SECONDS": str(INTERVAL),
        "PLATFORM_NETWORKS": NET.platform_networks,
    }
    try:
        with (
            TunWorld(NET) as world,
            serving(world.popen, settings, *WRAPPERS.get(engine, ())) as exporter,
        ):
            exporter.wait_for_traces(*ENDPOINTS)
            yield (
                engine,
                {
                    name: json.loads(exporter.fetch(f"/api/v1/targets/{name}")[1])
                    for name in ENDPOINTS
                },
            )
    except LabError as error:
        pytest.fail(str(error), pytrace=False)


def test_thirty_targets_at_once_are_all_judged_right(found: tuple[str, dict[str, Any]]) -> None:
    """First hops that have no answers left neither block anybody nor hide who does."""
    engine, said = found
    wrong = {
        f"{name} {ENDPOINTS[name][1]}": (mark.wrong, one["verdict"])
        for name, one in said.items()
        for mark in [score(one, truth(*ENDPOINTS[name][1:]), engine)]
        if not mark.right
    }
    assert wrong == {}
