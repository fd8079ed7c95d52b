"""A scenario behind a TUN device: real packets and real delays, without a router.

    python -m tests.bench.tun_network (started by `TunNetwork`, in a network namespace of its own)

The kernel hands every SYN to one process, which lets it meet the fate that the scenario says
(`tests.simulated.network.fate`) and writes the answer back when it is due: the device at hop n
answers 2 * n * `Scenario.delay` seconds later. tc netem is not in every kernel; this is.

    prober 10.9.0.1 (tun0) -- path 0: 10.9.0.2  10.9.1.2 ... 10.9.(hops-1).2 the destination
                           -- path 1: 10.9.0.3  10.9.1.3 ... 10.9.(hops-1).3
                           -- ...     250 paths in 10.9.0.0/16, then 250 in 10.10.0.0/16, ...

so path 0 has the addresses of the scenario, and every path plays the same scenario. The first
`shared_hops` routers are those of path 0 on every path, with one ICMP budget each.

What it leaves out, since no figure rests on it: a listening port answers each SYN of a flow
with a SYN-ACK (Linux: the first; a challenge ACK to later ones), and nobody keeps a connection:
a FIN is answered with a RST.
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
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Self

from tests.lab.lab import Lab, LabError
from tests.scenarios import Rule, Scenario
from tests.simulated.network import ICMP_OF_ACTION, INITIAL_TTL, Fate, fate

ROOT = Path(__file__).parents[2]
PATHS_A_NETWORK = 250
FIRST_NETWORK = 9

#: linux/if_tun.h
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000

IP = struct.Struct("!BBHHHBBH4s4s")
ICMP = struct.Struct("!BBHI")
TCP = struct.Struct("!HHIIBBHHH")
PSEUDO_HEADER = struct.Struct("!4s4sxBH")
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
WINDOW = 64_240
#: A SYN without data: an IP header without options, and a TCP header of at most 60 octets.
LARGEST_SYN = 80
#: Packets taken from the kernel before the answers that are due go out.
BATCH = 64

#: net.ipv4.icmp_ratelimit: 6 errors at once to one recipient, then one a second.
ICMP_BURST, ICMP_INTERVAL = 6.0, 1.0
#: What the destination's own name is on: it answers over TCP, not over ICMP.
TCP_ANSWERS = {"open": SYN | ACK, "closed": RST | ACK, "tcp-reset": RST | ACK}

CONFIGURATION = """\
link set lo up
addr add 10.9.0.1/32 dev tun0
link set tun0 txqueuelen 5000 up
route add default via 10.9.0.254 dev tun0 src 10.9.0.1 onlink
"""


# -- the handle ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Layout:
    """How the paths hang together; `limited` puts Linux' limit on ICMP errors in force."""

    shared_hops: int = 0
    limited: bool = True


