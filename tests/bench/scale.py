"""What many targets cost, and whether their verdicts stay right: 10, 100 and 1,000 of them.

Each size has a network and a service of its own. Its first round shows how soon everything is
known; after a cycle to warm up come those that are measured, each over a whole interval: a scrape
every 15 s and a page view a minute are in their CPU. In the cycle after them /metrics is asked
all the time, since the few scrapes of a run tell no 99th percentile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from tests.bench.paths import delayed
from tests.bench.report import Goal, Part
from tests.bench.scale_service import PROMETHEUS, Cpu, Paced, Run, Watched, running
from tests.bench.scale_truth import (
    SHARED_HOPS,
    Aim,
    Journal,
    Score,
    Times,
    Told,
    aims,
    lags,
    percentile,
    score,
    times,
)
from tests.bench.serving import Memory
from tests.bench.tun_network import Layout, TunNetwork, journal

#: Seconds that a cycle may take beyond its interval: a blocked target's trace with its controls.
OVERTIME = 15.0
#: Seconds between scrapes that are to tell the 99th percentile.
OFTEN = 0.5
#: So many wrong verdicts are told in full.
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that is allowed: per cent, MiB, seconds."""

    missed_hops: float
    cpu: float
    memory: float
    scrape: float
    rtt_error: float


@dataclass(frozen=True, slots=True)
class Scale:
    """One column of the table, as the docs advise to set it up."""

    targets: int
    interval: int
    bounds: Bounds
    settings: Mapping[str, str] = field(default_factory=dict)
    pace: Paced = PROMETHEUS
    cycles: int = 2

    @property
    def environment(self) -> dict[str, str]:
        """What the service is started with."""
        return {"INTERVAL_SECONDS": str(self.interval), **self.settings}


#: As docs/configuration.md advises for 1,000 targets once a minute; the defaults do for 100.
BUSY = {"PROBES_PER_SECOND": "1000", "MAX_CONCURRENT_TRACES": "100"}
SCALES = {
    scale.targets: scale
    for scale in (
        Scale(10, 30, Bounds(0, 1, 80, 0.030, 0.001), cycles=4),
        Scale(100, 60, Bounds(1, 2, 90, 0.080, 0.001)),
        Scale(1000, 60, Bounds(1, 8, 128, 0.500, 0.002), BUSY),
    )
}


@dataclass(frozen=True, slots=True)
class Figures:
    """What one size showed."""

    scale: Scale
    first_round: float
    first_score: Score
    watched: tuple[Watched, ...]
    score: Score
    often: Watched
    memory: Memory
    times: Times
    lags: list[float]
    probes: float
    unusual: int

    @property
    def cpu(self) -> float:
        """Per cent of one core."""
        return self._share(one.cpu for one in self.watched)

    @property
    def network_cpu(self) -> float:
        """The same of the process that plays the network."""
        return self._share(one.network_cpu for one in self.watched)

    @property
    def seconds(self) -> float:
        """How long all measured cycles lasted."""
        return sum(one.seconds for one in self.watched)

    @property
    def cpu_of_target(self) -> Cpu:
        """For one target and cycle."""
        traces = self.scale.targets * self.seconds / self.scale.interval
        users, systems = zip(*(one.cpu for one in self.watched), strict=True)
        return Cpu(sum(users) / traces, sum(systems) / traces)

    def _share(self, taken: Iterable[Cpu]) -> float:
        """Per cent of one core over all measured cycles."""
        return 100 * sum(map(sum, taken)) / self.seconds

    @property
    def scrapes(self) -> list[float]:
        """The latencies of scrapes at Prometheus' pace."""
        return [latency for one in self.watched for latency in one.latencies]

    @property
    def slowest_scrape(self) -> float:
        """The worst at Prometheus' pace, or the 99th percentile of many: whichever is more."""
        return max(*self.scrapes, percentile(self.often.latencies, 0.99))


def measure(targets: Sequence[int] = tuple(SCALES)) -> Part:
    """The table of the sizes that are named. Raises KeyError for one that is not in `SCALES`."""
    return part([observe(SCALES[number]) for number in targets])


def observe(scale: Scale) -> Figures:
    """Run one size from its start to its end."""
    crowd = aims(scale.targets)
    with TemporaryDirectory() as name:
        folder = Path(name)
        layout = Layout(SHARED_HOPS, echo=True, journal=str(folder / "journal"))
        with (
            TunNetwork(delayed(), layout) as network,
            running(network, crowd, folder, scale.pace, scale.environment) as run,
        ):
            offset = time.time() - time.monotonic()
            seen = _Seen(run, scale, crowd)
            seen.run()
        entries = Journal(journal(folder / "journal"))
    return seen.figures(entries, offset)


class _Seen:
    """What a run shows, phase by phase."""

    def __init__(self, run: Run, scale: Scale, crowd: Sequence[Aim]) -> None:
        self._run = run
        self._scale = scale
        self._crowd = crowd
        self._told: list[tuple[Aim, Told]] = []
        self._watched: list[Watched] = []
        self._score = Score()
        #: On the monotonic clock.
        self._measured = 0.0, 0.0

    def run(self) -> None:
        """Go through all phases."""
        run, scale = self._run, self._scale
        self._first_round = run.first_round(scale.targets)
        self._first_score, _ = self._read(0.0)
        run.watch(scale.interval)
        began = time.monotonic()
        for _ in range(scale.cycles):
            cycle_began = time.time()
            self._watched.append(run.watch(scale.interval))
            found, told = self._read(cycle_began - OVERTIME)
            self._score += found
            self._told += told
        self._measured = began, time.monotonic()
        self._often = run.watch(scale.interval, replace(scale.pace, metrics=OFTEN))
        self._memory = run.memory()

    def _read(self, not_before: float) -> tuple[Score, list[tuple[Aim, Told]]]:
        """What the API tells of each target, and how right it is."""
        told = self._run.told(self._crowd)
        total = Score()
        for aim, one in told:
            total += score(aim, one, not_before)
        return total, told

    def figures(self, entries: Journal, offset: float) -> Figures:
        """All of it, once the network's journal is there."""
        began, ended = self._measured
        probes = sum(began <= entry.taken < ended for entry in entries)
        cycles = (ended - began) / self._scale.interval
        return Figures(
            self._scale,
            self._first_round,
            self._first_score,
            tuple(self._watched),
            self._score,
            self._often,
            self._memory,
            times(entries, self._told, offset),
            lags(entries),
            probes / cycles / self._scale.targets,
            len(self._run.log.unusual),
        )


