"""What a trace means. Pure functions; no clock, no socket.

`judge` tries, in this order:

1. the host could not do its part                    -> `unresolved`, `error`
2. the destination itself answered over TCP          -> `open`, `closed`
3. a device sent an ICMP error                       -> `rejected`, `unreachable`
4. routers answered up to the last TTL               -> `inconclusive`
5. nothing at all answered                           -> `inconclusive`
6. a hop answered, then confirmed silence            -> `filtered`

then takes away what rests on hop numbers that may mean nothing (`doubt`), and then holds the
result against the application's own view: a plain connect() that succeeded in the same cycle
contradicts every block, and a contradiction is `inconclusive`.

The states `reset`, `loop` and `intercepted` need controls beside the trace; they are not judged
yet. What would become of them is `closed` or `open` with less confidence, or `inconclusive`.

`external` is said only where the first suspect is a hop that answered from outside, or an
outside address rejected, and no hop behind it is inside again.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from exporter.diagnosis.doubt import weigh
from exporter.diagnosis.icmp import meaning_of, protocol_of
from exporter.diagnosis.placing import (
    TOLERATED_LOSS,
    Device,
    locate,
    loss_of,
    next_seen,
    reply_distance,
)
from exporter.diagnosis.silk import (
    is_only_cell,
    is_security_group,
    security_group_facts,
    security_group_sentence,
)
from exporter.diagnosis.words import (
    WHERE,
    answer_text,
    destination_of,
    facts_of,
    handshake_facts,
    range_text,
    unread,
    was_refused,
)
from exporter.diagnosis.zones import ZoneMap
from exporter.model import (
    BLOCKED_STATES,
    TCP_KINDS,
    Answer,
    Confidence,
    Failure,
    FailureReason,
    Handshake,
    Location,
    Reply,
    ReplyKind,
    Source,
    State,
    StopReason,
    Surroundings,
    Trace,
    Verdict,
    Zone,
)

SOMEWHERE = Source()
NOTHING_LEARNT = Surroundings()
#: The probability from which on it may be that loss alone took every confirmation.
PLAUSIBLE = 0.01


def judge(
    trace: Trace | None,
    *,
    zones: ZoneMap,
    failure: Failure | None = None,
    handshake: Handshake | None = None,
    last_good: Trace | None = None,
    source: Source = SOMEWHERE,
    surroundings: Surroundings = NOTHING_LEARNT,
) -> Verdict:
    """The verdict on one trace.

    `failure` is why the host could not do its part; `last_good` the latest trace of the same
    target that reached its destination, which shows hops that this one may miss; `source` is
    where the probes come from; `surroundings` what the traces of all targets have shown of the
    network here.
    """
    failure = failure or (trace.failure if trace else None)
    if trace is None or failure:
        return _failed(failure or Failure(FailureReason.INTERNAL, "there is no trace"), trace)
    verdict = _judge_trace(trace, zones, last_good, source)
    verdict = weigh(verdict, trace, handshake, surroundings)
    evidence = (*facts_of(trace), *verdict.evidence, *handshake_facts(handshake, trace))
    return _hold_against(handshake, replace(verdict, evidence=evidence))


def _judge_trace(trace: Trace, zones: ZoneMap, last_good: Trace | None, source: Source) -> Verdict:
    answers = trace.answers
    tcp = [answer for answer in answers if answer.reply.kind in TCP_KINDS]
    errors = [answer for answer in answers if answer.reply.kind is ReplyKind.UNREACHABLE]
    if tcp:
        return _reached(trace, tcp)
    if trace.stop_reason is StopReason.DEADLINE:
        return _failed(Failure(FailureReason.TIMEOUT, "the trace ran out of its time"), trace)
    if errors:
        return _refused(trace, min(errors, key=lambda answer: answer.probe.ttl), zones, source)
    if trace.stop_reason is StopReason.HOP_LIMIT:
        return _endless(trace)
    if not trace.last_answering_ttl:
        return _nothing_answered(trace)
    return _silent(trace, zones, last_good, source)


# -- 1. the host could not do its part -------------------------------------------------


def _failed(failure: Failure, trace: Trace | None) -> Verdict:
    unresolved = failure.reason is FailureReason.RESOLVE
    return Verdict(
        state=State.UNRESOLVED if unresolved else State.ERROR,
        last_reachable_hop=0,
        reason=f"Not measured: {failure.message}.",
        confidence=Confidence.LOW,
        evidence=facts_of(trace) if trace else (),
    )


# -- 2. the destination answered -------------------------------------------------------


def _reached(trace: Trace, answers: list[Answer]) -> Verdict:
    kinds = {answer.reply.kind for answer in answers}
    is_open = bool(kinds - {ReplyKind.RST})
    distance = trace.distance
    nearest = min(answers, key=lambda answer: answer.probe.ttl).reply
    sender_at = reply_distance(nearest.ttl)
    nearer = distance is not None and sender_at is not None and sender_at < distance
    where = f"{destination_of(trace)}" + (f" at hop {distance}" if distance else "")
    if is_open:
        state, said = State.OPEN, f"{where} accepts TCP connections"
    else:
        state, said = State.CLOSED, f"{where} answers, but nothing listens on the port"
    seen = "not seen by this engine" if nearest.ttl is None else nearest.ttl
    evidence = [f"{answer_text(nearest.kind)} in the destination's name, reply TTL {seen}"]
    confidence = Confidence.HIGH
    if nearer:
        confidence = Confidence.LOW if state is State.CLOSED else Confidence.MEDIUM
        said += f", unless a device at hop {sender_at} answers in its name"
        evidence.append(
            f"the reply's own TTL {nearest.ttl} fits a sender at hop {sender_at}, "
            f"nearer than the hop {distance} at which the destination began to answer"
        )
    elif sender_at is None or distance is None or {ReplyKind.SYN_ACK, ReplyKind.RST} <= kinds:
        confidence = Confidence.MEDIUM
    return Verdict(
        state=state,
        last_reachable_hop=distance or trace.last_answering_ttl,
        reason=f"{said}.",
        confidence=confidence,
        evidence=tuple(evidence),
    )


# -- 3. a device said no ---------------------------------------------------------------


def _refused(trace: Trace, answer: Answer, zones: ZoneMap, source: Source) -> Verdict:
    reply = answer.reply
    state, icmp = meaning_of(reply)
    if reply.address == trace.flow.source and state is State.REJECTED:
        refusal = f"this host's own firewall or policy refuses to send ({icmp})"
        return _failed(Failure(FailureReason.PERMISSION, refusal), trace)
    if reply.address == trace.flow.source:
        return _own_neighbour(trace, icmp)
    device = locate(trace, answer)
    location = _location_of_address(reply.address, device, trace, zones)
    if state is State.INCONCLUSIVE:
        return Verdict(
            state=state,
            last_reachable_hop=device.hop or trace.last_answering_ttl,
            reason=f"{reply.address} answers with {icmp}, which says nothing about a block.",
            confidence=Confidence.LOW,
        )
    fact = f"{icmp} from {reply.address}, first for the probe with TTL {answer.probe.ttl}"
    # Only where it is placed inside: sentence and gauge must not disagree.
    if location is Location.PLATFORM and is_security_group(trace, reply, source):
        reason, facts = security_group_sentence(trace, source), security_group_facts(source)
    else:
        verb = "rejects the traffic" if state is State.REJECTED else "cannot deliver the traffic"
        reason, facts = (
            (
                f"{_who(trace, device, reply)}, {verb} to {destination_of(trace)} with {icmp}: "
                f"{WHERE[location]}."
            ),
            (),
        )
    return Verdict(
        state=state,
        last_reachable_hop=device.hop or device.suspects[0],
        reason=reason,
        confidence=_confidence_in_refusal(device, reply),
        blocked_at_hop=device.hop or device.first_seen,
        suspect_hops=device.suspects,
        blocked_by=reply.address,
        location=location,
        evidence=(fact, *facts),
    )


def _who(trace: Trace, device: Device, reply: Reply) -> str:
    """The sender of an ICMP error and its place."""
    who = "A device"
    if reply.address == trace.flow.destination:
        who = "The destination itself"
    elif device.hop == 1 and ip_address(reply.address).is_link_local:
        who = "This host's link-local gateway"
    place = f"hop {device.hop}" if device.hop else range_text(device.suspects)
    return f"{who}, {reply.address} at {place}"


def _confidence_in_refusal(device: Device, reply: Reply) -> Confidence:
    # With its sequence number rewritten, a quote proves less: somebody off the path could guess
    # the rest.
    if device.hop is None or "sequence number" in reply.rewritten:
        return Confidence.MEDIUM
    return Confidence.HIGH


def _location_of_address(address: str, device: Device, trace: Trace, zones: ZoneMap) -> Location:
    """The side of the edge from which somebody rejected."""
    if address == trace.flow.destination and device.hop != device.first_seen:
        return Location.UNKNOWN  # somebody nearer may speak in the destination's name
    zone = zones.zone(address, device.suspects[0])
    if zone is Zone.PLATFORM:
        return Location.PLATFORM
    if zone is Zone.EXTERNAL and _last_platform_hop(trace, zones) <= device.suspects[0]:
        return Location.EXTERNAL
    return Location.UNKNOWN


def _own_neighbour(trace: Trace, icmp: str) -> Verdict:
    neighbours = protocol_of(trace.flow.destination).neighbours
    return Verdict(
        state=State.UNREACHABLE,
        last_reachable_hop=0,
        reason=f"This host itself reports {icmp} for {destination_of(trace)}: its next hop, or a "
        f"destination on its own network, does not answer to {neighbours}.",
        confidence=Confidence.MEDIUM,
        blocked_at_hop=1,
        suspect_hops=(1, 1),
        location=Location.UNKNOWN,
        evidence=(f"{icmp} from this host's own address {trace.flow.source}",),
    )


# -- 4. to 6. nobody said no -----------------------------------------------------------


def _endless(trace: Trace) -> Verdict:
    last = trace.hops[-1]
    seen_before = {a for hop in trace.hops[:-1] for a in hop.addresses}
    again = "the same routers answer again" if seen_before & set(last.addresses) else ""
    return Verdict(
        state=State.INCONCLUSIVE,
        last_reachable_hop=trace.last_answering_ttl,
        reason=f"Routers answer up to hop {last.ttl} and {destination_of(trace)} never does"
        + (f"; {again}, which looks like a routing loop." if again else "; the path is too long."),
        confidence=Confidence.LOW,
    )


def _nothing_answered(trace: Trace) -> Verdict:
    return Verdict(
        state=State.INCONCLUSIVE,
        last_reachable_hop=0,
        reason=f"Nothing on the way to {destination_of(trace)} answers, not even the first hop: "
        "either all of it is dropped near here, or this network never delivers ICMP "
        f"time-exceeded messages.{unread(trace)}",
        confidence=Confidence.LOW,
    )


def _silent(trace: Trace, zones: ZoneMap, last_good: Trace | None, source: Source) -> Verdict:
    last = trace.last_answering_ttl
    # Where errors were not seen, the next hop may have answered, and so may the one that drops.
    seen = None if trace.unseen_errors else next_seen(trace, last_good)
    suspects = (last, seen or last + 1)
    location = _location_of_silence(trace, zones, last_good, seen)
    address = trace.hops[last - 1].addresses[0]
    evidence = []
    if seen and last_good:
        beyond = last_good.hops[seen - 1].addresses[0]
        evidence.append(f"the last good trace saw {beyond} answer at hop {seen}")
    else:
        evidence.append(
            f"nothing shows what stands behind hop {last}; routers that never answer "
            "may stand between it and the device that drops"
        )
    loss = loss_of(trace.hops[:last])
    confirmed = trace.confirmation.sent if trace.confirmation else 0
    lossy = loss > TOLERATED_LOSS
    if loss**confirmed > PLAUSIBLE or (lossy and is_only_cell(trace, source)):
        return _lost(trace, loss)
    if lossy:
        evidence.append(
            "the hops that answer left many probes without an answer: loss, or rate limits"
        )
    device = f"at {range_text(suspects)}" if seen else f"at hop {last} or behind it"
    return Verdict(
        state=State.FILTERED,
        last_reachable_hop=last,
        reason=f"Traffic to {destination_of(trace)} is answered up to hop {last} ({address}), then "
        f"by nobody: a device {device} drops it, {WHERE[location]}.{unread(trace)}",
        confidence=_confidence_in_silence(lossy=lossy or trace.unseen_errors > 0, seen=seen),
        blocked_at_hop=last + 1,
        suspect_hops=suspects,
        location=location,
        evidence=tuple(evidence),
    )


def _lost(trace: Trace, loss: float) -> Verdict:
    return Verdict(
        state=State.INCONCLUSIVE,
        last_reachable_hop=trace.last_answering_ttl,
        reason=f"{destination_of(trace)} does not answer, but the way there loses {loss:.0%} of "
        "the probes, so all that were meant to arrive may have been lost.",
        confidence=Confidence.LOW,
    )


def _confidence_in_silence(*, lossy: bool, seen: int | None) -> Confidence:
    if seen and not lossy:
        return Confidence.HIGH
    return Confidence.MEDIUM if seen or not lossy else Confidence.LOW


def _location_of_silence(
    trace: Trace, zones: ZoneMap, last_good: Trace | None, seen: int | None
) -> Location:
    last = trace.last_answering_ttl
    near = {zones.zone(address, last) for address in trace.hops[last - 1].addresses}
    beyond = last_good.hops[seen - 1].addresses if last_good and seen else ()
    far = {zones.zone(address, seen or last) for address in beyond}
    inside_again = bool(last_good and seen and _last_platform_hop(last_good, zones) > last)
    if near == {Zone.EXTERNAL} and not inside_again:
        return Location.EXTERNAL
    if near == {Zone.PLATFORM} and far == {Zone.PLATFORM}:
        return Location.PLATFORM
    if near == {Zone.PLATFORM} and far == {Zone.EXTERNAL}:
        return Location.BOUNDARY
    return Location.UNKNOWN


def _last_platform_hop(trace: Trace, zones: ZoneMap) -> int:
    return max(
        (
            hop.ttl
            for hop in trace.hops
            for answer in hop.answers
            if answer.reply.kind is ReplyKind.TIME_EXCEEDED
            and zones.zone(answer.reply.address, hop.ttl) is Zone.PLATFORM
        ),
        default=0,
    )


# -- the application's own view --------------------------------------------------------


def _hold_against(handshake: Handshake | None, verdict: Verdict) -> Verdict:
    if handshake is None:
        return verdict
    if handshake.success and (verdict.state in BLOCKED_STATES or verdict.state is State.CLOSED):
        return _contradicted(
            verdict,
            f"A plain connection succeeded while the traced one looked {verdict.state}: perhaps "
            "only one of several paths is blocked, or the block began or ended just now.",
        )
    if was_refused(handshake) and verdict.state is State.FILTERED:
        return _contradicted(
            verdict,
            "A plain connection was refused while the traced ones met silence: somebody answers, "
            "so not all is dropped; rate limits may hide who, or the block began or ended just "
            "now.",
        )
    if not handshake.success and verdict.state is State.OPEN:
        return replace(verdict, confidence=Confidence.MEDIUM)
    return verdict


def _contradicted(verdict: Verdict, reason: str) -> Verdict:
    return Verdict(
        state=State.INCONCLUSIVE,
        last_reachable_hop=verdict.last_reachable_hop,
        reason=reason,
        confidence=Confidence.LOW,
        evidence=(*verdict.evidence, f"the trace alone would say: {verdict.reason}"),
    )
