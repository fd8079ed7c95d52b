"""Zones in the configuration: what they may be, where they are written, what is wrong with them."""

from __future__ import annotations

import json
from ipaddress import ip_network
from pathlib import Path

import pytest

from exporter.config import load
from exporter.config.zones import MAX_ZONES
from exporter.directory import read_table
from exporter.model import EngineStatus, NamedZone
from exporter.plan import describe
from exporter.settings import ConfigurationError

ROOT = Path(__file__).parents[2]
DOCUMENTATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")

CELL = NamedZone("cell", (ip_network("10.255.0.0/16"), ip_network("169.254.0.1")), platform=True)
EDGE = NamedZone("corporate edge", (ip_network("10.1.0.0/16"), ip_network("10.2.0.0/16")))
TEXT = "cell (platform)=10.255.0.0/16,169.254.0.1; corporate edge = 10.1.0.0/16 10.2.0.0/16;"
YAML = """\
zones:
  - {name: cell, networks: [10.255.0.0/16, 169.254.0.1], platform: yes}
  - name: corporate edge
    networks: 10.1.0.0/16 10.2.0.0/16
"""


def file(tmp_path: Path, text: str) -> str:
    """The name of a file with this text."""
    path = tmp_path / "c.yml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def problems(**environ: str) -> list[str]:
    """The lines of the mistakes."""
    with pytest.raises(ConfigurationError) as caught:
        load(environ)
    return list(caught.value.problems)


def service(zones: object) -> str:
    """VCAP_SERVICES with a service of the exporter's own."""
    return json.dumps(
        {"user-provided": [{"name": "egress-exporter", "credentials": {"zones": zones}}]}
    )


# -- where they are written ------------------------------------------------------------


def test_a_variable_and_a_list_say_the_same(tmp_path: Path) -> None:
    """ZONES, the file's list, and a text in the file give equal zones in the order written."""
    for environ in (
        {"ZONES": TEXT},
        {"CONFIG_FILE": file(tmp_path, YAML)},
        {"CONFIG_FILE": file(tmp_path, f"zones: {TEXT!r}")},
    ):
        assert load(environ).zones == (CELL, EDGE)


@pytest.mark.parametrize("as_text", [False, True])
def test_a_bound_service_has_them_as_well(as_text: bool) -> None:  # noqa: FBT001
    """A service gives a list, or a text of JSON where its platform takes texts alone."""
    zones = [{"name": "edge", "networks": ["10.1.0.0/16"]}, {"name": "b", "networks": "fd00::/8"}]
    found = load({"VCAP_SERVICES": service(json.dumps(zones) if as_text else zones)}).zones
    assert [zone.name for zone in found] == ["edge", "b"]


def test_the_first_source_names_them_all(tmp_path: Path) -> None:
    """The variable replaces the file's list, and the file's that of the service."""
    path, bound = file(tmp_path, "zones: [{name: a, networks: [10.1.0.0/16]}]"), service("b=fd00::")
    assert [z.name for z in load({"CONFIG_FILE": path, "VCAP_SERVICES": bound}).zones] == ["a"]
    assert [z.name for z in load({"ZONES": "c=10.0.0.0/8", "CONFIG_FILE": path}).zones] == ["c"]
    assert load({"CONFIG_FILE": file(tmp_path, "zones: []"), "VCAP_SERVICES": bound}).zones == ()


def test_the_documented_list_is_right(tmp_path: Path) -> None:
    """The page's example is read without a mistake."""
    text = DOCUMENTATION.partition("## Zones")[2].partition("```yaml\n")[2].partition("```")[0]
    found = load({"CONFIG_FILE": file(tmp_path, text)}).zones
    assert [zone.name for zone in found] == ["cell", "platform NAT", "corporate edge", "provider"]
    assert [zone.platform for zone in found] == [True, True, False, False]


# -- what is wrong ---------------------------------------------------------------------

