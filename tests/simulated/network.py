"""A scenario's network in virtual time: an engine without sockets, a clock that is told.

Every SYN meets one fate, which depends on its TTL and port alone (`fate`): a device that lets
it expire, a firewall's rule, or the destination. When the answer comes, and whether it comes
at all, is a matter of time and chance, so it is played as events in order of time:

1. a SYN takes `Scenario.delay` a link to where it ends; the answer takes as long back;
2. an ICMP error needs a token of the device's bucket for its recipient, and all types share
   it (Linux: icmp_ratelimit, icmp_ratemask; ICMPv6's bucket fills faster, which is left out);
   a silent router sends none;
3. nobody answers for a dead host; the last router asks for it for 3 s, then sends
   host-unreachable for every SYN that waited (Linux: mcast_solicit times retrans_time_ms);
4. a closed port answers each SYN with RST, an open one the first SYN of a flow with SYN-ACK,
   sent again after 1, 2, 4, 8 and 16 s; while half-open it answers another SYN of that flow with
   a challenge ACK for the first one, at most every 500 ms (Linux: tcp_check_req,
   tcp_invalid_ratelimit; this takes sequence numbers that are lower or at least 65,535 higher,
   for to a SYN within the receive window Linux answers RST and forgets the first);
5. the prober's kernel answers SYN-ACK and ACK with RST, which ends the half-open state half
   a round trip later;
6. everything starts with IP TTL 64, a forged RST too, and each router on the way back takes one.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from exporter.model import (
    Answer,
    Failure,
    FailureReason,
    Flow,
    Probe,
    ProbeError,
    Reply,
    ReplyKind,
)
from tests.scenarios import ACTIONS, Scenario

INITIAL_TTL = 64
#: Linux asks three times for a neighbour, a second apart, before it gives up.
NEIGHBOUR_TIMEOUT = 3.0
#: net.ipv4.tcp_invalid_ratelimit, in seconds.
CHALLENGE_INTERVAL = 0.5
#: net.ipv4.tcp_synack_retries, from one second on and doubling.
SYN_ACK_RETRIES = 5
#: How long a reordered packet is held back, in seconds: longer than a burst lasts.
HELD_BACK = 0.05
FIRST_PORT = 33000
#: A monotonic clock starts anywhere; at 0 it would hide a mistaken test for truth.
START = 1000.0

NO_BUFFER = Failure(FailureReason.INTERNAL, "no buffer space available (ENOBUFS)")
NOT_PERMITTED = Failure(FailureReason.PERMISSION, "operation not permitted (EPERM)")

#: Family -> (type, code) of each way to refuse a SYN by an ICMP error: RFC 792 and RFC 1812
#: section 5.2.7.1, RFC 4443 section 3.
ICMP_OF_ACTION = {
    "ipv4": {
        "time-exceeded": (11, 0),
        "net-unreachable": (3, 0),
        "host-unreachable": (3, 1),
        "port-unreachable": (3, 3),
        "net-prohibited": (3, 9),
        "host-prohibited": (3, 10),
        "admin-prohibited": (3, 13),
    },
    "ipv6": {
        "time-exceeded": (3, 0),
        "net-unreachable": (1, 0),
        "host-unreachable": (1, 3),
        "port-unreachable": (1, 4),
        "net-prohibited": (1, 5),
        "host-prohibited": (1, 6),
        "admin-prohibited": (1, 1),
    },
}
#: The actions of a firewall that speaks up over ICMP.
REFUSALS = tuple(action for action in ACTIONS if action in ICMP_OF_ACTION["ipv4"])


@dataclass(frozen=True, slots=True)
class SendError:
    """The host refuses the sends numbered `first` to `last`, counted from 1 over all flows."""

    first: int
    last: int
    failure: Failure = NO_BUFFER


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the network does to packets; the same seed gives the same run.

    `loss`, `reorder` and `duplicate` are probabilities of each packet and direction
    (`duplicate`: of answers), `jitter` is the most seconds that a direction adds.
    Each device sends at most `icmp_burst` ICMP errors at once and `icmp_rate` a second;
    None lifts the limit. The destination ignores the first SYNs of each flow up to
    the one numbered `answers_from_attempt`.
    """

    seed: int = 0
    loss: float = 0.0
    jitter: float = 0.0
    reorder: float = 0.0
    duplicate: float = 0.0
    icmp_burst: int = 6
    icmp_rate: float | None = 1.0
    answers_from_attempt: int = 1
    send_errors: tuple[SendError, ...] = ()


