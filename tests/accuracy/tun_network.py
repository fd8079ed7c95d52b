"""The process behind the TUN device that plays a `Net`.

    python -m tests.accuracy.tun_network (started by `TunWorld`, in a namespace of its own)

What becomes of a packet is decided when the kernel hands it over, as if it travelled in no
time; the answer is written when it is due. The order of things on the way:

1. a link may lose it;
2. a device filters at its entrance, checks the TTL, rewrites, filters what it forwards;
3. an ICMP error needs a token of its sender's budget (tests/lab/tun.py), which all types share;
   Linux replenishes it once a second in IPv4, and 4 times a second toward a /64 of IPv6
   (icmpv6_xrlim_allow);
4. the answer travels back, may be lost or filtered, and loses one from its TTL at each router.

The destination's TCP is that of Linux in what a traceroute can see of it: an RST to each SYN to a
closed port; to an open one a SYN-ACK for the first SYN of a flow, sent again after 1, 3 and 7 s,
and a challenge ACK at most every 500 ms for other SYNs as long as it is half open. An RST or an
ACK ends that. Nobody keeps a connection: a FIN is answered with an RST.
"""

from __future__ import annotations

import heapq
import itertools
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import NamedTuple

from exporter.model import CANARIES, FULL_TTL
from tests.accuracy.tun import Filter, Net, net_of
from tests.accuracy.tun_packets import (
    ACK,
    FIN,
    RST,
    SYN,
    Error,
    Packet,
    echo_reply,
    icmp_error,
    read,
    rewritten,
    segment,
)
from tests.lab.tun import IcmpBudgets, Outbox, play
from tests.simulated.network import CHALLENGE_INTERVAL, HELD_BACK, ICMP_OF_ACTION

SHIFT = 0x3C6E_F372
#: Behind the NAT the prober has this address (RFC 5737, RFC 3849), and another port.
TRANSLATED = {"ipv4": ip_address("203.0.113.9").packed, "ipv6": ip_address("2001:db8:9::9").packed}
PORT_SHIFT = 1000
ICMP_INTERVALS = {"ipv4": 1.0, "ipv6": 0.25}
SYN_ACK_AGAIN = (1.0, 3.0, 7.0)
FIRST_LABEL = 16_000

CONFIGURATION = """\
link set lo up
addr add 10.9.0.1/24 dev tun0
addr add fd09::1/64 dev tun0 nodad
link set tun0 txqueuelen 5000 up
route add default via 10.9.0.2 dev tun0 src 10.9.0.1
route add default via fd09::2 dev tun0 src fd09::1
"""


class End(NamedTuple):
    """Where a packet's way ended: after so many steps, at the device of a hop, which acts."""

    steps: int
    hop: int
    action: str
    #: As the device sees it, with the TTL that it arrived with.
    packet: Packet
    ttl: int
    path: int
    branch: int
    #: Of a forged RST.
    initial_ttl: int = 0


class HalfOpen:
    """What a listening destination knows of a flow between its SYN-ACK and its end."""

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        self.challenged_at = float("-inf")


