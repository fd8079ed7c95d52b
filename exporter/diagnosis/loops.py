"""Routers that send the traffic in a circle.

1. The same routers say time-exceeded again and again, p hops apart, with others in between: p is 2
   or more. One address at two hops in a row is a forwarder that lets a TTL of 0 pass, or a NAT.
2. Nothing else is heard behind the first of them: whoever answers there belongs to the circle. Gaps
   are ordinary, for each of its routers limits its ICMP errors; but where a hop was spared behind
   the last router before it, neither its beginning nor its members are known.
3. It has no end: a SYN with the TTL of an ordinary packet expires in it, or two hops or more repeat
   it up to the last one, or one router is heard in three rounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from exporter.diagnosis.case import Case
from exporter.diagnosis.once import once
from exporter.diagnosis.placing import expired_at, is_spared
from exporter.diagnosis.words import WHERE, destination_of, listed, numbers_of
from exporter.model import (
    Confidence,
    Hop,
    Location,
    State,
    Trace,
    Verdict,
    Zone,
)

#: A router that is heard in so many rounds is in a loop, even if later rounds are silent.
ROUNDS = 3
#: So many of its routers are named.
MOST_NAMED = 4
_SIDES = {
    Zone.PLATFORM: Location.PLATFORM,
    Zone.EXTERNAL: Location.EXTERNAL,
    Zone.UNKNOWN: Location.UNKNOWN,
}


@dataclass(frozen=True, slots=True)
class Loop:
    """A circle that begins at hop `first`; `proven`: it has no end.

    `routers` are the addresses at each of its hops, those of all rounds together; none for a hop
    that was never heard.
    """

    first: int
    routers: tuple[tuple[str, ...], ...]
    proven: bool

    @property
    def last(self) -> int:
        """The last hop of the first round."""
        return self.first + len(self.routers) - 1


#: TTL -> the routers that said there that a probe had expired.
Seen = Mapping[int, tuple[str, ...]]


@once
def loop_of(trace: Trace) -> Loop | None:
    """The circle that a trace went in; None where there is none, or it may have an end."""
    seen = {hop.ttl: routers for hop in trace.hops if (routers := _expired(hop))}
    every = list(chain.from_iterable(seen.values()))
    if len(set(every)) == len(every):
        return None  # nobody is met again: no need to try each circle
    spared = max((hop.ttl for hop in trace.hops if is_spared(hop)), default=0)
    before = 0
    for first in seen:
        circle = {ttl: routers for ttl, routers in seen.items() if ttl >= first}
        for length in range(2, len(trace.hops) // 2 + 1):
            if _goes_round(circle, length):
                return _endless(trace, circle, length) if spared <= before else None
        before = first
    return None


def _expired(hop: Hop) -> tuple[str, ...]:
    """Who said at a hop that a probe had expired."""
    return tuple(expired_at(hop))


def _goes_round(circle: Seen, length: int) -> bool:
    """Whether the first hop's router is met again, and none but those of as many hops before."""
    places: dict[int, set[str]] = {}
    for ttl, routers in circle.items():
        if not places.setdefault(ttl % length, set(routers)) & set(routers):
            return False
    first = min(circle) % length
    again = sum(ttl % length == first for ttl in circle) > 1
    return again and len(set.union(*places.values())) > 1


def _endless(trace: Trace, circle: Seen, length: int) -> Loop | None:
    """The loop, if rule 3 holds."""
    first = min(circle)
    by_place = [range(first + place, len(trace.hops) + 1, length) for place in range(length)]
    routers = tuple(
        tuple(dict.fromkeys(router for ttl in ttls for router in circle.get(ttl, ())))
        for ttls in by_place
    )
    members = {router for place in routers for router in place}
    expired = bool(trace.confirmation and members & set(_expired(trace.confirmation)))
    again = sum(ttl >= first + length for ttl in circle)
    at_the_end = max(circle) == len(trace.hops) and again > 1
    rounds = max(sum(ttl in circle for ttl in ttls) for ttls in by_place)
    if not (expired or at_the_end or rounds >= ROUNDS):
        return None
    return Loop(first, routers, proven=expired or (at_the_end and rounds >= ROUNDS))


def looping(case: Case, loop: Loop) -> Verdict:
    """The verdict on a trace that went in a circle."""
    hops = [
        f"hop {loop.first + place} ({routers[0]})"
        for place, routers in enumerate(loop.routers)
        if routers
    ]
    location = _location(case, loop)
    return Verdict(
        state=State.LOOP,
        last_reachable_hop=loop.last,
        reason=f"Traffic to {destination_of(case.trace)} goes round between "
        f"{listed(hops[:MOST_NAMED])} until its TTL runs out: a routing loop, {WHERE[location]}.",
        confidence=Confidence.HIGH if loop.proven else Confidence.MEDIUM,
        blocked_at_hop=loop.last + 1,
        suspect_hops=(loop.first, loop.last),
        location=location,
        evidence=tuple(_facts(case.trace, loop)),
    )


def _facts(trace: Trace, loop: Loop) -> Iterator[str]:
    for router in list(dict.fromkeys(r for place in loop.routers for r in place))[:MOST_NAMED]:
        said = [
            answer
            for hop in trace.hops[loop.first - 1 :]
            for answer in hop.answers
            if answer.reply.address == router
        ]
        yield f"{router} says time-exceeded again and again, {numbers_of(said)}"
    if trace.confirmation and (expired := _expired(trace.confirmation)):
        numbers = numbers_of(trace.confirmation.answers)
        yield f"even a SYN with TTL {trace.confirmation.ttl} expires, at {expired[0]} ({numbers})"


def _location(case: Case, loop: Loop) -> Location:
    """On which side the routers of the circle stand."""
    zones = {
        case.zones.zone(router, loop.first + place)
        for place, routers in enumerate(loop.routers)
        for router in routers
    }
    if {Zone.PLATFORM, Zone.EXTERNAL} <= zones:
        return Location.BOUNDARY
    if len(zones) > 1 or not all(loop.routers):
        return Location.UNKNOWN
    return _SIDES[zones.pop()]
