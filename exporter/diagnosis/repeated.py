"""A destination that lets plain connections in and leaves every traced SYN unanswered.

Some hosts and the devices before them answer a SYN only when it is repeated within its connection,
as a kernel does after 1 and 3 s; others distrust SYNs that come as a trace sends them. All of this
must hold, or the silence may be a block on some paths:

1. the plain connect() of the same cycle succeeds;
2. nothing suggests loss, and no error stayed unseen;
3. every router before the destination answers, as far as a control or the last good trace that went
   the same way has seen one, and one of them has spared none: the silence begins where the
   destination stands;
4. no other flow is answered either, and some were tried or connect() has taken a repetition itself.
"""

from __future__ import annotations

from exporter.diagnosis.case import Case
from exporter.diagnosis.placing import TOLERATED_LOSS, is_spared, loss_of
from exporter.diagnosis.witnesses import nearest_beyond
from exporter.diagnosis.words import destination_of
from exporter.model import Confidence, State, StopReason, Trace, Verdict

#: Seconds after which Linux and most others repeat a SYN (RFC 6298 section 2).
FIRST_REPETITION = 1.0


def open_to_connections(case: Case) -> Verdict | None:
    """The verdict where all of this holds, else None."""
    trace, handshake, flows = case.trace, case.handshake, case.controlled.flows
    if handshake is None or not handshake.success:
        return None
    beyond = nearest_beyond(case)
    if (
        trace.unseen_errors
        or loss_of(trace.hops) > TOLERATED_LOSS
        or beyond is None
        or not any(_shows_all(one.trace, trace, beyond.hop) for one in beyond.witnesses)
        or not (flows or handshake.duration >= FIRST_REPETITION)
        or any(flow.stop_reason is not StopReason.SILENCE for flow in flows)
    ):
        return None
    if handshake.duration >= FIRST_REPETITION:
        why = "it seems to answer a SYN only when it is repeated within one connection"
    else:
        why = "it, or a device before it, leaves unanswered what does not look like an ordinary SYN"
    return Verdict(
        state=State.OPEN,
        last_reachable_hop=beyond.hop,
        reason=f"{destination_of(trace)} at hop {beyond.hop} accepts TCP connections, as a plain "
        f"connect() shows after {handshake.duration:.1f} s, but no traced SYN: {why}.",
        confidence=Confidence.MEDIUM,
        evidence=(
            (
                f"every known hop before {beyond.hop} answers, and the destination stands there, "
                f"as shown by {beyond.witnesses[0].name}; it answers none of {1 + len(flows)} flows"
            ),
        ),
    )


def _shows_all(seen: Trace, trace: Trace, distance: int) -> bool:
    """Whether a witness met the destination there, and asked all hops behind the last answer."""
    between = seen.hops[trace.last_answering_ttl : distance - 1]
    return seen.distance == distance and not any(map(is_spared, between))
