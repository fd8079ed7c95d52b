"""Many hours of `serve` in virtual time: the real service over a simulated network.

Scheduler, observer, prober, store, state file, log, web server and reloads are the program's own;
the engine is `soak_world.World`, and connect() is its own, too. The loop's clock jumps from timer
to timer, and whatever asks for the time is given the loop's. What is published is read as a user
reads it, by HTTP over loopback: every minute the metrics, every round the pages.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

from exporter.config import load
from exporter.controls.canary import Canaries
from exporter.model import EngineStatus
from exporter.probing.driver import PROBE_BURST, Driver, Prober
from exporter.probing.near import Near
from exporter.publish import log
from exporter.service import Service
from exporter.settings import Settings
from exporter.verbs import Probing
from tests.bench.soak_world import (
    DETOUR_HOPS,
    NEAR_HOP,
    PLATFORM,
    PORT,
    Timetable,
    World,
    destination,
)
from tests.unit import virtual
from tests.unit.playing import START

#: When the soak begins, in seconds since the epoch.
EPOCH = 1_767_225_600.0
SCRAPES_EVERY = 60.0
INTERVAL = 60.0
#: A verdict may be so old; a trace takes up to 10 s and begins up to half an interval late.
OLDEST = 2 * INTERVAL
#: A changed router may show after so many cycles.
FOUND_WITHIN = 2
SAMPLE = re.compile(r"^(\w+)\{(.*)\} (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Size:
    """How much is soaked; `guests` are the targets that come and go."""

    targets: int = 100
    guests: int = 10
    rounds: int = 30
    round_seconds: float = 3600.0

    @property
    def seconds(self) -> float:
        """Virtual seconds altogether."""
        return self.rounds * self.round_seconds


@dataclass(frozen=True, slots=True)
class Levels:
    """What must not grow, at the end of a round."""

    #: sys.getallocatedblocks(): what Python holds, in pieces of memory.
    blocks: int
    resident: float
    descriptors: int
    tasks: int
    threads: int
    series: int
    processor_seconds: float


@dataclass
class Findings:
    """What the soak has found."""

    levels: list[Levels] = field(default_factory=list)
    right: int = 0
    #: Of verdicts on a path that was steady.
    wrong: Counter[str] = field(default_factory=Counter)
    #: Hops in whose place another router is shown than stands there.
    wrong_hops: Counter[str] = field(default_factory=Counter)
    stale: Counter[str] = field(default_factory=Counter)
    #: Targets of the scrape that are not configured, or the other way round.
    wrong_targets: Counter[str] = field(default_factory=Counter)
    traces: int = 0
    probes: int = 0


class _Inline(ThreadPoolExecutor):
    """Does at once what is meant for a thread: else virtual time would run meanwhile."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """The finished work."""
        done: Future[Any] = Future()
        try:
            done.set_result(work(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  -- goes to whoever awaits it
            done.set_exception(error)
        return done


class _Clock:
    """Stands for the module `time` where the program asks what time it is."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def time(self) -> float:
        return EPOCH + self.monotonic() - START

    def __getattr__(self, name: str) -> object:
        return getattr(time, name)


def soak(size: Size, tell: Callable[[str], None]) -> Findings:
    """Run it; `tell` gets a line a round. Changes the clock of this process for good."""
    clock = _Clock()
    for name, module in tuple(sys.modules.items()):
        if name.startswith("exporter.") and getattr(module, "time", None) is time:
            module.time = clock  # type: ignore[attr-defined]
    log.TraceLog.__init__.__defaults__ = (clock.monotonic,)
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w") as nowhere:
        stats = log.configure("text", nowhere)
        return virtual.run(_Soak(size, Path(folder), stats, tell).run())


