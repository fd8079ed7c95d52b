"""A real `egress-exporter serve` inside a lab, its page on the host's loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.lab.lab import Lab

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "exporter")
#: What of the caller's environment a command gets; its settings are the test's.
KEPT = ("HOME", "LANG", "PATH")


def environment(lab: Lab, **settings: str) -> dict[str, str]:
    """Settings with the lab's platform networks and nothing of the caller's settings."""
    return {
        **{name: os.environ[name] for name in KEPT if name in os.environ},
        "PLATFORM_NETWORKS": ",".join(lab.scenario.platform_networks),
        **settings,
    }


class Exporter:
    """A running exporter: its log as lines, its answers by `fetch`."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port
        self.address = f"http://127.0.0.1:{port}"
        self.log: list[str] = []

    def wait_for(self, text: str) -> str:
        """Read the log up to a line with this text; the test fails when the log ends before."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.log.append(line)
            if text in line:
                return line
        pytest.fail(f"the log ended without {text!r}:\n{''.join(self.log)}", pytrace=False)

    def wait_for_traces(self, *names: str) -> None:
        """Read the log until each of the targets has been traced once."""
        missing = set(names)
        while missing:
            line = self.wait_for(" INFO ")
            missing -= {name for name in missing if f" INFO {name}: " in line}

    def fetch(self, path: str, method: str = "GET") -> tuple[int, str]:
        """The status and the body of an answer."""
        request = urllib.request.Request(self.address + path, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metrics(self) -> dict[str, float]:
        """The samples of /metrics by name and labels, as they are written."""
        lines = self.fetch("/metrics")[1].splitlines()
        samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    def signal(self, number: signal.Signals) -> None:
        """Send the exporter a signal."""
        self.process.send_signal(number)


@contextmanager
def exporting(
    lab: Lab, settings: Mapping[str, str], *wrapper: str, **options: Any
) -> Iterator[Exporter]:
    """Run `serve` in the prober's namespace, behind a wrapper command if one is given."""
    with serving(lab.popen, environment(lab, **settings), *wrapper, **options) as exporter:
        yield exporter


@contextmanager
def serving(
    popen: Callable[..., subprocess.Popen[str]],
    env: Mapping[str, str],
    *wrapper: str,
    **options: Any,
) -> Iterator[Exporter]:
    """Run `serve` with this environment wherever `popen` starts it; see `Lab.popen`."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        popen(
            [*wrapper, *COMMAND, "serve"],
            listener,
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        ) as process,
    ):
        try:
            yield Exporter(process, listener.getsockname()[1])
        finally:
            process.kill()
