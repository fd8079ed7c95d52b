"""A scenario behind a TUN device: real packets and real delays, without a router.

    python -m tests.bench.tun_network (started by `TunNetwork`, in a network namespace of its own)

The kernel hands every SYN to one process, which lets it meet the fate that the scenario says
(`tests.simulated.network.fate`) and writes the answer back when it is due: the device at hop n
answers 2 * n * `Scenario.delay` seconds later. tc netem is not in every kernel; this is. Where
`Layout.echo` says so, echo requests pass every filter, and the destination answers them.

With `Layout.journal` it writes down what became of each SYN: what it was given to know, and when
it really answered. `journal` reads that once the network is gone.

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

import struct
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from io import BufferedWriter, FileIO
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tests.lab.lab import LabError
from tests.lab.tun import IcmpBudgets, Outbox, TunLab, checksum, play
from tests.scenarios import Rule, Scenario
from tests.simulated.network import ICMP_OF_ACTION, INITIAL_TTL, Fate, fate

PATHS_A_NETWORK = 250
FIRST_NETWORK = 9

IP = struct.Struct("!BBHHHBBH4s4s")
ICMP = struct.Struct("!BBHI")
TCP = struct.Struct("!HHIIBBHHH")
PSEUDO_HEADER = struct.Struct("!4s4sxBH")
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
WINDOW = 64_240
#: A SYN without data: an IP header without options, and a TCP header of at most 60 octets.
LARGEST_SYN = 80
#: RFC 792: an echo request's payload, which is of even length here, comes back in the reply.
ECHO_REQUEST, ECHO_REPLY = 8, 0
LARGEST_ECHO = 128
TCP_PROTOCOL, ICMP_PROTOCOL = 6, 1
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
    #: Whether destinations answer echo requests; else nobody takes notice of these.
    echo: bool = False
    #: The file of the journal; "" for none.
    journal: str = ""


class TunNetwork(TunLab):
    """The lab of a scenario that is played behind the device."""

    def __init__(self, scenario: Scenario, layout: Layout = Layout()) -> None:
        if not scenario.destination_exists:
            raise LabError("behind a TUN device every destination exists")
        super().__init__(__name__, {"scenario": asdict(scenario), "layout": asdict(layout)})
        self.scenario = scenario

    def destination(self, path: int) -> str:
        """The address at the end of a path, counted from 0."""
        return address(path, self.scenario.hops)


def address(path: int, hop: int) -> str:
    """The address in whose name the device at a hop of a path answers."""
    network, host = divmod(path, PATHS_A_NETWORK)
    return f"10.{FIRST_NETWORK + network}.{hop - 1}.{host + 2}"


# -- the journal -----------------------------------------------------------------------


class Entry(NamedTuple):
    """One SYN: who answered it, and when it was taken and answered, on the monotonic clock.

    `hop` is where its way ended; `answered` is 0 where it got no answer.
    """

    destination: bytes
    source_port: int
    port: int
    ttl: int
    hop: int
    taken: float
    answered: float


ENTRY = struct.Struct("!4sHHBBdd")


def journal(path: Path) -> Iterator[Entry]:
    """The SYNs that a network has taken, by the time of their end."""
    return map(Entry._make, ENTRY.iter_unpack(path.read_bytes()))


# -- the network -----------------------------------------------------------------------


class Network(Outbox):
    """Answers IPv4 packets; knows no socket and no clock."""

    def __init__(
        self, scenario: Scenario, layout: Layout, journal_file: BinaryIO | None = None
    ) -> None:
        super().__init__()
        self._scenario = scenario
        self._layout = layout
        self._journal = journal_file
        #: Answer -> the SYN that it answers, and when that was taken.
        self._asked: dict[bytes, tuple[bytes, Fate, float]] = {}
        self._budgets = IcmpBudgets()
        self._fate = lru_cache(maxsize=None)(lambda ttl, port: fate(scenario, ttl, port))
        unfiltered = replace(scenario, rules=())
        self._echo_fate = lru_cache(maxsize=None)(lambda ttl: fate(unfiltered, ttl, 0))
        self._shared = [
            IPv4Address(address(0, hop)).packed for hop in range(1, layout.shared_hops + 1)
        ]

    def due(self, now: float) -> bytes | None:
        """The next answer, None when none is due."""
        answer = super().due(now)
        if answer and (asked := self._asked.pop(answer, None)):
            self._write(*asked, answered=now)
        return answer

    def take(self, packet: bytes, now: float) -> None:
        """Let one packet of the prober meet its fate."""
        if packet[:1] != b"\x45" or packet[18:19] != bytes((self._scenario.hops - 1,)):
            return
        if _is_bare_tcp(packet):
            self._take_segment(packet, now)
        elif self._layout.echo and _is_echo_request(packet):
            self._take_echo(packet, now)

    def _take_segment(self, packet: bytes, now: float) -> None:
        flags = packet[33]
        if flags & FIN:
            self._after(now, self._scenario.hops, _segment(packet, RST | ACK, self._scenario.hops))
        elif flags & (SYN | ACK) == SYN:
            self._take_syn(packet, now)

    def _take_syn(self, packet: bytes, now: float) -> None:
        end: Fate = self._fate(packet[8], int.from_bytes(packet[22:24], "big"))
        flags = TCP_ANSWERS.get(end.action)
        answer = _segment(packet, flags, end.hop) if flags else self._error(packet, end, now)
        if answer:
            self._after(now, end.hop, answer)
        if self._journal and answer:
            self._asked[answer] = packet, end, now
        elif self._journal:
            self._write(packet, end, now)

    def _take_echo(self, packet: bytes, now: float) -> None:
        end: Fate = self._echo_fate(packet[8])
        reached = end.hop == self._scenario.hops
        answer = _echo_reply(packet, end.hop) if reached else self._error(packet, end, now)
        if answer:
            self._after(now, end.hop, answer)

    def _error(self, packet: bytes, end: Fate, now: float) -> bytes | None:
        """The ICMP error of the device where a packet ends, None where that sends none."""
        sender = self._responder(packet, end.hop)
        # The budget is the router's at the time that the SYN arrives there: half a trip later.
        if end.action == "drop" or end.hop in self._scenario.silent or not self._may(sender, now):
            return None
        return _error(packet, sender, end)

    def _write(self, packet: bytes, end: Fate, taken: float, answered: float = 0.0) -> None:
        assert self._journal
        ports = int.from_bytes(packet[20:22], "big"), int.from_bytes(packet[22:24], "big")
        entry = Entry(packet[16:20], *ports, packet[8], end.hop, taken, answered)
        self._journal.write(ENTRY.pack(*entry))

    def _responder(self, packet: bytes, hop: int) -> bytes:
        path = packet[16:20]  # 10, network, hop - 1, host
        if hop <= self._layout.shared_hops:
            return self._shared[hop - 1]
        return bytes((path[0], path[1], hop - 1, path[3]))

    def _may(self, router: bytes, now: float) -> bool:
        """Whether the router's budget for its one recipient allows another error."""
        return not self._layout.limited or self._budgets.allows(router, now)

    def _after(self, now: float, hop: int, packet: bytes) -> None:
        self.post(now + 2 * hop * self._scenario.delay, packet)


