"""Rules 5 to 8 atop tracer.py: how a trace ends. In virtual time."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from exporter.model import FULL_TTL, Plan, Probe, ReplyKind, StopReason
from exporter.probing.tracer import (
    CONFIRMATION_SPACING,
    CONFIRMATIONS,
    DEADLINE,
    LOSSY_CONFIRMATIONS,
    PATIENCE_FLOOR,
    SEND_RETRIES,
    SEND_RETRY_DELAY,
    STALL_FLOOR,
    WINDOW,
    Tracer,
)
from tests.unit.playing import (
    EXPIRED,
    NO_BUFFER,
    REJECTED,
    RST,
    START,
    SYN_ACK,
    Says,
    answer,
    chain,
    nobody,
    play,
)

ONCE = Plan(attempts=1)
close = pytest.approx


def slow(after: float) -> Says:
    """A router's answer after so many seconds."""
    return replace(EXPIRED, after=after)


# -- 5. confirmation -------------------------------------------------------------------


def test_silence_is_confirmed_over_more_than_a_second() -> None:
    """Before a trace ends in silence, full-TTL SYNs outlast loss, rate limits and ARP."""
    played = play(chain(6, None))
    first, *_, last = played.confirmations
    assert len(played.confirmations) == CONFIRMATIONS
    assert all(b - a == close(CONFIRMATION_SPACING) for a, b in pairwise(played.confirmations))
    assert last - first > 1.1
    assert played.ended - first > 3.1
    assert played.tracer.stop_reason is StopReason.SILENCE


def test_confirmation_begins_with_the_first_stall() -> None:
    """The sweep of a silent stretch and its confirmation run side by side."""
    assert play(nobody).confirmations[0] == close(STALL_FLOOR)


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (SYN_ACK, StopReason.DESTINATION),
        (REJECTED, StopReason.ICMP_ERROR),
        (EXPIRED, StopReason.HOP_LIMIT),
    ],
)
def test_an_answered_confirmation_is_the_last(at: int, says: Says, reason: StopReason) -> None:
    """Whichever confirmation is answered, none follows it, and the trace has an end."""
    played = play(lambda ttl, n: says if (ttl, n) == (FULL_TTL, at) else None)
    confirmation = played.tracer.confirmation()
    assert confirmation
    assert (confirmation.sent, confirmation.received) == (at, 1)
    assert played.tracer.stop_reason is reason


def test_a_late_answer_to_a_confirmation_counts() -> None:
    """Whoever takes three seconds to give up on a dead neighbour is waited for."""
    late = Says(ReplyKind.UNREACHABLE, after=3.05, icmp=(3, 1))
    played = play(
        lambda ttl, n: late if (ttl, n) == (FULL_TTL, 1) else EXPIRED if ttl < 6 else None
    )
    assert played.tracer.stop_reason is StopReason.ICMP_ERROR


def test_what_is_reached_needs_no_confirmation() -> None:
    """Where the destination answers in time no full-TTL SYN is sent."""
    played = play(chain(12, SYN_ACK, silent=(3, 7)))
    assert played.confirmations == []
    assert played.tracer.confirmation() is None


def test_an_error_is_confirmed_at_once() -> None:
    """An ICMP error is held against full-TTL SYNs, and the destination's answer outweighs it."""
    world = chain(5, REJECTED)
    played = play(lambda ttl, n: SYN_ACK if ttl == FULL_TTL else world(ttl, n))
    assert played.confirmations == [close(2 * EXPIRED.after)]
    assert played.tracer.stop_reason is StopReason.DESTINATION


def test_loss_on_the_way_asks_for_more() -> None:
    """Where the hops that answer lose many probes, silence takes many more SYNs."""
    played = play(lambda ttl, n: EXPIRED if ttl < 6 and n == 1 else None)
    assert len(played.confirmations) == LOSSY_CONFIRMATIONS
    assert played.ended < DEADLINE


# -- 6. completeness -------------------------------------------------------------------


def test_a_trace_waits_for_its_last_probe() -> None:
    """An answer within the patience of the last probe still counts."""
    late = PATIENCE_FLOOR - 0.01
    played = play(lambda ttl, _: SYN_ACK if ttl >= 4 else slow(late) if ttl == 2 else EXPIRED, ONCE)
    assert [hop.received for hop in played.tracer.hops()] == [1, 1, 1, 1]


