"""Not one probe of the trace was answered: a filter near here, or a network without ICMP errors.

Controls of the same destination tell the two apart. If they are answered in the same cycle, what is
dropped is this port's traffic, between here and the nearest hop that a control has seen.
"""

from __future__ import annotations

from dataclasses import replace

from exporter.diagnosis.beside import controls_facts, what_is_behind
from exporter.diagnosis.case import Case
from exporter.diagnosis.placing import PLAUSIBLE, guarded_loss, is_spared
from exporter.diagnosis.refused import own_neighbour
from exporter.diagnosis.silk import may_be_cell, perhaps_rejected
from exporter.diagnosis.spent import may_be_spent, perhaps_spent
from exporter.diagnosis.witnesses import Witness, nearest_beyond, witnesses_of
from exporter.diagnosis.words import (
    UNREACHABLE,
    WHERE,
    destination_of,
    has_no_neighbour,
    listed,
    range_text,
    unread,
)
from exporter.model import Confidence, Location, State, Trace, Verdict, Zone

#: So many other targets are named.
MOST_NAMED = 4


def unheard(case: Case) -> Verdict:
    """The verdict on a trace without a single answer."""
    trace = case.trace
    if has_no_neighbour(trace, case.handshake):
        # The packet itself was not seen, and to connect() a firewall that prohibits reads the same.
        told = own_neighbour(trace, UNREACHABLE, "connect() was told so, sent from")
        return replace(told, confidence=Confidence.LOW)
    if may_be_cell(case):
        return perhaps_rejected(trace)
    if may_be_spent(case):
        return perhaps_spent(trace)
    if any(map(is_spared, trace.hops)):
        return _not_asked(trace)
    if controls := _passing(case):
        return _dropped(case, controls)
    return Verdict(
        state=State.INCONCLUSIVE,
        last_reachable_hop=0,
        reason=f"Nothing on the way to {destination_of(trace)} answers, not even the first hop: "
        "either all of it is dropped near here, or this network never delivers ICMP "
        f"time-exceeded messages.{unread(trace)}",
        confidence=Confidence.LOW,
        evidence=(*_elsewhere(case), *controls_facts(case)),
    )


def _not_asked(trace: Trace) -> Verdict:
    """Whoever stands at the first hops was left out, so nothing is known of them."""
    return Verdict(
        state=State.INCONCLUSIVE,
        last_reachable_hop=0,
        reason=f"{destination_of(trace)} does not answer, and how far the traffic gets is not "
        f"known: some of the first hops were left out, to spare their ICMP errors.{unread(trace)}",
        confidence=Confidence.LOW,
    )


def _passing(case: Case) -> list[Witness]:
    """The controls that pass, where plain loss would hardly have taken all SYNs of the trace."""
    trace = case.trace
    passing = [one for one in witnesses_of(case) if one.is_control_of(trace)]
    full = trace.confirmation
    if not passing or full is None or trace.unseen_errors:
        return []
    loss = guarded_loss(one.trace.confirmation for one in passing if one.trace.confirmation)
    return passing if loss**full.sent <= PLAUSIBLE or nearest_beyond(case) else []


def _dropped(case: Case, passing: list[Witness]) -> Verdict:
    """Some controls of this destination pass where this trace meets silence."""
    trace, beyond = case.trace, nearest_beyond(case)
    suspects = (1, beyond.hop if beyond else max(len(trace.hops), 1))
    far = {case.zones.zone(address, beyond.hop) for address in beyond.addresses} if beyond else ()
    # A router that limits its ICMP errors and rejects looks like one that drops, and one witness
    # alone may have met the nearer ones in a better moment than this trace did.
    sure = beyond is not None and beyond.hop == 1 and len(beyond.witnesses) > 1
    location = Location.PLATFORM if sure and far == {Zone.PLATFORM} else Location.UNKNOWN
    names = listed([one.name for one in passing])
    device = f"at {range_text(suspects)}" if beyond else "somewhere on the way"
    return Verdict(
        state=State.FILTERED,
        last_reachable_hop=0,
        reason=f"Nobody answers traffic to {destination_of(trace)}, not even the first hop, while "
        f"{names} of it {'is' if len(passing) == 1 else 'are'} answered: a device {device}, or "
        f"this host's own firewall, drops it, {WHERE[location]}.",
        confidence=Confidence.MEDIUM if sure else Confidence.LOW,
        blocked_at_hop=1,
        suspect_hops=suspects,
        location=location,
        evidence=(what_is_behind(0, beyond), *controls_facts(case)),
    )


def _elsewhere(case: Case) -> tuple[str, ...]:
    """Whether anything else is reached from here."""
    others = dict.fromkeys(trace.flow.destination for trace in case.controlled.elsewhere)
    if not others:
        return ()
    named = listed(list(others)[:MOST_NAMED])
    return (f"other targets were reached from here when last traced: {named}",)
