"""Starts `trace` by forking a process that has imported the program already.

    python -m tests.lab.forking      fork as told (started by `Starter`)

To start the interpreter and to import the program takes half a second of a processor, which is
most of what a run costs; a fork takes some milliseconds. What runs is the command's own `main`,
in the namespaces of a world, with an environment of its own, and without any capability where
the engine is to do without.

An order is one message on standard input, a socket: a `Run` as JSON, and beside it the files that
the command prints and complains to, and the pipe on which its exit status comes.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import NamedTuple, NoReturn, Self

import exporter.commands.trace  # noqa: F401  -- what `main` imports only when it runs
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


class Ended(NamedTuple):
    """How a run ended, what it printed and what it complained of."""

    status: int
    printed: str
    errors: str


# -- the end of who orders ---------------------------------------------------------------


class Starter:
    """The process that forks; a context manager. Threads may share it."""

    def __enter__(self) -> Self:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.lab.forking"],
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

    def run(self, run: Run) -> Ended:
        """Have a run made; returns when it is over."""
        reading, writing = os.pipe()
        with (
            tempfile.TemporaryFile() as printed,
            tempfile.TemporaryFile() as errors,
            os.fdopen(reading, "rb") as status,
        ):
            files = [printed.fileno(), errors.fileno(), writing]
            try:
                socket.send_fds(self._orders, [json.dumps(run).encode()], files)
            finally:
                os.close(writing)
            ended = status.read()
            texts = [os.pread(file, os.fstat(file).st_size, 0).decode() for file in files[:2]]
            return Ended(int(ended or -1), *texts)


# -- the process that forks --------------------------------------------------------------


def serve(orders: socket.socket) -> None:
    """Fork for every order until there are no more."""
    SynTemplate(Flow("192.0.2.1", 1, "192.0.2.2", 1))  # has scapy imported
    gc.freeze()  # so that no collection in a child copies what it shares
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps them
    while True:
        order, files, _, _ = socket.recv_fds(orders, LONGEST_ORDER, 3)
        if not order:
            return
        if os.fork() == 0:
            begin(Run(*json.loads(order)), *files)
        for file in files:
            os.close(file)


def begin(run: Run, printed: int, errors: int, status: int) -> NoReturn:
    """In the child: go where the run is to be, have it done there, and tell how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    join(run.pid)
    child = os.fork()  # the process namespace holds from here on
    if child == 0:
        os.close(status)
        become(run, printed, errors)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.write(status, str(ended).encode())
    os._exit(0)


def become(run: Run, printed: int, errors: int) -> NoReturn:
    """In the grandchild: turn into the command."""
    status = 1
    try:
        os.dup2(printed, sys.stdout.fileno())
        os.dup2(errors, sys.stderr.fileno())
        os.environ.clear()
        os.environ.update(run.environment)
        if not run.privileged:
            privileges.drop()
        status = command.main(run.arguments)
    except Exception:  # noqa: BLE001  -- as Python itself would end
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve(socket.socket(fileno=sys.stdin.fileno()))