CALM = Conditions()


@dataclass(frozen=True, slots=True)
class Fate:
    """The device at `hop` ends a SYN's way by `action`, with this TTL left in its header."""

    hop: int
    action: str
    remaining_ttl: int


def fate(scenario: Scenario, ttl: int, port: int) -> Fate:
    """Where a SYN with `ttl` to `port` ends; independent of time and of other packets."""

    def rule(hop: int, chain: str) -> str | None:
        return next(
            (
                rule.action
                for rule in scenario.rules
                if (rule.hop, rule.chain) == (hop, chain) and (not rule.ports or port in rule.ports)
            ),
            None,
        )

    for hop in range(1, scenario.hops):
        arriving = ttl - hop + 1
        if action := rule(hop, "ingress"):
            return Fate(hop, action, arriving)
        # Linux' ip_forward: first the TTL, then the decrement, then the forward chain.
        if arriving <= 1:
            return Fate(hop, "time-exceeded", arriving)
        if action := rule(hop, "forward"):
            return Fate(hop, action, arriving - 1)
    last = scenario.hops
    arriving = ttl - last + 1
    if not scenario.destination_exists:
        return Fate(last - 1, "no-neighbour", arriving)
    action = rule(last, "ingress") or rule(last, "input")
    return Fate(last, action or ("open" if port in scenario.open_ports else "closed"), arriving)


class _Bucket:
    """A token bucket as in Linux' inet_peer_xrlim_allow: full at first."""

    def __init__(self, burst: int, rate: float, now: float) -> None:
        self._burst = burst
        self._rate = rate
        self._tokens = float(burst)
        self._filled_at = now

    def allow(self, now: float) -> bool:
        """Take a token if there is one."""
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        allowed = self._tokens >= 1.0
        self._tokens -= allowed
        return allowed


@dataclass(slots=True, eq=False)
class _Conversation:
    """A flow from open to release; what comes later is not handed on."""

    flow: Flow
    sent: set[tuple[int, int]] = field(default_factory=set)
    answered: set[Probe] = field(default_factory=set)
    duplicates: int = 0
    #: How many SYNs have reached the destination's TCP.
    syns: int = 0
    released: bool = False


@dataclass(slots=True, eq=False)
class _HalfOpen:
    """What a listening destination knows of a flow between its SYN-ACK and the RST."""

    first: Probe
    challenged_at: float = -math.inf


