"""What a trace would have been, had it spared some hops, or asked most of them once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from enum import Enum, auto

from exporter.model import Answer, Confidence, Hop, Location, ReplyKind, State, Trace, Verdict


class Sparing(Enum):
    """What is left of a spared hop."""

    #: It was not asked, and shows what it has answered others.
    SHARED = auto()
    #: It was asked once for nothing, and shows what it has answered others.
    ONCE = auto()
    #: It was not asked, and nobody knows it.
    UNKNOWN = auto()


def spared(trace: Trace, last: int, how: Sparing) -> Trace:
    """The trace without its own answers up to a hop."""
    near = tuple(_spared(hop, how) for hop in trace.hops[:last])
    return replace(trace, hops=(*near, *trace.hops[last:]))


def _spared(hop: Hop, how: Sparing) -> Hop:
    told = () if how is Sparing.UNKNOWN else _expired(hop)
    return Hop(hop.ttl, int(how is Sparing.ONCE and bool(told)), (), told)


def _expired(hop: Hop) -> tuple[Answer, ...]:
    return tuple(a for a in hop.answers if a.reply.kind is ReplyKind.TIME_EXCEEDED)


def as_the_tracer_would(trace: Trace) -> Iterator[Trace]:
    """All traces that spare the nearest hops, but not the farthest router that has answered."""
    yield from _all_before(trace, max((hop.ttl for hop in trace.hops if _expired(hop)), default=1))


def up_to_any_answer(trace: Trace) -> Iterator[Trace]:
    """All traces that spare the nearest hops, as long as a farther one has answered."""
    yield from _all_before(trace, trace.last_answering_ttl)


def _all_before(trace: Trace, first_kept: int) -> Iterator[Trace]:
    for last in range(1, first_kept):
        for how in Sparing:
            yield spared(trace, last, how)


def asked_once(trace: Trace) -> Trace:
    """The trace with one attempt at each hop that has answered the first."""

    def once(hop: Hop) -> Hop:
        first = tuple(answer for answer in hop.answers if answer.probe.attempt == 1)
        return replace(hop, sent=1, answers=first) if first else hop

    return replace(trace, hops=tuple(map(once, trace.hops)))


# -- verdicts compared -------------------------------------------------------------------

_SURER = list(Confidence)


def is_no_surer(verdict: Verdict, than: Verdict) -> bool:
    """Whether a verdict says the same as another one, or less, and that with no more confidence."""
    if verdict.state is State.INCONCLUSIVE:
        return verdict.confidence is Confidence.LOW
    return (
        verdict.state is than.state
        and verdict.last_reachable_hop <= than.last_reachable_hop
        and _contains(verdict.suspect_hops, than.suspect_hops)
        and verdict.blocked_by in {than.blocked_by, None}
        and verdict.location in {than.location, Location.UNKNOWN}
        and _SURER.index(verdict.confidence) >= _SURER.index(than.confidence)
    )


def _contains(wide: tuple[int, int] | None, narrow: tuple[int, int] | None) -> bool:
    if wide is None or narrow is None:
        return wide is narrow
    return wide[0] <= narrow[0] and narrow[1] <= wide[1]
