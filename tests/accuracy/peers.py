"""The programs that people use instead, run in the same networks: what they print.

Each runs in a network of its own, over IPv4, which all of them speak. Their arguments are their
defaults but for these: no names are looked up (`-n`), 15 hops at most instead of 30, and a bound
on waiting, so that a blocked path costs them seconds instead of minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.accuracy.readers import Conclusion, Reading, compare, read_mtr, read_traceroute
from tests.accuracy.situation import Situation, World

#: Seconds: longer than tcptraceroute takes for 15 silent hops, 3 x 1 s each.
TIMEOUT = 120.0
#: Whatever the printed text holds beyond this is not read.
LONGEST = 20_000


class MissingPeerError(Exception):
    """A program is not installed; the message is one line that names its package."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A program; `{host}` and `{port}` in its arguments stand for the endpoint."""

    name: str
    package: str
    arguments: tuple[str, ...]
    read: Callable[[str, str], Reading]

    @property
    def command_line(self) -> str:
        """The command as a reader would type it."""
        return " ".join((self.name, *self.arguments)).format(host="HOST", port="PORT")

    def run(self, world: World, host: str, port: int) -> str:
        """What it prints; it is ended when it takes too long."""
        program = shutil.which(self.name)
        if program is None:
            raise MissingPeerError(
                f"the comparison needs {self.name} (Debian package {self.package})"
            )
        argv = [program, *(one.format(host=host, port=port) for one in self.arguments)]
        options: dict[str, Any] = {
            "env": {"PATH": os.environ["PATH"], "LANG": "C"},
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.DEVNULL,
            "text": True,
        }
        with world.popen(argv, **options) as process:
            try:
                printed, _ = process.communicate(timeout=TIMEOUT)
            except subprocess.TimeoutExpired:
                process.terminate()
                printed, _ = process.communicate()
        return str(printed)[:LONGEST]


TCPTRACEROUTE = Peer(
    "tcptraceroute",
    "tcptraceroute",
    ("-n", "-m", "15", "-w", "1", "{host}", "{port}"),
    read_traceroute,
)
TRACEROUTE = Peer(
    "traceroute",
    "traceroute",
    ("-n", "-T", "-m", "15", "-w", "2", "-p", "{port}", "{host}"),
    read_traceroute,
)
MTR = Peer(
    "mtr",
    "mtr-tiny",
    ("-n", "--tcp", "-m", "15", "-r", "-c", "3", "-P", "{port}", "{host}"),
    read_mtr,
)
PEERS = (TCPTRACEROUTE, TRACEROUTE, MTR)


@dataclass(frozen=True, slots=True)
class Told:
    """What one program printed in one situation, what its reader makes of it, and how right."""

    printed: str
    reading: Reading
    conclusion: Conclusion

    @property
    def right(self) -> bool:
        """Whether the reader knows the truth."""
        return self.conclusion is Conclusion.RIGHT

    def __str__(self) -> str:
        """What the reader sees, and what that is worth."""
        return f"{self.reading}: {self.conclusion}"


def ask(peer: Peer, situation: Situation) -> Told:
    """Run a program in a fresh network of a situation."""
    host = situation.target["ipv4"]
    with situation.world() as world:
        if situation.changes:
            world.change()
        printed = peer.run(world, host, situation.port)
    reading = peer.read(printed, host)
    return Told(printed, reading, compare(reading, situation.truth))


def read_all(situation: Situation) -> Mapping[str, Told]:
    """Program -> what it said, one after the other."""
    return {peer.name: ask(peer, situation) for peer in PEERS}
