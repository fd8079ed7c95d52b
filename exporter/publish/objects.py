"""An observation as the JSON object that `trace --json`, the API and the JSON log share.

Its keys are a promise to scripts: add to them freely, rename none. Text stands in it as it
is; `to_json` escapes everything that is not plain ASCII.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace

from exporter.model import (
    Answer,
    Family,
    Handshake,
    Hop,
    MplsLabel,
    Observation,
    Place,
    Reply,
    ReplyKind,
    Target,
    Trace,
    Verdict,
)
from exporter.publish.change import (
    change_object,
    flapping_object,
    history_object,
    path_object,
)
from exporter.publish.controls import (
    Control,
    Kind,
    answer_of,
    controls_of,
    flows_of,
    outcome_of,
    probes_of,
    reply_ttl_of,
)
from exporter.publish.text import timestamp
from exporter.store import Record, Store


def to_json(value: Mapping[str, object], indent: int | None = None) -> str:
    """JSON in ASCII: control characters, ESC and direction marks are escaped, too."""
    return json.dumps(value, indent=indent)


def observation_object(observation: Observation) -> dict[str, object]:
    """One observation; `hops` holds every hop up to the last probed one, [] without a trace."""
    return {
        **_target_object(observation.target),
        **_measured_object(observation),
        "addresses": [_measured_object(one) for one in observation.each],
    }


def logged_object(observation: Observation) -> dict[str, object]:
    """The same for a log, which has less room: of what stands beside the trace the outcome."""
    return observation_object(replace(observation, each=())) | {
        "flows": [_outcome_object(one) for one in flows_of(observation.controlled)],
        "controls": [_named_object(one) for one in controls_of(observation.controlled)],
        "addresses": [
            {"address": one.address, "state": one.verdict.state.value} for one in observation.each
        ],
    }


def _measured_object(observation: Observation) -> dict[str, object]:
    """What was measured toward one address."""
    trace, address = observation.trace, observation.address
    return {
        "address": address,
        "family": address and Family.of(address).value,
        "source": trace and trace.flow.source,
        "engine": trace and trace.engine,
        "started_at": timestamp(observation.started_at),
        "duration_seconds": round(observation.duration, 6),
        "stop_reason": trace and trace.stop_reason.value,
        "gateway": trace and trace.gateway,
        "unseen_icmp_errors": trace and trace.unseen_errors,
        "hops": _hop_objects(observation, trace),
        "confirmation": _confirmation_object(observation, trace),
        "flows": [_flow_object(observation, one) for one in flows_of(observation.controlled)],
        "controls": [
            _control_object(observation, one) for one in controls_of(observation.controlled)
        ],
        "connect": _connect_object(observation.handshake),
        "failure": _failure_object(observation),
        "verdict": _verdict_object(observation.verdict),
    }


def record_object(record: Record) -> dict[str, object]:
    """The latest observation, and beside it what the record remembers."""
    return {
        **_latest_object(record),
        "last_good": observation_object(record.last_good) if record.last_good else None,
        "first_bad": observation_object(record.first_bad) if record.first_bad else None,
        "history": history_object(record),
        "path_change": path_object(record),
    }


def target_objects(store: Store) -> Iterator[dict[str, object]]:
    """The latest observation of every target, in the order of the configuration."""
    return map(_latest_object, store)


def _latest_object(record: Record) -> dict[str, object]:
    """The latest observation, or the same keys without values before the first one."""
    latest = record.latest
    return {
        **(observation_object(latest) if latest else _waiting_object(record.target)),
        "state_since": timestamp(record.history.since) if latest else None,
        "change": change_object(record) if latest else None,
        "flapping": flapping_object(record) if latest else None,
    }


def _waiting_object(target: Target) -> dict[str, object]:
    return {
        **_target_object(target),
        "address": None,
        "family": None,
        "source": None,
        "engine": None,
        "started_at": None,
        "duration_seconds": None,
        "stop_reason": None,
        "gateway": None,
        "unseen_icmp_errors": None,
        "hops": [],
        "confirmation": None,
        "flows": [],
        "controls": [],
        "connect": None,
        "failure": None,
        "verdict": None,
        "addresses": [],
    }


def _target_object(target: Target) -> dict[str, object]:
    return {
        "target": target.name,
        "host": target.host,
        "port": target.port,
        "labels": dict(target.labels),
    }


def _hop_object(observation: Observation, hop: Hop) -> dict[str, object]:
    return {
        "hop": hop.ttl,
        "sent": hop.sent,
        "received": hop.received,
        "shared": bool(hop.shared),
        "responders": _responder_objects(observation, hop),
    }


def _hop_objects(observation: Observation, trace: Trace | None) -> list[dict[str, object]]:
    """The hops of the trace itself, whose conditions are known."""
    conditions = observation.conditions
    return [
        {**_hop_object(observation, hop), "condition": conditions.get(hop.ttl)}
        for hop in (trace.hops if trace else ())
    ]


def _flow_object(observation: Observation, trace: Trace) -> dict[str, object]:
    """A further flow; `hops` are those that it asked."""
    return {
        **_outcome_object(trace),
        "hops": [_hop_object(observation, hop) for hop in trace.hops if hop.sent or hop.shared],
        "confirmation": _confirmation_object(observation, trace),
    }


def _control_object(observation: Observation, control: Control) -> dict[str, object]:
    """A control; the hops of another target's trace stand with that target."""
    if control.kind is Kind.ELSEWHERE:
        return {**_named_object(control), "hops": [], "confirmation": None}
    return {**_named_object(control), **_flow_object(observation, control.trace)}


