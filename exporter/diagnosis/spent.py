"""A silence that may be a rejection for which a router had no ICMP error left.

A Linux router says six errors at once to one recipient and then one a second (icmp_ratelimit), to
all traces together. Where many targets are rejected by one device, it rejects some of them in
silence, and that looks like a drop.
"""

from __future__ import annotations

from exporter.diagnosis.case import Case
from exporter.diagnosis.words import destination_of
from exporter.model import Confidence, State, Trace, Verdict

#: So many times the last router has to show that it could have spoken. One is not enough: three of
#: a hundred times its next error grows in between.
WITNESSES = 2


def may_be_spent(case: Case) -> bool:
    """Whether the last router that answers, or the next device, rejects others' traffic.

    The former is cleared if it could have spoken each time; whether the latter could is not known.
    """
    trace, here = case.trace, case.surroundings
    routers = set(trace.hops[trace.last_answering_ttl - 1].addresses)
    if routers & here.rejecting:
        return trace.witnessed < WITNESSES
    return not routers.isdisjoint(here.before_rejecting)


def perhaps_spent(trace: Trace) -> Verdict:
    """The verdict on such a silence."""
    last = trace.last_answering_ttl
    router = trace.hops[last - 1].addresses[0]
    return Verdict(
        state=State.INCONCLUSIVE,
        last_reachable_hop=last,
        reason=f"Traffic to {destination_of(trace)} is answered up to hop {last} ({router}), then "
        "by nobody. A device there has just rejected traffic to other targets, and may reject this "
        "as well: its limit on ICMP errors hides what it rejects.",
        confidence=Confidence.LOW,
    )
