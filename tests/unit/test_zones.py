"""Which side of the platform's edge an address is on."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from exporter.diagnosis.zones import ZoneMap
from exporter.model import StopReason, Zone
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
