"""Discovered lists: what they name, what is left out of them, and what is no list."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.config import load
from exporter.config.files import MAX_FILE_BYTES
from exporter.config.lists import MAX_PROBLEMS, SETTINGS
from exporter.config.schema import TARGET_KEYS
from exporter.model import Target
from exporter.settings import MAX_TARGETS, Listed, Lists

ROOT = Path(__file__).parents[2]
DOCUMENTATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


def lists(**environ: str) -> Lists:
    """What reads lists under these settings."""
    found = load({"FILE_SD": "any.json", **environ}).sources
    assert found
    return found.lists


def of_json(value: object, **environ: str) -> Listed:
    """What a list in JSON names."""
    return lists(**environ).of_answer(json.dumps(value).encode(), "list")


def of_text(path: Path, text: str | bytes) -> Listed:
    """What a file of that name with that text names."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return lists().of_file(path)


def group(*words: object, **labels: str) -> list[object]:
    """A list with one group."""
    return [{"targets": list(words), "labels": labels}]


def names(found: Listed) -> list[str]:
    """The targets' names."""
    return [target.name for target in found.targets]


# -- what they name ----------------------------------------------------------------------


def test_json_and_yaml_say_the_same(tmp_path: Path) -> None:
    """Both forms give equal targets, in order, with the group's labels."""
    expected = (
        Target("db.example:5432", "db.example", 5432, (("team", "pay"),)),
        Target("[2001:db8::1]:443", "2001:db8::1", 443, (("team", "pay"),)),
        Target("api", "10.0.0.1", 80),
    )
    value = [
        *group("db.example:5432", "[2001:db8::1]:443", team="pay"),
        {"targets": ["api=10.0.0.1:80"]},
    ]
    yaml = """
- targets: [db.example:5432, "[2001:db8::1]:443"]
  labels: {team: pay}
- targets:
  - api=10.0.0.1:80
"""
    assert of_json(value) == Listed(expected)
    assert of_text(tmp_path / "a.JSON", json.dumps(value)) == Listed(expected)
    for name in ("a.yml", "a.yaml", "a.YML"):
        assert of_text(tmp_path / name, yaml) == Listed(expected)


def test_defaults_hold_for_discovered_targets(tmp_path: Path) -> None:
    """What an entry leaves out comes from the environment and the file, labels one by one."""
    file = tmp_path / "c.yml"
    file.write_text("defaults: {labels: {team: a, tier: b}, attempts: 5}")
    found = of_json(
        group("h:1", team="c"), CONFIG_FILE=str(file), ATTEMPTS="", INTERVAL_SECONDS="7"
    )
    (target,) = found.targets
    assert dict(target.labels) == {"team": "c", "tier": "b"}
    assert (target.interval, target.plan.attempts) == (7.0, 5)


def test_a_label_in_underscores_is_a_setting() -> None:
    """__KEY__ sets what KEY sets in a target, and is no label of its series."""
    (target,) = of_json(
        group("h:1", __name__="db", __interval_seconds__="30", __canary__="false", a="b")
    ).targets
    assert (target.name, target.interval, target.controls.canary) == ("db", 30.0, False)
    assert target.labels == (("a", "b"),)


def test_every_setting_of_a_target_has_its_label() -> None:
    """Of a target's keys all but host, port and labels can stand in a label, and are documented."""
    assert set(SETTINGS.values()) == set(TARGET_KEYS) - {"host", "port", "labels"}
    assert all(f"`{label}`" in DOCUMENTATION for label in SETTINGS)


def test_labels_for_relabelling_are_dropped() -> None:
    """What begins with __meta_ is no label, whatever it holds."""
    (target,) = of_json(group("h:1", __meta_kubernetes_pod_name="\x1b")).targets
    assert target.labels == ()


