"""ICMP echo requests among real routers: by a ping socket, by a raw one, and by none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.lab.controlling import control
from tests.lab.engines import UNPRIVILEGED
from tests.lab.lab import Lab
from tests.scenarios import FAMILIES
from tests.simulated.network import ICMP_OF_ACTION

pytestmark = pytest.mark.alone

#: Way -> what net.ipv4.ping_group_range admits, and the command in front of the exporter.
WAYS: dict[str, tuple[str, Sequence[str]]] = {
    "ping socket": ("0 0", UNPRIVILEGED),
    "raw socket": ("1 0", ()),
}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Each IP version."""
    return str(request.param)


def echoed(lab: Lab, way: str, first: int = 0) -> Any:
    """What a sounding of the destination finds."""
    admitted, wrapper = WAYS[way]
    lab.run(["sysctl", "-qw", f"net.ipv4.ping_group_range={admitted}"], check=True)
    return control(lab, "echo", lab.scenario.destination, first, wrapper=wrapper)


def reject(lab: Lab, hop: int, statement: str) -> None:
    """Treat echo requests like this at a hop."""
    for protocol in ("icmp", "icmpv6"):
        rule = f"{protocol} type echo-request {statement.format(protocol=protocol)}"
        lab.nft(hop, f"insert rule inet lab {'input' if hop == 4 else 'forward'} {rule}")


@pytest.mark.parametrize("way", WAYS)
def test_the_destination_is_found_at_its_hop(lab: Lab, way: str) -> None:
    """One request arrives, then one for each TTL finds its device, as every reply's TTL says."""
    found = echoed(lab, way, first=2)
    address, expired = lab.scenario.address, ICMP_OF_ACTION[lab.scenario.family]["time-exceeded"]
    reached = [lab.scenario.destination, "echo-reply", None, 61]
    assert (found["engine"], found["ports"], found["stop_reason"]) == (
        "echo",
        [0, 0],
        "destination",
    )
    assert found["full"] == [1, reached]
    assert found["hops"] == [
        [0],
        [1, [address(2), "time-exceeded", list(expired), 63]],
        [1, [address(3), "time-exceeded", list(expired), 62]],
        [1, reached],
    ]
    assert found["distance"] == 4
    assert 0 < found["rtt"] < 1


@pytest.mark.parametrize("way", WAYS)
def test_a_destination_that_drops_echo_is_silent(lab: Lab, way: str) -> None:
    """Three requests without an answer are the end of it, in little time."""
    reject(lab, 4, "drop")
    found = echoed(lab, way, first=1)
    assert (found["full"], found["hops"], found["stop_reason"]) == ([3], [], "silence")
    assert found["duration"] < 2.5


@pytest.mark.parametrize("way", WAYS)
def test_a_rejected_echo_names_who_rejects(lab: Lab, way: str) -> None:
    """Admin-prohibited is an answer, and no hop is asked for after it."""
    reject(lab, 2, "reject with {protocol} type admin-prohibited")
    found = echoed(lab, way, first=1)
    prohibited = list(ICMP_OF_ACTION[lab.scenario.family]["admin-prohibited"])
    assert found["full"] == [1, [lab.scenario.address(2), "unreachable", prohibited, 63]]
    assert (found["hops"], found["stop_reason"]) == ([], "icmp-error")


def test_without_permission_the_status_says_so(lab: Lab) -> None:
    """No group admitted and no capability: what would be needed is named."""
    lab.run(["sysctl", "-qw", "net.ipv4.ping_group_range=1 0"], check=True)
    found = control(lab, "echo", lab.scenario.destination, 0, wrapper=UNPRIVILEGED)
    assert "net.ipv4.ping_group_range" in found["status"]
