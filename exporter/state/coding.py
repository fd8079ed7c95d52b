"""What is kept <-> plain values for JSON.

Lists stand where each target has many of a thing, objects where it has few. A trace loses what no
later verdict asks for: MPLS labels, rewritten fields, when a probe was sent. Of times on the
monotonic clock, which mean nothing after a restart, only round trips remain: `sent_at` is 0.

Decoding raises ValueError, KeyError or TypeError, whatever the values are; nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from exporter.history import MAX_CHANGES, MAX_REASON, History, Phase
from exporter.model import (
    FULL_TTL,
    Answer,
    Confidence,
    Flow,
    Hop,
    Known,
    Location,
    Observation,
    Probe,
    Reply,
    ReplyKind,
    State,
    StopReason,
    Target,
    Trace,
    Verdict,
)
from exporter.paths import MAX_BRANCHES, Moved, Path, PathChange
from exporter.state.checks import (
    MAX_TEXT,
    address,
    items,
    mapping,
    moment,
    number,
    one_of,
    optional,
    span,
    switch,
    text,
    whole,
)
from exporter.state.kept import Kept

Json = Mapping[str, object]

#: More than a configuration allows, or than a trace makes.
MAX_NAME = 1_000
MAX_ATTEMPTS = 255
MAX_ADDRESSES = 64
MAX_HOPS = 255
#: What is written of a verdict's evidence.
MAX_EVIDENCE = 32
MAX_FACT = 300
MAX_PORT = 65_535

# -- to JSON -----------------------------------------------------------------------------


def encoded(kept: Kept, most: int) -> Json:
    """A target with so many of its addresses, those traced last; with 0, without any trace."""
    known, paths = kept.known[-most:] if most else (), kept.paths[-most:] if most else ()
    seen = (kept.last_good, kept.first_bad) if most else (None, None)
    wanted = [*(one.last_good for _, one in known), *(one.trace for one in seen if one)]
    # Most are there twice: the last good trace of the target is that of its address.
    traces = {id(trace): trace for trace in wanted if trace}
    places = {trace: place for place, trace in enumerate(traces)}

    def place_of(trace: Trace | None) -> int | None:
        return places.get(id(trace))

    return {
        "name": kept.target.name,
        "host": kept.target.host,
        "port": kept.target.port,
        "history": _history(kept.history),
        "traces": [_trace(trace) for trace in traces.values()],
        "known": [[at, one.source_port, place_of(one.last_good)] for at, one in known],
        "paths": [[key, _path(path)] for key, path in paths],
        "path_change": kept.path_change and _path_change(kept.path_change),
        "last_good": seen[0] and _observation(seen[0], place_of(seen[0].trace)),
        "first_bad": seen[1] and _observation(seen[1], place_of(seen[1].trace)),
    }


def _history(history: History) -> Json:
    return {
        "phases": [[p.state.value, p.since, p.until, p.reason] for p in history.phases],
        "penalty": round(history.penalty, 3),
        "flapping": history.flapping,
    }


def _path(path: Path) -> list[object]:
    return [path.source_port, *([ttl, *sorted(at)] for ttl, at in path.hops.items())]


def _path_change(change: PathChange) -> list[object]:
    return [change.at, *([hop, list(before), list(after)] for hop, before, after in change.hops)]


def _observation(observation: Observation, trace: int | None) -> Json:
    return {
        "at": observation.started_at,
        "took": round(observation.duration, 6),
        "address": observation.address,
        "trace": trace,
        "verdict": _verdict(observation.verdict),
    }


def _verdict(verdict: Verdict) -> Json:
    return {
        "state": verdict.state.value,
        "last": verdict.last_reachable_hop,
        "reason": verdict.reason[:MAX_TEXT],
        "confidence": verdict.confidence.value,
        "blocked": verdict.blocked_at_hop,
        "suspects": verdict.suspect_hops,
        "by": verdict.blocked_by,
        "location": verdict.location.value,
        "evidence": [fact[:MAX_FACT] for fact in verdict.evidence[:MAX_EVIDENCE]],
        "flows": [verdict.flows_blocked, verdict.flows],
    }


def _trace(trace: Trace) -> Json:
    return {
        "flow": trace.flow,
        "engine": trace.engine,
        "at": trace.started_at,
        "took": round(trace.duration, 6),
        "stop": trace.stop_reason.value,
        "hops": [_hop(hop) for hop in trace.hops],
        "confirmation": trace.confirmation and [trace.confirmation.ttl, *_hop(trace.confirmation)],
    }


def _hop(hop: Hop) -> list[object]:
    """[sent, responder ...]; of a responder all round-trip times, by attempt.

    What a hop has answered others is not kept: it reads as one that was not asked.
    """
    groups: dict[tuple[object, ...], list[object]] = {}
    for answer in hop.answers:
        reply = answer.reply
        key = (reply.address, reply.kind.value, reply.icmp, reply.ttl)
        groups.setdefault(key, []).extend((answer.probe.attempt, round(max(answer.rtt, 0), 6)))
    sent = hop.sent if hop.answers or not hop.shared else 0
    return [sent, *([*key, *attempts] for key, attempts in groups.items())]


# -- from JSON ---------------------------------------------------------------------------


def decoded(value: object) -> Kept:
    """What was kept of a target."""
    of = mapping(value)
    target = Target(text(of["name"], MAX_NAME), text(of["host"], MAX_NAME), _port(of["port"]))
    traces = [_read_trace(one) for one in items(of["traces"], MAX_ADDRESSES)]
    return Kept(
        target=target,
        history=_read_history(mapping(of["history"])),
        known=tuple(_read_known(one, traces) for one in items(of["known"], MAX_ADDRESSES)),
        paths=tuple(_read_key_path(one) for one in items(of["paths"], MAX_ADDRESSES)),
        path_change=optional(_read_path_change, of["path_change"]),
        last_good=optional(lambda one: _read_observation(one, target, traces), of["last_good"]),
        first_bad=optional(lambda one: _read_observation(one, target, traces), of["first_bad"]),
    )


def _read_history(of: Mapping[str, Any]) -> History:
    return History(
        phases=tuple(_read_phase(one) for one in items(of["phases"], MAX_CHANGES + 1)),
        penalty=number(of["penalty"], 0, 100),
        flapping=switch(of["flapping"]),
    )


def _read_phase(value: object) -> Phase:
    state, since, until, reason = items(value, 4, 4)
    return Phase(one_of(State, state), moment(since), moment(until), text(reason, MAX_REASON))


def _read_known(value: object, traces: Sequence[Trace]) -> tuple[str, Known]:
    at, source_port, trace = items(value, 3, 3)
    return address(at), Known(_port(source_port), _numbered(trace, traces))


def _read_key_path(value: object) -> tuple[str, Path]:
    key, path = items(value, 2, 2)
    source_port, *hops = items(path, MAX_HOPS + 1, 1)
    return text(key, MAX_NAME), Path(_port(source_port), dict(map(_read_routers, hops)))


def _read_routers(value: object) -> tuple[int, frozenset[str]]:
    ttl, *routers = items(value, MAX_BRANCHES + 1, 1)
    return _ttl(ttl), frozenset(map(address, routers))


def _read_path_change(value: object) -> PathChange:
    at, *hops = items(value, MAX_HOPS + 1, 1)
    return PathChange(moment(at), tuple(map(_read_moved, hops)))


def _read_moved(value: object) -> Moved:
    hop, *sides = items(value, 3, 3)
    before, after = (tuple(map(address, items(side, MAX_BRANCHES, 1))) for side in sides)
    return Moved(_ttl(hop), before, after)


def _read_observation(value: object, target: Target, traces: Sequence[Trace]) -> Observation:
    of = mapping(value)
    return Observation(
        target=target,
        started_at=moment(of["at"]),
        duration=span(of["took"]),
        verdict=_read_verdict(mapping(of["verdict"])),
        address=optional(address, of["address"]),
        trace=_numbered(of["trace"], traces),
    )


def _read_verdict(of: Mapping[str, Any]) -> Verdict:
    flows_blocked, flows = (whole(one, 0, MAX_PORT) for one in items(of["flows"], 2, 2))
    return Verdict(
        state=one_of(State, of["state"]),
        last_reachable_hop=whole(of["last"], 0, MAX_HOPS),
        reason=text(of["reason"]),
        confidence=one_of(Confidence, of["confidence"]),
        blocked_at_hop=whole(of["blocked"], 0, MAX_HOPS),
        suspect_hops=optional(_read_suspects, of["suspects"]),
        blocked_by=optional(address, of["by"]),
        location=one_of(Location, of["location"]),
        evidence=tuple(text(fact, MAX_FACT) for fact in items(of["evidence"], MAX_EVIDENCE)),
        flows=flows,
        flows_blocked=flows_blocked,
    )


def _read_suspects(value: object) -> tuple[int, int]:
    first, last = (whole(one, 0, MAX_HOPS) for one in items(value, 2, 2))
    return first, last


def _read_trace(value: object) -> Trace:
    of = mapping(value)
    source, source_port, destination, destination_port = items(of["flow"], 4, 4)
    hops = items(of["hops"], FULL_TTL)
    return Trace(
        flow=Flow(
            address(source), _port(source_port), address(destination), _port(destination_port)
        ),
        engine=text(of["engine"], 20),
        started_at=moment(of["at"]),
        duration=span(of["took"]),
        stop_reason=one_of(StopReason, of["stop"]),
        hops=tuple(_read_hop(ttl, hop) for ttl, hop in enumerate(hops, start=1)),
        confirmation=optional(_read_confirmation, of["confirmation"]),
    )


def _read_confirmation(value: object) -> Hop:
    ttl, *hop = items(value, MAX_ATTEMPTS, 2)
    return _read_hop(_ttl(ttl), hop)


def _read_hop(ttl: int, value: object) -> Hop:
    sent, *responders = items(value, MAX_ATTEMPTS, 1)
    answers = [answer for one in responders for answer in _read_answers(ttl, one)]
    answers.sort(key=lambda answer: answer.probe.attempt)
    if len({answer.probe.attempt for answer in answers}) != len(answers):
        raise ValueError("has two answers to one probe")
    return Hop(ttl, whole(sent, len(answers), MAX_ATTEMPTS), tuple(answers))


def _read_answers(ttl: int, value: object) -> list[Answer]:
    at, kind, icmp, reply_ttl, *times = items(value, 4 + 2 * MAX_ATTEMPTS, 6)
    reply = Reply(
        one_of(ReplyKind, kind),
        address(at),
        received_at=0.0,
        ttl=optional(_octet, reply_ttl),
        icmp=optional(_read_icmp, icmp),
    )
    return [
        Answer(
            Probe(ttl, whole(attempt, 1, MAX_ATTEMPTS), 0.0), reply._replace(received_at=span(rtt))
        )
        for attempt, rtt in zip(times[::2], times[1::2], strict=True)
    ]


def _read_icmp(value: object) -> tuple[int, int]:
    kind, code = map(_octet, items(value, 2, 2))
    return kind, code


def _numbered(value: object, traces: Sequence[Trace]) -> Trace | None:
    return optional(lambda place: traces[whole(place, 0, len(traces) - 1)], value)


def _port(value: object) -> int:
    return whole(value, 0, MAX_PORT)


def _ttl(value: object) -> int:
    return whole(value, 1, MAX_HOPS)


def _octet(value: object) -> int:
    return whole(value, 0, 255)
