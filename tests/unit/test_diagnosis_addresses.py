"""A name with several addresses: the worst one is the target's verdict, and all are named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import pytest

from exporter.diagnosis.addresses import WORST_FIRST, combine
from exporter.model import (
    BLOCKED_STATES,
    MAX_ADDRESSES,
    REACHED_STATES,
    Failure,
    FailureReason,
    Family,
    Observation,
    State,
)
from tests.unit import samples

V4, V4_TOO, V6 = "10.9.11.2", "10.9.11.3", "fd09:0:0:b::2"
ALL = replace(samples.target(), host="db.example", all_addresses=True)
NO_ROUTE = Failure(FailureReason.NO_ROUTE, "this host has no route")


def seen(address: str, state: State, failure: Failure | None = None) -> Observation:
    """What was observed at one address."""
    opened = samples.opened()
    verdict = replace(opened.verdict, state=state, reason=f"It is {state}.")
    return replace(opened, target=ALL, address=address, verdict=verdict, failure=failure)


def reason(*observations: Observation, left_out: Sequence[str] = ()) -> str:
    """The target's sentence."""
    return combine(observations, left_out).verdict.reason


# -- which one stands for the target ---------------------------------------------------


def test_the_order_names_every_state() -> None:
    """Each state has its place, so that no verdict of an address is without one."""
    assert sorted(WORST_FIRST) == sorted(State)


def test_blocked_comes_first_and_reached_last() -> None:
    """Blocked states, then an interception, then what is not known, then what is reached."""
    blocked, unknown = len(BLOCKED_STATES), len(WORST_FIRST) - len(REACHED_STATES)
    assert set(WORST_FIRST[:blocked]) == BLOCKED_STATES
    assert WORST_FIRST[blocked] is State.INTERCEPTED
    assert set(WORST_FIRST[unknown:]) == REACHED_STATES


@pytest.mark.parametrize("order", [*permutations((State.OPEN, State.ERROR, State.FILTERED))])
def test_an_unknown_state_hides_no_block_and_is_not_hidden_by_an_open_one(
    order: tuple[State, ...],
) -> None:
    """In whatever order they are traced, the worst address is the target's and is first."""
    made = combine([seen(f"10.9.11.{n}", state) for n, state in enumerate(order)], ())
    assert made.verdict.state is State.FILTERED
    states = [one.verdict.state for one in made.each]
    assert states == [State.FILTERED, State.ERROR, State.OPEN]
    assert made.address == made.each[0].address


def test_of_equal_ones_the_first_counts() -> None:
    """Two blocked addresses do not take turns."""
    made = combine([seen(V4, State.OPEN), seen(V6, State.RESET), seen(V4_TOO, State.RESET)], ())
    assert [one.address for one in made.each] == [V6, V4_TOO, V4]


# -- the sentence ----------------------------------------------------------------------


def test_blocked_and_open_are_told_apart_in_the_first_sentence() -> None:
    """How many fail, which they are, and which do not; the worst one's own sentence follows."""
    observations = [seen(V6, State.OPEN), seen(V4, State.FILTERED), seen(V4_TOO, State.REJECTED)]
    assert reason(*observations) == (
        f"2 of 3 addresses of db.example fail: {V4_TOO} is rejected, {V4} is filtered, "
        f"{V6} is open. It is rejected."
    )


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ((State.FILTERED, State.FILTERED), f"2 of 2 addresses of db.example fail: {V4} and {V6} "),
        ((State.INTERCEPTED, State.OPEN), "1 of 2 addresses of db.example fails: "),
        ((State.OPEN, State.INCONCLUSIVE), "1 of 2 addresses of db.example could not be judged: "),
        ((State.OPEN, State.CLOSED), "2 of 2 addresses of db.example are reached: "),
        ((State.LOOP, State.ERROR), f": {V4} is in a loop, {V6} is not measured. "),
    ],
)
def test_the_sentence_fits_what_was_found(states: tuple[State, State], said: str) -> None:
    """Failing, not judged and reached addresses each have words of their own."""
    assert said in reason(seen(V4, states[0]), seen(V6, states[1]))


def test_one_address_has_no_sentence_on_several() -> None:
    """What is said of the only address is said of the target."""
    assert reason(seen(V4, State.OPEN)) == "It is open."


# -- what does not count, and what had no room -----------------------------------------


def test_a_family_without_a_route_does_not_count() -> None:
    """On a host without IPv6 an application passes IPv6 addresses over: so does the verdict."""
    made = combine([seen(V6, State.ERROR, NO_ROUTE), seen(V4, State.OPEN)], ())
    assert (made.verdict.state, made.verdict.reason) == (State.OPEN, "It is open.")
    assert [one.address for one in made.each] == [V4, V6]
    assert made.verdict.evidence[-1] == (
        f"not counted, since this host has no route to its family: {V6}"
    )


@pytest.mark.parametrize(
    "observations",
    [
        [seen(V6, State.ERROR, NO_ROUTE), seen(V4, State.ERROR, NO_ROUTE)],
        [seen(V4_TOO, State.ERROR, NO_ROUTE), seen(V4, State.OPEN)],
        [replace(seen(V6, State.ERROR, NO_ROUTE), target=replace(ALL, family=Family.IPV6))],
    ],
    ids=["no family has one", "the family has one elsewhere", "the family is asked for"],
)
def test_a_missing_route_counts_otherwise(observations: list[Observation]) -> None:
    """Where no other family helps, or the family is configured, no route means not measured."""
    assert combine(observations, ()).verdict.state is State.ERROR


def test_addresses_without_room_are_named_up_to_a_bound() -> None:
    """The first ones by their names, the others by their number."""
    left = [f"192.0.2.{n}" for n in range(MAX_ADDRESSES + 300)]
    few = combine([seen(V4, State.OPEN)], left[:1]).verdict.evidence[-1]
    assert few == "not traced, since a cycle has room for 8 addresses: 192.0.2.0"
    many = combine([seen(V4, State.OPEN)], left).verdict.evidence[-1]
    assert many.endswith("192.0.2.7 and 300 more")
