"""What survives a restart, as plain values and back; and values that are anything but."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.diagnosis.verdict import judge
from exporter.diagnosis.zones import ZoneMap
from exporter.model import (
    MAX_ADDRESSES,
    Answer,
    Hop,
    Known,
    Observation,
    Place,
    Trace,
    Zone,
)
from exporter.publish.change import change_words
from exporter.publish.lines import render_trace
from exporter.publish.objects import observation_object, record_object, to_json
from exporter.state.coding import decoded, encoded
from exporter.state.file import ADDRESSES, MAX_TARGET_BYTES, text_of
from exporter.state.kept import Kept, keep, restore
from exporter.store import Record, Store
from tests.unit import samples

TARGET = samples.target("web")
PLACES: Mapping[str, Place] = {samples.address(1): Place(Zone.PLATFORM, "platform")}


def at(observation: Observation, seconds: float) -> Observation:
    """The observation, of the one target, some time later."""
    return replace(observation, target=TARGET, started_at=samples.STARTED_AT + seconds)


def store_of(*observations: Observation) -> Store:
    """A store that has seen them, a minute apart."""
    return samples.store(*(at(one, 60 * n) for n, one in enumerate(observations)))


def record_of(*observations: Observation) -> Record:
    """The target's record in it."""
    record = store_of(*observations).get(TARGET.name)
    assert record
    return record


def restarted(record: Record) -> Record:
    """The record of the next process."""
    new = Record(record.target)
    restore(new, decoded(json.loads(text_of(keep(record)))), lambda _: PLACES)
    return new


def rounded(trace: Trace | None) -> Trace:
    """What of a trace is kept: addresses, kinds and round trips to the microsecond."""
    assert trace
    return replace(
        trace,
        duration=round(trace.duration, 6),
        hops=tuple(map(_rounded_hop, trace.hops)),
        confirmation=trace.confirmation and _rounded_hop(trace.confirmation),
        duplicates=0,
    )


def _rounded_hop(hop: Hop) -> Hop:
    return replace(hop, answers=tuple(map(_rounded, hop.answers)))


def _rounded(answer: Answer) -> Answer:
    probe, reply = answer
    reply = reply._replace(received_at=round(answer.rtt, 6), rewritten=(), mpls=(), quoted_ttl=None)
    return Answer(probe._replace(sent_at=0.0), reply)


OPEN, FILTERED = samples.opened(), samples.filtered()
BLOCKED = record_of(OPEN, FILTERED, FILTERED)


# -- there and back --------------------------------------------------------------------


def test_the_last_good_trace_survives() -> None:
    """Its hops, responders and round trips are those of before, and its age."""
    again = restarted(BLOCKED)
    (known,) = again.known.values()
    assert known == Known(33434, rounded(OPEN.trace))
    assert known.last_good
    assert known.last_good.started_at == samples.STARTED_AT


@pytest.mark.parametrize("kind", [samples.varied, samples.several, samples.rejected])
def test_every_kind_of_trace_survives(kind: Any) -> None:
    """Silence, several responders, ICMP errors and confirmations."""
    record = record_of(OPEN, kind())
    again = restarted(record)
    for now, before in (
        (again.last_good, record.last_good),
        (again.first_bad, record.first_bad),
    ):
        assert (now is None) is (before is None)
        if now and before:
            assert now.trace == rounded(before.trace)
            assert now.verdict == before.verdict


def test_last_good_and_first_bad_survive() -> None:
    """With verdict, time and address; what is known of the addresses is found anew."""
    again = restarted(BLOCKED)
    for now, before in (
        (again.last_good, BLOCKED.last_good),
        (again.first_bad, BLOCKED.first_bad),
    ):
        assert now
        assert before
        assert (now.verdict, now.started_at) == (before.verdict, before.started_at)
        assert (now.target, now.address, now.places) == (TARGET, before.address, PLACES)


def test_history_path_and_its_change_survive() -> None:
    """What the state was and since when; the routers of the way and the last that changed."""
    other = replace(FILTERED, trace=None)
    record = record_of(OPEN, other, OPEN, other, OPEN, other, samples.varied())
    again = restarted(record)
    assert again.history.phases == record.history.phases
    assert again.history.flapping is record.history.flapping is True
    assert again.history.penalty == pytest.approx(record.history.penalty, abs=0.001)
    assert again.known_paths == record.known_paths
    assert again.path_change == record.path_change


