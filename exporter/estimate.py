"""What a configuration takes: probes, and traces at once. Rough, for `check`.

A cycle of a healthy target is a quick trace, and now and then a whole one (schedule/depth.py), to
a destination TYPICAL_HOPS away. One of a blocked target is the dearest that is common: silence
from half of that way on, confirmed, and controls (docs/configuration.md has what was counted). The
first hops that targets share are counted as if each trace probed them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from exporter.controls.making import TIME
from exporter.model import MAX_ADDRESSES, Target
from exporter.observer import ADDRESS_SPACING
from exporter.probing.tracer import (
    CONFIRMATION_PATIENCE_FLOOR,
    CONFIRMATION_SPACING,
    CONFIRMATIONS,
    PATIENCE_FLOOR,
    SILENT_LIMIT,
    SPACING,
    STAGGER,
    WINDOW,
)
from exporter.schedule.depth import FULL_EVERY

#: A path of ordinary length.
TYPICAL_HOPS = 12
#: Controls add at most so much to the probes of a trace.
CONTROLS = 1.5
#: Seconds in which a trace finds its way, where nobody answers from some hop on.
SWEEP = 1.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What something takes: probes, and seconds for which it holds a place."""

    probes: float
    seconds: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.probes + other.probes, self.seconds + other.seconds)

    def __mul__(self, times: float) -> Cost:
        return Cost(self.probes * times, self.seconds * times)


NOTHING = Cost(0, 0)


def healthy(target: Target) -> Cost:
    """A cycle of one address that answers as ever, on average."""
    attempts = target.plan.attempts
    further = (target.controls.flows - 1) * (TYPICAL_HOPS + 1)
    quick = Cost(TYPICAL_HOPS + WINDOW + further, PATIENCE_FLOOR)
    more = Cost(TYPICAL_HOPS * (attempts - 1), SPACING * (attempts - 1) + STAGGER)
    return quick + more * (1 / FULL_EVERY)


def blocked(target: Target) -> Cost:
    """A cycle of one address of which nothing is heard from half of the way on."""
    thoroughly = min(TYPICAL_HOPS // 2 + SILENT_LIMIT, target.plan.max_hops)
    once = target.plan.max_hops - thoroughly
    probes = thoroughly * target.plan.attempts + once + CONFIRMATIONS
    confirming = (CONFIRMATIONS - 1) * CONFIRMATION_SPACING + CONFIRMATION_PATIENCE_FLOOR
    return Cost(CONTROLS * probes, SWEEP + confirming + TIME)


def most_probes(target: Target) -> float:
    """With a second trace, where flows differ, and controls that add half of the first."""
    trace = target.plan.max_hops * target.plan.attempts + CONFIRMATIONS
    further = (target.controls.flows - 1) * (target.plan.max_hops + 1)
    return 2 * trace + max(trace // 2, further)


def traced(target: Target, addresses: int) -> int:
    """How many addresses a cycle traces, once the name resolves."""
    return min(addresses or 1, MAX_ADDRESSES) if target.all_addresses else 1


def a_second(targets: Iterable[tuple[Target, int]], blocked_share: float) -> Cost:
    """What (target, addresses that its name has) take together; the seconds are places."""
    costs = (_a_second(target, addresses, blocked_share) for target, addresses in targets)
    return sum(costs, NOTHING)


def _a_second(target: Target, addresses: int, blocked_share: float) -> Cost:
    cost = healthy(target) * (1 - blocked_share) + blocked(target) * blocked_share
    number = traced(target, addresses)
    waiting = Cost(0, max(ADDRESS_SPACING - cost.seconds, 0) * (number - 1))
    return (cost * number + waiting) * (1 / target.interval)
