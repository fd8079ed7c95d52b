"""Which side of the platform's edge an address is on."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from exporter.diagnosis.zones import Network, Own, ZoneMap
from exporter.model import Hop, NamedZone, Place, ReplyKind, StopReason, Trace, Zone
from tests.unit import samples

CONFIGURED = ZoneMap([ip_network("10.9.0.0/24"), ip_network("2001:db8::/32")])


def sides(zones: ZoneMap, trace: Trace) -> dict[str, Zone]:
    """The side of everybody in a trace."""
    return {address: place.zone for address, place in zones.places_of(trace).items()}


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


def test_places_of_a_trace_name_every_responder_and_the_destination() -> None:
    """The places of a trace cover all who answered, and the destination even if it did not."""
    trace = samples.trace(samples.routers(2), StopReason.SILENCE)
    assert sides(CONFIGURED, trace) == {
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


def test_places_of_a_trace_tell_the_link_from_what_resembles_it() -> None:
    """Who answers from the own network is inside at hop 1 alone; who rejects, a hop earlier."""
    hops = (
        Hop(1, 1, (samples.answer(1, 1, address="172.17.0.1"),)),
        Hop(2, 1, (samples.answer(2, 1, address="172.17.3.1"),)),
    )
    error = samples.answer(2, 1, kind=ReplyKind.UNREACHABLE, address="172.17.0.3", icmp=(3, 13))
    made = samples.trace((*hops, Hop(2, 1, (error,))), StopReason.ICMP_ERROR)
    assert sides(ZoneMap((), OWN), made) == {
        "172.17.0.1": Zone.PLATFORM,
        "172.17.3.1": Zone.UNKNOWN,
        "172.17.0.3": Zone.PLATFORM,
        samples.DESTINATION: Zone.UNKNOWN,
    }


# -- zones with names ------------------------------------------------------------------


def zone(name: str, *networks: str, platform: bool = False) -> NamedZone:
    """A zone as the configuration has it."""
    return NamedZone(name, tuple(map(ip_network, networks)), platform)


NAMED = ZoneMap(
    configured=[ip_network("10.9.0.0/16")],
    own=OWN,
    named=[
        zone("cell", "10.255.0.0/16", platform=True),
        zone("edge", "10.9.7.0/24", "172.16.0.0/12"),
        zone("bastion", "10.9.7.8/29", "fd01::/16", platform=True),
        zone("provider", "198.51.100.0/24"),
    ],
)


@pytest.mark.parametrize(
    ("address", "side", "name"),
    [
        ("10.255.3.4", Zone.PLATFORM, "cell"),
        ("10.9.1.1", Zone.PLATFORM, "platform"),
        ("10.9.7.1", Zone.EXTERNAL, "edge"),
        ("10.9.7.9", Zone.PLATFORM, "bastion"),
        ("198.51.100.7", Zone.EXTERNAL, "provider"),
        ("192.0.2.1", Zone.EXTERNAL, "external"),
        ("fd01::1", Zone.PLATFORM, "bastion"),
        ("2001:db8::1", Zone.EXTERNAL, "external"),
    ],
)
def test_the_smallest_network_names_zone_and_side(address: str, side: Zone, name: str) -> None:
    """Networks may contain each other; the smallest one with the address counts."""
    assert (NAMED.zone(address, 5), NAMED.name(address, 5)) == (side, name)


def test_a_zone_without_the_flag_is_outside_whatever_else_is_configured() -> None:
    """Its addresses are external for certain, and say nothing of any other address."""
    zones = ZoneMap(named=[zone("provider", "198.51.100.0/24")])
    assert (zones.zone("198.51.100.7"), zones.name("198.51.100.7")) == (Zone.EXTERNAL, "provider")
    assert (zones.zone("192.0.2.1"), zones.name("192.0.2.1")) == (Zone.UNKNOWN, "unknown")


def test_a_zone_with_the_flag_says_where_its_family_ends() -> None:
    """What is in no zone is external where one with the flag lists a network of its family."""
    zones = ZoneMap(named=[zone("cell", "10.255.0.0/16", platform=True)])
    assert zones.zone("192.0.2.1") is Zone.EXTERNAL
    assert zones.zone("2001:db8::1") is Zone.UNKNOWN


def test_the_own_network_stays_inside_a_larger_zone_without_the_flag() -> None:
    """What the host reveals is inside, farther away unknown, but never external by that zone."""
    assert NAMED.zone("172.17.0.1", 1) is Zone.PLATFORM
    assert NAMED.zone("172.17.0.1", 2) is Zone.UNKNOWN
    assert NAMED.zone("172.18.0.1", 2) is Zone.EXTERNAL
    everything = ZoneMap(own=OWN, named=[zone("the rest", "0.0.0.0/0")])
    assert everything.zone("10.0.4.7", 3) is Zone.PLATFORM
    assert everything.zone("169.254.0.1", 1) is Zone.PLATFORM
    assert everything.zone("10.9.1.1", 3) is Zone.EXTERNAL


def test_a_zone_of_the_same_size_decides_itself() -> None:
    """Who names the host's own network has said what it is, at any distance."""
    zones = ZoneMap(own=OWN, named=[zone("LAN", str(LINK)), zone("cells", "10.0.4.0/24")])
    assert (zones.zone("172.17.0.1", 1), zones.name("172.17.0.1", 3)) == (Zone.EXTERNAL, "LAN")
    assert zones.zone("10.0.4.7", 3) is Zone.PLATFORM


def test_a_larger_platform_zone_has_the_own_network_at_any_distance() -> None:
    """A zone with the flag around the host's own network makes it inside behind a router, too."""
    zones = ZoneMap(own=OWN, named=[zone("cloud", "172.16.0.0/12", platform=True)])
    assert (zones.zone("172.17.3.1", 4), zones.name("172.17.3.1", 4)) == (Zone.PLATFORM, "cloud")


def test_places_cover_the_responders_of_controls() -> None:
    """Who answers a control has a place; who was asked alone has none but the destination."""
    main = samples.trace(samples.routers(1), StopReason.SILENCE)
    beside = Hop(2, 1, (samples.answer(2, 1, address="10.9.7.1"),))
    silent = replace(main, flow=main.flow._replace(destination="198.51.100.1"), hops=())
    control = replace(silent, hops=(beside,))
    assert NAMED.places_of(main, [control, silent]) == {
        "10.9.0.2": Place(Zone.PLATFORM, "platform"),
        "10.9.7.1": Place(Zone.EXTERNAL, "edge"),
        samples.DESTINATION: Place(Zone.PLATFORM, "platform"),
    }