def test_counters_begin_anew() -> None:
    """Prometheus expects a counter of a new process at 0."""
    again = restarted(BLOCKED)
    assert (again.traces, again.path_changes, again.history.changes) == (0, 0, 0)
    assert again.latest is None


def test_the_sentence_is_the_same_after_a_restart() -> None:
    """Still blocked after a restart, the change is told as before."""
    again = restarted(BLOCKED)
    for record in (BLOCKED, again):
        record.latest = at(FILTERED, 240)
    assert change_words(again) == change_words(BLOCKED)
    assert again.history.since == samples.STARTED_AT + 60


def test_what_was_open_when_the_process_ended_is_the_last_good_one() -> None:
    """A block that begins while nobody looks is told beside it."""
    store = samples.store(waiting=[TARGET])
    record = store.get(TARGET.name)
    assert record
    kept = decoded(json.loads(text_of(keep(record_of(OPEN, OPEN)))))
    restore(record, kept, lambda _: PLACES)
    change = store.add(at(FILTERED, 3600))
    assert (change.first, change.phase) == (True, True)
    assert change_words(record).startswith("Open until 00:01:00 UTC via ... 10.9.5.2, 10.9.6.2")
    assert "since 01:00:00 UTC filtered after hop 6 (10.9.5.2)" in change_words(record)


def test_a_target_without_a_trace_survives() -> None:
    """One that waits for its first trace is written and read as well."""
    record = restarted(Record(TARGET))
    assert (record.last_good, record.known, record.history.phases) == (None, {}, ())


def test_a_trace_that_two_refer_to_is_written_once() -> None:
    """The last good trace of a target is that of its address."""
    made: Any = encoded(keep(record_of(OPEN)), 8)
    assert len(made["traces"]) == 1
    assert (made["known"][0][2], made["last_good"]["trace"]) == (0, 0)


def test_it_is_published_as_before() -> None:
    """Pages and API have words for everything that comes from the file."""
    again = restarted(record_of(samples.varied(), samples.several()))
    assert again.last_good
    assert render_trace(again.last_good)
    assert to_json(record_object(again))
    assert to_json(observation_object(again.last_good))


# -- bounds ----------------------------------------------------------------------------


def test_an_ordinary_target_is_small() -> None:
    """The figure of docs/configuration.md: about 2 kB open and 5 kB blocked, over 12 hops."""
    assert 1_000 < len(text_of(keep(record_of(OPEN)))) < 2_500
    assert 2_500 < len(text_of(keep(BLOCKED))) < 5_500


def wide(addresses: int, hops: int) -> Record:
    """A target of which much is known: each of its addresses over so many hops."""
    record = record_of(OPEN, FILTERED)
    for number in range(addresses):
        made = replace(samples.trace(samples.routers(hops), OPEN.trace.stop_reason))  # type: ignore[union-attr]
        record.known[f"2001:db8::{number:x}"] = Known(1, made)
    return record


def test_a_target_that_needs_too_much_room_loses_addresses_first() -> None:
    """Those traced last stay, as many as there is room for."""
    assert len(decoded(json.loads(text_of(keep(wide(16, 12))))).known) == MAX_ADDRESSES
    less = decoded(json.loads(text_of(keep(wide(16, 60)))))
    assert [address for address, _ in less.known] == ["2001:db8::f"]
    assert less.last_good


def test_a_target_that_still_needs_too_much_keeps_its_history() -> None:
    """Where not even one trace fits, what the state was remains."""
    record = wide(1, 12)
    verdict = replace(FILTERED.verdict, evidence=("☃" * 300,) * 32)
    record.first_bad = replace(FILTERED, verdict=verdict)
    text = text_of(keep(record))
    assert len(text) <= MAX_TARGET_BYTES
    kept = decoded(json.loads(text))
    assert (kept.last_good, kept.known) == (None, ())
    assert kept.history.phases == record.history.phases


def test_what_does_not_fit_at_all_is_left_out() -> None:
    """Nothing is written of a target whose history alone is too long."""
    phase = replace(BLOCKED.history.phases[0], reason="☃" * 40_000)
    history = replace(BLOCKED.history, phases=(phase,))
    assert text_of(replace(keep(BLOCKED), history=history)) == ""


