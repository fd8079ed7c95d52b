"""The dashboards as files: what Grafana would refuse, or show wrongly, without any server."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards.__main__ import rendered
from dashboards.words import CODES, LOCATIONS, STATES
from exporter.model import BLOCKED_STATES, REACHED_STATES, Location, State
from exporter.publish.tables import PROGRAM_METRICS, TARGET_METRICS
from tests.dashboards.boards import BOARDS, FOLDER, panels, queries, sent, variables
from tests.dashboards.test_rules import RULES, promtool, rules

#: Metric -> its own labels.
EXPORTED = {row.name: row.labels for row in TARGET_METRICS} | {
    row.name: row.labels for row in PROGRAM_METRICS
}
METRICS = EXPORTED.keys() | {"up"}
RECORDED = {rule.get("record") for path in RULES for rule in rules(path)}
LABELS = {"job", "instance", "target"}.union(*EXPORTED.values())
#: Labels that a query makes itself.
MADE = {"first", "fresh", "last", "reload", "rtt", "suspects", "traced"}
#: What Grafana itself knows.
BUILT_IN = {"__rate_interval", "__range", "__url_time_range", "__data", "__field"}
#: What the variables may stand for, where only the syntax matters.
ANY = {
    "job": "egress",
    "instance": ".*",
    "target": "db",
    "__rate_interval": "1m",
    "__range": "6h",
}
EXPRESSIONS = [pytest.param(one.expr, id=f"{one.board}: {one.title} {one.at}") for one in queries()]
TABLES = [
    pytest.param(one, id=f"{board}: {one['title']}")
    for board, one in panels()
    if one["type"] == "table"
]
PANELS = [pytest.param(one, id=f"{board}: {one['title']}") for board, one in panels()]


def everything(value: object) -> list[dict[str, Any]]:
    """Every JSON object within a value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    found = [one for part in inner for one in everything(part)]
    return [value, *found] if isinstance(value, dict) else found


def links() -> set[str]:
    """The URLs of all links of panels."""
    return {one["url"] for _, panel in panels() for one in everything(panel) if "url" in one}


def test_the_files_are_what_the_code_generates() -> None:
    """`python -m dashboards` gives exactly what is committed; run it after a change."""
    assert {path.name: path.read_text() for path in FOLDER.glob("*.json")} == rendered()


def test_addresses_of_dashboards_stay() -> None:
    """Links of people and of other dashboards rest on these."""
    assert {board["uid"] for board in BOARDS.values()} == {"egress-fleet", "egress-target"}


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("key", ["id", "title"])
def test_panels_are_told_apart(board: str, key: str) -> None:
    """Each panel of a dashboard has a number and a title of its own."""
    values = [panel[key] for panel in BOARDS[board]["panels"]]
    assert len(values) == len(set(values))