FORM = "should be NAME=NETWORKS or NAME (platform)=NETWORKS, with ; between zones"
NAME = "should be 1 to 50 printable characters, with no blank at either end"
OTHER_FLAG = "says something else than the zone's flag; write another name"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("corporate", f"ZONES entry 1: 'corporate' {FORM}"),
        ("a=10.0.0.0/8; b", f"ZONES entry 2: 'b' {FORM}"),
        ("=10.0.0.0/8", f"ZONES entry 1, name: '' {NAME}"),
        (f"{'x' * 51}=10.0.0.0/8", f"ZONES entry 1, name: '{'x' * 51}' {NAME}"),
        ("a\x1b=10.0.0.0/8", f"ZONES entry 1, name: 'a\\x1b' {NAME}"),
        ("a=", "ZONES entry 1, networks: '' should be networks such as 10.0.0.0/8, at least one"),
        (
            "a=10.9.5.1/16",
            "ZONES entry 1, networks[0]: '10.9.5.1/16' has host bits set; write 10.9.0.0/16",
        ),
        ("platform=10.0.0.0/8", f"ZONES entry 1, name: 'platform' {OTHER_FLAG}"),
        ("external (platform)=10.0.0.0/8", f"ZONES entry 1, name: 'external' {OTHER_FLAG}"),
        ("unknown=10.0.0.0/8", f"ZONES entry 1, name: 'unknown' {OTHER_FLAG}"),
        (
            "a=10.0.0.0/8;a=10.1.0.0/16",
            "ZONES entry 2, name: 'a' is taken by another zone; write another name, or one zone",
        ),
        (
            "a=10.0.0.0/8;b=10.0.0.0/8",
            "ZONES entry 2, networks: '10.0.0.0/8' is in zone 'a', too; write it in one of both",
        ),
    ],
)
def test_wrong_text(text: str, line: str) -> None:
    """A mistake in ZONES names the entry, the value and what would be right."""
    assert problems(ZONES=text) == [line]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("zones: {a: b}", "line 1: zones: a mapping should be a list of zones"),
        ("zones:\n- [a]", "line 2: zones[0]: a list should be a mapping with keys such as name, "),
        ("zones:\n- {name: a}", "line 2: zones[0].networks: is missing; it should be networks"),
        (
            "zones:\n- {nam: a, networks: [x]}",
            "line 2: zones[0].nam: is unknown; did you mean name",
        ),
        (
            "zones:\n- {name: a, networks: [fd00::/8], platform: 2}",
            "line 2: zones[0].platform: '2' should be true or false",
        ),
        ("defaults:\n  zones: []", "line 2: defaults.zones: belongs to the top level of the file"),
    ],
)
def test_wrong_list(tmp_path: Path, text: str, line: str) -> None:
    """A mistake in the file names the line and the key."""
    path = file(tmp_path, text)
    assert problems(CONFIG_FILE=path)[0].removeprefix(f"{path} ").startswith(line)


def test_a_network_is_not_on_both_sides_of_the_edge() -> None:
    """What PLATFORM_NETWORKS lists may get a name, but only with the flag."""
    same = "10.0.0.0/8"
    assert load({"ZONES": f"a (platform)={same}", "PLATFORM_NETWORKS": same}).zones[0].platform
    (line,) = problems(ZONES=f"a={same}", PLATFORM_NETWORKS=same)
    said = "is in PLATFORM_NETWORKS, and this zone is outside; write one of both"
    assert line == f"ZONES entry 1, networks: '{same}' {said}"
    assert load({"ZONES": "a=10.1.0.0/16", "PLATFORM_NETWORKS": same}).zones


def test_there_are_so_many_zones_and_no_more() -> None:
    """The list is bounded."""
    zones = [f"z{n}=10.{n}.0.0/16" for n in range(MAX_ZONES + 1)]
    assert len(load({"ZONES": ";".join(zones[:-1])}).zones) == MAX_ZONES
    assert problems(ZONES=";".join(zones)) == [
        f"ZONES entry {MAX_ZONES + 1}: is one zone too many; there can be {MAX_ZONES}"
    ]


# -- what check says -------------------------------------------------------------------

ENGINE = EngineStatus("syn", "raw sockets work")


@pytest.mark.parametrize(
    ("environ", "lines"),
    [
        (
            {"ZONES": TEXT},
            [
                "platform networks: those of zones alone",
                "zone cell, inside: 10.255.0.0/16, 169.254.0.1/32",
                "zone corporate edge, outside: 10.1.0.0/16, 10.2.0.0/16",
            ],
        ),
        (
            {"ZONES": "provider=198.51.100.0/24", "REVERSE_DNS": "true"},
            [
                (
                    "platform networks: none, so no block but in a zone can be called external "
                    "(set PLATFORM_NETWORKS)"
                ),
                "zone provider, outside: 198.51.100.0/24",
                "names of hops: by reverse DNS",
            ],
        ),
    ],
)
def test_check_prints_zones(environ: dict[str, str], lines: list[str]) -> None:
    """Each zone with its side and its networks, and whether anybody is inside by configuration."""
    text = describe(load({"ENDPOINTS": "a:1", **environ}), ENGINE, {"a:1": []}, ())
    said = text.split("\n")
    assert said[said.index(lines[0]) :][: len(lines)] == lines


def test_check_prints_the_table(tmp_path: Path) -> None:
    """How many rows AS_TABLE has."""
    settings = load({"ENDPOINTS": "a:1", "AS_TABLE": file(tmp_path, "10.0.0.0\t8\t64500\n")})
    text = describe(settings, ENGINE, {"a:1": []}, (), table=read_table(settings))
    assert "autonomous systems: from a table of 1 rows" in text.split("\n")
