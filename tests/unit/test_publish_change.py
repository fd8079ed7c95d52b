"""What has changed at a target, as people and scripts are told."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from exporter.history import LONGEST
from exporter.model import Observation, State, Trace
from exporter.publish.change import (
    change_object,
    change_words,
    flapping_object,
    flapping_words,
    history_object,
    news,
    path_object,
    path_words,
)
from exporter.store import Change, Record, Store
from tests.unit import samples

TARGET = samples.target("web")
DAY = 86_400.0


def at(observation: Observation, seconds: float) -> Observation:
    """The observation, of the one target, so long after midnight."""
    return replace(observation, target=TARGET, started_at=samples.STARTED_AT + seconds)


OPEN, CLOSED, FILTERED, REJECTED, FAILED, UNRESOLVED = (
    at(kind, 0)
    for kind in (
        samples.opened(),
        samples.closed(),
        samples.filtered(),
        samples.rejected(),
        samples.refused_by_host(),
        samples.unresolved(),
    )
)


def record_of(*observations: Observation) -> Record:
    """What a store remembers of them, a minute apart."""
    store = samples.store(*(at(one, 60 * n) for n, one in enumerate(observations)))
    record = store.get(TARGET.name)
    assert record
    return record


def rerouted(observation: Observation, **routers: str) -> Observation:
    """The same with other routers; `hop4` is that of hop 4."""
    made = observation.trace
    assert made

    def moved(hop_number: int, address: str) -> str:
        return routers.get(f"hop{hop_number}", address)

    hops = tuple(
        replace(
            hop,
            answers=tuple(
                a._replace(reply=a.reply._replace(address=moved(hop.ttl, a.reply.address)))
                for a in hop.answers
            ),
        )
        for hop in made.hops
    )
    return replace(observation, trace=replace(made, hops=hops))


def toward(address: str, observation: Observation) -> Observation:
    """The same of another address."""
    made = observation.trace
    assert made
    moved: Trace = replace(made, flow=made.flow._replace(destination=address))
    return replace(observation, address=address, trace=moved)


# -- the sentence ----------------------------------------------------------------------

VIA = "via ... 10.9.5.2, 10.9.6.2, 10.9.7.2, 10.9.8.2 ... (12 hops)"
#: Where there is no block, from the first hop on.
FROM_HERE = "via 10.9.0.2, 10.9.1.2, 10.9.2.2, 10.9.3.2 ... (12 hops)"
DROPPED = "filtered after hop 6 (10.9.5.2)"
REFUSED = "rejected at hop 6 by 10.9.5.2"
SAME = "up to hop 6 the way is the same"
REROUTED = rerouted(FILTERED, hop5="192.0.2.5")


@pytest.mark.parametrize(
    ("observations", "sentence"),
    [
        ((OPEN, OPEN), ""),
        (
            (OPEN, OPEN, FILTERED, FILTERED),
            f"Open until 00:01:00 UTC {VIA}, since 00:02:00 UTC {DROPPED}; {SAME}.",
        ),
        (
            (OPEN, REJECTED),
            f"Open until 00:00:00 UTC {VIA}, since 00:01:00 UTC {REFUSED}; {SAME}.",
        ),
        (
            (FILTERED, OPEN),
            (
                "Filtered until 00:00:00 UTC after hop 6 (10.9.5.2), since 00:01:00 UTC open "
                "12 hops away."
            ),
        ),
        (
            (OPEN, CLOSED),
            f"Open until 00:00:00 UTC {FROM_HERE}, since 00:01:00 UTC closed 12 hops away.",
        ),
        (
            (OPEN, FILTERED, REJECTED),
            (
                "Filtered until 00:01:00 UTC after hop 6 (10.9.5.2), since 00:02:00 UTC "
                f"{REFUSED}; {SAME}; last open 00:00:00 UTC {VIA}."
            ),
        ),
        (
            (OPEN, UNRESOLVED, UNRESOLVED),
            f"Open until 00:00:00 UTC {FROM_HERE}, since 00:01:00 UTC unresolved.",
        ),
        (
            (OPEN, FAILED, FAILED, FILTERED),
            (
                f"Not measured until 00:02:00 UTC, since 00:03:00 UTC {DROPPED}; {SAME}; last open "
                f"00:00:00 UTC {VIA}."
            ),
        ),
        (
            (OPEN, FILTERED, FAILED),
            (
                f"Open until 00:00:00 UTC {VIA}, since 00:01:00 UTC {DROPPED}; {SAME}; the latest "
                "trace is not measured."
            ),
        ),
        (
            (OPEN, REROUTED),
            (
                f"Open until 00:00:00 UTC {VIA}, since 00:01:00 UTC {DROPPED}; the way is another "
                "one: hop 5: 10.9.4.2 -> 192.0.2.5."
            ),
        ),
        (
            (OPEN, toward("10.9.11.3", FILTERED)),
            (
                f"Open until 00:00:00 UTC {VIA}, since 00:01:00 UTC {DROPPED}; the address is "
                "10.9.11.3 and was 10.9.11.2."
            ),
        ),
    ],
)
def test_a_change_is_told_in_one_sentence(
    observations: tuple[Observation, ...], sentence: str
) -> None:
    """What was, until when and via whom; what is, since when; and whether the way is the same."""
    assert change_words(record_of(*observations)) == sentence


def test_an_interception_is_told_as_a_change() -> None:
    """A proxy that steps in is named by its hop."""
    verdict = replace(OPEN.verdict, state=State.INTERCEPTED, last_reachable_hop=3)
    words = change_words(record_of(OPEN, replace(OPEN, verdict=verdict)))
    assert words.startswith("Open until 00:00:00 UTC via ... 10.9.2.2, 10.9.3.2, ")
    assert "since 00:01:00 UTC intercepted at hop 3" in words


def test_a_block_of_one_path_is_told_as_such() -> None:
    """The number of paths that are blocked stands in the sentence."""
    verdict = replace(FILTERED.verdict, flows=4, flows_blocked=1)
    words = change_words(record_of(OPEN, replace(FILTERED, verdict=verdict)))
    assert "filtered after hop 6 (10.9.5.2) on 1 of 4 paths" in words


def test_an_address_is_compared_with_itself() -> None:
    """Of several addresses the good trace of the one that fails is shown."""
    one, two = toward("10.9.11.3", OPEN), OPEN
    bad = toward("10.9.11.3", FILTERED)
    good_one = rerouted(one, hop7="192.0.2.7")
    record = record_of(
        replace(two, each=(two, good_one)),
        replace(bad, each=(bad, two)),
        replace(bad, each=(bad, two)),
    )
    assert "via ... 10.9.5.2, 192.0.2.7, " in change_words(record)
    assert "up to hop 6 the way is the same" in change_words(record)


def test_times_of_another_day_bear_their_date() -> None:
    """Today is the day of the latest trace."""
    store = samples.store(at(OPEN, 0), at(FILTERED, DAY), at(FILTERED, 2 * DAY))
    record = store.get(TARGET.name)
    assert record
    words = change_words(record)
    assert words.startswith("Open until 2026-01-01 00:00:00 UTC via ")
    assert "since 2026-01-02 00:00:00 UTC filtered" in words


def test_many_hops_that_differ_are_counted() -> None:
    """The first ones stand there, the others are a number."""
    other = {f"hop{n}": f"192.0.2.{n}" for n in range(1, 7)}
    words = change_words(record_of(OPEN, rerouted(FILTERED, **other)))
    assert "hop 4: 10.9.3.2 -> 192.0.2.4 and 2 more." in words
    assert "hop 5:" not in words


# -- for scripts -----------------------------------------------------------------------


def test_a_script_finds_the_same_in_fields() -> None:
    """States, times and both paths; the sentence beside them."""
    record = record_of(OPEN, OPEN, FILTERED)
    made = json.loads(json.dumps(change_object(record)))
    assert {key: made[key] for key in ("state", "since", "was", "was_until", "sentence")} == {
        "state": "filtered",
        "since": "2026-01-01T00:02:00.000Z",
        "was": "open",
        "was_until": "2026-01-01T00:01:00.000Z",
        "sentence": change_words(record),
    }
    assert made["last_good_path"][6] == {"hop": 7, "addresses": ["10.9.6.2"]}
    assert [hop["hop"] for hop in made["first_bad_path"]] == [1, 2, 3, 4, 5, 6]


def test_without_a_change_there_is_no_object() -> None:
    """null, as long as the first state lasts."""
    record = record_of(OPEN, FAILED, OPEN)
    assert change_object(record) is None
    assert history_object(record) == []


def test_after_a_block_its_path_is_gone() -> None:
    """A change to open has a good path and no bad one."""
    made = change_object(record_of(FILTERED, OPEN))
    assert made
    assert made["first_bad_path"] == []
    assert len(json.loads(json.dumps(made["last_good_path"]))) == samples.DISTANCE


def test_the_history_has_the_last_change_first() -> None:
    """Each with its states, its times and its reason in short."""
    first, second = history_object(record_of(OPEN, FILTERED, OPEN))[::-1]
    assert first == {
        "at": "2026-01-01T00:01:00.000Z",
        "from": "open",
        "to": "filtered",
        "was_until": "2026-01-01T00:00:00.000Z",
        "reason": "after hop 6 (10.9.5.2)",
    }
    assert (second["from"], second["to"], second["reason"]) == ("filtered", "open", "12 hops away")


def test_a_change_of_path_is_told() -> None:
    """Hop, before, after and when; for scripts in fields."""
    record = record_of(OPEN, rerouted(OPEN, hop5="10.9.7.9"))
    assert path_words(record) == "hop 5: 10.9.4.2 -> 10.9.7.9 at 00:01:00 UTC"
    assert path_object(record) == {
        "at": "2026-01-01T00:01:00.000Z",
        "hops": [{"hop": 5, "before": ["10.9.4.2"], "after": ["10.9.7.9"]}],
    }
    assert (path_words(record_of(OPEN)), path_object(record_of(OPEN))) == ("", None)


# -- flapping --------------------------------------------------------------------------


def test_flapping_is_told_with_its_number_of_changes() -> None:
    """How many, in how long, between which states; nothing of a target that is steady."""
    record = record_of(*(OPEN, FILTERED) * 3)
    assert flapping_words(record) == (
        "flapping: 5 changes in the last 30 minutes between open and filtered"
    )
    assert flapping_object(record) == {
        "changes": 5,
        "seconds": 60 * LONGEST,
        "between": ["open", "filtered"],
    }
    steady = record_of(OPEN, FILTERED, OPEN)
    assert (flapping_words(steady), flapping_object(steady)) == ("", None)


@pytest.mark.parametrize(
    ("interval", "words"),
    [(1, "30 seconds"), (5, "2 minutes"), (60, "30 minutes"), (900, "8 hours")],
)
def test_the_time_is_told_in_its_unit(interval: float, words: str) -> None:
    """The time in which changes are counted follows from the target's interval."""
    record = record_of(*(OPEN, FILTERED) * 3)
    record.target = replace(TARGET, interval=interval)
    assert f"in the last {words} between" in flapping_words(record)