def test_a_complete_trace_does_not_wait() -> None:
    """When every probe is answered the trace is over with the last answer."""
    played = play(chain(4, SYN_ACK), ONCE)
    assert played.ended == close(SYN_ACK.after)


def test_a_silent_path_takes_seconds_not_minutes() -> None:
    """A trace of a blocked target lasts as long as its confirmation, whatever the hop limit."""
    assert play(chain(6, None)).ended < 4
    assert play(chain(6, None), Plan(max_hops=63, attempts=10)).ended < 8


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (SYN_ACK, StopReason.DESTINATION),
        (RST, StopReason.DESTINATION),
        (REJECTED, StopReason.ICMP_ERROR),
        (None, StopReason.SILENCE),
        (EXPIRED, StopReason.HOP_LIMIT),
    ],
)
@pytest.mark.parametrize("attempts", [1, 3, 10])
def test_the_stop_reason_follows_from_the_answers(
    end: Says | None, reason: StopReason, attempts: int
) -> None:
    """Each kind of end has its stop reason, however many attempts there are."""
    assert play(chain(6, end), Plan(attempts=attempts)).tracer.stop_reason is reason


# -- 7. the first answer counts --------------------------------------------------------


def folded(*says: Says) -> list[ReplyKind]:
    """What is kept of several answers to the same probe."""
    one = Tracer(Plan(), START)
    wanted = one.next_probe(START)
    assert wanted
    probe = Probe(*wanted, START)
    one.sent(probe)
    for each in says:
        one.answer(answer(probe, each))
    return [kept.reply.kind for kept in one.hops()[0].answers]


def test_the_first_answer_counts() -> None:
    """A second answer of the same rank changes nothing."""
    assert folded(EXPIRED, REJECTED) == [ReplyKind.TIME_EXCEEDED]
    assert folded(SYN_ACK, RST) == [ReplyKind.SYN_ACK]


def test_the_destination_over_tcp_replaces_an_error() -> None:
    """What anyone can send gives way to what only the destination can, never the reverse."""
    assert folded(REJECTED, SYN_ACK) == [ReplyKind.SYN_ACK]
    assert folded(EXPIRED, RST) == [ReplyKind.RST]
    assert folded(SYN_ACK, REJECTED) == [ReplyKind.SYN_ACK]


# -- 8. early ends ---------------------------------------------------------------------


def test_a_host_that_refuses_ends_the_trace() -> None:
    """After so many refusals in a row the trace ends and says why."""
    played = play(nobody, refuses=lambda _: True)
    assert played.tracer.stop_reason is StopReason.SEND_FAILED
    assert played.tracer.failure == NO_BUFFER
    assert played.ended == close((SEND_RETRIES - 1) * SEND_RETRY_DELAY)
    assert played.tracer.hops() == ()


def test_refusals_that_end_are_forgotten() -> None:
    """Fewer refusals in a row only delay a trace, however many there are in all."""
    played = play(chain(9, SYN_ACK), refuses=lambda n: n % SEND_RETRIES != 0)
    assert played.tracer.stop_reason is StopReason.DESTINATION
    assert played.tracer.failure is None
    assert played.counts == dict.fromkeys(range(1, 10), 3)


def test_what_was_sent_before_the_refusals_stays() -> None:
    """Hops that answered before the host began to refuse are kept."""
    played = play(chain(9, SYN_ACK), refuses=lambda n: n > WINDOW)
    assert played.tracer.stop_reason is StopReason.SEND_FAILED
    assert [hop.received for hop in played.tracer.hops()] == [1] * WINDOW


def test_the_deadline_ends_everything() -> None:
    """A trace that is still at work at its deadline ends there."""
    world = {1: slow(3.0), 2: slow(11.0)}
    played = play(lambda ttl, _: world.get(ttl), Plan(timeout=60))
    assert played.tracer.stop_reason is StopReason.DEADLINE
    assert played.ended == close(DEADLINE)


def test_a_stopped_tracer_stays_stopped() -> None:
    """After its end a tracer names no probe, whatever still arrives."""
    played = play(chain(4, None))
    late = answer(Probe(5, 1, START), SYN_ACK)
    played.tracer.answer(late)
    assert played.tracer.next_probe(START + 100) is None
    assert played.tracer.stop_reason is StopReason.SILENCE
