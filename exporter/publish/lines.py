"""An observation as lines: for the log, the page's <pre>, the terminal and evidence files.

The shape is the one that tcptraceroute's users know: a line a hop, the address where it
changes, a round-trip time or `*` for each attempt, in the order in which they were sent.
What the old tools leave out stands beside it in brackets (what answered, which zone, whose
network) and on indented lines below it (MPLS labels, rewritten fields). `shared` follows what a
hop has answered other traces, which spared this one its probes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from exporter.model import (
    END_KINDS,
    Answer,
    Handshake,
    Hop,
    MplsLabel,
    Observation,
    Reply,
    ReplyKind,
    Trace,
    Verdict,
    joined,
)
from exporter.publish.controls import (
    Control,
    Kind,
    Outcome,
    answer_of,
    branches_of,
    controls_of,
    flows_of,
    outcome_of,
    probes_of,
)
from exporter.publish.text import (
    END_WORDS,
    STOP_WORDS,
    TOLD_CONDITIONS,
    autonomous_system,
    duration,
    endpoint_of,
    host_port,
    printable,
    saying,
    shorten,
    timestamp,
    where,
    words_of,
    zone_words,
)

#: The longest address that IPv6 has (RFC 4291, section 2.2).
ADDRESS_LENGTH = 45


def render_trace(observation: Observation) -> str:
    """The raw trace and the verdict, lines separated by newlines, none at the end."""
    lines = (
        *trace_lines(observation),
        *_controls(observation),
        *other_lines(observation),
        *verdict_lines(observation.verdict),
    )
    return "\n".join(lines)


def trace_lines(observation: Observation) -> Iterator[str]:
    """What was sent and received."""
    trace = observation.trace
    yield _header(observation)
    if trace:
        yield from _hop_lines(observation, trace)
        yield from _end_lines(observation, trace)
        yield from _branch_lines(observation)
    if (failure := observation.failure) and not (trace and trace.failure):
        yield f"no usable trace, {failure.reason}: {printable(failure.message)}"
    if observation.handshake:
        yield _handshake_line(observation.handshake)


def growing_lines(observation: Observation) -> Iterator[str]:
    """A trace under way: who has answered so far, and nothing of how it may end."""
    yield _header(observation)
    if trace := observation.trace:
        yield from _hop_lines(observation, trace, "no answer yet")
        if trace.confirmation:
            yield _confirmation_line(observation, trace.confirmation)


def control_lines(observation: Observation) -> Iterator[str]:
    """What was measured beside the trace, a line for each control and one for further flows."""
    for control in controls_of(observation.controlled):
        yield f"{_control(control)}: {_came(control.trace)}{_judged(control)}"
    if flows := flows_of(observation.controlled):
        counts = Counter(outcome_of(flow) for flow in flows)
        outcomes = ", ".join(f"{counts[one]} {one}" for one in Outcome if counts[one])
        yield f"{len(flows)} further {'flow' if len(flows) == 1 else 'flows'}: {outcomes}"


def other_lines(observation: Observation) -> Iterator[str]:
    """A line for each further address of the target."""
    for one in observation.each[1:]:
        address, verdict = printable(str(one.address)), one.verdict
        yield f"also {address}: {verdict.state}, {where(verdict)}, confidence {verdict.confidence}"


def verdict_lines(verdict: Verdict) -> Iterator[str]:
    """What it means: the facts, the sentence and what it rests on."""
    yield f"verdict: {verdict.state}, {where(verdict)}, confidence {verdict.confidence}"
    yield f"  {printable(verdict.reason)}"
    yield from (f"  - {printable(line)}" for line in verdict.evidence)


def _header(observation: Observation) -> str:
    name, endpoint = printable(observation.target.name), endpoint_of(observation)
    # A target without a name of its own is called host:port.
    title = endpoint if name == host_port(observation.target) else f"{name}: {endpoint}"
    if trace := observation.trace:
        title += f" from {printable(trace.flow.source)}, engine {printable(trace.engine)}"
    return f"{title}, {timestamp(observation.started_at)}"


def _hop_lines(observation: Observation, trace: Trace, silence: str = "no answer") -> Iterator[str]:
    """The path; past its end only what says something else than the end did."""
    path = trace.path
    if path and path[-1].is_end:
        known = _responses(path[-1])
        rest = (hop for hop in trace.hops[len(path) :] if not _responses(hop) <= known)
        for hop in (*path, *rest):
            yield from _lines_of_hop(observation, hop)
    else:
        told = (hop.ttl for hop in trace.hops if hop.known or not hop.sent)
        answered = max(told, default=0)
        for hop in trace.hops[:answered]:
            yield from _lines_of_hop(observation, hop)
        if silent := trace.hops[answered:]:
            yield f"{_silent(silent)}  {silence}"


def _responses(hop: Hop) -> set[tuple[str, ReplyKind, tuple[int, int] | None]]:
    return {_response(answer.reply) for answer in hop.answers}


def _response(reply: Reply) -> tuple[str, ReplyKind, tuple[int, int] | None]:
    """What tells two responders apart; round-trip times of equal ones share a line."""
    return reply.address, reply.kind, reply.icmp


def _silent(hops: tuple[Hop, ...]) -> str:
    first, last = hops[0], hops[-1]
    number = f"{first.ttl:2}" if first is last else f"{first.ttl:2}-{last.ttl}"
    return f"{number} {' *' * first.sent}"


def _lines_of_hop(observation: Observation, hop: Hop) -> Iterator[str]:
    lines = _attempts(observation, hop) if hop.sent or hop.shared else [" not asked"]
    if hop.shared:
        _add_shared(lines, observation, hop.shared)
    if (condition := observation.conditions.get(hop.ttl)) in TOLD_CONDITIONS:
        lines[-1] += f"  [{condition}]"
    yield f"{hop.ttl:2} {lines[0]}"
    yield from (f"   {line}" for line in lines[1:])
    yield from _notes(answer.reply for answer in hop.known)


def _add_shared(lines: list[str], observation: Observation, shared: tuple[Answer, ...]) -> None:
    """What the hop has answered other traces, behind this one's own attempts."""
    by_responder: dict[str, list[Answer]] = {}
    for answer in shared:
        by_responder.setdefault(_responder(observation, answer), []).append(answer)
    for place, (responder, answers) in enumerate(by_responder.items()):
        times = "".join(f"  {duration(answer.rtt)}" for answer in answers)
        if place:
            lines.append("")
        lines[-1] += f" {responder}{times}  shared"


