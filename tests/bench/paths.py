"""The paths that every part measures on: the scenario with a firewall in the middle."""

from __future__ import annotations

from dataclasses import replace

from tests import scenarios
from tests.scenarios import Scenario

#: 12 hops; behind hop 6 one port is dropped, one rejected, one open and all others closed.
BLOCKED = scenarios.load(scenarios.FOLDER / "mid_path_firewall.toml")
OPEN_PORT, CLOSED_PORT, DROPPED_PORT, REJECTED_PORT = 443, 8443, 5432, 6379

#: The round trip to the destination behind the TUN device, in seconds; hop 1 takes a 12th.
DESTINATION_RTT = 0.026


def delayed(destination_rtt: float = DESTINATION_RTT) -> Scenario:
    """The same path with real delays, for `TunNetwork`."""
    return replace(BLOCKED, delay=destination_rtt / 2 / BLOCKED.hops)
