"""A device said by an ICMP error that the traffic goes no further."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

from exporter.diagnosis.case import Case
from exporter.diagnosis.doubt import hops_count
from exporter.diagnosis.failed import failed
from exporter.diagnosis.icmp import meaning_of, protocol_of
from exporter.diagnosis.placing import Device, is_spared, locate
from exporter.diagnosis.silk import (
    is_security_group,
    security_group_facts,
    security_group_sentence,
)
from exporter.diagnosis.witnesses import was_reached
from exporter.diagnosis.words import WHERE, destination_of, numbers_of, range_text
from exporter.model import (
    BLOCKED_STATES,
    Answer,
    Confidence,
    Failure,
    FailureReason,
    Location,
    Reply,
    ReplyKind,
    State,
    Trace,
    Verdict,
    Zone,
)


def refused(case: Case, answer: Answer) -> Verdict:
    """The verdict on a trace that this ICMP error answers, and nobody over TCP."""
    trace, source = case.trace, case.source
    reply = answer.reply
    state, icmp = meaning_of(reply)
    if reply.address == trace.flow.source and state is State.REJECTED:
        refusal = f"this host's own firewall or policy refuses to send ({icmp})"
        return failed(Failure(FailureReason.PERMISSION, refusal), trace)
    if reply.address == trace.flow.source:
        return own_neighbour(trace, icmp, f"{icmp} from this host's own address")
    device = locate(trace, answer, case.others)
    location = _location_of_address(reply.address, device, case)
    if state is State.INCONCLUSIVE:
        return Verdict(
            state=state,
            last_reachable_hop=device.hop or trace.last_answering_ttl,
            reason=f"{reply.address} answers with {icmp}, which says nothing about a block.",
            confidence=Confidence.LOW,
        )
    fact = f"{icmp} from {reply.address}, first for the probe {numbers_of([answer])}"
    if device.inferred:
        fact += f"; its reply's own TTL {reply.ttl} places it at hop {device.hop}"
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
        blocked_at_hop=device.ends_at,
        suspect_hops=device.suspects,
        blocked_by=reply.address,
        location=location,
        evidence=(fact, *facts, *_canary_facts(case, reply)),
    )


def refused_beside(case: Case) -> Verdict | None:
    """The verdict where this trace met silence, and an ICMP error another flow to the endpoint.

    Devices limit their ICMP errors, and a trace asks for many. None where a flow passes, for then
    they may have taken different ways, and where hop numbers may mean nothing.
    """
    flows = case.controlled.flows
    if any(was_reached(flow) for flow in flows) or not hops_count(case):
        return None
    for flow in flows:
        errors = [one for one in flow.answers if one.reply.kind is ReplyKind.UNREACHABLE]
        verdict = refused(case, errors[0]) if errors else None
        if verdict and verdict.state in BLOCKED_STATES:
            fact = f"it answered the flow from source port {flow.flow.source_port}, not the trace"
            evidence = (*verdict.evidence, fact)
            return replace(verdict, confidence=Confidence.MEDIUM, evidence=evidence)
    return None


def _canary_facts(case: Case, reply: Reply) -> Iterator[str]:
    """Whether the same device says the same of an address that nobody has."""
    canary = case.controlled.canary
    said = [answer.reply for answer in canary.answers] if canary else []
    if canary and any((one.address, one.icmp) == (reply.address, reply.icmp) for one in said):
        yield f"{destination_of(canary)}, which nobody has, is refused by it, too"


def _who(trace: Trace, device: Device, reply: Reply) -> str:
    """The sender of an ICMP error and its place."""
    who = "A device"
    if reply.address == trace.flow.destination:
        who = "The destination itself"
    elif device.hop == 1 and ip_address(reply.address).is_link_local:
        who = "This host's link-local gateway"
    return f"{who}, {reply.address} at {range_text(device.suspects)}"


def _confidence_in_refusal(device: Device, reply: Reply) -> Confidence:
    # With its sequence number rewritten, a quote proves less: somebody off the path could guess
    # the rest.
    first, last = device.suspects
    if first < last or device.inferred or "sequence number" in reply.rewritten:
        return Confidence.MEDIUM
    return Confidence.HIGH


def _location_of_address(address: str, device: Device, case: Case) -> Location:
    """The side of the edge from which somebody rejected."""
    trace, zones = case.trace, case.zones
    if address == trace.flow.destination and device.hop != device.first_seen:
        return Location.UNKNOWN  # somebody nearer may speak in the destination's name
    first, last = device.suspects
    # From a spared hop on it may stand at any of them; else the nearest counts (`zones`).
    spared = any(is_spared(hop) for hop in trace.hops[first - 1 : first])
    sides = {zones.zone(address, hop) for hop in (first, last if spared else first)}
    if sides == {Zone.PLATFORM}:
        return Location.PLATFORM
    if sides == {Zone.EXTERNAL} and zones.last_platform_hop(trace) <= first:
        return Location.EXTERNAL
    return Location.UNKNOWN


def own_neighbour(trace: Trace, said: str, fact: str) -> Verdict:
    """The verdict where this host itself says that its next hop is not there, known by `fact`."""
    neighbours = protocol_of(trace.flow.destination).neighbours
    return Verdict(
        state=State.UNREACHABLE,
        last_reachable_hop=0,
        reason=f"This host itself reports {said} for {destination_of(trace)}: its next hop, or a "
        f"destination on its own network, does not answer to {neighbours}.",
        confidence=Confidence.MEDIUM,
        blocked_at_hop=1,
        suspect_hops=(1, 1),
        location=Location.UNKNOWN,
        evidence=(f"{fact} {trace.flow.source}",),
    )
