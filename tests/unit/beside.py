"""Controls of the sample path of tests/unit/samples: soundings, flows and echoes as traces."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from exporter.model import FULL_TTL, Hop, ReplyKind, StopReason, Trace
from tests.unit.samples import DISTANCE, answer, end, router, routers, silence, trace

NO_ANSWER = Hop(FULL_TTL, 3)


def coming_straight_back(hop: Hop, more: int = 0) -> Hop:
    """A hop whose replies bear the TTL of a way back as long as the way there, or longer."""
    ttl = FULL_TTL - hop.ttl + 1 - more
    return replace(
        hop, answers=tuple(a._replace(reply=a.reply._replace(ttl=ttl)) for a in hop.answers)
    )


def silent_after(last: int) -> Trace:
    """A trace in which nothing past a hop answers."""
    hops = (*routers(last), *silence(last + 1, 30))
    return trace(hops, StopReason.SILENCE, confirmation=NO_ANSWER)


def complete(kind: ReplyKind = ReplyKind.SYN_ACK) -> Trace:
    """A full trace that reaches the destination, whose reply fits its distance."""
    return trace((*routers(DISTANCE - 1), at_its_distance(kind)), StopReason.DESTINATION)


def at_its_distance(kind: ReplyKind, ttl: int = DISTANCE, *, reply_ttl: int | None = 0) -> Hop:
    """A hop at which the destination answers one probe; by default its reply fits its distance."""
    own = FULL_TTL - ttl + 1 if reply_ttl == 0 else reply_ttl
    hop = end(ttl, kind, sent=1)
    return replace(
        hop, answers=tuple(a._replace(reply=a.reply._replace(ttl=own)) for a in hop.answers)
    )


def passing(
    port: int = 80,
    first: int = 1,
    kind: ReplyKind = ReplyKind.RST,
    silent: Iterable[int] = (),
    distance: int = DISTANCE,
    *,
    reply_ttl: int | None = 0,
) -> Trace:
    """A sounding that the destination answers, with a probe for each hop from `first` on."""
    swept = (
        Hop(ttl, 2) if ttl in silent else replace(router(ttl), sent=1, answers=(answer(ttl, 1),))
        for ttl in range(first, distance)
    )
    hops = (*(Hop(ttl, 0) for ttl in range(1, first)), *swept)
    last = at_its_distance(kind, distance, reply_ttl=reply_ttl)
    return trace((*hops, last), StopReason.DESTINATION, port, end(FULL_TTL, kind, sent=1), 0.4)


def echo(first: int = 1) -> Trace:
    """An ICMP echo sounding that the destination answers."""
    made = passing(0, first, ReplyKind.ECHO_REPLY)
    return replace(made, engine="echo", flow=made.flow._replace(source_port=0))


def unanswered(port: int = 80, source_port: int = 33434) -> Trace:
    """A sounding that nobody answers."""
    made = trace((), StopReason.SILENCE, port, NO_ANSWER, 1.5)
    return replace(made, flow=made.flow._replace(source_port=source_port))


def rejected(port: int, by: str, icmp: tuple[int, int] = (3, 13)) -> Trace:
    """A sounding that an ICMP error answers."""
    full = end(FULL_TTL, ReplyKind.UNREACHABLE, by=by, icmp=icmp, sent=1)
    return trace((), StopReason.ICMP_ERROR, port, full, 0.1)


def from_port(made: Trace, source_port: int) -> Trace:
    """The same from another source port."""
    return replace(made, flow=made.flow._replace(source_port=source_port))


def over(made: Trace, ttl: int, by: str) -> Trace:
    """The same, but another device answers at a TTL."""
    hops = tuple(
        replace(
            hop,
            answers=tuple(a._replace(reply=a.reply._replace(address=by)) for a in hop.answers),
        )
        if hop.ttl == ttl
        else hop
        for hop in made.hops
    )
    return replace(made, hops=hops)


def elsewhere(destination: str, distance: int = DISTANCE) -> Trace:
    """A good trace of another target over the same first hops."""
    hops = (*routers(distance - 1), end(distance, ReplyKind.SYN_ACK, by=destination))
    made = trace(hops, StopReason.DESTINATION)
    return replace(made, flow=made.flow._replace(destination=destination))
