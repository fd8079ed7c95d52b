"""Runs a situation through the real command, as its user would: `trace --json`, or `serve`.

Each run has a network of its own, since routers limit their ICMP errors per recipient and a
fresh one has its full burst. The budgets of IPv4 and IPv6 are apart, so the two share it.
Most of a run is waiting, so some run at a time.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from typing import Any, NamedTuple

from exporter.model import joined
from tests.accuracy.situation import Situation, World
from tests.lab.engines import WRAPPERS
from tests.lab.exporting import COMMAND, ROOT, Exporter, serving

ENGINES = ("syn", "connect")
#: So many networks at a time; they wait more than they work.
AT_ONCE = 12
#: Seconds between the cycles of `serve`: a Linux router has its burst of 6 errors again.
INTERVAL = 6

Found = Mapping[str, Any]


class Case(NamedTuple):
    """A situation on one engine."""

    situation: Situation
    engine: str


def observe(case: Case) -> dict[str, Found]:
    """Family -> what the program says at last, in a fresh network, as `trace --json` has it."""
    with case.situation.world() as world:
        return (_served if case.situation.changes else _traced)(world, case)


# -- one trace -------------------------------------------------------------------------


def _traced(world: World, case: Case) -> dict[str, Found]:
    """What `trace --json` prints, in all families at once."""
    situation = case.situation
    running = {
        family: world.popen(
            [
                *WRAPPERS.get(case.engine, ()),
                *(*COMMAND, "trace", "--json", joined(address, situation.port)),
            ],
            cwd=ROOT,
            env=_environment(case),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for family, address in situation.target.items()
    }
    # Each is read to its end, also after another one has failed.
    printed = {family: process.communicate() for family, process in running.items()}
    return {family: _parsed(output, errors) for family, (output, errors) in printed.items()}


def _parsed(output: str, errors: str) -> Found:
    if not output:
        raise RuntimeError(f"the command printed nothing but: {errors}")
    found: Found = json.loads(output)
    return found


def _environment(case: Case) -> dict[str, str]:
    """The situation's settings, and nothing of the caller's."""
    return {"PATH": os.environ["PATH"], "ENGINE": case.engine, **case.situation.settings}


# -- before and after a change ---------------------------------------------------------


def _served(world: World, case: Case) -> dict[str, Found]:
    """What `serve` says of the targets in the first cycle that began after the change."""
    situation = case.situation
    targets = {name: joined(at, situation.port) for name, at in situation.target.items()}
    settings = {
        "ENDPOINTS": " ".join(f"{name}={endpoint}" for name, endpoint in targets.items()),
        "INTERVAL_SECONDS": str(INTERVAL),
        "LOG_TRACES": "all",
    }
    wrapper = WRAPPERS.get(case.engine, ())
    with serving(world.popen, _environment(case) | settings, *wrapper) as exporter:
        exporter.wait_for_traces(*targets)
        world.change()
        exporter.wait_for_traces(*targets)  # some of it may be from before
        exporter.wait_for_traces(*targets)
        return {name: _published(exporter, name) for name in targets}


def _published(exporter: Exporter, name: str) -> Found:
    found: Found = json.loads(exporter.fetch(f"/api/v1/targets/{name}")[1])
    return found
