"""What is left of a verdict where hop numbers may mean nothing. Pure, like `verdict`.

A hop is the TTL that a probe was sent with, and only a router's time-exceeded proves that TTLs
are counted here. It counts for every trace, whichever one saw it, and no destination on the
host's own network needs it. Without it:

1. A destination that answers at TTL 1 although a gateway leads to it keeps its state and loses
   its distance. It may be another address of the gateway, a proxy or a user-mode network may
   answer in its name (slirp and passt do), and an RST of theirs may stand for any failure. So
   `closed` has low confidence, and where the plain connect() ends otherwise than the trace the
   verdict is `inconclusive`.
2. An ICMP error that answers TTL 1 is the first hop's only if it says policy and its own TTL is a
   fresh one: a firewall that rejects before its TTL check. Routing errors prove nothing, for
   slirp4netns reports its host's failures as 3/0 and 3/1, with a fresh TTL, in its gateway's name;
   on the wire that is a router without a route. Never seen from a user-mode network is an error
   that says policy, but where the memory of all traces says that tracing is not possible here,
   not even that is believed.
3. Where nothing answers, the plain connect() is all that is left, unless a control is answered from
   farther away than TTL 1.
"""

from __future__ import annotations

from dataclasses import replace

from exporter.diagnosis.case import Case
from exporter.diagnosis.icmp import meaning_of
from exporter.diagnosis.placing import is_spared, reply_distance
from exporter.diagnosis.words import application_text, destination_of, was_refused
from exporter.model import (
    BLOCKED_STATES,
    REACHED_STATES,
    Answer,
    Confidence,
    Handshake,
    ReplyKind,
    State,
    Surroundings,
    Trace,
    Verdict,
)


def weigh(verdict: Verdict, case: Case) -> Verdict:
    """The verdict, less what rests on hop numbers that may mean nothing."""
    trace, handshake, surroundings = case.trace, case.handshake, case.surroundings
    if hops_count(case):
        return verdict
    if verdict.state in REACHED_STATES:
        placed = is_distance(case)
        return verdict if placed else _reached(verdict, trace, handshake, surroundings)
    if not trace.answers:
        return _unanswered(_without_hops(verdict, case), trace, handshake, surroundings)
    # A reset is judged by distances alone (`reached`).
    if verdict.state in BLOCKED_STATES and verdict.state is not State.RESET:
        return _refused(verdict, trace, handshake, surroundings)
    return verdict


def is_distance(case: Case) -> bool:
    """Whether the TTL at which the destination answers says how far away it is."""
    distance, gateway = case.trace.distance, case.trace.gateway
    suspicious = case.surroundings.ignores_ttls or (gateway and distance == 1)
    return not distance or not suspicious or hops_count(case)


def hops_count(case: Case) -> bool:
    """Whether some router was heard, or none need be."""
    beside = (case.trace, *case.controlled.traces)
    expired = (
        answer.reply.kind is ReplyKind.TIME_EXCEEDED for one in beside for answer in one.answers
    )
    return case.surroundings.routers_answer or case.trace.gateway == "" or any(expired)


def _why(surroundings: Surroundings) -> str:
    """The clause that ends a sentence about what is not known."""
    if surroundings.untraceable:
        return f"tracing is not possible here: {surroundings.untraceable}"
    return "no router has said time-exceeded, so hop numbers may mean nothing here"


# -- 1. the destination answered -------------------------------------------------------


def _reached(
    verdict: Verdict, trace: Trace, handshake: Handshake | None, surroundings: Surroundings
) -> Verdict:
    distance, gateway = trace.distance, trace.gateway
    where, why = destination_of(trace), _why(surroundings)
    fact = (
        f"the destination answers at TTL {distance}, "
        + (f"although the gateway {gateway} leads there, " if gateway else "")
        + "and no router has said time-exceeded: that number is no distance"
    )
    evidence = (*verdict.evidence, fact)
    closed = verdict.state is State.CLOSED
    if handshake and not handshake.success and not (closed and was_refused(handshake)):
        return Verdict(
            state=State.INCONCLUSIVE,
            last_reachable_hop=0,
            reason=f"A traced SYN to {where} is {'refused' if closed else 'accepted'}, perhaps by "
            f"a device that speaks in its name, but {application_text(handshake)}; {why}.",
            confidence=Confidence.LOW,
            evidence=evidence,
        )
    if closed:
        said = f"{where}, or a device that speaks in its name, refuses TCP connections"
        confidence = Confidence.LOW
    else:
        said, confidence = f"{where} accepts TCP connections", Confidence.MEDIUM
    return replace(
        verdict,
        last_reachable_hop=0,
        reason=f"{said}; how far away it is cannot be told, for {why}.",
        confidence=confidence,
        evidence=evidence,
    )


