"""When each target is traced. Pure arithmetic on a monotonic clock.

1. A target ticks once an interval, at a phase of its own. Those of one interval part it evenly;
   who stays keeps its phase, and who comes later parts the widest gaps.
2. The first ticks come closer together, so that nobody waits an interval for a first answer.
3. Whatever has just been found to fail is traced again before its next tick, so that a block is
   confirmed soon. As many may fail at the same time as there are targets, and each of them takes
   several times what a healthy one does: so these extra ticks are as rare as `early_spacing` says,
   and where that leaves no room, the next tick has to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace
from math import floor

#: After a start the first traces come this close together, so that nobody waits an interval
#: for a first answer; three probes to each shared hop in three seconds is what the ICMP limit of
#: a Linux router (one a second) replenishes.
FIRST_ROUND_SPACING = 3.0
#: Of an interval: a time that is so close to a tick is that tick.
ROUNDING = 1e-6
#: Of an interval: after so long what has just been found is looked at again.
SOONER = 0.25
#: Not sooner than so many seconds, which the routers' limits on ICMP errors take to recover, nor
#: so close to the next tick that it would find the trace running.
SOONEST = 5.0
#: For so many ordinary ticks there may be one extra.
TICKS_FOR_ONE_EXTRA = 4


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


def joining(
    kept: Sequence[Cadence], count: int, interval: float, start: float, spacing: float
) -> list[Cadence]:
    """`count` cadences beside the kept ones of the same interval.

    Their first ticks come from `start` on, `spacing` seconds apart.
    """
    taken = [(cadence.phase - start) / interval % 1 for cadence in kept]
    # Ascending, as the first ticks are, so that a target's first and second tick lie an interval
    # apart wherever that is possible.
    phases = sorted(places_between(taken, count))
    return [
        Cadence(start + number * spacing, start + phase * interval, interval)
        for number, phase in enumerate(phases)
    ]


def places_between(taken: Sequence[float], count: int) -> list[float]:
    """`count` places on a circle of length 1 that leave no wider gap than they have to.

    With nothing taken the first one is 0.
    """
    if not taken:
        return [0.0, *places_between([0.0], count - 1)] if count else []
    begins = sorted(taken)
    widths = [end - begin for begin, end in zip(begins, [*begins[1:], begins[0] + 1], strict=True)]
    inside = [0] * len(widths)
    gaps = [(-width, number) for number, width in enumerate(widths)]
    heapify(gaps)
    for _ in range(count):
        number = gaps[0][1]
        inside[number] += 1
        heapreplace(gaps, (-widths[number] / (inside[number] + 1), number))
    return [
        (begin + width * part / (parts + 1)) % 1
        for begin, width, parts in zip(begins, widths, inside, strict=True)
        for part in range(1, parts + 1)
    ]


def first_spacing(interval: float, count: int) -> float:
    """Seconds between the first ticks, with `count` targets altogether."""
    return min(FIRST_ROUND_SPACING, interval / count)


def early_spacing(intervals: Iterable[float]) -> float:
    """Seconds between the extra ticks of targets with these intervals."""
    ticks_a_second = sum(1 / interval for interval in intervals)
    # A few targets may have one each: what they take together is little.
    return min(FIRST_ROUND_SPACING, TICKS_FOR_ONE_EXTRA / ticks_a_second)


def early_tick(now: float, tick: float, interval: float, not_before: float) -> float | None:
    """When to look again at what was found just now; None where the next `tick` is soon enough."""
    early = max(now + max(SOONER * interval, SOONEST), not_before)
    return early if early <= tick - SOONEST else None
