"""Where a device stands, as far as the packets tell."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.model import Answer, Hop, ReplyKind, Trace

_INITIAL_TTLS = (64, 128, 255)
#: The share of unanswered probes to answering hops beyond which silence is doubted.
TOLERATED_LOSS = 0.2


@dataclass(frozen=True, slots=True)
class Device:
    """Where the sender of an ICMP error stands: at `hop`, or somewhere in `suspects`."""

    hop: int | None
    suspects: tuple[int, int]
    first_seen: int


def locate(trace: Trace, answer: Answer) -> Device:
    """The hop of the sender of an ICMP error, as far as the packets tell."""
    reply = answer.reply
    expired_at = [
        hop.ttl
        for hop in trace.hops
        for other in hop.answers
        if other.reply.kind is ReplyKind.TIME_EXCEEDED and other.reply.address == reply.address
    ]
    if expired_at:  # it answered for its own hop before, so that is where it stands
        return Device(expired_at[0], (expired_at[0], expired_at[0]), answer.probe.ttl)
    in_sweep = answer.probe.ttl <= len(trace.hops)
    first = answer.probe.ttl if in_sweep else trace.last_answering_ttl + 1
    # A device that filters after its TTL check is first seen one TTL past its hop, and later
    # still where the answers for lower TTLs were lost.
    answering = (hop.ttl for hop in trace.hops[: first - 1] if hop.answers)
    nearest = max(max(answering, default=0), 1)
    sender_at = reply_distance(reply.ttl)
    if reply.address == trace.flow.destination and (sender_at is None or sender_at >= first):
        return Device(first, (first, first), first)
    if sender_at is not None and nearest <= sender_at <= first:
        return Device(sender_at, (sender_at, sender_at), first)
    lossy = loss_of(trace.hops[:first]) > TOLERATED_LOSS
    return Device(None, (nearest if lossy else max(first - 1, 1), first), first)


def next_seen(trace: Trace, last_good: Trace | None) -> int | None:
    """The nearest hop past this trace's last that the last good trace saw answer.

    Only if both went the same way as far as this one came.
    """
    last = trace.last_answering_ttl
    if last_good is None or last_good.flow.destination != trace.flow.destination:
        return None
    for now, then in zip(trace.hops[:last], last_good.hops, strict=False):
        if now.addresses and then.addresses and not set(now.addresses) & set(then.addresses):
            return None
    return next((hop.ttl for hop in last_good.path[last:] if hop.answers), None)


def loss_of(hops: tuple[Hop, ...]) -> float:
    """The share of unanswered probes to hops that do answer, 0 when none does."""
    answering = [hop for hop in hops if hop.answers]
    sent = sum(hop.sent for hop in answering)
    return 1 - sum(hop.received for hop in answering) / sent if sent else 0.0


def reply_distance(reply_ttl: int | None) -> int | None:
    """The hop at which the sender of a reply stands, if it came the way that the probe went.

    From the reply's own TTL and the nearest customary initial value (64, 128, 255).
    """
    if reply_ttl is None:
        return None
    return next(initial for initial in _INITIAL_TTLS if initial >= reply_ttl) - reply_ttl + 1
