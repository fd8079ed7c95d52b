"""How hops answer: limits, loss and silence told apart, with few probes and no more than they say.

The path is that of tests/unit/samples: twelve devices.
"""

from __future__ import annotations

import random
from dataclasses import replace

from exporter.diagnosis.conditions import conditions_of
from exporter.model import FULL_TTL, Condition, Hop, ReplyKind, StopReason, Trace
from tests.unit.samples import DISTANCE, answer, end, router, routers, silence, spared, trace

GOOD = trace((*routers(DISTANCE - 1), end(DISTANCE, ReplyKind.SYN_ACK)), StopReason.DESTINATION)


def answering(counts: dict[int, int], made: Trace = GOOD) -> Trace:
    """A trace of which some hops have answered so many probes, of three."""
    hops = tuple(
        replace(hop, answers=hop.answers[: counts.get(hop.ttl, hop.sent)]) for hop in made.hops
    )
    return replace(made, hops=hops)


def test_a_path_that_answers_everything() -> None:
    """Every hop answers, and nothing else is said of any."""
    assert set(conditions_of(GOOD).values()) == {Condition.ANSWERS}
    assert list(conditions_of(GOOD)) == list(range(1, DISTANCE + 1))


def test_rate_limited_first_hops() -> None:
    """Hops that answer once of three, while all behind them answers, limit themselves."""
    found = conditions_of(answering({1: 1, 2: 1, 3: 1}))
    assert [found[ttl] for ttl in (1, 2, 3)] == [Condition.RATE_LIMITED] * 3
    assert {found[ttl] for ttl in range(4, DISTANCE + 1)} == {Condition.ANSWERS}


def test_a_limit_in_mid_path_is_none_of_the_hops_before_it() -> None:
    """Probes that hop 6 left unanswered are not held against hop 5."""
    found = conditions_of(answering({6: 1}))
    assert [ttl for ttl, how in found.items() if how is not Condition.ANSWERS] == [6]


def test_one_missing_answer_says_nothing() -> None:
    """A single unanswered probe of a path is neither a limit nor loss."""
    assert set(conditions_of(answering({5: 2})).values()) == {Condition.ANSWERS}


def test_loss_from_a_hop_on() -> None:
    """Where the hops behind lose as much, the way loses, and nobody limits anything."""
    found = conditions_of(answering({ttl: 1 + ttl % 2 for ttl in range(5, DISTANCE + 1)}))
    assert {found[ttl] for ttl in range(1, 5)} == {Condition.ANSWERS}
    assert {found[ttl] for ttl in range(5, DISTANCE - 1)} == {Condition.LOSSY}


def test_the_last_hop_that_answers_is_compared_with_nothing() -> None:
    """With silence behind it, some missing answers may be a limit or loss: it answers."""
    made = trace((*routers(5), *silence(6, 30)), StopReason.SILENCE)
    assert conditions_of(answering({5: 1}, made))[5] is Condition.ANSWERS


def test_silence_takes_three_attempts() -> None:
    """Three unanswered attempts, 0.6 s apart, are silence; fewer are too few to say."""
    hops = (*routers(4), *silence(5, 8), *silence(9, 12, sent=1), *silence(13, 30, sent=2))
    found = conditions_of(trace(hops, StopReason.SILENCE, confirmation=Hop(FULL_TTL, 3)))
    assert {found[ttl] for ttl in range(5, 9)} == {Condition.SILENT}
    assert {found[ttl] for ttl in range(9, 31)} == {Condition.UNANSWERED}
    assert FULL_TTL not in found


def test_loss_may_have_taken_three_attempts() -> None:
    """On a path that loses half of the probes, three unanswered ones are no silence."""
    lossy = answering({ttl: 1 + ttl % 2 for ttl in range(1, DISTANCE + 1)} | {6: 0})
    assert conditions_of(lossy)[6] is Condition.UNANSWERED


def test_a_hop_that_was_not_probed_has_no_condition() -> None:
    """A sounding leaves out the first hops; nothing is said of them."""
    hops = (Hop(1, 0), Hop(2, 0), router(3, sent=1), Hop(4, 1))
    assert conditions_of(trace(hops, StopReason.SILENCE)) == {
        3: Condition.ANSWERS,
        4: Condition.UNANSWERED,
    }


def test_plain_loss_is_seldom_taken_for_a_limit() -> None:
    """Of hops behind a link that loses a quarter, fewer than one in ten is called rate-limited."""
    chance = random.Random(4)  # noqa: S311 - a run must be repeatable
    found: list[Condition] = []
    for _ in range(200):
        hops = tuple(
            Hop(ttl, 3, tuple(answer(ttl, n) for n in (1, 2, 3) if chance.random() > 0.25))
            for ttl in range(1, DISTANCE + 1)
        )
        found += conditions_of(trace(hops, StopReason.HOP_LIMIT)).values()
    assert found.count(Condition.RATE_LIMITED) < len(found) / 10
    assert found.count(Condition.LOSSY) > len(found) / 4


def test_a_loop_loses_nothing() -> None:
    """Its routers are asked in every round and limit their messages: their gaps are no loss."""
    hops = tuple(
        Hop(ttl, 3, tuple(answer(ttl, n, address=f"192.0.2.{ttl % 3}") for n in (1, 2, 3)[:keep]))
        for ttl, keep in ((ttl, 3 if ttl < 7 else 1) for ttl in range(4, 31))
    )
    found = conditions_of(trace((*routers(3), *hops), StopReason.HOP_LIMIT))
    assert Condition.LOSSY not in found.values()


def test_a_hop_that_answers_others_is_shared() -> None:
    """However often it was asked in vain; a hop that nobody knows has no condition."""
    hops = (spared(1), spared(2, sent=1), spared(3, sent=3), Hop(4, 0), *GOOD.hops[4:])
    found = conditions_of(replace(GOOD, hops=hops))
    assert {ttl: found.get(ttl) for ttl in range(1, 5)} == {
        1: Condition.SHARED,
        2: Condition.SHARED,
        3: Condition.SHARED,
        4: None,
    }


def test_single_attempts_show_neither_limit_nor_loss() -> None:
    """A hop that was asked once answers, or it does not."""
    once = tuple(replace(hop, sent=1, answers=hop.answers[: hop.ttl % 2]) for hop in GOOD.hops)
    found = conditions_of(replace(GOOD, hops=once))
    assert set(found.values()) == {Condition.ANSWERS, Condition.UNANSWERED}
