"""Starts `trace` by forking a process that has imported the program already.

    python -m tests.accuracy.forking      fork as told (started by `Starter`)

To start the interpreter and to import the program takes half a second of a processor, which is
most of what a run costs; a fork takes some milliseconds. What runs is the command's own `main`,
in the namespaces of a world, with an environment of its own, and without any capability where
the engine is to do without.

An order is one message on standard input, a socket: a `Run` as JSON, and beside it the pipe that
the command prints to.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import NamedTuple, NoReturn, Self

from exporter import __main__ as command
from exporter import privileges
from exporter.model import Flow
from exporter.probing.packet import SynTemplate
from tests.lab.exporting import ROOT
from tests.lab.inside import join

LONGEST_ORDER = 1 << 16


class Run(NamedTuple):
    """A run of the command where the process `pid` is."""

    pid: int
    arguments: Sequence[str]
    environment: Mapping[str, str]
    privileged: bool


# -- the end of who orders ---------------------------------------------------------------


class Starter:
    """The process that forks; a context manager. Threads may share it."""

    def __enter__(self) -> Self:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.accuracy.forking"],
                cwd=ROOT,
                stdin=theirs.fileno(),
                start_new_session=True,  # a Ctrl-C at the terminal is not for it
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._orders.close()
        self._process.wait()

    def printed(self, run: Run) -> str:
        """What the command prints."""
        reading, writing = os.pipe()
        with os.fdopen(reading) as printed:
            try:
                socket.send_fds(self._orders, [json.dumps(run).encode()], [writing])
            finally:
                os.close(writing)
            return printed.read()


# -- the process that forks --------------------------------------------------------------


def serve(orders: socket.socket) -> None:
    """Fork for every order until there are no more."""
    SynTemplate(Flow("192.0.2.1", 1, "192.0.2.2", 1))  # has scapy imported
    gc.freeze()  # so that no collection in a child copies what it shares
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps them
    while True:
        order, pipes, _, _ = socket.recv_fds(orders, LONGEST_ORDER, 1)
        if not order:
            return
        if os.fork() == 0:
            begin(Run(*json.loads(order)), pipes[0])
        os.close(pipes[0])


def begin(run: Run, output: int) -> NoReturn:
    """In the child: go where the run is to be, and have it done there."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    join(run.pid)
    child = os.fork()  # the process namespace holds from here on
    if child == 0:
        become(run, output)
    os.waitpid(child, 0)
    os._exit(0)


def become(run: Run, output: int) -> NoReturn:
    """In the grandchild: turn into the command."""
    try:
        os.dup2(output, sys.stdout.fileno())
        os.environ.clear()
        os.environ.update(run.environment)
        if not run.privileged:
            privileges.drop()
        command.main(run.arguments)
        sys.stdout.flush()
    finally:
        os._exit(0)


if __name__ == "__main__":
    serve(socket.socket(fileno=sys.stdin.fileno()))
