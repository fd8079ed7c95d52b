"""An observation as text: for the log, the page's <pre>, the terminal and evidence files.

The shape is the one that tcptraceroute's users know: a line a hop, the address where it
changes, a round-trip time or `*` for each attempt, in the order in which they were sent.
What the old tools leave out stands beside it in brackets (what answered, which zone, whose
network) and on indented lines below it (MPLS labels, rewritten fields). `shared` follows what a
hop has answered other traces, which spared this one its probes.

Everything from outside passes through `printable`: names, addresses, error messages. So a
line of this text is one line on any terminal and in any log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from exporter.model import (
    END_KINDS,
    REACHED_STATES,
    Answer,
    Condition,
    Family,
    Handshake,
    Hop,
    MplsLabel,
    Observation,
    Place,
    Reply,
    ReplyKind,
    State,
    StopReason,
    Target,
    Trace,
    Verdict,
    Zone,
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

#: The longest summary line, in characters.
SUMMARY_LENGTH = 200
#: So much of a name may stand in the summary line; what matters more must fit behind it.
SUMMARY_NAME_LENGTH = 60
#: So much of the name of an autonomous system stands behind its number.
AS_NAME_LENGTH = 40

#: What an ICMP error says: traceroute's mark for it, where it has one, and its words.
ICMP_WORDS = {
    # RFC 792, RFC 1122 section 3.2.2.1, RFC 1812 section 5.2.7.1
    (3, 0): "!N network unreachable",
    (3, 1): "!H host unreachable",
    (3, 2): "!P protocol unreachable",
    (3, 3): "port unreachable",
    (3, 4): "!F fragmentation needed",
    (3, 5): "!S source route failed",
    (3, 6): "!U network unknown",
    (3, 7): "!W host unknown",
    (3, 8): "!I source host isolated",
    (3, 9): "!A network prohibited",
    (3, 10): "!Z host prohibited",
    (3, 11): "!Q network unreachable for this type of service",
    (3, 12): "!T host unreachable for this type of service",
    (3, 13): "!X administratively prohibited",
    (3, 14): "!V host precedence violation",
    (3, 15): "!C precedence cutoff",
}
#: The same of ICMPv6, where the same numbers mean other things.
ICMPV6_WORDS = {
    # RFC 4443 section 3.1
    (1, 0): "!N no route",
    (1, 1): "!X administratively prohibited",
    (1, 2): "!S beyond the scope of the source address",
    (1, 3): "!H address unreachable",
    (1, 4): "port unreachable",
    (1, 5): "!X source address failed the policy",
    (1, 6): "!X route says reject",
}
ICMP_OF_FAMILY = {Family.IPV4: ("ICMP", ICMP_WORDS), Family.IPV6: ("ICMPv6", ICMPV6_WORDS)}

#: What stands in brackets behind the address of an end point.
TCP_WORDS = {
    ReplyKind.SYN_ACK: "open",
    ReplyKind.RST: "closed",
    ReplyKind.ACK: "answers with ACK",
}

#: The same where the verdict is that somebody nearer has answered for it.
FORGED_WORDS = {
    (State.RESET, ReplyKind.RST): "reset in its name",
    (State.INTERCEPTED, ReplyKind.SYN_ACK): "accepted in its name",
}

#: What a hop's asterisks would not tell by themselves.
TOLD_CONDITIONS = {Condition.RATE_LIMITED, Condition.LOSSY}

#: What a control's answer is called; as a sign of life an RST is as good as a SYN-ACK.
END_WORDS = {
    ReplyKind.SYN_ACK: "SYN-ACK",
    ReplyKind.RST: "RST",
    ReplyKind.ACK: "ACK",
    ReplyKind.ECHO_REPLY: "echo reply",
}
#: The longest address that IPv6 has (RFC 4291, section 2.2).
ADDRESS_LENGTH = 45

STOP_WORDS = {
    StopReason.DESTINATION: "the destination answered",
    StopReason.ICMP_ERROR: "a device said that the traffic goes no further",
    StopReason.SILENCE: "silence, confirmed",
    StopReason.HOP_LIMIT: "routers answered up to the last TTL",
    StopReason.SEND_FAILED: "the host refused to send",
    StopReason.DEADLINE: "the trace ran out of its time",
}


def printable(text: str) -> str:
    r"""Show what could move a cursor, break a line or hide itself as \x1b, \n, \u202e.

    The one gate for text from outside. It also takes away lone surrogates, which no UTF-8
    encoder accepts.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def shorten(text: str, length: int) -> str:
    """At most `length` characters of a text; dots stand for the rest."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def timestamp(seconds: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC, with milliseconds and Z."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def duration(seconds: float) -> str:
    """A span of time as every line writes it: in ms below a second, else in s."""
    return f"{seconds * 1000:.3f} ms" if seconds < 1 else f"{seconds:.3f} s"


def host_port(target: Target) -> str:
    """The target as `host:port`; an IPv6 address stands in brackets."""
    host = printable(target.host)
    return f"[{host}]:{target.port}" if ":" in host else f"{host}:{target.port}"


def where(verdict: Verdict) -> str:
    """How far the traffic gets and who stops it, in one clause."""
    if verdict.state in REACHED_STATES and not verdict.last_reachable_hop:
        return "reached, distance not known"
    if verdict.state in REACHED_STATES:
        return f"reached at hop {verdict.last_reachable_hop}"
    if not verdict.blocked_at_hop:
        return f"last reachable hop {verdict.last_reachable_hop}"
    parts = [f"blocked at hop {verdict.blocked_at_hop}"]
    if verdict.blocked_by:
        parts.append(f"by {printable(verdict.blocked_by)}")
    if verdict.suspect_hops and verdict.suspect_hops[0] != verdict.suspect_hops[1]:
        parts.append("suspect hops {}-{}".format(*verdict.suspect_hops))
    parts.append(f"location {verdict.location}")
    return ", ".join(parts)


def summary_line(observation: Observation) -> str:
    """The key facts in one line of at most `SUMMARY_LENGTH` characters."""
    verdict = observation.verdict
    name = shorten(printable(observation.target.name), SUMMARY_NAME_LENGTH)
    endpoint = shorten(_endpoint(observation), SUMMARY_NAME_LENGTH)
    several = len(observation.each)
    of_several = f"{alike(observation)} of {several} addresses, " if several > 1 else ""
    return shorten(
        f"{name}: {verdict.state}, {where(verdict)}, confidence {verdict.confidence}, "
        f"{of_several}{endpoint}, {duration(observation.duration)}",
        SUMMARY_LENGTH,
    )


def alike(observation: Observation) -> int:
    """How many of a target's addresses are in the state of the target."""
    state = observation.verdict.state
    return sum(one.verdict.state is state for one in observation.each)


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


