"""How late traces begin."""

from __future__ import annotations

from collections import deque

#: Seconds for which a late beginning counts: longer than most scrapes lie apart.
MEMORY = 60.0


class Lateness:
    """The worst of the last MEMORY seconds; as small as what may yet be the worst."""

    def __init__(self) -> None:
        #: (when, how late), each later than the one before and less so.
        self._worst: deque[tuple[float, float]] = deque()

    def began(self, late: float, now: float) -> None:
        """Take in a trace that has begun so many seconds late."""
        worst = self._worst
        while worst and worst[-1][1] <= late:
            worst.pop()
        while worst and worst[0][0] < now - MEMORY:
            worst.popleft()
        worst.append((now, late))

    def worst(self, now: float) -> float:
        """In seconds; 0 when none has begun lately."""
        # A copy, for a scrape may ask from another thread.
        recent = (late for at, late in tuple(self._worst) if at >= now - MEMORY)
        return next(recent, 0.0)
