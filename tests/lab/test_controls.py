"""What controls cost: the SYNs and echo requests that really leave the host, and the time.

Each case is traced twice, in a fresh lab each time: with the controls of an ordinary target, and
with none. The plain connect is off, for it repeats its SYN as long as nobody answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pytest

from exporter.controls.canary import SOUNDING
from exporter.controls.making import TIME
from exporter.probing.engines import ENGINES
from tests import scenarios
from tests.lab.engines import WRAPPERS
from tests.lab.exporting import COMMAND, ROOT, environment
from tests.lab.lab import Lab, LabError, at
from tests.scenarios import Rule, Scenario

pytestmark = pytest.mark.alone

#: Open at 443, closed at 80, dropped at 5432 and rejected at 6379 by the sixth of twelve devices.
FIREWALL = scenarios.load(scenarios.FOLDER / "mid_path_firewall.toml")
#: Nothing gets past the sixth device.
WALL = replace(FIREWALL, rules=(Rule(6, "drop"),))
NO_ECHO = "add rule inet lab forward icmp type echo-request drop"

COUNTERS = """table inet counted {
    chain out {
        type filter hook output priority 0;
        tcp flags & (syn | ack) == syn ip daddr 198.51.100.1 counter
        tcp flags & (syn | ack) == syn ip daddr != 198.51.100.1 counter
        icmp type echo-request counter
    }
}
"""
NO_CONTROLS = {"CONTROL_PORTS": "none", "ICMP_ECHO": "false", "CANARY": "false"}
NO_CONTROLS |= {"FAILING_FLOWS": "1"}
#: SYNs that compare an open target, seen for the first time, with another port.
FIRST_SIGHT = 2
#: Seconds by which two traces may differ on a busy machine.
TOLERANCE = 1.0


@dataclass(frozen=True, slots=True)
class Run:
    """A trace: what was sent for it, and what it says."""

    to_canary: int
    syns: int
    echoes: int
    said: Mapping[str, Any]

    @property
    def sent(self) -> int:
        """All but the canary."""
        return self.syns + self.echoes

    @property
    def seconds(self) -> float:
        """How long the cycle took, without the start of the program."""
        return float(self.said["duration_seconds"])


@dataclass(frozen=True, slots=True)
class Case:
    """A port of a network's destination, and which devices have other rules than the scenario."""

    scenario: Scenario
    port: int
    rules: Mapping[int, str]
    state: str
    #: The most that controls may add, as a share of the probes of the trace alone.
    share: float = 0.5


CASES = {
    "open": Case(FIREWALL, 443, {}, "open", 0),
    "blocked, and a control passes": Case(FIREWALL, 5432, {}, "filtered"),
    "blocked, and nothing passes": Case(WALL, 5432, {6: NO_ECHO}, "filtered"),
    "rejected": Case(FIREWALL, 6379, {}, "rejected"),
    "closed": Case(FIREWALL, 8443, {}, "closed"),
}


def run(case: Case, engine: str, settings: Mapping[str, str]) -> Run:
    """Trace the case's port once, in a lab of its own."""
    with Lab(case.scenario) as lab:
        lab.nft(0, COUNTERS)
        for hop, rule in case.rules.items():
            lab.nft(hop, rule)
        endpoint = f"{case.scenario.destination}:{case.port}"
        done = lab.run(
            [*WRAPPERS.get(engine, ()), *COMMAND, "trace", "--json", endpoint],
            cwd=ROOT,
            env=environment(lab, ENGINE=engine, CONNECT_CHECK="false", **settings),
            capture_output=True,
            text=True,
        )
        assert done.stdout, done.stderr
        listing = lab.run(at(0, ["nft", "list", "table", "inet", "counted"]), capture_output=True)
        to_canary, syns, echoes = map(int, re.findall(rb"counter packets (\d+)", listing.stdout))
        return Run(to_canary, syns, echoes, json.loads(done.stdout))


def runs(case: Case, engine: str) -> tuple[Run, Run]:
    """Without controls and with them, side by side: most of a trace is waiting."""
    with ThreadPoolExecutor(2) as pool:
        try:
            alone, both = pool.map(lambda given: run(case, engine, given), (NO_CONTROLS, {}))
        except LabError as error:
            pytest.fail(str(error), pytrace=False)
    return alone, both


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", CASES)
def test_controls_add_little(name: str, engine: str) -> None:
    """At most half of the probes and 1.5 s; two SYNs and a canary to a target newly seen open."""
    case = CASES[name]
    alone, both = runs(case, engine)
    assert both.said["verdict"]["state"] == case.state, both.said["verdict"]["reason"]
    assert alone.to_canary == 0
    assert 0 < both.to_canary <= SOUNDING.attempts
    assert both.sent <= alone.sent * (1 + case.share) + (0 if case.share else FIRST_SIGHT)
    assert both.seconds <= alone.seconds + TIME * bool(case.share) + TOLERANCE
