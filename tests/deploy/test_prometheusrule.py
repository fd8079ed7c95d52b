"""The rules as an object of the Prometheus operator's: the same ones, and of the right form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError

from tests.deploy.manifests import ROOT, applied, read
from tests.deploy.prometheusrule import FILE, RULES, rendered

SCHEMA = json.loads(Path(__file__).with_name("prometheusrule.schema.json").read_text())


def test_it_is_made_from_the_rules() -> None:
    """The committed file is what `python -m tests.deploy.prometheusrule` writes."""
    assert FILE.read_text() == rendered()


def test_no_file_of_rules_is_left_out() -> None:
    """Every file of dashboards/rules is in it, and no text is changed on the way."""
    folder = ROOT / "dashboards" / "rules"
    assert set(RULES) == {path.name for path in folder.glob("*.yml")}
    groups = [
        group for name in RULES for group in yaml.safe_load((folder / name).read_text())["groups"]
    ]
    assert read(FILE.name)["spec"]["groups"] == groups


def test_it_is_valid_for_the_operator() -> None:
    """It has the fields that the operator's reference documents, and no other."""
    Draft202012Validator.check_schema(SCHEMA)
    Draft202012Validator(SCHEMA).validate(read(FILE.name))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/spec/group", []),
        ("/spec/groups/0/rules/0/alert", "RecordedAsWell"),
        ("/spec/groups/1/rules/0/for", "2 minutes"),
        ("/spec/groups/1/rules/0/labels/severity", 1),
    ],
)
def test_what_the_operator_would_refuse_is_not_valid(path: str, value: object) -> None:
    """A misspelt field, a rule of both kinds, a time in words, a label that is no text."""
    changed = applied([{"op": "add", "path": path, "value": value}], read(FILE.name))
    with pytest.raises(ValidationError):
        Draft202012Validator(SCHEMA).validate(changed)


def test_it_stands_beside_the_servicemonitor() -> None:
    """The same namespace and labels, so that one selector of the operator's finds both."""
    rule, monitor = read(FILE.name), read("servicemonitor.yaml")
    assert rule["metadata"] == monitor["metadata"]
