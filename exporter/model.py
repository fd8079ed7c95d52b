"""The words of this program as types: frozen values, standard library only.

A `Target` is what the user configured. A `Trace` is what was sent and received for it:
`Hop`s, each with the `Probe`s sent at that TTL and the `Answer`s to them. A `Verdict`
is what the trace means. An `Observation` is all of it for one target at one time, and
the only thing that the store, the pages, the metrics and the log ever read.

Units: seconds everywhere. `sent_at` and `received_at` are on the monotonic clock
(differences only); `started_at` is seconds since the epoch, for people.
Addresses are text as `inet_ntop` writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

#: The TTL of a SYN that is meant to arrive: Linux' net.ipv4.ip_default_ttl (RFC 1700).
FULL_TTL = 64
#: So many addresses of a name are traced in one cycle.
MAX_ADDRESSES = 8
#: Addresses that nobody has (TEST-NET-2, RFC 5737; RFC 3849): whoever answers for them is a proxy.
CANARIES = ("198.51.100.1", "2001:db8::1")


# -- what is asked ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """How one target is traced."""

    max_hops: int = 30
    attempts: int = 3
    #: The longest wait for the answer to one SYN, in seconds.
    timeout: float = 2.0


@dataclass(frozen=True, slots=True)
class Controls:
    """Which controls are made beside the traces of one target."""

    #: Other ports of the destination, asked in this order.
    ports: tuple[int, ...] = (443, 80)
    #: Whether the destination is asked for an ICMP echo.
    echo: bool = True
    #: Whether the same port of `CANARY` is asked.
    canary: bool = True
    #: Flows of every cycle, and of one in which something fails.
    flows: int = 1
    failing_flows: int = 4


class Family(StrEnum):
    """Which addresses of its host a target is traced to; AUTO leaves it to the resolver."""

    AUTO = "auto"
    IPV4 = "ipv4"
    IPV6 = "ipv6"

    @classmethod
    def of(cls, address: str) -> Family:
        """The family of an address as text."""
        return cls.IPV6 if ":" in address else cls.IPV4


#: What people call a family.
FAMILY_NAMES = {Family.IPV4: "IPv4", Family.IPV6: "IPv6"}


@dataclass(frozen=True, slots=True)
class Target:
    """A configured name for host:port, with the labels that its series carry."""

    name: str
    host: str
    port: int
    labels: tuple[tuple[str, str], ...] = ()
    interval: float = 60.0
    plan: Plan = field(default_factory=Plan)
    family: Family = Family.AUTO
    #: Whether each cycle traces every address of the host, at most `MAX_ADDRESSES`.
    all_addresses: bool = False
    controls: Controls = field(default_factory=Controls)


def joined(host: str, port: str | int) -> str:
    """host:port, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# -- what was sent and received --------------------------------------------------------


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
    """A TTL, how many probes it got, and every first answer to one of them."""

    ttl: int
    sent: int
    answers: tuple[Answer, ...] = ()

    @property
    def received(self) -> int:
        """How many of the probes were answered."""
        return len(self.answers)

    @property
    def addresses(self) -> tuple[str, ...]:
        """The responders, each once, in order of appearance."""
        return tuple(dict.fromkeys(answer.reply.address for answer in self.answers))

    @property
    def is_end(self) -> bool:
        """Whether some answer came from where the traffic ends, not from a router on the way."""
        return any(a.reply.kind is not ReplyKind.TIME_EXCEEDED for a in self.answers)

    @property
    def best_rtt(self) -> float | None:
        """The lowest round-trip time in seconds, None when silent.

        A challenge ACK answers an earlier SYN than the one that provoked it, so its time
        is no round trip.
        """
        return min(
            (answer.rtt for answer in self.answers if answer.reply.kind is not ReplyKind.ACK),
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
    #: Why the host refused to send, with `StopReason.SEND_FAILED`.
    failure: Failure | None = None
    #: ICMP errors that the kernel kept from the engine while this trace ran, those for other
    #: connections of this network namespace included.
    unseen_errors: int = 0
    #: The router that the routing table names for the destination; "" when it names none, as
    #: for a host on the same network; None where it is not told.
    gateway: str | None = None

    @property
    def distance(self) -> int | None:
        """The lowest TTL whose probe was answered in the name of the destination."""
        return next(
            (h.ttl for h in self.hops if any(a.reply.kind in END_KINDS for a in h.answers)), None
        )

    @property
    def last_answering_ttl(self) -> int:
        """The highest TTL within `hops` that any device answered, 0 when none did."""
        return max((hop.ttl for hop in self.hops if hop.answers), default=0)

    @property
    def path(self) -> tuple[Hop, ...]:
        """The hops up to the destination, an ICMP error, or one past the last answer."""
        error = next((hop.ttl for hop in self.hops if hop.is_end), None)
        return self.hops[: self.distance or error or self.last_answering_ttl + 1]

    @property
    def answers(self) -> tuple[Answer, ...]:
        """Every answer, the confirmation's included."""
        hops = self.hops if self.confirmation is None else (*self.hops, self.confirmation)
        return tuple(answer for hop in hops for answer in hop.answers)


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


# -- what it means ---------------------------------------------------------------------


class State(StrEnum):
    """The conclusion about one target; docs/verdicts.md says when each holds."""

    OPEN = "open"
    CLOSED = "closed"
    REJECTED = "rejected"
    RESET = "reset"
    UNREACHABLE = "unreachable"
    FILTERED = "filtered"
    LOOP = "loop"
    INTERCEPTED = "intercepted"
    UNRESOLVED = "unresolved"
    ERROR = "error"
    INCONCLUSIVE = "inconclusive"


BLOCKED_STATES = frozenset(
    {State.REJECTED, State.RESET, State.UNREACHABLE, State.FILTERED, State.LOOP}
)
REACHED_STATES = frozenset({State.OPEN, State.CLOSED})


class Condition(StrEnum):
    """How the device at a hop answers the probes that expire there."""

    ANSWERS = "answers"
    #: Some probes lack an answer although those for farther hops have theirs: it forwards well
    #: and limits its own ICMP messages.
    RATE_LIMITED = "rate-limited"
    #: Some probes lack an answer, and so do as many behind it.
    LOSSY = "lossy"
    #: None was answered, not even attempts more than 1.1 s apart.
    SILENT = "silent"
    #: None was answered, and too few were sent to call it silent.
    UNANSWERED = "unanswered"


class Location(StrEnum):
    """On which side of the platform's edge the blocking device stands."""

    NONE = "none"
    PLATFORM = "platform"
    BOUNDARY = "boundary"
    EXTERNAL = "external"
    UNKNOWN = "unknown"


class Confidence(StrEnum):
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Zone(StrEnum):
    """Where an address stands, by the configured networks; UNKNOWN when none are known."""

    PLATFORM = "platform"
    EXTERNAL = "external"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class NamedZone:
    """Networks that the configuration gives a name; inside with `platform`, else outside."""

    name: str
    networks: tuple[IPv4Network | IPv6Network, ...]
    platform: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """What is known of an address that answered.

    `zone` is its side of the edge; `zone_name` the configured name, else the side's. `name` is
    what reverse DNS gives, None when nobody asked or nothing usable came. `as_number` and
    `as_name` are those of the AS table, None and "" where it does not tell.
    """

    zone: Zone = Zone.UNKNOWN
    zone_name: str = "unknown"
    name: str | None = None
    as_number: int | None = None
    as_name: str = ""


NOWHERE = Place()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The conclusion about one target; design words, see docs/verdicts.md.

    `blocked_at_hop` is 0 and `suspect_hops` None when not blocked.
    """

    state: State
    last_reachable_hop: int
    reason: str
    confidence: Confidence
    blocked_at_hop: int = 0
    suspect_hops: tuple[int, int] | None = None
    blocked_by: str | None = None
    location: Location = Location.NONE
    evidence: tuple[str, ...] = ()
    #: How many flows to the endpoint were tried, and how many of them are blocked.
    flows: int = 0
    flows_blocked: int = 0


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything known about one target at one time.

    `address` is what the host resolved to, None when it did not; `places` maps the responders'
    addresses, those of controls included, to what is known of them. `trace` is None when there
    was none (`failure`).

    With `Target.all_addresses`, `each` holds one observation for each address, the worst one
    first, and this one repeats the worst, with the verdict on the target. Else `each` is empty.
    """

    target: Target
    started_at: float
    duration: float
    verdict: Verdict
    address: str | None = None
    trace: Trace | None = None
    handshake: Handshake | None = None
    failure: Failure | None = None
    places: Mapping[str, Place] = field(default_factory=dict)
    controlled: Controlled = field(default_factory=Controlled)
    #: TTL -> how its hop behaved, for each hop of the trace.
    conditions: Mapping[int, Condition] = field(default_factory=dict)
    each: tuple[Observation, ...] = ()

    @property
    def by_address(self) -> tuple[Observation, ...]:
        """What was observed, one address at a time."""
        return self.each or (self,)

    def place_of(self, address: str) -> Place:
        """What is known of a responder."""
        return self.places.get(address, NOWHERE)

    def zone_of(self, address: str) -> Zone:
        """The zone of a responder."""
        return self.place_of(address).zone


@dataclass(frozen=True, slots=True)
class Known:
    """What earlier cycles have shown of one address of a target.

    `source_port` is that of its last trace, 0 when there was none; `last_good` the last trace
    that reached it.
    """

    source_port: int = 0
    last_good: Trace | None = None


# -- what the program says about itself ------------------------------------------------


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """Which engine runs, and why; `name` is "none" when no engine can.

    `untraceable` says why tracing is not possible here although an engine runs, "" as long as
    no trace has shown that.
    """

    name: str
    reason: str
    untraceable: str = ""

    @property
    def explanation(self) -> str:
        """Both in one text."""
        if not self.untraceable:
            return self.reason
        return f"{self.reason}; tracing is not possible here: {self.untraceable}"


@dataclass(frozen=True, slots=True)
class Source:
    """Where the probes come from; "" for what is not known.

    The first four are the labels of `egress_source_info`: on Cloud Foundry an instance and the
    address of its cell, on Kubernetes a pod's name and that of its node. The rest is Cloud
    Foundry's alone.
    """

    address: str = ""
    instance_index: str = ""
    instance_guid: str = ""
    cell: str = ""
    application: str = ""
    space: str = ""
    organization: str = ""
    application_guid: str = ""
    process_guid: str = ""


@dataclass(frozen=True, slots=True)
class Proxy:
    """The proxies that the environment names for others; this program never uses one.

    `variables` are (name, host:port), without user, password and path; the latter is "" when it
    cannot be read. `exempt` are the entries of NO_PROXY.
    """

    variables: tuple[tuple[str, str], ...]
    exempt: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The variables, each with the proxy's host:port where that is known."""
        return ", ".join(f"{name}={at}" if at else name for name, at in self.variables)


@dataclass(frozen=True, slots=True)
class ReloadStatus:
    """How the last reading of the configuration ended; `at` is the last success."""

    successful: bool
    at: float
    message: str = ""
