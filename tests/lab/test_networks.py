"""What a host reveals of its own networks, read from a real kernel without any privilege."""

from __future__ import annotations

import json
import sys

from tests.lab.conftest import OpenLab
from tests.lab.exporting import ROOT
from tests.lab.lab import Lab
from tests.scenarios import FOLDER, load

SCENARIO = load(FOLDER / "adjacent_destination.toml")
UNPRIVILEGED = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
CODE = """
import json
from exporter.model import Source
from exporter.networks import revealed
print(json.dumps([[str(own.network), own.on_link] for own in revealed(Source())]))
"""


def revealed(lab: Lab) -> list[list[object]]:
    """Each network and whether it is on the prober's own link."""
    argv = [*UNPRIVILEGED, sys.executable, "-c", CODE]
    found: list[list[object]] = json.loads(
        lab.run(argv, cwd=ROOT, check=True, capture_output=True).stdout
    )
    return found


def test_connected_networks_of_both_families(open_lab: OpenLab) -> None:
    """The prober's own link is revealed in IPv4 and IPv6; loopback and link-local go unsaid."""
    assert revealed(open_lab(SCENARIO)) == [["10.9.0.0/24", True], ["fd09::/64", True]]


def test_links_that_lead_elsewhere_and_wide_networks_count_with_the_own_address(
    open_lab: OpenLab,
) -> None:
    """The far end of a tunnel, and half the world behind a sloppy netmask, are nobody's own."""
    lab = open_lab(SCENARIO)
    lines = """\
tuntap add dev tun0 mode tun
addr add 10.8.0.6 peer 10.8.0.5/32 dev tun0
link add wide type veth peer name wider
addr add 10.0.0.5/8 dev wide
addr add 2001:db8::5/32 dev wide nodad
"""
    lab.run(["ip", "-batch", "-"], input=lines.encode(), check=True)
    found = revealed(lab)
    assert ["10.8.0.6/32", False] in found
    assert ["10.0.0.5/32", False] in found
    assert ["2001:db8::5/128", False] in found
    assert [network for network, on_link in found if on_link] == ["10.9.0.0/24", "fd09::/64"]
