"""Which routers a target's traffic passes, and when that has become another way.

What is no change, although other addresses answer than before:

1. A hop that falls silent, or is heard again.
2. One branch of several over which routers balance load: what a hop has answered with before is
   known, whichever flow it was asked by. A trace of another flow, as its source port says, may
   take another branch from the first hop on; its responders are learnt, and compared from then on.
3. A hop that answers some of its probes only. The connect engine's probes are flows of their own,
   so with a limit on ICMP errors it is chance whose answer is heard: it takes all of a hop's
   probes to say that none of them met a known router.
4. Whoever answers in the destination's name, or that the traffic goes no further: that says how a
   trace ends, not who stands at the hop.

A hop that was spared may show by what it has answered others that another router stands there now:
that is a change, too, for else those who wait for their turn to ask would tell it late. But that
this flow goes there is not proven: the router before stays known beside the new one, so whichever
of them is heard next, nothing has changed again. At a hop that never answered this target's own
probes nothing is learnt of others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from exporter.model import Answer, Hop, ReplyKind, Trace

#: So many responders of one hop are remembered; more than routers balance over in practice.
MAX_BRANCHES = 64


class Moved(NamedTuple):
    """A hop whose responders are all other ones than before."""

    hop: int
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PathChange:
    """The hops at which a trace went another way; `at` in seconds since the epoch."""

    at: float
    hops: tuple[Moved, ...]


@dataclass(frozen=True, slots=True)
class Path:
    """The way to one destination: TTL -> the routers that have answered there."""

    #: That of the flow that was traced last; 0: none was.
    source_port: int = 0
    hops: Mapping[int, frozenset[str]] = field(default_factory=dict)

    def after(self, trace: Trace, others: Iterable[Trace] = ()) -> tuple[Path, tuple[Moved, ...]]:
        """The path with what a trace has shown, and the hops at which it is another one.

        `others` are traces of further flows, in which nothing can change.
        """
        hops = dict(self.hops)
        same_flow = trace.flow.source_port == self.source_port
        moved = []
        for hop in trace.path:
            seen, told = _routers(hop.answers), _routers(hop.shared)
            known = hops.get(hop.ttl, seen)
            if not same_flow or not known.isdisjoint(seen):
                hops[hop.ttl] = _both(known, seen)
            elif seen and hop.received == hop.sent:
                hops[hop.ttl] = seen
                moved.append(_moved(hop, known, seen))
            elif known and told and known.isdisjoint(told):
                hops[hop.ttl] = _both(known, told)
                moved.append(_moved(hop, known, told))
        for other in others:
            for hop in other.path:
                seen = _routers(hop.answers)
                hops[hop.ttl] = _both(hops.get(hop.ttl, seen), seen)
        known_hops = {ttl: routers for ttl, routers in hops.items() if routers}
        if same_flow and known_hops == self.hops:
            return self, ()
        return Path(trace.flow.source_port, known_hops), tuple(moved)


def _routers(answers: Iterable[Answer]) -> frozenset[str]:
    """Those that say time-exceeded among them."""
    replies = [answer.reply for answer in answers]
    return frozenset([one.address for one in replies if one.kind is ReplyKind.TIME_EXCEEDED])


def _moved(hop: Hop, before: Iterable[str], after: Iterable[str]) -> Moved:
    return Moved(hop.ttl, tuple(sorted(before)), tuple(sorted(after)))


def _both(known: frozenset[str], seen: frozenset[str]) -> frozenset[str]:
    if seen <= known:
        return known
    return known | seen if len(known | seen) <= MAX_BRANCHES else seen
