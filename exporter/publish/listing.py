"""What the index says of all targets together: the sentence, the filter's choices, the pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from exporter.model import BLOCKED_STATES, Location, State
from exporter.publish.text import printable
from exporter.publish.tones import RANKS, WAITING, state_of, tone_of
from exporter.publish.wanted import Wanted, zones_of
from exporter.store import Record

#: Where the blocked ones are blocked, in the order in which the sentence tells it.
PLACES = {
    Location.EXTERNAL: "outside the platform",
    Location.BOUNDARY: "at the platform's edge",
    Location.PLATFORM: "inside the platform",
    Location.UNKNOWN: "at an unknown place",
}
#: What a location is called among the choices.
LOCATION_NAMES = {
    Location.PLATFORM: "inside the platform",
    Location.BOUNDARY: "at its edge",
    Location.EXTERNAL: "outside",
    Location.UNKNOWN: "place unknown",
}
#: Groups of states, as the filter names them, beside the states that are a group of their own.
GROUPS = {"blocked": "blocked or intercepted", "unknown": "unknown"}


@dataclass(frozen=True, slots=True)
class Tally:
    """How many targets are in which group and state, and blocked in which place and zone."""

    tones: Counter[str]
    states: Counter[str]
    locations: Counter[str]
    zones: Counter[str]

    @classmethod
    def of(cls, records: Iterable[Record]) -> Tally:
        """The counts of these targets."""
        tones: Counter[str] = Counter()
        states: Counter[str] = Counter()
        locations: Counter[str] = Counter()
        zones: Counter[str] = Counter()
        for record in records:
            tones[tone_of(record)] += 1
            states[state_of(record)] += 1
            if record.latest and record.latest.verdict.state in BLOCKED_STATES:
                locations[record.latest.verdict.location] += 1
            zones.update(zones_of(record))
        return cls(tones, states, locations, zones)

    @property
    def total(self) -> int:
        """How many targets there are."""
        return self.tones.total()

    @property
    def blocked(self) -> int:
        """How many are blocked; one that is intercepted is not said to be."""
        return sum(self.states[state] for state in BLOCKED_STATES)


@dataclass(frozen=True, slots=True)
class Option:
    """A choice of the filter; `count` says how many targets it finds."""

    value: str
    label: str
    count: int
    chosen: bool


@dataclass(frozen=True, slots=True)
class Chosen:
    """A filter that is set, what for, and the link that takes it away."""

    name: str
    value: str
    link: str


@dataclass(frozen=True, slots=True)
class Filter:
    """The form above the table, and what is set in it."""

    groups: tuple[Option, ...]
    states: tuple[Option, ...]
    locations: tuple[Option, ...]
    zones: tuple[Option, ...]
    text: str
    reload: int
    chosen: tuple[Chosen, ...]
    found: int
    total: int
    clear: str


@dataclass(frozen=True, slots=True)
class Leaf:
    """A page of the index as a link; "" for the one that is shown."""

    number: int
    link: str


def title(tally: Tally) -> str:
    """What is wrong with all targets, as short as a browser's tab."""
    return f"{tally.blocked:,} of {counted(tally.total, 'target')} blocked"


def sentence(tally: Tally) -> str:
    """The same with where they are blocked, and with those of which less is known."""
    rest = {
        "intercepted": tally.states[State.INTERCEPTED],
        "unknown": tally.tones["unknown"],
        "waiting for a first trace": tally.states[WAITING],
    }
    told = [f"{count:,} {words}" for words, count in rest.items() if count]
    return "; ".join(filter(None, (f"{title(tally)}{_where(tally)}", ", ".join(told)))) + "."


def _where(tally: Tally) -> str:
    places = [(tally.locations[place], words) for place, words in PLACES.items()]
    told = [(count, words) for count, words in places if count]
    if len(told) == 1:
        return f", {'all of them ' if tally.blocked > 1 else ''}{told[0][1]}"
    of_them = (" of them", *("",) * len(told))
    return "".join(f", {n:,}{of} {words}" for (n, words), of in zip(told, of_them, strict=False))


def filter_of(wanted: Wanted, tally: Tally, found: int) -> Filter:
    """The form as it is filled in."""
    return Filter(
        groups=tuple(_groups(wanted, tally)),
        states=tuple(_states(wanted, tally)),
        locations=tuple(
            Option(place, name, tally.locations[place], wanted.zone == place)
            for place, name in LOCATION_NAMES.items()
        ),
        zones=tuple(_zones(wanted, tally)),
        text=printable(wanted.text),
        reload=wanted.reload,
        chosen=tuple(_chosen(wanted)),
        found=found,
        total=tally.total,
        clear=f"/{Wanted(reload=wanted.reload).query()}",
    )


def _groups(wanted: Wanted, tally: Tally) -> Iterator[Option]:
    for tone in RANKS:
        yield Option(tone, GROUPS.get(tone, tone), tally.tones[tone], wanted.state == tone)


def _states(wanted: Wanted, tally: Tally) -> Iterator[Option]:
    """The states that are there, or asked for, and no group of their own."""
    for state in State:
        if state not in RANKS and (tally.states[state] or wanted.state == state):
            yield Option(state, state, tally.states[state], wanted.state == state)


def _zones(wanted: Wanted, tally: Tally) -> Iterator[Option]:
    """The zones that have names, the one that is asked for among them."""
    named = {*tally.zones, wanted.zone} - {"", *LOCATION_NAMES}
    for zone in sorted(named):
        yield Option(zone, zone, tally.zones[zone], wanted.zone == zone)


def _chosen(wanted: Wanted) -> Iterator[Chosen]:
    for key, value in wanted.filters.items():
        yield Chosen(key, printable(value), f"/{wanted.without(key).query()}")


def leaves(wanted: Wanted, number: int, count: int) -> tuple[Leaf, ...]:
    """All pages of the index; none where there is one."""
    numbers = range(1, count + 1) if count > 1 else ()
    return tuple(Leaf(n, "" if n == number else f"/{wanted.query(n)}") for n in numbers)


def counted(number: int, noun: str) -> str:
    """E.g. "1 target", "1,200 targets"."""
    return f"{number} {noun}" if number == 1 else f"{number:,} {noun}s"
