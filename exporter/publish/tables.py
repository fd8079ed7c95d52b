"""The metrics as two tables, and how each is read.

A metric is one row of `TARGET_METRICS` (read for each target) or of `PROGRAM_METRICS` (read
once): its full name, type, help, the labels that it has beside the target's, and how to read
it. A row's reader yields the label values and the number of each sample; what it does not yield
does not exist, so vanished hops vanish. Samples bear no time stamps: a scrape says what is known
now, and how old it is stands in a metric of its own.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from exporter import __version__
from exporter.model import (
    TCP_KINDS,
    FailureReason,
    Family,
    Handshake,
    Hop,
    Location,
    Observation,
    ReplyKind,
    State,
    Zone,
)
from exporter.publish.controls import Kind, Outcome, controls_of, outcome_of
from exporter.publish.log import LogStats
from exporter.store import Record, Store

#: The controls that are made for the target itself.
MEASURED = (Kind.PORT, Kind.ECHO, Kind.CANARY)

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

    def samples(reading: Reading) -> Iterator[Sample]:
        if reading.latest:
            current = read(reading.latest)
            yield from (((value.value,), float(value is current)) for value in values)

    return samples


def _hop_info(reading: Reading) -> Iterator[Sample]:
    for hop in reading.path:
        if reading.latest and hop.answers:
            address = hop.addresses[0]
            place = reading.latest.place_of(address)
            yield (str(hop.ttl), address, place.zone_name, place.name or ""), 1


def _target_info(reading: Reading) -> Iterator[Sample]:
    target = reading.record.target
    yield (target.host, str(target.port)), 1


def _destination_info(reading: Reading) -> Iterator[Sample]:
    if reading.latest and (address := reading.latest.address):
        yield (address, Family.of(address)), 1


def _address_info(reading: Reading) -> Iterator[Sample]:
    for one in reading.latest.each if reading.latest else ():
        if one.address:
            yield (one.address, Family.of(one.address), one.verdict.state), 1


def _failures(reading: Reading) -> Iterator[Sample]:
    for reason in FailureReason:
        yield (reason.value,), reading.record.failures[reason]


def _state_file(program: Program) -> Iterator[Sample]:
    written = program.store.state_file_written
    if written is not None:
        yield (), written


def _controls_answered(reading: Reading) -> Iterator[Sample]:
    """Of several ports one answer is enough; what was not asked does not exist."""
    controls = controls_of(reading.latest.controlled) if reading.latest else ()
    for kind in MEASURED:
        outcomes = {outcome_of(one.trace) for one in controls if one.kind is kind}
        if outcomes - {Outcome.NOT_MEASURED}:
            yield (kind.value,), Outcome.REACHED in outcomes


def _suspect_hop(position: int) -> Callable[[Observation], float]:
    def read(observation: Observation) -> float:
        suspects = observation.verdict.suspect_hops
        return suspects[position] if suspects else 0

    return read


def _hops_in(observation: Observation, zone: Zone) -> Iterator[int]:
    """The hops with a responder on that side of the edge."""
    for hop in observation.trace.path if observation.trace else ():
        replies = (answer.reply for answer in hop.answers)
        if any(r.kind in AT_THEIR_HOP and observation.zone_of(r.address) is zone for r in replies):
            yield hop.ttl


TARGET_METRICS: tuple[Row[Reading], ...] = (
    Row(
        "egress_state",
        "gauge",
        "1 for the target's current state, 0 for each other one.",
        ("state",),
        one_of(State, lambda observation: observation.verdict.state),
    ),
    Row(
        "egress_blocked",
        "gauge",
        "1 for the side of the platform's edge on which the traffic is blocked, 0 for each "
        "other one; location none: no block was seen.",
        ("location",),
        one_of(Location, lambda observation: observation.verdict.location),
    ),
    Row(
        "egress_last_reachable_hop",
        "gauge",
        "Hop of the farthest device that answered, the destination's distance when reached; "
        "0: none.",
        (),
        of_observation(lambda observation: observation.verdict.last_reachable_hop),
    ),
    Row(
        "egress_blocked_at_hop",
        "gauge",
        "Hop of the device that rejects where it is known, else the first hop that the traffic "
        "no longer reaches; 0: not blocked.",
        (),
        of_observation(lambda observation: observation.verdict.blocked_at_hop),
    ),
    Row(
        "egress_suspect_hop_first",
        "gauge",
        "First hop of the smallest range that must contain the blocking device; 0: not blocked.",
        (),
        of_observation(_suspect_hop(0)),
    ),
    Row(
        "egress_suspect_hop_last",
        "gauge",
        "Last hop of the smallest range that must contain the blocking device; 0: not blocked.",
        (),
        of_observation(_suspect_hop(1)),
    ),
    Row(
        "egress_flows",
        "gauge",
        "Flows to the endpoint that were tried in the latest cycle; 0: none.",
        (),
        of_observation(lambda observation: observation.verdict.flows),
    ),
    Row(
        "egress_flows_blocked",
        "gauge",
        "Flows of these that are blocked; 0: none, or not known.",
        (),
        of_observation(lambda observation: observation.verdict.flows_blocked),
    ),
    Row(
        "egress_control_answered",
        "gauge",
        "Whether the control was answered in its destination's name in the latest cycle; absent "
        "when it was not made. Nobody should answer the canary.",
        ("control",),
        _controls_answered,
    ),
    Row(
        "egress_last_platform_hop",
        "gauge",
        "Farthest hop of the latest trace inside the platform; 0: none seen.",
        (),
        of_observation(lambda seen: max(_hops_in(seen, Zone.PLATFORM), default=0)),
    ),
    Row(
        "egress_first_external_hop",
        "gauge",
        "Nearest hop of the latest trace outside the platform; 0: none seen.",
        (),
        of_observation(lambda seen: min(_hops_in(seen, Zone.EXTERNAL), default=0)),
    ),
    Row(
        "egress_hop_rtt_seconds",
        "gauge",
        "Lowest round-trip time of the hop in the latest trace; absent when silent.",
        ("hop",),
        of_hops(lambda _, hop: hop.best_rtt),
    ),
    Row(
        "egress_hop_probes_total",
        "counter",
        "Probes sent with the hop's TTL.",
        ("hop",),
        of_hops(lambda record, hop: record.hop_probes.get(hop.ttl, 0)),
    ),
    Row(
        "egress_hop_replies_total",
        "counter",
        "Probes with the hop's TTL that were answered.",
        ("hop",),
        of_hops(lambda record, hop: record.hop_replies.get(hop.ttl, 0)),
    ),
    Row(
        "egress_hop_info",
        "info",
        "First responder of the hop in the latest trace.",
        ("hop", "address", "zone", "name"),
        _hop_info,
    ),
    Row(
        "egress_connect_success",
        "gauge",
        "Whether a plain connect() in the same cycle succeeded; absent when there was none.",
        (),
        of_handshake(lambda handshake: handshake.success),
    ),
    Row(
        "egress_connect_duration_seconds",
        "gauge",
        "How long the plain connect() took to succeed or fail; absent when there was none.",
        (),
        of_handshake(lambda handshake: handshake.duration),
    ),
    Row(
        "egress_path_changes_total",
        "counter",
        "Traces in which other routers answered than before; a hop that falls silent is no change.",
        (),
        of_record(lambda record: record.path_changes),
    ),
    Row(
        "egress_state_changes_total",
        "counter",
        "Changes of the state; a single unknown one between two equal states is none.",
        (),
        of_record(lambda record: record.history.changes),
    ),
    Row(
        "egress_flapping",
        "gauge",
        "Whether the state has changed too often of late to be told change by change.",
        (),
        of_record(lambda record: record.history.flapping),
    ),
    Row(
        "egress_traces_total",
        "counter",
        "Traces made, the failed ones included.",
        (),
        of_record(lambda record: record.traces),
    ),
    Row(
        "egress_trace_failures_total",
        "counter",
        "Traces that this program or its host could not make, by reason.",
        ("reason",),
        _failures,
    ),
    Row(
        "egress_skipped_ticks_total",
        "counter",
        "Traces left out because the target's last one was still running.",
        (),
        of_record(lambda record: record.skipped_ticks),
    ),
    Row(
        "egress_last_trace_timestamp_seconds",
        "gauge",
        "End of the latest trace in seconds since the epoch.",
        (),
        of_observation(lambda observation: observation.started_at + observation.duration),
    ),
    Row(
        "egress_last_trace_duration_seconds",
        "gauge",
        "How long the latest trace took.",
        (),
        of_observation(lambda observation: observation.duration),
    ),
    Row(
        "egress_trace_interval_seconds",
        "gauge",
        "Configured time from the start of one trace to the start of the next.",
        (),
        of_record(lambda record: record.target.interval),
    ),
    Row(
        "egress_target_info",
        "info",
        "What is configured for the target.",
        ("host", "port"),
        _target_info,
    ),
    Row(
        "egress_destination_info",
        "info",
        "Address to which the target resolved for the latest trace.",
        ("address", "family"),
        _destination_info,
    ),
    Row(
        "egress_address_info",
        "info",
        "Each address of the target in the latest cycle, where all addresses are traced, and its "
        "state.",
        ("address", "family", "state"),
        _address_info,
    ),
)

PROGRAM_METRICS: tuple[Row[Program], ...] = (
    Row(
        "egress_source_info",
        "info",
        "Where the probes come from.",
        ("address", "instance_index", "instance_guid", "cell"),
        lambda program: [(_source(program.store), 1)],
    ),
    Row(
        "egress_engine_info",
        "info",
        "Which engine runs, and why.",
        ("engine", "reason"),
        lambda program: [((program.store.engine.name, program.store.engine.explanation), 1)],
    ),
    Row(
        "egress_unseen_icmp_errors_total",
        "counter",
        "ICMP errors that the kernel kept from the engine, for the sequence number that they quote "
        "is not the one that was sent; those of all connections in this network namespace.",
        (),
        lambda program: [((), program.store.unseen_errors)],
    ),
    Row(
        "egress_build_info",
        "info",
        "Version of this program and of the Python that runs it.",
        ("version", "pythonversion"),
        lambda _: [((__version__, platform.python_version()), 1)],
    ),
    Row(
        "egress_config_last_reload_successful",
        "gauge",
        "Whether the last reading of the configuration succeeded.",
        (),
        lambda program: [((), program.store.reload.successful)],
    ),
    Row(
        "egress_config_last_reload_success_timestamp_seconds",
        "gauge",
        "When the configuration was last read with success, in seconds since the epoch.",
        (),
        lambda program: [((), program.store.reload.at)],
    ),
    Row(
        "egress_state_file_last_write_successful",
        "gauge",
        "Whether the last writing of the state file succeeded; absent before the first one.",
        (),
        _state_file,
    ),
    Row(
        "egress_log_lines_dropped_total",
        "counter",
        "Log entries lost because the log's reader was too slow or the log's budget was spent.",
        (),
        lambda program: [((), program.log_stats.dropped)],
    ),
    Row(
        "egress_scrape_errors_total",
        "counter",
        "Targets that had to be left out of a scrape because of an error in this program.",
        (),
        lambda program: [((), program.scrape_errors)],
    ),
)


def series_of_target(hops: int) -> int:
    """How many series one target has with a path of so many hops that all answer.

    With all_addresses there is one more for each address.
    """
    sizes = {
        "hop": hops,
        "state": len(State),
        "location": len(Location),
        "reason": len(FailureReason),
        "control": len(MEASURED),
    }
    rows = (row for row in TARGET_METRICS if row.read is not _address_info)
    return sum(sizes.get(row.labels[0], 1) if row.labels else 1 for row in rows)


def series_of_program() -> int:
    """How many series there are whatever the targets, those of the process left out."""
    return len(PROGRAM_METRICS)


def _source(store: Store) -> tuple[str, ...]:
    source = store.source
    return source.address, source.instance_index, source.instance_guid, source.cell
