"""`serve` as a user runs it, with many targets on the network behind the TUN device, and watched.

A run has phases of whole cycles: the first round, a warm-up, the cycles that are measured, and
one in which /metrics is asked far more often than Prometheus does. Between two of them the API is
read, which is in nobody's figures: it tells every trace in full.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from socket import create_server
from typing import IO, NamedTuple

from tests.bench.scale_truth import Aim, Told
from tests.bench.serving import PATIENCE, Memory, Service
from tests.bench.tun_network import TunNetwork
from tests.lab.exporting import COMMAND, ROOT
from tests.lab.lab import command_pid

#: What Prometheus sends; see scrape/scrape.go there.
SCRAPING = {
    "Accept": (
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
        "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,"
        "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
    ),
    "Accept-Encoding": "gzip",
}
LOGGED = re.compile(r" INFO (target-\d+): ")
LAG = re.compile(r"^egress_scheduler_lag_seconds (\S+)$", re.MULTILINE)
#: Of /proc/PID/stat, behind the command's name: utime and stime, proc(5).
CPU_FIELDS = slice(11, 13)
TICKS = os.sysconf("SC_CLK_TCK")
#: Seconds that a first round may take.
LONGEST_ROUND = 300.0
#: Seconds between two looks at whether everything has been traced once.
LOOK = 0.2


class Cpu(NamedTuple):
    """Seconds that a process has taken, in its own code and in the kernel on its behalf."""

    user: float
    system: float

    def since(self, before: Cpu) -> Cpu:
        """What has come on top."""
        return Cpu(self.user - before.user, self.system - before.system)


@dataclass(frozen=True, slots=True)
class Watched:
    """What one phase showed, in seconds: time, CPU, the latency of each scrape.

    `network_cpu` is that of the process that plays the network, `lag` the most that a scrape told
    of how late traces begin.
    """

    seconds: float
    cpu: Cpu
    network_cpu: Cpu
    latencies: tuple[float, ...]
    lag: float


@dataclass(frozen=True, slots=True)
class Paced:
    """How often what is asked, in seconds."""

    metrics: float
    page: float


#: A scrape every 15 s, and somebody who looks at the page once a minute.
PROMETHEUS = Paced(15.0, 60.0)


class Log:
    """Reads what the service writes, so that it never has to wait; knows who was traced."""

    def __init__(self, stream: IO[str]) -> None:
        #: Target -> when its first trace was logged, on the monotonic clock.
        self.first: dict[str, float] = {}
        self.unusual: list[str] = []
        self._stream = stream
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        for line in self._stream:
            if named := LOGGED.search(line):
                self.first.setdefault(named[1], time.monotonic())
            elif " WARNING " in line or " ERROR " in line:
                self.unusual.append(line.strip())

    def end(self) -> None:
        """Wait for the end of the log."""
        self._thread.join()


def cpu_of(pid: int) -> Cpu:
    """What a process without children has taken, all of its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Cpu(*(int(ticks) / TICKS for ticks in fields[CPU_FIELDS]))


@dataclass(frozen=True, slots=True)
class Run:
    """A running service under watch; `network` is the process that plays its network."""

    service: Service
    network: int
    log: Log
    started: float
    pace: Paced

    def first_round(self, targets: int) -> float:
        """Wait until every target was traced once; seconds since the start."""
        deadline = time.monotonic() + LONGEST_ROUND
        while (done := len(self.log.first)) < targets:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{done} of {targets} targets in {LONGEST_ROUND:g} s")
            time.sleep(LOOK)
        return max(self.log.first.values()) - self.started

    def watch(self, seconds: float, pace: Paced | None = None) -> Watched:
        """Scrape and look at the page in their time."""
        pace = pace or self.pace
        began, cpu, network_cpu = time.monotonic(), self.cpu(), cpu_of(self.network)
        latencies, lag = [], 0.0
        due = {"/metrics": began, "/": began + pace.page / 2}
        while (at := min(due.values())) < began + seconds:
            time.sleep(max(0.0, at - time.monotonic()))
            path = min(due, key=lambda path: due[path])
            asked = time.monotonic()
            answer = self.ask(path)
            # One that takes longer than its turn lasts leaves others out.
            turn = pace.metrics if path == "/metrics" else pace.page
            due[path] = max(due[path] + turn, time.monotonic())
            if path == "/metrics":
                latencies.append(time.monotonic() - asked)
                lag = max(lag, _lag(answer))
        time.sleep(max(0.0, began + seconds - time.monotonic()))
        return Watched(
            time.monotonic() - began,
            self.cpu().since(cpu),
            cpu_of(self.network).since(network_cpu),
            tuple(latencies),
            lag,
        )

    def cpu(self) -> Cpu:
        """What the service has taken."""
        return cpu_of(self.service.pid)

    def memory(self) -> Memory:
        """Of the service."""
        return self.service.memory()

    def ask(self, path: str) -> bytes:
        """An answer's body as it came, over a new connection."""
        with closing(HTTPConnection(*self.service.address, timeout=PATIENCE)) as client:
            client.request("GET", path, headers=SCRAPING if path == "/metrics" else {})
            answer = client.getresponse()
            body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path} answered {answer.status}: {body[:200]!r}")
        return body

    def told(self, aims: Sequence[Aim]) -> list[tuple[Aim, Told]]:
        """Every target as the API shows it now."""
        found = {one["target"]: one for one in json.loads(self.ask("/api/v1/targets"))["targets"]}
        return [(aim, found[aim.name]) for aim in aims]


@contextmanager
def running(
    network: TunNetwork,
    aims: Sequence[Aim],
    folder: Path,
    pace: Paced,
    settings: Mapping[str, str],
) -> Iterator[Run]:
    """The service once it has answered something; its configuration is written to a folder."""
    file = folder / "targets.yml"
    targets = [{"name": aim.name, "host": aim.host, "port": aim.port} for aim in aims]
    file.write_text(json.dumps({"targets": targets}))  # YAML is a superset of JSON
    env = {
        "PATH": os.environ["PATH"],
        "CONFIG_FILE": str(file),
        "PLATFORM_NETWORKS": ",".join(network.scenario.platform_networks),
        **settings,
    }
    started = time.monotonic()
    with create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        process: subprocess.Popen[str] = network.popen(
            [*COMMAND, "serve"],
            listener,
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    assert process.stdout
    log = Log(process.stdout)
    try:
        _wait_for_answer(address)
        yield Run(Service(command_pid(process), address), network.pid, log, started, pace)
    finally:
        process.terminate()
        process.wait(PATIENCE)
        log.end()
        process.stdout.close()


def _lag(metrics: bytes) -> float:
    """What the compressed metrics tell of the scheduler's lateness."""
    return max(map(float, LAG.findall(gzip.decompress(metrics).decode())), default=0.0)


def _wait_for_answer(address: tuple[str, int]) -> None:
    """The request waits on the listening socket, and fails at once where the service has died."""
    with closing(HTTPConnection(*address, timeout=PATIENCE)) as client:
        client.request("GET", "/-/healthy")
        client.getresponse().read()
