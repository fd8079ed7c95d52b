"""What a sounding sends, when, and where it ends; in virtual time."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from exporter.model import FULL_TTL, Probe, ReplyKind, Sounding, StopReason
from exporter.probing.sounder import SLOW, WINDOW, Sounder
from tests.unit.playing import (
    EXPIRED,
    NO_BUFFER,
    REJECTED,
    RST,
    START,
    SYN_ACK,
    Says,
    World,
    answer,
    chain,
    nobody,
)

FROM_FIVE = Sounding(first=5)
ONLY_FULL = Sounding()


@dataclass(slots=True)
class Sounded:
    """A sounding that has ended, and (seconds since the start, TTL) of all that was sent."""

    sounder: Sounder
    sent: list[tuple[float, int]] = field(default_factory=list)
    ended_at: float = 0.0

    def ttls(self) -> list[int]:
        """What was sent, in order."""
        return [ttl for _, ttl in self.sent]

    def swept(self) -> list[int]:
        """The TTLs of the sweep, in order."""
        return [ttl for ttl in self.ttls() if ttl != FULL_TTL]

    def distance(self) -> int | None:
        """The lowest TTL that the destination answered."""
        return next((hop.ttl for hop in self.sounder.hops() if hop.is_end), None)


def sound(world: World, sounding: Sounding = FROM_FIVE) -> Sounded:
    """Play a sounding to its end."""
    sounder = Sounder(sounding, START)
    sounded = Sounded(sounder)
    arriving: list[tuple[float, Probe, Says]] = []
    now = START
    for _ in range(500):
        while wanted := sounder.next_probe(now):
            probe = Probe(*wanted, now)
            sounder.sent(probe)
            sounded.sent.append((now - START, probe.ttl))
            if says := world(probe.ttl, probe.attempt):
                arriving.append((now + says.after, probe, says))
        if sounder.stop_reason:
            sounded.ended_at = now - START
            return sounded
        arriving.sort(key=lambda item: item[0])
        if arriving and arriving[0][0] <= sounder.wake_at():
            now, probe, says = arriving.pop(0)
            sounder.answer(answer(probe, says))
        else:
            now = max(now, sounder.wake_at())
    raise AssertionError("the sounding never ends")


@pytest.mark.parametrize("end", [SYN_ACK, RST, Says(ReplyKind.ECHO_REPLY)])
def test_an_answer_of_the_destination_is_followed_by_a_sweep_up_to_it(end: Says) -> None:
    """One probe a TTL, from the first wanted to the destination's distance."""
    sounded = sound(chain(12, end))
    assert sounded.sounder.stop_reason is StopReason.DESTINATION
    assert sounded.ttls()[0] == FULL_TTL
    assert sounded.distance() == 12
    assert sorted(ttl for ttl in sounded.swept() if ttl <= 12) == list(range(5, 13))
    assert len(sounded.swept()) <= 8 + WINDOW - 1


def test_the_hops_before_the_sweep_are_there_without_a_probe() -> None:
    """Its hops are consecutive from TTL 1, as those of any trace."""
    hops = sound(chain(8, SYN_ACK)).sounder.hops()
    assert [(hop.ttl, hop.sent, hop.received) for hop in hops] == [
        *((ttl, 0, 0) for ttl in range(1, 5)),
        *((ttl, 1, 1) for ttl in range(5, 9)),
    ]


def test_nothing_is_swept_where_nobody_answers() -> None:
    """Silence costs three probes, half a second apart, and no more than the limit."""
    sounded = sound(nobody)
    assert sounded.sent == [(0.0, FULL_TTL), (0.5, FULL_TTL), (1.0, FULL_TTL)]
    assert sounded.sounder.stop_reason is StopReason.SILENCE
    assert sounded.ended_at <= FROM_FIVE.seconds
    assert sounded.sounder.hops() == ()


def test_a_sounding_without_a_sweep_ends_with_its_answer() -> None:
    """Where only the answer is wanted, one probe is enough."""
    sounded = sound(chain(3, SYN_ACK), ONLY_FULL)
    assert sounded.ttls() == [FULL_TTL]
    assert sounded.sounder.stop_reason is StopReason.DESTINATION


