"""A silence that may be a rejection for which a device had no ICMP error left.

Which devices that may be, the prober has seen: those that lately rejected
other targets, and were busy with others at the same time.
"""

from __future__ import annotations

from exporter.diagnosis.case import Case
from exporter.diagnosis.words import destination_of, listed
from exporter.model import Confidence, State, Trace, Verdict

#: So many times the last router has to show that it could have spoken. One is not enough: three of
#: a hundred times its next error grows in between.
WITNESSES = 2
MOST_NAMED = 4


def may_be_spent(case: Case) -> bool:
    """Whether somebody who rejects others' traffic may do so here, too, and not say so.

    The last router that answers is cleared if it could have spoken each time. Whether one behind
    it could is not known.
    """
    trace = case.trace
    last = trace.last_answering_ttl
    routers = trace.hops[last - 1].addresses if last else ()
    cleared = set(routers) if trace.witnessed >= WITNESSES else set()
    return bool(trace.refusing - cleared)


def perhaps_spent(trace: Trace) -> Verdict:
    """The verdict on such a silence."""
    last = trace.last_answering_ttl
    upto = f" behind hop {last} ({trace.hops[last - 1].addresses[0]})" if last else ""
    named = listed(sorted(trace.refusing)[:MOST_NAMED])
    return Verdict(
        state=State.INCONCLUSIVE,
        last_reachable_hop=last,
        reason=f"{destination_of(trace)} does not answer, and neither does anybody{upto}. "
        f"Traffic to other targets was lately rejected by {named}, which spent ICMP errors on "
        "others meanwhile and may reject this as well: a limit on such errors hides what is "
        "rejected.",
        confidence=Confidence.LOW,
    )