@pytest.mark.parametrize("text", ["[]", " [ ]\n", '[{"targets": []}]', '[{"targets": null}]'])
def test_a_list_may_name_nobody(tmp_path: Path, text: str) -> None:
    """An empty list is a list, in JSON and in YAML."""
    assert of_text(tmp_path / "a.json", text) == Listed()
    assert of_text(tmp_path / "a.yml", text) == Listed()


def test_the_documented_list_is_right() -> None:
    """The page's example names what it says."""
    section = DOCUMENTATION.partition("\n## Discovery")[2].partition("\n## ")[0]
    example = section.partition("```json\n")[2].partition("```")[0]
    found = lists().of_answer(example.encode(), "list")
    assert names(found) == ["db.example.com:5432", "api", "[2001:db8::1]:443"]
    assert (found.left_out, found.targets[0].interval) == (0, 30.0)


# -- what is left out --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (group("h"), "list: [0].targets[0]: 'h' has no port; write e.g. h:443"),
        (group("a:1", "http://h/"), "list: [0].targets[1]: 'http://h/' is a URL; write h:80"),
        (group("h:0"), "list: [0].targets[0]: '0' should be a whole number from 1 to 65535"),
        (group("h_!:1"), "list: [0].targets[0]: 'h_!' is neither a DNS name nor an IP address"),
        (group("u:p@h:1"), "list: [0].targets[0]: '***@h:1' should be host:port"),
        (group({"a": "b"}), "list: [0].targets[0]: a mapping should be host:port"),
        (group(None), "list: [0].targets[0]: an empty value should be host:port"),
        (group("h:1", job="x"), "list: [0].labels.job: 'job' is a reserved label"),
        (group("h:1", a="\x1b"), "list: [0].labels.a: '\\x1b' should be 1 to 200 printable"),
        (
            group("h:1", __attempts__="11"),
            "list: [0].labels.__attempts__: '11' should be a whole number from 1 to 10",
        ),
        (
            group("h:1", __intervall__="1"),
            "list: [0].labels: '__intervall__' is no setting; there are __name__, ",
        ),
    ],
)
def test_what_cannot_be_a_target_is_left_out(value: list[object], line: str) -> None:
    """A line names the list, the place in it, the value and what would be right."""
    found = of_json([*value, {"targets": ["good:1"]}])
    assert names(found)[-1] == "good:1"
    assert found.left_out == 1
    (problem,) = found.problems
    assert problem.startswith(line)


def test_lines_are_few_where_mistakes_are_many() -> None:
    """A mistake that many entries share is said once, and no list has many lines."""
    shared = of_json(group(*(f"h:{port}" for port in range(1, 101)), job="x"))
    assert (shared.left_out, len(shared.problems)) == (100, 1)
    each = of_json(group(*(f"h{number}" for number in range(100))))
    assert (each.left_out, len(each.problems)) == (100, MAX_PROBLEMS)


# -- what is no list ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("# nothing", "cannot be read as JSON"),
        ("", "is empty; a list without targets is written []"),
        (" \n", "is empty; a list without targets is written []"),
        ("[", "cannot be read as JSON, from line 1, column 2 on"),
        ("{}", "should be a list of groups with targets and labels"),
        ("null", "should be a list of groups with targets and labels"),
        ('"a secret"', "should be a list of groups with targets and labels"),
        ("<html>", "cannot be read as JSON"),
        ("[1]", "[0]: '1' should be a mapping with keys such as targets, labels"),
        ("[{}]", "[0]: an empty value should be a mapping with keys such as targets, labels"),
        ('[{"target": ["a:1"]}]', "[0].target: is unknown; did you mean targets?"),
        ('[{"targets": "a:1"}]', "[0].targets: 'a:1' should be a list of host:port"),
        ('[{"targets": ["a:1"], "labels": ["b"]}]', "[0].labels: a list should be a mapping"),
        ("[" * 100_000, "cannot be read as JSON: too many levels"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path: Path, text: str, line: str) -> None:
    """It is refused as a whole, in one line that names the file."""
    with pytest.raises(ValueError, match=rf"/a\.json:? {re.escape(line)}") as caught:
        of_text(tmp_path / "a.json", text)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("- targets: [a:1\n", "cannot be read as YAML: did not find expected"),
        ("- &a [b]\n- *a", "aliases (*name) are not supported"),
        ("- targets: [a:1]\n  targets: [b:1]", "[0].targets: is written twice"),
        ("a: b", "should be a list of groups with targets and labels"),
        ("- {targets: [a:1], label: {b: c}}", "[0].label: is unknown; did you mean labels?"),
    ],
)
def test_what_is_no_list_in_yaml_is_refused(tmp_path: Path, text: str, line: str) -> None:
    """It is refused as a whole, in a line that names the file and the line in it."""
    with pytest.raises(ValueError, match=r" line [12]: ") as caught:
        of_text(tmp_path / "a.yml", text)
    assert str(caught.value).partition(": ")[2].startswith(line)


