"""What makes up a target's own page: values for its template, made of its record.

1. The facts of the latest trace stand below the sentence, then that trace, one for each address.
2. The last good and the first bad one follow, folded. None is shown twice.
3. Whoever runs the other side is given the same traces as files.
4. The changes of state come last.

The text in these values is printable; the template escapes it. Times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from exporter.model import REACHED_STATES, Observation, Place, Trace, Verdict
from exporter.publish.change import changes
from exporter.publish.drawing import Drawing, drawing_of
from exporter.publish.lines import control_lines, trace_lines
from exporter.publish.links import evidence_link
from exporter.publish.listing import PLACES
from exporter.publish.moments import ended_ago, time_of
from exporter.publish.text import host_port, printable, where
from exporter.publish.tones import TONES, WAITING
from exporter.store import Record


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
class Turn:
    """A change of state: a line of a target's history."""

    at: str
    was: str
    state: str
    tone: str
    reason: str


def facts(record: Record, now: float) -> Iterator[tuple[str, str]]:
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
    yield "Latest trace", f"{ended_ago(latest, now)} ago, one every {record.target.interval:g} s"


def downloads(record: Record) -> Iterator[Download]:
    """A link to each observation that is kept, but none twice."""
    kept = {"Latest": record.latest, "First bad": record.first_bad, "Last good": record.last_good}
    for name, observation in kept.items():
        if observation and (name == "Latest" or observation is not record.latest):
            of = name.lower().replace(" ", "-")
            links = (evidence_link(record.target.name, of, form) for form in ("zip", "html"))
            yield Download(f"{name} trace", *links)


def parts(record: Record, now: float) -> Iterator[Part]:
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


def turns(record: Record) -> Iterator[Turn]:
    """A line for each change of state, the last one first."""
    for was, now in changes(record):
        tone, reason = TONES[now.state], printable(now.reason)
        yield Turn(time_of(now.since), was.state, now.state, tone, reason)


def _blocked_at(verdict: Verdict) -> str:
    by = f" by {printable(verdict.blocked_by)}" if verdict.blocked_by else ""
    first, last = verdict.suspect_hops or (verdict.blocked_at_hop,) * 2
    suspects = f", suspects are hops {first} to {last}" if first != last else ""
    return f"hop {verdict.blocked_at_hop}{by}{suspects}"


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


def _part(heading: str, observation: Observation, shown: Shown, now: float) -> Part:
    state = observation.verdict.state
    return Part(heading, TONES[state], f"{state}, {ended_ago(observation, now)} ago", shown)


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
