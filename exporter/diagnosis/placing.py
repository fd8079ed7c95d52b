"""Where a device stands, as far as the packets tell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from exporter.model import Answer, Hop, ReplyKind, Trace

_INITIAL_TTLS = (64, 128, 255)
#: The share of unanswered probes to answering hops beyond which silence is doubted.
TOLERATED_LOSS = 0.2
#: The probability from which on it may be that loss alone took every one of some probes.
PLAUSIBLE = 0.01


@dataclass(frozen=True, slots=True)
class Device:
    """Where a device that answered stands: at `hop`, or somewhere in `suspects`.

    `inferred`: only its reply's own TTL tells, and the way back may be of another length.
    """

    hop: int | None
    suspects: tuple[int, int]
    first_seen: int
    inferred: bool = False


def locate(trace: Trace, answer: Answer, others: Iterable[Trace] = ()) -> Device:
    """The hop of the sender of an ICMP error, as far as the packets tell.

    `others` are traces that may have met the same device, where it let them pass.
    """
    reply = answer.reply
    # It answered for its own hop before, so that is where it stands.
    for hop in _expired_at(trace, reply.address):
        return Device(hop, (hop, hop), answer.probe.ttl)
    in_sweep = answer.probe.ttl <= len(trace.hops)
    first = answer.probe.ttl if in_sweep else trace.last_answering_ttl + 1
    # A device that filters after its TTL check is first seen one TTL past its hop, and later
    # still where the answers for lower TTLs were lost.
    answering = (hop.ttl for hop in trace.hops[: first - 1] if hop.answers)
    nearest = max(max(answering, default=0), 1)
    sender_at = reply_distance(reply.ttl)
    if reply.address == trace.flow.destination and (sender_at is None or sender_at >= first):
        return Device(first, (first, first), first)
    lossy = loss_of(trace.hops[:first]) > TOLERATED_LOSS
    suspects = (nearest if lossy else max(first - 1, 1), first)
    for hop in _met_at(others, reply.address, suspects, trace):
        return Device(hop, (hop, hop), first)
    if (
        sender_at is not None
        and nearest <= sender_at <= first
        and _comes_back_alike(trace, nearest)
    ):
        return Device(sender_at, (sender_at, sender_at), first, inferred=nearest < first)
    return Device(None, suspects, first)


def _met_at(
    others: Iterable[Trace], address: str, suspects: tuple[int, int], trace: Trace
) -> Iterator[int]:
    """The hops among the suspects at which others that came the same way have met an address."""
    first, last = suspects
    for other in others:
        if not disagree(trace.hops[: first - 1], other.hops):
            yield from (hop for hop in _expired_at(other, address) if first <= hop <= last)


def _comes_back_alike(trace: Trace, ttl: int) -> bool:
    """Whether nothing shows that answers come back over another number of hops than probes go."""
    backs = {
        reply_distance(answer.reply.ttl)
        for hop in trace.hops[ttl - 1 : ttl]
        for answer in hop.answers
        if answer.reply.kind is ReplyKind.TIME_EXCEEDED
    }
    return backs <= {ttl, None}


def _expired_at(trace: Trace, address: str) -> Iterator[int]:
    """The hops at which an address said time-exceeded."""
    for hop in trace.hops:
        for _, reply in hop.answers:
            if reply.kind is ReplyKind.TIME_EXCEEDED and reply.address == address:
                yield hop.ttl
                break


def disagree(some: Iterable[Hop], others: Iterable[Hop]) -> bool:
    """Whether two ways from TTL 1 on met other devices at a hop where both were answered."""
    return any(
        here.answers and there.answers and not set(here.addresses) & set(there.addresses)
        for here, there in zip(some, others, strict=False)
    )


def loss_of(hops: tuple[Hop, ...]) -> float:
    """The share of unanswered probes to hops that do answer, 0 when none does."""
    answering = [hop for hop in hops if hop.answers]
    sent = sum(hop.sent for hop in answering)
    return 1 - sum(hop.received for hop in answering) / sent if sent else 0.0


def guarded_loss(hops: Iterable[Hop]) -> float:
    """The same, rather too high than too low where there were few probes.

    Half a loss is assumed beside those seen (Krichevsky and Trofimov, 1981).
    """
    answering = tuple(hop for hop in hops if hop.answers)
    sent = sum(hop.sent for hop in answering)
    received = sum(hop.received for hop in answering)
    return max(loss_of(answering), (sent - received + 0.5) / (sent + 1))


def reply_distance(reply_ttl: int | None) -> int | None:
    """The hop at which the sender of a reply stands, if it came the way that the probe went.

    From the reply's own TTL and the nearest customary initial value (64, 128, 255).
    """
    if reply_ttl is None:
        return None
    return next(initial for initial in _INITIAL_TTLS if initial >= reply_ttl) - reply_ttl + 1