def _attempts(observation: Observation, hop: Hop) -> list[str]:
    """The attempts in order; a further responder begins a further line."""
    answers = {answer.probe.attempt: answer for answer in hop.answers}
    lines = [""]
    shown = None
    for attempt in range(1, max((hop.sent, *answers)) + 1):
        answer = answers.get(attempt)
        if answer is None:
            lines[-1] += " *"
            continue
        response = _response(answer.reply)
        if response != shown:
            if shown:
                lines.append("")
            lines[-1] += f" {_responder(observation, answer)}"
            shown = response
        lines[-1] += f"  {duration(answer.rtt)}"
    return lines


def _responder(observation: Observation, answer: Answer) -> str:
    """Name and address and, in brackets, what it said, where it stands and whose it is."""
    reply, place = answer.reply, observation.place_of(answer.reply.address)
    address = printable(reply.address)
    shown = f"{printable(place.name)} ({address})" if place.name else address
    tags = (saying(observation, reply), zone_words(place), autonomous_system(place))
    return " ".join((shown, *(f"[{tag}]" for tag in tags if tag)))


def _notes(replies: Iterable[Reply]) -> Iterator[str]:
    """What the replies tell beside address and time, each thing once."""
    notes: dict[str, None] = {}
    for reply in replies:
        if reply.mpls:
            notes[f"MPLS {' / '.join(map(_mpls, reply.mpls))}"] = None
        if reply.rewritten:
            notes[f"rewritten on the way: {printable(', '.join(reply.rewritten))}"] = None
    return (f"    {note}" for note in notes)


