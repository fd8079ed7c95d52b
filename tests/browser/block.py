"""A block as it happens: `serve` in a lab that lets everything through, and then a firewall closes.

The network is that of tests/scenarios/mid_path_firewall.toml, the targets are those of `make demo`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from tests.lab.demo import NAMES
from tests.lab.exporting import Exporter, exporting
from tests.lab.lab import Lab
from tests.scenarios import FOLDER, load

SCENARIO = load(FOLDER / "mid_path_firewall.toml")
#: What the firewall at this hop will block.
HOP, DROPPED, REJECTED = 6, 5432, 6379
#: In seconds; longer than anybody looks: each trace after the first is one that was asked for.
INTERVAL = 300
#: The rules of the scenario, in nft's words.
CLOSING = f"""
add rule inet lab forward iifname "near" tcp dport {DROPPED} drop
add rule inet lab forward iifname "near" tcp dport {REJECTED} \
reject with icmp type admin-prohibited
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """A running exporter that has seen everything well, and the firewall on its path."""

    lab: Lab
    exporter: Exporter

    def close(self) -> None:
        """Let the firewall block from now on."""
        self.lab.nft(HOP, CLOSING)


@contextmanager
def scene(ports: Collection[int] = NAMES) -> Iterator[Scene]:
    """Build the lab and wait until the target at each port was traced; raises `LabError`."""
    open_ports = (*SCENARIO.open_ports, DROPPED, REJECTED)
    open_at_first = replace(SCENARIO, rules=(), expectations=(), open_ports=open_ports)
    with Lab(open_at_first) as lab, exporting(lab, _settings(ports)) as exporter:
        exporter.wait_for_traces(*(NAMES[port] for port in ports))
        yield Scene(lab, exporter)


def _settings(ports: Iterable[int]) -> dict[str, str]:
    endpoints = (f"{NAMES[port]}={SCENARIO.destination}:{port}" for port in ports)
    return {"ENDPOINTS": " ".join(endpoints), "INTERVAL_SECONDS": str(INTERVAL)}
