"""What controls a trace calls for.

A trace that is plainly healthy needs none, unless the target wants several flows each time. Where
nothing is known yet of the destination's distance, one port is asked whether it is as far away: a
proxy that answers for the traced port alone stands nearer. All else needs everything.
"""

from __future__ import annotations

from enum import Enum, auto

from exporter.controls.canary import answered
from exporter.diagnosis.placing import reply_distance
from exporter.model import TCP_KINDS, Handshake, State, Trace, Verdict


class Need(Enum):
    """What controls a trace calls for."""

    #: It is plainly healthy, and as far away as ever.
    NOTHING = auto()
    #: It is plainly healthy, as far as a first look goes.
    DISTANCE = auto()
    EVERYTHING = auto()


def need_of(
    verdict: Verdict,
    trace: Trace,
    handshake: Handshake | None,
    canary: Trace | None,
    last_good: Trace | None,
) -> Need:
    """Everything, as soon as something speaks against `open`."""
    healthy = (
        verdict.state is State.OPEN
        and (handshake is None or handshake.success)
        and not answered(canary)
        and not _answers_from_nearer(trace)
        and (last_good is None or last_good.distance == trace.distance)
    )
    if not healthy:
        return Need.EVERYTHING
    return Need.NOTHING if last_good else Need.DISTANCE


def _answers_from_nearer(trace: Trace) -> bool:
    """Whether some answer's own TTL fits a sender nearer than the destination is."""
    distance = trace.distance or 0
    senders = (
        reply_distance(answer.reply.ttl)
        for answer in trace.answers
        if answer.reply.kind in TCP_KINDS
    )
    return any(sender < distance for sender in senders if sender)
