"""Scenario files: one description of a path and its firewalls, and the truth about it.

The same file drives the simulated network in virtual time (tests/simulated) and the lab of
network namespaces (tests/lab). A chain of `hops` devices leads from the prober to the
destination; link k (from 0) is 10.9.k.0/24 with .1 on the near and .2 on the far side:

    prober 10.9.0.1 -- 10.9.0.2 router 1 10.9.1.1 -- 10.9.1.2 router 2 ... -- 10.9.(hops-1).2

so router n answers as 10.9.(n-1).2 and the destination is 10.9.(hops-1).2. In IPv6 link k is
fd09:0:0:k::/64 with ::1 and ::2, k in decimal digits: `replace(scenario, family="ipv6")` is the
same path with the same truth about it.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent

#: What a rule may do with a SYN; each name maps to nft words in the lab and to a reply here.
ACTIONS = (
    "drop",
    "net-unreachable",  # ICMP 3/0, ICMPv6 1/0 (no route)
    "host-unreachable",  # 3/1, 1/3 (address unreachable)
    "port-unreachable",  # 3/3, 1/4
    "net-prohibited",  # 3/9, 1/5 (source address failed policy)
    "host-prohibited",  # 3/10, 1/6 (reject route)
    "admin-prohibited",  # 3/13, 1/1
    "tcp-reset",
)


@dataclass(frozen=True, slots=True)
class Numbering:
    """How one family numbers the links: `end` is 1 on a link's near and 2 on its far side."""

    template: str
    prefix: int
    #: Every link of every chain.
    everything: str

    def address(self, link: int, end: int) -> str:
        """The address of one end of a link, as `inet_ntop` writes it."""
        return _canonical(self.template.format(link=link, end=end))

    def network(self, link: int) -> str:
        """The network of a link."""
        return str(ip_network((self.address(link, 1), self.prefix), strict=False))


NUMBERINGS = {
    "ipv4": Numbering("10.9.{link}.{end}", 24, "10.9.0.0/16"),
    "ipv6": Numbering("fd09:0:0:{link}::{end}", 64, "fd09::/48"),
}
FAMILIES = tuple(NUMBERINGS)


@cache
def _canonical(address: str) -> str:
    return str(ip_address(address))


@dataclass(frozen=True, slots=True)
class Rule:
    """A firewall's rule at the device `hop`, for SYNs to `ports` (empty: to all).

    `chain` "forward" acts after the TTL check, "ingress" before it, "input" on the
    destination itself. "net-unreachable" at ingress for all ports is what a router without a
    route does, and in the lab the route is missing.
    """

    hop: int
    action: str
    chain: str = "forward"
    ports: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Expectation:
    """The truth for one port of the destination. `blocked_by` is a hop, 0 for nobody."""

    port: int
    state: str
    last_reachable_hop: int
    blocked_at_hop: int = 0
    suspect_hops: tuple[int, int] | None = None
    blocked_by: int = 0
    location: str = "none"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One chain of devices; see the module's text for the addresses."""

    name: str
    title: str
    hops: int
    #: The first so many hops are inside PLATFORM_NETWORKS.
    platform_hops: int
    #: One-way delay of each link in seconds; the lab's links have none.
    delay: float
    #: Ports on which the destination listens; it answers the others with RST.
    open_ports: tuple[int, ...]
    #: False: the destination's address is on the last link, but nobody has it.
    destination_exists: bool
    #: Routers that never send an ICMP error.
    silent: tuple[int, ...]
    rules: tuple[Rule, ...]
    expectations: tuple[Expectation, ...]
    #: "ipv4" or "ipv6": which addresses the scenario speaks of. A lab has both.
    family: str = "ipv4"

    @property
    def numbering(self) -> Numbering:
        """The addresses of the links."""
        return NUMBERINGS[self.family]

    @property
    def source(self) -> str:
        """The prober's address."""
        return self.numbering.address(0, 1)

    def address(self, hop: int) -> str:
        """The address in whose name the device at `hop` answers."""
        return self.numbering.address(hop - 1, 2)

    @property
    def destination(self) -> str:
        """The address of the last device."""
        return self.address(self.hops)

    @property
    def platform_networks(self) -> tuple[str, ...]:
        """What PLATFORM_NETWORKS holds in this scenario."""
        return tuple(self.numbering.network(link) for link in range(self.platform_hops))


def load(path: Path) -> Scenario:
    """Read one scenario file; a key that is not known is an error."""
    raw: dict[str, Any] = tomllib.loads(path.read_text())
    rules = tuple(
        Rule(**{**rule, "ports": tuple(rule.get("ports", ()))}) for rule in raw.pop("rule", ())
    )
    for rule in rules:
        if rule.action not in ACTIONS:
            raise ValueError(f"{path.name}: action {rule.action!r} is none of {', '.join(ACTIONS)}")
    scenario = Scenario(
        name=path.stem,
        title=raw.pop("title"),
        hops=raw.pop("hops"),
        platform_hops=raw.pop("platform_hops", 0),
        delay=raw.pop("delay", 0.001),
        open_ports=tuple(raw.pop("open_ports", ())),
        destination_exists=raw.pop("destination_exists", True),
        silent=tuple(raw.pop("silent", ())),
        rules=rules,
        expectations=tuple(_expectation(item) for item in raw.pop("expect")),
    )
    if raw:
        raise ValueError(f"{path.name}: unknown keys {', '.join(raw)}")
    return scenario


def _expectation(item: dict[str, Any]) -> Expectation:
    suspects = item.pop("suspect_hops", None)
    return Expectation(**item, suspect_hops=tuple(suspects) if suspects else None)


def load_all() -> tuple[Scenario, ...]:
    """Every scenario of the folder, by name."""
    return tuple(load(path) for path in sorted(FOLDER.glob("*.toml")))


def in_both_families() -> tuple[Scenario, ...]:
    """Every scenario in IPv4 and in IPv6."""
    return tuple(replace(scenario, family=family) for family in FAMILIES for scenario in load_all())
