"""The recording rules: read and played by Prometheus' own tool, and about metrics that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.model import BLOCKED_STATES, Location, State
from exporter.publish.tables import PROGRAM_METRICS, TARGET_METRICS

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "dashboards" / "rules").glob("*.yml"))
TESTS = sorted(Path(__file__).parent.glob("*.test.yml"))
METRICS = {row.name for row in TARGET_METRICS} | {row.name for row in PROGRAM_METRICS}

#: The states of which the fleet's rules say nothing by themselves: neither blocked, nor reached,
#: nor unknown.
FLAGGED = {State.INTERCEPTED}


def promtool(*arguments: str) -> str:
    """What promtool prints; it has to succeed."""
    tool = shutil.which("promtool")
    assert tool, "promtool is missing: install the Debian package prometheus (make system)"
    done = subprocess.run([tool, *arguments], capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rules(path: Path) -> list[dict[str, Any]]:
    """The rules of a file, in the order in which they are evaluated."""
    groups = yaml.safe_load(path.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> str:
    """What all rules compute, as one text."""
    return "\n".join(rule["expr"] for path in RULES for rule in rules(path))


def file_name(path: object) -> str:
    """What a test of a file is called by."""
    return Path(str(path)).name


def label_values(label: str) -> set[str]:
    """The values that some rule compares a label with."""
    found = re.findall(rf'\b{label}(?:=~|!=|=)"([^"]*)"', expressions())
    return {value for text in found for value in text.split("|")}


@pytest.mark.parametrize("path", RULES, ids=file_name)
def test_prometheus_can_load_the_rules(path: Path) -> None:
    """`promtool check rules` has nothing to say against them."""
    assert f"SUCCESS: {len(rules(path))} rules found" in promtool("check", "rules", str(path))


@pytest.mark.parametrize("path", TESTS, ids=file_name)
def test_the_rules_compute_what_they_say(path: Path) -> None:
    """`promtool test rules` plays dead probers, cells that disagree and targets shared out."""
    promtool("test", "rules", str(path))


@pytest.mark.parametrize("path", RULES, ids=file_name)
def test_every_rule_is_played(path: Path) -> None:
    """No rule is without a sample that some test expects."""
    expected = "".join(test.read_text() for test in TESTS)
    untold = [rule["record"] for rule in rules(path) if f"{rule['record']}{{" not in expected]
    # What an instance contributes is an intermediate step, and shows in each sum.
    assert untold == ["instance_job_target:egress_trace_fresh:bool"]


def test_rules_rest_on_metrics_that_exist() -> None:
    """Every metric in an expression is one that the exporter publishes."""
    assert set(re.findall(r"(?<!:)\begress_[a-z_]+\b(?!:)", expressions())) <= METRICS


@pytest.mark.parametrize("path", RULES, ids=file_name)
def test_rules_rest_on_earlier_rules_alone(path: Path) -> None:
    """Rules of a group are evaluated in their order, so none has to wait for the next round."""
    known: set[str] = set()
    for rule in rules(path):
        used = set(re.findall(r"\b\w+:egress_\w+:\w+", rule["expr"]))
        assert used <= known, rule["record"]
        known.add(rule["record"])


def test_rules_know_every_state() -> None:
    """States and locations are spelt as the exporter does, and none is forgotten."""
    assert {State(value) for value in label_values("state")} == (
        set(State) - BLOCKED_STATES - FLAGGED
    )
    assert label_values("location") == {Location.NONE}


@pytest.mark.parametrize("path", RULES, ids=file_name)
def test_the_names_of_rules_say_their_labels(path: Path) -> None:
    """Prometheus' convention level:metric:operations; the level is what the rule sums by."""
    for rule in rules(path):
        level, _, _ = rule["record"].split(":")
        by = {
            "_".join(sorted(labels.split(", ")))
            for labels in re.findall(r"\bby \(([^)]*)\)", rule["expr"])
        }
        assert not by or level in by, rule["record"]


def test_every_rule_is_documented() -> None:
    """docs/metrics.md has a row for each rule but the intermediate one."""
    page = (ROOT / "docs" / "metrics.md").read_text()
    records = {rule["record"] for path in RULES for rule in rules(path)}
    assert records == set(re.findall(r"^\| `(\w+:egress_\w+:\w+)` \|", page, re.MULTILINE))
