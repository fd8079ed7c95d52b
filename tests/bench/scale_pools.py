"""What the other programs do with 100 targets at once: a pool of their processes, ours beside.

Every pool has a network of its own, with the same fates as in `scale`. What a pool printed is
read by the rules of tests/accuracy/readers.py. tcptraceroute mostly waits, so its pool goes on in
the background.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.accuracy.readers import Conclusion, Reading, compare, read_mtr, read_traceroute
from tests.accuracy.situation import Truth
from tests.bench.paths import delayed
from tests.bench.report import Part
from tests.bench.scale_pool import Pooled
from tests.bench.scale_service import PROMETHEUS, running
from tests.bench.scale_truth import SHARED_HOPS, Aim, Score, aims, score
from tests.bench.tools import MTR, TCPTRACEROUTE, TRACEROUTE, Tool, versions
from tests.bench.tun_network import Layout, TunNetwork
from tests.lab.tun import ROOT

TARGETS = 100
LAYOUT = Layout(SHARED_HOPS, echo=True)
READERS: Mapping[Tool, Callable[[str, str], Reading]] = {
    TCPTRACEROUTE: read_traceroute,
    TRACEROUTE: read_traceroute,
    MTR: read_mtr,
}
#: (program, how many of its processes at a time)
Case = tuple[Tool, int]
CASES: tuple[Case, ...] = ((TRACEROUTE, 100), (MTR, 100), (TRACEROUTE, 10), (MTR, 10))
IN_BACKGROUND: Case = (TCPTRACEROUTE, 100)
Settings = Mapping[str, str]
#: Of our service: the defaults, and how it would look at everything soon.
OURS: tuple[Settings, ...] = (
    {"INTERVAL_SECONDS": "60"},
    {"INTERVAL_SECONDS": "10", "MAX_CONCURRENT_TRACES": "100"},
)

_HOP = re.compile(r"\s*(\d{1,3})[.\s]")
_ADDRESS = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b")


@dataclass(frozen=True, slots=True)
class Row:
    """What one way to look at all targets took and found; `can't tell` is no mistake."""

    what: str
    seconds: float
    #: Of all targets together, in seconds.
    cpu: float
    targets: int
    hops: int
    found: int
    right: int
    wrong: int

    @property
    def cells(self) -> tuple[str, ...]:
        """As the table has them."""
        return (
            self.what,
            f"{self.seconds:.1f} s",
            f"{1e3 * self.cpu / self.targets:.1f} ms",
            f"{100 * self.found / self.hops:.3g} %",
            f"{100 * self.right / self.targets:.3g} %",
            f"{100 * self.wrong / self.targets:.3g} %",
        )


def measure(
    targets: int = TARGETS,
    cases: Sequence[Case] = CASES,
    background: Sequence[Case] = (IN_BACKGROUND,),
    ours: Sequence[Settings] = OURS,
) -> Part:
    """All pools, and the first round of our service. Raises MissingToolError."""
    told = versions(tuple(dict.fromkeys(tool for tool, _ in (*cases, *background))))
    crowd = aims(targets)
    with ThreadPoolExecutor() as threads:
        waiting = [threads.submit(_peer, case, crowd) for case in background]
        rows = [_ours(settings, crowd) for settings in ours]
        rows += [_peer(case, crowd) for case in cases]
        rows += [future.result() for future in waiting]
    return Part(
        title=f"{targets} targets at once, with other programs",
        header=("what", "all done after", "CPU a trace", "hops found", "right", "wrong"),
        rows=tuple(row.cells for row in rows),
        notes=(
            "right and wrong: what a reader concludes from what is printed; the rest can't tell",
            told,
        ),
    )


# -- the peers -------------------------------------------------------------------------


def _peer(case: Case, crowd: Sequence[Aim]) -> Row:
    tool, at_once = case
    with TunNetwork(delayed(), LAYOUT) as network:
        pooled = _pool(network, [_command(tool, aim) for aim in crowd], at_once)
    told = list(zip(crowd, pooled.printed, strict=True))
    read = READERS[tool]
    conclusions = [compare(read(text, aim.host), truth(aim)) for aim, text in told]
    return Row(
        f"`{tool.command_line}`, {at_once} at a time",
        pooled.seconds,
        pooled.cpu,
        len(crowd),
        sum(aim.truth.last_reachable_hop for aim in crowd),
        sum(found(aim, text) for aim, text in told),
        conclusions.count(Conclusion.RIGHT),
        conclusions.count(Conclusion.WRONG),
    )


def _pool(network: TunNetwork, commands: list[list[str]], at_once: int) -> Pooled:
    argv = [sys.executable, "-m", "tests.bench.scale_pool"]
    given = json.dumps({"commands": commands, "at_once": at_once})
    done = network.run(argv, cwd=ROOT, input=given, stdout=subprocess.PIPE, text=True, check=True)
    return Pooled(**json.loads(done.stdout))


def _command(tool: Tool, aim: Aim) -> list[str]:
    arguments = (argument.format(host=aim.host, port=aim.port) for argument in tool.arguments)
    return [tool.name, *arguments]


def truth(aim: Aim) -> Truth:
    """As the rules for readers want it."""
    truth = aim.truth
    return Truth(
        frozenset({truth.state}),
        culprit=truth.last_reachable_hop if truth.blocked_at_hop else None,
        blocked_by={"ipv4": aim.router(truth.blocked_by)} if truth.blocked_by else {},
    )


def found(aim: Aim, printed: str) -> int:
    """How many of the hops that would answer one prober it shows."""
    shown = {
        int(hop[1]): _ADDRESS.findall(line)
        for line in printed.splitlines()
        if (hop := _HOP.match(line))
    }
    present = range(1, aim.truth.last_reachable_hop + 1)
    return sum(aim.router(hop) in shown.get(hop, ()) for hop in present)


# -- ours ------------------------------------------------------------------------------


def _ours(settings: Settings, crowd: Sequence[Aim]) -> Row:
    """The first round of a service, from the start of its process on."""
    with (
        TemporaryDirectory() as name,
        TunNetwork(delayed(), LAYOUT) as network,
        running(network, crowd, Path(name), PROMETHEUS, settings) as run,
    ):
        seconds = run.first_round(len(crowd))
        cpu = sum(run.cpu())
        total = Score()
        for aim, told in run.told(crowd):
            total += score(aim, told, 0.0)
    given = " ".join(f"{name}={value}" for name, value in settings.items())
    return Row(
        f"`{given} egress-exporter`, first round",
        seconds,
        cpu,
        len(crowd),
        total.hops,
        total.found,
        total.verdicts - len(total.wrong),
        len(total.wrong),
    )