# -- 2. a device said no ---------------------------------------------------------------


def _refused(
    verdict: Verdict, trace: Trace, handshake: Handshake | None, surroundings: Surroundings
) -> Verdict:
    # Without a time-exceeded only an ICMP error makes a block.
    first = min(_errors(trace), key=lambda answer: answer.probe.ttl)
    if first.reply.address == trace.flow.source or (handshake and handshake.success):
        return verdict  # this host's own word; or contradicted, which `verdict` says
    first_spared = any(is_spared(hop) for hop in trace.hops[:1])
    claims_first_hop = verdict.blocked_at_hop == 1 or first.probe.ttl == 1 or first_spared
    if not (claims_first_hop or surroundings.ignores_ttls):
        return verdict  # it left TTL 1 alone, so it counts
    _, icmp = meaning_of(first.reply)
    if not surroundings.untraceable and _is_first_hop_s_policy(verdict, first):
        fact = "no router has said time-exceeded; the answer's own TTL is that of a neighbour"
        return replace(
            verdict,
            confidence=Confidence.MEDIUM,
            evidence=(*verdict.evidence, fact),
        )
    return Verdict(
        state=State.INCONCLUSIVE,
        last_reachable_hop=0,
        reason=f"{first.reply.address} answers SYNs to {destination_of(trace)} with {icmp}, and "
        f"{application_text(handshake)}. Where the traffic stops is not known, for "
        f"{_why(surroundings)}.",
        confidence=Confidence.LOW,
        evidence=(*verdict.evidence, "a network that rewrites TTLs answers alike at every TTL"),
    )


def _errors(trace: Trace) -> list[Answer]:
    return [answer for answer in trace.answers if answer.reply.kind is ReplyKind.UNREACHABLE]


def _is_first_hop_s_policy(verdict: Verdict, first: Answer) -> bool:
    return verdict.state is State.REJECTED and reply_distance(first.reply.ttl) == 1


# -- 3. nobody answered ----------------------------------------------------------------


def _without_hops(verdict: Verdict, case: Case) -> Verdict:
    """No block is placed between here and a control that is answered at TTL 1 through a gateway."""
    gateway, suspects = case.trace.gateway, verdict.suspect_hops
    if not suspects or not (case.surroundings.untraceable or (gateway and suspects[1] == 1)):
        return verdict
    return Verdict(
        state=State.INCONCLUSIVE,
        last_reachable_hop=0,
        reason=f"No SYN to {destination_of(case.trace)} is answered, while other traffic to the "
        f"same destination is; where it stops is not known, for {_why(case.surroundings)}.",
        confidence=Confidence.LOW,
        evidence=verdict.evidence,
    )


def _unanswered(
    verdict: Verdict, trace: Trace, handshake: Handshake | None, surroundings: Surroundings
) -> Verdict:
    where, succeeded = destination_of(trace), bool(handshake and handshake.success)
    if not (surroundings.untraceable or succeeded):
        return verdict
    if succeeded and surroundings.untraceable:
        return replace(
            verdict,
            state=State.OPEN,
            reason=f"{where} accepts TCP connections, as a plain connect() shows; "
            f"{_why(surroundings)}.",
            confidence=Confidence.MEDIUM,
        )
    if succeeded:
        return replace(
            verdict,
            reason=f"A plain connection to {where} succeeds, but no traced SYN is answered, not "
            "even by the first hop: this network delivers neither time-exceeded messages nor "
            "answers to SYNs with a short TTL, or treats them as an attack.",
        )
    return replace(
        verdict,
        reason=f"No SYN to {where} is answered, and {application_text(handshake)}. Where the "
        f"traffic stops is not known, for {_why(surroundings)}.",
    )
