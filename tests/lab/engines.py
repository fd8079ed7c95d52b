"""An engine of any kind inside a lab, told by a test what to do, one line of JSON at a time.

    python -m tests.lab.engines NAME      run in the prober's namespace; `RemoteEngine` talks to it

A command is [verb, arguments ...] and names a method of `Told`, or of its row in `TOLD`; the
answer is the method's result, or {"failure": reason} where the engine raised a `ProbeError`.
"""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from exporter.model import Answer, Flow, ProbeError
from exporter.probing.engines import ENGINES
from exporter.probing.engines.syn import SynEngine
from tests.lab.exporting import ROOT
from tests.lab.lab import Lab

#: Long enough for an answer on a busy machine, in seconds.
PATIENCE = 5.0
#: The command in front of an engine that needs less than root.
UNPRIVILEGED = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
WRAPPERS: dict[str, Sequence[str]] = {"connect": UNPRIVILEGED}

T = TypeVar("T")

# -- the test's end --------------------------------------------------------------------


class Seen(NamedTuple):
    """An answer as `RemoteEngine.receive` gives it; `flow` is the number that `open` gave."""

    flow: int
    ttl: int
    attempt: int
    kind: str
    address: str
    icmp: tuple[int, ...] | None
    rtt: float
    reply_ttl: int | None
    quoted_ttl: int | None
    rewritten: tuple[str, ...]


class RemoteEngine:
    """An engine in a lab; a context manager. Flows are numbered as they are opened."""

    def __init__(self, lab: Lab, name: str) -> None:
        argv = [*WRAPPERS.get(name, ()), sys.executable, "-m", "tests.lab.engines", name]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = lab.popen(argv, cwd=ROOT, **pipes)
        self._destination = lab.scenario.destination

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

    def open(self, port: int, preferred: int = 0) -> Any:
        """The number of a new flow to a port of the scenario's destination, or a failure."""
        return self("open", self._destination, port, preferred)

    def receive(self, wanted: int, seconds: float = PATIENCE) -> list[Seen]:
        """So many answers, or what has come after so many seconds."""
        rows = [Seen(*row) for row in self("receive", wanted, seconds)]
        return [
            row._replace(icmp=row.icmp and tuple(row.icmp), rewritten=tuple(row.rewritten))
            for row in rows
        ]

    def probe(self, port: int, ttls: range) -> dict[int, Seen]:
        """TTL -> the answer to one probe of a new flow to a port of the destination."""
        flow = self.open(port)
        for ttl in ttls:
            self("send", flow, ttl)
        answers = {seen.ttl: seen for seen in self.receive(len(ttls))}
        self("release", flow)
        return answers


# -- the engine's end ------------------------------------------------------------------


class Told:
    """What a test can have any engine do."""

    def __init__(self, name: str) -> None:
        self._before = _open_descriptors()
        self._engine = ENGINES[name]()
        self._flows: dict[int, Flow] = {}
        self._numbers = count()

    def open(self, destination: str, port: int, preferred: int = 0) -> int:
        """The number of a new flow."""
        flow = self._engine.open(destination, port, preferred)
        number = next(self._numbers)
        self._flows[number] = flow
        return number

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

    def receive(self, wanted: int, seconds: float) -> list[Seen]:
        """The answers; JSON makes lists of them."""
        answers: list[Seen] = []
        deadline = time.monotonic() + seconds
        while len(answers) < wanted and (left := deadline - time.monotonic()) > 0:
            select.select(self._engine.filenos(), [], [], left)
            numbers = {flow: number for number, flow in self._flows.items()}
            answers += [_seen(numbers[flow], one) for flow, one in self._engine.receive()]
        return answers

    def release(self, number: int) -> int:
        """How many duplicates the flow saw."""
        return self._engine.release(self._flows.pop(number))

    def unseen_errors(self) -> int:
        """How many errors the kernel kept from the engine."""
        return self._engine.unseen_errors()

    def descriptors(self) -> int:
        """How many descriptors are open that were not before the engine."""
        return _open_descriptors() - self._before

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()


class ToldSyn(Told):
    """What only the syn engine can do."""

    _engine: SynEngine

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._reads = 0
        for receiver in self._engine._receivers.values():
            receiver._recvmsg = self._counting(receiver._recvmsg)

    def _counting(self, recvmsg: Callable[..., T]) -> Callable[..., T]:
        def counted(size: int, ancillary_size: int) -> T:
            received = recvmsg(size, ancillary_size)
            self._reads += 1
            return received

        return counted

    def packets(self) -> int:
        """How many packets were copied from the kernel, after the engine's self-test."""
        return self._reads

    def numbers(self, number: int, ttl: int) -> tuple[int, int, int]:
        """The (source port, sequence number, mark) of the only probe with this TTL."""
        flow = self._flows[number]
        state = self._engine._flows[flow].state
        return next(
            (flow.source_port, sequence, mark)
            for mark, sequence in state.marks.items()
            if state.sequences[sequence].ttl == ttl
        )

    def counts(self) -> dict[str, int]:
        """What matched no probe."""
        return {"foreign": self._engine.foreign, "malformed": self._engine.malformed}

    def bind(self, port: int) -> str:
        """What an application on this host is told that wants the port."""
        with socket.socket() as application:
            application.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            number = 0
            try:
                application.bind(("", port))
                application.listen()
            except OSError as error:
                number = error.errno or 0
        return errno.errorcode.get(number, "")

    def refuse(self, number: int, times: int) -> None:
        """Have the next sends refused with an errno."""
        for wire in self._engine._wires:
            wire.sender = Refusing(wire.sender, number, times)  # type: ignore[assignment]


TOLD: dict[str, type[Told]] = {"syn": ToldSyn}


class Refusing:
    """A socket that refuses the next sends with an errno, and then is the real one."""

    def __init__(self, sender: socket.socket, number: int, times: int) -> None:
        self._sender = sender
        self._errors = [OSError(number, os.strerror(number)) for _ in range(times)]

    def sendto(self, packet: bytes, address: tuple[str, int]) -> int:
        """Refuse or send."""
        if self._errors:
            raise self._errors.pop()
        return self._sender.sendto(packet, address)

    def close(self) -> None:
        """Close the real one."""
        self._sender.close()


def _seen(number: int, answer: Answer) -> Seen:
    probe, reply = answer.probe, answer.reply
    return Seen(
        flow=number,
        ttl=probe.ttl,
        attempt=probe.attempt,
        kind=reply.kind,
        address=reply.address,
        icmp=reply.icmp,
        rtt=answer.rtt,
        reply_ttl=reply.ttl,
        quoted_ttl=reply.quoted_ttl,
        rewritten=reply.rewritten,
    )


def _open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def main(name: str) -> None:
    """Do what standard input says until it ends."""
    told = TOLD.get(name, Told)(name)
    for line in sys.stdin:
        verb, *arguments = json.loads(line)
        try:
            result = getattr(told, verb)(*arguments)
        except ProbeError as error:
            result = {"failure": error.failure.reason}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
