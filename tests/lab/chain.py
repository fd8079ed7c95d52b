"""A plain chain of routers for trying engines on, and what a test does to and reads from one."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

from tests import scenarios
from tests.lab.lab import Lab, at
from tests.scenarios import Rule

#: Three routers, the destination at hop 4; the second router treats four ports differently.
CHAIN = replace(
    scenarios.load(scenarios.FOLDER / "mid_path_firewall.toml"),
    name="plain",
    hops=4,
    open_ports=(443,),
    rules=(
        Rule(2, "port-unreachable", ports=(25,)),
        Rule(2, "admin-prohibited", ports=(26,)),
        Rule(2, "tcp-reset", ports=(27,)),
        Rule(2, "drop", ports=(28,)),
    ),
    expectations=(),
)
OPEN, CLOSED, REJECTED, PROHIBITED, RESET, SILENT = 443, 80, 25, 26, 27, 28

_RAW = Path(__file__).with_name("raw.py")


def throw(lab: Lab, *packets: bytes) -> None:
    """Have the first router send packets to the prober, in this order."""
    text = "".join(f"{packet.hex()}\n" for packet in packets)
    argv = [sys.executable, "-I", str(_RAW), lab.scenario.source]
    lab.run(at(1, argv), input=text, text=True, check=True)


def counted(lab: Lab, hop: int, chain: str) -> list[int]:
    """What the counters of one of a hop's nft chains count."""
    argv = at(hop, ["nft", "list", "chain", "inet", "lab", chain])
    listing = lab.run(argv, capture_output=True, check=True)
    return [int(count) for count in re.findall(rb"counter packets (\d+)", listing.stdout)]


def keeps_connections(lab: Lab, hop: int) -> bool:
    """Whether a hop has a TCP socket that is more than listening."""
    argv = at(hop, ["cat", "/proc/net/tcp", "/proc/net/tcp6"])
    tables = lab.run(argv, capture_output=True, text=True, check=True)
    states = {line.split()[3] for line in tables.stdout.splitlines()}
    return bool(states - {"st", "0A"})
