"""The targets of one command, traced together in rounds, as `serve` traces its own.

They share what the first hops answer and the rate of probes; what one round has shown of an
address, the next one knows. So that there is something to share, the first target has a head
start, and the others follow one by one: the routers that all of them cross say a few ICMP errors
a second each, and what is not said looks like loss.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

from exporter.commands.progress import Progress
from exporter.controls.elsewhere import elsewhere
from exporter.diagnosis.proxies import noted
from exporter.diagnosis.zones import ZoneMap
from exporter.directory import Directory, read_table
from exporter.model import (
    EngineStatus,
    Handshake,
    Observation,
    ReloadStatus,
    Surroundings,
    Trace,
)
from exporter.names import Names
from exporter.networks import revealed
from exporter.observer import observe
from exporter.probing.driver import Prober
from exporter.publish.change import news
from exporter.publish.text import printable, summary_line, timestamp
from exporter.settings import Settings
from exporter.store import Change, Record, Store
from exporter.surroundings import Memory
from exporter.verbs import Probing

#: Seconds that a cycle waits for the names of responders, once it has traced.
NAMES_WAIT = 1.0
#: Seconds that the first target is alone in the first round; from one target to the next; and from
#: the second to the last at most.
HEAD_START, SPACING, SPREAD = 3.0, 1.0, 30.0
#: So many changes are remembered, to stand below the latest round.
CHANGES_SHOWN = 8


class Session:
    """Made inside the running loop; `told` gets a line for each thing that is new."""

    def __init__(
        self,
        settings: Settings,
        status: EngineStatus,
        prober: Prober,
        probing: Probing,
        told: Callable[[str], None],
    ) -> None:
        now = time.time()
        self._settings = settings
        self._probing = probing
        self._told = told
        self._zones = ZoneMap(settings.platform_networks, revealed(settings.source), settings.zones)
        self._store = Store(status, settings.source, ReloadStatus(successful=True, at=now), now)
        self._store.configure(settings.targets)
        self._memory = Memory()
        self._names = Names() if settings.reverse_dns else None
        self._reading = asyncio.create_task(asyncio.to_thread(read_table, settings))
        self._places = asyncio.Semaphore(settings.max_concurrent_traces)
        self.progress = tuple(Progress(target, self._zones, prober) for target in settings.targets)
        self.rounds = 0
        #: The last lines about what has changed since the first round, and how many there were.
        self.recent: deque[str] = deque(maxlen=CHANGES_SHOWN)
        self.changes = 0
        #: When the next round begins, in seconds since the epoch; 0 while one runs.
        self.next_at = 0.0

    async def round(self) -> None:
        """Trace every target once. Raises `ConfigurationError` when AS_TABLE is no good."""
        self.rounds += 1
        self.next_at = 0.0
        begins = starts(
            len(self.progress), self.progress[0].target.interval, first=self.rounds == 1
        )
        rows = zip(self.progress, self._store, begins, strict=True)
        await asyncio.gather(*(self._observe(*row) for row in rows))

    async def watch(self, every: float, traced: Callable[[], None]) -> None:
        """Round after round without end, so many seconds apart or more; `traced` after each."""
        clock = asyncio.get_running_loop().time
        while True:
            not_before = clock() + every
            await self.round()
            traced()
            wait = max(not_before - clock(), 0.0)
            self.next_at = time.time() + wait
            await asyncio.sleep(wait)

    def keep(self) -> None:
        """Keep what is known so far: the round is about to be cancelled."""
        for one in self.progress:
            one.keep()

    @property
    def observations(self) -> Sequence[Observation]:
        """The last one of each target that has one, in the order of the targets."""
        return [one.observation for one in self.progress if one.observation]

    async def _observe(self, progress: Progress, record: Record, wait: float) -> None:
        await asyncio.sleep(wait)
        async with self._places:
            observation = await observe(
                progress.target,
                progress.begin(self._probing),
                self._zones,
                record.known,
                source=self._settings.source,
                learn=self._learn,
                elsewhere=self._elsewhere,
            )
            directory = Directory(self._names, await self._reading)
            seen = noted(observation, self._settings.proxy)
            # In a thread: others are being traced meanwhile.
            named = await asyncio.to_thread(directory.asked, seen, NAMES_WAIT)
        progress.end(named)
        self._tell(record, self._store.add(named))

    def _tell(self, record: Record, change: Change) -> None:
        for line in change_lines(record, change):
            self._told(line)
            if not change.first:
                self.recent.append(line)
                self.changes += 1

    def _learn(self, trace: Trace, handshake: Handshake | None) -> Surroundings:
        return self._memory.learn(trace, handshake, time.monotonic())

    def _elsewhere(self, trace: Trace) -> tuple[Trace, ...]:
        return elsewhere(self._store, trace, time.time())


def starts(count: int, interval: float, *, first: bool) -> list[float]:
    """When each of so many targets begins, in seconds since the round did."""
    spacing = min(SPACING, SPREAD / count, interval / count)
    head = HEAD_START if first else spacing
    return [0.0, *(head + number * spacing for number in range(count - 1))]


def change_lines(record: Record, change: Change) -> list[str]:
    """What the record's latest observation has changed, a line each with its time in UTC."""
    if record.latest is None:
        return []
    at = timestamp(record.latest.started_at)
    name = printable(record.target.name)
    if told := news(record, change):
        return [f"{at} {name}: {line}" for line in told]
    return [f"{at} {summary_line(record.latest)}"] if change else []
