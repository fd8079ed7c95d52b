"""Bound services for real: traced, reloaded, and their secrets in nothing that is put out."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.lab.conftest import OpenLab
from tests.lab.exporting import COMMAND, ROOT, environment, exporting
from tests.lab.lab import Lab
from tests.scenarios import FOLDER, load

SCENARIO = load(FOLDER / "mid_path_firewall.toml")
HOST = SCENARIO.destination
CANARY = "hunter2-Canary"
USER = f"u-{CANARY}:{CANARY}"

#: A secret in every place of the credentials, and three endpoints beside them.
SERVICES: dict[str, Any] = {
    "db": {
        **dict.fromkeys(("username", "password", "path", "query", "certificate"), CANARY),
        "uri": f"postgres://{USER}@{HOST}:5432/{CANARY}?{CANARY}#{CANARY}",
    },
    "web": {"hostname": HOST, "port": 443, "nested": {"url": f"https://{USER}@{CANARY}!/"}},
    "broken": {"uri": f"amqp://u:1/{CANARY}@{HOST}:443/{CANARY}", "host": f"{CANARY}:x"},
}
SETTINGS = {
    "DISCOVER_SERVICES": "true",
    "HTTPS_PROXY": f"http://{USER}@proxy.example:3128/{CANARY}",
    "LOG_TRACES": "all",
}
PAGES = ("/", "/targets/db", "/targets/web", "/metrics", "/api/v1/targets", "/api/v1/targets/db")


@pytest.fixture
def lab(open_lab: OpenLab) -> Lab:
    """A firewall in mid-path: one port is open, one is dropped."""
    return open_lab(SCENARIO)


def write(path: Path, services: dict[str, Any]) -> None:
    """Write the file that VCAP_SERVICES_FILE_PATH names."""
    bound = [{"name": name, "credentials": value} for name, value in services.items()]
    path.write_text(json.dumps({"some-service": bound}))


def test_bound_services_are_traced_and_their_secrets_kept(lab: Lab, tmp_path: Path) -> None:
    """Log, pages, metrics and API tell what happens to two services, and none of their secrets."""
    path = tmp_path / "vcap_services"
    write(path, SERVICES)
    with exporting(lab, {**SETTINGS, "VCAP_SERVICES_FILE_PATH": str(path)}) as exporter:
        exporter.wait_for("WARNING VCAP_SERVICES_FILE_PATH some-service[broken].credentials.host")
        exporter.wait_for_traces("db", "web")
        metrics = exporter.metrics()
        assert metrics['egress_state{state="open",target="web"}'] == 1
        assert metrics['egress_state{state="filtered",target="db"}'] == 1
        answers = [exporter.fetch(page) for page in PAGES]
        assert [status for status, _ in answers] == [200] * len(PAGES)
        # The proxy is named beside the failure, and there alone.
        note = "HTTPS_PROXY=proxy.example:3128"
        assert note in exporter.fetch("/targets/db")[1]
        assert note in exporter.fetch("/api/v1/targets/db")[1]
        assert note not in exporter.fetch("/targets/web")[1]

        write(path, {"web": SERVICES["web"], "late": {"host": HOST, "port": 8443}})
        exporter.signal(signal.SIGHUP)
        exporter.wait_for("configuration reloaded: 2 targets")
        exporter.wait_for_traces("late")

        path.write_text(f'{{"x": "{CANARY}')
        status, text = exporter.fetch("/-/reload", "POST")
        assert (status, "cannot be read as JSON" in text) == (500, True)
        answers += [(status, text), *map(exporter.fetch, ("/", "/metrics"))]
    assert CANARY not in "".join([*exporter.log, *(text for _, text in answers)])


def test_check_keeps_secrets(lab: Lab, tmp_path: Path) -> None:
    """`check` prints the endpoints, what could not be read and the proxy, and no secret."""
    path = tmp_path / "vcap_services"
    write(path, SERVICES)
    printed = lab.run(
        [*COMMAND, "check"],
        cwd=ROOT,
        env=environment(lab, **SETTINGS, VCAP_SERVICES_FILE_PATH=str(path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    ).stdout
    assert f"{HOST}:5432" in printed
    assert "warning: VCAP_SERVICES_FILE_PATH some-service[broken].credentials.uri: " in printed
    assert "proxies, which are never used: HTTPS_PROXY=proxy.example:3128" in printed
    assert CANARY not in printed


def test_trace_takes_no_target_from_services(lab: Lab) -> None:
    """`trace` traces what its argument names, whatever is bound; it names the proxy as well."""
    own = [{"name": "egress-exporter", "credentials": {"endpoints": "a:1 b:2"}}]
    printed = lab.run(
        [*COMMAND, "trace", f"{HOST}:5432"],
        cwd=ROOT,
        env=environment(lab, **SETTINGS, VCAP_SERVICES=json.dumps({"user-provided": own})),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert (printed.returncode, "HTTPS_PROXY=proxy.example:3128" in printed.stdout) == (1, True)
