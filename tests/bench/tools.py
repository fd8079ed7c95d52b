"""The programs under comparison, their command lines, and what they say about a path."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from exporter import __version__
from tests.lab.lab import Lab

_VERSION = re.compile(r"\d+\.\d+\S*")
_HOP_LINE = re.compile(r"\s*(\d+)\D")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
#: Longer than tcptraceroute needs for 30 silent hops: 30 x 3 queries x 3 s.
_TIMEOUT = 300.0


class MissingToolError(Exception):
    """A program is not installed; the message is one line that names its package."""


@dataclass(frozen=True, slots=True)
class LastHop:
    """The last hop that answered, as a program tells it; hop 0 and no address when none did."""

    hop: int
    address: str

    def __str__(self) -> str:
        return f"{self.hop}  {self.address}"


@dataclass(frozen=True, slots=True)
class Timed:
    """One run: wall time in seconds, and what was printed."""

    seconds: float
    output: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A program; `{host}` and `{port}` in its arguments stand for the endpoint."""

    name: str
    arguments: tuple[str, ...]
    last_hop: Callable[[str], LastHop]
    version: Callable[[], str]
    #: What is really started; the program itself unless it is ours.
    program: tuple[str, ...] = ()

    @property
    def command_line(self) -> str:
        """The command as a reader would type it."""
        return " ".join((self.name, *self.arguments)).format(host="HOST", port="PORT")

    def run(self, lab: Lab, host: str, port: int) -> Timed:
        """Run it to its end from the prober."""
        argv = [argument.format(host=host, port=port) for argument in self.arguments]
        began = time.monotonic()
        done = lab.run(
            [*(self.program or (self.name,)), *argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=_TIMEOUT,
        )
        return Timed(time.monotonic() - began, done.stdout)


def _last_line(output: str) -> LastHop:
    """The last line that begins with a hop number and names an address."""
    found = LastHop(0, "")
    for line in output.splitlines():
        hop, address = _HOP_LINE.match(line), _ADDRESS.search(line)
        if hop and address:
            found = LastHop(int(hop[1]), address[0])
    return found


def _last_of_object(output: str) -> LastHop:
    """The last reachable hop of design.md's object, which our own program prints."""
    observation = json.loads(output)
    reached = observation["verdict"]["last_reachable_hop"]
    responders = [
        responder["address"]
        for hop in observation["hops"]
        if hop["hop"] == reached
        for responder in hop["responders"]
    ]
    return LastHop(reached, responders[0] if responders else "")


def _asked(*argv: str) -> Callable[[], str]:
    """The version that a program tells about itself, on whichever stream."""

    def ask() -> str:
        if shutil.which(argv[0]) is None:
            raise MissingToolError(
                f"the benchmark needs {argv[0]} (Debian package {PACKAGES[argv[0]]})"
            )
        said = subprocess.run(argv, capture_output=True, text=True, check=False)
        found = _VERSION.search(said.stdout + said.stderr)
        return found[0].rstrip(",") if found else "unknown"

    return ask


PACKAGES = {"tcptraceroute": "tcptraceroute", "traceroute": "traceroute", "mtr": "mtr-tiny"}


#: The peers make no controls; without ours the same work is compared.
_NO_CONTROLS = ("CONTROL_PORTS=none", "ICMP_ECHO=false", "CANARY=false", "FAILING_FLOWS=1")


def _ours(engine: str, settings: tuple[str, ...] = _NO_CONTROLS) -> Tool:
    return Tool(
        " ".join((*settings, "egress-exporter")),
        ("trace", "{host}:{port}", "--json", "--engine", engine),
        _last_of_object,
        lambda: __version__,
        program=("env", *settings, sys.executable, "-m", "exporter"),
    )


OURS, OURS_UNPRIVILEGED = _ours("syn"), _ours("connect")
OURS_CONTROLLED = _ours("syn", ())
# Names are asked for by none of them (-n): where there is no name server, waiting for one would
# be added to their time. All else is their default.
TCPTRACEROUTE = Tool(
    "tcptraceroute", ("-n", "{host}", "{port}"), _last_line, _asked("tcptraceroute", "-h")
)
TRACEROUTE = Tool(
    "traceroute",
    ("-n", "-T", "-p", "{port}", "{host}"),
    _last_line,
    _asked("traceroute", "--version"),
)
MTR = Tool(
    "mtr",
    ("-n", "--tcp", "-P", "{port}", "-r", "-c", "3", "{host}"),
    _last_line,
    _asked("mtr", "--version"),
)
PEERS = (TCPTRACEROUTE, TRACEROUTE, MTR)


def versions(tools: Sequence[Tool]) -> str:
    """Names and versions, in one line. Raises MissingToolError."""
    return ", ".join(dict.fromkeys(f"{tool.name} {tool.version()}" for tool in tools))
