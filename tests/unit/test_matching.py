"""Each reply finds its own probe, or none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.model import FULL_TTL, Answer, Flow, Probe, ReplyKind
from exporter.probing.matching import FlowState, Matcher
from exporter.probing.packet import ACK, FIN, RST, SYN, IcmpError, Segment

FLOW = Flow("10.9.0.1", 40001, "10.9.5.2", 443)
FLOW6 = Flow("fd09::1", 40001, "fd09:0:0:4::2", 443)
#: Another target's flow at the same time.
OTHER = Flow("10.9.0.1", 40002, "10.9.5.3", 443)
ROUTER = "10.9.3.2"
SENT_AT = 1000.0
ARRIVED_AT = 1000.25
WRAP = 1 << 32

bases = st.one_of(st.integers(0, WRAP - 1), st.integers(WRAP - (1 << 24), WRAP - 1))


@dataclass
class Sender:
    """One flow of a matcher, and what was sent on it: (TTL, attempt) -> numbers."""

    matcher: Matcher
    state: FlowState
    numbers: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)

    def send(self, ttl: int, attempt: int = 1) -> Probe:
        """Send one probe, in the order of the engine."""
        sequence, mark = self.state.numbers(ttl, attempt)
        probe = Probe(ttl, attempt, SENT_AT)
        self.matcher.sent(self.state, probe, sequence, mark)
        self.numbers[ttl, attempt] = sequence, mark
        return probe

    def error(self, ttl: int, attempt: int = 1, **changes: Any) -> IcmpError:
        """A router's time-exceeded for a probe, with changes to it or its quote."""
        sequence, mark = self.numbers[ttl, attempt]
        flow = self.state.flow
        ends = flow.source, flow.source_port, flow.destination, flow.destination_port
        quoted = IcmpError(ROUTER, 62, True, 11, 0, *ends, sequence, mark, 1, ())
        return quoted._replace(**changes)

    def segment(
        self, ttl: int, attempt: int = 1, flags: int = SYN | ACK, **changes: Any
    ) -> Segment:
        """The destination's answer to a probe, with changes to it."""
        sequence, _ = self.numbers[ttl, attempt]
        flow = self.state.flow
        answer = Segment(
            flow.destination,
            flow.destination_port,
            flow.source_port,
            (sequence + 1) % WRAP,
            flags,
            59,
        )
        return answer._replace(**changes)

    def fold(self, reply: IcmpError | Segment, at: float = ARRIVED_AT) -> Answer | None:
        """What the matcher makes of a reply, which must be of this flow if of any."""
        if isinstance(reply, IcmpError):
            found = self.matcher.match_error(reply, at)
        else:
            found = self.matcher.match_segment(reply, at)
        assert found is None or found[0] == self.state.flow
        return found[1] if found else None

    @property
    def counted_nothing(self) -> bool:
        """Whether no reply was foreign or a duplicate."""
        return self.matcher.foreign == self.state.duplicates == 0


def sender(matcher: Matcher | None = None, flow: Flow = FLOW) -> Sender:
    """An open flow with a probe for each of the TTLs 1 to 3."""
    matcher = matcher or Matcher()
    one = Sender(matcher, matcher.open(flow))
    for ttl in (1, 2, 3):
        one.send(ttl)
    return one


# -- what matches ----------------------------------------------------------------------


def test_an_error_answers_the_probe_that_it_quotes() -> None:
    """A time-exceeded gives the probe, the router, the code, both TTLs and the time."""
    one = sender()
    answer = one.fold(one.error(2))
    assert answer
    assert answer.probe == Probe(2, 1, SENT_AT)
    assert (answer.reply.kind, answer.reply.address) == (ReplyKind.TIME_EXCEEDED, ROUTER)
    assert (answer.reply.icmp, answer.reply.ttl, answer.reply.quoted_ttl) == ((11, 0), 62, 1)
    assert answer.rtt == 0.25
    assert answer.reply.rewritten == ()
    assert one.counted_nothing