class SimulatedNetwork:
    """The devices of a scenario, as an `Engine`.

    Any destination address stands at the end of the chain, so that flows to several hosts can
    share the devices before it. Time stands still except in `advance`.
    """

    name = "simulated"
    kernel_times = True
    most_on_their_way = 1000

    def __init__(self, scenario: Scenario, conditions: Conditions = CALM) -> None:
        self.scenario = scenario
        self.conditions = conditions
        self.sends = 0
        self._now = START
        self._random = random.Random(conditions.seed)  # noqa: S311 - a run must be repeatable
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._arrived: list[tuple[Flow, Answer]] = []
        self._conversations: dict[Flow, _Conversation] = {}
        self._buckets: dict[str, _Bucket] = {}
        #: Per dead destination the answers that its last router owes once it gives up.
        self._unresolved: dict[str, list[Callable[[], None]]] = {}
        self._half_open: dict[Flow, _HalfOpen] = {}

    # -- time --------------------------------------------------------------------------

    def clock(self) -> float:
        """Virtual monotonic time in seconds."""
        return self._now

    def advance(self, to: float) -> None:
        """Let time pass to `to`."""
        while self._events and self._events[0][0] <= to:
            self._next_event()
        self._now = max(self._now, to)

    def advance_to_arrival(self, limit: float) -> bool:
        """Let time pass to the first arrival, at most to `limit`; whether something arrived.

        A reader that waits for a descriptor wakes up as late as this.
        """
        while not self._arrived and self._events and self._events[0][0] <= limit:
            self._next_event()
        self.advance(self._now if self._arrived else limit)
        return bool(self._arrived)

    def _next_event(self) -> None:
        self._now, _, happen = heapq.heappop(self._events)
        happen()

    def _after(self, delay: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now + delay, next(self._order), happen))

    # -- the engine --------------------------------------------------------------------

    def filenos(self) -> tuple[int, ...]:
        """None: nothing here ever becomes readable."""
        return ()

    def open(self, destination: str, port: int, preferred_port: int = 0) -> Flow:
        """Reserve a source port: the preferred one if it is free, else the lowest free one."""
        for source_port in itertools.chain(
            (preferred_port,) if preferred_port else (), itertools.count(FIRST_PORT)
        ):
            flow = Flow(self.scenario.source, source_port, destination, port)
            if flow not in self._conversations:
                self._conversations[flow] = _Conversation(flow)
                return flow
        raise AssertionError("unreachable: the count is endless")

    def send(self, flow: Flow, ttl: int, attempt: int) -> Probe:
        """Send one SYN on its way, or raise what `Conditions.send_errors` plans."""
        self.sends += 1
        for error in self.conditions.send_errors:
            if error.first <= self.sends <= error.last:
                raise ProbeError(error.failure)
        conversation = self._conversations[flow]
        if (ttl, attempt) in conversation.sent:
            raise AssertionError(f"TTL {ttl} attempt {attempt} was sent twice in one flow")
        conversation.sent.add((ttl, attempt))
        probe = Probe(ttl, attempt, self._now)
        end = fate(self.scenario, ttl, flow.destination_port)
        self._send(end.hop, lambda: self._end(conversation, probe, end))
        return probe

    def receive(self) -> Iterable[tuple[Flow, Answer]]:
        """What arrived by now, the first reply to each probe only."""
        arrived, self._arrived = self._arrived, []
        return arrived

    def unseen_errors(self) -> int:
        """None: there is no kernel here that drops any."""
        return 0

    def captured(self, _flow: Flow) -> bytes:
        """None: nothing here is a packet."""
        return b""

    def release(self, flow: Flow) -> int:
        """Close a flow; returns how many duplicate replies it saw."""
        conversation = self._conversations.pop(flow)
        conversation.released = True
        return conversation.duplicates

    def close(self) -> None:
        """Release every flow."""
        for flow in tuple(self._conversations):
            self.release(flow)

    # -- the devices -------------------------------------------------------------------

    def _end(self, conversation: _Conversation, probe: Probe, end: Fate) -> None:
        """A SYN has come to where its way ends."""
        match end.action:
            case "drop":
                pass
            case "tcp-reset":
                self._answer_tcp(conversation, probe, end.hop, ReplyKind.RST)
            case "no-neighbour":
                self._ask_for_neighbour(conversation, probe, end)
            case "open" | "closed":
                self._arrive(conversation, probe, is_open=end.action == "open")
            case _:
                self._answer_icmp(conversation, probe, end)

    def _answer_icmp(self, conversation: _Conversation, probe: Probe, end: Fate) -> None:
        address = self._address(conversation.flow, end.hop)
        if end.hop in self.scenario.silent or not self._may_send_icmp(address):
            return
        kind = ReplyKind.TIME_EXCEEDED if end.action == "time-exceeded" else ReplyKind.UNREACHABLE
        self._answer(
            conversation,
            probe,
            end.hop,
            Reply(
                kind=kind,
                address=address,
                received_at=math.nan,
                icmp=ICMP_OF_ACTION[self.scenario.family][end.action],
                quoted_ttl=end.remaining_ttl,
            ),
        )

    def _address(self, flow: Flow, hop: int) -> str:
        if hop == 0:  # the prober's own kernel, when the destination is on its link
            return self.scenario.source
        return flow.destination if hop == self.scenario.hops else self.scenario.address(hop)

    def _may_send_icmp(self, address: str) -> bool:
        if self.conditions.icmp_rate is None:
            return True
        fresh = _Bucket(self.conditions.icmp_burst, self.conditions.icmp_rate, self._now)
        return self._buckets.setdefault(address, fresh).allow(self._now)

    def _ask_for_neighbour(self, conversation: _Conversation, probe: Probe, end: Fate) -> None:
        destination = conversation.flow.destination
        if destination not in self._unresolved:
            self._unresolved[destination] = []
            self._after(NEIGHBOUR_TIMEOUT, lambda: self._give_up(destination))
        refusal = replace(end, action="host-unreachable")
        self._unresolved[destination].append(
            lambda: self._answer_icmp(conversation, probe, refusal)
        )

    def _give_up(self, destination: str) -> None:
        for answer in self._unresolved.pop(destination):
            answer()

    # -- the destination ---------------------------------------------------------------

    def _arrive(self, conversation: _Conversation, probe: Probe, *, is_open: bool) -> None:
        """A SYN has reached the destination's TCP."""
        flow = conversation.flow
        conversation.syns += 1
        if conversation.syns < self.conditions.answers_from_attempt:
            return
        if not is_open:
            self._answer_tcp(conversation, probe, self.scenario.hops, ReplyKind.RST)
        elif half_open := self._half_open.get(flow):
            self._challenge(conversation, half_open)
        else:
            self._half_open[flow] = _HalfOpen(probe)
            self._send_syn_ack(conversation, self._half_open[flow], retry=0)

    def _challenge(self, conversation: _Conversation, half_open: _HalfOpen) -> None:
        if self._now - half_open.challenged_at >= CHALLENGE_INTERVAL:
            half_open.challenged_at = self._now
            self._answer_tcp(conversation, half_open.first, self.scenario.hops, ReplyKind.ACK)

    def _send_syn_ack(self, conversation: _Conversation, half_open: _HalfOpen, retry: int) -> None:
        if self._half_open.get(conversation.flow) is not half_open:
            return
        if retry > SYN_ACK_RETRIES:
            del self._half_open[conversation.flow]
            return
        self._answer_tcp(conversation, half_open.first, self.scenario.hops, ReplyKind.SYN_ACK)
        self._after(2.0**retry, lambda: self._send_syn_ack(conversation, half_open, retry + 1))

    def _reset(self, flow: Flow, first: Probe) -> None:
        """The RST of the prober's kernel has reached the destination."""
        half_open = self._half_open.get(flow)
        if half_open and half_open.first is first:
            del self._half_open[flow]

    # -- the way back ------------------------------------------------------------------

    def _answer_tcp(
        self, conversation: _Conversation, probe: Probe, hop: int, kind: ReplyKind
    ) -> None:
        reply = Reply(kind, conversation.flow.destination, received_at=math.nan)
        self._answer(conversation, probe, hop, reply)

    def _answer(self, conversation: _Conversation, probe: Probe, hop: int, reply: Reply) -> None:
        """Send a reply on its way from the device at `hop`, perhaps twice."""
        sent = reply._replace(ttl=INITIAL_TTL - max(hop - 1, 0))
        copies = 1 + (self._random.random() < self.conditions.duplicate)
        for _ in range(copies):
            self._send(hop, lambda: self._deliver(conversation, probe, sent))

    def _deliver(self, conversation: _Conversation, probe: Probe, reply: Reply) -> None:
        flow = conversation.flow
        if reply.kind in (ReplyKind.SYN_ACK, ReplyKind.ACK):
            self._send(self.scenario.hops, lambda: self._reset(flow, probe))
        if conversation.released:
            return
        if probe in conversation.answered:
            conversation.duplicates += 1
            return
        conversation.answered.add(probe)
        self._arrived.append((flow, Answer(probe, reply._replace(received_at=self._now))))

    def _send(self, links: int, arrive: Callable[[], None]) -> None:
        """Send a packet over so many links, unless it is lost."""
        chance, conditions = self._random, self.conditions
        if chance.random() < conditions.loss:
            return
        held = HELD_BACK if chance.random() < conditions.reorder else 0.0
        jitter = chance.uniform(0.0, conditions.jitter)
        self._after(links * self.scenario.delay + jitter + held, arrive)
