"""How many probes a router may be asked to answer."""

from __future__ import annotations

import pytest

from exporter.probing.purse import BURST, FIRST_RATE, LEAST_RATE, MOST_RATE, RESERVE, Purse


def test_a_burst_is_granted_but_for_the_reserve() -> None:
    """A full purse gives what Linux allows at once, and keeps some back for confirmations."""
    assert Purse(0.0).take(100, 0.0) == BURST - RESERVE


def test_what_was_spent_before_is_missing() -> None:
    """A purse that is made late begins with what is left."""
    assert Purse(0.0, spent=3).take(100, 0.0) == BURST - 3 - RESERVE


def test_it_fills_at_its_rate() -> None:
    """An empty purse grants one probe as soon as one has grown."""
    purse = Purse(0.0)
    purse.take(100, 0.0)
    assert purse.take(1, 0.99 / FIRST_RATE) == 0
    assert purse.take(1, 1.01 / FIRST_RATE) == 1


def test_it_never_grows_past_the_burst() -> None:
    """A long rest allows no more than a burst."""
    assert Purse(0.0).take(100, 1e6) == BURST - RESERVE


def test_what_was_asked_without_leave_is_missing_too() -> None:
    """Probes that had to be sent are paid for before others are granted."""
    purse = Purse(0.0)
    purse.spend(100, 0.0)
    assert purse.take(1, (BURST + RESERVE) / FIRST_RATE) == 0
    assert purse.take(1, (BURST + RESERVE + 1.1) / FIRST_RATE) == 1


def test_an_unanswered_probe_lowers_the_rate_once() -> None:
    """Several traces that miss answers at the same time tell of one shortage."""
    purse = Purse(0.0)
    purse.learn(1, 0, 10.0)
    lowered = purse.rate
    purse.learn(3, 2, 10.5)
    assert lowered == purse.rate < FIRST_RATE


def test_answers_raise_the_rate_where_more_was_wanted() -> None:
    """A router that answers all it is asked is asked more, if somebody had to wait."""
    purse = Purse(0.0)
    purse.learn(100, 100, 0.0)
    assert purse.rate == FIRST_RATE
    purse.refuse()
    purse.learn(1, 1, 1.0)
    assert purse.rate > FIRST_RATE


@pytest.mark.parametrize(
    ("answered", "limit"), [pytest.param(0, LEAST_RATE, id="least"), (100, MOST_RATE)]
)
def test_the_rate_stays_within_bounds(answered: int, limit: float) -> None:
    """However a router behaves, it is asked now and then, and never flooded."""
    purse = Purse(0.0)
    for step in range(1, 200):
        purse.refuse()
        purse.learn(100, answered, step * 100.0)
    assert purse.rate == limit


@pytest.mark.parametrize("allowed", [0.5, 1.0, 5.0])
def test_it_finds_the_rate_of_a_router(allowed: float) -> None:
    """Asked as the purse allows, a router answers nine of ten probes, at nearly its rate."""
    purse, now, coins, asked, answered = Purse(0.0), 0.0, BURST, 0, 0
    while now < 3600.0:
        now += 0.1
        coins = min(BURST, coins + 0.1 * allowed)
        if purse.take(1, now):
            heard = coins >= 1
            coins -= heard
            asked, answered = asked + 1, answered + heard
            purse.learn(1, heard, now)
    assert answered > 0.9 * asked
    assert answered > 0.7 * allowed * now