class PlayedNetwork(Outbox):
    """Answers packets; knows no socket and no clock."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self._net = net
        self._random = random.Random(net.seed)  # noqa: S311 - dice, not secrets
        self._budgets = IcmpBudgets()
        self._paths = {
            ip_address(address).packed: path
            for path in range(net.paths)
            for address in net.target(path).values()
        }
        # The canaries' way ends where nobody answers for them, behind the last router.
        self._paths |= {ip_address(canary).packed: -1 for canary in CANARIES}
        self._flows: dict[object, int] = {}
        self._numbers: defaultdict[object, Iterator[int]] = defaultdict(itertools.count)
        self._half_open: dict[object, HalfOpen] = {}
        self._syns: Counter[object] = Counter()
        self._orders = itertools.count()
        #: (due, order, what the destination does by itself then)
        self._alarms: list[tuple[float, int, Callable[[float], None]]] = []

    @property
    def next_due(self) -> float | None:
        """When something is to be done."""
        dues = [due for due in (super().next_due, *(at for at, *_ in self._alarms[:1])) if due]
        return min(dues, default=None)

    def due(self, now: float) -> bytes | None:
        """The next answer, None when none is due."""
        while self._alarms and self._alarms[0][0] <= now:
            heapq.heappop(self._alarms)[2](now)
        return super().due(now)

    def take(self, octets: bytes, now: float) -> None:
        """Let one packet of the prober meet its fate."""
        packet = read(octets)
        if packet is None or packet.destination not in self._paths:
            return
        end = self._walk(packet)
        if end is None or end.action == "drop":
            return
        if end.action == "arrive":
            self._arrive(packet, end, now)
        elif end.action == "tcp-reset":
            if packet.is_syn:
                reset = self._segment(packet, end, RST | ACK, end.initial_ttl)
                self._answer(packet, end, reset, now)
        else:
            self._refuse(packet, end, now)

    # -- there -------------------------------------------------------------------------

    def _walk(self, packet: Packet) -> End | None:
        """Where the packet ends; None when it is lost."""
        net, sent, ttl = self._net, packet, packet.ttl
        place = (self._paths[packet.destination], self._branch(packet))
        for steps in itertools.count(1):
            hop = self._hop(steps)
            if hop == net.weather.lossy_hop and self._random.random() < net.weather.loss_there:
                return None
            if met := self._filter(hop, "ingress", sent, place[1]):
                return End(steps, hop, met.action, packet, ttl, *place, met.initial_ttl)
            if hop == net.hops:
                met = self._filter(hop, "input", sent, place[1])
                action = met.action if met else "drop" if place[0] < 0 else "arrive"
                return End(steps, hop, action, packet, ttl, *place, met.initial_ttl if met else 0)
            if ttl <= (0 if hop in net.zero_ttl else 1):
                return End(steps, hop, "time-exceeded", packet, ttl, *place)
            ttl -= 1
            if met := self._filter(hop, "forward", sent, place[1]):
                return End(steps, hop, met.action, packet, ttl, *place, met.initial_ttl)
            packet = self._rewrite(packet, hop)
        return None

    def _hop(self, steps: int) -> int:
        """The device that a packet meets after so many steps."""
        if self._net.loop is None or steps <= self._net.loop[1]:
            return steps
        first, last = self._net.loop
        return first + (steps - first) % (last - first + 1)

    def _branch(self, packet: Packet) -> int:
        """The branch that a flow takes.

        Flows are dealt out one after the other, so that any few of them have met every branch:
        a hash would do that only most of the time. Those that begin with a full TTL, such as a
        plain connect(), are dealt out apart from a trace's.
        """
        _, _, count = self._net.branches
        if packet.flow not in self._flows:
            kind = (packet.destination, packet.destination_port, packet.ttl == FULL_TTL)
            self._flows[packet.flow] = next(self._numbers[kind]) % count
        return self._flows[packet.flow]

    def _filter(self, hop: int, chain: str, packet: Packet, branch: int) -> Filter | None:
        """The rule that the packet meets."""
        return next(
            (
                rule
                for rule in self._net.filters
                if (rule.hop, rule.chain) == (hop, chain)
                and (not rule.branches or branch in rule.branches)
                and _covers(rule, packet)
            ),
            None,
        )

    def _rewrite(self, packet: Packet, hop: int) -> Packet:
        """The packet as it leaves the device."""
        if packet.is_echo:
            return packet
        if hop == self._net.shifts_sequences:
            return rewritten(packet, shift=SHIFT)
        if hop == self._net.translates:
            source = TRANSLATED[packet.version.family]
            return rewritten(packet, source=source, port=packet.source_port + PORT_SHIFT)
        return packet

    # -- the destination ---------------------------------------------------------------

    def _arrive(self, packet: Packet, end: End, now: float) -> None:
        """Let the destination see the packet."""
        ttl = self._net.destination.initial_ttl
        if packet.is_echo:
            if self._net.destination.echo:
                self._answer(packet, end, echo_reply(packet, self._ttl(end, ttl)), now)
        elif packet.is_syn:
            self._take_syn(packet, end, now)
        else:
            self._half_open.pop(packet.flow, None)
            if packet.flags & FIN:
                self._answer(packet, end, self._segment(packet, end, RST | ACK, ttl), now)

    def _take_syn(self, packet: Packet, end: End, now: float) -> None:
        host = self._net.destination
        if packet.destination_port not in host.ports:
            reset = self._segment(packet, end, RST | ACK, host.initial_ttl)
            self._answer(packet, end, reset, now)
            return
        counted = {
            "connection": (packet.flow, packet.sequence),
            "flow": packet.flow,
            "source": packet.flow[2:],
        }[host.counts]
        self._syns[counted] += 1
        if self._syns[counted] < host.answers_from:
            return
        known = self._half_open.get(packet.flow)
        if known is None or known.sequence == packet.sequence:
            self._accept(packet, end, now)
        elif now - known.challenged_at >= CHALLENGE_INTERVAL:
            known.challenged_at = now
            first = packet._replace(sequence=known.sequence)
            self._answer(packet, end, self._segment(first, end, ACK, host.initial_ttl), now)

    def _accept(self, packet: Packet, end: End, now: float) -> None:
        """Send the SYN-ACK, and again as long as nobody takes notice."""
        accepted = self._half_open[packet.flow] = HalfOpen(packet.sequence)
        octets = self._segment(packet, end, SYN | ACK, self._net.destination.initial_ttl)
        self._answer(packet, end, octets, now)

        def again(at: float) -> None:
            if self._half_open.get(packet.flow) is accepted:
                self._answer(packet, end, octets, at)

        for later in SYN_ACK_AGAIN:
            heapq.heappush(self._alarms, (now + later, next(self._orders), again))

    # -- back --------------------------------------------------------------------------

    def _refuse(self, packet: Packet, end: End, now: float) -> None:
        """Have the device send an ICMP error, if it is one that does, and may."""
        family = packet.version.family
        sender = self._responder(family, end)
        allowed = self._budgets.allows(sender, now, ICMP_INTERVALS[family])
        if end.hop in self._net.silent or not allowed:
            return
        kind, code = ICMP_OF_ACTION[family][end.action]
        label = None
        if self._net.mpls and self._net.mpls[0] <= end.hop <= self._net.mpls[1]:
            label = FIRST_LABEL + end.hop
            # RFC 3032, section 2.3.2: the message follows the tunnel to its end.
            end = end._replace(steps=2 * self._net.mpls[1] - end.hop)
        error = Error(sender, kind, code, end.ttl, label)
        ttl = self._ttl(end, self._net.router_ttl)
        self._answer(packet, end, icmp_error(end.packet, error, packet.source, ttl), now)

    def _responder(self, family: str, end: End) -> bytes:
        first, last, _ = self._net.branches
        if first <= end.hop <= last:
            number = 10 * end.branch
        else:
            number = 0 if end.hop <= self._net.shared_hops else max(0, end.path)
        return ip_address(self._net.address(family, end.hop, number)).packed

    def _segment(self, packet: Packet, end: End, flags: int, initial_ttl: int) -> bytes:
        """What answers a segment in the destination's name, sent by the device at the end."""
        return segment(packet, flags, packet.sequence + 1, self._ttl(end, initial_ttl))

    def _ttl(self, end: End, initial_ttl: int) -> int:
        """The TTL with which an answer arrives."""
        more = max((more for hop, more in self._net.longer_return if hop <= end.hop), default=0)
        return initial_ttl - (end.steps - 1) - more

    def _answer(self, packet: Packet, end: End, octets: bytes, now: float) -> None:
        """Send something back, which chance or a filter may keep from arriving."""
        weather = self._net.weather
        lossy = end.hop >= weather.lossy_hop and self._random.random() < weather.loss_back
        in_its_name = octets[packet.version.source] == packet.destination
        kept = in_its_name and any(
            self._filter(hop, "return", packet, end.branch) for hop in range(1, end.hop)
        )
        if not lossy and not kept:
            self.post(now + self._time(end), octets)

    def _time(self, end: End) -> float:
        """From the prober to the device and back, in seconds."""
        weather = self._net.weather
        held = sum(HELD_BACK for _ in range(2) if self._random.random() < weather.reordered)
        late = sum(self._random.uniform(0.0, weather.jitter) for _ in range(2))
        return 2 * end.steps * self._net.delay + held + late


def _covers(rule: Filter, packet: Packet) -> bool:
    if packet.is_echo:
        return rule.echo
    return not rule.ports or packet.destination_port in rule.ports


if __name__ == "__main__":
    sys.exit(play(CONFIGURATION, lambda told: PlayedNetwork(net_of(told))))