def test_comments_alone_are_no_list(tmp_path: Path) -> None:
    """A YAML file that says nothing yet is as empty as one without a byte."""
    with pytest.raises(ValueError, match=r"a\.yml: is empty; a list without targets is written"):
        of_text(tmp_path / "a.yml", "# nothing yet")


def test_too_much_is_refused(tmp_path: Path) -> None:
    """Neither a long file nor one with a target too many gives any target."""
    with pytest.raises(ValueError, match=r"is too large; it should have at most 1,048,576 bytes"):
        of_text(tmp_path / "a.json", b"[" + b" " * MAX_FILE_BYTES + b"]")
    right = [f"h{number}:1" for number in range(MAX_TARGETS)]
    assert len(of_json(group(*right)).targets) == MAX_TARGETS
    with pytest.raises(ValueError, match=r"names more than 2,000 targets"):
        of_json(group(*right, "one:1"))


def test_what_is_no_text_or_no_file_is_refused(tmp_path: Path) -> None:
    """Bytes that are no UTF-8, a folder, and a file that does not exist are each one line."""
    with pytest.raises(ValueError, match=r"a\.json: is not UTF-8$"):
        of_text(tmp_path / "a.json", b"\xff")
    with pytest.raises(ValueError, match=r" is a directory; it should be a regular file$"):
        lists().of_file(tmp_path)
    with pytest.raises(ValueError, match=r"b\.json cannot be read: No such file or directory$"):
        lists().of_file(tmp_path / "b.json")


# -- hostile lists -----------------------------------------------------------------------

WORDS = st.text(max_size=20) | st.sampled_from(["a:1", "b=c:2", "[::1]:3", "a:b:c", "=", "::"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["targets", "labels", *SETTINGS]) | WORDS, inner, max_size=4
        )
    ),
    max_leaves=20,
)
GROUPS = st.lists(
    st.fixed_dictionaries(
        {"targets": st.lists(WORDS | VALUES, max_size=4)},
        optional={"labels": st.dictionaries(st.sampled_from([*SETTINGS, "a"]), WORDS | VALUES)},
    ),
    max_size=3,
)
READER = lists()


def check(read: Callable[[], Listed]) -> None:
    """Whatever is read gives targets and lines, or one line; all of it prints."""
    try:
        found = read()
    except ValueError as error:
        lines: Iterable[str] = [str(error)]
    else:
        lines = (*found.problems, *names(found))
    assert all(line.isprintable() for line in lines)


@given(VALUES | GROUPS)
def test_any_json_is_read_or_refused(value: object) -> None:
    """Whatever a server sends as JSON gives targets and lines, or one line."""
    body = json.dumps(value).encode()
    check(lambda: READER.of_answer(body, "list"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode),
    suffix=st.sampled_from(["json", "yml"]),
)
def test_any_file_is_read_or_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    """Whatever a file holds gives targets and lines, or one line."""
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    check(lambda: READER.of_file(path))
