"""What others have seen behind the last hop that answered: controls, other flows, the good past.

1. A witness is a trace of the same destination that reached it: a flow or a control of this cycle,
   or the last good trace. One that went another way tells nothing: up to the last hop that answered
   the two must agree wherever both were answered, and at that hop both must have been.
2. A router's time-exceeded shows that something stands at its hop. An answer in the destination's
   name does so unless somebody nearer may have given it: its own TTL must not fit a nearer sender
   (where routers on the way answer over a shorter way back, the destination may as well), and no
   other witness may have met the destination farther away.
3. The range of suspects ends at the nearest hop so seen of which this trace should have heard.
   Where the way loses packets, three unanswered probes do not show that: the range goes on to a
   farther hop, until plain loss would not have taken all probes to the hops that were seen.
4. Who may stand one hop farther than the TTL that he answered (`placing`) ends the range there.
   Where this trace heard nobody, routers that left a witness' probe unanswered, and all before
   them, end no range: they limit themselves, and a witness met some in a better moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from exporter.diagnosis.case import Case
from exporter.diagnosis.once import once
from exporter.diagnosis.placing import (
    PLAUSIBLE,
    disagree,
    expired_at,
    guarded_loss,
    hops_of,
    loss_of,
    reply_distance,
)
from exporter.diagnosis.words import last_good_name
from exporter.model import END_KINDS, Answer, Hop, ReplyKind, Trace


@dataclass(frozen=True, slots=True)
class Witness:
    """A trace that reached the same destination; `name` says which, as in a sentence."""

    name: str
    trace: Trace
    #: Made in this cycle.
    current: bool = True

    def is_control_of(self, trace: Trace) -> bool:
        """Whether it is other traffic of the same cycle, rather than another flow of the same."""
        return self.current and self.trace.flow.destination_port != trace.flow.destination_port


@dataclass(frozen=True, slots=True)
class Beyond:
    """A hop behind the silence that witnesses have seen answer; `sure`: nobody nearer did.

    Who answers there stands at `hop` at the farthest, and no nearer than `nearest`.
    """

    hop: int
    nearest: int
    addresses: tuple[str, ...]
    witnesses: tuple[Witness, ...]
    sure: bool


class _Seen(NamedTuple):
    """A hop that a witness has seen answer."""

    witness: Witness
    hop: Hop


@once
def was_reached(trace: Trace) -> bool:
    """Whether anything answered in the destination's name."""
    return any(answer.reply.kind in END_KINDS for answer in trace.answers)


def witnesses_of(case: Case) -> tuple[Witness, ...]:
    """All of rule 1, whichever way they went."""
    controlled, last_good = case.controlled, case.last_good
    found = [
        *(
            Witness(f"the flow from port {flow.flow.source_port}", flow)
            for flow in controlled.flows
        ),
        *(Witness(f"port {port.flow.destination_port}", port) for port in controlled.ports),
    ]
    if controlled.echo:
        found.append(Witness("an ICMP echo", controlled.echo))
    if last_good and last_good.flow.destination == case.trace.flow.destination:
        found.append(Witness(last_good_name(case.trace, last_good), last_good, current=False))
    return tuple(witness for witness in found if was_reached(witness.trace))


def went_the_same_way(trace: Trace, other: Trace) -> bool:
    """Whether another trace met the same devices up to the last that answered this one."""
    last = trace.last_answering_ttl
    compared = not last or any(hop.answers for hop in other.hops[last - 1 : last])
    return compared and not disagree(trace.hops[:last], other.hops)


def nearest_beyond(case: Case) -> Beyond | None:
    """The end of the range of suspects, None where nobody has seen any."""
    trace, known = case.trace, witnesses_of(case)
    last = trace.last_answering_ttl
    farthest = max((_distance(one.trace) for one in known), default=0)
    alike = [one for one in known if went_the_same_way(trace, one.trace)]
    lucky = 0 if last else _limited_until(alike, farthest)
    seen: dict[int, list[_Seen]] = {}
    for one in alike:
        for hop in one.trace.hops[last:]:
            at = _shown_by(hop, one.trace, farthest)
            if at > lucky:
                seen.setdefault(at, []).append(_Seen(one, hop))
    loss, by_loss = _loss(trace, known), 1.0
    for ttl, by in sorted(seen.items()):
        is_end = ttl == farthest
        # A router that has left the witnesses' first probes unanswered, too, limits itself.
        share = max(loss, loss_of(tuple(one.hop for one in by)))
        by_loss *= share ** _unanswered(trace, ttl, is_end=is_end)
        if by_loss <= PLAUSIBLE:
            return _beyond(ttl, by)
    return None


