"""The rules: read and played by Prometheus' own tool, and about metrics that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.model import BLOCKED_STATES, EngineStatus, Location, State
from exporter.publish.tables import PROGRAM_METRICS, TARGET_METRICS
from tests.dashboards.parentheses import without

Rule = dict[str, Any]

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "dashboards" / "rules").glob("*.yml"))
TESTS = sorted(Path(__file__).parent.glob("*.test.yml"))
METRICS = {row.name for row in TARGET_METRICS} | {row.name for row in PROGRAM_METRICS}
#: Those of the exporter, and those that Prometheus adds.
LABELS = {
    *(label for row in TARGET_METRICS for label in row.labels),
    *(label for row in PROGRAM_METRICS for label in row.labels),
    *("job", "instance", "target", "alertname", "alertstate"),
}


def promtool(*arguments: str) -> str:
    """What promtool prints; it has to succeed."""
    done = ran(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
    """One run of promtool, however it ends."""
    tool = shutil.which("promtool")
    assert tool, "promtool is missing: install the Debian package prometheus (make system)"
    return subprocess.run([tool, *arguments], capture_output=True, check=False, text=True)


def read(path: Path) -> dict[str, Any]:
    """A file of rules or of tests."""
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def rules(path: Path) -> list[Rule]:
    """The rules of a file, in the order in which they are evaluated."""
    return [rule for group in read(path)["groups"] for rule in group["rules"]]


def name_of(rule: Rule) -> str:
    """What a rule records or tells."""
    return str(rule.get("record") or rule["alert"])


ALL = [rule for path in RULES for rule in rules(path)]
RECORDS = [rule for rule in ALL if "record" in rule]
ALERTS = [rule for rule in ALL if "alert" in rule]
PLAYED = [test for path in TESTS for test in read(path)["tests"]]


def expressions() -> str:
    """What all rules compute, as one text."""
    return "\n".join(rule["expr"] for rule in ALL)


def texts() -> str:
    """The same, and all that alerts say, with the queries in it."""
    said = [text for rule in ALERTS for text in rule["annotations"].values()]
    return "\n".join([expressions(), *said])


def file_name(path: object) -> str:
    """What a test of a file is called by."""
    return Path(str(path)).name


def label_values(label: str) -> set[str]:
    """The values that some rule compares a label with."""
    found = re.findall(rf'\b{label}(?:=~|!=|=)"([^"]*)"', expressions())
    return {value for text in found for value in text.split("|")}


@pytest.mark.parametrize("path", RULES, ids=file_name)
def test_prometheus_can_load_the_rules(path: Path) -> None:
    """`promtool check rules` has nothing to say against them, nor a warning."""
    said = promtool("check", "rules", "--lint=all", "--lint-fatal", str(path))
    assert f"SUCCESS: {len(rules(path))} rules found" in said


@pytest.mark.parametrize("path", TESTS, ids=file_name)
def test_the_rules_compute_what_they_say(path: Path) -> None:
    """`promtool test rules` plays dead probers, cells that disagree and targets shared out."""
    promtool("test", "rules", str(path))


def test_every_recording_rule_is_played() -> None:
    """None is without a sample that some test expects."""
    expected = "".join(test.read_text() for test in TESTS)
    untold = [rule["record"] for rule in RECORDS if f"{rule['record']}{{" not in expected]
    # What an instance contributes is an intermediate step, and shows in each sum.
    assert untold == ["instance_job_target:egress_trace_fresh:bool"]


def test_every_alert_is_played() -> None:
    """Each is silent, then fires with the text that a test expects, and is silent again."""
    assert {rule["alert"] for rule in ALERTS} == {
        alert for test in PLAYED for alert in rises_and_ends(test)
    }


def rises_and_ends(test: dict[str, Any]) -> Iterator[str]:
    """The alerts that a test expects to fire, and not to before and after."""
    fires: dict[str, list[int]] = defaultdict(list)
    for asked in test.get("alert_rule_test", ()):
        if asked["exp_alerts"]:
            fires[asked["alertname"]].append(minute(asked))
    for alert, times in fires.items():
        rests = [minute(asked) for asked in test.get("promql_expr_test", ()) if rest(asked, alert)]
        if rests and min(rests) < min(times) and max(times) < max(rests):
            yield alert


def rest(asked: dict[str, Any], alert: str) -> bool:
    """Whether it is asked of all alerts that fire, or of this one, and this one is not expected."""
    about = re.fullmatch(r'ALERTS(\{alertstate="firing"\}|\{alertname="(\w+)"\})?', asked["expr"])
    asks = about is not None and about[2] in {None, alert}
    return asks and not any(f'"{alert}"' in sample["labels"] for sample in asked["exp_samples"])


def minute(asked: dict[str, Any]) -> int:
    """When something is asked."""
    return int(asked["eval_time"].removesuffix("m"))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All tests without the texts of alerts, which rest on the same samples and take long."""
    folder = tmp_path_factory.mktemp("bare")
    for path in TESTS:
        text = re.sub(r"(?m)^    alert_rule_test:\n(?:      .*\n)+", "", path.read_text())
        (folder / path.name).write_text(text.replace("../../dashboards/rules/", ""))
    assert played(folder, TESTS, {}).returncode == 0
    return folder


