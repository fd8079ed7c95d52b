"""Chains of devices made in a test, and what is true about them."""

from __future__ import annotations

from ipaddress import ip_network

from exporter.diagnosis.zones import ZoneMap
from exporter.model import FULL_TTL
from tests.scenarios import Rule, Scenario
from tests.simulated.network import Fate, fate

OPEN_PORT = 443
CLOSED_PORT = 8443
#: The ends of a SYN's way that answer over TCP, in the destination's name.
TCP_ACTIONS = frozenset({"open", "closed", "tcp-reset"})


def chain(
    hops: int = 5,
    *,
    rules: tuple[Rule, ...] = (),
    silent: tuple[int, ...] = (),
    delay: float = 0.001,
    platform_hops: int = 1,
    destination_exists: bool = True,
    family: str = "ipv4",
) -> Scenario:
    """A scenario without a file: `OPEN_PORT` is open, every other port is closed."""
    return Scenario(
        name="chain",
        title="made in a test",
        hops=hops,
        platform_hops=platform_hops,
        delay=delay,
        open_ports=(OPEN_PORT,),
        destination_exists=destination_exists,
        silent=silent,
        rules=rules,
        expectations=(),
        family=family,
    )


def ending(scenario: Scenario, port: int) -> Fate:
    """Where a SYN with the TTL of an ordinary packet ends."""
    return fate(scenario, FULL_TTL, port)


def answering_routers(scenario: Scenario, port: int) -> dict[int, str]:
    """TTL -> address of every router that says when a probe to this port has expired at it."""
    fates = {ttl: fate(scenario, ttl, port) for ttl in range(1, scenario.hops)}
    return {
        ttl: scenario.address(end.hop)
        for ttl, end in fates.items()
        if end.action == "time-exceeded" and end.hop not in scenario.silent
    }


def farthest_reachable(scenario: Scenario, port: int) -> int:
    """The hop of the farthest device that could show itself to a probe to this port."""
    end = ending(scenario, port)
    expired = max(answering_routers(scenario, port), default=0)
    speaks_tcp = end.action in TCP_ACTIONS
    mute = end.action == "drop" or (end.hop in scenario.silent and not speaks_tcp)
    return expired if mute else max(expired, end.hop)


def zones_of(scenario: Scenario) -> ZoneMap:
    """The zones as PLATFORM_NETWORKS would configure them."""
    return ZoneMap(ip_network(network) for network in scenario.platform_networks)
