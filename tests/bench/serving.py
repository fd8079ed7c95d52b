"""What the running service needs: memory with its targets, and time to its first answer.

The page is asked for from outside, over a listening socket that the service is handed at its
start; so the first request may wait there before the service does, and its answer is the first.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

from tests.bench.paths import CLOSED_PORT, DROPPED_PORT, OPEN_PORT, REJECTED_PORT, delayed
from tests.bench.report import Goal, Part, summary
from tests.bench.tun_network import ROOT, Layout, TunNetwork
from tests.lab.lab import command_pid

TARGETS = 20
CYCLES = 3
STARTS = 5
INTERVAL_SECONDS = 10
#: Every 10 targets have these ports.
PORTS = (OPEN_PORT,) * 7 + (CLOSED_PORT, DROPPED_PORT, REJECTED_PORT)
#: Of paths in one platform the first routers are the same.
SHARED = Layout(shared_hops=3)

MEMORY_BOUND = 90.0
START_BOUND = 1.5
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Memory:
    """Of the service's process, in MiB: now, and the most it ever was."""

    resident: float
    peak: float


@dataclass(frozen=True, slots=True)
class Service:
    """A running service: its process, and where it answers."""

    pid: int
    address: tuple[str, int]

    def memory(self) -> Memory:
        """Resident memory from /proc/PID/status."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        values = dict(re.findall(r"^(Vm\w+):\s+(\d+) kB$", status, re.MULTILINE))
        return Memory(int(values["VmRSS"]) / 1024, int(values["VmHWM"]) / 1024)


def scrape(address: tuple[str, int]) -> str:
    """The body of /metrics."""
    client = HTTPConnection(*address, timeout=PATIENCE)
    try:
        client.request("GET", "/metrics")
        answer = client.getresponse()
        if answer.status != 200:
            raise RuntimeError(f"/metrics answered {answer.status}")
        return answer.read().decode()
    finally:
        client.close()


def measure(targets: int = TARGETS, cycles: int = CYCLES, starts: int = STARTS) -> Part:
    """Start the service several times; let the last one run through its cycles."""
    with TunNetwork(delayed(), SHARED) as network:
        answered = [_start(network, targets) for _ in range(starts)]
        with _serving(network, targets) as service:
            started = time.monotonic()
            _wait_for_traces(service, targets * cycles)
            memory, lasted = service.memory(), time.monotonic() - started
    return _part(targets, cycles, answered, memory, lasted)


def _start(network: TunNetwork, targets: int) -> float:
    """Seconds from the start of the process to the whole answer of its first scrape."""
    began = time.monotonic()
    with _serving(network, targets):
        return time.monotonic() - began


@contextmanager
def _serving(network: TunNetwork, targets: int) -> Iterator[Service]:
    """The service once it has answered its first scrape."""
    # Ours is closed at once: if the service dies, a waiting request fails instead of waiting on.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        process = network.popen(
            [sys.executable, "-m", "exporter", "serve"],
            listener,
            cwd=ROOT,
            env={**os.environ, **_environment(network, targets)},
            stdout=subprocess.DEVNULL,
        )
    try:
        scrape(address)
        yield Service(command_pid(process), address)
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _environment(network: TunNetwork, targets: int) -> dict[str, str]:
    endpoints = (
        f"target-{path}={network.destination(path)}:{PORTS[path % len(PORTS)]}"
        for path in range(targets)
    )
    return {
        "ENDPOINTS": " ".join(endpoints),
        "INTERVAL_SECONDS": str(INTERVAL_SECONDS),
        "PLATFORM_NETWORKS": ",".join(network.scenario.platform_networks),
    }


def _wait_for_traces(service: Service, wanted: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while (done := _traces(scrape(service.address))) < wanted:
        if time.monotonic() > deadline:
            raise RuntimeError(f"only {done:.0f} of {wanted} traces within {PATIENCE:g} s")
        time.sleep(1)


def _traces(metrics: str) -> float:
    return sum(map(float, re.findall(r"^egress_traces_total\S* (\S+)", metrics, re.MULTILINE)))


def _part(targets: int, cycles: int, answered: list[float], memory: Memory, lasted: float) -> Part:
    return Part(
        title=f"The service with {targets} targets",
        header=("what", "measured"),
        rows=(
            ("start of the process to the first answer of /metrics", summary(answered)),
            (
                f"resident memory after {cycles} cycles ({lasted:.0f} s)",
                f"{memory.resident:.1f} MiB",
            ),
            ("resident memory at its peak", f"{memory.peak:.1f} MiB"),
        ),
        goals=(
            Goal("start to first answer", median(answered), START_BOUND, "s"),
            Goal("resident memory", memory.resident, MEMORY_BOUND, "MiB"),
        ),
    )
