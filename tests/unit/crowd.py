"""A store of many targets, as hundreds of endpoints behind the same first routers give it.

A quarter each is open, closed, filtered behind hop 6 and rejected at hop 6 of 12; the first four
hops are those of all, the others each target's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from exporter.model import Answer, Hop, Observation, Place, Trace, Zone
from exporter.store import Store
from tests.unit import samples

SHARED_HOPS = 4
KINDS = (samples.opened, samples.closed, samples.filtered, samples.rejected)


def crowd(size: int) -> Store:
    """A store of so many targets, each of them observed once."""
    return samples.store(*(member(number) for number in range(size)))


def member(number: int, cycle: int = 0) -> Observation:
    """What the target of that number shows in a cycle: other times in each, and the same path."""
    kind = KINDS[number % len(KINDS)]
    seen = kind(f"target-{number:04}")
    assert seen.trace
    trace = _elsewhere(seen.trace, number, cycle)
    return replace(
        seen,
        started_at=samples.STARTED_AT + 60 * cycle + number * 60 / 1000,
        trace=trace,
        places=dict(_places(trace)),
    )


def _places(trace: Trace) -> Iterator[tuple[str, Place]]:
    for hop in trace.hops:
        zone = Zone.PLATFORM if hop.ttl <= samples.PLATFORM_HOPS else Zone.EXTERNAL
        yield from ((address, Place(zone, zone.value)) for address in hop.addresses)


def _elsewhere(trace: Trace, number: int, cycle: int) -> Trace:
    """The trace with the addresses and times of one target."""
    hops = (
        Hop(hop.ttl, hop.sent, tuple(_answer(answer, number, cycle) for answer in hop.answers))
        for hop in trace.hops
    )
    return replace(trace, hops=tuple(hops))


def _answer(answer: Answer, number: int, cycle: int) -> Answer:
    ttl, reply = answer.probe.ttl, answer.reply
    address = reply.address
    if ttl > SHARED_HOPS:
        address = f"10.{10 + number // 250}.{number % 250}.{ttl}"
    late = (number * 7919 + cycle * 104_729 + ttl * 31) % 1000 / 1e6
    return answer._replace(
        reply=reply._replace(address=address, received_at=reply.received_at + late)
    )