# -- hostile values --------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**300, max_value=10**310)
    | st.floats(allow_nan=True)
    | st.text(max_size=20)
    | st.sampled_from(["10.9.5.2", "open", "rst", "::1%eth0", "999.1.1.1", 0, 1, -1, 2**70]),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5)
    ),
    max_leaves=12,
)


def valid() -> Any:
    """A target as the file has it."""
    return json.loads(text_of(keep(record_of(OPEN, samples.varied(), FILTERED))))


def places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value within."""
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    return [here, *(place for key, one in inner for place in places(one, (*here, key)))]


def changed(value: Any, place: tuple[Any, ...], other: Any) -> Any:
    """The value with another one at that place."""
    if not place:
        return other
    key, *rest = place
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[key] = changed(value[key], tuple(rest), other)
    return copy


PLACES_WITHIN = places(valid())


def use(kept: Kept) -> None:
    """Do with it what the program would: restore, judge, trace on, tell of it."""
    store = samples.store(waiting=[TARGET])
    record = store.get(TARGET.name)
    assert record
    restore(record, kept, ZoneMap(()).places_of)
    bad = at(FILTERED, 3600)
    for known in record.known.values():
        judge(bad.trace, zones=ZoneMap(()), last_good=known.last_good)
    store.add(bad)
    change_words(record)
    assert to_json(record_object(record)).isascii()
    for one in (record.last_good, record.first_bad):
        if one:
            render_trace(one)


def try_to_use(value: object) -> None:
    """Whatever the value is, it is refused in the agreed way, or can be used."""
    try:
        kept = decoded(value)
    except (ValueError, KeyError, TypeError):
        return
    use(kept)


@given(st.sampled_from(PLACES_WITHIN), JSON)
def test_any_value_at_any_place_is_refused_or_usable(place: tuple[Any, ...], other: Any) -> None:
    """One wrong value, wherever it stands, kills nobody."""
    try_to_use(changed(valid(), place, other))


@given(JSON)
def test_foreign_values_are_refused(value: Any) -> None:
    """What was never a state is refused."""
    with pytest.raises((ValueError, KeyError, TypeError)):
        decoded(value)


@given(st.sampled_from(PLACES_WITHIN), st.sampled_from(PLACES_WITHIN))
def test_values_in_each_others_places_are_refused_or_usable(
    place: tuple[Any, ...], other: tuple[Any, ...]
) -> None:
    """Right values at wrong places kill nobody, either."""
    original = found = valid()
    for key in other:
        found = found[key]
    try_to_use(changed(original, place, found))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("port",), 70_000),
        (("port",), True),
        (("host",), "h" * 1_001),
        (("history", "phases", 0, 1), -1),
        (("history", "phases", 0, 1), float("nan")),
        (("history", "phases", 0, 1), 10**400),
        (("history", "phases", 0, 0), "broken"),
        (("history", "flapping"), 1),
        (("known", 0, 0), "10.9.5"),
        (("known", 0, 0), "fe80::1%eth0"),
        (("known", 0, 2), 7),
        (("known", 0, 2), -1),
        (("known",), [["10.9.5.2", 1, None]] * 65),
        (("traces", 0, "hops"), [[1]] * 65),
        (("traces", 0, "hops", 0), [0, ["10.9.5.2", "rst", None, None, 1, 0.1]]),
        (("traces", 0, "hops", 0), [3, ["10.9.5.2", "rst", None, None, 1, 0.1, 1, 0.2]]),
        (("traces", 0, "hops", 0), [3, ["10.9.5.2", "rst", None, 256, 1, 0.1]]),
        (("traces", 0, "hops", 0), [3, ["10.9.5.2", "rst", [3], None, 1, 0.1]]),
        (("traces", 0, "hops", 0), [3, ["10.9.5.2", "rst", None, None, 1, -0.1]]),
        (("traces", 0, "hops", 0), [3, ["10.9.5.2", "rst", None, None, 1]]),
    ],
)
def test_values_out_of_bounds_are_refused(place: tuple[Any, ...], value: object) -> None:
    """Numbers, texts, lists and references are held to their bounds."""
    decoded(valid())
    with pytest.raises(ValueError):  # noqa: PT011  -- each check has its own words
        decoded(changed(valid(), place, value))


def test_the_levels_end_with_nothing_but_the_history() -> None:
    """The last resort of a target that is too large has no trace."""
    made: Any = encoded(keep(BLOCKED), ADDRESSES[-1])
    assert (made["traces"], made["known"], made["paths"]) == ([], [], [])