@pytest.mark.parametrize("board", BOARDS)
def test_panels_fill_the_grid_without_overlap(board: str) -> None:
    """Each cell of the 24 columns belongs to exactly one panel, down to the last row."""
    places = [panel["gridPos"] for panel in BOARDS[board]["panels"]]
    cells = [
        (x, y)
        for at in places
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    height = max(at["y"] + at["h"] for at in places)
    assert sorted(cells) == sorted(itertools.product(range(24), range(height)))


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_says_what_it_means(panel: dict[str, Any]) -> None:
    """Its description is some sentences, for the icon beside the title."""
    assert re.fullmatch(r"[A-Z].{60,}\.", panel["description"])


@pytest.mark.parametrize("panel", PANELS)
def test_the_queries_of_a_panel_are_told_apart(panel: dict[str, Any]) -> None:
    """They are A, B, C; a table has one alone, so that its value's column is always "Value"."""
    letters = [query["refId"] for query in panel["targets"]]
    assert letters == ["A", "B", "C"][: len(letters)]
    assert panel["type"] != "table" or letters == ["A"]


@pytest.mark.parametrize("panel", PANELS)
def test_values_become_labels_at_one_time_alone(panel: dict[str, Any]) -> None:
    """Prometheus 2.42 loses the groups of count_values when it evaluates several times at once."""
    asked = [query for query in panel["targets"] if "count_values" in query["expr"]]
    assert all(query["instant"] and not query["range"] for query in asked)


def test_the_reader_chooses_the_data_source() -> None:
    """No dashboard names one of its own, nor asks for one when it is imported."""
    sources = [
        one["datasource"] for one in everything(list(BOARDS.values())) if "datasource" in one
    ]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    assert not any("__inputs" in board for board in BOARDS.values())


@pytest.mark.parametrize("board", BOARDS)
def test_every_variable_is_defined(board: str) -> None:
    """What a dashboard uses, it has; a variable rests on those before it alone."""
    known = set(BUILT_IN)
    for variable in BOARDS[board]["templating"]["list"]:
        assert variables(json.dumps(variable)) <= known
        known.add(variable["name"])
    assert variables(json.dumps(BOARDS[board])) <= known


def test_variables_of_one_value_are_compared_as_such() -> None:
    """Grafana gives regular expressions for variables with several values, texts for others."""
    for name, board in BOARDS.items():
        several = {one["name"] for one in board["templating"]["list"] if one.get("multi")}
        text = "\n".join(one.expr for one in queries() if one.board == name)
        assert set(re.findall(r'=~"\$(\w+)"', text)) <= several
        assert not set(re.findall(r'="\$(\w+)"', text)) & several


def test_prometheus_can_parse_every_query(tmp_path: Path) -> None:
    """`promtool check rules` has nothing to say against them, each as a rule."""
    file = tmp_path / "panels.yml"
    asked = [
        {"record": f"panel:query:{number}", "expr": sent(one.expr, ANY)}
        for number, one in enumerate(queries())
    ]
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": asked}]}))
    assert f"SUCCESS: {len(asked)} rules found" in promtool("check", "rules", str(file))


#: Two views of a target: the one of "a" is traced each minute, that of "b" was so long ago.
VIEWS = {
    'egress_last_trace_timestamp_seconds{instance="a"': "0+60x30",
    'egress_last_trace_timestamp_seconds{instance="b"': "0x30",
    'egress_state{state="open",instance="a"': "1x30",
    'egress_state{state="filtered",instance="b"': "1x30",
    'egress_blocked{location="none",instance="a"': "1x30",
    'egress_blocked{location="external",instance="a"': "0x30",
    'egress_blocked{location="external",instance="b"': "1x30",
    **{f'egress_trace_interval_seconds{{instance="{one}"': "60x30" for one in "ab"},
    **{f'egress_blocked_at_hop{{instance="{one}"': "4x30" for one in "ab"},
}
#: Panel -> what it shows of them half an hour later: (labels, value).
SHOWN: dict[str, list[tuple[str, float]]] = {
    "Blocked targets": [('{location="external"}', 0)],
    "Blocked targets over time": [('{location="external"}', 0)],
    "What fails now": [],
    "Targets that were not always reached": [],
    "Traces that are too old": [('{instance="b", job="egress", target="db"}', 1800)],
}


def test_a_trace_that_is_too_old_counts_nowhere(tmp_path: Path) -> None:
    """What its exporter still says of a block is not shown; that it is old is."""
    asked = {one.title: sent(one.expr, ANY) for one in queries() if one.board == "fleet"}
    series = [
        {"series": f'{name},job="egress",target="db"}}', "values": values}
        for name, values in VIEWS.items()
    ]
    expected = [
        {
            "expr": asked[title],
            "eval_time": "30m",
            "exp_samples": [{"labels": labels, "value": value} for labels, value in samples],
        }
        for title, samples in SHOWN.items()
    ]
    test = {"interval": "1m", "input_series": series, "promql_expr_test": expected}
    file = tmp_path / "old.test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}))
    promtool("test", "rules", str(file))


def test_queries_of_variables_rest_on_metrics_that_exist() -> None:
    """Each is label_values of one of the exporter's metrics and labels."""
    for board in BOARDS.values():
        for variable in board["templating"]["list"][1:]:
            found = re.fullmatch(
                r"label_values\((egress_\w+)(?:\{.*\})?, (\w+)\)", variable["query"]["query"]
            )
            assert found
            assert found[1] in METRICS
            assert found[2] == variable["name"]


@pytest.mark.parametrize("expr", EXPRESSIONS)
def test_queries_rest_on_metrics_that_exist(expr: str) -> None:
    """Every metric is one that the exporter publishes, or that a rule records."""
    assert set(re.findall(r"(?<![:\w])(?:egress_\w+|up)\b(?=\{)", expr)) <= METRICS
    assert set(re.findall(r"\b\w+:egress_\w+:\w+", expr)) <= RECORDED


@pytest.mark.parametrize("expr", EXPRESSIONS)
def test_queries_rest_on_labels_that_exist(expr: str) -> None:
    """Every label is one that the exporter or Prometheus gives, or that the query makes."""
    lists = re.findall(r"\b(?:by|on|ignoring|group_left) \(([^)]*)\)", expr)
    matched = re.findall(r'(\w+)(?:=~|!~|!=|=)"', expr)
    used = {label for found in lists for label in found.split(", ") if label} | set(matched)
    made = set(re.findall(r'count_values by \([^)]*\) \("(\w+)"', expr))
    made |= set(re.findall(r'^ *"(\w+)", " to "', expr, re.MULTILINE))
    assert made <= MADE | LABELS
    assert used <= LABELS | made


@pytest.mark.parametrize("label", ["state", "location"])
def test_queries_compare_with_values_that_exist(label: str) -> None:
    """No panel waits for a state or a location that no exporter can say."""
    text = "\n".join(one.expr for one in queries())
    found = re.findall(rf'\b{label}(?:=~|!~|!=|=)"([^"]*)"', text)
    known = {"state": State, "location": Location}[label]
    assert {value for values in found for value in values.split("|")} <= set(known)


def test_every_state_has_its_colour_and_place() -> None:
    """What is not known ranks above what is reached, and below what is blocked."""
    assert set(CODES) == set(State)
    assert {place for place, _, _ in LOCATIONS} == set(Location)
    unknown = {State.UNRESOLVED, State.ERROR, State.INCONCLUSIVE}
    ranks = [
        [CODES[state] for state in group] for group in (REACHED_STATES, unknown, BLOCKED_STATES)
    ]
    assert all(max(low) < min(high) for low, high in itertools.pairwise(ranks))


def test_colours_do_not_join_what_differs() -> None:
    """No colour means reached in one place, and blocked or unknown in another."""
    colors = {
        group: {color for state, color in STATES if state in group}
        for group in (REACHED_STATES, BLOCKED_STATES)
    }
    assert not colors[REACHED_STATES] & colors[BLOCKED_STATES]


def test_links_lead_to_what_there_is() -> None:
    """To a dashboard of ours, to the exporter's page, or to its evidence."""
    for url in links():
        assert re.fullmatch(
            r"/d/egress-target\?.*&\$\{__url_time_range\}"
            r"|http://\$\{__data\.fields\.instance:raw\}"
            r"/((targets|api/v1/evidence)/\$\{[\w.]+:percentencode\})?"
            r"(\?of=(latest|first-bad|last-good))?",
            url,
        ), url


@pytest.mark.parametrize("panel", TABLES)
def test_overrides_of_a_table_are_for_its_columns(panel: dict[str, Any]) -> None:
    """A name that is none of its columns would be ignored in silence; so would a sorting by it."""
    (names,) = [
        one["options"]["renameByName"]
        for one in panel["transformations"]
        if one["id"] == "organize"
    ]
    overridden = {one["matcher"]["options"] for one in panel["fieldConfig"]["overrides"]}
    assert overridden <= set(names)
    assert {one["displayName"] for one in panel["options"]["sortBy"]} <= set(names.values())


def test_every_panel_is_documented() -> None:
    """docs/grafana.md has a row for each panel, and none for any other."""
    page = (FOLDER.parent / "docs" / "grafana.md").read_text()
    rows = re.findall(r"^\| ([^|]+?) \| [^|]+ \|$", page, re.MULTILINE)
    titles = [panel["title"] for _, panel in panels()]
    assert [row for row in rows if row not in {"panel", "---"}] == titles
