"""Who it is that answered over TCP in the name of the destination.

His answers are held against those of others who speak in that name (`distance`): controls of this
cycle, else the last good trace. The first row that holds decides:

    what is known                                             SYN-ACK          RST
 1. hop numbers may mean nothing here                         `open`           `closed`
 2. he is nearer than another; or the two contradict each
    other, and a router is heard from where he is             `intercepted`    `reset`
 3. they contradict each other otherwise, and no canary is
    answered from the same TTL on with the same reply TTL     `inconclusive`   `inconclusive`
 4. who answers for a canary stands where he does             `intercepted`    `reset`
    and a control says that the destination does, too         `intercepted`    `inconclusive`
 5. the hop before the first that he answers was not asked    `open`           `inconclusive`
 6. a control says that the destination stands where he does  `open`           `closed`
 7. the TTL of his answers is not seen                        `open`           `inconclusive`
 8. they arrive from as far as the messages of the router
    before him, and from as far as all routers stand          `open`           `reset`
 9. they arrive from nearer than he begins to answer, and no
    control says that the destination answers from there on   `open`           `inconclusive`
10. nothing speaks against him                                `open`           `closed`

Confidence is high only by rows 2 and 6, and where an open target answers as it did in the last good
trace, no canary is answered, and no destinations of other networks answer from the same place. A
canary's silence alone says nothing of a proxy for one destination, nor does an RST's own TTL of a
firewall that resets before its TTL check.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import ip_network

from exporter.diagnosis.case import Case
from exporter.diagnosis.distance import (
    Relation,
    Sender,
    Voice,
    diverge,
    is_right_before,
    may_be_router_before,
    place_of,
    relation,
    remembered,
    routers_of,
    senders_of,
    spot,
    stands_behind,
    surely_nearer,
    voices,
)
from exporter.diagnosis.doubt import is_distance
from exporter.diagnosis.forged import Forgery, answer_fact, forged, voice_fact
from exporter.diagnosis.words import answer_text, destination_of, listed
from exporter.model import Confidence, Family, State, Trace, Verdict, joined

#: So many destinations of other networks that answer from one place raise doubt.
MANY = 2
#: So many others who answer in the destination's name are quoted.
MOST_VOICES = 8
#: How long the prefix of a network is, for that.
PREFIXES = {Family.IPV4: 16, Family.IPV6: 32}


@dataclass(frozen=True, slots=True)
class _Held:
    """Who answers, seen from the place of each of the others."""

    case: Case
    sender: Sender
    relations: Sequence[tuple[Voice, Relation]]

    def seen(self, wanted: Relation, *, credible: bool = False) -> list[Voice]:
        """The others from whose place he is seen so."""
        return [v for v, found in self.relations if found is wanted and v.credible >= credible]

    @property
    def is_confirmed(self) -> bool:
        """Whether a control says that the destination stands where he does."""
        return bool(self.seen(Relation.SAME, credible=True))


def reached(case: Case) -> Verdict:
    """The verdict on a trace with answers over TCP."""
    senders = senders_of(case.trace)
    verdict = _mixed(case, *senders) if len(senders) > 1 else _verdict(_hold(case, senders[0]))
    facts = (f"{answer_fact(sender)}, in the destination's name" for sender in senders)
    return replace(verdict, evidence=(*facts, *verdict.evidence))


def _mixed(case: Case, accepting: Sender, resetting: Sender) -> Verdict:
    """Some SYNs are accepted, some are reset."""
    if relation(resetting, accepting) is Relation.NEARER:
        sender, other, does = resetting, accepting, "accepts"
    else:
        sender, other, does = accepting, resetting, "resets"
    says = f"it {does} other SYNs {place_of(other)}"
    rest = Voice("the rest of this trace", says, other, credible=other.accepts)
    verdict = _verdict(_hold(case, sender, rest))
    if verdict.confidence is Confidence.HIGH:
        verdict = replace(verdict, confidence=Confidence.MEDIUM)
    return verdict


def _hold(case: Case, sender: Sender, *more: Voice) -> _Held:
    relations = [(v, relation(sender, v.sender)) for v in (*more, *voices(case))]
    past = remembered(case)
    # What this cycle's controls show counts for more: the destination may have moved.
    confirmed = any(v.credible and found is Relation.SAME for v, found in relations)
    if past and not confirmed:
        relations.append((past, relation(sender, past.sender)))
    return _Held(case, sender, relations)


def _verdict(held: _Held) -> Verdict:
    verdict = _judge(held)
    return replace(verdict, evidence=(*verdict.evidence, *_facts(held)))


def _judge(held: _Held) -> Verdict:
    if not is_distance(held.case):
        return _answered(held)
    opposed = held.seen(Relation.CONTRADICTORY, credible=True)
    against = [*held.seen(Relation.NEARER), *_proven(held.sender, opposed)]
    canary = _canary_here(held)
    if against:
        return forged(held.case, _caught(held, against, canary))
    if opposed and not (canary and canary.ttl and canary.ttl == held.sender.ttl):
        return _unclear(held, f"{opposed[0].says}, but the TTLs of the answers contradict that")
    if canary:
        return _as_for_anybody(held, canary, opposed)
    if not held.sender.is_bracketed:
        return _unbracketed(held)
    return _answered(held) if held.sender.accepts or held.is_confirmed else _lone_reset(held)


def _proven(sender: Sender, opposed: Sequence[Voice]) -> list[Voice]:
    """Those that stand behind him by their TTLs, if he is heard from where a router is."""
    behind = [voice for voice in opposed if stands_behind(voice.sender, sender)]
    return behind if spot(sender, [voice.sender for voice in behind]).proven else []


def _as_for_anybody(held: _Held, canary: Sender, opposed: list[Voice]) -> Verdict:
    """A canary is answered from the same place; the opposed show a router where he answers."""
    says = _says_canary(canary)
    # Against those, somebody who was not met at his TTL says nothing by his reply TTL alone.
    confirming = [
        voice
        for voice in held.seen(Relation.SAME, credible=True)
        if not opposed or voice.sender.ttl == held.sender.ttl
    ]
    if held.sender.accepts or not confirming:
        proof = f"{opposed[0].says}, and {says}" if opposed else says
        return forged(held.case, Forgery(held.sender, opposed, proof))
    return _unclear(held, f"{says}, and so is {listed([voice.name for voice in confirming])}")


def _lone_reset(held: _Held) -> Verdict:
    """An RST that no control explains."""
    case, sender = held.case, held.sender
    on_link = case.trace.gateway == "" and sender.ttl == 1
    if not (sender.backs or on_link):
        return _unclear(
            held,
            "this engine does not see with which TTL the RSTs arrive, and those of a firewall on "
            "the way would look the same",
        )
    if is_right_before(sender):
        proof = "the RSTs arrive from as far as that router's own messages, not from behind it"
        return forged(case, Forgery(sender, (), proof))
    # Behind the router before him, and at the TTL of the destination, only that stands.
    at_the_end = held.seen(Relation.ALIKE, credible=True) and not may_be_router_before(sender)
    if _is_short(sender) and not at_the_end:
        return _unclear(
            held,
            f"they arrive as if from hop {max(sender.backs)}, nearer than where the answers begin",
        )
    return _answered(held)


def _caught(held: _Held, others: list[Voice], canary: Sender | None) -> Forgery:
    """Somebody who is nearer than these."""
    sender = held.sender
    current = [voice for voice in others if voice.current]
    agreeing = [voice for voice in current if voice.credible]
    proved = any(surely_nearer(sender, voice.sender) for voice in current)
    says = [one.says for one in others if one.credible and one.sender.ttl] or [others[0].says]
    proof = f"{says[0]}, and {_says_canary(canary)}" if canary else says[0]
    sure = (proved or len(agreeing) > 1) and not held.is_confirmed
    return Forgery(sender, others, proof, sure=sure)


# -- the destination answers, or may ---------------------------------------------------


def _answered(held: _Held) -> Verdict:
    trace, sender = held.case.trace, held.sender
    where = destination_of(trace) + (f" at hop {sender.ttl}" if sender.ttl else "")
    state, said = State.CLOSED, f"{where} answers, but nothing listens on the port"
    if sender.accepts:
        state, said = State.OPEN, f"{where} accepts TCP connections"
        if not held.is_confirmed and _is_short(sender):
            said += f", unless a device at hop {max(sender.backs)} answers in its name"
    return Verdict(
        state=state,
        last_reachable_hop=sender.ttl or trace.last_answering_ttl,
        reason=f"{said}.",
        confidence=_confidence(held),
    )


def _unbracketed(held: _Held) -> Verdict:
    """He may answer nearer as well, so neither his distance nor a firewall's can be told."""
    trace, sender = held.case.trace, held.sender
    if not sender.accepts:
        return _unclear(held, "the hop before it was not asked")
    return Verdict(
        state=State.OPEN,
        last_reachable_hop=0,
        reason=f"{destination_of(trace)} accepts TCP connections; how far away it is cannot be "
        f"told, for it was not asked nearer than at hop {sender.ttl}.",
        confidence=Confidence.LOW,
    )


