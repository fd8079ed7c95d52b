"""The HTML pages, rendered on the server; no script, one inline style.

Text from outside is made printable here and escaped by the template engine (tornado's, with
autoescape, because the web server is tornado anyway). The engine is known to this module only.

The index is cut into pages, and rendered target by target (see `pieces`). What it shows of a
target below the table is kept for as long as nothing is new, for the targets that were shown last.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tornado.template import Loader

from exporter.model import (
    BLOCKED_STATES,
    Location,
    Observation,
    State,
    Verdict,
)
from exporter.publish.change import change_words, changes, flapping_words, path_words
from exporter.publish.instance import answered_by, part_traced, routing_headers
from exporter.publish.text import (
    control_lines,
    host_port,
    printable,
    timestamp,
    trace_lines,
    where,
)
from exporter.store import Record, Store

TEMPLATES = Path(__file__).parent / "templates"
STYLE = (TEMPLATES / "style.css").read_text(encoding="utf-8")

#: So many targets stand on a page of the index.
TARGETS_ON_A_PAGE = 100
#: So many targets' sections are kept rendered, a few kilobytes each: three pages that somebody
#: looks at.
KEPT_SECTIONS = 3 * TARGETS_ON_A_PAGE

#: A page reloads itself as often as its targets are traced, within these bounds in seconds.
REFRESH = (5, 60)

WAITING = "waiting"
#: The classes of states in the style sheet, and their order on the page: what fails first.
RANKS = {tone: n for n, tone in enumerate(("blocked", "unknown", WAITING, "closed", "open"))}

TONES: dict[State, str] = {
    **dict.fromkeys(BLOCKED_STATES | {State.INTERCEPTED}, "blocked"),
    **dict.fromkeys((State.ERROR, State.UNRESOLVED, State.INCONCLUSIVE), "unknown"),
    State.CLOSED: "closed",
    State.OPEN: "open",
}

NO_BREAK = "\N{NO-BREAK SPACE}"
#: The units of an age and their lengths in seconds, from the longest on.
AGE_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))


@dataclass(frozen=True, slots=True)
class Shown:
    """An observation, ready for its template."""

    trace: str
    sentence: str
    facts: str
    evidence: tuple[str, ...]
    controls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A target's line in the table, and the head of its own page."""

    name: str
    link: str
    state: str
    tone: str
    blocked_at: str
    location: str
    age: str
    sentence: str
    #: What has changed, a sentence each; `urgent`: the index tells it, too.
    news: tuple[str, ...]
    urgent: bool


@dataclass(frozen=True, slots=True)
class Leaf:
    """A page of the index as a link; "" for the one that is shown."""

    number: int
    link: str


@dataclass(frozen=True, slots=True)
class Part:
    """One of the traces on a target's own page, or the note that stands for it."""

    title: str
    tone: str
    note: str
    shown: Shown | None


@dataclass(frozen=True, slots=True)
class Turn:
    """A change of state: a line of a target's history."""

    at: str
    was: str
    state: str
    tone: str
    reason: str


@dataclass(frozen=True, slots=True)
class Program:
    """What the pages say about the program."""

    version: str
    engine: str
    engine_reason: str
    untraceable: str
    source: str
    answered_by: str
    part_traced: str
    #: How many targets there are, those that other instances trace included.
    configured: int
    discovers: bool
    routing_headers: tuple[str, ...]
    reload_error: str
    reloaded_at: str


