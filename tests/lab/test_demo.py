"""`make demo` for real: verdicts and alerts for the host to see, and nothing left afterwards."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.conftest import OpenLab
from tests.lab.demo import introduce, watching
from tests.lab.processes import descendants, gone
from tests.lab.prometheus import tries
from tests.scenarios import FOLDER as SCENARIOS
from tests.scenarios import load

FOLDER = Path(__file__).parents[2]
STATES = {"shop-api": "open", "closed-port": "closed", "database": "filtered", "cache": "rejected"}
#: How the two commands begin that switch a firewall on and off.
SWITCH = ("add rule", "flush chain")
NAMESPACES = ("net", "mnt", "pid")


@contextmanager
def demo(port: int, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The demo, asked to serve on `port`, its files in `folder`; killed if it has not ended."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.lab.demo"],
        cwd=FOLDER,
        env={**os.environ, "PORT": str(port), "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def lines_of(process: subprocess.Popen[str]) -> Iterator[str]:
    """The demo's lines as they come; the test fails with all of them if they end."""
    assert process.stdout
    seen = []
    for line in process.stdout:
        seen.append(line)
        yield line
    pytest.fail("the demo has ended:\n" + "".join(seen), pytrace=False)


def page_address(lines: Iterator[str], what: str = "page") -> str:
    """The address that the demo prints, without what follows its last slash."""
    shape = rf" {what} +(http://\S+)/"
    return next(found[1] for line in lines if (found := re.search(shape, line)))


def wait_for_verdicts(lines: Iterator[str]) -> None:
    """Read the exporter's log until every target has been traced."""
    missing = set(STATES)
    while missing:
        line = next(lines)
        missing -= {name for name in missing if f" INFO {name}: " in line}


def wait_for_alerts(prometheus: str) -> None:
    """Ask Prometheus until the blocked targets' alerts wait for their time, or fire."""
    expected = {name for name, state in STATES.items() if state in ("filtered", "rejected")}
    told: list[dict[str, str]] = []
    for _ in tries():
        answer = json.loads(fetch(f"{prometheus}/api/v1/alerts"))
        told = [one["labels"] for one in answer["data"]["alerts"]]
        if {
            one["target"] for one in told if one["alertname"] == "EgressBlockedOutside"
        } == expected:
            return
    pytest.fail(f"the alerts did not come; there are {told}", pytrace=False)


def fetch(address: str) -> str:
    """The body of a page that the demo serves on loopback."""
    with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - http://127.0.0.1
        text: str = answer.read().decode()
        return text


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def namespaces(pid: int) -> set[str]:
    """The namespaces of a process that are not ours."""

    def of(process: str) -> set[str]:
        return {str(Path(f"/proc/{process}/ns/{name}").readlink()) for name in NAMESPACES}

    return of(str(pid)) - of("self")


def holders(spaces: set[str]) -> list[int]:
    """The processes that are in one of the namespaces."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if namespaces(int(folder.name)) & spaces:
                found.append(int(folder.name))
        except OSError:  # it has ended, or is another user's and none of ours
            continue
    return found


def test_the_demo_shows_four_right_verdicts_and_leaves_nothing(tmp_path: Path) -> None:
    """Page, API, /metrics and alerts are there; after Ctrl-C no process, namespace or file is."""
    with demo(free_port(), tmp_path) as process:
        lines = lines_of(process)
        address, prometheus = page_address(lines), page_address(lines, "alerts")
        wait_for_verdicts(lines)
        wait_for_alerts(prometheus)

        metrics = fetch(f"{address}/metrics")
        for name, state in STATES.items():
            assert f'egress_state{{state="{state}",target="{name}"}} 1.0' in metrics
        assert 'egress_blocked{location="external",target="database"} 1.0' in metrics
        assert 'egress_blocked_at_hop{target="database"} 7.0' in metrics
        assert 'egress_blocked_at_hop{target="cache"} 6.0' in metrics

        page = fetch(f"{address}/")
        assert all(name in page for name in STATES)
        answer = json.loads(fetch(f"{address}/api/v1/targets"))
        assert {one["target"]: one["verdict"]["state"] for one in answer["targets"]} == STATES

        below = descendants(process.pid)
        # By its processes, for a namespace's number is at once another lab's.
        inside = holders(set[str]().union(*(namespaces(pid) for pid in below)))
        assert inside
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "Stopped the exporter" in said
        assert "Removed the lab" in said
        assert gone({*below, *inside})
        assert not list(tmp_path.iterdir())
        for served in (address, prometheus):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", int(served.rpartition(":")[2])))


def test_the_demo_s_firewall_can_be_switched_from_outside(tmp_path: Path) -> None:
    """The printed commands give a router of the lab a rule, and take it away again."""
    with demo(free_port(), tmp_path) as process:
        lines = lines_of(process)
        on, off = (next(line for line in lines if f" nft '{verb}" in line) for verb in SWITCH)
        look = [*shlex.split(off)[:-1], "list chain inet lab forward"]
        for command, dropped in ((on, True), (off, False)):
            subprocess.run(shlex.split(command), check=True)
            listing = subprocess.run(look, check=True, capture_output=True, text=True).stdout
            assert ("tcp dport 443 drop" in listing) is dropped


def test_without_prometheus_the_demo_says_how_to_get_it(
    open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All else is as it was, and one line names the package."""
    monkeypatch.setattr("tests.lab.prometheus.is_installed", lambda: False)
    with socket.create_server(("127.0.0.1", 0)) as listener, watching(listener) as address:
        introduce(open_lab(load(SCENARIOS / "mid_path_firewall.toml")), listener, address)
    assert "alerts  none: prometheus is missing: install the" in capsys.readouterr().out


def test_the_demo_finds_a_free_port_and_ends_on_sigterm(tmp_path: Path) -> None:
    """A taken port is passed over; SIGTERM ends the demo like Ctrl-C, however early it comes."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        with demo(port, tmp_path) as process:
            assert int(page_address(lines_of(process)).rpartition(":")[2]) > port
            below = descendants(process.pid)
            process.terminate()
            process.communicate(timeout=30)
            assert process.returncode == 0
            assert gone(below)


def test_a_wrong_port_is_wrong_usage() -> None:
    """PORT that is no number is quoted, with what would be right."""
    seen = subprocess.run(
        [sys.executable, "-m", "tests.lab.demo"],
        cwd=FOLDER,
        env={**os.environ, "PORT": "http"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert seen.returncode == 2
    assert seen.stderr == "No demo: PORT is 'http'; it should be a number from 1 to 65535\n"
