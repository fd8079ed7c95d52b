"""The metrics as two tables, and how each is read.

A metric is one row of `TARGET_METRICS` (read for each target) or of `PROGRAM_METRICS` (read
once): its full name, type, help, the labels that it has beside the target's, and how to read
it. A row's reader yields the label values and the number of each sample; what it does not yield
does not exist, so vanished hops vanish. Samples bear no time stamps: a scrape says what is known
now, and how old it is stands in a metric of its own.
"""

from __future__ import annotations

import platform

from exporter import __version__
from exporter.model import (
    FailureReason,
    Location,
    State,
    Zone,
)
from exporter.publish.readings import (
    MEASURED,
    Program,
    Reading,
    Row,
    address_info,
    controls_answered,
    destination_info,
    failures,
    farthest_in,
    hop_info,
    nearest_in,
    of_handshake,
    of_hops,
    of_observation,
    of_record,
    one_of,
    source,
    state_file,
    suspect_hop,
    target_info,
)

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
        of_observation(suspect_hop(0)),
    ),
    Row(
        "egress_suspect_hop_last",
        "gauge",
        "Last hop of the smallest range that must contain the blocking device; 0: not blocked.",
        (),
        of_observation(suspect_hop(1)),
    ),
    Row(
        "egress_flows",
        "gauge",
        "Flows to the endpoint of the latest cycle of which is known whether they pass; 0: none.",
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
        controls_answered,
    ),
    Row(
        "egress_last_platform_hop",
        "gauge",
        "Farthest hop of the latest trace inside the platform; 0: none seen.",
        (),
        farthest_in(Zone.PLATFORM),
    ),
    Row(
        "egress_first_external_hop",
        "gauge",
        "Nearest hop of the latest trace outside the platform; 0: none seen.",
        (),
        nearest_in(Zone.EXTERNAL),
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
        hop_info,
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
        failures,
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
        target_info,
    ),
    Row(
        "egress_destination_info",
        "info",
        "Address to which the target resolved for the latest trace.",
        ("address", "family"),
        destination_info,
    ),
    Row(
        "egress_address_info",
        "info",
        "Each address of the target in the latest cycle, where all addresses are traced, and its "
        "state.",
        ("address", "family", "state"),
        address_info,
    ),
)

PROGRAM_METRICS: tuple[Row[Program], ...] = (
    Row(
        "egress_source_info",
        "info",
        "Where the probes come from.",
        ("address", "instance_index", "instance_guid", "cell"),
        lambda program: [(source(program.store), 1)],
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
        "egress_scheduler_lag_seconds",
        "gauge",
        "How late traces begin: the longest wait for a place now, or that of a trace of the last "
        "minute.",
        (),
        lambda program: [((), program.store.scheduler_lag())],
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
        "egress_targets_configured",
        "gauge",
        "Targets of the configuration, those that other instances trace included.",
        (),
        lambda program: [((), program.store.configured)],
    ),
    Row(
        "egress_targets_traced",
        "gauge",
        "How many of them this instance traces.",
        (),
        lambda program: [((), len(program.store))],
    ),
    Row(
        "egress_discovery_last_refresh_successful",
        "gauge",
        "Whether the last look at a source of discovered targets succeeded; after one that did "
        "not, what it named before stays.",
        ("source",),
        lambda program: [((s.source,), s.successful) for s in program.store.sources],
    ),
    Row(
        "egress_discovery_targets",
        "gauge",
        "Targets that a source of discovered targets names.",
        ("source",),
        lambda program: [((s.source,), s.targets) for s in program.store.sources],
    ),
    Row(
        "egress_discovery_left_out_entries",
        "gauge",
        "Entries of a source of discovered targets that cannot be targets and are left out.",
        ("source",),
        lambda program: [((s.source,), s.left_out) for s in program.store.sources],
    ),
    Row(
        "egress_state_file_last_write_successful",
        "gauge",
        "Whether the last writing of the state file succeeded; absent before the first one.",
        (),
        state_file,
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
    rows = (row for row in TARGET_METRICS if row.read is not address_info)
    return sum(sizes.get(row.labels[0], 1) if row.labels else 1 for row in rows)


def series_of_program() -> int:
    """How many series there are whatever the targets, those of the process left out."""
    return len(PROGRAM_METRICS)
