"""Discovery for real: `serve` in a lab, with lists that change under it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.conftest import OpenLab
from tests.lab.exporting import Exporter, exporting
from tests.lab.lab import Lab
from tests.scenarios import FOLDER, load

SCENARIO = load(FOLDER / "mid_path_firewall.toml")
HOST = SCENARIO.destination
#: Serves a folder on a port of its choice, tells the port, and goes on.
WEB_SERVER = """
import http.server, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


@pytest.fixture
def lab(open_lab: OpenLab) -> Lab:
    """A firewall in mid-path: open, closed, dropped and rejected ports."""
    return open_lab(SCENARIO)


def write(path: Path, *words: str, **labels: str) -> None:
    """Replace a list as a whole."""
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps([{"targets": words, "labels": labels}]))
    beside.replace(path)


def series_of(exporter: Exporter, target: str) -> list[str]:
    """The series that a target has."""
    return [name for name in exporter.metrics() if f'target="{target}"' in name]


def status(exporter: Exporter, source: object, name: str = "last_refresh_successful") -> float:
    """What the metrics say of a source."""
    return exporter.metrics()[f'egress_discovery_{name}{{source="{source}"}}']


def test_a_target_of_a_file_comes_and_goes(lab: Lab, tmp_path: Path) -> None:
    """It is traced soon after it is listed; when it goes, so do its series, page and API entry."""
    path = tmp_path / "a.json"
    write(path, f"web={HOST}:443", team="pay")
    with exporting(lab, {"FILE_SD": str(path)}) as exporter:
        exporter.wait_for_traces("web")
        assert any('team="pay"' in name for name in series_of(exporter, "web"))
        write(path, f"web={HOST}:443", f"db={HOST}:5432", team="pay")
        exporter.wait_for("discovery: 2 targets, 1 before")
        exporter.wait_for_traces("db")
        # The one that stayed has its record.
        assert exporter.metrics()['egress_traces_total{target="web",team="pay"}'] >= 1
        write(path, f"db={HOST}:5432", team="pay")
        exporter.wait_for("discovery: 1 targets, 2 before")
        assert series_of(exporter, "web") == []
        assert exporter.fetch("/targets/web")[0] == 404
        assert exporter.fetch("/api/v1/targets/web")[0] == 404
        assert series_of(exporter, "db")
        path.write_text("[{")
        exporter.wait_for("what was named before stays")
        assert (status(exporter, path), status(exporter, path, "targets")) == (0, 1)
        assert series_of(exporter, "db")
        path.write_text("[]")
        exporter.wait_for("discovery: 0 targets, 1 before")
        assert series_of(exporter, "db") == []
        assert exporter.fetch("/-/ready") == (200, "ready\n")
        assert exporter.fetch("/")[0] == 200


def test_a_target_that_goes_in_mid_trace_is_forgotten(lab: Lab, tmp_path: Path) -> None:
    """Its trace ends there and then, and nothing of it is published or logged."""
    path = tmp_path / "a.yml"
    port = next(one.port for one in SCENARIO.expectations if one.state == "filtered")
    path.write_text(f"- targets: ['slow={HOST}:{port}']\n")
    with exporting(lab, {"FILE_SD": str(path), "ATTEMPTS": "10"}) as exporter:
        exporter.wait_for("ready: 1 targets")
        path.write_text("[]")
        exporter.signal(signal.SIGHUP)
        exporter.wait_for("configuration reloaded: 0 targets")
        assert series_of(exporter, "slow") == []
        exporter.signal(signal.SIGTERM)
        exporter.wait_for("stopping")
        assert exporter.process.stdout
        exporter.log += exporter.process.stdout
    assert not any(" slow: " in line or "ERROR" in line for line in exporter.log)


@pytest.fixture
def web_server(lab: Lab, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An address in the lab, and the folder that is served there."""
    folder = tmp_path / "served"
    folder.mkdir()
    command = [sys.executable, "-c", WEB_SERVER]
    with lab.popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}", folder
        finally:
            process.kill()


def test_targets_of_a_web_server_outlive_it(
    lab: Lab, web_server: tuple[str, Path], tmp_path: Path
) -> None:
    """A server that answers nonsense changes nothing; SIGHUP reads everything anew."""
    address, folder = web_server
    write(folder / "list.json", f"web={HOST}:443")
    config = tmp_path / "c.yml"
    source = f"{address}/list.json"
    config.write_text(f"http_sd_configs: [{{url: '{source}?a=b', refresh_interval: 1h}}]")
    with exporting(lab, {"CONFIG_FILE": str(config)}) as exporter:
        exporter.wait_for_traces("web")
        assert status(exporter, source) == 1
        (folder / "list.json").write_text("<html>")
        exporter.signal(signal.SIGHUP)
        exporter.wait_for("what was named before stays")
        exporter.wait_for("configuration reloaded: 1 targets")
        assert status(exporter, source) == 0
        assert series_of(exporter, "web")
        write(folder / "list.json", f"admin={HOST}:8443")
        assert exporter.fetch("/-/reload", "POST")[0] == 200
        exporter.wait_for_traces("admin")
        assert status(exporter, source) == 1
        assert series_of(exporter, "web") == []


def test_a_program_may_wait_for_its_first_target(lab: Lab, tmp_path: Path) -> None:
    """Without any target it is ready, and says on its page where targets are to come from."""
    with exporting(lab, {"FILE_SD": str(tmp_path / "*.yml")}) as exporter:
        exporter.wait_for("ready: 0 targets")
        assert exporter.fetch("/-/ready") == (200, "ready\n")
        assert exporter.fetch("/-/healthy")[0] == 200
        assert "no source names one now" in exporter.fetch("/")[1]
        (tmp_path / "a.yml").write_text(f"- targets: ['web={HOST}:443']\n")
        exporter.wait_for_traces("web")
