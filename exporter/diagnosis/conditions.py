"""How each hop answers: an own limit on ICMP messages, loss on the way and silence told apart.

A router that answers less often than those behind it limits its own messages: what they answered
has passed it. Where those behind lose as much, the way there does. Three attempts a hop show
neither by themselves, so:

1. What lies behind a hop is judged by the farther hops that answer best together, from some hop on,
   and at least ENOUGH probes of them: routers in between may limit themselves, too.
2. `rate-limited` is said where chance alone would take so many of this hop's answers, and so few of
   theirs, in at most one case of twenty (Fisher's exact test, one-sided).
3. `lossy` is said where theirs are missing, too, and NOTABLE_LOSS of all or more.
4. Otherwise a hop that has answered at all `answers`: one missing answer says nothing. In a loop
   many do not either, for each of its routers is asked in every round and limits its messages.
5. `silent` takes ATTEMPTS, of which plain loss would not have taken all.
6. A hop that has answered others alone is `shared`, however often it was asked itself. What was not
   asked, and not answered to others either, has no condition.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import comb
from typing import NamedTuple

from exporter.diagnosis.loops import loop_of
from exporter.diagnosis.once import once
from exporter.diagnosis.placing import PLAUSIBLE, loss_of
from exporter.model import Condition, Hop, Trace

#: So many attempts, 0.6 s apart, outlast the second in which Linux allows itself one more ICMP
#: error (icmp_ratelimit).
ATTEMPTS = 3
#: Fewer probes than these say nothing of what lies behind a hop.
ENOUGH = 6
NOTABLE_LOSS = 0.1
#: The share of cases in which chance may look like a limit.
CHANCE = 0.05


class _Count(NamedTuple):
    """Probes to hops that answer, and how many of them were not answered."""

    sent: int
    lost: int

    @property
    def share(self) -> float:
        """The part that was lost."""
        return self.lost / self.sent

    def loses_least(self) -> tuple[float, int]:
        """A key for `min`: of equal shares the one with the most probes."""
        return self.share, -self.sent


@once
def conditions_of(trace: Trace) -> Mapping[int, Condition]:
    """TTL -> how the device there answers, for each hop that was probed or has answered others."""
    loss, loop = loss_of(trace.hops), loop_of(trace)
    told = (hop for hop in trace.hops if hop.sent or hop.shared)
    found = {hop.ttl: _condition(trace, hop, loss) for hop in told}
    for ttl, condition in found.items():
        if loop and ttl >= loop.first and condition is Condition.LOSSY:
            found[ttl] = Condition.ANSWERS
    return found


def _condition(trace: Trace, hop: Hop, loss: float) -> Condition:
    if not hop.answers:
        if hop.shared:
            return Condition.SHARED
        enough = hop.sent >= ATTEMPTS and loss**hop.sent <= PLAUSIBLE
        return Condition.SILENT if enough else Condition.UNANSWERED
    own = _Count(hop.sent, hop.sent - hop.received)
    if not own.lost:
        return Condition.ANSWERS
    behind = min(_behind(trace, hop.ttl), key=_Count.loses_least, default=None)
    if behind is None:
        return Condition.ANSWERS
    if _by_chance(own, behind) <= CHANCE:
        return Condition.RATE_LIMITED
    together = _Count(own.sent + behind.sent, own.lost + behind.lost)
    lossy = behind.lost and together.share >= NOTABLE_LOSS
    return Condition.LOSSY if lossy else Condition.ANSWERS


def _behind(trace: Trace, ttl: int) -> Iterator[_Count]:
    """What the hops behind a TTL have answered: from the farthest one on, from the next, ..."""
    sent = lost = 0
    for hop in reversed(trace.hops[ttl:]):
        if hop.answers:
            sent, lost = sent + hop.sent, lost + hop.sent - hop.received
            if sent >= ENOUGH:
                yield _Count(sent, lost)


def _by_chance(own: _Count, behind: _Count) -> float:
    """How often so many losses of both, or more, would fall on the first by chance."""
    sent, lost = own.sent + behind.sent, own.lost + behind.lost
    ways = sum(
        comb(own.sent, here) * comb(behind.sent, lost - here)
        for here in range(own.lost, min(own.sent, lost) + 1)
    )
    return ways / comb(sent, lost)
