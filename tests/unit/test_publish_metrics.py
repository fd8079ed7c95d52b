"""/metrics: what exists when, under which names and labels, and that nothing makes it fail."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pytest
from prometheus_client import Metric, generate_latest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.config.values import RESERVED_LABELS
from exporter.model import (
    Controlled,
    EngineStatus,
    Failure,
    FailureReason,
    Hop,
    Location,
    Observation,
    Place,
    ReloadStatus,
    ReplyKind,
    State,
    StopReason,
    Target,
)
from exporter.publish import metrics, tables
from exporter.publish.log import LogStats
from exporter.publish.metrics import Exposition, ProgramCollector, Writer
from exporter.publish.tables import (
    PROGRAM_METRICS,
    TARGET_METRICS,
    series_of_program,
    series_of_target,
)
from exporter.state.kept import keep, restore
from exporter.store import Record, Store
from tests.conftest import Golden
from tests.unit import samples
from tests.unit.crowd import crowd, member
from tests.unit.scraping import ENCODERS, Encode, exposed, plainly_exposed, scraped, without_process

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"

#: The design's names: type, and the labels beside `target` and the configuration's.
OF_TARGET = {
    "egress_state": ("gauge", "state"),
    "egress_blocked": ("gauge", "location"),
    "egress_last_reachable_hop": ("gauge", ""),
    "egress_blocked_at_hop": ("gauge", ""),
    "egress_suspect_hop_first": ("gauge", ""),
    "egress_suspect_hop_last": ("gauge", ""),
    "egress_flows": ("gauge", ""),
    "egress_flows_blocked": ("gauge", ""),
    "egress_control_answered": ("gauge", "control"),
    "egress_last_platform_hop": ("gauge", ""),
    "egress_first_external_hop": ("gauge", ""),
    "egress_hop_rtt_seconds": ("gauge", "hop"),
    "egress_hop_probes_total": ("counter", "hop"),
    "egress_hop_replies_total": ("counter", "hop"),
    "egress_hop_info": ("info", "hop address zone name"),
    "egress_connect_success": ("gauge", ""),
    "egress_connect_duration_seconds": ("gauge", ""),
    "egress_path_changes_total": ("counter", ""),
    "egress_state_changes_total": ("counter", ""),
    "egress_flapping": ("gauge", ""),
    "egress_traces_total": ("counter", ""),
    "egress_trace_failures_total": ("counter", "reason"),
    "egress_skipped_ticks_total": ("counter", ""),
    "egress_last_trace_timestamp_seconds": ("gauge", ""),
    "egress_last_trace_duration_seconds": ("gauge", ""),
    "egress_trace_interval_seconds": ("gauge", ""),
    "egress_target_info": ("info", "host port"),
    "egress_destination_info": ("info", "address family"),
    "egress_address_info": ("info", "address family state"),
}
OF_PROGRAM = {
    "egress_source_info": ("info", "address instance_index instance_guid cell"),
    "egress_engine_info": ("info", "engine reason"),
    "egress_unseen_icmp_errors_total": ("counter", ""),
    "egress_scheduler_lag_seconds": ("gauge", ""),
    "egress_build_info": ("info", "version pythonversion"),
    "egress_config_last_reload_successful": ("gauge", ""),
    "egress_config_last_reload_success_timestamp_seconds": ("gauge", ""),
    "egress_targets_configured": ("gauge", ""),
    "egress_targets_traced": ("gauge", ""),
    "egress_discovery_last_refresh_successful": ("gauge", "source"),
    "egress_discovery_targets": ("gauge", "source"),
    "egress_discovery_left_out_entries": ("gauge", "source"),
    "egress_state_file_last_write_successful": ("gauge", ""),
    "egress_log_lines_dropped_total": ("counter", ""),
    "egress_scrape_errors_total": ("counter", ""),
}
#: They exist from the first trace on, whatever it found.
VERDICT_GAUGES = (
    *("egress_last_reachable_hop", "egress_blocked_at_hop"),
    *("egress_suspect_hop_first", "egress_suspect_hop_last"),
    *("egress_last_platform_hop", "egress_first_external_hop"),
    *("egress_flows", "egress_flows_blocked"),
)
#: Before the first trace there is what is configured, and counters from 0.
BEFORE_THE_FIRST_TRACE = {
    "egress_path_changes_total",
    "egress_state_changes_total",
    "egress_flapping",
    "egress_traces_total",
    "egress_trace_failures_total",
    "egress_skipped_ticks_total",
    "egress_trace_interval_seconds",
    "egress_target_info",
}

ADDRESSES = "egress_address_info"
CHANGES = ("egress_state_changes_total", "egress_flapping")

Labels = Mapping[str, str]


class Scrape:
    """The samples of one scrape, read back from the text format."""

    def __init__(self, store: Store) -> None:
        text = exposed(store)
        self.samples = [sample for family in parse_text(text) for sample in family.samples]

    def names(self) -> set[str]:
        """The names that begin with egress_."""
        return {s.name for s in self.samples if s.name.startswith("egress_")}

    def labels(self, name: str) -> list[Labels]:
        """The labels of every series of a metric."""
        return [sample.labels for sample in self.samples if sample.name == name]

    def values(self, name: str, label: str) -> dict[str, float]:
        """Label value -> number, of a metric of one target."""
        return {s.labels[label]: s.value for s in self.samples if s.name == name}

    def value(self, name: str, **labels: str) -> float | None:
        """The number of one series, None when it does not exist."""
        found = [
            sample.value
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        assert len(found) <= 1
        return found[0] if found else None


def scrape(*observations: Observation, waiting: Iterable[Target] = ()) -> Scrape:
    """One scrape of a store that has taken them in."""
    return Scrape(samples.store(*observations, waiting=waiting))


def full_store() -> Store:
    """Every kind of sample, a target with labels, one that waits, and one that attacks."""
    web = samples.opened()
    labelled = replace(web, target=replace(web.target, name="shop", labels=(("team", "a"),)))
    return samples.store(
        *samples.SAMPLES.values(), labelled, samples.hostile(), waiting=[samples.target("next")]
    )


def metadata(text: str, keyword: str) -> dict[str, str]:
    """Metric -> what its HELP or TYPE line says."""
    return dict(re.findall(rf"^# {keyword} (\S+) (.+)$", text, re.MULTILINE))


# -- the tables ------------------------------------------------------------------------


def test_the_tables_hold_the_promised_metrics() -> None:
    """Names, types and labels are those that dashboards and rules rest on."""
    for rows, promised in ((TARGET_METRICS, OF_TARGET), (PROGRAM_METRICS, OF_PROGRAM)):
        assert {row.name: (row.type, " ".join(row.labels)) for row in rows} == promised


@pytest.mark.parametrize("name", [*OF_TARGET, *OF_PROGRAM])
def test_every_metric_is_exposed_with_help_type_and_labels(name: str) -> None:
    """Each metric of the design comes out of a scrape with all that belongs to it."""
    text = exposed(full_store())
    type_, own = {**OF_TARGET, **OF_PROGRAM}[name]
    # The text format has no info type: Prometheus' own are gauges.
    assert metadata(text, "TYPE")[name] == {"info": "gauge"}.get(type_, type_)
    assert metadata(text, "HELP")[name].endswith(".")
    base = {"target", "team"} if name in OF_TARGET else set()
    expected = base | set(own.split())
    found = Scrape(full_store()).labels(name)
    assert found
    assert all(set(labels) == expected for labels in found)


def test_no_configured_label_can_meet_a_label_of_the_metrics() -> None:
    """The configuration refuses every label name that a target's metric has of its own."""
    own = {label for row in TARGET_METRICS for label in row.labels}
    assert own | {"target"} <= RESERVED_LABELS


