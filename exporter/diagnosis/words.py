"""A verdict's sentences and facts: the words, not the conclusions."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby

from exporter.diagnosis.once import once
from exporter.model import TCP_KINDS, Answer, Handshake, Location, ReplyKind, Trace, joined

_REFUSED = os.strerror(errno.ECONNREFUSED)
UNREACHABLE = os.strerror(errno.EHOSTUNREACH)
#: What connect() fails with where an RST or an ICMP error answers it (Linux: icmp_err_convert in
#: net/ipv4/icmp.c, icmpv6_err_convert in net/ipv6/icmp.c). Policy and routing share most of them.
_TOLD_NO = frozenset(
    os.strerror(number)
    for number in (
        errno.ECONNREFUSED,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.ENONET,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
        errno.EACCES,
    )
)
#: 2000-01-01: what is older was stamped by a clock that nobody had set.
_UNSET_UNTIL = 946_684_800
WHERE = {
    Location.PLATFORM: "inside the platform",
    Location.BOUNDARY: "at the edge of the platform",
    Location.EXTERNAL: "outside the platform",
    Location.UNKNOWN: "inside or outside the platform is not known",
}


@once
def facts_of(trace: Trace) -> tuple[str, ...]:
    """What was sent and what came back, in numbers."""
    flow = trace.flow
    sent = sum(hop.sent for hop in trace.hops)
    received = sum(hop.received for hop in trace.hops)
    # The connect engine has a source port for each probe.
    source = flow.source
    if trace.engine != "connect":
        source = joined(flow.source, flow.source_port)
    asked = _ranges(hop.ttl for hop in trace.hops if hop.sent)
    left_out = _ranges(hop.ttl for hop in trace.hops if not hop.sent)
    facts = [
        (
            f"{_count(sent, 'SYN')} from {source} to {destination_of(trace)} "
            f"with TTL {asked}, {received} answered"
        )
    ]
    if left_out:
        facts.append(f"not asked, to spare the ICMP errors of shared routers: TTL {left_out}")
    if full := trace.confirmation:
        facts.append(
            f"{_count(full.sent, 'SYN')} with TTL {full.ttl}, {full.received} answered, "
            f"within {trace.duration:.1f} s"
        )
    if trace.duplicates:
        facts.append(f"not counted: {_count(trace.duplicates, 'duplicate')}")
    if trace.unseen_errors:
        facts.append(
            f"while this trace ran, the kernel kept {_count(trace.unseen_errors, 'ICMP error')} "
            "from this engine, for a quoted sequence number was not the one sent"
        )
    return tuple(facts)


def _ranges(ttls: Iterable[int]) -> str:
    """Ascending TTLs as "1 and 4 to 12"; "" for none."""
    # TTLs in a row differ by as much as their places do.
    rows = groupby(enumerate(ttls), lambda placed: placed[1] - placed[0])
    runs = [[ttl for _, ttl in row] for _, row in rows]
    words = [f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    return listed(words) if words else ""


def unread(trace: Trace) -> str:
    """What a reader of a silence must know where it may be none: a sentence with a blank, or ""."""
    if not trace.unseen_errors:
        return ""
    return (
        " While this trace ran, ICMP errors came in that this engine cannot read, perhaps from "
        "hops behind the last one that it saw; the syn engine, which needs CAP_NET_RAW, could."
    )


def answer_text(kind: ReplyKind) -> str:
    """A reply's kind in the words of TCP."""
    return {ReplyKind.SYN_ACK: "SYN-ACK", ReplyKind.RST: "RST", ReplyKind.ACK: "ACK"}.get(
        kind, str(kind)
    )


#: So many probes are named in one fact.
MOST_NUMBERS = 6


def numbers_of(answers: Iterable[Answer]) -> str:
    """The probes of some answers as TTL.attempt, the first few of them."""
    numbers = [f"{answer.probe.ttl}.{answer.probe.attempt}" for answer in answers]
    more = f" and {len(numbers) - MOST_NUMBERS} more" if len(numbers) > MOST_NUMBERS else ""
    return ", ".join(numbers[:MOST_NUMBERS]) + more


def listed(words: Sequence[str]) -> str:
    """Words, at least one, as "a, b and c"."""
    return " and ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else words[0]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def destination_of(trace: Trace) -> str:
    """Address and port as one word."""
    return joined(trace.flow.destination, trace.flow.destination_port)


def range_text(suspects: tuple[int, int]) -> str:
    """A range of hops in words."""
    first, last = suspects
    if first == last:
        return f"hop {first}"
    return f"hop {first} or {last}" if first + 1 == last else f"one of the hops {first} to {last}"


def application_text(handshake: Handshake | None) -> str:
    """The application's own view as a clause."""
    if handshake is None:
        return "no plain connect() was made"
    return "a plain connect() " + (
        "succeeds" if handshake.success else f"fails ({handshake.error})"
    )


def was_refused(handshake: Handshake | None) -> bool:
    """Whether connect() was refused: by an RST, or by ICMP port-unreachable just as well."""
    return handshake is not None and handshake.error == _REFUSED


def has_no_neighbour(trace: Trace, handshake: Handshake | None) -> bool:
    """Whether connect() was told by this host that a destination on its own network is not there.

    Nobody else stands on the way who could have said so.
    """
    return trace.gateway == "" and handshake is not None and handshake.error == UNREACHABLE


def was_told_no(handshake: Handshake | None) -> bool:
    """Whether somebody answered connect() with an error, so that not all of it was dropped."""
    return handshake is not None and handshake.error in _TOLD_NO


def last_good_name(trace: Trace, last_good: Trace) -> str:
    """What the last good trace is called, with its time unless that cannot be true."""
    at = last_good.started_at
    if not _UNSET_UNTIL <= at <= trace.started_at:
        return "the last good trace"
    return f"the last good trace (of {datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC)"


def handshake_facts(handshake: Handshake | None, trace: Trace) -> tuple[str, ...]:
    """The application's own view as facts, none when it was not asked."""
    if handshake is None:
        return ()
    outcome = "succeeded" if handshake.success else f"failed: {handshake.error}"
    seconds = handshake.duration
    # The unit of the traces' own lines, publish/text.py.
    after = f"{seconds * 1000:.3f} ms" if seconds < 1 else f"{seconds:.3f} s"
    fact = f"a plain connect() in the same cycle {outcome}, after {after}"
    kinds = {answer.reply.kind for answer in trace.answers}
    if was_refused(handshake) and ReplyKind.UNREACHABLE in kinds and not kinds & TCP_KINDS:
        return (fact, "it is told the same of a closed port, but no RST came: only ICMP errors")
    return (fact,)
