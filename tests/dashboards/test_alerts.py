"""What alerts say and who is told: their texts, and the runbooks and routes of docs/alerts.md."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.dashboards.test_rules import ALERTS, PLAYED, ROOT, Rule, name_of

SEVERITIES = {"critical", "warning", "info"}
RUNBOOKS = (ROOT / "docs" / "alerts.md").read_text()


@pytest.mark.parametrize("rule", ALERTS, ids=name_of)
def test_an_alert_says_what_who_and_where_to_read_on(rule: Rule) -> None:
    """It has a severity, a summary, a description, and the address of its runbook."""
    said = rule["annotations"]
    assert set(rule["labels"]) == {"severity"}
    assert rule["labels"]["severity"] in SEVERITIES
    assert (
        {"summary", "description", "runbook_url"}
        <= set(said)
        <= {*("summary", "description", "page", "runbook_url")}
    )
    assert "\n" not in said["summary"]
    assert said["runbook_url"] == f"docs/alerts.md#{rule['alert'].lower()}"
    # A label is text from a configuration: %q makes a string of it that PromQL can read.
    assert "=%s" not in "".join(said.values())


def section(alert: str) -> str:
    """What docs/alerts.md says under the heading of an alert, "" without one."""
    found = re.search(rf"^### {alert}\n(.*?)(?=^#|\Z)", RUNBOOKS, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def told(alert: str) -> set[str]:
    """Summary and description of each time that a test expects the alert to fire."""
    return {
        f"{fired['exp_annotations']['summary']}\n{fired['exp_annotations']['description']}\n"
        for test in PLAYED
        for asked in test.get("alert_rule_test", ())
        for fired in asked["exp_alerts"]
        if asked["alertname"] == alert
    }


def test_every_alert_has_its_runbook() -> None:
    """The headings are the alerts, in the order of the rules, and so are the rows of the table."""
    names = [rule["alert"] for rule in ALERTS]
    assert re.findall(r"^### (\w+)$", RUNBOOKS, re.MULTILINE) == names
    rows = re.findall(r"^\| \[(\w+)\]\(#(\w+)\) \| (\w+) \| (\w+) \|", RUNBOOKS, re.MULTILINE)
    assert rows == [
        (rule["alert"], rule["alert"].lower(), rule["labels"]["severity"], rule.get("for", "0m"))
        for rule in ALERTS
    ]


@pytest.mark.parametrize("alert", [rule["alert"] for rule in ALERTS])
def test_a_runbook_says_what_to_do(alert: str) -> None:
    """Meaning, three steps, whom to call, how to silence, and a text that a test has seen."""
    text = section(alert)
    assert re.findall(r"^\*\*([\w ]+)\*\*", text, re.MULTILINE) == [
        *("Means", "Does not mean", "Call", "Silence")
    ]
    assert re.findall(r"^(\d)\. ", text, re.MULTILINE) == ["1", "2", "3"]
    [example] = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    assert example in told(alert)


def alertmanager() -> dict[str, Any]:
    """The configuration that docs/alerts.md gives for Alertmanager."""
    blocks = re.findall(r"```yaml\n(.*?)```", RUNBOOKS, re.DOTALL)
    [block] = [block for block in blocks if block.startswith("route:")]
    found: dict[str, Any] = yaml.safe_load(block)
    return found


def fits(matchers: list[str], labels: dict[str, str]) -> bool:
    """Whether all matchers fit labels, as Alertmanager reads them; an absent label is empty."""
    parts = [re.fullmatch(r'(\w+)(=~|=)"(.*)"', matcher) for matcher in matchers]
    assert all(parts)
    return all(
        re.fullmatch(part[3] if part[2] == "=~" else re.escape(part[3]), labels.get(part[1], ""))
        for part in parts
        if part
    )


def receivers(route: dict[str, Any], labels: dict[str, str]) -> list[str]:
    """Who gets an alert: the first route that fits, and those behind it after `continue`."""
    found: list[str] = []
    for one in route.get("routes", ()):
        if fits(one["matchers"], labels):
            found += receivers(one, labels)
            if not one.get("continue"):
                break
    return found or [route["receiver"]]


@pytest.mark.parametrize(
    ("name", "severity", "location", "told_to"),
    [
        ("EgressBlockedInside", "warning", "platform", ["platform"]),
        ("EgressBlockedAtBoundary", "warning", "boundary", ["network", "platform"]),
        ("EgressBlockedOutside", "warning", "external", ["network"]),
        ("EgressBlockedSomewhere", "warning", "unknown", ["platform"]),
        ("EgressBlockedFromAll", "critical", "platform", ["platform-pager"]),
        ("EgressBlockedFromAll", "critical", "boundary", ["network", "platform-pager"]),
        ("EgressBlockedFromAll", "critical", "external", ["network-pager"]),
        ("EgressBlockedFromAll", "critical", "", ["platform-pager"]),
        ("EgressNoProber", "critical", "", ["platform-pager"]),
        ("EgressPathChanged", "info", "", ["notes"]),
        ("SomethingElse", "critical", "", ["platform"]),
    ],
)
def test_who_can_do_something_is_told(
    name: str, severity: str, location: str, told_to: list[str]
) -> None:
    """The documented routes go by the side of the edge, to receivers that are there."""
    configuration = alertmanager()
    labels = {"alertname": name, "severity": severity, "location": location}
    assert receivers(configuration["route"], labels) == told_to
    assert set(told_to) <= {receiver["name"] for receiver in configuration["receivers"]}


def test_inhibitions_name_alerts_that_exist() -> None:
    """Every name in a matcher is an alert, and nothing that is critical is ever inhibited."""
    severities = {rule["alert"]: rule["labels"]["severity"] for rule in ALERTS}
    for rule in alertmanager()["inhibit_rules"]:
        for side in ("source_matchers", "target_matchers"):
            fitting = [name for name in severities if fits(rule[side], {"alertname": name})]
            assert set(fitting) == set(re.findall(r"Egress\w+", rule[side][0]))
        assert "critical" not in {severities[name] for name in fitting}
