"""Rules 1 to 4 atop tracer.py: what is sent when. In virtual time."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from exporter.model import Plan, ReplyKind, StopReason
from exporter.probing.tracer import (
    CONFIRMATIONS,
    PATIENCE_FLOOR,
    SEND_RETRIES,
    SEND_RETRY_DELAY,
    SILENT_LIMIT,
    SPACING,
    STAGGER,
    STALL_FLOOR,
    WINDOW,
)
from tests.unit.playing import (
    EXPIRED,
    REJECTED,
    RST,
    SYN_ACK,
    Says,
    chain,
    nobody,
    play,
)

ONCE = Plan(attempts=1)
close = pytest.approx


def slow(after: float) -> Says:
    """A router's answer after so many seconds."""
    return replace(EXPIRED, after=after)


# -- 1. the window ---------------------------------------------------------------------


def test_the_first_burst_is_one_window() -> None:
    """At the start one SYN goes to each TTL of the first window, in ascending order."""
    first = [(probe.ttl, probe.attempt) for probe in play(nobody).sent if probe.at == 0]
    assert first == [(ttl, 1) for ttl in range(1, WINDOW + 1)]


def test_each_answer_moves_the_window() -> None:
    """While routers answer, no TTL is more than a window past the farthest answer."""
    played = play(chain(20, SYN_ACK), ONCE)
    for probe in played.sent:
        old = probe.at - EXPIRED.after + 1e-9
        answered = max((other.ttl for other in played.sent if other.at <= old), default=0)
        assert probe.ttl <= answered + WINDOW


def test_an_open_path_is_swept_in_a_few_round_trips() -> None:
    """Twelve hops take three windows, not twelve round trips."""
    played = play(chain(12, SYN_ACK), ONCE)
    assert played.ended == close(3 * EXPIRED.after)
    assert played.tracer.stop_reason is StopReason.DESTINATION
    assert played.counts == dict.fromkeys(range(1, 13), 1)


def test_silence_moves_the_window_on() -> None:
    """Without any answer a window follows after the floor of the patience."""
    played = play(nobody)
    for ttl in range(1, 31):
        window = (ttl - 1) // WINDOW
        assert played.times(ttl)[0] == close(window * STALL_FLOOR)


@pytest.mark.parametrize("limit", [1, 2, 5, 30, 63])
@pytest.mark.parametrize("end", [None, EXPIRED, SYN_ACK])
def test_the_hop_limit_holds(limit: int, end: Says | None) -> None:
    """No TTL past the plan's limit is probed, apart from the confirmation's."""
    played = play(chain(limit + 1, end), Plan(max_hops=limit))
    assert played.farthest == limit
    assert len(played.counts) == limit


@pytest.mark.parametrize("limit", [1, 63])
def test_routers_up_to_the_limit(limit: int) -> None:
    """Where routers answer up to the last TTL and then nobody, the limit ended the trace."""
    played = play(chain(limit + 1, None), Plan(max_hops=limit))
    assert played.tracer.stop_reason is StopReason.HOP_LIMIT
    assert len(played.confirmations) == CONFIRMATIONS


@pytest.mark.parametrize("limit", [1, 63])
def test_a_destination_at_the_limit(limit: int) -> None:
    """A destination at the last TTL is reached."""
    played = play(chain(limit, SYN_ACK), Plan(max_hops=limit))
    assert played.tracer.stop_reason is StopReason.DESTINATION
    assert len(played.counts) == limit


def test_a_destination_beyond_the_limit() -> None:
    """A destination past the last TTL answers the confirmation, and is reached by that."""
    played = play(chain(9, SYN_ACK), Plan(max_hops=5))
    assert played.tracer.stop_reason is StopReason.DESTINATION
    assert [hop.is_end for hop in played.tracer.hops()] == [False] * 5
    assert len(played.confirmations) == 1


# -- 2. patience -----------------------------------------------------------------------


def test_a_long_round_trip_earns_patience() -> None:
    """After answers in 0.08 s the window waits three times as long before it moves on."""
    played = play(lambda ttl, _: slow(0.08) if ttl <= WINDOW else None, ONCE)
    assert played.times(WINDOW + 1) == [close(0.08)]
    assert played.times(2 * WINDOW + 1) == [close(0.08 + 3 * 0.08)]


def test_the_timeout_bounds_patience() -> None:
    """However long round trips are, the window waits no longer than the plan's timeout."""
    plan = Plan(attempts=1, timeout=0.15)
    played = play(lambda ttl, _: slow(0.08) if ttl <= WINDOW else None, plan)
    assert played.times(2 * WINDOW + 1) == [close(0.08 + 0.15)]


def test_every_answer_is_news() -> None:
    """An answer of a hop nearer than the farthest prolongs the wait for those behind it."""
    world = {1: slow(0.08), 2: slow(0.02)}
    played = play(lambda ttl, _: world.get(ttl), ONCE)
    assert played.times(2 + WINDOW + 1) == [close(0.08 + 3 * 0.08)]


def test_what_was_not_sent_is_not_waited_for() -> None:
    """The patience with a window begins when its last probe has gone."""
    played = play(nobody, ONCE, refuses=lambda n: n < SEND_RETRIES)
    sent = (SEND_RETRIES - 1) * SEND_RETRY_DELAY
    assert played.times(WINDOW) == [close(sent)]
    assert played.times(WINDOW + 1) == [close(sent + STALL_FLOOR)]


def test_patience_has_a_floor() -> None:
    """A timeout below the floor does not cut a trace short."""
    patient, hasty = (play(nobody, Plan(timeout=timeout)) for timeout in (2.0, 0.1))
    assert hasty.ended == patient.ended