def test_an_icmpv6_error_answers_its_probe() -> None:
    """Over IPv6 type 3 is the time-exceeded, and what routers rewrite is found all the same."""
    one = sender(flow=FLOW6)
    plain, rewritten = (
        one.fold(one.error(ttl, sender="fd09:0:0:2::2", type=3, **changes))
        for ttl, changes in ((2, {}), (3, {"sequence": 12345}))
    )
    assert plain
    assert (plain.probe.ttl, plain.reply.kind) == (2, ReplyKind.TIME_EXCEEDED)
    assert (plain.reply.icmp, plain.reply.rewritten) == ((3, 0), ())
    assert rewritten
    assert (rewritten.probe.ttl, rewritten.reply.rewritten) == (3, ("sequence number",))
    assert one.fold(one.segment(1))


def test_a_quote_without_a_mark_needs_its_number() -> None:
    """A quote that ends before its mark is found by its sequence number alone."""
    one = sender(flow=FLOW6)
    assert one.fold(one.error(2, mark=0))
    assert one.fold(one.error(3, mark=0, sequence=12345)) is None


def test_every_other_error_is_an_unreachable() -> None:
    """What is no time-exceeded is an unreachable with its code."""
    one = sender()
    answer = one.fold(one.error(2, expired=False, type=3, code=13))
    assert answer
    assert (answer.reply.kind, answer.reply.icmp) == (ReplyKind.UNREACHABLE, (3, 13))


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        (SYN | ACK, ReplyKind.SYN_ACK),
        (RST | ACK, ReplyKind.RST),
        (RST, ReplyKind.RST),
        (RST | SYN | ACK, ReplyKind.RST),
        (ACK, ReplyKind.ACK),
        (FIN | ACK, ReplyKind.ACK),
    ],
)
def test_the_flags_name_the_kind(flags: int, kind: ReplyKind) -> None:
    """RST outranks all, then SYN with ACK; an ACK without SYN is a challenge."""
    one = sender()
    answer = one.fold(one.segment(3, flags=flags))
    assert answer
    assert (answer.probe.ttl, answer.reply.kind, answer.reply.icmp) == (3, kind, None)


@pytest.mark.parametrize("flags", [0, SYN, FIN, FIN | SYN])
def test_a_segment_without_ack_and_rst_is_foreign(flags: int) -> None:
    """What acknowledges nothing answers nothing."""
    one = sender()
    assert one.fold(one.segment(3, flags=flags)) is None
    assert one.matcher.foreign == 1


def test_a_reset_that_acknowledges_nothing_is_foreign() -> None:
    """An RST without ACK has 0 there, and anybody can send that."""
    one = sender()
    assert one.fold(one.segment(3, flags=RST, acknowledgement=0)) is None
    assert one.matcher.foreign == 1


def test_a_challenge_acknowledges_an_earlier_syn() -> None:
    """A challenge ACK for a later SYN answers the earlier one that it acknowledges (RFC 5961)."""
    one = sender()
    one.send(3, 2)
    answer = one.fold(one.segment(3, 1, flags=ACK))
    assert answer
    assert (answer.probe.attempt, answer.reply.kind) == (1, ReplyKind.ACK)


def test_replies_in_any_order_find_their_probes() -> None:
    """Reordered replies are told apart by their numbers."""
    one = sender()
    for ttl in (3, 1, 2):
        answer = one.fold(one.error(ttl))
        assert answer
        assert answer.probe.ttl == ttl
    assert one.counted_nothing


@settings(max_examples=100)
@given(bases)
def test_sequence_numbers_wrap(base: int) -> None:
    """Near 2^32 the next number is a small one, in an error's quote and in an acknowledgement."""
    matcher = Matcher()
    one = Sender(matcher, matcher.open(FLOW))
    one.state.base = base
    for ttl in (1, 30, 63, FULL_TTL):
        for attempt in (1, 2, 10):
            probe = one.send(ttl, attempt)
            quoted = one.fold(one.error(ttl, attempt))
            acknowledged = one.fold(one.segment(ttl, attempt))
            assert quoted
            assert acknowledged
            assert quoted.probe == acknowledged.probe == probe
    assert len({sequence for sequence, _ in one.numbers.values()}) == len(one.numbers)


