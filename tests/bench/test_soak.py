"""The soak runs, and would notice: what grows, what is wrong, what is old."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from exporter.model import Location, State
from tests.bench import soak_real
from tests.bench.soak import growth, part_of
from tests.bench.soak_virtual import EPOCH, Findings, Levels, Published, Size, _by_target, _Soak
from tests.bench.soak_world import (
    CHANGING,
    DETOUR_HOPS,
    NEAR_HOP,
    NEAR_ROUNDS,
    SHARED_HOPS,
    Fate,
    Timetable,
    destination,
)
from tests.lab.tun import ROOT

SMALL = Size(targets=12, guests=4, rounds=4, round_seconds=300.0)
HOURLY = Timetable(3600.0)
LEVELS = Levels(
    blocks=100_000,
    resident=60.0,
    descriptors=15,
    tasks=5,
    threads=3,
    series=1_000,
    processor_seconds=1.0,
)
METRICS = f"""\
# HELP egress_state 1 for the target's current state, 0 for each other one.
egress_state{{target="t2",state="open"}} 0.0
egress_state{{target="t2",state="filtered"}} 1.0
egress_blocked{{target="t2",location="none"}} 0.0
egress_blocked{{target="t2",location="external"}} 1.0
egress_blocked_at_hop{{target="t2"}} 7.0
egress_suspect_hop_first{{target="t2"}} 6.0
egress_suspect_hop_last{{target="t2"}} 7.0
egress_hop_info{{target="t2",hop="3",address="10.9.2.2",zone="platform",name=""}} 1.0
egress_last_trace_timestamp_seconds{{target="t2"}} {EPOCH + 100}
egress_last_trace_duration_seconds{{target="t2"}} 8.5
egress_target_info{{target="t3",host="10.20.12.13",port="443"}} 1.0
egress_targets_configured 4.0
"""


def soaking() -> _Soak:
    """A soak that has not begun; what is judged of one target needs no more."""
    made = _Soak.__new__(_Soak)
    made._findings, made._timetable = Findings(), HOURLY
    return made


@pytest.mark.alone
def test_twenty_simulated_minutes() -> None:
    """Blocks, detours, another shared router, guests: every verdict is right and nothing grows."""
    code = (
        "from tests.bench.soak import part_of; from tests.bench.soak_virtual import Size, soak; "
        f"size = {SMALL}; print(part_of(size, soak(size, print)).render())"
    )
    # A process of its own: its clock is not the others'.
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    assert "MISSED" not in done.stdout, done.stdout
    assert "wrong verdicts: 0 of at most 0: met" in done.stdout


@pytest.mark.alone
def test_a_real_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real soak reads memory, descriptors, threads, CPU and verdicts of a running service."""
    monkeypatch.setattr(soak_real, "TARGETS", 4)
    monkeypatch.setattr(soak_real, "INTERVAL", 5)
    monkeypatch.setattr(soak_real, "MINUTE", 10.0)
    said: list[str] = []
    (minute,) = soak_real.soak(1, said.append)
    assert minute.score.verdicts == 4
    assert minute.resident > 10
    assert min(minute.descriptors, minute.threads) >= 1
    assert said[0] == minute.line


# -- what it would notice --------------------------------------------------------------


def test_metrics_are_read_by_target() -> None:
    """The scrape's lines become one value a target; one that was never traced is there, too."""
    found = _by_target(METRICS)
    assert found["t2"].verdict == ("filtered", "external", 7, (6, 7))
    assert (found["t2"].began, found["t2"].ended) == (91.5, 100)
    assert found["t2"].hops == {3: "10.9.2.2"}
    assert found["t3"] == Published()
    assert found.keys() == {"t2", "t3"}


def test_a_right_verdict_counts() -> None:
    """What is published agrees with the timetable, hop for hop."""
    made = soaking()
    made._judge_one(2, _by_target(METRICS)["t2"])
    assert (made._findings.right, made._findings.wrong.total()) == (1, 0)
    assert not made._findings.wrong_hops


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": "open"},
        {"location": "platform"},
        {"blocked_at_hop": 6},
        {"first_suspect": 5},
        {"last_suspect": 8},
    ],
    ids=str,
)
def test_a_wrong_verdict_is_noticed(wrong: dict[str, object]) -> None:
    """Each part of it has to be right."""
    made = soaking()
    made._judge_one(2, replace(_by_target(METRICS)["t2"], **wrong))  # type: ignore[arg-type]
    assert (made._findings.right, made._findings.wrong.total()) == (0, 1)