class TunNetwork(Lab):
    """A `Lab` whose devices are one process: `run` and `popen` work as they do there.

    There is no firewall to switch and no link to cut, so `nft` and `link` have no meaning.
    """

    def __init__(self, scenario: Scenario, layout: Layout = Layout()) -> None:
        if not scenario.destination_exists:
            raise LabError("behind a TUN device every destination exists")
        self.scenario = scenario
        self._layout = layout

    def __enter__(self) -> Self:
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        self._holder = subprocess.Popen(
            ["unshare", *user, "--net", "--", sys.executable, "-m", __name__],
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
        told = {"scenario": asdict(self.scenario), "layout": asdict(self._layout)}
        with suppress(BrokenPipeError):  # unshare has failed, and says why below
            self._holder.stdin.write(json.dumps(told) + "\n")
            self._holder.stdin.flush()
        if self._holder.stdout.readline() != "ready\n":
            said = self._holder.stderr.read().strip().splitlines() or ["no reason given"]
            raise LabError(f"the network behind a TUN device could not be made: {said[-1]}")

    def destination(self, path: int) -> str:
        """The address at the end of a path, counted from 0."""
        return address(path, self.scenario.hops)


def address(path: int, hop: int) -> str:
    """The address in whose name the device at a hop of a path answers."""
    network, host = divmod(path, PATHS_A_NETWORK)
    return f"10.{FIRST_NETWORK + network}.{hop - 1}.{host + 2}"


# -- the network -----------------------------------------------------------------------


class Network:
    """Answers IPv4 packets; knows no socket and no clock."""

    def __init__(self, scenario: Scenario, layout: Layout) -> None:
        self._scenario = scenario
        self._layout = layout
        #: (due, order, packet)
        self._answers: list[tuple[float, int, bytes]] = []
        self._order = itertools.count()
        #: Router -> (tokens, when they were counted): inet_peer_xrlim_allow.
        self._budgets: dict[bytes, tuple[float, float]] = {}
        self._fate = lru_cache(maxsize=None)(lambda ttl, port: fate(scenario, ttl, port))

    @property
    def next_due(self) -> float | None:
        """When the next answer is to be written."""
        return self._answers[0][0] if self._answers else None

    def due(self, now: float) -> bytes | None:
        """The next answer, None when none is due."""
        if self._answers and self._answers[0][0] <= now:
            return heapq.heappop(self._answers)[2]
        return None

    def take(self, packet: bytes, now: float) -> None:
        """Let one packet of the prober meet its fate."""
        if not _is_bare_tcp(packet) or packet[18] != self._scenario.hops - 1:
            return
        flags = packet[33]
        if flags & FIN:
            self._after(now, self._scenario.hops, _segment(packet, RST | ACK, self._scenario.hops))
        elif flags & (SYN | ACK) == SYN:
            self._take_syn(packet, now)

    def _take_syn(self, packet: bytes, now: float) -> None:
        end: Fate = self._fate(packet[8], int.from_bytes(packet[22:24], "big"))
        if flags := TCP_ANSWERS.get(end.action):
            self._after(now, end.hop, _segment(packet, flags, end.hop))
            return
        sender = self._responder(packet, end.hop)
        # The budget is the router's at the time that the SYN arrives there: half a trip later.
        if end.action == "drop" or end.hop in self._scenario.silent or not self._may(sender, now):
            return
        self._after(now, end.hop, _error(packet, sender, end))

    def _responder(self, packet: bytes, hop: int) -> bytes:
        path = packet[16:20]  # 10, network, hop - 1, host
        if hop <= self._layout.shared_hops:
            return IPv4Address(address(0, hop)).packed
        return bytes((path[0], path[1], hop - 1, path[3]))

    def _may(self, router: bytes, now: float) -> bool:
        """Whether the router's budget for its one recipient allows another error."""
        if not self._layout.limited:
            return True
        tokens, at = self._budgets.get(router, (ICMP_BURST, now))
        tokens = min(ICMP_BURST, tokens + (now - at) / ICMP_INTERVAL)
        self._budgets[router] = (tokens - (tokens >= 1), now)
        return tokens >= 1

    def _after(self, now: float, hop: int, packet: bytes) -> None:
        due = now + 2 * hop * self._scenario.delay
        heapq.heappush(self._answers, (due, next(self._order), packet))


def _is_bare_tcp(packet: bytes) -> bool:
    """Whether it is an IPv4 packet without options that holds a TCP header and no data."""
    return 40 <= len(packet) <= LARGEST_SYN and packet[0] == 0x45 and packet[9] == 6


def _segment(packet: bytes, flags: int, hop: int) -> bytes:
    """What answers a segment in the destination's name, sent by the device at a hop."""
    source, destination = packet[12:16], packet[16:20]
    sequence = int.from_bytes(packet[24:28], "big") + 1
    tcp = TCP.pack(
        int.from_bytes(packet[22:24], "big"),
        int.from_bytes(packet[20:22], "big"),
        # A RST that answers an ACK is taken only at the sequence number that the ACK names.
        int.from_bytes(packet[28:32], "big"),
        sequence % (1 << 32),
        TCP.size // 4 << 4,
        flags,
        WINDOW,
        0,
        0,
    )
    checksum = _checksum(PSEUDO_HEADER.pack(destination, source, 6, TCP.size) + tcp)
    tcp = tcp[:16] + checksum.to_bytes(2, "big") + tcp[18:]
    return _ip(destination, source, 6, hop, tcp)


def _error(packet: bytes, sender: bytes, end: Fate) -> bytes:
    """An ICMP error that quotes the packet with the TTL that it had left."""
    header = packet[:8] + bytes((end.remaining_ttl,)) + packet[9:10] + b"\0\0" + packet[12:20]
    quote = header[:10] + _checksum(header).to_bytes(2, "big") + packet[12:]
    kind, code = ICMP_OF_ACTION["ipv4"][end.action]
    message = ICMP.pack(kind, code, 0, 0) + quote
    message = ICMP.pack(kind, code, _checksum(message), 0) + quote
    return _ip(sender, packet[12:16], 1, end.hop, message)


def _ip(source: bytes, destination: bytes, protocol: int, hop: int, payload: bytes) -> bytes:
    """The payload in an IP packet as it arrives from the device at a hop."""
    fields = (0x45, 0, IP.size + len(payload), 0, 0, INITIAL_TTL - (hop - 1), protocol)
    checksum = _checksum(IP.pack(*fields, 0, source, destination))
    return IP.pack(*fields, checksum, source, destination) + payload


def _checksum(data: bytes) -> int:
    """RFC 1071 over an even number of octets.

    Modulo 0xFFFF every 16-bit word counts the same, since 0x10000 leaves 1: the remainder of
    the whole number is the one's complement sum.
    """
    return 0xFFFF - int.from_bytes(data, "big") % 0xFFFF


# -- the process -----------------------------------------------------------------------


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
            network.take(os.read(tun, 2048), time.monotonic())


def _scenario(told: dict[str, Any]) -> Scenario:
    """The scenario that `asdict` took apart; what is expected of it is not our business."""
    rules = tuple(Rule(**{**rule, "ports": tuple(rule["ports"])}) for rule in told["rules"])
    return replace(Scenario(**told), rules=rules, expectations=())


def main() -> int:
    """Make the network that standard input describes, say "ready", and answer until it ends."""
    told = json.loads(sys.stdin.readline())
    try:
        tun = _open_tun()
        subprocess.run(["ip", "-batch", "-"], input=CONFIGURATION, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    with suppress(PermissionError):
        os.nice(-10)  # a network does not wait for a processor
    print("ready", flush=True)
    _serve(tun, Network(_scenario(told["scenario"]), Layout(**told["layout"])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
