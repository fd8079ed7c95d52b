"""Which side of the platform's edge an address is on."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from exporter.diagnosis.zones import Network, Own, ZoneMap
from exporter.model import Hop, ReplyKind, StopReason, Zone
from tests.unit import samples

CONFIGURED = ZoneMap([ip_network("10.9.0.0/24"), ip_network("2001:db8::/32")])


@pytest.mark.parametrize(
    ("address", "zone"),
    [
        ("10.9.0.2", Zone.PLATFORM),
        ("10.9.1.2", Zone.EXTERNAL),
        ("2001:db8::7", Zone.PLATFORM),
        ("2001:db9::7", Zone.EXTERNAL),
        ("169.254.0.1", Zone.PLATFORM),
        ("127.0.0.1", Zone.PLATFORM),
        ("fe80::1", Zone.PLATFORM),
    ],
)
def test_zone_by_configured_networks(address: str, zone: Zone) -> None:
    """The configured networks and this host's own link are the platform, all else is external."""
    assert CONFIGURED.zone(address) is zone


def test_nothing_is_external_without_networks() -> None:
    """Without configured networks nothing is called external, and link-local stays inside."""
    unknowing = ZoneMap([])
    assert unknowing.zone("198.51.100.1") is Zone.UNKNOWN
    assert unknowing.zone("169.254.0.1") is Zone.PLATFORM


def test_zones_of_a_trace_name_every_responder_and_the_destination() -> None:
    """The zones of a trace cover all who answered, and the destination even if it did not."""
    trace = samples.trace(samples.routers(2), StopReason.SILENCE)
    assert CONFIGURED.zones_of(trace) == {
        "10.9.0.2": Zone.PLATFORM,
        "10.9.1.2": Zone.EXTERNAL,
        samples.DESTINATION: Zone.EXTERNAL,
    }


# -- what the host reveals of itself ---------------------------------------------------

LINK, CELL, LINK6 = (ip_network(text) for text in ("172.17.0.0/16", "10.0.4.7", "fd00:1::/64"))
OWN = (
    Own(LINK, "a network that this host is connected to", on_link=True),
    Own(LINK6, "a network that this host is connected to", on_link=True),
    Own(CELL, "this instance's cell", on_link=False),
)


@pytest.mark.parametrize("configured", [(), (ip_network("10.9.0.0/24"),)])
def test_what_the_host_reveals_is_inside_whatever_is_configured(
    configured: tuple[Network, ...],
) -> None:
    """PLATFORM_NETWORKS adds to the host's own networks: with these the platform begins."""
    zones = ZoneMap(configured, OWN)
    for address in ("172.17.0.1", "fd00:1::1", "10.0.4.7"):
        assert zones.zone(address, 1) is Zone.PLATFORM


def test_what_the_host_reveals_makes_nobody_external() -> None:
    """What a host knows of itself says nothing of where the platform ends."""
    zones = ZoneMap((), OWN)
    for address in ("10.9.0.2", "198.51.100.1", "2001:db9::7"):
        assert zones.zone(address, 1) is Zone.UNKNOWN


@pytest.mark.parametrize("address", ["172.17.3.1", "fd00:1::7", "169.254.10.1"])
def test_an_address_of_the_own_link_farther_away_is_not_known(address: str) -> None:
    """The same private network again, behind a router, is somebody else's: neither side is said."""
    zones = ZoneMap([ip_network("10.9.0.0/24"), ip_network("2001:db8::/32")], OWN)
    assert zones.zone(address, 1) is Zone.PLATFORM
    assert zones.zone(address, 2) is Zone.UNKNOWN


def test_the_cell_is_inside_at_any_distance() -> None:
    """The cell is no network on a link: its address is inside wherever it answers."""
    assert ZoneMap((), OWN).zone("10.0.4.7", 3) is Zone.PLATFORM


@pytest.mark.parametrize(
    ("configured", "address"), [("10.9.0.0/24", "2001:db8::7"), ("2001:db8::/32", "10.9.0.2")]
)
def test_networks_of_one_family_say_nothing_of_the_other(configured: str, address: str) -> None:
    """Who lists IPv4 networks alone has not said where the platform ends in IPv6."""
    assert ZoneMap([ip_network(configured)]).zone(address) is Zone.UNKNOWN


def test_zones_of_a_trace_tell_the_link_from_what_resembles_it() -> None:
    """Who answers from the own network is inside at hop 1 alone; who rejects, a hop earlier."""
    hops = (
        Hop(1, 1, (samples.answer(1, 1, address="172.17.0.1"),)),
        Hop(2, 1, (samples.answer(2, 1, address="172.17.3.1"),)),
    )
    error = samples.answer(2, 1, kind=ReplyKind.UNREACHABLE, address="172.17.0.3", icmp=(3, 13))
    zones = ZoneMap((), OWN).zones_of(
        samples.trace((*hops, Hop(2, 1, (error,))), StopReason.ICMP_ERROR)
    )
    assert zones == {
        "172.17.0.1": Zone.PLATFORM,
        "172.17.3.1": Zone.UNKNOWN,
        "172.17.0.3": Zone.PLATFORM,
        samples.DESTINATION: Zone.UNKNOWN,
    }
