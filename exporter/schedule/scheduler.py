"""When traces run, and how many at once. What a trace is, it does not know.

Each target has a task of its own that waits for its tick, for one of the `concurrency` places,
and for its trace. So a target's traces never overlap: a tick that finds the last one still
running is skipped and counted. What fails in one target stays in its task.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from exporter.model import Target
from exporter.schedule.cadence import Cadence, splay

log = logging.getLogger(__name__)


class Scheduler:
    """Runs `trace(target)` for every target on its interval, until its task is cancelled.

    `skipped(name)` is called for each tick that was left out.
    """

    def __init__(
        self,
        trace: Callable[[Target], Awaitable[None]],
        skipped: Callable[[str], None],
        concurrency: int,
    ) -> None:
        self._trace = trace
        self._skipped = skipped
        self._places = asyncio.Semaphore(concurrency)
        self._tasks: dict[Target, asyncio.Task[None]] = {}

    def configure(self, targets: Sequence[Target]) -> None:
        """Take over a list of targets: unchanged ones go on, others end or begin."""
        for gone in self._tasks.keys() - set(targets):
            self._tasks.pop(gone).cancel()
        start = asyncio.get_running_loop().time()
        for index, target in enumerate(targets):
            if target not in self._tasks:
                cadence = splay(index, len(targets), target.interval, start)
                self._tasks[target] = asyncio.create_task(self._keep(target, cadence))

    async def stop(self) -> None:
        """Cancel every task and wait until it has cleaned up."""
        tasks = tuple(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, target: Target, cadence: Cadence) -> None:
        clock = asyncio.get_running_loop().time
        tick = cadence.first
        while True:
            await asyncio.sleep(tick - clock())
            async with self._places:
                try:
                    await self._trace(target)
                except Exception:
                    log.exception("internal error in the cycle of %r", target.name)
            # A loop's timer may be early by the resolution of its clock.
            now = max(tick, clock())
            for _ in range(cadence.missed(tick, now)):
                self._skipped(target.name)
            tick = cadence.next_tick(now)