def _confidence(held: _Held) -> Confidence:
    sender = held.sender
    if not is_distance(held.case):
        return Confidence.MEDIUM if sender.accepts else Confidence.LOW
    if held.is_confirmed:
        # A way back that is shorter than the way there may hide who stands before the other.
        alike = any(v.sender.ttl == sender.ttl for v in held.seen(Relation.SAME, credible=True))
        doubted = may_be_router_before(sender) or _same_elsewhere(held)
        return Confidence.HIGH if alike and not doubted else Confidence.MEDIUM
    if sender.accepts and is_right_before(sender):
        return Confidence.LOW
    as_ever = any(not voice.current for voice in held.seen(Relation.SAME))
    if _is_short(sender) or _same_elsewhere(held) or _canary_answer(held.case):
        return Confidence.MEDIUM
    return Confidence.HIGH if sender.accepts and as_ever else Confidence.MEDIUM


def _is_short(sender: Sender) -> bool:
    """Whether his answers arrive from nearer than he can stand, if they come the way SYNs go."""
    behind = max(routers_of(sender.trace), default=0)
    return bool(sender.backs) and max(sender.backs) < (sender.ttl or behind + 1)


def _unclear(held: _Held, why: str) -> Verdict:
    trace, sender = held.case.trace, held.sender
    from_where = f" from hop {sender.ttl} on" if sender.ttl else ""
    return Verdict(
        state=State.INCONCLUSIVE,
        last_reachable_hop=max(routers_of(trace), default=0),
        reason=f"SYNs to {destination_of(trace)} are answered with "
        f"{answer_text(sender.first.reply.kind)}{from_where}, but whether by the destination "
        f"cannot be told: {why}.",
        confidence=Confidence.LOW,
    )


