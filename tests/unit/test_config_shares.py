"""Settings of instances that share the targets out."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.config import load
from exporter.model import Share
from exporter.settings import ConfigurationError

SPLIT = {"SPLIT_TARGETS": "true", "INSTANCE_COUNT": "4"}


def problem(environ: dict[str, str]) -> str:
    """The one line of the one mistake."""
    with pytest.raises(ConfigurationError) as caught:
        load(environ)
    (line,) = caught.value.problems
    return line


def test_by_default_nothing_is_shared_out() -> None:
    """Each instance traces all targets, whatever its platform says of it."""
    assert load({"CF_INSTANCE_INDEX": "7", "INSTANCE_COUNT": "4"}).share is None


@pytest.mark.parametrize(
    ("environ", "index"),
    [
        ({"INSTANCE_INDEX": "3"}, 3),
        ({"CF_INSTANCE_INDEX": "2"}, 2),
        ({"POD_NAME": "egress-exporter-1"}, 1),
        ({"INSTANCE_INDEX": "0", "CF_INSTANCE_INDEX": "2", "POD_NAME": "a-1"}, 0),
        ({"INSTANCE_INDEX": " ", "CF_INSTANCE_INDEX": "", "POD_NAME": "a-1"}, 1),
    ],
)
def test_where_the_index_comes_from(environ: dict[str, str], index: int) -> None:
    """INSTANCE_INDEX, or Cloud Foundry's number, or that at the end of a StatefulSet's pod."""
    assert load(SPLIT | environ).share == Share(index, 4)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"POD_NAME": "egress-exporter-7d4b9c8-x2v9k"},
        {"POD_NAME": "egress-exporter-7d4b9c8-22456"},
        {"POD_NAME": "1"},
        {"CF_INSTANCE_INDEX": "-1"},
        {"CF_INSTANCE_INDEX": "one"},
    ],
)
def test_a_missing_index(environ: dict[str, str]) -> None:
    """What is no instance's number is not taken for one; a Deployment's pods have none."""
    assert problem(SPLIT | environ) == (
        "INSTANCE_INDEX: is missing, and SPLIT_TARGETS is true; set it to the number of this "
        "instance, counted from 0 (CF_INSTANCE_INDEX and POD_NAME tell none)"
    )


def test_a_missing_count() -> None:
    """No platform tells its instances how many they are."""
    assert problem({"SPLIT_TARGETS": "true", "CF_INSTANCE_INDEX": "0"}) == (
        "INSTANCE_COUNT: is missing, and SPLIT_TARGETS is true; set it to the number of "
        "instances, the same on all of them"
    )


@pytest.mark.parametrize(
    ("variable", "value", "number"),
    [
        ("INSTANCE_INDEX", "4", 4),
        ("CF_INSTANCE_INDEX", "17", 17),
        ("POD_NAME", "egress-exporter-5", 5),
    ],
)
def test_an_index_beyond_the_count(variable: str, value: str, number: int) -> None:
    """Nobody would trace what such an instance takes for its own."""
    assert problem(SPLIT | {variable: value}) == (
        f"{variable}: '{value}' is instance {number}, counted from 0, and INSTANCE_COUNT is 4; "
        f"set INSTANCE_COUNT to {number + 1} or more on all instances"
    )


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("INSTANCE_INDEX", "100", "a whole number from 0 to 99"),
        ("INSTANCE_INDEX", "a", "a whole number from 0 to 99"),
        ("INSTANCE_COUNT", "0", "a whole number from 1 to 100"),
        ("INSTANCE_COUNT", "101", "a whole number from 1 to 100"),
        ("SPLIT_TARGETS", "4", "true or false"),
    ],
)
def test_a_wrong_value(variable: str, value: str, said: str) -> None:
    """Each is judged whether the targets are shared out or not."""
    assert problem({variable: value}) == f"{variable}: '{value}' should be {said}"


def test_the_count_in_a_file(tmp_path: Path) -> None:
    """The count may stand where all instances read it, their own index may not."""
    file = tmp_path / "targets.yml"
    file.write_text("split_targets: true\ninstance_count: 3\n")
    environ = {"CONFIG_FILE": str(file), "INSTANCE_INDEX": "2"}
    assert load(environ).share == Share(2, 3)
    file.write_text("split_targets: true\ninstance_count: 3\ninstance_index: 1\n")
    assert problem(environ) == (
        f"{file} line 3: instance_index: is a variable only, for instances have the file in common"
    )