def _is_bare_tcp(packet: bytes) -> bool:
    """Whether an IPv4 packet without options holds a TCP header and no data."""
    return 40 <= len(packet) <= LARGEST_SYN and packet[9] == TCP_PROTOCOL


def _is_echo_request(packet: bytes) -> bool:
    """Whether an IPv4 packet without options holds an echo request of even length."""
    fits = 28 <= len(packet) <= LARGEST_ECHO and len(packet) % 2 == 0
    return fits and packet[9] == ICMP_PROTOCOL and packet[20] == ECHO_REQUEST


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
    total = checksum(PSEUDO_HEADER.pack(destination, source, TCP_PROTOCOL, TCP.size) + tcp)
    tcp = tcp[:16] + total.to_bytes(2, "big") + tcp[18:]
    return _ip(destination, source, TCP_PROTOCOL, hop, tcp)


def _echo_reply(packet: bytes, hop: int) -> bytes:
    """What answers an echo request in the destination's name."""
    message = bytes((ECHO_REPLY, 0, 0, 0)) + packet[24:]
    message = message[:2] + checksum(message).to_bytes(2, "big") + message[4:]
    return _ip(packet[16:20], packet[12:16], ICMP_PROTOCOL, hop, message)


def _error(packet: bytes, sender: bytes, end: Fate) -> bytes:
    """An ICMP error that quotes the packet with the TTL that it had left."""
    header = packet[:8] + bytes((end.remaining_ttl,)) + packet[9:10] + b"\0\0" + packet[12:20]
    quote = header[:10] + checksum(header).to_bytes(2, "big") + packet[12:]
    kind, code = ICMP_OF_ACTION["ipv4"][end.action]
    message = ICMP.pack(kind, code, 0, 0) + quote
    message = ICMP.pack(kind, code, checksum(message), 0) + quote
    return _ip(sender, packet[12:16], ICMP_PROTOCOL, end.hop, message)


def _ip(source: bytes, destination: bytes, protocol: int, hop: int, payload: bytes) -> bytes:
    """The payload in an IP packet as it arrives from the device at a hop."""
    fields = (0x45, 0, IP.size + len(payload), 0, 0, INITIAL_TTL - (hop - 1), protocol)
    total = checksum(IP.pack(*fields, 0, source, destination))
    return IP.pack(*fields, total, source, destination) + payload


# -- the process -----------------------------------------------------------------------


def _scenario(told: dict[str, Any]) -> Scenario:
    """The scenario that `asdict` took apart; what is expected of it is not our business."""
    rules = tuple(Rule(**{**rule, "ports": tuple(rule["ports"])}) for rule in told["rules"])
    return replace(Scenario(**told), rules=rules, expectations=())


def _network(told: dict[str, Any]) -> Network:
    layout = Layout(**told["layout"])
    # Closed, and so written to its end, when the network goes.
    written = BufferedWriter(FileIO(layout.journal, "wb")) if layout.journal else None
    return Network(_scenario(told["scenario"]), layout, written)


if __name__ == "__main__":
    sys.exit(play(CONFIGURATION, _network))
