"""Nobody said no, and the destination did not answer."""

from __future__ import annotations

from exporter.diagnosis.beside import controls_facts, what_is_behind
from exporter.diagnosis.case import Case
from exporter.diagnosis.placing import PLAUSIBLE, TOLERATED_LOSS, guarded_loss, is_spared, loss_of
from exporter.diagnosis.silk import is_only_cell, may_be_cell, perhaps_rejected
from exporter.diagnosis.spent import may_be_spent, perhaps_spent
from exporter.diagnosis.witnesses import Beyond, nearest_beyond, witnesses_of
from exporter.diagnosis.words import WHERE, destination_of, listed, range_text, unread
from exporter.model import Confidence, Location, State, Trace, Verdict, Zone


def endless(trace: Trace) -> Verdict:
    """Routers answered up to the last TTL, and `loops` has found no circle."""
    last = trace.hops[-1]
    seen_before = {a for hop in trace.hops[:-1] for a in hop.addresses}
    again = "the same routers answer again" if seen_before & set(last.addresses) else ""
    return Verdict(
        state=State.INCONCLUSIVE,
        last_reachable_hop=trace.last_answering_ttl,
        reason=f"Routers answer up to hop {last.ttl} and {destination_of(trace)} never does"
        + (f"; {again}, which may be a routing loop." if again else "; the path is too long."),
        confidence=Confidence.LOW,
    )


def silent(case: Case) -> Verdict:
    """A hop answered, then came silence."""
    trace = case.trace
    last = trace.last_answering_ttl
    loss = loss_of(trace.hops[:last])
    confirmed = trace.confirmation.sent if trace.confirmation else 0
    lossy = loss > TOLERATED_LOSS
    if loss**confirmed > PLAUSIBLE or (lossy and is_only_cell(trace, case.source)):
        return _lost(trace, loss)
    if may_be_cell(case):
        return perhaps_rejected(trace)
    if may_be_spent(case):
        return perhaps_spent(trace)
    # Where errors were not seen, the next hop may have answered, and so may the one that drops.
    beyond = None if trace.unseen_errors else nearest_beyond(case)
    suspects = (last, beyond.hop if beyond else max(len(trace.hops), last + 1))
    location = _location(case, beyond)
    evidence = [what_is_behind(last, beyond), *controls_facts(case)]
    if lossy:
        evidence.append(
            "the hops that answer left many probes without an answer: loss, or rate limits"
        )
    # A few probes show no loss; and who was not asked behind the last answer may have answered.
    unsure = (
        guarded_loss(trace.hops[:last]) > TOLERATED_LOSS
        or any(map(is_spared, trace.hops[last:]))
        or trace.unseen_errors > 0
    )
    device = f"at {range_text(suspects)}" if beyond else f"at hop {last} or behind it"
    return Verdict(
        state=State.FILTERED,
        last_reachable_hop=last,
        reason=f"Traffic to {destination_of(trace)} is answered up to hop {last} "
        f"({trace.hops[last - 1].addresses[0]}), then by nobody{_passing(trace, beyond)}: a device "
        f"{device} drops it, {WHERE[location]}.{unread(trace)}",
        confidence=_confidence(beyond, unsure=unsure),
        blocked_at_hop=last + 1,
        suspect_hops=suspects,
        location=location,
        evidence=tuple(evidence),
    )


def _passing(trace: Trace, beyond: Beyond | None) -> str:
    """The controls that went the same way and got through, as a clause."""
    seen_by = beyond.witnesses if beyond else ()
    passing = [one.name for one in seen_by if one.is_control_of(trace)]
    verb = "is" if len(passing) == 1 else "are"
    return f", while {listed(passing)} of it {verb} answered" if passing else ""


def _lost(trace: Trace, loss: float) -> Verdict:
    return Verdict(
        state=State.INCONCLUSIVE,
        last_reachable_hop=trace.last_answering_ttl,
        reason=f"{destination_of(trace)} does not answer, but the way there loses {loss:.0%} of "
        "the probes, so all that were meant to arrive may have been lost.",
        confidence=Confidence.LOW,
    )


def _confidence(beyond: Beyond | None, *, unsure: bool) -> Confidence:
    # Without a control over the same hops it may be the answers that are dropped.
    if beyond and beyond.sure and not unsure and any(one.current for one in beyond.witnesses):
        return Confidence.HIGH
    return Confidence.MEDIUM if beyond or not unsure else Confidence.LOW


def _location(case: Case, beyond: Beyond | None) -> Location:
    """The side of the edge on which a silence begins and ends."""
    trace, zones = case.trace, case.zones
    last = trace.last_answering_ttl
    near = {zones.zone(address, last) for address in trace.hops[last - 1].addresses}
    far = {zones.zone(address, beyond.hop) for address in beyond.addresses} if beyond else set()
    # A hop inside behind one outside, whichever way it was seen, is a hole in the settings.
    inside_again = any(zones.last_platform_hop(one.trace) > last for one in witnesses_of(case))
    if near == {Zone.EXTERNAL} and not inside_again:
        return Location.EXTERNAL
    if near == {Zone.PLATFORM} and far == {Zone.PLATFORM}:
        return Location.PLATFORM
    if near == {Zone.PLATFORM} and far == {Zone.EXTERNAL}:
        return Location.BOUNDARY
    return Location.UNKNOWN