class Pages:
    """Renders the pages from the store."""

    def __init__(self, store: Store, version: str) -> None:
        self._store = store
        self._version = version
        self._templates = Loader(str(TEMPLATES))
        #: Target -> the version of its record, and its section; the one shown last at the end.
        self._sections: OrderedDict[str, tuple[int, str]] = OrderedDict()

    @property
    def count(self) -> int:
        """How many pages the index has, at least 1."""
        return max(1, -(-len(self._store) // TARGETS_ON_A_PAGE))

    def index(self, number: int, now: float) -> Iterator[str]:
        """The targets of a page, the first has number 1; of all what fails first.

        `now` in seconds since the epoch. An answer in pieces: all that holds something is the last.
        """
        records = tuple(self._store)
        tones = Counter(map(_tone, records))
        last = number * TARGETS_ON_A_PAGE
        shown = sorted(records, key=_rank)[last - TARGETS_ON_A_PAGE : last]
        entries, sections = [], []
        for record in shown:
            entries.append(_entry(record, now))
            sections.append(self._section(record, entries[-1]))
            yield ""
        self._forget(records)
        yield self._render(
            "index.html",
            now,
            refresh=_refresh(record.target.interval for record in records),
            title=_title(tones, number, self.count),
            api="/api/v1/targets",
            entries=entries,
            sections=sections,
            leaves=_leaves(number, self.count),
        )

    def target(self, name: str, now: float) -> str | None:
        """One target: the latest, the last good and the first bad trace; None: no such target."""
        record = self._store.get(name)
        if record is None:
            return None
        entry = _entry(record, now)
        return self._render(
            "target.html",
            now,
            refresh=_refresh([record.target.interval]),
            title=f"{entry.name}: {entry.state}",
            api=f"/api/v1/targets/{_quote(name)}",
            entry=entry,
            endpoint=host_port(record.target),
            since=_time(record.history.since) if record.latest else "",
            moved=printable(path_words(record)) if record.latest else "",
            turns=tuple(_turns(record)),
            parts=tuple(_parts(record, now)),
        )

    def _section(self, record: Record, entry: Entry) -> str:
        """What the index shows of a target below the table, rendered when there is news."""
        name = record.target.name
        version, section = self._sections.pop(name, (0, ""))
        if version != record.version:
            shown = _show(record.latest) if record.latest else None
            version, section = record.version, self._fill("section.html", entry=entry, shown=shown)
        self._sections[name] = version, section
        return section

    def _forget(self, records: Sequence[Record]) -> None:
        """Drop the sections of targets that are gone, and those beyond the bound."""
        for name in self._sections.keys() - {record.target.name for record in records}:
            del self._sections[name]
        while len(self._sections) > KEPT_SECTIONS:
            self._sections.popitem(last=False)

    def _render(self, template: str, now: float, **values: object) -> str:
        return self._fill(
            template, style=STYLE, made_at=_time(now), program=self._program(), **values
        )

    def _fill(self, template: str, **values: object) -> str:
        filled: bytes = self._templates.load(template).generate(**values)
        return filled.decode()

    def _program(self) -> Program:
        store = self._store
        return Program(
            version=self._version,
            engine=store.engine.name,
            engine_reason=printable(store.engine.reason),
            untraceable=printable(
                store.engine.reason if store.engine.name == "none" else store.engine.untraceable
            ),
            source=printable(store.source.address),
            answered_by=answered_by(store.source),
            part_traced=part_traced(store),
            configured=store.configured,
            discovers=bool(store.sources),
            routing_headers=routing_headers(store.source),
            reload_error="" if store.reload.successful else printable(store.reload.message),
            reloaded_at=_time(store.reload.at),
        )


def _tone(record: Record) -> str:
    return TONES[record.latest.verdict.state] if record.latest else WAITING


def _rank(record: Record) -> int:
    return RANKS[_tone(record)]


def _entry(record: Record, now: float) -> Entry:
    name, latest = record.target.name, record.latest
    verdict = latest.verdict if latest else None
    return Entry(
        name=printable(name),
        link=f"/targets/{_quote(name)}",
        state=verdict.state if verdict else WAITING,
        tone=_tone(record),
        blocked_at=f"hop {verdict.blocked_at_hop}" if verdict and verdict.blocked_at_hop else "-",
        location=_location(verdict),
        age=_age(latest, now) if latest else "-",
        sentence=printable(verdict.reason) if verdict else "Waiting for its first trace.",
        news=tuple(_news(record)) if latest else (),
        urgent=record.history.flapping or not verdict or verdict.state is not State.OPEN,
    )


def _title(tones: Counter[str], number: int, count: int) -> str:
    """What is wrong with all targets, and which page this is, if there are several."""
    return (
        f"{tones['blocked']:,} of {_count(tones.total(), 'target')} blocked"
        + (f", {tones['unknown']:,} unknown" if tones["unknown"] else "")
        + (f", page {number} of {count}" if count > 1 else "")
    )


def _leaves(number: int, count: int) -> tuple[Leaf, ...]:
    """All pages of the index; none where there is one."""
    numbers = range(1, count + 1) if count > 1 else ()
    return tuple(Leaf(n, "" if n == number else f"/?page={n}") for n in numbers)


def _parts(record: Record, now: float) -> Iterator[Part]:
    """The latest trace, and the two that are kept apart from it."""
    latest = record.latest
    if latest is None:
        yield Part("Latest trace", WAITING, "Waiting for the first one.", None)
        return
    yield from _latest_parts(latest, now)
    kept = {"Last good trace": record.last_good, "First bad trace": record.first_bad}
    for title, observation in kept.items():
        if observation is None:
            yield Part(title, WAITING, "None.", None)
        elif observation is latest:
            yield Part(title, TONES[latest.verdict.state], "The latest one.", None)
        else:
            yield _part(title, observation, now)


def _latest_parts(latest: Observation, now: float) -> Iterator[Part]:
    """One for each address; the first one, the worst, with the verdict on the target."""
    if len(latest.each) < 2:
        yield _part("Latest trace", latest, now)
        return
    for one in (latest, *latest.each[1:]):
        yield _part(f"Latest trace to {printable(str(one.address))}", one, now)


def _news(record: Record) -> Iterator[str]:
    """That the target flaps, if so, and its last change."""
    if flapping := flapping_words(record):
        yield printable(f"{flapping[0].upper()}{flapping[1:]}.")
    if change := change_words(record):
        yield printable(change)


def _turns(record: Record) -> Iterator[Turn]:
    for was, now in changes(record):
        tone, reason = TONES[now.state], printable(now.reason)
        yield Turn(_time(now.since), was.state, now.state, tone, reason)


def _part(title: str, observation: Observation, now: float) -> Part:
    state = observation.verdict.state
    return Part(title, TONES[state], f"{state}, {_age(observation, now)} ago", _show(observation))


def _show(observation: Observation) -> Shown:
    verdict = observation.verdict
    return Shown(
        trace="\n".join(trace_lines(observation)),
        sentence=printable(verdict.reason),
        facts=f"{verdict.state}, {where(verdict)}, confidence {verdict.confidence}",
        evidence=tuple(map(printable, verdict.evidence)),
        controls=tuple(control_lines(observation)),
    )


def _location(verdict: Verdict | None) -> str:
    return verdict.location if verdict and verdict.location is not Location.NONE else "-"


def _age(observation: Observation, now: float) -> str:
    """The time since the trace ended, on one line; 0 when the clock was set back meanwhile."""
    age = max(0.0, now - observation.started_at - observation.duration)
    for unit, length in AGE_UNITS:
        if age >= 2 * length:
            return f"{age / length:.0f}{NO_BREAK}{unit}"
    return f"{age:.0f}{NO_BREAK}s"


def _time(seconds: float) -> str:
    """A time for people: to the second, with a blank between date and time."""
    return f"{timestamp(seconds)[:19].replace('T', ' ')} UTC"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number:,} {noun}s"


def _quote(name: str) -> str:
    """A name as one segment of a path. "surrogatepass": every name has a link, readable or not."""
    return quote(name, safe="", errors="surrogatepass")


def _refresh(intervals: Iterable[float]) -> int:
    """The shortest interval, within bounds."""
    shortest, longest = REFRESH
    return round(min(max(min(intervals, default=longest), shortest), longest))
