"""What controls a trace calls for.

A trace that is plainly healthy needs none, unless the target wants several flows each time. Where
nothing is known yet of the destination's distance, one port is asked whether it is as far away: a
proxy that answers for the traced port alone stands nearer. A port that a quick trace finds closed
as ever, by RSTs that come from as far as ever by TTL and by reply TTL, needs an echo from the same
place: that is what tells the destination's RST from a firewall's. All else needs everything, and so
does what turns out to be otherwise by less (`suffices`).

What no end point has answered needs everything whatever the verdict, so that is judged once, with
its controls (`is_plain_failure`).
"""

from __future__ import annotations

from enum import Enum, auto

from exporter.controls.canary import answered
from exporter.diagnosis.placing import reply_distance
from exporter.model import (
    TCP_KINDS,
    Confidence,
    Handshake,
    ReplyKind,
    State,
    StopReason,
    Trace,
    Verdict,
)


class Need(Enum):
    """What controls a trace calls for."""

    #: It is plainly healthy, and as far away as ever.
    NOTHING = auto()
    #: It is plainly healthy, as far as a first look goes.
    DISTANCE = auto()
    #: It is closed, as ever and as far away as ever.
    ECHO = auto()
    EVERYTHING = auto()


def is_plain_failure(trace: Trace, handshake: Handshake | None) -> bool:
    """Whether no verdict on the trace would be `open` or `closed`, nor an error of this host's.

    Nobody answers over TCP, neither the trace nor connect(), and nobody says here that nothing can
    be sent.
    """
    if trace.failure or trace.stop_reason is StopReason.DEADLINE:
        return False
    if handshake and handshake.success:
        return False
    here = trace.flow.source
    replies = (answer.reply for answer in trace.answers)
    return not any(reply.kind in TCP_KINDS or reply.address == here for reply in replies)


def need_of(
    verdict: Verdict,
    trace: Trace,
    handshake: Handshake | None,
    canary: Trace | None,
    last_good: Trace | None,
    *,
    quick: bool = False,
) -> Need:
    """Everything, as soon as something speaks against `open`, or against `closed` as ever.

    `quick` says that the trace was to check what is known, and that echoes are possible.
    """
    sound = (
        not answered(canary)
        and not _answers_from_nearer(trace)
        and (last_good is None or last_good.distance == trace.distance)
    )
    if not sound or (handshake and handshake.success is not (verdict.state is State.OPEN)):
        return Need.EVERYTHING
    if verdict.state is State.OPEN:
        return Need.NOTHING if last_good else Need.DISTANCE
    as_ever = verdict.state is State.CLOSED and quick and _answers_alike(trace, last_good)
    return Need.ECHO if as_ever else Need.EVERYTHING


def suffices(need: Need, verdict: Verdict, canary: Trace | None) -> bool:
    """Whether the verdict with these controls is the one for which no more are needed."""
    if need is Need.ECHO:
        sure = verdict.state is State.CLOSED and verdict.confidence is Confidence.HIGH
        return sure and not answered(canary)
    return need is Need.EVERYTHING or verdict.state is State.OPEN


def _answers_alike(trace: Trace, last_good: Trace | None) -> bool:
    """Whether the answers over TCP came with the reply TTLs of the last good trace, all seen."""
    ours, theirs = _endings(trace), _endings(last_good) if last_good else set()
    return ours == theirs and all(ttl for _, ttl in ours)


def _endings(trace: Trace) -> set[tuple[ReplyKind, int | None]]:
    replies = (answer.reply for answer in trace.answers)
    return {(reply.kind, reply.ttl) for reply in replies if reply.kind in TCP_KINDS}


def _answers_from_nearer(trace: Trace) -> bool:
    """Whether some answer's own TTL fits a sender nearer than the destination is."""
    distance = trace.distance or 0
    senders = (
        reply_distance(answer.reply.ttl)
        for answer in trace.answers
        if answer.reply.kind in TCP_KINDS
    )
    return any(sender < distance for sender in senders if sender)
