"""Which changes of a state count, and when there are too many of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.history import (
    LONGEST,
    MAX_CHANGES,
    MAX_REASON,
    UNKNOWN_STATES,
    History,
    Phase,
    reason_of,
)
from exporter.model import Observation, State
from tests.unit import samples

#: One letter for each of these states, in the order of the cycles.
LETTERS = {
    "o": State.OPEN,
    "c": State.CLOSED,
    "f": State.FILTERED,
    "r": State.REJECTED,
    "i": State.INCONCLUSIVE,
    "e": State.ERROR,
    "u": State.UNRESOLVED,
}


def seen(state: State, cycle: int) -> Observation:
    """An observation of a state, a minute after the one before."""
    verdict = replace(samples.filtered().verdict, state=state, reason="")
    return replace(samples.filtered(), verdict=verdict, started_at=60.0 * cycle)


def after(states: Iterable[State]) -> History:
    """The history of these states, one a cycle."""
    history = History()
    for cycle, state in enumerate(states):
        history = history.after(seen(state, cycle))
    return history


def of(letters: str) -> History:
    """The history of the states that the letters stand for."""
    return after(LETTERS[letter] for letter in letters)


def phases(states: str) -> str:
    """The phases' letters, each with the cycles of its beginning and its end."""
    letters = {state: letter for letter, state in LETTERS.items()}
    return " ".join(
        f"{letters[p.state]}{p.since / 60:.0f}-{p.until / 60:.0f}" for p in of(states).phases
    )


# -- what counts -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ("ooo", "o0-2"),
        ("ooff", "o0-1 f2-3"),
        ("ofr", "o0-0 f1-1 r2-2"),
        ("oc", "o0-0 c1-1"),
        # A single unknown one counts nowhere.
        ("ooioo", "o0-4"),
        ("ffeff", "f0-4"),
        ("ooi", "o0-1"),
        # ... also where another state follows.
        ("ooiff", "o0-1 f3-4"),
        # From the second one on they count, from the first one's time.
        ("ooiioo", "o0-1 i2-3 o4-5"),
        ("oouuu", "o0-1 u2-4"),
        ("ooieoo", "o0-1 e3-3 o4-5"),
        # Another unknown state within is as single.
        ("eeiee", "e0-4"),
        # The first state counts, whatever it is.
        ("ioo", "i0-0 o1-2"),
        # Taking turns with another one they change nothing.
        ("oioioi", "o0-4"),
    ],
)
def test_what_counts_as_a_phase(states: str, expected: str) -> None:
    """Known states count at once, unknown ones when a second one confirms them."""
    assert phases(states) == expected


def test_the_beginning_of_what_was_seen_last() -> None:
    """While an unknown state does not count yet, it has a beginning of its own."""
    assert of("").since == 0
    assert [of(states).since / 60 for states in ("oo", "ooi", "ooio", "ooii")] == [0, 2, 0, 2]


def test_changes_are_counted() -> None:
    """The first state is none, and neither is one that does not count."""
    assert [of(states).changes for states in ("", "o", "of", "ofo", "oio", "oiio")] == [
        *(0, 0, 1, 2, 0, 2)
    ]


def test_the_history_is_bounded() -> None:
    """Of ever more changes the last ones are remembered, and all are counted."""
    history = of("of" * 100)
    assert len(history.phases) == MAX_CHANGES + 1
    assert history.phases[-1].since == 60 * 199
    assert history.changes == 199


@given(st.lists(st.sampled_from(list(State)), max_size=60))
def test_any_states_keep_the_invariants(states: list[State]) -> None:
    """Neighbouring phases differ, none overlaps another, and a known last state is the present."""
    history = after(states)
    pairs = list(zip(history.phases, history.phases[1:], strict=False))
    assert all(was.state is not now.state and was.until < now.since for was, now in pairs)
    assert all(phase.since <= phase.until for phase in history.phases)
    if states and states[-1] not in UNKNOWN_STATES:
        assert history.phases[-1].state is states[-1]
        assert history.doubt is None


# -- flapping --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("states", "flaps"),
    [
        ("o" * 20 + "f" * 20 + "o" * 20, False),
        ("ofo", False),
        ("ofof", False),
        ("ofofo", True),
        ("oofooffooff", True),
        ("oi" * 50, False),
        ("oii" * 10, True),
        ("fr" * 4, True),
    ],
)
def test_many_changes_in_a_short_time_are_flapping(states: str, *, flaps: bool) -> None:
    """One outage is none, however short; four changes in a row are."""
    assert of(states).flapping is flaps


def test_changing_every_eighth_cycle_is_no_flapping() -> None:
    """What changes seldom is told change by change, for ever; every fifth cycle is too often."""
    assert not of(("o" * 8 + "f" * 8) * 100).flapping
    assert of(("o" * 5 + "f" * 5) * 10).flapping


def test_flapping_ends_in_bounded_time() -> None:
    """However long it has lasted, it is over LONGEST cycles after the last change."""
    history = of("of" * 500)
    cycles = 0
    while history.flapping:
        cycles += 1
        history = history.after(seen(State.FILTERED, 1000 + cycles))
    assert LONGEST / 2 < cycles <= LONGEST


def test_flapping_has_two_thresholds() -> None:
    """Once it has begun, a quiet cycle does not end it."""
    assert of("ofofo" + "o" * 8).flapping


# -- in short --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("observation", "verdict", "reason"),
    [
        (samples.opened(), {}, "12 hops away"),
        (samples.opened(), {"last_reachable_hop": 1}, "1 hop away"),
        (samples.opened(), {"last_reachable_hop": 0}, ""),
        (samples.filtered(), {}, "after hop 6 (10.9.5.2)"),
        (samples.filtered(), {"last_reachable_hop": 0}, "after hop 0"),
        (samples.filtered(), {"state": State.LOOP}, "after hop 6 (10.9.5.2)"),
        (
            samples.filtered(),
            {"flows": 4, "flows_blocked": 1},
            "after hop 6 (10.9.5.2) on 1 of 4 paths",
        ),
        (samples.filtered(), {"flows": 4, "flows_blocked": 4}, "after hop 6 (10.9.5.2)"),
        (samples.rejected(), {}, "at hop 6 by 10.9.5.2"),
        (
            samples.rejected(),
            {"state": State.RESET, "suspect_hops": (6, 7), "blocked_by": None},
            "at one of hops 6 to 7",
        ),
        (samples.opened(), {"state": State.INTERCEPTED, "last_reachable_hop": 3}, "at hop 3"),
        (samples.unresolved(), {}, "Not measured: no-such-name.example has no address."),
    ],
)
def test_a_phase_says_in_short_how_it_began(
    observation: Observation, verdict: dict[str, Any], reason: str
) -> None:
    """How far the traffic came, or why that is not known."""
    changed = replace(observation, verdict=replace(observation.verdict, **verdict))
    assert reason_of(changed) == reason
    assert Phase.of(changed).reason == reason


def test_the_short_reason_is_bounded() -> None:
    """Text from outside is cut."""
    verdict = replace(samples.unresolved().verdict, reason="x" * 5_000)
    assert len(reason_of(replace(samples.unresolved(), verdict=verdict))) == MAX_REASON