def _named_object(control: Control) -> dict[str, object]:
    flow = control.trace.flow
    return {
        "control": control.kind.value,
        "address": flow.destination,
        "port": flow.destination_port or None,
        **_outcome_object(control.trace),
    }


def _outcome_object(trace: Trace) -> dict[str, object]:
    reply, (sent, received) = answer_of(trace), probes_of(trace)
    return {
        "source_port": trace.flow.source_port or None,
        "outcome": outcome_of(trace).value,
        "reply": reply and reply.kind.value,
        "distance": trace.distance,
        "reply_ttl": reply_ttl_of(trace),
        "sent": sent,
        "received": received,
    }


def _confirmation_object(observation: Observation, trace: Trace | None) -> dict[str, object] | None:
    """The SYNs that were meant to arrive; `ttl` is what they were sent with."""
    if trace is None or trace.confirmation is None:
        return None
    hop = trace.confirmation
    return {
        "ttl": hop.ttl,
        "sent": hop.sent,
        "received": hop.received,
        "responders": _responder_objects(observation, hop),
    }


def _responder_objects(observation: Observation, hop: Hop) -> list[dict[str, object]]:
    """One for each address, kind of reply and ICMP code, round-trip times by attempt.

    Where the hop has answered other traces alone, it is theirs that stand here.
    """
    groups: dict[tuple[str, ReplyKind, tuple[int, int] | None], list[Answer]] = {}
    for answer in sorted(hop.known, key=lambda answer: answer.probe.attempt):
        reply = answer.reply
        groups.setdefault((reply.address, reply.kind, reply.icmp), []).append(answer)
    return [_responder_object(observation, answers) for answers in groups.values()]


def _responder_object(observation: Observation, answers: list[Answer]) -> dict[str, object]:
    replies = [answer.reply for answer in answers]
    first = replies[0]
    return {
        "address": first.address,
        **_place_object(observation.place_of(first.address)),
        "reply": first.kind.value,
        "icmp": first.icmp and list(first.icmp),
        "rtt_seconds": [round(answer.rtt, 6) for answer in answers],
        "reply_ttl": first.ttl,
        "mpls": [_mpls_object(label) for label in _label_stack(replies)],
        "rewritten": sorted({field for reply in replies for field in reply.rewritten}),
    }


def _place_object(place: Place) -> dict[str, object]:
    """What is known of a responder; `zone` is the configured name, or else the side."""
    number, name = place.as_number, place.as_name
    return {
        "name": place.name,
        "zone": place.zone_name,
        "side": place.zone.value,
        "as": None if number is None else {"number": number, "name": name},
    }


def _label_stack(replies: list[Reply]) -> tuple[MplsLabel, ...]:
    """The first label stack that a reply of the responder showed."""
    return next((reply.mpls for reply in replies if reply.mpls), ())


def _mpls_object(label: MplsLabel) -> dict[str, object]:
    return {
        "label": label.label,
        "traffic_class": label.traffic_class,
        "bottom": label.bottom,
        "ttl": label.ttl,
    }


def _connect_object(handshake: Handshake | None) -> dict[str, object] | None:
    if handshake is None:
        return None
    return {
        "success": handshake.success,
        "duration_seconds": round(handshake.duration, 6),
        "error": handshake.error,
    }


def _failure_object(observation: Observation) -> dict[str, object] | None:
    trace = observation.trace
    failure = observation.failure or (trace.failure if trace else None)
    return {"reason": failure.reason.value, "message": failure.message} if failure else None


def _verdict_object(verdict: Verdict) -> dict[str, object]:
    return {
        "state": verdict.state.value,
        "last_reachable_hop": verdict.last_reachable_hop,
        "blocked_at_hop": verdict.blocked_at_hop,
        "suspect_hops": verdict.suspect_hops and list(verdict.suspect_hops),
        "blocked_by": verdict.blocked_by,
        "location": verdict.location.value,
        "confidence": verdict.confidence.value,
        "reason": verdict.reason,
        "evidence": list(verdict.evidence),
        "flows": verdict.flows,
        "flows_blocked": verdict.flows_blocked,
    }
