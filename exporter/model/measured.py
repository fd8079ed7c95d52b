"""What was sent and received: packets, hops, traces, and what was measured beside them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Flow(NamedTuple):
    """The constant 5-tuple of a trace (Paris traceroute); the protocol is TCP."""

    source: str
    source_port: int
    destination: str
    destination_port: int


class Probe(NamedTuple):
    """One SYN with one TTL; `attempt` counts from 1 at each TTL.

    Like `Flow`, `Reply` and `Answer` a tuple: they are made for every packet, and a frozen
    dataclass takes four times as long.
    """

    ttl: int
    attempt: int
    sent_at: float


class ReplyKind(StrEnum):
    """What came back for a probe."""

    TIME_EXCEEDED = "time-exceeded"
    UNREACHABLE = "unreachable"  # any other ICMP error; the codes are in `Reply.icmp`
    SYN_ACK = "syn-ack"
    RST = "rst"
    #: An ACK without SYN: RFC 5961 section 4's challenge for an earlier SYN of the flow.
    ACK = "ack"
    #: ICMP's echo reply, to a control that asks for one.
    ECHO_REPLY = "echo-reply"


#: The kinds that a TCP end point sends, as opposed to a router on the way.
TCP_KINDS = frozenset({ReplyKind.SYN_ACK, ReplyKind.RST, ReplyKind.ACK})
#: The kinds that come in the name of the destination itself.
END_KINDS = TCP_KINDS | {ReplyKind.ECHO_REPLY}


@dataclass(frozen=True, slots=True)
class MplsLabel:
    """One entry of a label stack, RFC 4950."""

    label: int
    traffic_class: int
    bottom: bool
    ttl: int


class Reply(NamedTuple):
    """One packet that answers a probe.

    `ttl` is the reply's own IP TTL as it arrived, None where the engine cannot see it.
    `icmp` is (type, code) of an ICMP error. `rewritten` names the fields of the quoted
    probe that came back other than they were sent, e.g. "source port": a NAT's trace.
    """

    kind: ReplyKind
    address: str
    received_at: float
    ttl: int | None = None
    icmp: tuple[int, int] | None = None
    quoted_ttl: int | None = None
    rewritten: tuple[str, ...] = ()
    mpls: tuple[MplsLabel, ...] = ()


class Answer(NamedTuple):
    """A reply and the probe that it answers."""

    probe: Probe
    reply: Reply

    @property
    def rtt(self) -> float:
        """Round-trip time in seconds."""
        return self.reply.received_at - self.probe.sent_at


@dataclass(frozen=True, slots=True)
class Hop:
    """A TTL, how many probes it got, and every first answer to one of them.

    `shared` is what the device there has just answered to probes of other traces, where it has
    answered none of this one's; with `sent` 0 it was not asked, to spare its ICMP errors. It shows
    who stands there, and proves nothing about this trace's own traffic.
    """

    ttl: int
    sent: int
    answers: tuple[Answer, ...] = ()
    shared: tuple[Answer, ...] = ()

    @property
    def received(self) -> int:
        """How many of the probes were answered."""
        return len(self.answers)

    @property
    def known(self) -> tuple[Answer, ...]:
        """The own answers, else the shared ones: who stands there."""
        return self.answers or self.shared

    @property
    def addresses(self) -> tuple[str, ...]:
        """The responders, each once, in order of appearance."""
        return tuple(dict.fromkeys([answer.reply.address for answer in self.answers]))

    @property
    def is_end(self) -> bool:
        """Whether some answer came from where the traffic ends, not from a router on the way."""
        return any(a.reply.kind is not ReplyKind.TIME_EXCEEDED for a in self.answers)

    @property
    def best_rtt(self) -> float | None:
        """The lowest round-trip time in seconds, None when nobody is known there.

        A challenge ACK answers an earlier SYN than the one that provoked it, so its time
        is no round trip.
        """
        return min(
            (answer.rtt for answer in self.known if answer.reply.kind is not ReplyKind.ACK),
            default=None,
        )


class FailureReason(StrEnum):
    """Why there is no usable trace; the values of `egress_trace_failures_total`."""

    RESOLVE = "resolve"
    PERMISSION = "permission"
    NO_ROUTE = "no_route"
    TIMEOUT = "timeout"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Failure:
    """The prober or its host could not do its part; `message` is one plain clause."""

    reason: FailureReason
    message: str


class StopReason(StrEnum):
    """Why a trace ended."""

    DESTINATION = "destination"  # the destination itself answered over TCP
    ICMP_ERROR = "icmp-error"  # a device said that the traffic goes no further
    SILENCE = "silence"  # nothing answered past a hop, confirmed by full-TTL SYNs
    HOP_LIMIT = "hop-limit"  # routers answered up to the last TTL
    SEND_FAILED = "send-failed"  # the host refused to send
    DEADLINE = "deadline"  # the trace ran out of its time


@dataclass(frozen=True, slots=True)
class Trace:
    """All probes of one flow to one destination, and their answers.

    `hops` are consecutive from TTL 1 and hold every TTL that was probed;
    `path` is the part of them that a reader should see. `confirmation` holds the SYNs
    with `FULL_TTL`, None when there was no need for them.
    """

    flow: Flow
    engine: str
    started_at: float
    duration: float
    stop_reason: StopReason
    hops: tuple[Hop, ...]
    confirmation: Hop | None = None
    duplicates: int = 0
    #: How many confirmations that nobody answered were followed at once by a probe to the last hop
    #: that answers, and that one was answered: the device there could have said no, and did not.
    witnessed: int = 0
    #: Who lately rejected several other targets' traffic, was busy while this trace met silence,
    #: and may stand on its way: a limit on ICMP errors may have kept its word from this one.
    refusing: frozenset[str] = frozenset()
    #: Why the host refused to send, with `StopReason.SEND_FAILED`.
    failure: Failure | None = None
    #: ICMP errors that the kernel kept from the engine while this trace ran, those for other
    #: connections of this network namespace included.
    unseen_errors: int = 0
    #: The router that the routing table names for the destination; "" when it names none, as
    #: for a host on the same network; None where it is not told.
    gateway: str | None = None
    #: The probes and the answers that count, as far as the engine sees packets; see `packed`.
    captured: bytes = b""

    @property
    def distance(self) -> int | None:
        """The lowest TTL whose probe was answered in the name of the destination."""
        # This and what follows are asked of a trace some fifty times a cycle; generators take twice
        # as long as loops.
        for hop in self.hops:
            for answer in hop.answers:
                if answer.reply.kind in END_KINDS:
                    return answer.probe.ttl
        return None

    @property
    def last_answering_ttl(self) -> int:
        """The highest TTL within `hops` that any device answered, 0 when none did."""
        for hop in reversed(self.hops):
            if hop.answers:
                return hop.ttl
        return 0

    @property
    def path(self) -> tuple[Hop, ...]:
        """The hops up to the destination, an ICMP error, or one past the last answer."""
        if distance := self.distance:
            return self.hops[:distance]
        for hop in self.hops:
            for answer in hop.answers:
                if answer.reply.kind is not ReplyKind.TIME_EXCEEDED:
                    return self.hops[: hop.ttl]
        return self.hops[: self.last_answering_ttl + 1]

    @property
    def answers(self) -> tuple[Answer, ...]:
        """Every answer, the confirmation's included."""
        hops = self.hops if self.confirmation is None else (*self.hops, self.confirmation)
        return tuple([answer for hop in hops for answer in hop.answers])


