"""The path of a trace as a row of boxes, one a hop, each over what the last good trace met there.

1. The boxes run to the end of the path, or of the good one if that is longer. What was asked beyond
   and stayed silent is one box more.
2. A bar is as long as its hop's lowest round-trip time is against the longest in the drawing.
3. Where the traffic stops is told in words: at a hop, or at one of several that are all marked.
4. A hop that was left to other traces shows what these have seen there, and says so.

Bounded by the hops of a trace, and by MOST_DEVICES at each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from exporter.model import (
    NOWHERE,
    REACHED_STATES,
    Hop,
    Observation,
    Place,
    State,
    Trace,
    Verdict,
)
from exporter.publish.text import (
    TOLD_CONDITIONS,
    autonomous_system,
    duration,
    printable,
    saying,
    timestamp,
    zone_words,
)

#: So many responders of one hop are shown.
MOST_DEVICES = 3
#: The shortest bar that can be seen, in percent.
SHORTEST_BAR = 2


@dataclass(frozen=True, slots=True)
class Device:
    """Somebody who answers at a hop; "" for what is not known or need not be said."""

    address: str
    name: str
    zone: str
    network: str
    says: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A round-trip time, and the length that stands for it, in percent of the longest."""

    time: str
    length: int


@dataclass(frozen=True, slots=True)
class Before:
    """What the last good trace met at a hop; `changed`: the latest one does not.

    `side` is a class of the style sheet, `zone` tells it in words, "" where it is not known.
    """

    devices: tuple[str, ...]
    side: str
    zone: str
    bar: Bar | None
    changed: bool


@dataclass(frozen=True, slots=True)
class Step:
    """A box: a hop, or several that nobody answers at.

    `zone` and `mark` are classes of the style sheet, `says` tells the mark in words.
    """

    hops: str
    zone: str
    devices: tuple[Device, ...]
    more: int
    bar: Bar | None
    notes: tuple[str, ...]
    mark: str
    says: str
    before: Before | None


@dataclass(frozen=True, slots=True)
class Drawing:
    """The boxes; `good` says which trace the lower half of each shows, "" for none."""

    steps: tuple[Step, ...]
    good: str


def drawing_of(
    observation: Observation, good: Trace | None, places: Mapping[str, Place]
) -> Drawing | None:
    """The path of an observation over the good one, whose responders `places` tells of.

    None where nothing was traced.
    """
    if observation.trace is None:
        return None
    sketch = _Sketch(observation, observation.trace, good, places)
    return Drawing(tuple(sketch.steps()), _words_of(good, observation.trace) if good else "")


def _words_of(good: Trace, latest: Trace) -> str:
    there = good.flow.destination
    other = f" to {printable(there)}" if there != latest.flow.destination else ""
    return f"the last good path{other}, of {timestamp(good.started_at)[:19].replace('T', ' ')} UTC"


