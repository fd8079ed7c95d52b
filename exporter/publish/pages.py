"""The HTML pages, rendered on the server; no script, one inline style.

Text from outside is made printable here and escaped by the template engine (tornado's, with
autoescape, because the web server is tornado anyway). The engine is known to this module only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
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
from exporter.publish.instance import answered_by, routing_headers
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
    """A target's line in the table and its part of the page; `shown` is None while it waits."""

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
    shown: Shown | None


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
    routing_headers: tuple[str, ...]
    reload_error: str
    reloaded_at: str


class Pages:
    """Renders the pages from the store; a trace's text is rendered once for the index."""

    def __init__(self, store: Store, version: str) -> None:
        self._store = store
        self._version = version
        self._templates = Loader(str(TEMPLATES))
        #: Target name -> the observation that the index showed last, and how.
        self._shown: dict[str, tuple[Observation, Shown]] = {}

    def index(self, now: float) -> str:
        """All targets, what fails first; `now` in seconds since the epoch."""
        records = tuple(self._store)
        self._shown = {
            record.target.name: self._reuse(record.latest) for record in records if record.latest
        }
        entries = [self._entry(record, now) for record in records]
        tones = Counter(entry.tone for entry in entries)
        return self._render(
            "index.html",
            now,
            refresh=_refresh(record.target.interval for record in records),
            title=f"{tones['blocked']} of {_count(len(entries), 'target')} blocked"
            + (f", {tones['unknown']} unknown" if tones["unknown"] else ""),
            api="/api/v1/targets",
            entries=sorted(entries, key=lambda entry: RANKS[entry.tone]),
        )

    def target(self, name: str, now: float) -> str | None:
        """One target: the latest, the last good and the first bad trace; None: no such target."""
        record = self._store.get(name)
        if record is None:
            return None
        entry = self._entry(record, now)
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

    def _reuse(self, latest: Observation) -> tuple[Observation, Shown]:
        known = self._shown.get(latest.target.name)
        return known if known and known[0] is latest else (latest, _show(latest))

    def _entry(self, record: Record, now: float) -> Entry:
        name, latest = record.target.name, record.latest
        shown = self._shown.get(name)
        verdict = latest.verdict if latest else None
        return Entry(
            name=printable(name),
            link=f"/targets/{_quote(name)}",
            state=verdict.state if verdict else WAITING,
            tone=TONES[verdict.state] if verdict else WAITING,
            blocked_at=f"hop {verdict.blocked_at_hop}"
            if verdict and verdict.blocked_at_hop
            else "-",
            location=_location(verdict),
            age=_age(latest, now) if latest else "-",
            sentence=printable(verdict.reason) if verdict else "Waiting for its first trace.",
            news=tuple(_news(record)) if latest else (),
            urgent=record.history.flapping or not verdict or verdict.state is not State.OPEN,
            shown=shown[1] if shown else None,
        )

    def _render(self, template: str, now: float, **values: object) -> str:
        page: bytes = self._templates.load(template).generate(
            style=STYLE, made_at=_time(now), program=self._program(), **values
        )
        return page.decode()

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
            routing_headers=routing_headers(store.source),
            reload_error="" if store.reload.successful else printable(store.reload.message),
            reloaded_at=_time(store.reload.at),
        )


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
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _quote(name: str) -> str:
    """A name as one segment of a path. "surrogatepass": every name has a link, readable or not."""
    return quote(name, safe="", errors="surrogatepass")


def _refresh(intervals: Iterable[float]) -> int:
    """The shortest interval, within bounds."""
    shortest, longest = REFRESH
    return round(min(max(min(intervals, default=longest), shortest), longest))
