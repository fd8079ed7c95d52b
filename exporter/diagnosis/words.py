"""A verdict's sentences and facts: the words, not the conclusions."""

from __future__ import annotations

from exporter.model import Handshake, Location, ReplyKind, Trace

WHERE = {
    Location.PLATFORM: "inside the platform",
    Location.BOUNDARY: "at the edge of the platform",
    Location.EXTERNAL: "outside the platform",
    Location.UNKNOWN: "inside or outside the platform is not known",
}


def facts_of(trace: Trace) -> tuple[str, ...]:
    """What was sent and what came back, in numbers."""
    flow = trace.flow
    sent = sum(hop.sent for hop in trace.hops)
    received = sum(hop.received for hop in trace.hops)
    # The connect engine has a source port for each probe.
    source = flow.source if trace.engine == "connect" else f"{flow.source}:{flow.source_port}"
    facts = [
        (
            f"{_count(sent, 'SYN')} from {source} to {destination_of(trace)} "
            f"with TTL 1 to {len(trace.hops)}, {received} answered"
        )
    ]
    if full := trace.confirmation:
        facts.append(
            f"{_count(full.sent, 'SYN')} with TTL {full.ttl}, {full.received} answered, "
            f"within {trace.duration:.1f} s"
        )
    if trace.duplicates:
        facts.append(f"not counted: {_count(trace.duplicates, 'duplicate')}")
    if rewriters := _rewriters(trace):
        facts.append(rewriters)
    return tuple(facts)


def _rewriters(trace: Trace) -> str | None:
    for hop in trace.hops:
        for answer in hop.answers:
            if answer.reply.rewritten:
                fields = ", ".join(answer.reply.rewritten)
                return (
                    f"from hop {hop.ttl} on, quoted probes differ in {fields}: address translation"
                )
    return None


def answer_text(kind: ReplyKind) -> str:
    """A reply's kind in the words of TCP."""
    return {ReplyKind.SYN_ACK: "SYN-ACK", ReplyKind.RST: "RST", ReplyKind.ACK: "ACK"}.get(
        kind, str(kind)
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def destination_of(trace: Trace) -> str:
    """Address and port as one word."""
    return f"{trace.flow.destination}:{trace.flow.destination_port}"


def range_text(suspects: tuple[int, int]) -> str:
    """A range of hops in words."""
    first, last = suspects
    if first == last:
        return f"hop {first}"
    return f"hop {first} or {last}" if first + 1 == last else f"one of the hops {first} to {last}"


def handshake_fact(handshake: Handshake | None) -> tuple[str, ...]:
    """The application's own view as a fact, none when it was not asked."""
    if handshake is None:
        return ()
    outcome = "succeeded" if handshake.success else f"failed: {handshake.error}"
    seconds = handshake.duration
    # The unit of the traces' own lines, publish/text.py.
    after = f"{seconds * 1000:.3f} ms" if seconds < 1 else f"{seconds:.3f} s"
    return (f"a plain connect() in the same cycle {outcome}, after {after}",)
