"""Which targets' good traces stand beside another one's bad trace: those of the same way out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from exporter.model import Hop, ReplyKind, State, Trace
from exporter.store import Record

#: So many are enough to show that the first hops work.
MOST = 4
#: A trace counts for so many intervals of its target.
INTERVALS = 2

TIME_EXCEEDED = ReplyKind.TIME_EXCEEDED


def elsewhere(records: Iterable[Record], trace: Trace, now: float) -> tuple[Trace, ...]:
    """Traces of other destinations, open when last seen, that share the first hops of `trace`.

    `now` is in seconds since the epoch. They share them when the routers at the nearest hop that
    both know are the same.
    """
    routers = [(hop.ttl, found) for hop in trace.hops if (found := _routers(hop))]
    if not routers:
        return ()
    good = (one for record in records for one in _open_now(record, now))
    other = (one for one in good if one.flow.destination != trace.flow.destination)
    return tuple(islice((one for one in other if _shares(routers, one)), MOST))


def _open_now(record: Record, now: float) -> Iterator[Trace]:
    latest = record.latest
    if latest and now - latest.started_at <= INTERVALS * record.target.interval:
        for one in latest.by_address:
            if one.trace and one.verdict.state is State.OPEN:
                yield one.trace


def _routers(hop: Hop) -> set[str]:
    """Who said time-exceeded there, to this trace or to others."""
    expired = [answer.reply for answer in hop.known if answer.reply.kind is TIME_EXCEEDED]
    return {reply.address for reply in expired}


def _shares(routers: Sequence[tuple[int, set[str]]], other: Trace) -> bool:
    # Thousands of traces may be looked through: the nearest hop that both know decides.
    for ttl, known in routers:
        if len(other.hops) >= ttl and (found := _routers(other.hops[ttl - 1])):
            return not known.isdisjoint(found)
    return False