@dataclass(frozen=True, slots=True)
class Sounding:
    """How a control is measured, with few probes and in little time.

    Up to `attempts` probes with `FULL_TTL`, until one is answered. If the answer comes in the
    name of the destination, one probe for each TTL from `first` to `last` follows, up to the
    lowest one that the destination answers; `first` 0 leaves that out, and `attempts` 0 begins
    with it.
    """

    first: int = 0
    last: int = 30
    attempts: int = 3
    #: The destination's, in seconds, where an earlier sounding has met it.
    round_trip: float = 0.0
    #: It ends after so many seconds, with what has come.
    seconds: float = 1.5


@dataclass(frozen=True, slots=True)
class Controlled:
    """What was measured beside a trace, in the same cycle; each is a trace like any other.

    A sounding's trace has every hop from TTL 1 on, those with `sent` 0 were not probed; what
    answered its full TTL is its `confirmation`.
    """

    #: The same endpoint from other source ports.
    flows: tuple[Trace, ...] = ()
    #: Other ports of the same destination.
    ports: tuple[Trace, ...] = ()
    #: ICMP echo requests to the destination; the flow's ports are 0, its engine is "echo".
    echo: Trace | None = None
    #: The same port of an address of `CANARIES`.
    canary: Trace | None = None
    #: Traces of other targets that were open when last seen, and that share this trace's first
    #: hops: nothing was sent for them.
    elsewhere: tuple[Trace, ...] = ()

    @property
    def traces(self) -> tuple[Trace, ...]:
        """All of them."""
        single = tuple(trace for trace in (self.echo, self.canary) if trace)
        return (*self.flows, *self.ports, *single, *self.elsewhere)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all traces of one family have shown of the prober's own network."""

    #: Some router has said time-exceeded lately, so hops can be counted.
    routers_answer: bool = False
    #: Whoever answers does so at any TTL, so hop numbers mean nothing.
    ignores_ttls: bool = False
    #: Why tracing is not possible here, as a clause; "" as long as nothing says so.
    untraceable: str = ""
    #: Who has sent ICMP errors other than time-exceeded in the last minute, to any trace.
    rejecting: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Handshake:
    """A plain connect() in the same cycle: the application's own view.

    `error` says in words why it failed, None on success.
    """

    success: bool
    duration: float
    error: str | None = None


class ProbeError(Exception):
    """An engine could not open a flow or send a probe; carries the `Failure`."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure
