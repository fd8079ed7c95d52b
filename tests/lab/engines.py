"""An engine of any kind inside a lab, told by a test what to do, one line of JSON at a time.

    python -m tests.lab.engines NAME      run in the prober's namespace; `RemoteEngine` talks to it

A command is [verb, arguments ...] and names a method of `Told`; the answer is the method's
result, or {"failure": reason} where the engine raised a `ProbeError`.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from exporter.model import Flow, ProbeError
from exporter.probing.engines import ENGINES
from exporter.probing.engines.connect import ConnectEngine
from tests.lab.exporting import ROOT
from tests.lab.lab import Lab

#: Long enough for an answer on a busy machine, in seconds.
PATIENCE = 5.0
#: The command in front of an engine that needs less than root.
UNPRIVILEGED = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
WRAPPERS: dict[str, Sequence[str]] = {"connect": UNPRIVILEGED}


class Seen(NamedTuple):
    """An answer as `RemoteEngine.receive` gives it; `flow` is a number of the test's."""

    flow: int
    ttl: int
    attempt: int
    kind: str
    address: str
    icmp: tuple[int, ...] | None
    rtt: float
    reply_ttl: int | None


class RemoteEngine:
    """The test's end; a context manager. Flows are numbered as they are opened."""

    def __init__(self, lab: Lab, name: str) -> None:
        argv = [*WRAPPERS.get(name, ()), sys.executable, "-m", "tests.lab.engines", name]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = lab.popen(argv, cwd=ROOT, **pipes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.communicate()

    def __call__(self, *command: object) -> Any:
        """Have a command done."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def receive(self, wanted: int, seconds: float = PATIENCE) -> list[Seen]:
        """So many answers, or what has come after so many seconds."""
        rows = [Seen(*row) for row in self("receive", wanted, seconds)]
        return [row._replace(icmp=tuple(row.icmp) if row.icmp else None) for row in rows]


class Told:
    """What a test can have done."""

    def __init__(self, name: str) -> None:
        self._before = _open_descriptors()
        self._engine = ENGINES[name]()
        self._flows: list[Flow] = []

    def open(self, destination: str, port: int, preferred: int = 0) -> int:
        """The number of a new flow."""
        self._flows.append(self._engine.open(destination, port, preferred))
        return len(self._flows) - 1

    def flow(self, number: int) -> tuple[str, int]:
        """The flow's source address and port."""
        return self._flows[number].source, self._flows[number].source_port

    def send(self, number: int, ttl: int, attempt: int = 1) -> None:
        """Send a probe."""
        self._engine.send(self._flows[number], ttl, attempt)

    def send_many(self, number: int, ttl: int, attempts: int) -> int:
        """How many of so many attempts the engine took, until it refused one."""
        for attempt in range(attempts):
            try:
                self._engine.send(self._flows[number], ttl, attempt + 1)
            except ProbeError:
                return attempt
        return attempts

    def receive(self, wanted: int, seconds: float) -> list[list[Any]]:
        """The fields of `Seen` of each answer."""
        answers: list[list[Any]] = []
        deadline = time.monotonic() + seconds
        while len(answers) < wanted and (left := deadline - time.monotonic()) > 0:
            select.select(self._engine.filenos(), [], [], left)
            for flow, answer in self._engine.receive():
                probe, reply = answer.probe, answer.reply
                seen = (self._flows.index(flow), probe.ttl, probe.attempt)
                what = (reply.kind, reply.address, reply.icmp)
                answers.append([*seen, *what, answer.rtt, reply.ttl])
        return answers

    def oversleep(self, seconds: float) -> None:
        """Be busy with something else."""
        time.sleep(seconds)

    def release(self, number: int) -> int:
        """How many duplicates the flow saw."""
        return self._engine.release(self._flows[number])

    def descriptors(self) -> int:
        """How many descriptors are open that were not before the engine."""
        return _open_descriptors() - self._before

    def out_of_window(self) -> int | None:
        """What the connect engine says about errors that the kernel dropped."""
        assert isinstance(self._engine, ConnectEngine)
        return self._engine.out_of_window_icmps

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()


def _open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def main(name: str) -> None:
    """Do what standard input says until it ends."""
    told = Told(name)
    for line in sys.stdin:
        verb, *arguments = json.loads(line)
        try:
            result = getattr(told, verb)(*arguments)
        except ProbeError as error:
            result = {"failure": error.failure.reason}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