@pytest.mark.parametrize("last", [WRAP - 1, WRAP - 2, 0])
def test_an_acknowledgement_wraps(last: int) -> None:
    """The acknowledgement of sequence number 2^32 - 1 is 0."""
    matcher = Matcher()
    one = Sender(matcher, matcher.open(FLOW))
    one.numbers[1, 1] = last, 1
    matcher.sent(one.state, Probe(1, 1, SENT_AT), last, 1)
    assert one.fold(one.segment(1))


def test_the_mark_is_never_zero() -> None:
    """An IP ID of 0 would be replaced by the kernel, so it is left out when the marks wrap."""
    state = FlowState(FLOW)
    marks = [state.numbers(1, 1)[1] for _ in range(65535)]
    assert sorted(marks) == list(range(1, 65536))


def test_sequence_numbers_of_a_flow_keep_their_distance() -> None:
    """No SYN falls into the receive window of another, where a half-open host would reset."""
    state = FlowState(FLOW)
    numbers = [state.numbers(ttl, attempt)[0] for ttl in (1, 2, 64) for attempt in range(1, 21)]
    gaps = [(b - a) % WRAP for a in numbers for b in numbers if a != b]
    assert min(gaps) >= 1 << 16


# -- what was rewritten ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("source address", {"source": "192.0.2.7"}),
        ("source port", {"source_port": 61000}),
        ("destination address", {"destination": "192.0.2.8"}),
        ("destination port", {"destination_port": 8443}),
        ("sequence number", {"sequence": 12345}),
    ],
)
def test_one_rewritten_field_is_named(name: str, changes: dict[str, Any]) -> None:
    """A quote with one field rewritten still finds its probe, and the field is kept."""
    one = sender()
    answer = one.fold(one.error(2, **changes))
    assert answer
    assert answer.probe.ttl == 2
    assert answer.reply.rewritten == (name,)


def test_addresses_and_ports_rewritten_together() -> None:
    """Behind a NAT everything but the sequence number may differ."""
    one = sender()
    nat = one.error(3)._replace(source="192.0.2.7", source_port=61000, mark=9)
    answer = one.fold(nat._replace(destination="192.0.2.8", destination_port=8443))
    assert answer
    assert answer.probe.ttl == 3
    assert len(answer.reply.rewritten) == 4


def test_a_rewritten_mark_does_not_matter() -> None:
    """The sequence number alone is enough."""
    one = sender()
    assert one.fold(one.error(2, mark=0))


def test_a_rewritten_sequence_number_needs_all_else() -> None:
    """By its mark a probe is found only if ports and destination are right, too."""
    one = sender()
    changes: list[dict[str, Any]] = [
        {"destination": "192.0.2.8"},
        {"destination_port": 80},
        {"source_port": 1},
    ]
    for change in changes:
        assert one.fold(one.error(2, sequence=12345, **change)) is None
    assert one.matcher.foreign == 3


def test_a_spoofed_error_is_not_accepted() -> None:
    """Who guesses the 5-tuple but neither sequence number nor mark says nothing."""
    one = sender()
    sequence, mark = one.numbers[2, 1]
    spoofed = {"sequence": (sequence + 1) % WRAP, "mark": (mark + 1000) % 65535 + 1}
    assert one.fold(one.error(2, expired=False, type=3, code=13, **spoofed)) is None
    assert one.matcher.foreign == 1


# -- what is foreign -------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"sender": "10.9.5.9"},
        {"sender_port": 80},
        {"destination_port": 40009},
        {"acknowledgement": 4711},
    ],
)
def test_segments_of_others_are_foreign(changes: dict[str, Any]) -> None:
    """A segment answers only from the destination and its port, for a SYN of this flow."""
    one = sender()
    assert one.fold(one.segment(3, **changes)) is None
    assert one.matcher.foreign == 1
    assert one.state.duplicates == 0


