"""Where a device stands, as far as the packets tell.

A router says time-exceeded for the TTL that is its hop, with one exception: a zero-TTL forwarder
passes on what should have run out at it, and the next router answers in its place, quoting a TTL of
0, and for its own hop once more (Augustin et al., "Avoiding traceroute anomalies with Paris
traceroute", 2006, section 4.2.2). So who quotes 0 stands one hop farther, unless he counts down
before he quotes; which of the two it is, the next TTL's answer tells.

Hops that were spared (model: `Hop.shared`) place nobody by themselves. What they have answered
others may raise a doubt: that two traces went the same way, that a device has one hop alone. And it
may agree with where a reply's own TTL places its sender.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from exporter.diagnosis.once import once
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

    @property
    def ends_at(self) -> int:
        """Its hop, or the first one that the traffic is known not to reach.

        A device that has no error left for the lower TTLs is first heard long behind its hop.
        """
        return self.hop or min(self.first_seen, self.suspects[1])


def is_spared(hop: Hop) -> bool:
    """Whether a hop's silence says nothing: it was not asked, or is known to answer others."""
    return not hop.answers and (not hop.sent or bool(hop.shared))


@once
def as_told(trace: Trace) -> Trace:
    """The trace as if what its spared hops have answered others were for itself: for doubts."""
    if not any(hop.shared for hop in trace.hops):
        return trace
    hops = tuple(replace(hop, answers=hop.known, shared=()) for hop in trace.hops)
    return replace(trace, hops=hops)


def hops_of(trace: Trace, answer: Answer) -> tuple[int, int]:
    """The first and the last hop at which the sender of a time-exceeded may stand.

    Without a quote a NAT that speaks for those behind it looks like a zero-TTL forwarder.
    """
    ttl, quoted = answer.probe.ttl, answer.reply.quoted_ttl
    if quoted:
        return ttl, ttl
    if is_repeated(trace, answer):
        return (ttl + 1 if quoted == 0 else ttl), ttl + 1
    return ttl, ttl if any(hop.answers for hop in trace.hops[ttl : ttl + 1]) else ttl + 1


def is_repeated(trace: Trace, answer: Answer) -> bool:
    """Whether the sender of a time-exceeded, unless it quotes otherwise, may be the next hop's."""
    ttl, reply = answer.probe.ttl, answer.reply
    after = trace.hops[ttl : ttl + 1]
    return not reply.quoted_ttl and any(reply.address in expired_at(hop) for hop in after)


def expired_at(hop: Hop) -> dict[str, Answer]:
    """Who said time-exceeded at a hop, each with the first answer that says so."""
    found: dict[str, Answer] = {}
    for answer in hop.answers:
        if answer.reply.kind is ReplyKind.TIME_EXCEEDED:
            found.setdefault(answer.reply.address, answer)
    return found


def locate(trace: Trace, answer: Answer, others: Iterable[Trace] = ()) -> Device:
    """The hop of the sender of an ICMP error, as far as the packets tell.

    `answer` is the trace's, or one to a full TTL of another flow to the same endpoint; `others` are
    traces that may have met the same device, where it let them pass.
    """
    reply = answer.reply
    in_sweep = answer.probe.ttl <= len(trace.hops)
    first = answer.probe.ttl if in_sweep else trace.last_answering_ttl + 1
    if known := _by_its_own_hop(trace, answer, first):
        return known
    sender_at = reply_distance(reply.ttl)
    if reply.address == trace.flow.destination and (sender_at is None or sender_at >= first):
        return Device(first, (first, first), first)
    suspects = _suspects(trace, answer, first, in_sweep=in_sweep)
    for hop in _met_at(others, reply.address, suspects, trace):
        return Device(hop, (hop, hop), first)
    nearest = _last_answering_before(trace, first)
    spared = any(map(is_spared, trace.hops[nearest - 1 : first - 1]))
    if (
        sender_at is not None
        and not (spared and _told_at(trace, reply.address) != {sender_at})
        and (reply.quoted_ttl is not None or sender_at <= first or not in_sweep)
        and nearest <= sender_at <= suspects[1]
        and _comes_back_alike(as_told(trace), nearest)
    ):
        return Device(sender_at, (sender_at, sender_at), first, inferred=nearest < suspects[1])
    return Device(None, suspects, first)


