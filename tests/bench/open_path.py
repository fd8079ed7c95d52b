"""How long it takes to see a whole open path with real delays.

Every run has a path of its own behind the TUN device, since routers limit ICMP errors there
as Linux does; so nothing has to be waited for between runs.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Mapping
from statistics import median

from exporter.probing.engines import ENGINES
from tests.bench.paths import BLOCKED, DESTINATION_RTT, OPEN_PORT, delayed
from tests.bench.report import Goal, Part, summary
from tests.bench.tools import (
    MTR,
    OURS,
    OURS_UNPRIVILEGED,
    TCPTRACEROUTE,
    TRACEROUTE,
    Timed,
    Tool,
    versions,
)
from tests.bench.tun_network import TunNetwork
from tests.lab.lab import Lab
from tests.lab.tun import ROOT

RUNS: Mapping[Tool, int] = {
    OURS: 5,
    OURS_UNPRIVILEGED: 5,
    TCPTRACEROUTE: 5,
    TRACEROUTE: 5,
    MTR: 2,
}
SWEEPS = 10
#: 2 x the destination's round trip + 30 ms.
FIRST_SWEEP_BOUND = 2 * DESTINATION_RTT + 0.030

Sweeps = list[dict[str, float]]


def measure(runs: Mapping[Tool, int] = RUNS, sweeps: int = SWEEPS) -> Part:
    """Our first sweep from inside, then every program's wall time."""
    told = versions(tuple(runs))
    with TunNetwork(delayed()) as network:
        inside: dict[str, Sweeps] = {
            engine: ask_prober(network, "sweep", engine, place * sweeps, sweeps)
            for place, engine in enumerate(ENGINES)
        }
        fresh = map(network.destination, itertools.count(len(ENGINES) * sweeps))
        timed = {tool: _repeat(network, tool, times, fresh) for tool, times in runs.items()}
    return _part(inside, timed, told)


def ask_prober(network: Lab, *arguments: str | int) -> list[dict[str, float]]:
    """The answer of `tests.bench.prober`, run in the prober's namespace."""
    argv = [sys.executable, "-m", "tests.bench.prober", *map(str, arguments)]
    done = network.run(argv, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv[1:])}: {done.stderr.strip()}")
    answer: list[dict[str, float]] = json.loads(done.stdout)
    return answer


def _repeat(network: TunNetwork, tool: Tool, times: int, fresh: Iterator[str]) -> list[Timed]:
    return [tool.run(network, next(fresh), OPEN_PORT) for _ in range(times)]


def _part(inside: Mapping[str, Sweeps], timed: Mapping[Tool, list[Timed]], told: str) -> Part:
    rows = [row for engine, sweeps in inside.items() for row in _inside_rows(engine, sweeps)]
    rows += [_row(tool, runs) for tool, runs in timed.items()]
    return Part(
        title=f"An open endpoint: {BLOCKED.hops} hops, round trip {DESTINATION_RTT * 1e3:.0f} ms",
        header=("what", "time, median", "what it found"),
        rows=tuple(rows),
        goals=tuple(goal for engine, sweeps in inside.items() for goal in _goals(engine, sweeps)),
        notes=(told,),
    )


def _inside_rows(engine: str, sweeps: Sweeps) -> Iterator[tuple[str, str, str]]:
    seconds = [sweep["seconds"] for sweep in sweeps]
    durations = [sweep["duration"] for sweep in sweeps]
    yield (
        f"first sweep, engine {engine}, from the `Trace`",
        summary(seconds, "ms", 1e3),
        f"{_found(sweeps)} hops found",
    )
    yield (
        f"whole trace, engine {engine}, from the `Trace`",
        summary(durations),
        "3 attempts a hop, 0.6 s apart",
    )


def _goals(engine: str, sweeps: Sweeps) -> Iterator[Goal]:
    taken = median(sweep["seconds"] for sweep in sweeps)
    missed = BLOCKED.hops - _found(sweeps)
    yield Goal(f"first sweep, engine {engine}", taken * 1e3, FIRST_SWEEP_BOUND * 1e3, "ms")
    yield Goal(f"hops that a first sweep of engine {engine} missed", missed, 0, "hops")


def _found(sweeps: Sweeps) -> int:
    return min(int(sweep["hops_found"]) for sweep in sweeps)


def _row(tool: Tool, runs: list[Timed]) -> tuple[str, str, str]:
    hops = sorted({tool.last_hop(run.output).hop for run in runs})
    return (
        f"`{tool.command_line}`, wall time",
        summary([run.seconds for run in runs]),
        f"last hop {', '.join(map(str, hops))}",
    )