def test_replies_to_a_closed_flow_are_late() -> None:
    """After its flow is closed every reply is foreign."""
    one = sender()
    error, segment = one.error(1), one.segment(3)
    one.matcher.close(FLOW)
    assert one.fold(error) is None
    assert one.fold(segment) is None
    assert one.matcher.foreign == 2


def test_the_same_port_again_does_not_take_late_replies() -> None:
    """A late reply to the trace before is not taken for one of the trace on the same port."""
    before = sender()
    late: list[IcmpError | Segment] = [before.error(1), before.segment(3)]
    before.matcher.close(FLOW)
    now = sender(before.matcher)
    now.state.marks.clear()  # an equal mark is one chance in 65,535; here it has none
    assert [now.fold(reply) for reply in late] == [None, None]
    assert now.state.duplicates == 0


def test_flows_at_once_are_kept_apart() -> None:
    """Replies for two flows reach each its own."""
    one = sender()
    other = sender(one.matcher, OTHER)
    for each in (other, one):
        answer = each.fold(each.error(2))
        assert answer
        assert answer.probe.ttl == 2


def test_two_flows_with_the_same_number() -> None:
    """Where two flows' sequence numbers coincide the port decides; closing one keeps the other."""
    matcher = Matcher()
    one, other = (Sender(matcher, matcher.open(flow)) for flow in (FLOW, OTHER))
    other.state.base = one.state.base
    one.send(2)
    other.send(2)
    assert one.fold(one.error(2, source="192.0.2.7"))
    matcher.close(FLOW)
    assert other.fold(other.error(2, source_port=61000))


# -- what comes again ------------------------------------------------------------------


def test_a_duplicate_never_replaces_the_first() -> None:
    """The second error for a probe is counted and gives nothing."""
    one = sender()
    assert one.fold(one.error(1))
    assert one.fold(one.error(1), ARRIVED_AT + 1) is None
    assert one.fold(one.error(1, sender="10.9.3.9", expired=False, type=3, code=13)) is None
    assert one.state.duplicates == 2
    assert one.matcher.close(FLOW) == 2


def test_a_repeated_syn_ack_is_a_duplicate() -> None:
    """Of several TCP answers to one SYN the first counts, whatever kind the others are."""
    one = sender()
    assert one.fold(one.segment(3))
    assert one.fold(one.segment(3, flags=RST | ACK)) is None
    assert one.fold(one.segment(3, flags=ACK)) is None
    assert one.state.duplicates == 2


def test_tcp_replaces_an_icmp_error() -> None:
    """The destination's own answer counts even after somebody's error for the same probe."""
    one = sender()
    assert one.fold(one.error(3, expired=False, type=3, code=13))
    answer = one.fold(one.segment(3))
    assert answer
    assert answer.reply.kind is ReplyKind.SYN_ACK


def test_an_icmp_error_never_replaces_tcp() -> None:
    """An error after the destination's own answer is only a duplicate."""
    one = sender()
    assert one.fold(one.segment(3))
    assert one.fold(one.error(3, expired=False, type=3, code=13)) is None
    assert one.state.duplicates == 1


def test_no_round_trip_is_negative() -> None:
    """An arrival stamped before its probe was sent counts as arriving at once."""
    one = sender()
    early = [one.fold(one.error(1), SENT_AT - 1), one.fold(one.segment(3), SENT_AT - 1)]
    assert [answer and answer.rtt for answer in early] == [0.0, 0.0]


def test_attempts_at_one_ttl_are_told_apart() -> None:
    """Each attempt has an answer of its own."""
    one = sender()
    second = one.send(2, 2)
    first = one.fold(one.error(2, 1))
    again = one.fold(one.error(2, 2))
    assert first
    assert again
    assert again.probe == second == first.probe._replace(attempt=2)
    assert one.counted_nothing
