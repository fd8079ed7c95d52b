"""Somebody answered over TCP in the name of the destination."""

from __future__ import annotations

from exporter.diagnosis.case import Case
from exporter.diagnosis.placing import reply_distance
from exporter.diagnosis.words import answer_text, destination_of
from exporter.model import Answer, Confidence, ReplyKind, State, Verdict


def reached(case: Case, answers: list[Answer]) -> Verdict:
    """The verdict on a trace with these answers over TCP, at least one."""
    trace = case.trace
    kinds = {answer.reply.kind for answer in answers}
    is_open = bool(kinds - {ReplyKind.RST})
    distance = trace.distance
    nearest = min(answers, key=lambda answer: answer.probe.ttl).reply
    sender_at = reply_distance(nearest.ttl)
    nearer = distance is not None and sender_at is not None and sender_at < distance
    where = f"{destination_of(trace)}" + (f" at hop {distance}" if distance else "")
    if is_open:
        state, said = State.OPEN, f"{where} accepts TCP connections"
    else:
        state, said = State.CLOSED, f"{where} answers, but nothing listens on the port"
    seen = "not seen by this engine" if nearest.ttl is None else nearest.ttl
    evidence = [f"{answer_text(nearest.kind)} in the destination's name, reply TTL {seen}"]
    confidence = Confidence.HIGH
    if nearer:
        confidence = Confidence.LOW if state is State.CLOSED else Confidence.MEDIUM
        said += f", unless a device at hop {sender_at} answers in its name"
        evidence.append(
            f"the reply's own TTL {nearest.ttl} fits a sender at hop {sender_at}, "
            f"nearer than the hop {distance} at which the destination began to answer"
        )
    elif sender_at is None or distance is None or {ReplyKind.SYN_ACK, ReplyKind.RST} <= kinds:
        confidence = Confidence.MEDIUM
    return Verdict(
        state=state,
        last_reachable_hop=distance or trace.last_answering_ttl,
        reason=f"{said}.",
        confidence=confidence,
        evidence=tuple(evidence),
    )
