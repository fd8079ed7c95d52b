"""Runs a situation through the real command, as its user would: `trace --json`, or `serve`.

Each run has a network of its own, since routers limit their ICMP errors per recipient and a
fresh one has its full burst. The budgets of IPv4 and IPv6 are apart, so the two share it; on the
connect engine one after the other, since the kernel counts for the whole network namespace
which errors it keeps from a socket. Most of a run is waiting, so some run at a time.

`trace` is forked from a process that has imported the program (tests/lab/forking.py); where `serve`
runs, and in containers, the interpreter is started as ever.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

from exporter.model import joined
from tests.accuracy.situation import Situation, World
from tests.lab.engines import WRAPPERS
from tests.lab.exporting import COMMAND, ROOT, Exporter, serving
from tests.lab.forking import Run, Starter

ENGINES = ("syn", "connect")
#: So many networks at a time; they wait more than they work.
AT_ONCE = 16
#: Seconds between the cycles of `serve`: a Linux router has its burst of 6 errors again.
INTERVAL = 6

Found = Mapping[str, Any]


class Case(NamedTuple):
    """A situation on one engine."""

    situation: Situation
    engine: str


def observe(case: Case, starter: Starter) -> dict[str, Found]:
    """Family -> what the program says at last, in a fresh network, as `trace --json` has it."""
    with case.situation.world() as world:
        return _served(world, case) if case.situation.changes else _traced(world, case, starter)


# -- one trace -------------------------------------------------------------------------


def _traced(world: World, case: Case, starter: Starter) -> dict[str, Found]:
    """What `trace --json` prints in each family."""
    targets = case.situation.target
    at_once = len(targets) if case.engine == "syn" else 1
    with ThreadPoolExecutor(at_once) as pool:
        found = pool.map(partial(_observed, world, case, starter), targets.values())
        return dict(zip(targets, found, strict=True))


def _observed(world: World, case: Case, starter: Starter, address: str) -> Found:
    """What it prints of one address."""
    arguments = ("trace", "--json", joined(address, case.situation.port))
    wrapper, environment = WRAPPERS.get(case.engine, ()), _environment(case)
    if world.prober is not None:
        run = Run(world.prober, arguments, environment, privileged=not wrapper)
        ended = starter.run(run)
        return _parsed(ended.printed, ended.errors)
    with world.popen(
        [*wrapper, *COMMAND, *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        return _parsed(*process.communicate())


def _parsed(printed: str, errors: str) -> Found:
    if not printed:
        raise RuntimeError(f"the command printed nothing, and complained: {errors}")
    found: Found = json.loads(printed)
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
