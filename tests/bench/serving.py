"""What the running service needs: memory and descriptors, and time to its first answer.

The page is asked for from outside, over a listening socket that the service is handed at its
start; so the first request may wait there before the service does, and its answer is the first.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Self

from exporter.probing.engines import ENGINES
from tests.bench.paths import CLOSED_PORT, DROPPED_PORT, OPEN_PORT, REJECTED_PORT, delayed
from tests.bench.report import Goal, Part, summary
from tests.bench.tun_network import Layout, TunNetwork
from tests.lab.lab import command_pid
from tests.lab.tun import ROOT

TARGETS = 20
CYCLES = 3
STARTS = 5
INTERVAL_SECONDS = 10
#: Every 10 targets have these ports.
PORTS = (OPEN_PORT,) * 7 + (CLOSED_PORT, DROPPED_PORT, REJECTED_PORT)
#: Of paths in one platform the first routers are the same.
SHARED = Layout(shared_hops=3)

#: Engine -> MiB; the connect engine does without scapy.
MEMORY_BOUNDS = {"syn": 90.0, "connect": 64.0}
DESCRIPTOR_BOUND = 512
START_BOUND = 1.5
PATIENCE = 60.0
#: Between two counts of the descriptors, in seconds.
COUNTING_PAUSE = 0.02


@dataclass(frozen=True, slots=True)
class Memory:
    """Of the service's process, in MiB: now, and the most it ever was."""

    resident: float
    peak: float


@dataclass(frozen=True, slots=True)
class Needs:
    """What one engine's service was seen to need; times in seconds."""

    starts: list[float]
    memory: Memory
    most_descriptors: int
    lasted: float


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

    def descriptors(self) -> int:
        """How many are open."""
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())


class Watch:
    """Counts a service's descriptors all the time; `most` is the most there were at once."""

    def __init__(self, service: Service) -> None:
        self.most = 0
        self._service = service
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._count)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _count(self) -> None:
        while not self._stop.wait(COUNTING_PAUSE):
            self.most = max(self.most, self._service.descriptors())


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
        needs = {engine: _needs(network, engine, targets, cycles, starts) for engine in ENGINES}
    return _part(targets, cycles, needs)


def _needs(network: TunNetwork, engine: str, targets: int, cycles: int, starts: int) -> Needs:
    answered = [_start(network, engine, targets) for _ in range(starts)]
    with _serving(network, engine, targets) as service, Watch(service) as watch:
        started = time.monotonic()
        _wait_for_traces(service, targets * cycles)
        return Needs(answered, service.memory(), watch.most, time.monotonic() - started)


def _start(network: TunNetwork, engine: str, targets: int) -> float:
    """Seconds from the start of the process to the whole answer of its first scrape."""
    began = time.monotonic()
    with _serving(network, engine, targets):
        return time.monotonic() - began


@contextmanager
def _serving(network: TunNetwork, engine: str, targets: int) -> Iterator[Service]:
    """The service once it has answered its first scrape."""
    # Ours is closed at once: if the service dies, a waiting request fails instead of waiting on.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        process = network.popen(
            [sys.executable, "-m", "exporter", "serve"],
            listener,
            cwd=ROOT,
            env={**os.environ, **_environment(network, targets), "ENGINE": engine},
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


def _part(targets: int, cycles: int, needs: dict[str, Needs]) -> Part:
    columns = needs.values()
    return Part(
        title=f"The service with {targets} targets",
        header=("what", *(f"engine {engine}" for engine in needs)),
        rows=(
            (
                "start of the process to the first answer of /metrics",
                *(summary(one.starts) for one in columns),
            ),
            (
                f"resident memory after {cycles} cycles",
                *(f"{one.memory.resident:.1f} MiB ({one.lasted:.0f} s)" for one in columns),
            ),
            (
                "resident memory at its peak",
                *(f"{one.memory.peak:.1f} MiB" for one in columns),
            ),
            ("descriptors at their peak", *(str(one.most_descriptors) for one in columns)),
        ),
        goals=tuple(goal for engine, one in needs.items() for goal in _goals(engine, one)),
    )


def _goals(engine: str, needs: Needs) -> Iterator[Goal]:
    bound = MEMORY_BOUNDS[engine]
    yield Goal(f"start to first answer, engine {engine}", median(needs.starts), START_BOUND, "s")
    yield Goal(f"resident memory, engine {engine}", needs.memory.peak, bound, "MiB")
    yield Goal(f"descriptors, engine {engine}", needs.most_descriptors, DESCRIPTOR_BOUND, "")