# -- who answers for anybody -----------------------------------------------------------


def _canary_answer(case: Case) -> Sender | None:
    canary = case.controlled.canary
    return next(iter(senders_of(canary)), None) if canary else None


def _canary_here(held: _Held) -> Sender | None:
    """Who answers for the canary, if he stands where the one who answers here does."""
    canary = _canary_answer(held.case)
    if canary is None or diverge(held.case.trace, canary.trace):
        return None
    return canary if relation(held.sender, canary) in {Relation.SAME, Relation.ALIKE} else None


def _says_canary(canary: Sender) -> str:
    how = "accepted" if canary.accepts else "reset"
    return f"{destination_of(canary.trace)}, which nobody has, is {how} from the same place"


def _same_elsewhere(held: _Held) -> list[Trace]:
    """Open traces to other networks, one each, that are answered at the same TTL and reply TTL."""
    sender = held.sender
    port = sender.trace.flow.destination_port
    found = {
        _network(one.flow.destination): one
        for one in held.case.controlled.elsewhere
        for other in senders_of(one)[:1]
        if one.flow.destination_port == port
        and (other.accepts, other.ttl) == (sender.accepts, sender.ttl)
        and other.backs & sender.backs
    }
    found.pop(_network(sender.trace.flow.destination), None)
    return list(found.values()) if len(found) >= MANY else []


@lru_cache(maxsize=1024)
def _network(address: str) -> str:
    return str(ip_network(f"{address}/{PREFIXES[Family.of(address)]}", strict=False))


# -- facts -----------------------------------------------------------------------------


def _facts(held: _Held) -> Iterator[str]:
    for voice, found in held.relations[:MOST_VOICES]:
        yield voice_fact(voice, found)
    canary = held.case.controlled.canary
    answer = _canary_answer(held.case)
    if canary and not canary.failure:
        name = joined(canary.flow.destination, canary.flow.destination_port)
        what = answer_fact(answer) if answer else "nobody answers, as it should be"
        yield f"for {name}, an address that nobody has: {what}"
    if same := _same_elsewhere(held):
        named = listed([one.flow.destination for one in same])
        yield (
            f"{named}, in other networks, are answered from the same hop with the same reply TTL: "
            "one device may answer for all of them"
        )
