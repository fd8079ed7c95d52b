"""`serve`: the parts put together and kept running until a signal ends them."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from exporter import __version__
from exporter.as_table import AsTable
from exporter.compact import compact
from exporter.controls.elsewhere import elsewhere
from exporter.diagnosis.proxies import noted
from exporter.diagnosis.zones import ZoneMap
from exporter.directory import Directory, read_table
from exporter.discovery.discovery import Discovery
from exporter.discovery.merging import Merged
from exporter.model import (
    EngineStatus,
    Handshake,
    ReloadStatus,
    Surroundings,
    Target,
    Trace,
)
from exporter.names import Names
from exporter.networks import revealed
from exporter.observer import observe
from exporter.publish import objects
from exporter.publish.change import news
from exporter.publish.evidence import Evidence
from exporter.publish.instance import part_traced
from exporter.publish.log import LogStats, TraceLog
from exporter.publish.metrics import Exposition
from exporter.publish.pages import Pages
from exporter.publish.server import start
from exporter.publish.web import Credentials, Site
from exporter.schedule.depth import is_to_confirm, unsteady
from exporter.schedule.scheduler import Scheduler
from exporter.settings import ConfigurationError, Settings, fingerprint
from exporter.shares import own
from exporter.state.file import StateFile
from exporter.store import Record, Store
from exporter.surroundings import Memory
from exporter.verbs import Probing

log = logging.getLogger(__name__)

#: A reload changes these; every other setting needs a restart.
RELOADABLE = ("targets", "sources", "share", "platform_networks", "zones", "as_table")

LoadSettings = Callable[[], Settings]


class Service:
    """Everything that runs; made inside the running loop."""

    def __init__(
        self,
        settings: Settings,
        load: LoadSettings,
        probing: Probing,
        engine: EngineStatus,
        log_stats: LogStats,
    ) -> None:
        now = time.time()
        self._settings = settings
        self._load = load
        self._zones = _zones_of(settings)
        self._store = Store(engine, settings.source, ReloadStatus(successful=True, at=now), now)
        self._directory = Directory(Names() if settings.reverse_dns else None)
        self._probing = probing
        self._memory = Memory()
        self._state_file = (
            StateFile(settings.state_file, self._store) if settings.state_file else None
        )
        self._discovery = Discovery()
        self._merged = Merged((), ())
        #: Whether what there is to trace is known by now.
        self._running = False
        self._reloading = asyncio.Lock()
        self._reloads: set[asyncio.Task[str | None]] = set()
        self._trace_log = TraceLog(settings.log_traces, log_stats)
        scheduler = Scheduler(self._cycle, self._store.skip, settings.max_concurrent_traces)
        self._scheduler = scheduler
        self._store.scheduler_lag = lambda: scheduler.lag(time.monotonic())
        pages = Pages(self._store, __version__)
        self._site = Site(
            index=lambda wanted, number: pages.index(wanted, number, time.time()),
            pages=pages.count,
            target=lambda name, wanted: pages.target(name, wanted, time.time()),
            api_targets=lambda: objects.target_objects(self._store),
            api_target=self._api_target,
            metrics=Exposition(self._store, log_stats).pieces,
            ready=self._is_ready,
            reload=self.reload,
            trace_now=self._trace_now,
            evidence=Evidence(self._store, self._fingerprint, __version__).file,
        )

    async def run(self, sockets: Sequence[socket.socket]) -> None:
        """Serve until SIGTERM or SIGINT; raises `ConfigurationError` when AS_TABLE is no good."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload_soon)
        server = await start(self._site, sockets, self._credentials())
        self._use(await asyncio.to_thread(read_table, self._settings))
        await self._discover(stop)
        if self._state_file:
            self._share_out()
            await self._state_file.load(self._zones.places_of)
            self._state_file.start(stop)
        self._configure()
        self._running = True
        self._discovery.start(self._rediscover)
        _warn(self._settings)
        if part := part_traced(self._store):
            log.info("%s", part)
        log.info("ready: %d targets, engine %s", len(self._store), self._store.engine.name)
        await stop.wait()
        log.info("stopping")
        await self._discovery.stop()
        await self._scheduler.stop()
        if self._state_file:
            await self._state_file.end()
        await server.stop()

    async def reload(self) -> str | None:
        """Read the configuration anew; a bad one leaves the running one, and is returned."""
        async with self._reloading:
            try:
                # In a thread: a large file takes longer than a scrape may be kept waiting.
                settings = await asyncio.to_thread(self._load)
                table = await asyncio.to_thread(read_table, settings)
            except ConfigurationError as error:
                return self._stay(error.problems)
            if not settings.targets and not settings.sources:
                return self._stay(("no target is configured any more",))
            self._use(table)
            await self._discovery.look(settings.sources)
            self._take_over(settings)
            self._discovery.start(self._rediscover)
            return None

    def _reload_soon(self) -> None:
        task = asyncio.create_task(self.reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    def _take_over(self, settings: Settings) -> None:
        kept = replace(settings, **{name: getattr(self._settings, name) for name in RELOADABLE})
        if kept != self._settings:
            log.warning(
                "reloaded %s; the other settings that changed take effect after a restart",
                ", ".join(RELOADABLE),
            )
        self._settings = replace(
            self._settings, **{name: getattr(settings, name) for name in RELOADABLE}
        )
        self._configure()
        self._store.reload = ReloadStatus(successful=True, at=time.time())
        _warn(settings)
        log.info("configuration reloaded: %d targets", len(self._store))

    def _stay(self, problems: Sequence[str]) -> str:
        """Keep the running configuration, and say why everywhere."""
        text = "; ".join(problems)
        self._store.reload = replace(self._store.reload, successful=False, message=text)
        log.warning("the configuration was not reloaded, the old one stays: %s", text)
        return "\n".join(problems)

    def _use(self, table: AsTable | None) -> None:
        self._directory = replace(self._directory, table=table)

    def _configure(self) -> None:
        self._zones = _zones_of(self._settings)
        self._scheduler.configure(self._share_out())

    def _share_out(self) -> tuple[Target, ...]:
        """The targets of this instance; the store learns of them, and of how many there are."""
        share, store = self._settings.share, self._store
        self._merge()
        targets = own(self._merged.targets, share)
        store.share, store.configured = share, len(self._merged.targets)
        store.configure(targets)
        return targets

    def _merge(self) -> None:
        """Put together what is configured and what the sources name, and say what is left out."""
        before, self._merged = self._merged, self._discovery.merged(self._settings.targets)
        self._store.sources = self._discovery.status
        for line in self._merged.problems:
            if line not in before.problems:
                log.warning("discovery: %s", line)

    def _rediscover(self) -> None:
        """Take over what the sources name now; targets that stay keep record and rhythm."""
        before = self._merged.targets
        self._merge()
        if self._merged.targets != before:
            self._scheduler.configure(self._share_out())
            log.info("discovery: %d targets, %d before", len(self._merged.targets), len(before))

    async def _discover(self, stop: asyncio.Event) -> None:
        """Look at the sources for the first time; not longer than the program is to run."""
        looking = asyncio.create_task(self._discovery.look(self._settings.sources))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((looking, stopping), return_when=asyncio.FIRST_COMPLETED)
        for task in (looking, stopping):
            task.cancel()

    def _is_ready(self) -> bool:
        """From the first finished trace on; at once where there is nothing to trace by now."""
        nothing_to_trace = self._running and len(self._store) == 0
        return nothing_to_trace or any(record.latest for record in self._store)

    async def _cycle(self, target: Target) -> bool:
        """Observe a target, and tell of it; whether what was found should be confirmed soon."""
        record = self._store.get(target.name)
        if record is None:
            return False
        try:
            return await self._observe(target, record)
        finally:
            # Where a fault of ours has kept what was asked for from coming, nobody waits for it.
            if record.asked_at is not None:
                record.asked_at = None
                record.changed()

    async def _observe(self, target: Target, record: Record) -> bool:
        before = record.latest
        observation = await observe(
            target,
            self._probing,
            self._zones,
            record.known if record.asked_at is None else unsteady(record.known),
            source=self._settings.source,
            learn=self._learn,
            elsewhere=self._elsewhere,
        )
        self._store.unseen_errors = self._probing.unseen_errors()
        noted_too = noted(observation, self._settings.proxy)
        observation = compact(self._directory.described(noted_too))
        change = self._store.add(observation)
        self._trace_log.write(observation, change, news(record, change))
        return not change.flaps and is_to_confirm(observation, before)

    def _learn(self, trace: Trace, handshake: Handshake | None) -> Surroundings:
        now = time.monotonic()
        surroundings = self._memory.learn(trace, handshake, now)
        self._tell_whether_traceable(self._memory.untraceable(now))
        return surroundings

    def _elsewhere(self, trace: Trace) -> tuple[Trace, ...]:
        return elsewhere(self._store, trace, time.time())

    def _tell_whether_traceable(self, why_not: str) -> None:
        """Publish it, and log it once."""
        if why_not == self._store.engine.untraceable:
            return
        self._store.engine = replace(self._store.engine, untraceable=why_not)
        if why_not:
            log.warning("tracing is not possible here: %s; plain connects go on", why_not)
        else:
            log.info("nothing says any more that tracing is not possible here")

    def _trace_now(self, name: str) -> float | None:
        """Have a target traced out of turn; as `Scheduler.now`, and None without such a target."""
        record = self._store.get(name)
        if record is None:
            return None
        wait = self._scheduler.now(record.target)
        if not wait and record.asked_at is None:
            record.asked_at = time.time()
            record.changed()
        return wait

    def _fingerprint(self) -> str:
        return fingerprint(self._settings)

    def _api_target(self, name: str) -> object | None:
        record = self._store.get(name)
        return None if record is None else objects.record_object(record)

    def _credentials(self) -> Credentials | None:
        user, password = self._settings.basic_auth_username, self._settings.basic_auth_password
        return Credentials(user, password) if user and password else None


def _zones_of(settings: Settings) -> ZoneMap:
    return ZoneMap(settings.platform_networks, revealed(settings.source), settings.zones)


def _warn(settings: Settings) -> None:
    for warning in settings.warnings:
        log.warning("%s", warning)