def test_an_icmp_error_ends_it() -> None:
    """A device that rejects what is meant to arrive leaves nothing to sweep for."""
    sounded = sound(chain(7, REJECTED))
    assert (sounded.ttls(), sounded.sounder.stop_reason) == ([FULL_TTL], StopReason.ICMP_ERROR)


def test_an_expired_full_ttl_is_no_answer_of_the_destination() -> None:
    """A loop lets even an ordinary TTL expire; that is told apart from silence."""
    sounded = sound(lambda _ttl, _attempt: EXPIRED)
    assert (sounded.ttls(), sounded.sounder.stop_reason) == ([FULL_TTL], StopReason.HOP_LIMIT)


def test_the_second_and_the_third_probe_may_be_the_answered_ones() -> None:
    """A probe may be lost, and some hosts answer only the third SYN."""
    sounded = sound(lambda ttl, attempt: SYN_ACK if (ttl, attempt) == (FULL_TTL, 3) else None)
    assert sounded.ttls()[:3] == [FULL_TTL] * 3
    assert sounded.sounder.stop_reason is StopReason.DESTINATION


def test_silent_routers_on_the_way_are_asked_twice() -> None:
    """A TTL below the destination's that is silent gets one more probe, and only one."""
    sounded = sound(chain(12, SYN_ACK, silent=(6, 7)))
    assert sounded.distance() == 12
    assert [sounded.swept().count(ttl) for ttl in (5, 6, 7, 8)] == [1, 2, 2, 1]


def test_a_long_row_of_silent_routers_is_passed() -> None:
    """The window moves on without an answer, up to the destination."""
    assert sound(chain(20, RST, silent=tuple(range(5, 20)))).distance() == 20


def test_a_lost_answer_at_the_destination_s_own_ttl_is_asked_for_again() -> None:
    """The second attempt keeps the destination from looking a hop farther away than it is."""
    path = chain(9, SYN_ACK)
    sounded = sound(lambda ttl, attempt: None if (ttl, attempt) == (9, 1) else path(ttl, attempt))
    assert sounded.distance() == 9


def test_a_slow_destination_does_not_hold_it_beyond_its_limit() -> None:
    """With a round trip of half a second it ends in time, with what has come."""
    slow = Says(ReplyKind.SYN_ACK, after=0.5)
    sounded = sound(lambda ttl, _: slow if ttl >= 30 else Says(after=0.4))
    assert sounded.ended_at <= FROM_FIVE.seconds
    assert sounded.sounder.stop_reason is StopReason.DESTINATION


def test_a_slow_path_is_swept_in_one_round_trip() -> None:
    """All its TTLs are asked at once, and waited for."""
    slow = 4 * SLOW
    sounding = Sounding(first=5, last=11, attempts=0, round_trip=slow)
    sounded = sound(lambda _ttl, _attempt: Says(after=slow), sounding)
    assert sounded.sent == [(0.0, ttl) for ttl in range(5, 12)]
    assert all(hop.answers for hop in sounded.sounder.hops()[4:])
    assert sounded.ended_at == pytest.approx(slow)


def test_it_ends_after_its_seconds_with_what_has_come() -> None:
    """What answers too late takes nothing away from what answered in time."""
    late = chain(12, Says(SYN_ACK.kind, 2.0))
    sounded = sound(late, Sounding(first=5, attempts=0, seconds=0.5))
    assert sounded.ended_at == pytest.approx(0.5)
    answered = [hop.ttl for hop in sounded.sounder.hops() if hop.answers]
    assert answered == list(range(5, 12))


def test_it_does_not_sweep_past_its_last_ttl() -> None:
    """What answers only an ordinary TTL has no distance, and the sweep ends."""
    sounded = sound(lambda ttl, _: SYN_ACK if ttl == FULL_TTL else None, Sounding(first=5, last=14))
    assert max(sounded.swept()) == 14
    assert sounded.distance() is None


def test_a_host_that_refuses_to_send_ends_the_control() -> None:
    """A control may fail; it does not insist."""
    sounder = Sounder(FROM_FIVE, START)
    assert sounder.next_probe(START) == (FULL_TTL, 1)
    sounder.send_failed(NO_BUFFER, START)
    assert sounder.stop_reason is StopReason.SEND_FAILED
    assert sounder.failure is NO_BUFFER
    assert sounder.next_probe(START) is None
