"""What a trace means: a verdict, and all that is known of one target at one time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network

from exporter.model.asked import Target
from exporter.model.captured import Capture, Packet, unpacked
from exporter.model.measured import Controlled, Failure, Handshake, Trace


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
    #: It was not asked, or did not answer, and has just answered other traces.
    SHARED = "shared"


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
    #: How many flows to the endpoint are known to pass or not, the traced one included, and how
    #: many of them are blocked.
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
    #: The packets that its traces no longer hold (see `compact`), None before or without any.
    capture: Capture | None = None

    @property
    def captured(self) -> bytes:
        """What its traces hold of packets; the canary, asked for many targets at once, apart.

        None where those of the trace itself were not seen: an echo alone shows nothing of it.
        """
        trace, controlled = self.trace, self.controlled
        if not (trace and trace.captured):
            return b""
        traces = (trace, *controlled.flows, *controlled.ports, controlled.echo)
        return b"".join([trace.captured for trace in traces if trace])

    @property
    def packets(self) -> tuple[Packet, ...]:
        """What was sent and received in this cycle, in the order of time; () if not kept."""
        own = self.capture.row if self.capture else self.captured
        canary = self.controlled.canary
        return tuple(sorted(unpacked(own + (canary.captured if canary else b"")))) if own else ()

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
    that reached it. `steady` is how many in a row, the last one among them, have reached it as the
    one before did, by the same way; 0: the last one did not.
    """

    source_port: int = 0
    last_good: Trace | None = None
    steady: int = 0
