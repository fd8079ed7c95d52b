"""Which probe a reply answers.

Endpoints -> flow, sequence number -> probe, mark -> sequence number: three dicts. NATs and
firewalls rewrite what routers quote, so everything is compared, little is required, and the
differences are kept, for they reveal who rewrites. Required is one of:

- the quoted sequence number is one of a probe on its way (32 random bits: nobody off the path
  guesses it), whatever has become of addresses and ports; or
- ports, destination and mark (packet.py) are those of a probe whose sequence number was
  rewritten.

A TCP reply must come from the flow's destination and acknowledge one of the flow's SYNs.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from exporter.model import TCP_KINDS, Answer, Flow, Probe, Reply, ReplyKind
from exporter.probing.packet import ACK, RST, SYN, IcmpError, Segment

_SEQUENCE_SPACE = 1 << 32
_MARK_SPACE = 0xFFFF
#: Looking a member up in its enumeration takes as long as half the matching.
TIME_EXCEEDED, UNREACHABLE = ReplyKind.TIME_EXCEEDED, ReplyKind.UNREACHABLE


@dataclass(slots=True, eq=False)
class FlowState:
    """One open flow: what was sent on it, and which probes are answered."""

    flow: Flow
    #: Random for each trace, so that no late reply of the trace before is taken for this one's.
    base: int = field(default_factory=lambda: secrets.randbits(32))
    mark: int = field(default_factory=lambda: secrets.randbits(16))
    sequences: dict[int, Probe] = field(default_factory=dict)
    marks: dict[int, int] = field(default_factory=dict)
    answered: dict[Probe, ReplyKind] = field(default_factory=dict)
    duplicates: int = 0

    def numbers(self, ttl: int, attempt: int) -> tuple[int, int]:
        """The (sequence number, mark) of the next probe; TTL and attempt are in the former.

        The numbers of one flow lie 2^16 apart, outside each other's receive window: a host that
        is half open for one SYN resets the connection for another one inside it (RFC 9293,
        3.10.7.4), and an open port would look closed.
        """
        # The kernel would replace an IP ID of 0 (raw(7)).
        self.mark = self.mark % _MARK_SPACE + 1
        return (self.base + (ttl << 24 | attempt << 16)) % _SEQUENCE_SPACE, self.mark


class Matcher:
    """The open flows, and the counts of what matched none."""

    def __init__(self) -> None:
        #: By source port and destination: flows to several share a port.
        self._flows: dict[tuple[int, str, int], FlowState] = {}
        self._sequences: dict[int, FlowState] = {}
        #: Replies that belong to no open flow: other programs' traffic, or too late.
        self.foreign = 0

    def open(self, flow: Flow) -> FlowState:
        """Begin to match replies for a flow."""
        state = self._flows[flow[1:]] = FlowState(flow)
        return state

    def close(self, flow: Flow) -> int:
        """Forget a flow; returns its count of duplicates."""
        state = self._flows.pop(flow[1:])
        for sequence in state.sequences:
            if self._sequences.get(sequence) is state:
                del self._sequences[sequence]
        return state.duplicates

    def sent(self, state: FlowState, probe: Probe, sequence: int, mark: int) -> None:
        """Remember a probe that is on its way."""
        state.sequences[sequence] = probe
        state.marks[mark] = sequence
        self._sequences[sequence] = state

    def match_error(self, error: IcmpError, received_at: float) -> tuple[Flow, Answer] | None:
        """The answer that an ICMP error is, None for a foreign or a duplicate one."""
        found = self._find(error)
        if found is None:
            self.foreign += 1
            return None
        state, probe, sequence = found
        reply = Reply(
            TIME_EXCEEDED if error.expired else UNREACHABLE,
            error.sender,
            max(probe.sent_at, received_at),
            error.reply_ttl,
            (error.type, error.code),
            error.quoted_ttl,
            _rewritten(error, state.flow, sequence),
            error.mpls,
        )
        return self._first(state, probe, reply)

    def match_segment(self, segment: Segment, received_at: float) -> tuple[Flow, Answer] | None:
        """The answer that a TCP segment is, None for a foreign or a duplicate one."""
        sender, sender_port, port, acknowledgement, flags, reply_ttl = segment
        state = self._flows.get((port, sender, sender_port))
        kind = _kind(flags)
        syn = (acknowledgement - 1) % _SEQUENCE_SPACE
        probe = state.sequences.get(syn) if state else None
        if state is None or kind is None or probe is None:
            self.foreign += 1
            return None
        reply = Reply(kind, sender, max(received_at, probe.sent_at), reply_ttl)
        return self._first(state, probe, reply)

    def _find(self, error: IcmpError) -> tuple[FlowState, Probe, int] | None:
        sequence = error.sequence
        state = self._flows.get((error.source_port, error.destination, error.destination_port))
        # The endpoints first: two flows' sequence numbers may coincide.
        if state and (probe := state.sequences.get(sequence)):
            return state, probe, sequence
        if other := self._sequences.get(sequence):
            return other, other.sequences[sequence], sequence
        if state and (sent := state.marks.get(error.mark)) is not None:
            return state, state.sequences[sent], sent
        return None

    @staticmethod
    def _first(state: FlowState, probe: Probe, reply: Reply) -> tuple[Flow, Answer] | None:
        known = state.answered.get(probe)
        # The tracer lets the destination's own answer replace an ICMP error.
        if known is not None and (known in TCP_KINDS or reply.kind not in TCP_KINDS):
            state.duplicates += 1
            return None
        state.answered[probe] = reply.kind
        return state.flow, Answer(probe, reply)


def _kind(flags: int) -> ReplyKind | None:
    if flags & RST:
        return ReplyKind.RST
    if flags & ACK:
        return ReplyKind.SYN_ACK if flags & SYN else ReplyKind.ACK
    return None


def _rewritten(error: IcmpError, flow: Flow, sequence: int) -> tuple[str, ...]:
    """The quoted fields that differ from what was sent."""
    if (
        error.source == flow.source
        and error.source_port == flow.source_port
        and error.destination == flow.destination
        and error.destination_port == flow.destination_port
        and error.sequence == sequence
    ):
        return ()
    pairs = (
        ("source address", error.source, flow.source),
        ("source port", error.source_port, flow.source_port),
        ("destination address", error.destination, flow.destination),
        ("destination port", error.destination_port, flow.destination_port),
        ("sequence number", error.sequence, sequence),
    )
    return tuple(name for name, quoted, sent in pairs if quoted != sent)
