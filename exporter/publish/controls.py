"""What was measured beside a trace, in the few words that every reader of it shares.

Controls and further flows are traces; here each gets an outcome, and flows that end differently
are laid side by side. Bounded: a configuration may ask for many, and nobody reads so many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from exporter.model import END_KINDS, Controlled, Hop, Observation, Reply, ReplyKind, Trace

#: So many controls, and so many further flows, are published.
MOST_CONTROLS = 16
MOST_FLOWS = 16
#: So many flows stand side by side, the traced one first.
COLUMNS = 4


class Kind(StrEnum):
    """Which control it is."""

    PORT = "port"
    ECHO = "echo"
    CANARY = "canary"
    ELSEWHERE = "elsewhere"


class Outcome(StrEnum):
    """What came back for probes that were meant to arrive."""

    REACHED = "reached"  # an answer in the destination's name
    REJECTED = "rejected"  # an ICMP error
    SILENT = "silent"  # neither
    NOT_MEASURED = "not-measured"  # the host refused to send


@dataclass(frozen=True, slots=True)
class Control:
    """A control and its kind."""

    kind: Kind
    trace: Trace


def controls_of(controlled: Controlled) -> tuple[Control, ...]:
    """The controls but for further flows, at most `MOST_CONTROLS`."""
    return tuple(islice(_controls(controlled), MOST_CONTROLS))


def flows_of(controlled: Controlled) -> tuple[Trace, ...]:
    """The further flows, at most `MOST_FLOWS`."""
    return controlled.flows[:MOST_FLOWS]


def answer_of(trace: Trace) -> Reply | None:
    """The answer that decides: one of the destination, else an ICMP error; None for neither."""
    ends = [answer.reply for answer in trace.answers if answer.reply.kind in END_KINDS]
    errors = (answer.reply for answer in trace.answers)
    rejections = (reply for reply in errors if reply.kind is ReplyKind.UNREACHABLE)
    return ends[0] if ends else next(rejections, None)


def outcome_of(trace: Trace) -> Outcome:
    """What became of a control or a flow."""
    reply = answer_of(trace)
    if reply is None:
        return Outcome.NOT_MEASURED if trace.failure else Outcome.SILENT
    return Outcome.REACHED if reply.kind in END_KINDS else Outcome.REJECTED


def reply_ttl_of(trace: Trace) -> int | None:
    """The IP TTL with which the destination's answers arrive, None where it is not known."""
    ends = (answer.reply for answer in trace.answers if answer.reply.kind in END_KINDS)
    return next((reply.ttl for reply in ends if reply.ttl is not None), None)


def probes_of(trace: Trace) -> tuple[int, int]:
    """How many were sent, and how many of them answered."""
    hops = (*trace.hops, trace.confirmation) if trace.confirmation else trace.hops
    return sum(hop.sent for hop in hops), sum(hop.received for hop in hops)


# -- side by side ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Branches:
    """Flows that end differently: a column each, and a row for each hop at which they differ."""

    flows: tuple[Trace, ...]
    #: TTL -> each flow's hop there, None where it was not asked, or left to what others were told.
    rows: tuple[tuple[int, tuple[Hop | None, ...]], ...]


def branches_of(observation: Observation) -> Branches | None:
    """The branches, None where all flows end alike or no hop is known to differ."""
    trace, further = observation.trace, flows_of(observation.controlled)
    if trace is None:
        return None
    outcome = outcome_of(trace)
    others = [flow for flow in further if outcome_of(flow) is not outcome]
    if not others:
        return None
    # Those that end otherwise first, since they are what there is to compare with.
    alike = [flow for flow in further if flow not in others]
    flows = (trace, *(flow for flow in (*others, *alike) if flow.hops))[:COLUMNS]
    last = max(len(flow.path) for flow in flows)
    rows = ((ttl, tuple(_hop(flow, ttl) for flow in flows)) for ttl in range(1, last + 1))
    differing = tuple(row for row in rows if _differ(row[1]))
    return Branches(flows, differing) if differing else None


def _controls(controlled: Controlled) -> Iterator[Control]:
    yield from (Control(Kind.PORT, trace) for trace in controlled.ports)
    if controlled.echo:
        yield Control(Kind.ECHO, controlled.echo)
    if controlled.canary:
        yield Control(Kind.CANARY, controlled.canary)
    yield from (Control(Kind.ELSEWHERE, trace) for trace in controlled.elsewhere)


def _hop(flow: Trace, ttl: int) -> Hop | None:
    hop = flow.hops[ttl - 1] if ttl <= len(flow.hops) else None
    return hop if hop and hop.sent and not hop.shared else None


def _differ(hops: Sequence[Hop | None]) -> bool:
    """Whether those that were asked tell different devices, or some answer and some do not."""
    return len({frozenset(hop.addresses) for hop in hops if hop}) > 1