# -- the table -------------------------------------------------------------------------

#: Row -> how it reads from the figures of one size.
ROWS: Mapping[str, Callable[[Figures], str]] = {
    "cycle, and how many are measured": lambda one: f"{one.scale.interval} s, {one.scale.cycles}",
    "right verdicts": lambda one: _share(_right(one.score), one.score.verdicts),
    "hops found of those that would answer one prober": lambda one: _share(
        one.score.found, one.score.hops
    ),
    "of them by probes of the trace itself": lambda one: _share(one.score.own, one.score.hops),
    "hops with a wrong address": lambda one: str(one.score.mistaken),
    "CPU of one core": lambda one: f"{one.cpu:.2f} %",
    "CPU a target and cycle": lambda one: f"{sum(one.cpu_of_target) * 1e3:.2f} ms",
    "the same by user, system": lambda one: (
        f"{one.cpu_of_target.user * 1e3:.2f}, {one.cpu_of_target.system * 1e3:.2f} ms"
    ),
    "traces begin late by at most": lambda one: f"{max(w.lag for w in one.watched):.2f} s",
    "SYNs a target and cycle": lambda one: f"{one.probes:.1f}",
    "RSS, at its peak": lambda one: f"{one.memory.peak:.1f} MiB",
    "/metrics every 15 s: median, slowest": lambda one: (
        f"{median(one.scrapes) * 1e3:.0f}, {max(one.scrapes) * 1e3:.0f} ms"
        f" ({len(one.scrapes)} scrapes)"
    ),
    "/metrics every 0.5 s: median, p99": lambda one: (
        f"{median(one.often.latencies) * 1e3:.0f}, "
        f"{percentile(one.often.latencies, 0.99) * 1e3:.0f} ms"
        f" ({len(one.often.latencies)} scrapes)"
    ),
    "error of hop RTTs against the truth: median, p99": lambda one: _errors(one.times.measured),
    "the same against what the network meant": lambda one: _errors(one.times.nominal),
    "the network's own CPU": lambda one: f"{one.network_cpu:.2f} %",
    "the network's own lateness: median, p99": lambda one: _errors(one.lags),
    "first round: all targets traced after": lambda one: f"{one.first_round:.1f} s",
    "first round: right verdicts": lambda one: _share(
        _right(one.first_score), one.first_score.verdicts
    ),
}


def part(figures: Sequence[Figures]) -> Part:
    """The sizes side by side."""
    return Part(
        title="Many targets: a quarter each open, dropped, rejected, closed",
        header=("what", *(f"{one.scale.targets} targets" for one in figures)),
        rows=tuple((what, *map(read, figures)) for what, read in ROWS.items()),
        goals=tuple(goal for one in figures for goal in _goals(one)),
        notes=tuple(note for one in figures for note in _notes(one)),
    )


def _goals(one: Figures) -> Iterator[Goal]:
    bounds, found = one.scale.bounds, one.score
    what = f"{one.scale.targets} targets"
    wrong = 100 * len(found.wrong) / found.verdicts
    missed = 100 * (found.hops - found.found) / found.hops
    error = percentile(one.times.measured, 0.99)
    yield Goal(f"{what}, verdicts that are not right", wrong, 0, "%")
    yield Goal(f"{what}, hops missed", missed, bounds.missed_hops, "%")
    yield Goal(f"{what}, CPU of one core", one.cpu, bounds.cpu, "%")
    yield Goal(f"{what}, RSS", one.memory.peak, bounds.memory, "MiB")
    yield Goal(f"{what}, /metrics", one.slowest_scrape * 1e3, bounds.scrape * 1e3, "ms")
    yield Goal(f"{what}, error of hop RTTs, p99", error * 1e3, bounds.rtt_error * 1e3, "ms")


def _notes(one: Figures) -> Iterator[str]:
    what = f"{one.scale.targets} targets"
    for line in (*one.first_score.wrong[:SHOWN], *one.score.wrong[:SHOWN]):
        yield f"{what}, wrong: {line}"
    if one.times.unpaired:
        yield f"{what}: {one.times.unpaired} round-trip times could not be compared"
    if one.unusual:
        yield f"{what}: {one.unusual} warnings or errors in the log"
    if settings := " ".join(f"{name}={value}" for name, value in one.scale.settings.items()):
        yield f"{what}: with {settings}"


def _right(found: Score) -> int:
    return found.verdicts - len(found.wrong)


def _share(part_of: int, whole: int) -> str:
    return f"{100 * part_of / whole:.4g} % of {whole}"


def _errors(seconds: Sequence[float]) -> str:
    if not seconds:
        return "none"
    return (
        f"{median(seconds) * 1e3:.2f}, {percentile(seconds, 0.99) * 1e3:.2f} ms of {len(seconds)}"
    )
