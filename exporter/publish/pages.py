"""The HTML pages, rendered on the server; no script, one inline style.

Text from outside is made printable here and escaped by the template engine (tornado's, with
autoescape, because the web server is tornado anyway). The engine is known to this module only.

The index is cut into pages, and rendered target by target (see `pieces`). Below its table stand
the traces of what fails. What is said of a target is kept for as long as nothing is new, for the
targets that were shown last. A target's own page has everything (see `portrait`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tornado.template import Loader

from exporter.model import Location, State, Verdict
from exporter.publish.change import change_words, flapping_words, path_words
from exporter.publish.instance import answered_by, part_traced, routing_headers
from exporter.publish.kept import Kept
from exporter.publish.lines import trace_lines
from exporter.publish.links import object_link, page_link, trace_again_link
from exporter.publish.listing import Tally, filter_of, leaves, sentence, title
from exporter.publish.moments import age_of, ended_ago, time_of
from exporter.publish.portrait import downloads, facts, parts, turns
from exporter.publish.text import printable, shorten
from exporter.publish.tones import RANKS, state_of, tone_of
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
class Reload:
    """After how many seconds a page reloads itself, 0: never; `link` leads to the other choice."""

    seconds: int
    offered: int
    link: str


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
            api=object_link(name),
            reload=_reload(entry.link, Wanted(reload=wanted.reload)),
            entry=entry,
            facts=tuple(facts(record, now)),
            moved=printable(path_words(record)) if record.latest else "",
            again=trace_again_link(name),
            asked=age_of(record.asked_at, now) if record.asked_at is not None else "",
            evidence=tuple(downloads(record)),
            turns=tuple(turns(record)),
            parts=tuple(parts(record, now)),
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
        link=page_link(name),
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
        link=page_link(record.target.name),
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
    return ended_ago(record.latest, now) if record.latest else "-"
