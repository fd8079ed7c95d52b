"""Debian's Prometheus on the host's loopback, and what its API says.

It scrapes exporters that serve on loopback too, so no packet of its leaves the host. Its data
are in a folder that the caller removes; it goes with the process that has started it, however
that ends.
"""

from __future__ import annotations

import json
import re
import select
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import yaml

#: How to get it, in one line.
MISSING = "prometheus is missing: install the Debian package prometheus (make system)"
#: It starts within a second, unless others take the processor.
PATIENCE = 60.0
#: Between two looks at what is awaited.
PAUSE = 0.1


class PrometheusError(Exception):
    """It does not run, or does not answer as asked; the message is for people."""


class Sample(NamedTuple):
    """One series at one time; the name of its metric is the label `__name__`."""

    labels: Mapping[str, str]
    value: float


class Line(NamedTuple):
    """One series over a time; each point is (seconds since the epoch, value)."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running one; `log` is where it writes what it has to say."""

    process: subprocess.Popen[bytes]
    address: str
    log: Path

    def ask(self, path: str, **parameters: object) -> Any:
        """The `data` of an answer of /api/v1; raises PrometheusError with the API's own words."""
        url = f"{self.address}/api/v1/{path}?{urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310 - loopback
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise PrometheusError(f"{path} {parameters}: {error.read().decode()}") from None

    def query(self, expression: str, at: float) -> list[Sample]:
        """What an expression gives at a time, in seconds since the epoch; no range vectors."""
        data = self.ask("query", query=expression, time=at)
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        return [Sample(one["metric"], float(one["value"][1])) for one in data["result"]]

    def query_range(
        self, expression: str, start: float, end: float, step: float = 1.0
    ) -> list[Line]:
        """What an expression gives from `start` to `end`, every `step` seconds."""
        data = self.ask("query_range", query=expression, start=start, end=end, step=step)
        return [
            Line(one["metric"], tuple((at, float(value)) for at, value in one["values"]))
            for one in data["result"]
        ]

    def said(self, *levels: str) -> list[str]:
        """The lines of the log of these levels."""
        lines = self.log.read_text().splitlines()
        return [line for line in lines if any(f"level={level} " in line for level in levels)]


def is_installed() -> bool:
    """Whether there is a Prometheus to be started."""
    return shutil.which("prometheus") is not None


@contextmanager
def running(
    folder: Path,
    exporters: Iterable[str],
    rules: Iterable[Path],
    *,
    every: str = "1s",
    port: int = 0,
) -> Iterator[Prometheus]:
    """Prometheus with the job "egress", its files in `folder`; ready when this is entered.

    `exporters` are host:port, `every` is the time between two scrapes and between two
    evaluations, `port` that of the API, 0 for any. Raises PrometheusError where it does not run.
    """
    if not is_installed():
        raise PrometheusError(MISSING)
    configuration, log = folder / "prometheus.yml", folder / "prometheus.log"
    configuration.write_text(yaml.safe_dump(_configured(exporters, rules, every)))
    with log.open("wb") as output:
        process = subprocess.Popen(
            _command(configuration, folder / "data", port),
            stderr=output,
            start_new_session=True,  # a Ctrl-C at the terminal is for whoever has started it
        )
    try:
        address = _address(process, log)
        _wait_until_ready(address)
        yield Prometheus(process, address, log)
    finally:
        process.terminate()
        process.wait()


def _configured(exporters: Iterable[str], rules: Iterable[Path], every: str) -> object:
    return {
        "global": {
            "scrape_interval": every,
            "scrape_timeout": every,
            "evaluation_interval": every,
        },
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [
            {"job_name": "egress", "static_configs": [{"targets": list(exporters)}]},
        ],
    }


def _command(configuration: Path, data: Path, port: int) -> list[str]:
    return [
        *("setpriv", "--pdeathsig=KILL", "--", "prometheus"),
        f"--config.file={configuration}",
        f"--storage.tsdb.path={data}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Where it serves, as it says itself."""
    for _ in tries():
        if found := re.search(r'msg="Listening on" address=(\S+)', log.read_text()):
            return f"http://{found[1]}"
        if process.poll() is not None:
            break
    raise PrometheusError(f"prometheus does not listen:\n{log.read_text()}")


def _wait_until_ready(address: str) -> None:
    for _ in tries():
        try:
            urllib.request.urlopen(f"{address}/-/ready", timeout=PATIENCE).close()  # noqa: S310
        except urllib.error.HTTPError as error:
            error.close()  # 503 until it has read its data
        else:
            return
    raise PrometheusError("prometheus does not become ready")


def tries(seconds: float = PATIENCE) -> Iterator[None]:
    """One look after another, with a pause between, until the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        select.select([], [], [], PAUSE)
