"""What a reader of the pages asks for in the address: which targets, and whether to reload.

1. A state is one of the verdict's, or a whole group of them (`blocked`, `unknown`), or `waiting`.
2. A zone is where the traffic stops: a location, or the configured name of a zone in which a
   suspect stands. A name that nobody stands in finds nothing: zones come and go with the
   configuration, and a form may be older than it.
3. A text is looked for in name, host, address, blocking device and every responder with its name,
   whatever the case.
4. A page reloads itself only if it is asked to, for that disturbs whoever reads it (WCAG 2.2.4).

Anybody may have typed it, so everything is bounded, and what is wrong is told what is right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from urllib.parse import urlencode

from exporter.model import Location, Observation, State
from exporter.publish.text import printable
from exporter.publish.tones import RANKS, state_of, tone_of
from exporter.store import Record

#: The longest text and name of a zone, in characters.
MAX_TEXT = 100
#: The bounds of what a page may be told to reload after, in seconds.
RELOAD = (5, 3600)

STATES = frozenset((*RANKS, *State))


class WrongQueryError(ValueError):
    """An address asks for what there cannot be; the message says what is right."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which targets are to be shown, "" for all; `reload` in seconds, 0: never."""

    state: str = ""
    zone: str = ""
    text: str = ""
    reload: int = 0

    @classmethod
    def of(cls, query: Mapping[str, Sequence[str]]) -> Wanted:
        """What a query asks for, of several values the last; raises `WrongQueryError`."""
        last = {key: values[-1] for key, values in query.items()}
        state, zone, text = (last.get(key, "").strip() for key in ("state", "zone", "text"))
        if state and state not in STATES:
            raise WrongQueryError(f"?state= takes one of {', '.join(sorted(STATES))}.")
        if max(len(zone), len(text)) > MAX_TEXT:
            raise WrongQueryError(f"?zone= and ?text= take at most {MAX_TEXT} characters.")
        return cls(state, zone, text, _reload(last.get("reload", "0")))

    @property
    def filters(self) -> dict[str, str]:
        """What is filtered by, and for what."""
        asked = {"state": self.state, "zone": self.zone, "text": self.text}
        return {key: value for key, value in asked.items() if value}

    def without(self, name: str) -> Wanted:
        """The same without one of the filters."""
        kept = {key: value for key, value in self.filters.items() if key != name}
        return Wanted(**kept, reload=self.reload)

    def matches(self, record: Record) -> bool:
        """Whether a target is wanted."""
        return (
            (not self.state or self.state in (tone_of(record), state_of(record)))
            and (not self.zone or self.zone in zones_of(record))
            and (not self.text or _holds(record, self.text.casefold()))
        )

    def query(self, page: int = 1) -> str:
        """The query that asks for this, with its question mark; "" where nothing is asked."""
        values = {**asdict(self), "page": page if page > 1 else 0}
        asked = urlencode({key: value for key, value in values.items() if value})
        return f"?{asked}" if asked else ""


def _reload(text: str) -> int:
    shortest, longest = RELOAD
    # No number within the bounds has more digits than the longest.
    seconds = int(text) if re.fullmatch(rf"[0-9]{{1,{len(str(longest))}}}", text) else -1
    if seconds and not shortest <= seconds <= longest:
        raise WrongQueryError(
            f"?reload= takes a number of seconds from {shortest} to {longest}, or 0 for never."
        )
    return seconds


def zones_of(record: Record) -> frozenset[str]:
    """Where the traffic stops: the location, and the names of the suspects' zones, if any."""
    if not record.latest or record.latest.verdict.location is Location.NONE:
        return frozenset()
    return frozenset((record.latest.verdict.location.value, *_named_zones(record.latest)))


def _named_zones(observation: Observation) -> Iterator[str]:
    verdict, trace = observation.verdict, observation.trace
    first, last = verdict.suspect_hops or (1, 0)
    hops = trace.hops[first - 1 : last] if trace else ()
    suspects = (answer.reply.address for hop in hops for answer in hop.known)
    for address in (*suspects, verdict.blocked_by or ""):
        place = observation.place_of(address)
        if place.zone_name != place.zone:
            yield printable(place.zone_name)


def _holds(record: Record, text: str) -> bool:
    return any(text in each.casefold() for each in _texts(record))


def _texts(record: Record) -> Iterator[str]:
    yield from (record.target.name, record.target.host)
    for one in record.latest.by_address if record.latest else ():
        yield from (one.address or "", one.verdict.blocked_by or "")
        hops = one.trace.hops if one.trace else ()
        for address in {answer.reply.address for hop in hops for answer in hop.known}:
            yield from (address, one.place_of(address).name or "")
