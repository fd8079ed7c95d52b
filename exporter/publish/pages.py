"""The HTML pages, rendered on the server; no script, one inline style.

Text from outside is made printable here and escaped by the template engine (tornado's, with
autoescape, because the web server is tornado anyway). The engine is known to this module only.

The index is cut into pages, and rendered target by target (see `pieces`). Below its table stand
the traces of what fails. What is said of a target is kept for as long as nothing is new, for the
targets that were shown last. A target's own page has everything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

from tornado.template import Loader

from exporter.model import REACHED_STATES, Location, Observation, Place, State, Trace, Verdict
from exporter.publish.change import change_words, changes, flapping_words, path_words
from exporter.publish.drawing import Drawing, drawing_of
from exporter.publish.instance import answered_by, part_traced, routing_headers
from exporter.publish.kept import Kept
from exporter.publish.listing import PLACES, Tally, filter_of, leaves, sentence, title
from exporter.publish.moments import age_of, time_of
from exporter.publish.text import (
    control_lines,
    host_port,
    printable,
    shorten,
    trace_lines,
    where,
)
from exporter.publish.tones import RANKS, TONES, WAITING, state_of, tone_of
from exporter.publish.wanted import Wanted
from exporter.store import Record, Store

TEMPLATES = Path(__file__).parent / "templates"
STYLE = (TEMPLATES / "style.css").read_text(encoding="utf-8")

#: So many targets stand on a page of the index.
TARGETS_ON_A_PAGE = 500
#: Of so few targets on a page all have their trace below the table, and so few traces are opened.
FEW = 10
#: Of more targets so many that fail have theirs.
MOST_TRACES = 100
#: So many targets' lines, half a kilobyte each, and sections, a kilobyte or two, are kept: what
#: somebody sees who leafs or filters.
KEPT_ENTRIES = 2 * TARGETS_ON_A_PAGE
KEPT_SECTIONS = 3 * MOST_TRACES

#: The groups of states whose traces the index always shows.
FAILING = ("blocked", "unknown")

#: The longest name in a title: so many characters and the rest of it are read at a glance.
TITLE_NAME_LENGTH = 36
#: The seconds after which a page offers to reload itself.
RELOAD_OFFERED = 30


@dataclass(frozen=True, slots=True)
class Shown:
    """An observation, ready for its template; no `sentence` where it stands above already."""

    drawing: Drawing | None
    trace: str
    sentence: str
    facts: str
    evidence: tuple[str, ...]
    controls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A target's line in the table but for its age, and the head of its own page."""

    name: str
    link: str
    state: str
    tone: str
    blocked_at: str
    location: str
    sentence: str
    #: What has changed, a sentence each; `urgent`: the index tells it, too.
    news: tuple[str, ...]
    urgent: bool


@dataclass(frozen=True, slots=True)
class Traced:
    """The latest trace of a target, as it stands below the table."""

    name: str
    link: str
    state: str
    tone: str
    trace: str


@dataclass(frozen=True, slots=True)
class Part:
    """One of the traces on a target's own page, or the note that stands for it."""

    title: str
    tone: str
    note: str
    shown: Shown | None
    #: Whether it takes a click to see it.
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Download:
    """The evidence of one of the kept observations, as links."""

    title: str
    zip: str
    html: str