def played(
    folder: Path, tests: Iterable[Path], changed: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """A run of tests in a folder against rules of which some compute something else."""
    for path in RULES:
        document = read(path)
        for one in (one for group in document["groups"] for one in group["rules"]):
            one["expr"] = changed.get(name_of(one), one["expr"])
            one.pop("annotations", None)
        (folder / path.name).write_text(yaml.safe_dump(document))
    return ran("test", "rules", *(str(folder / path.name) for path in tests))


@pytest.mark.parametrize(
    ("name", "changed"),
    [(name_of(rule), changed) for rule in ALL for changed in without(rule["expr"])],
)
def test_parentheses_bite(bare: Path, name: str, changed: str) -> None:
    """Where an expression would be read otherwise without a pair of parentheses, a test fails."""
    done = played(bare, [path for path in TESTS if name in path.read_text()], {name: changed})
    assert "FAILED" in done.stdout + done.stderr


def test_rules_rest_on_metrics_that_exist() -> None:
    """Every metric in an expression or a text is one that the exporter publishes."""
    assert set(re.findall(r"(?<!:)\begress_[a-z_]+\b(?!:)", texts())) <= METRICS


def test_rules_rest_on_labels_that_exist() -> None:
    """Every label in an expression or a text is one that some metric has."""
    lists = re.findall(r"\b(?:by|on|ignoring|group_left) \(([^)]*)\)", texts())
    matched = re.findall(r"[{,] ?(\w+)(?:=~|!=|=)", texts())
    said = re.findall(r"[lL]abels\.(\w+)|\blabel \"(\w+)\"", texts())
    used = {label for text in lists for label in text.split(", ") if label}
    made = set(re.findall(r"\bcount_values by \([^)]*\) \(\"(\w+)\"", texts()))
    assert used | set(matched) | {a or b for a, b in said} <= LABELS | made


@pytest.mark.parametrize("path", RULES, ids=file_name)
def test_recording_rules_rest_on_earlier_ones_alone(path: Path) -> None:
    """Rules of a group are evaluated in their order, so none has to wait for the next round."""
    known: set[str] = set()
    for rule in rules(path):
        if "record" in rule:
            assert recorded(rule["expr"]) <= known, rule["record"]
            known.add(rule["record"])


def recorded(text: str) -> set[str]:
    """The recording rules that are named in an expression or a text."""
    return set(re.findall(r"\b\w+:egress_\w+:\w+", text))


def test_alerts_rest_on_recording_rules_that_exist() -> None:
    """Neither an expression nor a text names one that is not there."""
    assert recorded(texts()) <= {rule["record"] for rule in RECORDS}


def test_rules_know_every_state() -> None:
    """States and locations are spelt as the exporter does, and none is forgotten.

    What is blocked is asked by its location.
    """
    assert {State(value) for value in label_values("state")} == set(State) - BLOCKED_STATES
    assert {Location(value) for value in label_values("location")} == set(Location)


def test_what_shows_that_tracing_is_impossible_is_what_the_exporter_says() -> None:
    """The alert knows it by the words of `egress_engine_info`'s reason."""
    [pattern] = label_values("reason")
    assert re.fullmatch(pattern, EngineStatus("connect", "no raw sockets", "silence").explanation)
    assert not re.fullmatch(pattern, EngineStatus("connect", "no raw sockets").explanation)


@pytest.mark.parametrize("path", RULES, ids=file_name)
def test_the_names_of_recording_rules_say_their_labels(path: Path) -> None:
    """Prometheus' convention level:metric:operations; the level is what the rule sums by."""
    for rule in (rule for rule in rules(path) if "record" in rule):
        level, _, _ = rule["record"].split(":")
        by = {
            "_".join(sorted(labels.split(", ")))
            for labels in re.findall(r"\bby \(([^)]*)\)", rule["expr"])
        }
        assert not by or level in by, rule["record"]


def test_every_recording_rule_is_documented() -> None:
    """docs/metrics.md has a row for each of them."""
    page = (ROOT / "docs" / "metrics.md").read_text()
    records = {rule["record"] for rule in RECORDS}
    assert records == set(re.findall(r"^\| `(\w+:egress_\w+:\w+)` \|", page, re.MULTILINE))
