"""How long a verdict takes where a firewall drops in mid-path.

Every run gets a lab of its own: routers send one recipient 6 ICMP errors at once and then one
a second, so a run must not pay for the one before. tcptraceroute mostly waits (3 s for each
of 72 SYNs), so its one run goes on in the background in a lab that nobody else uses.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from statistics import median

from tests.bench.paths import BLOCKED, DROPPED_PORT
from tests.bench.report import Goal, Part, summary
from tests.bench.tools import (
    MTR,
    OURS,
    OURS_CONTROLLED,
    OURS_UNPRIVILEGED,
    TCPTRACEROUTE,
    TRACEROUTE,
    Timed,
    Tool,
    versions,
)
from tests.lab.lab import Lab

RUNS: Mapping[Tool, int] = {
    TCPTRACEROUTE: 1,
    OURS: 7,
    OURS_UNPRIVILEGED: 7,
    OURS_CONTROLLED: 7,
    TRACEROUTE: 3,
    MTR: 3,
}
OURS_ALL = (OURS, OURS_UNPRIVILEGED, OURS_CONTROLLED)
#: At most this part of the other program's time.
GOALS = {TCPTRACEROUTE: 1 / 50, TRACEROUTE: 1 / 6}
#: The connect engine may take so many times what the syn engine takes.
TIMES_SYN = 1.5
#: Controls may add so many seconds.
CONTROL_SECONDS = 1.5


def measure(runs: Mapping[Tool, int] = RUNS) -> Part:
    """Run each tool so often and compare the medians. Takes as long as tcptraceroute."""
    told = versions(tuple(runs))
    background = [tool for tool in runs if tool is TCPTRACEROUTE]
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = {tool: pool.submit(_repeat, tool, runs[tool]) for tool in background}
        timed = {tool: _repeat(tool, runs[tool]) for tool in runs if tool not in waiting}
        timed |= {tool: future.result() for tool, future in waiting.items()}
    return _part(timed, told)


def _repeat(tool: Tool, times: int) -> list[Timed]:
    found = []
    for _ in range(times):
        with Lab(BLOCKED) as lab:
            found.append(tool.run(lab, BLOCKED.destination, DROPPED_PORT))
    return found


def _part(timed: Mapping[Tool, list[Timed]], told: str) -> Part:
    ours = _median(timed[OURS])
    return Part(
        title=f"A blocked endpoint: {BLOCKED.hops} hops, dropped at hop 6",
        header=("command", "wall time, median", "against ours", "last hop that answered"),
        rows=tuple(_row(tool, runs, ours) for tool, runs in timed.items()),
        goals=tuple(_goals(timed)),
        notes=(
            *(_own_duration(tool, timed[tool]) for tool in OURS_ALL if tool in timed),
            told,
        ),
    )


def _goals(timed: Mapping[Tool, list[Timed]]) -> Iterator[Goal]:
    ours = _median(timed[OURS])
    for tool, bound in GOALS.items():
        if tool in timed:
            share = ours / _median(timed[tool])
            yield Goal(f"our wall time as a share of {tool.name}'s", share, bound, "")
    share = _median(timed[OURS_UNPRIVILEGED]) / ours
    yield Goal("the connect engine's wall time against the syn engine's", share, TIMES_SYN, "x")
    if OURS_CONTROLLED in timed:
        added = _median(timed[OURS_CONTROLLED]) - ours
        yield Goal("what the controls add", added, CONTROL_SECONDS, "s")


def _median(runs: list[Timed]) -> float:
    return median(run.seconds for run in runs)


def _row(tool: Tool, runs: list[Timed], ours: float) -> tuple[str, ...]:
    seconds = [run.seconds for run in runs]
    last_hops = {str(tool.last_hop(run.output)) for run in runs}
    return (
        f"`{tool.command_line}`",
        summary(seconds),
        f"{_median(runs) / ours:.3g} x",
        "; ".join(sorted(last_hops)),
    )


def _own_duration(tool: Tool, runs: list[Timed]) -> str:
    durations = [float(json.loads(run.output)["duration_seconds"]) for run in runs]
    return f"of `{tool.command_line}` the observation took {summary(durations)}"
