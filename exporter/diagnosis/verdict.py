"""What a trace means. Pure functions; no clock, no socket.

`judge` tries, in this order:

1. the host could not do its part                    -> `unresolved`, `error`
2. somebody answered over TCP                        -> see `reached`
3. a device sent an ICMP error                       -> `rejected`, `unreachable`
4. the same routers answered again, without end      -> `loop`
5. routers answered up to the last TTL               -> `inconclusive`
6. a device sent an ICMP error to another flow       -> `rejected`, `unreachable`
7. nothing at all answered                           -> `inconclusive`, or `filtered` if a control
                                                        of the same destination was answered
8. a hop answered, then confirmed silence            -> `filtered`, or `open` if only connections
                                                        are answered (see `repeated`)

then takes away what rests on hop numbers that may mean nothing (`doubt`), adds how the other flows
fared (`flows`), and then holds the result against the application's own view: a plain connect()
that succeeded in the same cycle contradicts every block, one that was answered with an error
contradicts `filtered`, unless another flow has passed as well, and a contradiction is
`inconclusive`.

`external` is said only where the first suspect is a hop that answered from outside, or an
outside address rejected, and no hop behind it is inside again.
"""

from __future__ import annotations

from dataclasses import replace

from exporter.diagnosis.case import Case
from exporter.diagnosis.doubt import weigh
from exporter.diagnosis.failed import failed
from exporter.diagnosis.flows import any_passes, weigh_flows
from exporter.diagnosis.loops import loop_of, looping
from exporter.diagnosis.peculiar import peculiarities
from exporter.diagnosis.reached import reached
from exporter.diagnosis.refused import refused, refused_beside
from exporter.diagnosis.repeated import open_to_connections
from exporter.diagnosis.silence import endless, silent
from exporter.diagnosis.unheard import unheard
from exporter.diagnosis.words import facts_of, handshake_facts, was_told_no
from exporter.diagnosis.zones import ZoneMap
from exporter.model import (
    BLOCKED_STATES,
    TCP_KINDS,
    Confidence,
    Controlled,
    Failure,
    FailureReason,
    Handshake,
    ReplyKind,
    Source,
    State,
    StopReason,
    Surroundings,
    Trace,
    Verdict,
)

SOMEWHERE = Source()
NOTHING_LEARNT = Surroundings()
NOTHING_CONTROLLED = Controlled()


def judge(
    trace: Trace | None,
    *,
    zones: ZoneMap,
    failure: Failure | None = None,
    handshake: Handshake | None = None,
    last_good: Trace | None = None,
    source: Source = SOMEWHERE,
    surroundings: Surroundings = NOTHING_LEARNT,
    controlled: Controlled = NOTHING_CONTROLLED,
) -> Verdict:
    """The verdict on one trace; `failure` is why the host could not do its part.

    The other arguments are those of `Case`.
    """
    failure = failure or (trace.failure if trace else None)
    if trace is None or failure:
        return failed(failure or Failure(FailureReason.INTERNAL, "there is no trace"), trace)
    case = Case(trace, zones, handshake, last_good, source, surroundings, controlled)
    verdict = weigh_flows(weigh(_judge(case), case), case)
    evidence = (
        *facts_of(trace),
        *verdict.evidence,
        *handshake_facts(handshake, trace),
        *peculiarities(trace),
    )
    return _hold_against(case, replace(verdict, evidence=evidence))


def _judge(case: Case) -> Verdict:
    trace = case.trace
    tcp = [answer for answer in trace.answers if answer.reply.kind in TCP_KINDS]
    errors = [answer for answer in trace.answers if answer.reply.kind is ReplyKind.UNREACHABLE]
    if tcp:
        return reached(case)
    if trace.stop_reason is StopReason.DEADLINE:
        return failed(Failure(FailureReason.TIMEOUT, "the trace ran out of its time"), trace)
    if errors:
        return refused(case, min(errors, key=lambda answer: answer.probe.ttl))
    return _nobody_spoke(case)


def _nobody_spoke(case: Case) -> Verdict:
    """The verdict where routers have said time-exceeded at most."""
    trace = case.trace
    if loop := loop_of(trace):
        return looping(case, loop)
    if trace.stop_reason is StopReason.HOP_LIMIT:
        return endless(trace)
    if refusal := refused_beside(case):
        return refusal
    if not trace.last_answering_ttl:
        return unheard(case)
    return open_to_connections(case) or silent(case)


# -- the application's own view --------------------------------------------------------


def _hold_against(case: Case, verdict: Verdict) -> Verdict:
    handshake = case.handshake
    if handshake is None:
        return verdict
    told_no = was_told_no(handshake) and verdict.state is State.FILTERED
    if verdict.state in BLOCKED_STATES and any_passes(case, verdict.state):
        return replace(verdict, confidence=Confidence.LOW) if told_no else verdict
    if handshake.success and (verdict.state in BLOCKED_STATES or verdict.state is State.CLOSED):
        return _contradicted(
            verdict,
            f"A plain connection succeeded while the traced one looked {verdict.state}: perhaps "
            "only one of several paths is blocked, or the block began or ended just now.",
        )
    if told_no:
        return _contradicted(
            verdict,
            f"A plain connection was refused ({handshake.error}) while the traced ones met "
            "silence: somebody answers, so not all is dropped; rate limits may hide who, or the "
            "block began or ended just now.",
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
        flows=verdict.flows,
        evidence=(*verdict.evidence, f"the trace alone would say: {verdict.reason}"),
    )