def _endpoint(observation: Observation) -> str:
    """`host:port`, and the address where the host is a name."""
    endpoint = host_port(observation.target)
    if observation.address and observation.address != observation.target.host:
        endpoint += f" ({printable(observation.address)})"
    return endpoint


def _header(observation: Observation) -> str:
    name, endpoint = printable(observation.target.name), _endpoint(observation)
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


def saying(observation: Observation, reply: Reply) -> str:
    """What a reply says; "" for time-exceeded, which a hop is expected to say."""
    forged = FORGED_WORDS.get((observation.verdict.state, reply.kind))
    return forged or _saying(reply)


def zone_words(place: Place) -> str:
    """The side of the edge, and the zone's name where it has one; "" when neither is known."""
    if place.zone_name == place.zone:
        return "" if place.zone is Zone.UNKNOWN else place.zone
    return f"{place.zone}: {printable(place.zone_name)}"


def autonomous_system(place: Place) -> str:
    """Number and name, e.g. "AS64500 Example"; "" where neither is known."""
    if place.as_number is None:
        return ""
    return f"AS{place.as_number} {printable(shorten(place.as_name, AS_NAME_LENGTH))}".rstrip()


def _saying(reply: Reply) -> str:
    if reply.kind is ReplyKind.TIME_EXCEEDED:
        return ""
    if reply.icmp is None:
        return TCP_WORDS.get(reply.kind, reply.kind.value)
    protocol, known = ICMP_OF_FAMILY[Family.of(reply.address)]
    number = "{} {}/{}".format(protocol, *reply.icmp)
    words = known.get(reply.icmp)
    return f"{words}, {number}" if words else number


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
        return f"{_saying(reply)}, from {printable(reply.address)}"
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
