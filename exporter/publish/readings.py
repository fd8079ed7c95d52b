"""How a metric is read: a row of tables.py, its subjects, and the readers that rows share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from exporter.model import (
    TCP_KINDS,
    FailureReason,
    Family,
    Handshake,
    Hop,
    Observation,
    ReplyKind,
    Zone,
)
from exporter.publish.controls import Kind, Outcome, controls_of, outcome_of
from exporter.publish.log import LogStats
from exporter.store import Record, Store

#: The controls that are made for the target itself.
MEASURED = (Kind.PORT, Kind.ECHO, Kind.CANARY)

#: Each reason and its label; an Enum's `value` is a slow look-up.
REASONS = tuple((reason, (reason.value,)) for reason in FailureReason)

#: The values of a metric's own labels, and the number.
Sample = tuple[tuple[str, ...], float]
Subject = TypeVar("Subject")

#: The kinds of reply whose sender stands at the TTL of the probe. A device that rejects a
#: probe after its TTL check stands one hop nearer.
AT_THEIR_HOP = TCP_KINDS | {ReplyKind.TIME_EXCEEDED}


@dataclass(frozen=True, slots=True)
class Row(Generic[Subject]):
    """One metric; `read` gives its samples for one subject."""

    name: str
    type: str
    help: str
    labels: tuple[str, ...]
    read: Callable[[Subject], Iterable[Sample]]


@dataclass(frozen=True, slots=True)
class Reading:
    """What one scrape reads of a target: the record and its latest observation, if any."""

    record: Record
    latest: Observation | None
    path: tuple[Hop, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """What one scrape reads of the program itself."""

    store: Store
    log_stats: LogStats
    scrape_errors: int


# -- how a row is read -------------------------------------------------------------------

Reader = Callable[[Reading], Iterable[Sample]]


def of_record(read: Callable[[Record], float]) -> Reader:
    """One number, from the start on."""
    return lambda reading: [((), read(reading.record))]


def of_observation(read: Callable[[Observation], float | None]) -> Reader:
    """One number from the first trace on; none where it is None."""

    def samples(reading: Reading) -> Iterator[Sample]:
        value = read(reading.latest) if reading.latest else None
        if value is not None:
            yield (), value

    return samples


def of_handshake(read: Callable[[Handshake], float]) -> Reader:
    """One number where the latest cycle had a plain connect()."""
    return of_observation(lambda seen: read(seen.handshake) if seen.handshake else None)


def of_hops(read: Callable[[Record, Hop], float | None]) -> Reader:
    """A number for each hop of the path; none where it is None."""

    def samples(reading: Reading) -> Iterator[Sample]:
        for hop in reading.path:
            value = read(reading.record, hop)
            if value is not None:
                yield (str(hop.ttl),), value

    return samples


def one_of(values: type[StrEnum], read: Callable[[Observation], StrEnum]) -> Reader:
    """1 for the present value and 0 for each other one, from the first trace on."""
    # Read here once: an Enum's `value` is a slow look-up.
    labels = tuple((value, (value.value,)) for value in values)

    def samples(reading: Reading) -> Iterator[Sample]:
        if reading.latest:
            current = read(reading.latest)
            yield from ((label, value is current) for value, label in labels)

    return samples


def hop_info(reading: Reading) -> Iterator[Sample]:
    """The labels of each hop whose responder is known."""
    for hop in reading.path:
        if reading.latest and hop.known:
            address = hop.known[0].reply.address
            place = reading.latest.place_of(address)
            yield (str(hop.ttl), address, place.zone_name, place.name or ""), 1


def target_info(reading: Reading) -> Iterator[Sample]:
    """Host and port."""
    target = reading.record.target
    yield (target.host, str(target.port)), 1


def destination_info(reading: Reading) -> Iterator[Sample]:
    """The address, and its family."""
    if reading.latest and (address := reading.latest.address):
        yield (address, Family.of(address)), 1


def address_info(reading: Reading) -> Iterator[Sample]:
    """Each address, its family and state."""
    for one in reading.latest.each if reading.latest else ():
        if one.address:
            yield (one.address, Family.of(one.address), one.verdict.state), 1


def failures(reading: Reading) -> Iterator[Sample]:
    """How often each reason was met, from 0 on."""
    for reason, labels in REASONS:
        yield labels, reading.record.failures[reason]


def state_file(program: Program) -> Iterator[Sample]:
    """Whether the last write succeeded, once there was one."""
    written = program.store.state_file_written
    if written is not None:
        yield (), written


def controls_answered(reading: Reading) -> Iterator[Sample]:
    """Of several ports one answer is enough; what was not asked does not exist."""
    answered: dict[Kind, bool] = {}
    for one in controls_of(reading.latest.controlled) if reading.latest else ():
        if one.kind in MEASURED and (outcome := outcome_of(one.trace)) is not Outcome.NOT_MEASURED:
            answered[one.kind] = outcome is Outcome.REACHED or answered.get(one.kind, False)
    for kind, reached in answered.items():
        yield (kind.value,), reached


def suspect_hop(position: int) -> Callable[[Observation], float]:
    """Either end of the range, 0 where nothing is blocked."""

    def read(observation: Observation) -> float:
        suspects = observation.verdict.suspect_hops
        return suspects[position] if suspects else 0

    return read


def farthest_in(zone: Zone) -> Reader:
    """The farthest hop with a responder on that side of the edge, 0 where there is none."""
    return _first_in(zone, reversed)


def nearest_in(zone: Zone) -> Reader:
    """The nearest one."""
    return _first_in(zone, iter)


def _first_in(zone: Zone, order: Callable[[tuple[Hop, ...]], Iterator[Hop]]) -> Reader:
    def read(seen: Observation, path: tuple[Hop, ...]) -> int:
        return next((hop.ttl for hop in order(path) if _stands_in(zone, hop, seen)), 0)

    return lambda r: [((), read(r.latest, r.path))] if r.latest else ()


def _stands_in(zone: Zone, hop: Hop, seen: Observation) -> bool:
    # A set: most often one device has answered all probes.
    senders = {a.reply.address for a in hop.known if a.reply.kind in AT_THEIR_HOP}
    return any(seen.zone_of(address) is zone for address in senders)


def source(store: Store) -> tuple[str, ...]:
    """The labels of `egress_source_info`."""
    here = store.source
    return here.address, here.instance_index, here.instance_guid, here.cell
