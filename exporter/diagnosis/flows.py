"""Several flows to one endpoint: load balancers may send each another way, and block one of them.

1. A flow passes when the destination answers it over TCP, if only after a repetition. Where the
   trace itself is judged `reset`, an RST alone is no passing.
2. It is blocked when an ICMP error or, beside a `reset`, an RST answers it, when even a full TTL
   expires on its way, or when nobody answers it although plain loss would hardly have taken all of
   its SYNs.
3. Else it is not judged: a sounding has three SYNs, and a lossy path takes them all too often.
4. Where some pass and the trace is blocked, verdict and hops are those of the trace; that the plain
   connect() succeeds is no contradiction then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from exporter.diagnosis.case import Case
from exporter.diagnosis.conditions import conditions_of
from exporter.diagnosis.placing import PLAUSIBLE, guarded_loss
from exporter.diagnosis.witnesses import was_reached
from exporter.diagnosis.words import listed, numbers_of
from exporter.model import (
    BLOCKED_STATES,
    REACHED_STATES,
    TCP_KINDS,
    Answer,
    Condition,
    Confidence,
    ReplyKind,
    State,
    StopReason,
    Trace,
    Verdict,
)

#: So many hops at which flows part are named.
MOST_BRANCHES = 4


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How the flows beside the trace ended; what is in neither was not judged."""

    tried: int
    passing: tuple[Trace, ...]
    blocked: tuple[Trace, ...]


NOT_TRIED = Outcomes(0, (), ())


def outcomes_of(case: Case, state: State) -> Outcomes:
    """What became of the further flows, where the trace alone is judged so."""
    flows = case.controlled.flows
    if not flows:
        return NOT_TRIED
    passing = tuple(flow for flow in flows if _passes(flow, state))
    loss = _loss(case.trace, (*passing, *case.controlled.ports))
    others = (flow for flow in flows if flow not in passing)
    blocked = tuple(flow for flow in others if was_reached(flow) or _is_blocked(flow, loss))
    return Outcomes(len(flows), passing, blocked)


def any_passes(case: Case, state: State) -> bool:
    """Whether another flow passes where the trace is judged so."""
    return any(_passes(flow, state) for flow in case.controlled.flows)


def _passes(flow: Trace, state: State) -> bool:
    kinds = {answer.reply.kind for answer in flow.answers} & TCP_KINDS
    return bool(kinds - {ReplyKind.RST} if state is State.RESET else kinds)


def _is_blocked(flow: Trace, loss: float) -> bool:
    if flow.stop_reason in {StopReason.ICMP_ERROR, StopReason.HOP_LIMIT}:
        return True
    full = flow.confirmation
    return flow.stop_reason is StopReason.SILENCE and bool(full and loss**full.sent <= PLAUSIBLE)


def _loss(trace: Trace, passing: Iterable[Trace]) -> float:
    """The loss on the way of a flow, without that of hops which only limit themselves."""
    conditions = conditions_of(trace)
    hops = [h for h in trace.hops if conditions.get(h.ttl) is not Condition.RATE_LIMITED]
    return guarded_loss((*hops, *(flow.confirmation for flow in passing if flow.confirmation)))


def weigh_flows(verdict: Verdict, case: Case) -> Verdict:
    """The verdict on the trace, with what the other flows say beside it."""
    outcomes = outcomes_of(case, verdict.state)
    verdict = replace(verdict, flows=1 + len(outcomes.passing) + len(outcomes.blocked))
    if verdict.state in BLOCKED_STATES:
        return _beside_a_block(verdict, case, outcomes)
    # What only a plain connect() has reached answers no flow at all.
    if verdict.state in REACHED_STATES and outcomes.blocked and was_reached(case.trace):
        return _beside_an_answer(verdict, outcomes)
    return verdict


def _beside_a_block(verdict: Verdict, case: Case, outcomes: Outcomes) -> Verdict:
    verdict = replace(verdict, flows_blocked=1 + len(outcomes.blocked))
    if not outcomes.passing:
        return verdict
    return replace(
        verdict,
        reason=f"{_share(verdict, outcomes)}: {verdict.reason}",
        evidence=(*verdict.evidence, *_facts(case, outcomes)),
    )


def _beside_an_answer(verdict: Verdict, outcomes: Outcomes) -> Verdict:
    verdict = replace(verdict, flows_blocked=len(outcomes.blocked))
    ports = listed([str(flow.flow.source_port) for flow in outcomes.blocked])
    return replace(
        verdict,
        reason=f"{_share(verdict, outcomes)}; the others pass: {verdict.reason}",
        confidence=Confidence.LOW if verdict.confidence is Confidence.LOW else Confidence.MEDIUM,
        evidence=(*verdict.evidence, f"no answer to the flows from source port {ports}"),
    )


def _share(verdict: Verdict, outcomes: Outcomes) -> str:
    unknown = outcomes.tried - len(outcomes.passing) - len(outcomes.blocked)
    not_judged = f" ({unknown} more not judged)" if unknown else ""
    return f"Blocked on {verdict.flows_blocked} of {verdict.flows} paths{not_judged}"


def _facts(case: Case, outcomes: Outcomes) -> Iterator[str]:
    port = case.trace.flow.source_port
    passing = listed([str(flow.flow.source_port) for flow in outcomes.passing])
    yield f"the flow from source port {port} is blocked, those from {passing} pass"
    parts = list(_parting(case.trace, outcomes.passing))
    yield from parts[:MOST_BRANCHES]
    if not parts:
        yield "no hop is known at which the blocked flow and those that pass differ"


def _parting(blocked: Trace, passing: tuple[Trace, ...]) -> Iterator[str]:
    """Where the blocked flow met other devices than those that pass."""
    meet = "the one that passes meets" if len(passing) == 1 else "those that pass meet"
    for hop in blocked.hops:
        there = [a for flow in passing for a in _answers_at(flow, hop.ttl)]
        others = list(dict.fromkeys(answer.reply.address for answer in there))
        if hop.answers and others and not set(hop.addresses) & set(others):
            yield (
                f"at hop {hop.ttl} the blocked flow meets {listed(hop.addresses[:MOST_BRANCHES])}, "
                f"{meet} {listed(others[:MOST_BRANCHES])} ({numbers_of(there)})"
            )


def _answers_at(flow: Trace, ttl: int) -> Iterator[Answer]:
    for hop in flow.hops[ttl - 1 : ttl]:
        yield from hop.answers