@dataclass(frozen=True, slots=True)
class _Sketch:
    """What a drawing is made of."""

    observation: Observation
    trace: Trace
    good: Trace | None
    places: Mapping[str, Place]

    def steps(self) -> Iterator[Step]:
        longest, marks = self._longest(), marks_of(self.observation.verdict)
        good = {hop.ttl: hop for hop in self.good.path} if self.good else {}
        drawn = max(len(self.trace.path), *good, 0)
        hops = {hop.ttl: hop for hop in self.trace.hops}
        for ttl in range(1, drawn + 1):
            yield self._step(str(ttl), hops.get(ttl), good.get(ttl), longest, marks.get(ttl))
        if rest := self._silent_rest(drawn):
            first, last = rest[0].ttl, rest[-1].ttl
            several = str(first) if first == last else f"{first} to {last}"
            together = Hop(first, sum(hop.sent for hop in rest))
            yield self._step(several, together, None, longest, marks.get(first))

    def _silent_rest(self, drawn: int) -> tuple[Hop, ...]:
        """What was asked beyond the drawn hops in vain; none behind an end."""
        path, rest = self.trace.path, self.trace.hops[drawn:]
        ended = bool(path) and path[-1].is_end
        return () if ended or any(hop.known for hop in rest) else rest

    def _longest(self) -> float:
        hops = (*self.trace.path, *(self.good.path if self.good else ()))
        return max((hop.best_rtt or 0.0 for hop in hops), default=0.0)

    def _step(
        self,
        number: str,
        hop: Hop | None,
        before: Hop | None,
        longest: float,
        mark: tuple[str, str] | None,
    ) -> Step:
        devices = tuple(dict.fromkeys(self._devices(hop))) if hop else ()
        kind, says = mark or ("", "")
        return Step(
            hops=number,
            zone=self._zone(hop),
            devices=devices[:MOST_DEVICES],
            more=max(0, len(devices) - MOST_DEVICES),
            bar=_bar(hop, longest) if hop else None,
            notes=tuple(self._notes(hop)),
            mark=kind,
            says=says,
            before=self._before(hop, before, longest),
        )

    def _zone(self, hop: Hop | None) -> str:
        known = hop.known if hop else ()
        return self.observation.zone_of(known[0].reply.address) if known else "silent"

    def _devices(self, hop: Hop) -> Iterator[Device]:
        for answer in hop.known:
            place = self.observation.place_of(answer.reply.address)
            yield Device(
                address=printable(answer.reply.address),
                name=printable(place.name or ""),
                zone=zone_words(place),
                network=autonomous_system(place),
                says=saying(self.observation, answer.reply),
            )

    def _notes(self, hop: Hop | None) -> Iterator[str]:
        if hop is None:
            yield "Not probed."
            return
        if not hop.answers and hop.sent:
            yield f"No answer to {hop.sent} {'probe' if hop.sent == 1 else 'probes'}."
        elif not hop.known:
            yield "Not asked."
        elif hop.answers and hop.received < hop.sent:
            yield f"{hop.received} of {hop.sent} probes answered."
        if hop.shared:
            yield "Shared: as it has just answered other traces."
        if (condition := self.observation.conditions.get(hop.ttl)) in TOLD_CONDITIONS:
            yield f"{condition.value.capitalize()}."

    def _before(self, hop: Hop | None, before: Hop | None, longest: float) -> Before | None:
        if before is None:
            return None
        was, now = _addresses(before), _addresses(hop)
        place = self.places.get(was[0], NOWHERE) if was else NOWHERE
        return Before(
            devices=tuple(map(self._called, was[:MOST_DEVICES])),
            side=place.zone,
            zone=zone_words(place),
            bar=_bar(before, longest),
            changed=bool(was) and not set(was) & set(now),
        )

    def _called(self, address: str) -> str:
        name = self.places.get(address, NOWHERE).name
        return f"{printable(address)} {printable(name)}" if name else printable(address)


def _addresses(hop: Hop | None) -> tuple[str, ...]:
    known = hop.known if hop else ()
    return tuple(dict.fromkeys(answer.reply.address for answer in known))


def _bar(hop: Hop, longest: float) -> Bar | None:
    rtt = hop.best_rtt
    if rtt is None:
        return None
    share = rtt / longest if longest > 0 else 0.0
    return Bar(duration(rtt), min(100, max(SHORTEST_BAR, round(100 * share))))


def marks_of(verdict: Verdict) -> dict[int, tuple[str, str]]:
    """Hop -> the class of its mark, and what it says."""
    last = verdict.last_reachable_hop
    if verdict.state in REACHED_STATES:
        return {last: ("reached", "Reached.")}
    if verdict.state is State.INTERCEPTED:
        return {last: ("stops", "Here somebody else answers in the destination's name.")}
    if not verdict.suspect_hops:
        return {}
    first, last = verdict.suspect_hops
    if first == last:
        by = f", by {printable(verdict.blocked_by)}" if verdict.blocked_by else ""
        return {first: ("stops", f"Here it stops{by}.")}
    hops = f"hop {first} or {last}" if last == first + 1 else f"one of hops {first} to {last}"
    words = f"It stops at {hops}."
    return dict.fromkeys(range(first, last + 1), ("stops", words))
