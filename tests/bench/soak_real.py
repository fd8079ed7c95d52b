"""An hour of `serve` in real time, on the network behind the TUN device: a row a minute.

100 targets in a cycle of 60 s, a scrape every 15 s and a page view a minute, as in the bench of
scale; nothing changes, so nothing may grow, and every verdict of every minute has to be right.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.paths import delayed
from tests.bench.scale_service import PROMETHEUS, Run, running
from tests.bench.scale_truth import SHARED_HOPS, Aim, Score, aims, score
from tests.bench.tun_network import Layout, TunNetwork

TARGETS, INTERVAL = 100, 60
MINUTE = 60.0
#: A trace that was begun so long before its minute is not of it.
OVERTIME = 30.0
THREADS = re.compile(r"^Threads:\s+(\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Minute:
    """What one minute showed; `resident` in MiB, `cpu` in per cent, `scrape` in seconds."""

    number: int
    resident: float
    descriptors: int
    threads: int
    cpu: float
    scrape: float
    score: Score

    @property
    def line(self) -> str:
        """As it is told while the soak runs."""
        return (
            f"minute {self.number}: {self.resident:.1f} MiB, {self.descriptors} descriptors, "
            f"{self.threads} threads, {self.cpu:.2f} % CPU, /metrics {self.scrape * 1e3:.0f} ms, "
            f"{len(self.score.wrong)} of {self.score.verdicts} verdicts wrong"
        )


def soak(minutes: int, tell: Callable[[str], None]) -> list[Minute]:
    """Run it, two cycles to warm up first; `tell` gets a line a minute and the log's warnings."""
    crowd = aims(TARGETS)
    with (
        TemporaryDirectory() as folder,
        TunNetwork(delayed(), Layout(SHARED_HOPS, echo=True)) as network,
        running(
            network, crowd, Path(folder), PROMETHEUS, {"INTERVAL_SECONDS": str(INTERVAL)}
        ) as run,
    ):
        run.watch(2 * INTERVAL)
        found = []
        for number in range(1, minutes + 1):
            found.append(_minute(number, run, crowd))
            tell(found[-1].line)
        for line in run.log.unusual:
            tell(line)
    return found


def _minute(number: int, run: Run, crowd: Sequence[Aim]) -> Minute:
    began = time.time()
    watched = run.watch(MINUTE)
    total = Score()
    for aim, told in run.told(crowd):
        total += score(aim, told, began - OVERTIME)
    status = Path(f"/proc/{run.service.pid}/status").read_text()
    threads = THREADS.search(status)
    return Minute(
        number=number,
        resident=run.memory().resident,
        descriptors=run.service.descriptors(),
        threads=int(threads[1]) if threads else 0,
        cpu=100 * sum(watched.cpu) / watched.seconds,
        scrape=max(watched.latencies),
        score=total,
    )