@dataclass(frozen=True, slots=True)
class Reload:
    """After how many seconds a page reloads itself, 0: never; `link` leads to the other choice."""

    seconds: int
    offered: int
    link: str


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
        self._entries = Kept(_entry, KEPT_ENTRIES)
        #: What stands below the table.
        self._sections = Kept(self._section, KEPT_SECTIONS)

    def count(self, wanted: Wanted) -> int:
        """How many pages the index has of what is wanted, at least 1."""
        found = sum(map(wanted.matches, self._store)) if wanted.filters else len(self._store)
        return max(1, -(-found // TARGETS_ON_A_PAGE))

    def index(self, wanted: Wanted, number: int, now: float) -> Iterator[str]:
        """The wanted targets of a page, the first has number 1; of all what fails first.

        `now` in seconds since the epoch. An answer in pieces: all that holds something is the last.
        """
        records = tuple(self._store)
        found = sorted(filter(wanted.matches, records), key=_rank)
        last = number * TARGETS_ON_A_PAGE
        shown = found[last - TARGETS_ON_A_PAGE : last]
        rows = []
        for record in shown:
            entry = self._entries.of(record)
            rows.append(self._fill("row.html", entry=entry, age=_age_of(record, now)))
            yield ""
        told = _told(shown)
        sections = []
        for record in told:
            sections.append(self._sections.of(record))
            yield ""
        self._forget({record.target.name for record in records})
        tally, count = Tally.of(records), -(-len(found) // TARGETS_ON_A_PAGE)
        yield self._render(
            "index.html",
            now,
            reload=_reload("/", wanted, number),
            title=title(tally) + (f", page {number} of {count}" if count > 1 else ""),
            api="/api/v1/targets",
            sentence=sentence(tally),
            filter=filter_of(wanted, tally, len(found)),
            rows=rows,
            sections=sections,
            open=len(told) <= FEW,
            untold=max(0, len(_failing(shown)) - len(told)),
            leaves=leaves(wanted, number, count),
        )

    def target(self, name: str, wanted: Wanted, now: float) -> str | None:
        """One target: the latest, the last good and the first bad trace; None: no such target."""
        record = self._store.get(name)
        if record is None:
            return None
        entry = _entry(record)
        return self._render(
            "target.html",
            now,
            title=f"{shorten(entry.name, TITLE_NAME_LENGTH)}: {entry.state}",
            api=f"/api/v1/targets/{_quote(name)}",
            reload=_reload(entry.link, Wanted(reload=wanted.reload)),
            entry=entry,
            facts=tuple(_facts(record, now)),
            moved=printable(path_words(record)) if record.latest else "",
            again=f"/-/trace/{_quote(name)}",
            asked=age_of(record.asked_at, now) if record.asked_at is not None else "",
            evidence=tuple(_evidence(record)),
            turns=tuple(_turns(record)),
            parts=tuple(_parts(record, now)),
        )

    def _section(self, record: Record) -> str:
        return self._fill("section.html", trace=_traced(record))

    def _forget(self, targets: Collection[str]) -> None:
        """Keep nothing of targets that are gone."""
        self._entries.forget(targets)
        self._sections.forget(targets)

    def _render(self, template: str, now: float, **values: object) -> str:
        return self._fill(
            template, style=STYLE, made_at=time_of(now), program=self._program(), **values
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
            reloaded_at=time_of(store.reload.at),
        )


def _rank(record: Record) -> int:
    return RANKS[tone_of(record)]


def _told(shown: Sequence[Record]) -> Sequence[Record]:
    """Those whose traces stand below the table: all of a few, of many the first that fail."""
    if len(shown) <= FEW:
        return [record for record in shown if record.latest]
    return _failing(shown)[:MOST_TRACES]


def _failing(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if tone_of(record) in FAILING]


def _reload(path: str, wanted: Wanted, number: int = 1) -> Reload:
    other = replace(wanted, reload=0 if wanted.reload else RELOAD_OFFERED)
    return Reload(wanted.reload, RELOAD_OFFERED, f"{path}{other.query(number)}")


# -- a line of the table, and the trace below it ---------------------------------------


def _entry(record: Record) -> Entry:
    name, latest = record.target.name, record.latest
    verdict = latest.verdict if latest else None
    return Entry(
        name=printable(name),
        link=f"/targets/{_quote(name)}",
        state=state_of(record),
        tone=tone_of(record),
        blocked_at=f"hop {verdict.blocked_at_hop}" if verdict and verdict.blocked_at_hop else "-",
        location=_location(verdict),
        sentence=printable(verdict.reason) if verdict else "Waiting for its first trace.",
        news=tuple(_news(record)) if latest else (),
        urgent=record.history.flapping or not verdict or verdict.state is not State.OPEN,
    )


def _traced(record: Record) -> Traced:
    return Traced(
        name=printable(record.target.name),
        link=f"/targets/{_quote(record.target.name)}",
        state=state_of(record),
        tone=tone_of(record),
        trace="\n".join(trace_lines(record.latest)) if record.latest else "",
    )


def _news(record: Record) -> Iterator[str]:
    """That the target flaps, if so, and its last change."""
    if flapping := flapping_words(record):
        yield printable(f"{flapping[0].upper()}{flapping[1:]}.")
    if change := change_words(record):
        yield printable(change)


def _location(verdict: Verdict | None) -> str:
    return verdict.location if verdict and verdict.location is not Location.NONE else "-"


def _age_of(record: Record, now: float) -> str:
    return _age(record.latest, now) if record.latest else "-"


def _age(observation: Observation, now: float) -> str:
    """The time since the trace ended."""
    return age_of(observation.started_at + observation.duration, now)


def _quote(name: str) -> str:
    """A name as one segment of a path. "surrogatepass": every name has a link, readable or not."""
    return quote(name, safe="", errors="surrogatepass")


# -- a target's own page ---------------------------------------------------------------


def _facts(record: Record, now: float) -> Iterator[tuple[str, str]]:
    """What stands below the sentence, each with its name."""
    latest, endpoint = record.latest, host_port(record.target)
    if latest is None:
        yield "Endpoint", endpoint
        return
    verdict = latest.verdict
    if latest.address and latest.address != record.target.host:
        endpoint += f" ({printable(latest.address)})"
    yield "State", f"{verdict.state} since {time_of(record.history.since)}"
    if verdict.blocked_at_hop:
        yield "Blocked at", _blocked_at(verdict)
        yield "Location", PLACES[verdict.location]
    yield "Last reachable hop", str(verdict.last_reachable_hop or "none")
    yield "Confidence", verdict.confidence
    yield "Endpoint", endpoint
    yield "Latest trace", f"{_age(latest, now)} ago, one every {record.target.interval:g} s"


def _blocked_at(verdict: Verdict) -> str:
    by = f" by {printable(verdict.blocked_by)}" if verdict.blocked_by else ""
    first, last = verdict.suspect_hops or (verdict.blocked_at_hop,) * 2
    suspects = f", suspects are hops {first} to {last}" if first != last else ""
    return f"hop {verdict.blocked_at_hop}{by}{suspects}"


def _evidence(record: Record) -> Iterator[Download]:
    """A link to each observation that is kept, but none twice."""
    kept = {"Latest": record.latest, "First bad": record.first_bad, "Last good": record.last_good}
    for name, observation in kept.items():
        if observation and (name == "Latest" or observation is not record.latest):
            of = name.lower().replace(" ", "-")
            link = f"/api/v1/evidence/{_quote(record.target.name)}?of={of}&format="
            yield Download(f"{name} trace", f"{link}zip", f"{link}html")


def _parts(record: Record, now: float) -> Iterator[Part]:
    """The latest trace, and the two that are kept apart from it."""
    latest = record.latest
    if latest is None:
        yield Part("Latest trace", WAITING, "Waiting for the first one.", None)
        return
    yield from _latest_parts(record, latest, now)
    kept = {"Last good trace": record.last_good, "First bad trace": record.first_bad}
    for heading, observation in kept.items():
        if observation is None:
            yield Part(heading, WAITING, "None.", None)
        elif observation is latest:
            yield Part(heading, TONES[latest.verdict.state], "The latest one.", None)
        else:
            yield replace(_part(heading, observation, _show(observation), now), folded=True)


def _latest_parts(record: Record, latest: Observation, now: float) -> Iterator[Part]:
    """One for each address; the first one, the worst, with the verdict on the target."""
    several = len(latest.each) > 1
    for n, one in enumerate((latest, *latest.each[1:])):
        heading = f"Latest trace to {printable(str(one.address))}" if several else "Latest trace"
        shown = _show(one, *_good(record, one))
        # The verdict's sentence stands on top of the page.
        yield _part(heading, one, shown if n else replace(shown, sentence=""), now)


def _good(record: Record, one: Observation) -> tuple[Trace | None, Mapping[str, Place]]:
    """With what the path is compared unless it is good itself, best a trace to that address."""
    if one.verdict.state in REACHED_STATES:
        return None, {}
    last_good, known = record.last_good, record.known.get(one.address or "")
    good = known.last_good if known else None
    if good is None and last_good:
        good = last_good.trace
    return good, last_good.places if last_good else {}


def _turns(record: Record) -> Iterator[Turn]:
    for was, now in changes(record):
        tone, reason = TONES[now.state], printable(now.reason)
        yield Turn(time_of(now.since), was.state, now.state, tone, reason)


def _part(heading: str, observation: Observation, shown: Shown, now: float) -> Part:
    state = observation.verdict.state
    return Part(heading, TONES[state], f"{state}, {_age(observation, now)} ago", shown)


def _show(
    observation: Observation,
    good: Trace | None = None,
    places: Mapping[str, Place] = MappingProxyType({}),
) -> Shown:
    verdict = observation.verdict
    return Shown(
        drawing=drawing_of(observation, good, places),
        trace="\n".join(trace_lines(observation)),
        sentence=printable(verdict.reason),
        facts=f"{verdict.state}, {where(verdict)}, confidence {verdict.confidence}",
        evidence=tuple(map(printable, verdict.evidence)),
        controls=tuple(control_lines(observation)),
    )