def _limited_until(alike: Iterable[Witness], farthest: int) -> int:
    """The last hop before the destination that left some probe of a witness unanswered, 0 for none.

    To a trace that heard nobody, routers that limit themselves look like a drop at the first hop,
    and any of those up to here may have answered a witness by luck.
    """
    hops = (hop for one in alike for hop in one.trace.hops if hop.ttl < farthest)
    return max((hop.ttl for hop in hops if hop.received < hop.sent), default=0)


def _distance(trace: Trace) -> int:
    """Where the destination stands at the farthest, 0 when not known.

    Where the answers to lower TTLs were lost it began to answer too late.
    """
    ttl = trace.distance
    if not ttl:
        return 0
    return min(
        min(ttl, reply_distance(answer.reply.ttl) or ttl)
        for answer in trace.hops[ttl - 1].answers
        if answer.reply.kind in END_KINDS
    )


def _beyond(ttl: int, by: Sequence[_Seen]) -> Beyond:
    answers = [answer for one in by for answer in one.hop.answers]
    return Beyond(
        hop=ttl,
        nearest=min(one.hop.ttl for one in by),
        addresses=tuple(dict.fromkeys(answer.reply.address for answer in answers)),
        witnesses=tuple(dict.fromkeys(one.witness for one in by)),
        sure=any(_cannot_be_nearer(answer) for answer in answers),
    )


def _shown_by(hop: Hop, seen_in: Trace, farthest: int) -> int:
    """The hop at which somebody stands at the farthest, by rule 2; 0 where nobody is shown."""
    routers = [hops_of(seen_in, answer)[1] for answer in expired_at(hop).values()]
    if routers:
        return min(routers)
    shorter = _shorter_way_back(seen_in.hops[: hop.ttl - 1])
    is_end = any(
        answer.reply.kind in END_KINDS
        and hop.ttl == farthest
        and (reply_distance(answer.reply.ttl) or hop.ttl) >= hop.ttl - shorter
        for answer in hop.answers
    )
    return hop.ttl if is_end else 0


def _cannot_be_nearer(answer: Answer) -> bool:
    if answer.reply.kind is ReplyKind.TIME_EXCEEDED:
        return True
    # One hop more may also be that behind a zero-TTL forwarder.
    return reply_distance(answer.reply.ttl) == answer.probe.ttl


def _shorter_way_back(hops: Iterable[Hop]) -> int:
    """By how many hops the last router's answers come a shorter way than its probes go."""
    shorter = 0
    for hop in hops:
        for answer in hop.answers:
            if answer.reply.kind is ReplyKind.TIME_EXCEEDED:
                shorter = hop.ttl - (reply_distance(answer.reply.ttl) or hop.ttl)
    return max(shorter, 0)


def _unanswered(trace: Trace, ttl: int, *, is_end: bool) -> int:
    """How many probes the device at a TTL would have answered, had they come to it."""
    if not is_end:
        return sum(hop.sent for hop in trace.hops[ttl - 1 : ttl])
    full = trace.confirmation.sent if trace.confirmation else 0
    return full + sum(hop.sent for hop in trace.hops[ttl - 1 :])


def _loss(trace: Trace, known: Iterable[Witness]) -> float:
    """The share of probes that go without an answer, as this trace and others met it.

    Of the controls only the full TTL counts: their few probes to a hop that lost one look like a
    silent router's.
    """
    hops = list(trace.hops)
    for one in known:
        full = one.trace.confirmation
        hops += [full] if one.current and full else one.trace.hops
    return max(loss_of(trace.hops), guarded_loss(hops))
