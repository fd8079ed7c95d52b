"""When each target is traced. Pure arithmetic on a monotonic clock."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

#: After a start the first traces come this close together, so that nobody waits an interval
#: for a first answer; three probes to each shared hop in three seconds is what the ICMP limit of
#: a Linux router (one a second) replenishes.
FIRST_ROUND_SPACING = 3.0
#: Of an interval: a time that is so close to a tick is that tick.
ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Cadence:
    """Ticks at `first`, then every `interval` in phase with `phase`; seconds."""

    first: float
    phase: float
    interval: float

    def next_tick(self, after: float) -> float:
        """The first tick later than `after`."""
        if after < self.first:
            return self.first
        return self.phase + (self._round(after) + 1) * self.interval

    def missed(self, after: float, until: float) -> int:
        """How many ticks lie behind `after` and not later than `until`; none is the first."""
        return self._round(until) - self._round(after)

    def _round(self, at: float) -> int:
        """The number of the last tick up to `at`."""
        # Half an interval's rest, so that the second trace does not follow on the first's heels.
        rested = max(at, self.first + self.interval / 2)
        return floor((rested - self.phase) / self.interval + ROUNDING)


def splay(index: int, count: int, interval: float, start: float) -> Cadence:
    """The cadence of the `index`-th of `count` targets: spread evenly over the interval."""
    first = start + index * min(FIRST_ROUND_SPACING, interval / count)
    return Cadence(first, start + index * interval / count, interval)