# -- news for the log ------------------------------------------------------------------


def told(store: Store, *observations: Observation) -> list[tuple[str, ...]]:
    """The news of each observation."""
    record = store.get(TARGET.name)
    assert record
    return [news(record, store.add(one)) for one in observations]


def test_the_log_is_told_each_change_once() -> None:
    """A change of state or of path has a line; the same again has none."""
    lines = told(
        samples.store(OPEN), OPEN, at(FILTERED, 60), at(FILTERED, 120), rerouted(OPEN, hop5="::5")
    )
    assert [len(line) for line in lines] == [0, 1, 0, 2]
    assert lines[1][0].startswith("Open until 00:00:00 UTC via ")
    assert lines[3][1].startswith("another path, hop 5: 10.9.4.2 -> ::5 at ")


def test_the_log_is_told_when_flapping_begins_and_ends() -> None:
    """One line each, and none for the changes in between."""
    takes_turns = [at(one, 60 * n) for n, one in enumerate((FILTERED, OPEN) * 3, start=1)]
    lines = told(samples.store(OPEN), *takes_turns, *[at(OPEN, 420)] * LONGEST)
    assert [len(line) for line in lines[:6]] == [1, 1, 1, 1, 0, 0]
    assert lines[3][0].startswith("flapping: 4 changes in the last 30 minutes between open and ")
    (end,) = (line for line in lines[6:] if line)
    assert end == ("no longer flapping; its changes are logged again",)


def test_no_change_is_no_news() -> None:
    """What arrives for a target that was removed meanwhile is not told."""
    assert news(record_of(OPEN, FILTERED), Change()) == ()
