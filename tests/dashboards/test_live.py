"""The rules at work: a real Prometheus, two real exporters, and firewalls that change.

story.py tells what happens. `FLEET` and the tables after it say by hand what the recording rules
make of it; which alerts fire when, story.py has, for it waits for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

import pytest
import yaml

from tests.dashboards.story import FIRING, MAYBE, RULES, SEEN, TARGETS, Alert, Story, scaled

pytestmark = pytest.mark.alone

#: The rules of a target, which are the columns of `FLEET`.
COLUMNS = (
    "job_target:egress_trace_fresh:sum",
    "job_target:egress_trace_missing:sum",
    "job_target:egress_untraced:bool",
    "job_target:egress_blocked:sum",
    "job_target:egress_reached:sum",
    "job_target:egress_unknown:sum",
    "job_target:egress_blocked:ratio",
    "job_target:egress_blocked_from_all:bool",
    "job_target:egress_blocked_from_some:bool",
)
Row = tuple[float | None, ...]
REACHED: Row = (2, 0, 0, 0, 2, 0, 0, 0, 0)
FROM_ALL: Row = (2, 0, 0, 2, 0, 0, 1, 1, 0)
FROM_SOME: Row = (2, 0, 0, 1, 1, 0, 0.5, 0, 1)
FLAGGED: Row = (2, 0, 0, 0, 0, 0, 0, 0, 0)
UNKNOWN: Row = (2, 0, 0, 0, 0, 2, 0, 0, 0)
#: Once nobody looks, all that is known is that somebody should.
UNSEEN: Row = (None, 2, 1, None, None, None, None, None, None)
BEFORE: dict[str, Row] = {
    "shop-api": REACHED,
    "closed-port": REACHED,
    "cache": FROM_ALL,
    "database": REACHED,
    "directory": REACHED,
    "mail": REACHED,
    "chat": FLAGGED,
    "printer": UNKNOWN,
}
#: Phase -> target -> what the rules of `COLUMNS` say, None for nothing.
FLEET: Mapping[str, Mapping[str, Row]] = {
    "before": BEFORE,
    "blocked": BEFORE | {"database": FROM_ALL, "directory": FROM_SOME, "mail": FROM_SOME},
    "after": BEFORE,
    "dead": {
        "shop-api": (1, 1, 0, 0, 1, 0, 0, 0, 0),
        "closed-port": (1, 1, 0, 0, 1, 0, 0, 0, 0),
        # The one that is left sees it blocked; what the other would see, nobody knows.
        "cache": (1, 1, 0, 1, 0, 0, 1, 0, 0),
        "database": (1, 1, 0, 0, 1, 0, 0, 0, 0),
        "directory": (1, 1, 0, 0, 1, 0, 0, 0, 0),
        "mail": (1, 1, 0, 0, 1, 0, 0, 0, 0),
        "chat": (1, 1, 0, 0, 0, 0, 0, 0, 0),
        "printer": (1, 1, 0, 0, 0, 1, 0, 0, 0),
    },
    "gone": dict.fromkeys(TARGETS, UNSEEN),
}

CACHE = {("cache", "external"): 2}
#: Phase -> (target, location) -> how many see it blocked there.
BLOCKED: Mapping[str, Mapping[tuple[str, str], int]] = {
    "before": CACHE,
    "blocked": {
        **CACHE,
        ("database", "external"): 2,
        ("directory", "platform"): 1,
        ("mail", "boundary"): 1,
    },
    "after": CACHE,
    "dead": {("cache", "external"): 1},
    "gone": {},
}
#: Phase -> target -> state -> how many see it so, where that is not what it was before.
STATES: dict[str, dict[str, dict[str, int]]] = {
    "before": {
        "shop-api": {"open": 2},
        "closed-port": {"closed": 2},
        "cache": {"rejected": 2},
        "database": {"open": 2},
        "directory": {"open": 2},
        "mail": {"open": 2},
        "chat": {"intercepted": 2},
        "printer": {"error": 2},
    },
    "blocked": {
        "database": {"filtered": 2},
        "directory": {"open": 1, "rejected": 1},
        "mail": {"open": 1, "filtered": 1},
    },
}
#: Phase -> how many targets somebody sees blocked, and how many nobody traces.
COUNTS: Mapping[str, tuple[list[float], list[float]]] = {
    "before": ([1], [0]),
    "blocked": ([4], [0]),
    "after": ([1], [0]),
    "dead": ([1], [0]),
    "gone": ([], []),
}
#: The level of the rules about a target from one instance.
INFO = "instance_job_target"
#: The rules that are looked at one by one.
OTHERS = {
    "instance_job_target:egress_trace_fresh:bool",
    "instance_job_target:egress_last_reachable_hop:info",
    "instance_job_target:egress_blocked:info",
    "job_location_target:egress_blocked:sum",
    "job_location_target:egress_blocked_agreed:sum",
    "job_state_target:egress_state:sum",
    "job:egress_blocked_targets:count",
    "job:egress_untraced_targets:count",
}

#: The alerts that this story cannot bring about, and why; promtool plays them (*.test.yml).
NOT_TOLD = {
    "EgressBlockedSomewhere": "here it is always known which networks are the platform's",
    "EgressFlapping": "four changes of a state take longer than the story",
    "EgressPathChanged": "no router is replaced",
    "EgressStale": "a trace counts as fresh for a minute at least",
    "EgressUntraced": "as above, and each exporter traces every target",
    "EgressScrapeErrors": "it would take a mistake in the exporter",
    "EgressEngineDegraded": "an engine works in both cells",
    "EgressUnseenErrors": "nothing here rewrites sequence numbers",
    "EgressSchedulerLate": "there is a place for every trace",
    "EgressStateFileFailed": "no state file is written",
    "EgressLogLinesLost": "no traces are logged",
}


def rules() -> list[dict[str, Any]]:
    """Every rule that is shipped."""
    groups = [
        group
        for path in sorted(RULES.glob("*.rules.yml"))
        for group in yaml.safe_load(path.read_text())["groups"]
    ]
    return [rule for group in groups for rule in group["rules"]]


def by_target(story: Story, rule: str, phase: str) -> dict[str, float]:
    """Target -> what a rule has recorded of it."""
    found = story.query(rule, story.at[phase])
    assert {one.labels["job"] for one in found} <= {"egress"}
    return {one.labels["target"]: one.value for one in found}


def by_pair(story: Story, rule: str, label: str, phase: str) -> dict[tuple[str, str], float]:
    """(target, value of the label) -> what a rule has recorded, unless that is 0."""
    found = story.query(f"{rule} != 0", story.at[phase])
    return {(one.labels["target"], one.labels[label]): one.value for one in found}


def fired(story: Story) -> set[Alert]:
    """Every alert that has ever fired, however short."""
    lines = story.query_range('ALERTS{alertstate="firing"}', story.begun, story.at["gone"])
    return {story.alert(line.labels) for line in lines}


# -- recording rules -------------------------------------------------------------------


@pytest.mark.parametrize("phase", FLEET)
@pytest.mark.parametrize("rule", COLUMNS)
def test_what_is_recorded_of_each_target_is_true(story: Story, rule: str, phase: str) -> None:
    """Each count is the truth of its phase, and absent where nobody looks."""
    column = COLUMNS.index(rule)
    expected = {target: row[column] for target, row in FLEET[phase].items()}
    there = {target: value for target, value in expected.items() if value is not None}
    assert by_target(story, rule, phase) == there


@pytest.mark.parametrize("phase", BLOCKED)
def test_where_it_is_blocked_is_recorded(story: Story, phase: str) -> None:
    """Blocks are counted by side of the edge; as all agree here, the agreed counts are the same."""
    for rule in ("egress_blocked:sum", "egress_blocked_agreed:sum"):
        found = by_pair(story, f"job_location_target:{rule}", "location", phase)
        assert found == BLOCKED[phase], rule


@pytest.mark.parametrize("phase", BLOCKED)
def test_what_an_instance_sees_of_a_block_is_recorded_in_one_series(
    story: Story, phase: str
) -> None:
    """With the device at which it ends, which has an address, and the numbers of the verdict."""
    found = [one.labels for one in story.query(f"{INFO}:egress_blocked:info", story.at[phase])]
    assert Counter((of["target"], of["location"]) for of in found) == BLOCKED[phase]
    for of in found:
        assert int(of["suspect_first"]) <= int(of["blocked_at"]) <= int(of["suspect_last"])
        assert ip_address(of["address"]).is_private
    ends = story.query(f"{INFO}:egress_last_reachable_hop:info", story.at[phase])
    assert {about(one.labels) for one in ends} == {about(of) for of in found}


def about(labels: Mapping[str, str]) -> tuple[str, ...]:
    """Which instance has met which device on the way to which target."""
    return tuple(labels[name] for name in ("instance", "target", "hop", "address"))


@pytest.mark.parametrize("phase", ["before", "blocked", "after"])
def test_states_are_counted(story: Story, phase: str) -> None:
    """Every instance counts once for each target, under the state that it sees."""
    expected = STATES["before"] | STATES.get(phase, {})
    assert by_pair(story, "job_state_target:egress_state:sum", "state", phase) == {
        (target, state): count
        for target, states in expected.items()
        for state, count in states.items()
    }


@pytest.mark.parametrize("phase", COUNTS)
def test_targets_are_counted(story: Story, phase: str) -> None:
    """How many are blocked and how many untraced is known as long as somebody looks."""
    names = ("job:egress_blocked_targets:count", "job:egress_untraced_targets:count")
    found = tuple([one.value for one in story.query(name, story.at[phase])] for name in names)
    assert found == COUNTS[phase]


@pytest.mark.parametrize("phase", SEEN)
def test_every_trace_of_a_living_instance_is_fresh(story: Story, phase: str) -> None:
    """An instance that is gone has no fresh traces, and no stale ones either."""
    found = story.query("instance_job_target:egress_trace_fresh:bool", story.at[phase])
    assert {(one.labels["instance"], one.labels["target"]): one.value for one in found} == {
        (story.instances[cell], target): 1 for cell in SEEN[phase] for target in TARGETS
    }


def test_no_recording_rule_is_forgotten() -> None:
    """Each of dashboards/rules is in one of the tables above."""
    assert {rule["record"] for rule in rules() if "record" in rule} == {*COLUMNS, *OTHERS}


# -- alerts ----------------------------------------------------------------------------


@pytest.mark.parametrize("phase", FIRING)
def test_alerts_fire_and_resolve(story: Story, phase: str) -> None:
    """In each phase its alerts fire and no others: those of the block have ended after it."""
    assert story.alerts(story.at[phase]) - MAYBE.get(phase, frozenset()) == FIRING[phase]


def test_nothing_else_has_ever_fired(story: Story) -> None:
    """No alert comes up between the phases, and none about targets that are well."""
    assert fired(story) == set[Alert]().union(*FIRING.values())
    assert not {about for _, about in fired(story)} & {"shop-api", "closed-port"}


def test_what_has_a_time_to_wait_is_pending_first(story: Story) -> None:
    """An alert with `for` does not fire at once."""
    waiting = {rule["alert"] for rule in rules() if "for" in rule}
    lines = story.query_range('ALERTS{alertstate="pending"}', story.begun, story.at["gone"])
    pending = {story.alert(line.labels) for line in lines}
    assert {alert for alert in fired(story) if alert[0] in waiting} <= pending


def test_no_alert_is_forgotten() -> None:
    """Each of dashboards/rules fires in some phase, or a reason is given why it cannot."""
    told = {name for alerts in FIRING.values() for name, _ in alerts}
    assert told | NOT_TOLD.keys() == {rule["alert"] for rule in rules() if "alert" in rule}
    assert not told & NOT_TOLD.keys()


def test_a_dead_prober_is_no_block(story: Story) -> None:
    """When an exporter dies, no block is told that was not there while it lived."""
    after, dead, gone = (
        {alert for alert in story.alerts(story.at[phase]) if alert[0].startswith("EgressBlocked")}
        for phase in ("after", "dead", "gone")
    )
    assert dead < after
    assert not gone


def test_annotations_are_filled_in(story: Story) -> None:
    """No template of an alert fails or prints a value that is not there."""
    texts = [
        (alert, text)
        for told in story.told.values()
        for alert, annotations in told
        for text in annotations.values()
    ]
    assert texts
    for alert, text in texts:
        assert not [word for word in ("<error", "<no value>", "NaN", "%!") if word in text], alert


def test_an_annotation_says_where_the_traffic_stops(story: Story) -> None:
    """The description of a block names the destination, each instance, its hop and the device."""
    told = dict(story.told["blocked"])["EgressBlockedOutside", "database"]
    assert told["summary"] == "database is blocked outside the platform: 2 of 2 instances see it"
    assert "host 10.9.5.2, port 5432" in told["description"]
    assert f"{story.instances['one']}: filtered, location external" in told["description"]
    assert "last answer from hop 4 (10.9.3.2)" in told["description"]
    assert "last answer from hop 3 (10.9.3.2)" in told["description"]


# -- Prometheus itself -----------------------------------------------------------------


def test_no_scrape_has_failed(story: Story) -> None:
    """Once they had begun, both exporters answered every scrape as long as they lived."""
    lines = story.query_range("up", story.at["before"], story.at["after"])
    assert {line.labels["instance"] for line in lines} == {*story.instances.values()}
    for line in lines:
        assert {value for _, value in line.points} == {1.0}, line.labels


def test_rules_are_healthy(story: Story) -> None:
    """Every rule is loaded, and its last evaluation had no error."""
    groups = story.prometheus.ask("rules")["groups"]
    loaded = [rule for group in groups for rule in group["rules"]]
    assert {(rule["health"], rule.get("lastError", "")) for rule in loaded} == {("ok", "")}
    assert len(loaded) == len(rules())


def test_prometheus_has_nothing_to_complain_about(story: Story) -> None:
    """No duplicate series, no sample out of order: its log holds no warning."""
    assert story.prometheus.said("warn", "error") == []


def test_durations_are_scaled() -> None:
    """Every duration becomes sixty times shorter, and a number without a unit stays."""
    assert scaled("rate(a[5m] offset 1h) + 60") == "rate(a[5000ms] offset 60000ms) + 60"
    assert scaled("max_over_time(a[1d:30s])") == "max_over_time(a[1440000ms:500ms])"
    assert scaled("for: 2m\nkeep_firing_for: 10m\n") == "for: 2000ms\nkeep_firing_for: 10000ms\n"