class _Soak:
    def __init__(
        self, size: Size, folder: Path, stats: log.LogStats, tell: Callable[[str], None]
    ) -> None:
        self._size = size
        self._folder = folder
        self._stats = stats
        self._tell = tell
        self._timetable = Timetable(size.round_seconds)
        self._findings = Findings()
        self._configured: set[str] = set()
        self._reconfigured_at = 0.0
        self._world: World

    async def run(self) -> Findings:
        """The service beside its reader, until the last round is over."""
        asyncio.get_running_loop().set_default_executor(_Inline())
        self._world = World(self._timetable, range(self._size.targets + self._size.guests))
        settings = self._settings()
        prober = Prober(Driver(self._world, settings.probes_per_second, PROBE_BURST, near=Near()))
        probing = Probing(
            _itself,
            prober.trace,
            self._world.connect,
            sound=prober.trace,
            canary=Canaries(prober.trace).ask,
        )
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        service = Service(
            settings, self._settings, probing, EngineStatus("simulated", "a soak"), self._stats
        )
        reading = asyncio.create_task(self._read(address))
        await service.run([listener])
        prober.close()
        await reading
        self._findings.probes = self._world.probes
        return self._findings

    def _settings(self) -> Settings:
        """What is configured now: the guests are there in every second half of a round."""
        at = self._world.elapsed()
        guests = self._size.guests if at / self._size.round_seconds % 1 >= 1 / 2 else 0
        numbers = range(self._size.targets + guests)
        self._configured, self._reconfigured_at = {f"t{number}" for number in numbers}, at
        return load(
            {
                "ENDPOINTS": " ".join(f"t{n}={destination(n)}:{PORT}" for n in numbers),
                "PLATFORM_NETWORKS": PLATFORM,
                "INTERVAL_SECONDS": str(INTERVAL),
                "STATE_FILE": str(self._folder / "state.json"),
            }
        )

    # -- the reader ----------------------------------------------------------------------

    async def _read(self, address: tuple[str, int]) -> None:
        half = self._size.round_seconds / 2
        for part in range(2 * self._size.rounds):
            await self._scrape_until((part + 1) * half, address)
            # The last scrape of a round was the same in each of them.
            if part % 2:
                await self._end_round(address, part // 2 + 1)
            await _ask(address, "POST", "/-/reload")
        signal.raise_signal(signal.SIGTERM)

    async def _scrape_until(self, end: float, address: tuple[str, int]) -> None:
        while (left := end - self._world.elapsed()) > 0:
            await asyncio.sleep(min(left, SCRAPES_EVERY))
            text = (await _ask(address, "GET", "/metrics")).decode()
            self._series = text.count("\negress_")
            self._judge(_by_target(text))

    async def _end_round(self, address: tuple[str, int], number: int) -> None:
        for path in ("/", "/targets/t2", "/api/v1/targets", "/api/v1/targets/t2"):
            await _ask(address, "GET", path)
        gc.collect()
        levels = Levels(
            blocks=sys.getallocatedblocks(),
            resident=_resident(),
            descriptors=_descriptors(),
            tasks=len(asyncio.all_tasks()),
            threads=threading.active_count(),
            series=self._series,
            processor_seconds=time.process_time(),
        )
        found = self._findings
        found.levels.append(levels)
        self._tell(
            f"round {number}: {levels.processor_seconds:.0f} s of CPU, {levels.blocks:,} blocks, "
            f"{levels.resident:.1f} MiB, {levels.descriptors} descriptors, {levels.tasks} tasks, "
            f"{levels.series:,} series; right {found.right:,}, wrong {found.wrong.total()}, "
            f"wrong hops {found.wrong_hops.total()}, stale {found.stale.total()}, "
            f"wrong targets {found.wrong_targets.total()}"
        )

    # -- what is published, held against the truth -----------------------------------------

    def _judge(self, scrape: Mapping[str, Published]) -> None:
        now, found = self._world.elapsed(), self._findings
        found.wrong_targets.update(scrape.keys() ^ self._configured)
        for name, published in scrape.items():
            if published.ended is None:
                # Just added: its first trace has yet to come.
                found.stale[name] += now - self._reconfigured_at > OLDEST
                continue
            found.stale[name] += now - published.ended > OLDEST
            self._judge_one(int(name[1:]), published)

    def _judge_one(self, number: int, published: Published) -> None:
        found, timetable = self._findings, self._timetable
        ended, began = published.ended or 0.0, published.began
        if timetable.steady(number, began, ended):
            truth = timetable.fate(number, began).truth
            if published.verdict == astuple(truth):
                found.right += 1
            else:
                found.wrong[f"t{number}: {published.verdict} for {truth}"] += 1
        if timetable.steady(number, began - FOUND_WITHIN * INTERVAL, ended):
            way = timetable.way(number, began)
            for hop in (NEAR_HOP, *DETOUR_HOPS):
                shown = published.hops.get(hop)
                if shown and shown != way.address(hop):
                    found.wrong_hops[f"t{number} hop {hop}: {shown} for {way.address(hop)}"] += 1


@dataclass(slots=True)
class Published:
    """What the metrics say of one target; times in seconds since the start of the soak."""

    state: str = ""
    location: str = ""
    blocked_at_hop: float = 0.0
    first_suspect: float = 0.0
    last_suspect: float = 0.0
    ended: float | None = None
    duration: float = 0.0
    hops: dict[int, str] = field(default_factory=dict)

    @property
    def began(self) -> float:
        """When the trace began."""
        return (self.ended or 0.0) - self.duration

    @property
    def verdict(self) -> tuple[object, ...]:
        """What is held against the truth."""
        suspects = self.first_suspect, self.last_suspect
        return self.state, self.location, self.blocked_at_hop, suspects


#: Takes in one sample.
Reader = Callable[[Published, Labels, float], None]


def _state(one: Published, labels: Labels, value: float) -> None:
    if value:
        one.state = labels["state"]


def _location(one: Published, labels: Labels, value: float) -> None:
    if value:
        one.location = labels["location"]


def _number(attribute: str, zero: float = 0.0) -> Reader:
    return lambda one, _, value: setattr(one, attribute, value - zero)


def _hop(one: Published, labels: Labels, _: float) -> None:
    one.hops[int(labels["hop"])] = labels["address"]


#: Metric -> what it says of its target.
READERS: Mapping[str, Reader] = {
    "egress_target_info": lambda *_: None,
    "egress_state": _state,
    "egress_blocked": _location,
    "egress_blocked_at_hop": _number("blocked_at_hop"),
    "egress_suspect_hop_first": _number("first_suspect"),
    "egress_suspect_hop_last": _number("last_suspect"),
    "egress_last_trace_timestamp_seconds": _number("ended", EPOCH),
    "egress_last_trace_duration_seconds": _number("duration"),
    "egress_hop_info": _hop,
}


def _by_target(text: str) -> dict[str, Published]:
    found: dict[str, Published] = {}
    for name, labels, value in _samples(text):
        if read := READERS.get(name):
            read(found.setdefault(labels["target"], Published()), labels, value)
    return found


def _samples(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for name, labels, value in SAMPLE.findall(text):
        yield name, dict(LABEL.findall(labels)), float(value)


async def _itself(host: str, _port: int, _family: object) -> list[str]:
    """What an address resolves to."""
    return [host]


async def _ask(address: tuple[str, int], method: str, path: str) -> bytes:
    """The body of an answer, which has to be a good one."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(f"{method} {path} HTTP/1.0\r\nHost: soak\r\n\r\n".encode())
        answer = await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 200 " in head.splitlines()[0], f"{path}: {head.decode()}"
    return body


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _resident() -> float:
    """Resident memory in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
