"""The syn engine inside a lab, told by a test what to do, one line of JSON at a time.

    python -m tests.lab.remote        run in the prober's namespace; `Remote` talks to it

A command is [verb, arguments ...] and names a method of `Engine`; the answer is the method's
result, or {"failure": reason} where the engine raised a `ProbeError`.
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
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

from exporter.model import Answer, Flow, ProbeError
from exporter.probing.engines.syn import SynEngine
from tests.lab.lab import Lab

#: Long enough for an answer on a busy machine, in seconds.
PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Seen:
    """An answer as `Remote.receive` gives it."""

    port: int
    ttl: int
    attempt: int
    kind: str
    address: str
    rtt: float
    reply_ttl: int | None
    icmp: tuple[int, int] | None
    quoted_ttl: int | None
    rewritten: tuple[str, ...]


class Remote:
    """A remote engine; a context manager. Flows are named by their source port."""

    def __init__(self, lab: Lab) -> None:
        argv = [sys.executable, "-m", "tests.lab.remote"]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = lab.popen(argv, **pipes)

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
        return [
            Seen(
                **{
                    **answer,
                    "icmp": answer["icmp"] and tuple(answer["icmp"]),
                    "rewritten": tuple(answer["rewritten"]),
                }
            )
            for answer in self("receive", wanted, seconds)
        ]


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


class Engine:
    """What a test can have done."""

    def __init__(self) -> None:
        self._engine = SynEngine()
        self._flows: dict[int, Flow] = {}

    def open(self, destination: str, port: int, preferred: int = 0) -> int:
        """The source port of a new flow."""
        flow = self._engine.open(destination, port, preferred)
        self._flows[flow.source_port] = flow
        return flow.source_port

    def send(self, port: int, ttl: int, attempt: int = 1) -> tuple[int, int]:
        """The (sequence number, IP ID) of the probe that was sent."""
        flow = self._flows[port]
        probe = self._engine.send(flow, ttl, attempt)
        sent = self._engine._flows[flow].state.ip_ids
        return next((number, ip_id) for ip_id, (one, number) in sent.items() if one == probe)

    def receive(self, wanted: int, seconds: float) -> list[dict[str, Any]]:
        """The answers as `Seen`, with lists for tuples."""
        answers: list[dict[str, Any]] = []
        deadline = time.monotonic() + seconds
        while len(answers) < wanted and (left := deadline - time.monotonic()) > 0:
            select.select(self._engine.filenos(), [], [], left)
            answers += [asdict(_seen(flow, one)) for flow, one in self._engine.receive()]
        return answers

    def oversleep(self, seconds: float) -> None:
        """Be busy with something else."""
        time.sleep(seconds)

    def release(self, port: int) -> int:
        """How many duplicates the flow saw."""
        return self._engine.release(self._flows.pop(port))

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
        self._engine._sender = Refusing(self._engine._sender, number, times)  # type: ignore[assignment]


def _seen(flow: Flow, answer: Answer) -> Seen:
    probe, reply = answer.probe, answer.reply
    return Seen(
        port=flow.source_port,
        ttl=probe.ttl,
        attempt=probe.attempt,
        kind=reply.kind,
        address=reply.address,
        rtt=answer.rtt,
        reply_ttl=reply.ttl,
        icmp=reply.icmp,
        quoted_ttl=reply.quoted_ttl,
        rewritten=reply.rewritten,
    )


def main() -> None:
    """Do what standard input says until it ends."""
    engine = Engine()
    for line in sys.stdin:
        verb, *arguments = json.loads(line)
        try:
            result = getattr(engine, verb)(*arguments)
        except ProbeError as error:
            result = {"failure": error.failure.reason}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