def test_a_router_that_stands_there_no_more_is_noticed() -> None:
    """An address at a hop has to be the present one."""
    made = soaking()
    one = _by_target(METRICS)["t2"]
    made._judge_one(2, replace(one, hops={NEAR_HOP: "10.9.2.3"}))
    assert made._findings.wrong_hops.total() == 1


def test_a_verdict_on_a_changing_path_is_not_judged() -> None:
    """A trace that overlaps a change may say either."""
    made = soaking()
    changed_at = 0.2 * HOURLY.round_seconds
    one = Published(state="open", ended=changed_at + 1, duration=2.0)
    made._judge_one(CHANGING, one)
    assert not made._findings.wrong
    assert not made._findings.right


@pytest.mark.parametrize("name", ["blocks", "resident", "descriptors", "tasks", "threads"])
def test_growth_is_noticed(name: str) -> None:
    """What grows from one round to the next misses its goal."""
    levels = [
        replace(LEVELS, **{name: round(getattr(LEVELS, name) * (1 + number / 2))})
        for number in range(8)
    ]
    missed = [
        goal.text for goal in part_of(SMALL, Findings(levels)).goals if goal.measured > goal.bound
    ]
    assert len(missed) == 1


def test_what_is_flat_meets_every_goal() -> None:
    """The first quarter may do what it likes: caches fill."""
    levels = [replace(LEVELS, blocks=1, resident=1.0)] * 2 + [LEVELS] * 6
    part = part_of(SMALL, Findings(levels))
    assert all(goal.measured <= goal.bound for goal in part.goals)
    assert growth(levels, ["blocks"]) == {"blocks": (100_000, 100_000)}


def test_mistakes_are_told() -> None:
    """The commonest mistakes stand under the table."""
    found = Findings([LEVELS], wrong=Counter({"t1: open for closed": 3}))
    assert "3 x t1: open for closed" in part_of(SMALL, found).render()


# -- the timetable ---------------------------------------------------------------------


def test_a_quarter_each() -> None:
    """While nothing changes the four fates are even."""
    assert Counter(HOURLY.fate(number, 60.0) for number in range(100)) == dict.fromkeys(Fate, 25)


def test_blocks_come_and_go() -> None:
    """What is open is dropped for a while, and what is rejected is closed."""
    fates = [HOURLY.fate(0, minute * 60.0) for minute in range(60)]
    assert Counter(fates) == {Fate.OPEN: 42, Fate.DROPPED: 18}
    assert HOURLY.fate(3, 7 * 3600 + 1000) is Fate.CLOSED


def test_shared_routers_are_everybodys() -> None:
    """The first hops are the same on all paths, the others on none; the destination stays."""
    one, other = HOURLY.way(1, 0.0), HOURLY.way(205, 0.0)
    same = [one.address(hop) == other.address(hop) for hop in range(1, one.hops + 1)]
    assert same == [hop <= SHARED_HOPS for hop in range(1, one.hops + 1)]
    moved = HOURLY.way(1, NEAR_ROUNDS * 3600.0)
    assert moved.address(NEAR_HOP) != one.address(NEAR_HOP)
    assert {destination(1), moved.destination, one.destination} == {destination(1)}


def test_detours() -> None:
    """A path goes by other routers for a round, at two hops."""
    before, after = HOURLY.way(0, 0.0), HOURLY.way(0, 3600.0)
    other = [hop for hop in range(1, 13) if before.address(hop) != after.address(hop)]
    assert tuple(other) == DETOUR_HOPS


def test_truths_are_states_that_exist() -> None:
    """Open and closed are not blocked, the others are, outside."""
    blocked = {fate.truth.state for fate in Fate if fate.truth.location is Location.EXTERNAL}
    assert blocked == {State.FILTERED, State.REJECTED}
