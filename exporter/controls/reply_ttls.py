"""Reply TTLs that the engine did not see, written into a trace once they are measured."""

from __future__ import annotations

from dataclasses import replace

from exporter.model import TCP_KINDS, Answer, Hop, Trace


def lacks_reply_ttl(trace: Trace) -> bool:
    """Whether it has replies over TCP whose own TTL the engine did not see."""
    return any(a.reply.kind in TCP_KINDS and a.reply.ttl is None for a in trace.answers)


def with_reply_ttl(trace: Trace, ttl: int) -> Trace:
    """The trace, its replies over TCP having come with this TTL where the engine saw none."""
    confirmation = trace.confirmation
    return replace(
        trace,
        hops=tuple(_hop_with_reply_ttl(hop, ttl) for hop in trace.hops),
        confirmation=confirmation and _hop_with_reply_ttl(confirmation, ttl),
    )


def _hop_with_reply_ttl(hop: Hop, ttl: int) -> Hop:
    return replace(hop, answers=tuple(_answer_with_reply_ttl(one, ttl) for one in hop.answers))


def _answer_with_reply_ttl(answer: Answer, ttl: int) -> Answer:
    reply = answer.reply
    if reply.kind not in TCP_KINDS or reply.ttl is not None:
        return answer
    return answer._replace(reply=reply._replace(ttl=ttl))
