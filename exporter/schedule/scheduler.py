"""When traces run, and how many at once. What a trace is, it does not know.

1. One heap holds the next tick of each target that neither waits nor runs, and one timer waits for
   the first of them. A trace is a task only while it runs.
2. A target whose tick has come gets one of the `concurrency` places, or waits for one. Whatever has
   just been found to fail goes first, then who has waited longest. Nobody goes first twice in a
   row, so everybody has a turn.
3. A target's traces never overlap: a tick that comes while it waits or runs is skipped and counted.
   So with too few places nothing piles up: each target is traced about equally often, more seldom
   than it should be.
4. A target that somebody asks for (see `asking`) is traced as soon as there is a place, before all
   others, and at its next tick as ever. Of two places that become free one at least is for
   somebody else, if anybody waits. Who waits or runs already is not traced a second time.
5. What fails in one target stays in its task.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import count

from exporter.model import Target
from exporter.schedule.asking import PAUSE, Allowance
from exporter.schedule.cadence import (
    Cadence,
    early_spacing,
    early_tick,
    first_spacing,
    joining,
)
from exporter.schedule.lateness import Lateness

log = logging.getLogger(__name__)

#: Of the shortest interval: a trace that begins later than that is worth a warning.
TOLERATED = 0.5


@dataclass(slots=True, eq=False)
class _Entry:
    """A target, and the tick that it sleeps, waits or runs for."""

    target: Target
    cadence: Cadence
    due: float
    #: What its last trace has found is to be confirmed by the next one.
    unconfirmed: bool = False
    #: When somebody may ask for it again.
    askable_from: float = 0.0


class Scheduler:
    """Runs `trace(target)` for every target on its interval, until it is stopped.

    `trace` returns whether what it has found should be confirmed soon. `skipped(name)` is called
    for each tick that was left out.
    """

    def __init__(
        self,
        trace: Callable[[Target], Awaitable[bool]],
        skipped: Callable[[str], None],
        concurrency: int,
    ) -> None:
        self._trace = trace
        self._skipped = skipped
        self._concurrency = concurrency
        self._entries: dict[Target, _Entry] = {}
        #: (due, number, who), a heap; the number decides between equal times.
        self._ticks: list[tuple[float, int, _Entry]] = []
        self._numbers = count()
        #: Those that somebody asked for, in the order of asking.
        self._asked: deque[_Entry] = deque()
        #: Those whose tick has come, each queue by due time: to be confirmed, and ordinary ones.
        self._urgent: deque[_Entry] = deque()
        self._waiting: deque[_Entry] = deque()
        self._running: dict[asyncio.Task[bool], _Entry] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._early_from = self._early_spacing = 0.0
        self._allowance = Allowance()
        #: Whether the last place went to one that somebody asked for.
        self._obliged = False
        self._lateness = Lateness()
        #: Since when somebody waits for a place; None when nobody does.
        self._waiting_since: float | None = None
        self._tolerated = 0.0
        self._overloaded = False

    def lag(self, now: float) -> float:
        """How many seconds late traces begin: the longest wait now, or of the last minute."""
        waiting_since = self._waiting_since
        waiting = 0.0 if waiting_since is None else now - waiting_since
        return max(waiting, self._lateness.worst(now))

    def configure(self, targets: Sequence[Target]) -> None:
        """Take over a list of targets: unchanged ones go on, others end or begin."""
        self._remove(self._entries.keys() - set(targets))
        self._add([target for target in targets if target not in self._entries], len(targets))
        if targets:
            intervals = [target.interval for target in targets]
            self._early_spacing = early_spacing(intervals)
            self._tolerated = TOLERATED * min(intervals)
        self._work()

    def now(self, target: Target) -> float:
        """Trace a target out of turn, for somebody asks for it.

        0 when it is under way; else nothing happens, and after so many seconds it may be asked
        for again: there was enough asking, or the target is not scheduled now.
        """
        entry = self._entries.get(target)
        if entry is None:
            return PAUSE
        if entry in self._asked or entry in self._running.values():
            return 0.0
        now = asyncio.get_running_loop().time()
        if wait := max(0.0, entry.askable_from - now, self._allowance.wait(now)):
            return wait
        self._allowance.take(now)
        entry.askable_from = now + PAUSE
        self._withdraw({entry})
        entry.due = min(entry.due, now)
        self._asked.append(entry)
        self._work()
        return 0.0

    async def stop(self) -> None:
        """Cancel every trace and wait until it has cleaned up."""
        self._remove(self._entries.keys())
        if self._timer:
            self._timer.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    # -- who is scheduled --------------------------------------------------------------

    def _remove(self, targets: Iterable[Target]) -> None:
        gone = {self._entries.pop(target) for target in tuple(targets)}
        self._withdraw(gone)
        for task, entry in self._running.items():
            if entry in gone:
                task.cancel()

    def _withdraw(self, entries: Collection[_Entry]) -> None:
        """Let them neither sleep nor wait."""
        self._ticks = [tick for tick in self._ticks if tick[-1] not in entries]
        heapify(self._ticks)
        self._asked = deque(entry for entry in self._asked if entry not in entries)
        self._urgent = deque(entry for entry in self._urgent if entry not in entries)
        self._waiting = deque(entry for entry in self._waiting if entry not in entries)

    def _add(self, targets: Sequence[Target], altogether: int) -> None:
        start = asyncio.get_running_loop().time()
        by_interval: dict[float, list[Target]] = {}
        for target in targets:
            by_interval.setdefault(target.interval, []).append(target)
        for interval, group in by_interval.items():
            kept = [e.cadence for e in self._entries.values() if e.target.interval == interval]
            spacing = first_spacing(interval, altogether)
            cadences = joining(kept, len(group), interval, start, spacing)
            for target, cadence in zip(group, cadences, strict=True):
                entry = self._entries[target] = _Entry(target, cadence, cadence.first)
                self._sleep(entry)
            # The next group's first ticks follow after these.
            start += len(group) * spacing

    # -- what happens when -------------------------------------------------------------

    def _work(self) -> None:
        """Queue what is due, begin as much as there are places, sleep until the next tick."""
        now = asyncio.get_running_loop().time()
        while self._ticks and self._ticks[0][0] <= now:
            entry = heappop(self._ticks)[-1]
            (self._urgent if entry.unconfirmed else self._waiting).append(entry)
        while len(self._running) < self._concurrency and (queue := self._next_queue()):
            self._obliged = queue is self._asked
            self._begin(queue.popleft(), now)
        heads = [queue[0] for queue in (self._urgent, self._waiting) if queue]
        self._waiting_since = min((entry.due for entry in (*self._asked, *heads)), default=None)
        self._tell_of_overload(now)
        self._wake_for_next()

    def _next_queue(self) -> deque[_Entry]:
        """Of which the first one gets the next place; an empty one when nobody waits."""
        others = self._urgent or self._waiting
        return others if self._obliged and others else self._asked or others

    def _begin(self, entry: _Entry, now: float) -> None:
        self._lateness.began(now - entry.due, now)
        task = asyncio.create_task(self._run(entry.target))
        self._running[task] = entry
        task.add_done_callback(self._ended)

    async def _run(self, target: Target) -> bool:
        try:
            return await self._trace(target)
        except Exception:
            log.exception("internal error in the cycle of %r", target.name)
            return False

    def _ended(self, task: asyncio.Task[bool]) -> None:
        entry = self._running.pop(task)
        if self._entries.get(entry.target) is entry:
            self._go_on(entry, unconfirmed=not task.cancelled() and task.result())
        self._work()

    def _go_on(self, entry: _Entry, *, unconfirmed: bool) -> None:
        """Count what was missed, and choose the next tick."""
        now = asyncio.get_running_loop().time()
        for _ in range(entry.cadence.missed(entry.due, now)):
            self._skipped(entry.target.name)
        # What a confirming trace has found waits for its tick, whatever it is.
        entry.unconfirmed = unconfirmed and not entry.unconfirmed
        tick = entry.cadence.next_tick(now)
        entry.due = self._early(entry, now, tick) if entry.unconfirmed else tick
        self._sleep(entry)

    def _early(self, entry: _Entry, now: float, tick: float) -> float:
        early = early_tick(now, tick, entry.target.interval, self._early_from)
        # To go first is what is left of it where there are too few places for the ordinary ones.
        if early is None or self._overloaded:
            return tick
        self._early_from = early + self._early_spacing
        return early

    def _sleep(self, entry: _Entry) -> None:
        heappush(self._ticks, (entry.due, next(self._numbers), entry))

    def _wake_for_next(self) -> None:
        if not self._ticks:
            return
        due = self._ticks[0][0]
        if self._timer:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(due, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._work()

    def _tell_of_overload(self, now: float) -> None:
        """Log once that it begins and once that it is over."""
        lag = self.lag(now)
        overloaded = lag > self._tolerated
        if overloaded is self._overloaded:
            return
        self._overloaded = overloaded
        if overloaded:
            log.warning(
                "overload: traces begin up to %.0f s late, for all %d places are taken, and some "
                "are skipped; `check` says what these targets need",
                lag,
                self._concurrency,
            )
        else:
            log.info("the overload is over: traces begin in time")
