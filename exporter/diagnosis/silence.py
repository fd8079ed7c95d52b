"""Nobody said no, and the destination did not answer."""

from __future__ import annotations

from exporter.diagnosis.case import Case
from exporter.diagnosis.placing import TOLERATED_LOSS, loss_of, next_seen
from exporter.diagnosis.silk import is_only_cell
from exporter.diagnosis.words import WHERE, destination_of, range_text, unread
from exporter.model import Confidence, Location, State, Trace, Verdict, Zone

#: The probability from which on it may be that loss alone took every confirmation.
PLAUSIBLE = 0.01


def endless(trace: Trace) -> Verdict:
    """Routers answered up to the last TTL."""
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


def nothing_answered(trace: Trace) -> Verdict:
    """Not one probe was answered."""
    return Verdict(
        state=State.INCONCLUSIVE,
        last_reachable_hop=0,
        reason=f"Nothing on the way to {destination_of(trace)} answers, not even the first hop: "
        "either all of it is dropped near here, or this network never delivers ICMP "
        f"time-exceeded messages.{unread(trace)}",
        confidence=Confidence.LOW,
    )


def silent(case: Case) -> Verdict:
    """A hop answered, then came silence."""
    trace, last_good, source = case.trace, case.last_good, case.source
    last = trace.last_answering_ttl
    # Where errors were not seen, the next hop may have answered, and so may the one that drops.
    seen = None if trace.unseen_errors else next_seen(trace, last_good)
    suspects = (last, seen or last + 1)
    location = _location_of_silence(case, seen)
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


def _location_of_silence(case: Case, seen: int | None) -> Location:
    trace, zones, last_good = case.trace, case.zones, case.last_good
    last = trace.last_answering_ttl
    near = {zones.zone(address, last) for address in trace.hops[last - 1].addresses}
    beyond = last_good.hops[seen - 1].addresses if last_good and seen else ()
    far = {zones.zone(address, seen or last) for address in beyond}
    inside_again = bool(last_good and seen and zones.last_platform_hop(last_good) > last)
    if near == {Zone.EXTERNAL} and not inside_again:
        return Location.EXTERNAL
    if near == {Zone.PLATFORM} and far == {Zone.PLATFORM}:
        return Location.PLATFORM
    if near == {Zone.PLATFORM} and far == {Zone.EXTERNAL}:
        return Location.BOUNDARY
    return Location.UNKNOWN
