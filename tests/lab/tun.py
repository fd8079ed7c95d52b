"""A network namespace with a TUN device, and one process behind it that plays the network.

The kernel hands every packet to that process, and what it answers is written back when it is
due. tc netem is not in every kernel; this is.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import json
import os
import select
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, Self

from tests.lab.lab import Lab, LabError

ROOT = Path(__file__).parents[2]

#: linux/if_tun.h
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000

#: Packets taken from the kernel before the answers that are due go out.
BATCH = 64
LARGEST_PACKET = 2048

#: net.ipv4.icmp_ratelimit: 6 errors at once to one recipient, then one a second.
ICMP_BURST, ICMP_INTERVAL = 6.0, 1.0


class TunLab(Lab):
    """A `Lab` whose devices are one process: `run` and `popen` work as they do there.

    `module` is what plays the network; it is started with `told` on its standard input. There is
    no firewall to switch and no link to cut, so `nft` and `link` have no meaning.
    """

    def __init__(self, module: str, told: Mapping[str, Any]) -> None:
        self._module = module
        self._told = told

    def __enter__(self) -> Self:
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        self._holder = subprocess.Popen(
            ["unshare", *user, "--net", "--", sys.executable, "-m", self._module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,  # a Ctrl-C at the terminal is not for the network
        )
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def _start(self) -> None:
        assert self._holder.stdin
        assert self._holder.stdout
        assert self._holder.stderr
        with suppress(BrokenPipeError):  # unshare has failed, and says why below
            self._holder.stdin.write(json.dumps(self._told) + "\n")
            self._holder.stdin.flush()
        if self._holder.stdout.readline() != "ready\n":
            said = self._holder.stderr.read().strip().splitlines() or ["no reason given"]
            raise LabError(f"the network behind a TUN device could not be made: {said[-1]}")


# -- the network's end -----------------------------------------------------------------


class Network(Protocol):
    """What stands behind the device; knows no socket and no clock."""

    @property
    def next_due(self) -> float | None:
        """When the next answer is to be written."""

    def due(self, now: float) -> bytes | None:
        """The next answer, None when none is due."""

    def take(self, packet: bytes, now: float) -> None:
        """Let one packet of the prober meet its fate."""


class Outbox:
    """Answers in the order in which they are due."""

    def __init__(self) -> None:
        #: (due, order, packet)
        self._answers: list[tuple[float, int, bytes]] = []
        self._order = itertools.count()

    @property
    def next_due(self) -> float | None:
        """When the next answer is to be written."""
        return self._answers[0][0] if self._answers else None

    def due(self, now: float) -> bytes | None:
        """The next answer, None when none is due."""
        if self._answers and self._answers[0][0] <= now:
            return heapq.heappop(self._answers)[2]
        return None

    def post(self, due: float, packet: bytes) -> None:
        """Have an answer written at that time."""
        heapq.heappush(self._answers, (due, next(self._order), packet))


class IcmpBudgets:
    """What each router may still say to its one recipient: Linux' inet_peer_xrlim_allow."""

    def __init__(self) -> None:
        #: Router -> (tokens, when they were counted).
        self._budgets: dict[bytes, tuple[float, float]] = {}

    def allows(self, router: bytes, now: float, interval: float = ICMP_INTERVAL) -> bool:
        """Take a token of the router's if there is one; it gets one every `interval` seconds."""
        tokens, at = self._budgets.get(router, (ICMP_BURST, now))
        tokens = min(ICMP_BURST, tokens + (now - at) / interval)
        self._budgets[router] = (tokens - (tokens >= 1), now)
        return tokens >= 1


def checksum(data: bytes) -> int:
    """RFC 1071 over an even number of octets.

    Modulo 0xFFFF every 16-bit word counts the same, since 0x10000 leaves 1: the remainder of
    the whole number is the one's complement sum.
    """
    return 0xFFFF - int.from_bytes(data, "big") % 0xFFFF


def play(configuration: str, make: Callable[[Any], Network]) -> int:
    """Make the network that standard input describes, say "ready", and answer until it ends.

    `configuration` is for `ip -batch`; the device is tun0.
    """
    told = json.loads(sys.stdin.readline())
    try:
        tun = _open_tun()
        subprocess.run(["ip", "-batch", "-"], input=configuration, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    with suppress(PermissionError):  # a network does not wait for a processor
        os.nice(-10)
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    print("ready", flush=True)
    _serve(tun, make(told))
    return 0


def _open_tun() -> int:
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"tun0", IFF_TUN | IFF_NO_PI))
    return tun


def _serve(tun: int, network: Network) -> None:
    """Answer until standard input ends.

    select() and not epoll: Python rounds the latter's timeouts up to whole milliseconds.
    """
    owner = sys.stdin.fileno()
    while True:
        due = network.next_due
        patience = None if due is None else max(0.0, due - time.monotonic())
        ready, _, _ = select.select((tun, owner), (), (), patience)
        if owner in ready:
            return
        if tun in ready:
            _take(tun, network)
        while answer := network.due(time.monotonic()):
            os.write(tun, answer)


def _take(tun: int, network: Network) -> None:
    with suppress(BlockingIOError):
        for _ in range(BATCH):
            network.take(os.read(tun, LARGEST_PACKET), time.monotonic())
