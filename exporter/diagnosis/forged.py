"""Somebody nearer answers in the destination's name: a firewall that resets, or a proxy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from exporter.diagnosis.case import Case
from exporter.diagnosis.distance import (
    Relation,
    Routers,
    Sender,
    Spot,
    Voice,
    diverge,
    routers_of,
    spot,
    stands_behind,
)
from exporter.diagnosis.placing import is_spared, reply_distance
from exporter.diagnosis.words import WHERE, answer_text, destination_of, range_text
from exporter.model import Answer, Confidence, Location, State, Verdict, Zone

#: What somebody else who answers in the destination's name says of the one who does here.
TOLD = {
    Relation.NEARER: "farther than who answers here",
    Relation.SAME: "the same place as who answers here",
    Relation.FARTHER: "nearer than who answers here",
    Relation.ALIKE: "the same TTL as who answers here",
    Relation.UNTOLD: "which of the two is nearer cannot be told",
    Relation.CONTRADICTORY: "TTL and reply TTL contradict each other about which is nearer",
}
#: Whether he accepts -> what he does, and the state that makes.
FORGING = {
    True: (State.INTERCEPTED, "is accepted by"),
    False: (State.RESET, "is reset by"),
}


@dataclass(frozen=True, slots=True)
class Forgery:
    """Who answers, whom he was caught by, and that as a clause."""

    sender: Sender
    others: Sequence[Voice]
    proof: str
    #: Whether TTLs and reply TTLs agree, and nothing speaks for the destination.
    sure: bool = False


def forged(case: Case, forgery: Forgery) -> Verdict:
    """The verdict on a trace that somebody nearer than the destination answers."""
    sender = forgery.sender
    place = spot(sender, [voice.sender for voice in forgery.others])
    traces = [case.trace, *(voice.sender.trace for voice in forgery.others)]
    heard = routers_of(*(one for one in traces if not diverge(case.trace, one)))
    location = _location(case, place, heard, forgery)
    state, does = FORGING[sender.accepts]
    first, last = place.device.suspects
    blocks = state is State.RESET
    return Verdict(
        state=state,
        last_reachable_hop=place.device.hop or first,
        reason=f"{destination_of(case.trace)} {does} {_who(place)}, not by the destination: "
        f"{forgery.proof}; {WHERE[location]}.",
        confidence=Confidence.HIGH if _is_sure(forgery, place) else Confidence.MEDIUM,
        blocked_at_hop=place.device.ends_at if blocks else 0,
        suspect_hops=(first, last) if blocks else None,
        blocked_by=place.address if blocks else None,
        location=location if blocks else Location.NONE,
        evidence=tuple(_facts(forgery, place)),
    )


def _is_sure(forgery: Forgery, place: Spot) -> bool:
    """Whether this can be nothing else.

    Who has the destination's address himself, as a load balancer has, answers at his own hop as a
    firewall does that resets before its TTL check. Who answers one TTL later has checked the TTL
    and was about to forward: the address is not his.
    """
    return forgery.sure and place.proven and _forwards(forgery.sender, place)


def _forwards(sender: Sender, place: Spot) -> bool:
    return bool(place.device.hop and sender.ttl and place.device.hop < sender.ttl)


def _who(place: Spot) -> str:
    hop = place.device.hop
    if hop is None:
        return f"a device at {range_text(place.device.suspects)}"
    return f"the device at hop {hop}" + (f" ({place.address})" if place.address else "")


def _location(case: Case, place: Spot, heard: Routers, forgery: Forgery) -> Location:
    """The side of the edge on which the suspects stand.

    Of a hop that is not heard the nearest before or behind it tells, unless some between were
    spared.
    """
    first, last = place.device.suspects
    before = max((hop for hop in heard if hop <= first), default=0)
    if any(is_spared(hop) for hop in case.trace.hops[before:first]):
        return Location.UNKNOWN
    near = _sides(case, heard, before)
    far = _sides(case, heard, min((hop for hop in heard if hop >= last), default=0))
    traces = [case.trace, *(voice.sender.trace for voice in forgery.others)]
    inside_until = max(case.zones.last_platform_hop(trace) for trace in traces)
    # TTL 1 is answered by this host's own firewall as well.
    if near == {Zone.EXTERNAL} and inside_until <= first and forgery.sender.ttl != 1:
        return Location.EXTERNAL
    if near == {Zone.PLATFORM} == far:
        return Location.PLATFORM
    if near == {Zone.PLATFORM} and far == {Zone.EXTERNAL}:
        return Location.BOUNDARY
    return Location.UNKNOWN


def _sides(case: Case, heard: Routers, hop: int) -> set[Zone]:
    return {case.zones.zone(address, hop) for address in heard.get(hop, ())}


# -- facts -----------------------------------------------------------------------------


def answer_fact(sender: Sender) -> str:
    """The first of somebody's answers, in numbers."""
    probe, reply = first = sender.first
    return (
        f"{answer_text(reply.kind)} first for TTL {probe.ttl}, attempt {probe.attempt}, "
        f"reply TTL {_reply_ttl(first)}"
    )


def voice_fact(voice: Voice, relation: Relation) -> str:
    """What somebody else who answers in the destination's name tells, in numbers."""
    return f"{voice.name} of the same destination: {answer_fact(voice.sender)}; {TOLD[relation]}"


def _reply_ttl(answer: Answer) -> str:
    ttl = answer.reply.ttl
    if ttl is None:
        return "not seen by this engine"
    return f"{ttl}, as of a sender at hop {reply_distance(ttl)}"


def _facts(forgery: Forgery, place: Spot) -> Iterator[str]:
    sender, hop = forgery.sender, place.device.hop
    if hop and place.proven:
        who = place.address or "the router"
        yield f"{who} says time-exceeded at hop {hop}, and that arrives from as far as the answers"
    for voice in forgery.others:
        if behind := _router_behind(sender, voice.sender):
            ttl, address = behind
            yield (
                f"on the way to {voice.name} {address} says time-exceeded for TTL {ttl}, which is "
                "answered in the destination's name here"
            )
            break
    if not _forwards(sender, place):
        yield (
            "a device that has the destination's address itself, as a load balancer has, would "
            "answer alike"
        )


def _router_behind(near: Sender, far: Sender) -> tuple[int, str] | None:
    """The first router on somebody's way that stands where another one answers already."""
    if not stands_behind(far, near):
        return None
    heard = routers_of(far.trace)
    ttl = min(hop for hop in heard if near.ttl and hop >= near.ttl)
    return ttl, next(iter(heard[ttl]))
