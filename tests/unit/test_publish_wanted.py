"""What a reader asks for in the address: which targets are found, and which questions are none."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model import Location, Observation, State
from exporter.publish.tones import RANKS
from exporter.publish.wanted import MAX_TEXT, Wanted, WrongQueryError, zones_of
from exporter.store import Record
from tests.unit import samples


def record(seen: Observation) -> Record:
    """The record of a target that was seen so."""
    found = samples.store(seen).get(seen.target.name)
    assert found
    return found


def named() -> Observation:
    """A target that is blocked in a zone with a name, by a device with a name."""
    seen = samples.filtered()
    place = replace(seen.places[samples.address(6)], zone_name="dc west", name="fw6.Example.net")
    return replace(seen, places={**seen.places, samples.address(6): place})


@pytest.mark.parametrize(
    ("seen", "states"),
    [
        (samples.filtered(), {"blocked", "filtered"}),
        (samples.unresolved(), {"unknown", "unresolved"}),
        (samples.opened(), {"open"}),
    ],
)
def test_a_state_finds_its_targets_and_so_does_its_group(
    seen: Observation, states: set[str]
) -> None:
    """Any other state does not."""
    of = record(seen)
    assert {state for state in (*State, *RANKS) if Wanted(state=state).matches(of)} == states


def test_a_target_that_waits_has_a_state_too() -> None:
    """Before the first trace, and no zone."""
    waiting = Record(samples.target())
    assert Wanted(state="waiting").matches(waiting)
    assert zones_of(waiting) == frozenset()


def test_a_zone_is_where_the_traffic_stops() -> None:
    """The location, and the name of a suspect's zone; what is not blocked stops nowhere."""
    assert zones_of(record(named())) == {"external", "dc west"}
    assert zones_of(record(samples.rejected())) == {Location.EXTERNAL}
    assert zones_of(record(samples.opened())) == frozenset()
    assert Wanted(zone="dc west").matches(record(named()))
    assert not Wanted(zone="elsewhere").matches(record(named()))


@pytest.mark.parametrize(
    "text",
    [
        *("DB", "10.9.11.2", "10.9.3.", "FW6.example.NET"),
        samples.address(6),
    ],
)
def test_a_text_finds_what_it_is_part_of(text: str) -> None:
    """Name, host, address, responder and his name, whatever the case; else nothing."""
    assert Wanted(text=text).matches(record(named()))
    assert not Wanted(text=f"{text}?").matches(record(named()))


def test_a_text_finds_every_address_and_the_blocking_device() -> None:
    """With all addresses those that are well, too."""
    assert Wanted(text="2001:DB8::1").matches(record(samples.several()))
    blocked = samples.rejected()
    by = replace(blocked.verdict, blocked_by="192.0.2.7")
    assert Wanted(text="192.0.2.7").matches(record(replace(blocked, verdict=by)))


def test_filters_hold_together() -> None:
    """What is found is found by each of them."""
    of = record(samples.filtered())
    assert Wanted(state="filtered", zone="external", text="db").matches(of)
    assert not Wanted(state="filtered", zone="platform", text="db").matches(of)


@pytest.mark.parametrize(
    ("query", "right"),
    [
        ("state=nothing", "?state= takes one of blocked, closed, error,"),
        (f"text={'x' * (MAX_TEXT + 1)}", "?zone= and ?text= take at most 100 characters."),
        (f"zone={'x' * (MAX_TEXT + 1)}", "?zone= and ?text= take at most 100 characters."),
        *(
            (f"reload={value}", "?reload= takes a number of seconds from 5 to 3600, or 0")
            for value in ("1", "4", "3601", "99999", "-5", "soon", "%D9%A3%D9%A0", "30.0")
        ),
    ],
)
def test_a_wrong_question_is_told_what_is_right(query: str, right: str) -> None:
    """And nothing of it is repeated."""
    with pytest.raises(WrongQueryError) as caught:
        Wanted.of(parse_qs(query))
    assert str(caught.value).startswith(right)


def test_what_is_left_empty_asks_for_nothing() -> None:
    """As a form sends it; of several values the last one counts, and others are not looked at."""
    assert Wanted.of(parse_qs("state=&zone=&text=+&page=7&else=1", keep_blank_values=True)) == (
        Wanted()
    )
    assert Wanted.of(parse_qs("state=open&state=closed")) == Wanted(state="closed")


@given(
    st.builds(
        Wanted,
        st.sampled_from(["", *sorted(State)]),
        *[st.text(st.characters(codec="utf-8"), max_size=MAX_TEXT).map(str.strip)] * 2,
        st.sampled_from([0, 5, 30, 3600]),
    ),
    st.integers(1, 9),
)
def test_a_link_asks_for_what_it_was_made_from(wanted: Wanted, page: int) -> None:
    """Whatever is filtered for arrives as it is."""
    query = parse_qs(wanted.query(page).removeprefix("?"), keep_blank_values=True)
    assert Wanted.of(query) == wanted
    assert query.get("page", ["1"]) == [str(page)]


def test_without_wishes_there_is_no_query() -> None:
    """The address of the index stays short."""
    assert Wanted().query() == ""