def test_a_silent_hop_does_not_hold_up_the_sweep() -> None:
    """One silent hop within the window costs an open path nothing but its own patience."""
    played = play(chain(12, SYN_ACK, silent=(6,)), ONCE)
    assert played.times(12) == [close(2 * EXPIRED.after)]
    assert played.ended == close(EXPIRED.after + PATIENCE_FLOOR)


def test_a_challenge_is_no_round_trip() -> None:
    """The time of a challenge ACK, which answers an earlier SYN, earns no patience."""
    world = {1: EXPIRED, 3: EXPIRED, 4: Says(ReplyKind.ACK, after=0.3)}
    played = play(lambda ttl, _: world.get(ttl), ONCE)
    assert played.ended == close(PATIENCE_FLOOR)


# -- 3. the end of the path ------------------------------------------------------------


@pytest.mark.parametrize("end", [SYN_ACK, RST, REJECTED])
def test_nothing_is_probed_past_the_end(end: Says) -> None:
    """TTLs past the end get what the window had sent, no more, and are not shown."""
    played = play(chain(3, end))
    assert played.farthest == WINDOW
    assert len(played.times(4)) == 1
    assert list(played.counts) == [1, 2, 3]


def test_the_nearest_answer_of_the_destination_is_the_end() -> None:
    """An answer for a lower TTL that comes later moves the end nearer."""
    world = {3: replace(SYN_ACK, after=0.05), 4: SYN_ACK}
    played = play(lambda ttl, _: world.get(ttl, EXPIRED))
    assert list(played.counts) == [1, 2, 3]


@pytest.mark.parametrize(
    "world",
    [
        {2: REJECTED, 4: replace(SYN_ACK, after=0.05)},
        {2: replace(REJECTED, after=0.05), 4: SYN_ACK},
    ],
    ids=["error-first", "error-last"],
)
def test_the_destination_outweighs_a_nearer_error(world: dict[int, Says]) -> None:
    """An error somewhere before the destination's own answer does not end the path."""
    played = play(lambda ttl, _: world.get(ttl, EXPIRED))
    assert list(played.counts) == [1, 2, 3, 4]
    assert played.tracer.stop_reason is StopReason.DESTINATION
    kinds = {a.reply.kind for hop in played.tracer.hops() for a in hop.answers}
    assert {ReplyKind.SYN_ACK, ReplyKind.UNREACHABLE} <= kinds


# -- 4. attempts -----------------------------------------------------------------------


@pytest.mark.parametrize("attempts", [1, 2, 3, 10])
def test_every_hop_gets_its_attempts(attempts: int) -> None:
    """Each TTL up to the destination gets the plan's attempts, no more and no fewer."""
    played = play(chain(7, SYN_ACK), Plan(attempts=attempts))
    assert played.counts == dict.fromkeys(range(1, 8), attempts)


def test_attempts_outlast_a_rate_limit() -> None:
    """Three attempts at a hop are spread over more than the second of Linux' ICMP limit."""
    times = play(chain(7, SYN_ACK)).times(3)
    assert all(later - sooner == close(SPACING) for sooner, later in pairwise(times))
    assert times[-1] - times[0] > 1.1


def test_a_hop_that_answers_only_the_last_attempt_is_found() -> None:
    """Loss of the first two probes of a hop does not make it silent."""
    played = play(lambda ttl, n: SYN_ACK if ttl >= 6 else EXPIRED if n == 3 or ttl != 3 else None)
    assert [hop.received for hop in played.tracer.hops()] == [3, 3, 1, 3, 3, 3]


def test_far_behind_the_frontier_one_attempt_has_to_do() -> None:
    """TTLs farther than the limit behind the last answer get one attempt when nothing comes."""
    counts = play(chain(6, None)).counts
    near = range(1, 5 + SILENT_LIMIT + 1)
    assert counts == {ttl: 3 if ttl in near else 1 for ttl in range(1, 31)}


#: So far that its window opens after the second attempts at the first hops are due.
FAR = 40
FAR_PLAN = Plan(max_hops=63)


def test_parked_attempts_are_made_good() -> None:
    """When a far answer brings the frontier near, the TTLs before it get their attempts."""
    played = play(lambda ttl, _: EXPIRED if ttl in (1, FAR) else None, FAR_PLAN)
    near = range(1, FAR + SILENT_LIMIT + 1)
    assert played.counts == {ttl: 3 if ttl in near else 1 for ttl in range(1, 64)}


def test_parked_attempts_are_made_good_before_the_destination() -> None:
    """When the destination answers behind a silent stretch, the stretch gets its attempts."""
    played = play(chain(FAR, SYN_ACK, silent=tuple(range(2, FAR))), FAR_PLAN)
    assert played.counts == dict.fromkeys(range(1, FAR + 1), 3)


def test_whoever_rejects_is_not_asked_again() -> None:
    """The TTL that an ICMP error answered gets one attempt; nearer hops get theirs."""
    played = play(chain(5, REJECTED))
    assert played.counts == {1: 3, 2: 3, 3: 3, 4: 3, 5: 1}


def test_the_destinations_attempts_are_staggered() -> None:
    """Further attempts at the destination do not travel together with those at the hop before."""
    played = play(chain(7, SYN_ACK), Plan(attempts=4))
    before, at = played.times(6), played.times(7)
    assert [b - a for a, b in zip(before, at, strict=True)] == close([0, STAGGER, STAGGER, STAGGER])
