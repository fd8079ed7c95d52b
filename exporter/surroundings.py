"""What the prober learns of its own network: whether hops can be counted here at all.

Pure memory over the traces of all targets; time is an argument. IPv4 and IPv6 are apart.

1. A router that says time-exceeded proves that TTLs are counted here and that the news arrives.
   It is believed for MEMORY seconds, and outweighs everything below.
2. A destination that is reached although no router says time-exceeded is remembered. One alone
   proves nothing: it may be another address of the gateway, or stand behind a transparent proxy
   or a router that is silent; and none does whose trace has spared a hop. WITNESSES of them, at
   different addresses, and tracing is not possible here.
3. If so many of them answered at TTL 1 already, although a gateway leads to them, hop numbers mean
   nothing: user-mode networks (slirp, passt) end a connection and begin another one. A proxy that
   answers for every destination looks the same. Else time-exceeded is not delivered, as in gVisor.
4. Who rejects has its ICMP errors to spend on all traces together, so a minute later its silence
   may still be that of an empty purse.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, TypeVar

from exporter.model import FAMILY_NAMES, Family, Handshake, ReplyKind, Surroundings, Trace

#: Seconds for which an observation counts.
MEMORY = 3600.0
#: Seconds for which a rejection counts, and so many senders of them are remembered.
PURSE_MEMORY = 60.0
MOST_REJECTING = 64
#: So many destinations must have been reached without a word from any router.
WITNESSES = 2
#: So many are remembered, those seen last.
MOST_WITNESSES = 64

IGNORES_TTLS = (
    "destinations behind a gateway answer at TTL 1 and no router says time-exceeded, so the "
    "network rewrites TTLs, or a proxy answers for every destination"
)
UNDELIVERED = (
    "destinations are reached and no router on the way says time-exceeded, so the network or a "
    "sandbox does not deliver that"
)

NOTHING_KNOWN = Surroundings()
ROUTERS_ANSWER = Surroundings(routers_answer=True)

Value = TypeVar("Value")


class _Witness(NamedTuple):
    """A destination that was reached without a time-exceeded; `near`: at TTL 1 already."""

    seen_at: float
    near: bool


class _Network:
    """The memory of one family."""

    def __init__(self) -> None:
        self._expired_at: float | None = None
        #: Destination -> when and how it was last reached, the latest at the end.
        self._witnesses: dict[str, _Witness] = {}
        #: Who has rejected a probe -> when it last did, the latest at the end.
        self._rejecting: dict[str, float] = {}

    def learn(self, trace: Trace, handshake: Handshake | None, now: float) -> None:
        """Take in a trace."""
        for answer in trace.answers:
            if answer.reply.kind is ReplyKind.UNREACHABLE:
                _put_last(self._rejecting, answer.reply.address, now, MOST_REJECTING)
        if any(answer.reply.kind is ReplyKind.TIME_EXCEEDED for answer in trace.answers):
            self._expired_at = now
            self._witnesses.clear()
        elif _reached_past_routers(trace, handshake):
            destination = trace.flow.destination
            witness = _Witness(now, near=trace.distance == 1)
            _put_last(self._witnesses, destination, witness, MOST_WITNESSES)

    def surroundings(self, now: float) -> Surroundings:
        """What is known."""
        known = self.traceable(now)
        rejecting = frozenset(_later_than(now - PURSE_MEMORY, self._rejecting))
        return replace(known, rejecting=rejecting) if rejecting else known

    def traceable(self, now: float) -> Surroundings:
        """The same, without who is rejecting."""
        if self._expired_at is not None and now - self._expired_at <= MEMORY:
            return ROUTERS_ANSWER
        witnesses = [one for one in self._witnesses.values() if now - one.seen_at <= MEMORY]
        if sum(one.near for one in witnesses) >= WITNESSES:
            return Surroundings(ignores_ttls=True, untraceable=IGNORES_TTLS)
        if len(witnesses) >= WITNESSES:
            return Surroundings(untraceable=UNDELIVERED)
        return NOTHING_KNOWN


class Memory:
    """What all traces have shown, both families."""

    def __init__(self) -> None:
        self._networks = {family: _Network() for family in FAMILY_NAMES}

    def learn(self, trace: Trace, handshake: Handshake | None, now: float) -> Surroundings:
        """Take in a trace and the plain connect beside it; what is then known of its family."""
        network = self._networks[Family.of(trace.flow.destination)]
        network.learn(trace, handshake, now)
        return network.surroundings(now)

    def untraceable(self, now: float) -> str:
        """Why tracing is not possible, by family; "" where it is, or where that is not known."""
        found = {family: one.traceable(now) for family, one in self._networks.items()}
        return "; ".join(
            f"over {FAMILY_NAMES[family]}, {known.untraceable}"
            for family, known in found.items()
            if known.untraceable
        )


def _put_last(memory: dict[str, Value], key: str, value: Value, most: int) -> None:
    """Remember the value as the last one; of more than `most` the first is forgotten."""
    memory.pop(key, None)
    memory[key] = value
    if len(memory) > most:
        del memory[next(iter(memory))]


def _later_than(time: float, memory: dict[str, float]) -> dict[str, float]:
    """What is remembered of a time and later; what is older is forgotten."""
    while memory and next(iter(memory.values())) < time:
        del memory[next(iter(memory))]
    return memory


def _reached_past_routers(trace: Trace, handshake: Handshake | None) -> bool:
    """Whether the destination was reached, and routers stand before it."""
    distance = trace.distance
    if distance is None and not (handshake and handshake.success):
        return False
    if any(hop.shared or not hop.sent for hop in trace.hops):
        return False
    # Where the routing table is not told, a higher TTL than 1 tells of a router, too.
    return bool(trace.gateway) or (trace.gateway is None and distance != 1)
