"""Instances that share the targets out, each a real `serve` in a lab."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.shares import instance_of
from tests.lab.conftest import OpenLab
from tests.lab.exporting import Exporter, exporting
from tests.lab.lab import Lab
from tests.scenarios import FOLDER, load

SCENARIO = load(FOLDER / "mid_path_firewall.toml")
COUNT = 2
NAMES = {443: "web", 8443: "admin", 5432: "db", 6379: "cache"}
ENDPOINTS = " ".join(f"{name}={SCENARIO.destination}:{port}" for port, name in NAMES.items())


@pytest.fixture
def lab(open_lab: OpenLab) -> Lab:
    """A firewall in mid-path."""
    return open_lab(SCENARIO)


def split(index: int, **settings: str) -> dict[str, str]:
    """The settings of one of the instances."""
    return {
        "SPLIT_TARGETS": "true",
        "INSTANCE_COUNT": str(COUNT),
        "CF_INSTANCE_INDEX": str(index),
        **settings,
    }


def traced(exporter: Exporter) -> set[str]:
    """The names of the targets that have series."""
    prefix = "egress_traces_total{"
    found = (name for name in exporter.metrics() if name.startswith(prefix))
    return {name.partition('target="')[2].partition('"')[0] for name in found}


def test_each_target_has_series_on_one_instance(lab: Lab) -> None:
    """Together the instances trace every target, and none of them twice."""
    parts = []
    for index in range(COUNT):
        mine = {name for name in NAMES.values() if instance_of(name, COUNT) == index}
        with exporting(lab, split(index, ENDPOINTS=ENDPOINTS)) as exporter:
            exporter.wait_for_traces(*mine)
            parts.append(traced(exporter))
            assert parts[-1] == mine
            said = f"instance {index} of 2, counted from 0, traces {len(mine)} of 4 targets"
            assert any(said in line for line in exporter.log)
            assert said in exporter.fetch("/")[1]
            assert exporter.metrics()["egress_targets_configured"] == len(NAMES)
            assert exporter.metrics()["egress_targets_traced"] == len(mine)
    assert sorted(name for part in parts for name in part) == sorted(NAMES.values())


def test_an_instance_without_a_target_of_its_own_is_ready(lab: Lab) -> None:
    """A platform does not wait for ever for an instance that has nothing to do."""
    other = 1 - instance_of("web", COUNT)
    with exporting(lab, split(other, ENDPOINTS=f"web={SCENARIO.destination}:443")) as exporter:
        exporter.wait_for("ready: 0 targets")
        assert exporter.fetch("/-/ready") == (200, "ready\n")
        assert "Other instances trace all targets" in exporter.fetch("/")[1]
        assert traced(exporter) == set()


def test_a_reload_shares_out_again(lab: Lab, tmp_path: Path) -> None:
    """A count that has changed in the file changes the part; what cannot be is refused."""
    file = tmp_path / "targets.yml"
    targets = f"targets: [{{name: web, host: {SCENARIO.destination}, port: 443}}]\n"

    def write(count: int) -> None:
        file.write_text(f"{targets}split_targets: true\ninstance_count: {count}\n")

    moved_to = next(count for count in range(2, 100) if instance_of("web", count) == count - 1)
    index = moved_to - 1
    write(moved_to)
    environ = {"CONFIG_FILE": str(file), "INSTANCE_INDEX": str(index)}
    with exporting(lab, environ) as exporter:
        exporter.wait_for_traces("web")
        other = next(n for n in range(moved_to + 1, 101) if instance_of("web", n) != index)
        write(other)
        assert exporter.fetch("/-/reload", "POST")[0] == 200
        assert traced(exporter) == set()
        write(moved_to)
        assert exporter.fetch("/-/reload", "POST")[0] == 200
        exporter.wait_for_traces("web")
        assert traced(exporter) == {"web"}
        write(index)
        assert f"INSTANCE_COUNT is {index}" in exporter.fetch("/-/reload", "POST")[1]
        assert traced(exporter) == {"web"}
