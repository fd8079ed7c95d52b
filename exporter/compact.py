"""An observation in less memory: what is equal is held once, for all targets and cycles.

The store holds up to three observations of each of a thousand targets, and most of that is answers.
Once a trace is complete, only the difference of an answer's two times is read. So `sent_at` becomes
0 and `received_at` the round-trip time, as in the state file, and all probes with one TTL and
attempt are equal. Addresses, ICMP codes and the ways in which hops behave are few as well, but a
trace as it comes from an engine has its own copy of each.

Its traces' packets are put together and compressed.

The canary's trace and those of other targets stay the values that they are: others hold them, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from sys import intern

from exporter.model import (
    Answer,
    Capture,
    Condition,
    Controlled,
    Hop,
    Observation,
    Probe,
    Reply,
    Trace,
)


def compact(observation: Observation) -> Observation:
    """The same observation, made of values that others share."""
    if observation.each:
        each = tuple(map(compact, observation.each))
        # It repeats the first of them (`Observation`), and shares its traces.
        return replace(
            each[0],
            started_at=observation.started_at,
            duration=observation.duration,
            verdict=observation.verdict,
            each=each,
        )
    return replace(
        observation,
        trace=observation.trace and _trace(observation.trace),
        places={intern(address): place for address, place in observation.places.items()},
        controlled=_controlled(observation.controlled),
        conditions=_conditions(tuple(observation.conditions.items())),
        capture=_capture(observation),
    )


def _capture(observation: Observation) -> Capture | None:
    row = observation.captured
    return Capture.of(row) if row else observation.capture


def _controlled(controlled: Controlled) -> Controlled:
    return replace(
        controlled,
        flows=tuple(map(_trace, controlled.flows)),
        ports=tuple(map(_trace, controlled.ports)),
        echo=controlled.echo and _trace(controlled.echo),
    )


def _trace(trace: Trace) -> Trace:
    return replace(
        trace,
        hops=tuple(map(_hop, trace.hops)),
        confirmation=trace.confirmation and _hop(trace.confirmation),
        captured=b"",
    )


def _hop(hop: Hop) -> Hop:
    if not hop.known:
        return _silent_hop(hop.ttl, hop.sent)
    return Hop(hop.ttl, hop.sent, tuple(map(_answer, hop.answers)), tuple(map(_answer, hop.shared)))


def _answer(answer: Answer) -> Answer:
    (ttl, attempt, sent_at), reply = answer
    kind, address, received_at, reply_ttl, icmp, quoted_ttl, rewritten, mpls = reply
    return Answer(
        _probe(ttl, attempt),
        Reply(
            kind,
            intern(address),
            received_at - sent_at,
            reply_ttl,
            icmp and _icmp(*icmp),
            quoted_ttl,
            rewritten,
            mpls,
        ),
    )


# -- what is shared ----------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _silent_hop(ttl: int, sent: int) -> Hop:
    return Hop(ttl, sent)


@lru_cache(maxsize=1024)
def _probe(ttl: int, attempt: int) -> Probe:
    return Probe(ttl, attempt, 0.0)


@lru_cache(maxsize=256)
def _icmp(kind: int, code: int) -> tuple[int, int]:
    return kind, code


@lru_cache(maxsize=1024)
def _conditions(items: tuple[tuple[int, Condition], ...]) -> Mapping[int, Condition]:
    return dict(items)
