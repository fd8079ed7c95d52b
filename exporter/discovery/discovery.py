"""Discovery: looks at all sources, and says when what they name has changed.

Each source has a task of its own, so one that hangs keeps none of the others waiting. What was
found once stays until the source names something else: that it cannot be asked, or says
nonsense, is no reason to stop tracing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

from exporter.discovery.files import FileWatch
from exporter.discovery.http import HttpWatch
from exporter.discovery.merging import Merged, merged
from exporter.discovery.watch import Watch
from exporter.model import SourceStatus, Target
from exporter.settings import Sources

log = logging.getLogger(__name__)


class Discovery:
    """The watches of all sources; empty until `look`."""

    def __init__(self) -> None:
        self._watches: dict[str, Watch] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def look(self, sources: Sources | None) -> None:
        """Take over these sources and look at each of them, all at the same time.

        A source that was watched before keeps what it has named, until it names something else.
        """
        await self.stop()
        self._watches = {watch.name: watch for watch in _watches(sources, self._watches)}
        await asyncio.gather(*map(_look, self._watches.values()))

    def start(self, changed: Callable[[], None]) -> None:
        """Go on looking; `changed` is called when a source has changed, or how it fares."""
        for task in self._tasks:
            task.cancel()
        self._tasks = [asyncio.create_task(_keep(w, changed)) for w in self._watches.values()]

    async def stop(self) -> None:
        """Look no more; what was found stays."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    @property
    def status(self) -> tuple[SourceStatus, ...]:
        """How each source fares, in the order of the configuration."""
        return tuple(watch.found.status(watch.name) for watch in self._watches.values())

    def merged(self, configured: Sequence[Target]) -> Merged:
        """The configured targets and what the sources name now."""
        return merged(
            configured, [(watch.name, watch.found.targets) for watch in self._watches.values()]
        )


def _watches(sources: Sources | None, before: Mapping[str, Watch]) -> Iterator[Watch]:
    """A watch for each source, with what the one before it has seen."""
    if sources is None:
        return
    for file in sources.files:
        old = before.get(file.name)
        yield FileWatch(file, sources.lists, old if isinstance(old, FileWatch) else None)
    for url in sources.urls:
        old = before.get(url.name)
        yield HttpWatch(url, sources.lists, old if isinstance(old, HttpWatch) else None)


async def _keep(watch: Watch, changed: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(watch.pause)
        before = watch.found
        await _look(watch)
        if watch.found != before:
            try:
                changed()
            except Exception:
                log.exception("internal error while taking over what %s names", watch.name)


async def _look(watch: Watch) -> None:
    """Look once, and log what there was not to complain of before."""
    failed, said = bool(watch.found.failure), set(_complaints(watch))
    try:
        await watch.look()
    except Exception as error:
        log.exception("internal error while looking at %s", watch.name)
        watch.found = watch.found.failed(f"{watch.name}: internal error ({type(error).__name__})")
    for line in _complaints(watch):
        if line not in said:
            log.warning("discovery: %s", line)
    if failed and not watch.found.failure:
        log.info("discovery: %s can be read again", watch.name)


def _complaints(watch: Watch) -> Iterator[str]:
    found = watch.found
    if found.failure:
        yield f"{found.failure}; what was named before stays"
    if found.left_out:
        yield f"{watch.name}: entries that are left out: {found.left_out:,}"
    yield from found.problems