def test_the_exposition_is_the_approved_one(
    golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exposition of all samples is that of the golden file, up to what is the process's."""
    monkeypatch.setattr(tables, "__version__", "1.2.3")
    monkeypatch.setattr(platform, "python_version", lambda: "3.11.0")
    golden("metrics.txt", without_process(exposed(full_store())))


@pytest.mark.parametrize("encode", ENCODERS.values(), ids=ENCODERS)
@pytest.mark.parametrize("store", [full_store(), crowd(40), samples.store()])
def test_the_lines_are_those_of_a_plain_collector(store: Store, encode: Encode) -> None:
    """What is written from templates is, byte for byte, what prometheus_client would write."""
    plain = plainly_exposed(store, encode).removesuffix("# EOF\n")
    assert exposed(store, encode=encode).startswith(plain)
    if encode is generate_latest:
        assert [s for f in parse_text(plain) for s in f.samples] == [
            sample for sample in Scrape(store).samples if sample.name.startswith("egress_")
        ]


def test_promtool_has_nothing_to_say() -> None:
    """`promtool check metrics` is silent about everything that a scrape gives."""
    text = exposed(full_store()).encode()
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


# -- what is written when --------------------------------------------------------------


def test_only_what_has_changed_is_written_anew() -> None:
    """A second scrape writes the lines of the targets that were observed since, or skipped."""
    store = crowd(8)
    exposition = Exposition(store, LogStats())
    with patch.object(metrics.Writer, "lines", autospec=True, side_effect=Writer.lines) as lines:
        scraped(exposition)
        assert lines.call_count == 8
        store.add(member(3, cycle=1))
        store.skip("target-0005")
        text = scraped(exposition)
        assert [call.args[1].target.name for call in lines.call_args_list[8:]] == [
            *("target-0003", "target-0005")
        ]
    assert without_process(text) == without_process(exposed(store))


def test_metrics_that_stay_the_same_keep_their_text() -> None:
    """Of a target that was observed anew only the metrics that are other ones are written."""
    store = crowd(1)
    exposition = Exposition(store, LogStats())
    scraped(exposition)
    before = exposition._lines["target-0000"]
    store.add(member(0, cycle=1))
    text = scraped(exposition)
    after = exposition._lines["target-0000"]
    pairs = zip(TARGET_METRICS, before.families, after.families, strict=True)
    kept = {row.name for row, was, now in pairs if was is now}
    assert {"egress_state", "egress_hop_info", "egress_target_info"} <= kept
    assert not {"egress_hop_rtt_seconds", "egress_traces_total"} & kept
    assert without_process(text) == without_process(exposed(store))


def test_another_value_of_a_label_is_written_into_every_line() -> None:
    """The text of a metric that stays the same is not kept when the target's labels change."""
    store = samples.store(samples.opened("web"))
    exposition = Exposition(store, LogStats())
    (record,) = store
    for team in ("a", "{b}%s"):
        store.configure([replace(record.target, labels=(("team", team),))])
        scraped(exposition)
    text = scraped(exposition)
    assert 'team="a"' not in text
    assert text.count('team="{b}%s"') == text.count('target="')


def test_each_change_gives_a_record_another_version() -> None:
    """Whoever changes a record says so, and no version is used twice."""
    store = samples.store(samples.opened("web"))
    (record,) = store
    changes: tuple[Callable[[], object], ...] = (
        lambda: store.add(samples.filtered("web")),
        lambda: store.skip("web"),
        lambda: store.configure([replace(record.target, interval=5)]),
        lambda: restore(record, keep(record), lambda _: {}),
    )
    versions = [record.version]
    for change in changes:
        change()
        versions.append(record.version)
    versions.append(Record(record.target).version)
    assert versions == sorted(set(versions))


def test_a_scrape_never_mixes_two_versions_of_a_target() -> None:
    """All that a scrape says of a target is of one cycle, whatever is observed meanwhile."""
    store = crowd(200)
    exposition = Exposition(store, LogStats())
    cycles = {name: {1} for name in (record.target.name for record in store)}
    for cycle in (2, 3):
        pieces, made = exposition.pieces(generate_latest, ()), []
        for number, piece in enumerate(pieces):
            made.append(piece)
            store.add(member(number * 7 % 200, cycle))
        families = {f.name: f.samples for f in parse_text(b"".join(made).decode())}
        traces = {s.labels["target"]: s.value for s in families["egress_traces"]}
        probes = [s for s in families["egress_hop_probes"] if s.labels["hop"] == "1"]
        assert {s.labels["target"]: s.value / 3 for s in probes} == traces
        for name, value in traces.items():
            cycles[name].add(int(value))
    assert max(map(len, cycles.values())) > 1


def test_every_piece_is_quick_to_make() -> None:
    """The lines of one target, or of a metric of a hundred targets: no piece is large."""
    pieces = list(Exposition(crowd(250), LogStats()).pieces(generate_latest, ()))
    assert pieces[:250] == [b""] * 250
    assert max(map(len, pieces)) < 200_000


def test_other_labels_are_written_into_every_line() -> None:
    """After a reload with another label no target shows the old set."""
    store = crowd(3)
    exposition = Exposition(store, LogStats())
    scraped(exposition)
    (first, *others) = (record.target for record in store)
    store.configure([replace(first, labels=(("team", "a"),)), *others])
    text = scraped(exposition)
    assert without_process(text) == without_process(exposed(store))
    assert text.count('team="a"') + text.count('team=""') == text.count('target="')


def test_nothing_is_kept_of_a_target_that_is_gone() -> None:
    """The lines of a removed target go with it."""
    store = crowd(3)
    exposition = Exposition(store, LogStats())
    scraped(exposition)
    store.configure([record.target for record in store][:1])
    scraped(exposition)
    assert set(exposition._lines) == {"target-0000"}


# -- when a series exists --------------------------------------------------------------


def test_before_the_first_trace_nothing_is_said_about_the_path() -> None:
    """A waiting target has its configuration and counters at 0, and no verdict."""
    seen = scrape(waiting=[samples.target("next")])
    assert seen.names() == BEFORE_THE_FIRST_TRACE | set(OF_PROGRAM)
    assert seen.value("egress_traces_total") == 0
    assert seen.values("egress_trace_failures_total", "reason") == dict.fromkeys(FailureReason, 0)


@pytest.mark.parametrize("kind", samples.SAMPLES)
def test_verdict_gauges_exist_from_the_first_trace_on(kind: str) -> None:
    """Each gauge of the verdict is there whatever was found, with 0 for "not so"."""
    observation = samples.SAMPLES[kind]
    seen = scrape(observation)
    assert all(seen.value(name) is not None for name in VERDICT_GAUGES)
    for name, values, current in (
        ("egress_state", State, observation.verdict.state),
        ("egress_blocked", Location, observation.verdict.location),
    ):
        label = "state" if values is State else "location"
        assert seen.values(name, label) == {v: float(v is current) for v in values}


def test_changes_and_flapping_are_told() -> None:
    """Too many changes raise a gauge; the state is the latest one all the same."""
    good = samples.opened()
    bad = replace(samples.filtered(), target=good.target)
    steady, flapping = scrape(good, bad), scrape(*(good, bad) * 3)
    assert [steady.value(name) for name in CHANGES] == [1, 0]
    assert [flapping.value(name) for name in CHANGES] == [5, 1]
    assert flapping.value("egress_state", state="filtered") == 1


@pytest.mark.parametrize(("written", "value"), [(True, 1), (False, 0), (None, None)])
def test_the_last_writing_of_the_state_file_is_told(
    *, written: bool | None, value: float | None
) -> None:
    """Whether it succeeded; nothing where none was tried."""
    store = samples.store()
    store.state_file_written = written
    assert Scrape(store).value("egress_state_file_last_write_successful") == value


def test_the_gauges_of_a_block() -> None:
    """A filtered target shows the hops of its verdict and where the platform ends."""
    seen = scrape(samples.filtered())
    assert [seen.value(name) for name in VERDICT_GAUGES] == [6, 7, 6, 7, 2, 3, 0, 0]


def test_the_gauges_of_an_open_path() -> None:
    """Not blocked is 0, and the destination's distance is the last reachable hop."""
    seen = scrape(samples.opened())
    assert [seen.value(name) for name in VERDICT_GAUGES] == [12, 0, 0, 0, 2, 3, 0, 0]


def test_a_rejecting_device_is_no_hop_of_its_zone_at_the_ttl_of_the_probe() -> None:
    """The firewall at the platform's last hop, seen again at the next TTL, stays where it is."""
    refusal = samples.end(3, ReplyKind.UNREACHABLE, by=samples.address(2), icmp=(3, 13))
    rejected = samples.rejected()
    path = samples.trace((*samples.routers(2), refusal), StopReason.ICMP_ERROR)
    assert scrape(replace(rejected, trace=path)).value("egress_last_platform_hop") == 2


def test_a_silent_hop_has_no_round_trip_time() -> None:
    """Silence is no number; its probes are counted nevertheless."""
    seen = scrape(samples.varied())
    assert seen.value("egress_hop_rtt_seconds", hop="6") is None
    assert seen.value("egress_hop_probes_total", hop="6") == 3
    assert seen.value("egress_hop_replies_total", hop="6") == 0
    assert seen.value("egress_hop_rtt_seconds", hop="2") == pytest.approx(0.00202)
    assert not [labels for labels in seen.labels("egress_hop_info") if labels["hop"] == "6"]


def test_a_challenge_ack_gives_no_round_trip_time() -> None:
    """An ACK answers an earlier SYN, so its time is left out; the reply counts."""
    hops = (samples.router(1), samples.end(2, ReplyKind.ACK))
    opened = samples.opened()
    seen = scrape(replace(opened, trace=samples.trace(hops, StopReason.DESTINATION)))
    assert seen.value("egress_hop_rtt_seconds", hop="2") is None
    assert seen.value("egress_hop_replies_total", hop="2") == 3


def test_each_hop_has_one_address() -> None:
    """Load balancing over several routers does not multiply the series of a hop."""
    hops = [labels["hop"] for labels in scrape(samples.varied()).labels("egress_hop_info")]
    assert sorted(hops) == sorted(set(hops))


def test_hops_that_vanish_from_the_path_vanish_from_the_metrics() -> None:
    """After a shorter trace no series of the farther hops is left."""
    long, short = samples.opened(), samples.filtered("web", last=4, limit=6)
    seen = Scrape(samples.store(long, replace(short, target=long.target)))
    assert set(seen.values("egress_hop_rtt_seconds", "hop")) == {"1", "2", "3", "4"}
    assert set(seen.values("egress_hop_info", "hop")) == {"1", "2", "3", "4"}
    # One hop past the last answer belongs to the path: the first that is silent.
    assert set(seen.values("egress_hop_probes_total", "hop")) == {"1", "2", "3", "4", "5"}
    assert seen.value("egress_hop_probes_total", hop="4") == 6


def test_without_a_trace_there_are_no_hops() -> None:
    """A name that does not resolve takes the hops of the last trace away."""
    good, gone = samples.opened(), samples.unresolved("web")
    seen = Scrape(samples.store(good, replace(gone, target=good.target)))
    assert not seen.labels("egress_hop_info")
    assert not seen.labels("egress_destination_info")
    assert seen.value("egress_state", state="unresolved") == 1


def test_failures_are_counted_by_reason() -> None:
    """Each reason has its counter, from 0."""
    seen = scrape(samples.refused_by_host(), samples.refused_by_host())
    expected = {reason.value: 0.0 for reason in FailureReason} | {"permission": 2.0}
    assert seen.values("egress_trace_failures_total", "reason") == expected
    assert seen.value("egress_traces_total") == 2


def test_without_a_plain_connect_there_is_no_number_for_it() -> None:
    """CONNECT_CHECK=false is no failed connect()."""
    seen = scrape(replace(samples.opened(), handshake=None))
    assert not seen.labels("egress_connect_success")
    assert not seen.labels("egress_connect_duration_seconds")


@pytest.mark.parametrize(
    ("observation", "success", "seconds"),
    [(samples.opened(), 1, 0.0123), (samples.filtered(), 0, 3.0)],
)
def test_the_applications_own_view(
    observation: Observation, success: float, seconds: float
) -> None:
    """Success is 1 or 0, and the time stands beside it either way."""
    seen = scrape(observation)
    assert seen.value("egress_connect_success") == success
    assert seen.value("egress_connect_duration_seconds") == seconds


@pytest.mark.parametrize(
    ("address", "family"), [(samples.DESTINATION, "ipv4"), ("2001:db8::1", "ipv6")]
)
def test_the_destination_tells_its_family(address: str, family: str) -> None:
    """The address of the latest trace, with its family."""
    (labels,) = scrape(replace(samples.opened(), address=address)).labels("egress_destination_info")
    assert (labels["address"], labels["family"]) == (address, family)


def test_each_address_has_its_state() -> None:
    """With all addresses there is one series for each; all others are about the worst one."""
    seen = scrape(samples.several())
    found = [(one["address"], one["family"], one["state"]) for one in seen.labels(ADDRESSES)]
    assert found == [
        (samples.DESTINATION, "ipv4", "filtered"),
        ("2001:db8::1", "ipv6", "error"),
        (samples.DESTINATION_TOO, "ipv4", "open"),
    ]
    (destination,) = seen.labels("egress_destination_info")
    assert destination["address"] == samples.DESTINATION
    assert seen.value("egress_hop_probes_total", hop="7") == 3


def test_a_single_address_has_no_series_beside_the_targets() -> None:
    """Without all_addresses the target's state is that of its address."""
    assert not scrape(samples.opened()).labels(ADDRESSES)


def test_the_age_of_a_trace_counts_from_its_end() -> None:
    """The time stamp is a metric's value, in seconds since the epoch."""
    seen = scrape(samples.opened())
    assert seen.value("egress_last_trace_timestamp_seconds") == samples.STARTED_AT + 1.3
    assert seen.value("egress_last_trace_duration_seconds") == 1.3
    assert seen.value("egress_trace_interval_seconds") == 60


def test_a_removed_target_takes_its_series_along() -> None:
    """After a reload nothing is left of a target that is no longer configured."""
    store = samples.store(samples.opened(), samples.filtered())
    store.configure([samples.filtered().target])
    targets = {s.labels["target"] for s in Scrape(store).samples if "target" in s.labels}
    assert targets == {"db"}


# -- labels ----------------------------------------------------------------------------


def test_every_target_carries_the_labels_of_all() -> None:
    """A label that only some targets have is "" on the others, so that each family is uniform."""
    seen = scrape(
        waiting=[
            samples.target("a", labels=(("team", "payments"),)),
            samples.target("b", labels=(("tier", "data"),)),
            samples.target("c"),
        ]
    )
    labels = seen.labels("egress_traces_total")
    assert labels == [
        {"target": "a", "team": "payments", "tier": ""},
        {"target": "b", "team": "", "tier": "data"},
        {"target": "c", "team": "", "tier": ""},
    ]


def test_the_program_speaks_without_a_target() -> None:
    """Source, engine and configuration have no target's label."""
    store = samples.store(waiting=[samples.target(labels=(("team", "a"),))])
    store.engine = EngineStatus("none", "Operation not permitted")
    store.reload = ReloadStatus(successful=False, at=samples.STARTED_AT, message="line 3")
    seen = Scrape(store)
    assert seen.labels("egress_engine_info") == [
        {"engine": "none", "reason": "Operation not permitted"}
    ]
    store.engine = EngineStatus("connect", "configured by ENGINE", "no router says a word")
    said = "configured by ENGINE; tracing is not possible here: no router says a word"
    assert Scrape(store).labels("egress_engine_info") == [{"engine": "connect", "reason": said}]
    assert seen.value("egress_config_last_reload_successful") == 0
    at = seen.value("egress_config_last_reload_success_timestamp_seconds")
    assert at == samples.STARTED_AT


def test_hostile_text_is_harmless_in_a_label() -> None:
    """Escapes and breaks are shown; the exposition stays one line a sample, in UTF-8."""
    text = exposed(samples.store(samples.hostile()))
    assert all(line.isprintable() for line in text.split("\n"))
    (labels,) = scrape(samples.hostile()).labels("egress_target_info")
    assert labels["target"] == labels["host"] == labels["team"]
    assert labels["target"].startswith(r"""<b>"q"</b>'&\n\x1b[31mred\x1b[0m\r\u202e\udcffnnn""")
    assert len(labels["target"]) > 300


def test_two_targets_with_hostile_names_stay_apart() -> None:
    """A line break in a name and another control character are two names."""
    seen = scrape(waiting=[samples.target("a\nb"), samples.target("a\rb")])
    assert len({labels["target"] for labels in seen.labels("egress_target_info")}) == 2


# -- faults ----------------------------------------------------------------------------


class Unreadable(dict[str, Place]):
    """What no reader expects."""

    def get(self, *_: object) -> Any:
        """Fail."""
        raise RuntimeError("broken")


def broken(name: str) -> Observation:
    """An observation at which a row's reader fails, after others have read theirs."""
    return replace(samples.opened(name), places=Unreadable())


def test_one_broken_record_does_not_fail_the_scrape(caplog: pytest.LogCaptureFixture) -> None:
    """The others are complete, the broken one is left out whole and counted, once a scrape."""
    store = samples.store(samples.filtered("before"), broken("bad"), samples.opened("after"))
    made = Exposition(store, LogStats())
    alone = Scrape(samples.store(samples.opened("after")))
    for scrapes in (1, 2):
        text = scraped(made)
        families = list(parse_text(text))
        found = [s for family in families for s in family.samples]
        assert {s.labels["target"] for s in found if "target" in s.labels} == {"before", "after"}
        assert len([s for s in found if s.labels.get("target") == "after"]) == len(
            [s for s in alone.samples if "target" in s.labels]
        )
        assert f"egress_scrape_errors_total {scrapes}.0\n" in text
    assert [bool(entry.exc_info) for entry in caplog.records] == [True, False]
    assert all("bad" in entry.getMessage() for entry in caplog.records)


def test_lost_log_lines_are_counted() -> None:
    """What the log drops shows in the metrics."""
    stats = LogStats()
    made = Exposition(samples.store(), stats)
    stats.drop()
    assert "egress_log_lines_dropped_total 1.0\n" in scraped(made)


# -- names and formats ------------------------------------------------------


def test_describe_names_everything_that_collect_gives() -> None:
    """Names are known without reading the store."""
    collector = ProgramCollector(full_store(), LogStats())
    described = {(family.name, family.type) for family in collector.describe()}
    assert described == {(family.name, family.type) for family in collector.collect()}
    assert len(described) == len(PROGRAM_METRICS)


@pytest.mark.parametrize("name", [*OF_TARGET, *OF_PROGRAM, "process_open_fds"])
def test_one_metric_can_be_asked_for(name: str) -> None:
    """?name[]= finds each metric by its full name, and gives nothing else."""
    found = {s.name for f in parse_text(exposed(full_store(), name)) for s in f.samples}
    assert found == {name}


def test_several_metrics_can_be_asked_for() -> None:
    """Names add up, those of targets and of the process alike; what is unknown adds nothing."""
    text = exposed(full_store(), "egress_traces_total", "process_open_fds", "nothing")
    assert {f.name for f in parse_text(text)} == {"egress_traces", "process_open_fds"}
    assert exposed(full_store(), "nothing") == ""
    assert exposed(full_store(), "nothing", encode=ENCODERS["openmetrics"]) == "# EOF\n"


def test_openmetrics_parses() -> None:
    """The strict parser takes the whole exposition, and finds the types."""
    text = exposed(full_store(), encode=ENCODERS["openmetrics"])
    parse = cast(
        "Callable[[str], Iterable[Metric]]", openmetrics_parser.text_string_to_metric_families
    )
    types = {family.name: family.type for family in parse(text)}
    for name, (type_, _) in {**OF_TARGET, **OF_PROGRAM}.items():
        assert types[name.removesuffix(metrics.SUFFIXES[type_])] == type_


@pytest.mark.parametrize("encode", ENCODERS.values(), ids=ENCODERS)
def test_samples_bear_a_value_and_nothing_else(encode: Encode) -> None:
    """No time stamps, no exemplars, no series of when a counter was created."""
    lines = exposed(full_store(), encode=encode).splitlines()
    plain = [line for line in lines if not line.startswith("#")]
    assert not [line for line in plain if not re.fullmatch(r"\w+(\{.*\})? [-+.\w]+", line)]
    assert not [line for line in lines if "_created" in line]


def test_no_series_is_there_twice() -> None:
    """Name and labels together are unique."""
    found = [(s.name, *sorted(s.labels.items())) for s in Scrape(full_store()).samples]
    assert len(found) == len(set(found))


# -- how many --------------------------------------------------------------------------


def test_the_estimate_is_what_a_path_that_answers_has() -> None:
    """`check` tells the truth about the number of series."""
    seen = scrape(replace(samples.opened(), controlled=samples.beside()))
    of_target = [s for s in seen.samples if "target" in s.labels]
    assert len(of_target) == series_of_target(samples.DISTANCE)
    about_program = [s for s in seen.samples if s.name in OF_PROGRAM]
    assert len(about_program) == series_of_program()


def test_a_long_path_with_silence_stays_within_the_estimate() -> None:
    """Silent hops past the first add nothing."""
    blocked = samples.filtered(last=3)
    of_target = [s for s in scrape(blocked).samples if "target" in s.labels]
    assert len(of_target) <= series_of_target(4)


# -- controls --------------------------------------------------------------------------


def test_flows_are_those_of_the_verdict() -> None:
    """How many were tried, and how many of them are blocked."""
    seen = scrape(samples.balanced())
    assert (seen.value("egress_flows"), seen.value("egress_flows_blocked")) == (4, 2)


def test_a_control_is_answered_in_its_destination_s_name() -> None:
    """One port of several is enough, a rejection is none, and who was not asked says nothing."""
    answered = "egress_control_answered"
    seen = scrape(samples.balanced())
    assert seen.values(answered, "control") == {"port": 1, "echo": 0, "canary": 0}
    refused = replace(samples.beside(), ports=samples.beside().ports[1:], echo=None, canary=None)
    seen = scrape(replace(samples.filtered(), controlled=refused))
    assert seen.values(answered, "control") == {"port": 0}
    assert not scrape(samples.opened()).labels(answered)


def test_a_control_that_could_not_be_sent_says_nothing() -> None:
    """That this host refused is no answer, and no silence."""
    failure = Failure(FailureReason.INTERNAL, "no buffer space available")
    stuck = replace(samples.sounding(Hop(64, 0)), failure=failure)
    seen = scrape(replace(samples.filtered(), controlled=Controlled(echo=stuck)))
    assert not seen.labels("egress_control_answered")


# -- the document ----------------------------------------------------------------------


def documented() -> dict[str, tuple[str, str]]:
    """Metric -> type and labels, as the tables of docs/metrics.md have them."""
    row = r"^\| `(egress_\w+)` \| (\w+) \| ([^|]*?) ?\|"
    rows = re.findall(row, DOCUMENT.read_text(), re.MULTILINE)
    return {
        name: (type_, " ".join(labels.replace("`", "").split(", "))) for name, type_, labels in rows
    }


def test_the_document_lists_every_metric_with_type_and_labels() -> None:
    """docs/metrics.md and the tables of the code are the same list."""
    assert documented() == {**OF_TARGET, **OF_PROGRAM}


def test_the_document_gives_the_size_of_a_target() -> None:
    """The estimate in docs/metrics.md is what the code computes."""
    per_hop = series_of_target(1) - series_of_target(0)
    text = DOCUMENT.read_text()
    assert f"{series_of_target(0)} + {per_hop} per hop" in text
    assert f"{series_of_target(12)} at 12 hops" in text
    assert f"{series_of_program()} for the program" in text


def test_the_documents_queries_are_valid(tmp_path: Path) -> None:
    """Each query of docs/metrics.md is valid for promtool, and names metrics that exist."""
    queries = re.findall(r"```promql\n(.+?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(queries) >= 3
    named = {name for query in queries for name in re.findall(r"egress_\w+", query)}
    assert named <= {*OF_TARGET, *OF_PROGRAM}
    rules = [
        f"  - record: example:{number}\n    expr: |\n"
        + "".join(f"      {line}\n" for line in query.splitlines())
        for number, query in enumerate(queries)
    ]
    file = tmp_path / "rules.yml"
    file.write_text("groups:\n- name: examples\n  rules:\n" + "".join(rules))
    checked = subprocess.run(
        ["promtool", "check", "rules", file], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert f"{len(queries)} rules found" in checked.stdout