def _mpls(label: MplsLabel) -> str:
    return f"label {label.label} class {label.traffic_class} ttl {label.ttl}"


def _end_lines(observation: Observation, trace: Trace) -> Iterator[str]:
    if trace.confirmation:
        yield _confirmation_line(observation, trace.confirmation)
    duplicates = f", {trace.duplicates} duplicate replies" if trace.duplicates else ""
    error = f": {printable(trace.failure.message)}" if trace.failure else ""
    reason = STOP_WORDS[trace.stop_reason]
    yield f"stopped after {duration(trace.duration)}: {reason}{error}{duplicates}"


def _confirmation_line(observation: Observation, hop: Hop) -> str:
    number = "1 SYN" if hop.sent == 1 else f"{hop.sent} SYNs"
    return f"confirmation, {number} with TTL {hop.ttl}:{''.join(_attempts(observation, hop))}"


def _handshake_line(handshake: Handshake) -> str:
    if handshake.success:
        return f"connect(): succeeded in {duration(handshake.duration)}"
    error = printable(handshake.error or "no reason given")
    return f"connect(): failed after {duration(handshake.duration)}: {error}"


# -- controls ----------------------------------------------------------------------------


def _controls(observation: Observation) -> Iterator[str]:
    lines = tuple(control_lines(observation))
    if lines:
        yield "controls in the same cycle:"
        yield from (f"  {line}" for line in lines)


def _control(control: Control) -> str:
    flow = control.trace.flow
    if control.kind is Kind.PORT:
        return f"port {flow.destination_port}"
    if control.kind is Kind.ECHO:
        return "ICMP echo"
    return joined(printable(flow.destination), flow.destination_port)


def _came(trace: Trace) -> str:
    """What came back, from how far away; of several answers the one that decides."""
    reply = answer_of(trace)
    if reply is None:
        failure = trace.failure
        sent, _ = probes_of(trace)
        return f"not measured, {printable(failure.message)}" if failure else _unanswered(sent)
    if reply.kind not in END_KINDS:
        return f"{words_of(reply)}, from {printable(reply.address)}"
    saying = END_WORDS.get(reply.kind, reply.kind.value)
    return f"{saying} at hop {trace.distance}" if trace.distance else saying


def _unanswered(sent: int) -> str:
    return f"no answer to {sent} {'probe' if sent == 1 else 'probes'}"


#: What is said of a canary's fate; a rejection may be anything, so it stands for itself.
_CANARY_JUDGED = {
    Outcome.REACHED: ", though nobody has this address",
    Outcome.SILENT: ", as it should be",
}


def _judged(control: Control) -> str:
    """What is to be said of a control besides what came back."""
    outcome = outcome_of(control.trace)
    if control.kind is Kind.ELSEWHERE:
        return ", over the same first hops"
    return _CANARY_JUDGED.get(outcome, "") if control.kind is Kind.CANARY else ""


def _branch_lines(observation: Observation) -> Iterator[str]:
    """Flows that end differently, side by side where they differ."""
    branches = branches_of(observation)
    if branches is None:
        return
    table = [
        ["hop", *(f"port {flow.flow.source_port}" for flow in branches.flows)],
        *([str(ttl), *map(_cell, hops)] for ttl, hops in branches.rows),
        ["end", *(outcome_of(flow) for flow in branches.flows)],
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    yield "flows by source port, where they differ:"
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells)}".rstrip()


def _cell(hop: Hop | None) -> str:
    """The first responder of a hop; "*" for none, "-" where nobody was asked."""
    if hop is None:
        return "-"
    return shorten(printable(hop.addresses[0]), ADDRESS_LENGTH) if hop.answers else "*"
