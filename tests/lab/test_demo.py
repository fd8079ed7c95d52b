"""`make demo` for real: four right verdicts for the host to see, and nothing left afterwards."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.processes import descendants, gone

FOLDER = Path(__file__).parents[2]
STATES = {"shop-api": "open", "closed-port": "closed", "database": "filtered", "cache": "rejected"}
NAMESPACES = ("net", "mnt", "pid")


@contextmanager
def demo(port: int) -> Iterator[subprocess.Popen[str]]:
    """The demo, asked to serve on `port`; killed if the test has not stopped it."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.lab.demo"],
        cwd=FOLDER,
        env={**os.environ, "PORT": str(port)},
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


def page_address(lines: Iterator[str]) -> str:
    """The address that the demo prints, without the slash."""
    return next(found[1] for line in lines if (found := re.search(r"page +(http://\S+)/", line)))


def wait_for_verdicts(lines: Iterator[str]) -> None:
    """Read the exporter's log until every target has been traced."""
    missing = set(STATES)
    while missing:
        line = next(lines)
        missing -= {name for name in missing if f" INFO {name}: " in line}


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


def test_the_demo_shows_four_right_verdicts_and_leaves_nothing() -> None:
    """Page, API and /metrics answer on the host; after Ctrl-C no process or namespace is left."""
    with demo(free_port()) as process:
        lines = lines_of(process)
        address = page_address(lines)
        wait_for_verdicts(lines)

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
        spaces = set[str]().union(*(namespaces(pid) for pid in below))
        assert holders(spaces)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "Stopped the exporter" in said
        assert "Removed the lab" in said
        assert gone(below)
        assert not holders(spaces)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])))


def test_the_demo_finds_a_free_port_and_ends_on_sigterm() -> None:
    """A taken port is passed over; SIGTERM ends the demo like Ctrl-C, however early it comes."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        with demo(port) as process:
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