def _by_its_own_hop(trace: Trace, answer: Answer, first: int) -> Device | None:
    """Where somebody stands who has answered for his own hop before."""
    address, seen = answer.reply.address, answer.probe.ttl
    expired = _expired_by(trace, address)
    if not expired:
        return None
    hop, told = expired[-1].probe.ttl, as_told(trace)
    also = (one for one in _expired_by(told, address) if one.probe.ttl != hop)
    if any(hops_of(told, one)[0] != hop for one in also):
        # One address at several hops, which a NAT has that speaks for those behind it.
        return Device(hop, (hop, max(hop, first)), seen)
    suspects = hops_of(trace, expired[-1])
    return Device(hop if suspects == (hop, hop) else None, suspects, seen)


def _expired_by(trace: Trace, address: str) -> list[Answer]:
    """The first time-exceeded of an address at each of its hops."""
    return [found for hop in trace.hops if (found := expired_at(hop).get(address))]


def _told_at(trace: Trace, address: str) -> set[int]:
    """The hops at which others have met an address that this trace has not met."""
    return {answer.probe.ttl for answer in _expired_by(as_told(trace), address)}


def _last_answering_before(trace: Trace, first: int) -> int:
    return max((hop.ttl for hop in trace.hops[: first - 1] if hop.answers), default=1)


def _suspects(trace: Trace, answer: Answer, first: int, *, in_sweep: bool) -> tuple[int, int]:
    """The hops at which the sender of an ICMP error may stand who is first heard at a TTL.

    One that filters after its TTL check is first heard one TTL past its hop, and later still where
    the answers for lower TTLs were lost; one behind a zero-TTL forwarder that filters before its
    TTL check is heard one TTL too early, and quotes 0.
    """
    nearest = _last_answering_before(trace, first)
    if not in_sweep:
        # It has answered no TTL that would tell.
        return nearest, max(first, len(trace.hops))
    reply = answer.reply
    sender_at = reply_distance(reply.ttl)
    early = reply.quoted_ttl == 0 or (reply.quoted_ttl is None and sender_at == first + 1)
    lossy = loss_of(trace.hops[:first]) > TOLERATED_LOSS
    spared = any(map(is_spared, trace.hops[nearest - 1 : first - 1]))
    return nearest if lossy or spared else max(first - 1, 1), first + early


def _met_at(
    others: Iterable[Trace], address: str, suspects: tuple[int, int], trace: Trace
) -> Iterator[int]:
    """The hops among the suspects at which others that came the same way have met an address."""
    first, last = suspects
    for other in others:
        if not disagree(trace.hops[: last - 1], other.hops):
            for hop in other.hops[first - 1 : last]:
                found = expired_at(hop).get(address)
                if found and hops_of(other, found) == (hop.ttl, hop.ttl):
                    yield hop.ttl


def _comes_back_alike(trace: Trace, ttl: int) -> bool:
    """Whether nothing shows that answers come back over another number of hops than probes go."""
    backs = {
        reply_distance(answer.reply.ttl)
        for hop in trace.hops[ttl - 1 : ttl]
        for answer in hop.answers
        if answer.reply.kind is ReplyKind.TIME_EXCEEDED
    }
    return backs <= {ttl, None}


def disagree(some: Iterable[Hop], others: Iterable[Hop]) -> bool:
    """Whether two ways from TTL 1 on met other devices at a hop where those of both are known."""
    return any(
        here.known and there.known and _known_at(here).isdisjoint(_known_at(there))
        for here, there in zip(some, others, strict=False)
    )


def _known_at(hop: Hop) -> frozenset[str]:
    return frozenset(answer.reply.address for answer in hop.known)


def loss_of(hops: tuple[Hop, ...]) -> float:
    """The share of unanswered probes to hops that do answer, 0 when none does."""
    answering = [hop for hop in hops if hop.answers]
    sent = sum([hop.sent for hop in answering])
    return 1 - sum([len(hop.answers) for hop in answering]) / sent if sent else 0.0


def guarded_loss(hops: Iterable[Hop]) -> float:
    """The same, rather too high than too low where there were few probes.

    Half a loss is assumed beside those seen (Krichevsky and Trofimov, 1981).
    """
    answering = tuple(hop for hop in hops if hop.answers)
    sent = sum([hop.sent for hop in answering])
    received = sum([len(hop.answers) for hop in answering])
    return max(loss_of(answering), (sent - received + 0.5) / (sent + 1))


@lru_cache(maxsize=256)
def reply_distance(reply_ttl: int | None) -> int | None:
    """The hop at which the sender of a reply stands, if it came the way that the probe went.

    From the reply's own TTL and the nearest customary initial value (64, 128, 255).
    """
    if reply_ttl is None:
        return None
    return next(initial for initial in _INITIAL_TTLS if initial >= reply_ttl) - reply_ttl + 1
