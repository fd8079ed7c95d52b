"""Chains of routers that are more than a scenario: side ways, address translation, proxies.

A `Network` is a scenario of tests/scenarios, built by `tests.lab.lab`, and what its devices have
beyond it. In every one of them a packet for an address that nobody has, as a canary's is, goes
all the way to the last router and ends there in silence, as it does on the Internet.

    prober   hop 1   hop 2 |  hop 3   hop 4   hop 5   hop 6   hop 7   hop 8 (destination)
       the platform        |  outside            ^ MIDDLE          ^ LAST
                                                   the firewall, mostly

The destination serves DATABASE, the port that is asked for, and 443; nothing serves 80. So one
control port is open and one is closed, wherever a situation leaves them alone.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from tests.lab.lab import Device, Lab, Plan, plan
from tests.scenarios import NUMBERINGS, Scenario

DATABASE = 5432
HOPS, MIDDLE, LAST = 8, 5, 7
CHAIN = Scenario(
    name="chain",
    title="a chain of routers",
    hops=HOPS,
    platform_hops=2,
    delay=0.0,
    open_ports=(443, DATABASE),
    destination_exists=True,
    silent=(),
    rules=(),
    expectations=(),
)


def addresses(hop: int) -> dict[str, str]:
    """Family -> the address in whose name the device at a hop answers."""
    return {family: n.address(hop - 1, 2) for family, n in NUMBERINGS.items()}


DESTINATION = addresses(HOPS)
MEANT = f"ip daddr {DESTINATION['ipv4']}", f"ip6 daddr {DESTINATION['ipv6']}"
DATABASE_PORT = f"tcp dport {DATABASE}"
#: The same chain; nothing serves the database's port.
CLOSED = replace(CHAIN, open_ports=(443,))


def nft(hook: str, *statements: str, kind: str = "filter") -> str:
    """A table of its own with one chain; `hook` as in "forward priority filter"."""
    body = "".join(f"{statement}\n" for statement in statements)
    table = f"more_{hook.partition(' ')[0]}"
    return f"table inet {table} {{\nchain more {{ type {kind} hook {hook};\n{body}}}\n}}\n"


# -- devices with more to them -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Extra:
    """What a device has beyond its scenario; the fields are those of `lab.Device`."""

    ip: str = ""
    ip6: str = ""
    nft: str = ""
    ports: tuple[int, ...] = ()
    kernel: tuple[tuple[str, str], ...] = ()

    def __add__(self, other: Extra) -> Extra:
        return Extra(
            self.ip + other.ip,
            self.ip6 + other.ip6,
            self.nft + other.nft,
            self.ports + other.ports,
            self.kernel + other.kernel,
        )


@dataclass(frozen=True, slots=True)
class Network:
    """A chain and what is beside it."""

    scenario: Scenario
    #: Hop -> what its device has beyond the scenario.
    extras: Mapping[int, Extra] = field(default_factory=dict)
    #: More namespaces and links, for `ip -batch`, and how the namespaces are set up.
    links: str = ""
    devices: tuple[Device, ...] = ()

    def plan(self) -> Plan:
        """The whole as the lab builds it."""
        chain = plan(self.scenario)
        devices = tuple(
            _extended(device, _onwards(self.scenario, hop) + self.extras.get(hop, Extra()))
            for hop, device in enumerate(chain.devices)
        )
        return Plan(chain.links + self.links, devices + self.devices)


def _extended(device: Device, extra: Extra) -> Device:
    return replace(
        device,
        ip=device.ip + extra.ip,
        ip6=device.ip6 + extra.ip6,
        nft=device.nft + extra.nft,
        ports=device.ports + extra.ports,
        kernel=device.kernel + extra.kernel,
    )


def _onwards(scenario: Scenario, hop: int) -> Extra:
    """Whither a router sends what is for nobody: to the next one, and the last one drops it."""
    if not 0 < hop < scenario.hops:
        return Extra()
    if hop == scenario.hops - 1:
        return Extra("".join(f"route add blackhole {every}\n" for every in ("0.0.0.0/0", "::/0")))
    if any((rule.hop, rule.action) == (hop, "net-unreachable") for rule in scenario.rules):
        return Extra()
    return Extra(
        "".join(f"route add default via {n.address(hop, 2)}\n" for n in NUMBERINGS.values())
    )


# -- side ways -------------------------------------------------------------------------


def side_link(near: tuple[str, str], far: tuple[str, str]) -> str:
    """A line for `ip -batch`: a link whose ends are (namespace, interface)."""
    return f"link add name {near[1]} netns {near[0]} type veth peer name {far[1]} netns {far[0]}\n"


def side_end(interface: str, link: int, end: int) -> str:
    """Lines for `ip -batch`: one end of a side way, with its addresses."""
    addresses = "".join(
        f"addr add {n.address(link, end)}/{n.prefix} dev {interface}"
        f"{' nodad' if family == 'ipv6' else ''}\n"
        for family, n in NUMBERINGS.items()
    )
    return f"{addresses}link set {interface} up\n"


def routes(network: Callable[[str], str], link: int, end: int) -> str:
    """Lines for `ip -batch`: a route in both families through one end of a link.

    `network` gives what the route is for in a family.
    """
    return "".join(
        f"route replace {network(family)} via {n.address(link, end)}\n"
        for family, n in NUMBERINGS.items()
    )


# -- worlds ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LabWorld:
    """A lab as a `World`; `inside` are the words in front of the prober's command lines."""

    lab: Lab
    inside: tuple[str, ...] = ()
    changing: Callable[[Lab], None] | None = None

    @property
    def prober(self) -> int | None:
        """A process in the prober's namespaces; None where it takes more than them to be there."""
        return None if self.inside else self.lab.pid

    def popen(
        self, argv: Sequence[str], listener: socket.socket | None = None, **options: Any
    ) -> subprocess.Popen[Any]:
        """`subprocess.Popen` where the prober stands."""
        return self.lab.popen([*self.inside, *argv], listener, **options)

    def change(self) -> None:
        """What happens between the first cycle and the last one."""
        if self.changing:
            self.changing(self.lab)


@contextmanager
def running(network: Network, changing: Callable[[Lab], None] | None = None) -> Iterator[LabWorld]:
    """The network, with the prober at its beginning."""
    with Lab(network.scenario, network.plan()) as lab:
        yield LabWorld(lab, changing=changing)
