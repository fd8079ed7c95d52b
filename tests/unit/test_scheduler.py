"""When traces run, how many at once, and that none disturbs another; in virtual time."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model import Target
from exporter.schedule.asking import BURST, PAUSE, SPACING, Allowance
from exporter.schedule.cadence import (
    FIRST_ROUND_SPACING,
    Cadence,
    early_spacing,
    early_tick,
    first_spacing,
    joining,
    places_between,
)
from exporter.schedule.lateness import Lateness
from exporter.schedule.scheduler import Scheduler
from tests.unit import virtual

INTERVAL = 60.0
HOUR = 3600.0

intervals = st.floats(1, 3600)
times = st.floats(0, 1e6)


def targets(count: int, interval: float = INTERVAL) -> list[Target]:
    """So many targets, named t0, t1 and so on."""
    return [Target(f"t{n}", f"10.9.5.{n}", 443, interval=interval) for n in range(count)]


# -- cadence ---------------------------------------------------------------------------


def spread(count: int, interval: float = INTERVAL, start: float = 0.0) -> list[Cadence]:
    """The cadences of so many targets that begin together."""
    return joining((), count, interval, start, first_spacing(interval, count))


def gaps(phases: Iterable[float]) -> list[float]:
    """The distances between neighbours on a circle of length 1."""
    ascending = sorted(phases)
    return [end - begin for begin, end in pairwise([*ascending, *(at + 1 for at in ascending[:1])])]


@given(intervals, st.integers(1, 100), st.data())
def test_ticks_keep_their_interval(interval: float, count: int, data: st.DataObject) -> None:
    """After the first round every tick is an interval after the one before."""
    cadence = spread(count, interval, 1000.0)[data.draw(st.integers(0, count - 1))]
    ticks = [cadence.first]
    for _ in range(4):
        ticks.append(cadence.next_tick(ticks[-1]))
    first_gap, *later_gaps = (later - sooner for sooner, later in pairwise(ticks))
    assert interval / 2 - 1e-6 <= first_gap <= interval * 1.5 + 1e-6
    assert later_gaps == pytest.approx([interval] * 3)


@given(intervals, times, times)
def test_a_tick_is_in_the_future(interval: float, phase: float, after: float) -> None:
    """The next tick is later than the time asked about, by less than two intervals."""
    tick = Cadence(phase, phase, interval).next_tick(after)
    assert after < tick < max(after, phase) + 2 * interval


@given(intervals, st.floats(0, 20))
def test_every_tick_is_either_kept_or_missed(interval: float, rounds: float) -> None:
    """What lies between two traces is counted, so that no tick is lost or counted twice."""
    cadence = Cadence(0.0, 0.0, interval)
    until = rounds * interval
    kept = cadence.next_tick(until)
    assert round(kept / interval) == cadence.missed(0.0, until) + 1


def test_targets_are_spread_over_the_interval() -> None:
    """In the long run no two of the targets tick together."""
    ticks = sorted(cadence.next_tick(1000) for cadence in spread(20))
    assert [later - sooner for sooner, later in pairwise(ticks)] == pytest.approx([3.0] * 19)


def test_the_first_round_is_quick_and_no_burst() -> None:
    """A few targets do not wait for their part of the interval, and do not start together."""
    assert [cadence.first for cadence in spread(4)] == [n * FIRST_ROUND_SPACING for n in range(4)]
    assert spread(100)[-1].first < INTERVAL


@given(st.lists(st.floats(0, 1, exclude_max=True), max_size=20), st.integers(0, 50))
def test_who_comes_later_parts_the_widest_gaps(taken: list[float], count: int) -> None:
    """No newcomer stands closer to a neighbour than half of the widest gap that is left."""
    places = places_between(taken, count)
    assert len(places) == count
    everybody = [*taken, *places]
    widest = max(gaps(everybody), default=0)
    for place in places:
        others = [abs(place - other) for other in everybody if other != place]
        assert all(min(away, 1 - away) >= widest / 2 - 1e-9 for away in others)


@pytest.mark.parametrize("count", [1, 3, 7, 100])
def test_gaps_are_parted_evenly(count: int) -> None:
    """Who joins an even circle leaves no gap more than twice as wide as another."""
    taken = places_between((), 10)
    found = gaps([*taken, *places_between(taken, count)])
    assert max(found) <= 2 * min(found) + 1e-9


def test_a_gap_that_others_have_left_is_filled_first() -> None:
    """Half of the circle is empty, and all the newcomers go there."""
    left = [n / 20 for n in range(10)]
    assert sorted(places_between(left, 10)) == pytest.approx(
        [0.45 + 0.55 * part / 11 for part in range(1, 11)]
    )


# -- looking again sooner --------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "interval", "early"),
    [
        (2.0, 60.0, 17.0),
        (44.0, 60.0, None),
        (0.5, 10.0, None),
        (0.0, 12.0, 5.0),
        (0.0, 3600.0, 900.0),
    ],
    ids=["a quarter", "the tick is near", "a short interval", "not at once", "a long interval"],
)
def test_what_has_just_failed_is_looked_at_again(
    now: float, interval: float, early: float | None
) -> None:
    """A quarter of the interval later, but no sooner than 5 s and no later than 5 s before."""
    assert early_tick(now, interval, interval, not_before=0.0) == early


def test_extra_ticks_keep_their_distance() -> None:
    """Where others have taken what there is, a later one has to do, or the ordinary tick."""
    assert early_tick(0.0, 60.0, 60.0, not_before=31.0) == 31.0
    assert early_tick(0.0, 60.0, 60.0, not_before=56.0) is None


@pytest.mark.parametrize(("count", "spacing"), [(1, 3.0), (80, 3.0), (1000, 0.24)])
def test_extra_ticks_are_a_quarter_of_the_others_at_most(count: int, spacing: float) -> None:
    """With few targets one in three seconds; with many, one for four ordinary ticks."""
    assert early_spacing([INTERVAL] * count) == pytest.approx(spacing)


# -- scheduler -------------------------------------------------------------------------


@dataclass
class Bench:
    """A scheduler, what it ran and skipped, and how long the traces of each target take."""

    durations: dict[str, float] = field(default_factory=dict)
    faults: set[str] = field(default_factory=set)
    #: Those of which each trace finds something that should be confirmed.
    failing: set[str] = field(default_factory=set)
    runs: list[tuple[str, float]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    running: set[str] = field(default_factory=set)
    most: int = 0
    concurrency: int = 10

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(self.trace, self.skip, self.concurrency)

    async def trace(self, target: Target) -> bool:
        """Take the target's time; at most one trace of it at once."""
        self.runs.append((target.name, virtual.now()))
        assert target.name not in self.running, "two traces of one target at once"
        self.running.add(target.name)
        self.most = max(self.most, len(self.running))
        try:
            await asyncio.sleep(self.durations.get(target.name, 0.0))
            if target.name in self.faults:
                raise RuntimeError("bug in the trace")
            return target.name in self.failing
        finally:
            self.running.remove(target.name)
            self.ended.append(target.name)

    def skip(self, name: str) -> None:
        """Count a skipped tick."""
        self.skipped[name] += 1

    def starts(self, name: str) -> list[float]:
        """When the traces of a target began."""
        return [at for who, at in self.runs if who == name]

    def lag(self) -> float:
        """How late the scheduler says that traces begin."""
        return self.scheduler.lag(asyncio.get_running_loop().time())

    async def work(self, seconds: float) -> None:
        """Let it run."""
        await asyncio.sleep(seconds)


def run(bench: Bench, wanted: list[Target], seconds: float) -> None:
    """Schedule targets for so many virtual seconds."""

    async def main() -> None:
        bench.scheduler.configure(wanted)
        await bench.work(seconds)
        await bench.scheduler.stop()

    virtual.run(main())


def test_every_target_runs_on_its_interval() -> None:
    """Each target is traced once an interval, also when a trace takes no time at all."""
    bench = Bench()
    run(bench, targets(4), 10 * INTERVAL)
    for n in range(4):
        starts = bench.starts(f"t{n}")
        assert len(starts) in (10, 11)
        assert all(b - a == pytest.approx(INTERVAL) for a, b in pairwise(starts[1:]))
    assert not bench.skipped


def test_intervals_of_their_own() -> None:
    """A target with a shorter interval is traced more often."""
    often, seldom = targets(2)
    bench = Bench()
    run(bench, [replace(often, interval=10.0), seldom], 300)
    assert len(bench.starts("t0")) == pytest.approx(30, abs=1)
    assert len(bench.starts("t1")) == pytest.approx(5, abs=1)


def test_targets_do_not_start_together() -> None:
    """The first traces keep their distance."""
    bench = Bench()
    run(bench, targets(10), INTERVAL / 2)
    assert [at for _, at in bench.runs] == pytest.approx(
        [n * FIRST_ROUND_SPACING for n in range(10)]
    )


def test_a_long_trace_skips_ticks() -> None:
    """Ticks that find the last trace still running are left out and counted."""
    bench = Bench(durations={"t0": 2.5 * INTERVAL})
    run(bench, targets(1), 9.1 * INTERVAL)
    assert bench.starts("t0") == pytest.approx([0, 3 * INTERVAL, 6 * INTERVAL, 9 * INTERVAL])
    assert bench.skipped["t0"] == 6


def test_so_many_at_once() -> None:
    """No more traces run at once than there are places, and everyone gets his turn."""
    names = [f"t{n}" for n in range(20)]
    bench = Bench(durations=dict.fromkeys(names, 20.0), concurrency=3)
    run(bench, targets(20), 5 * INTERVAL)
    assert bench.most == 3
    assert {name for name, _ in bench.runs} == set(names)


def test_a_target_that_never_ends_takes_one_place() -> None:
    """While one trace hangs the others go on."""
    bench = Bench(durations={"t0": 1e9}, concurrency=2)
    run(bench, targets(3), 5 * INTERVAL)
    assert bench.starts("t0") == [0]
    assert len(bench.starts("t1")) == pytest.approx(5, abs=1)
    assert len(bench.starts("t2")) == pytest.approx(5, abs=1)


def test_a_target_that_fails_is_traced_again(caplog: pytest.LogCaptureFixture) -> None:
    """A fault is logged, the target keeps its interval, and the others do not notice."""
    bench = Bench(faults={"t1"})
    run(bench, targets(3), 5 * INTERVAL)
    assert [len(bench.starts(f"t{n}")) for n in range(3)] == pytest.approx([5, 5, 5], abs=1)
    logged = {(record.levelno, record.getMessage()) for record in caplog.records}
    assert logged == {(logging.ERROR, "internal error in the cycle of 't1'")}


def test_a_new_list_of_targets() -> None:
    """Removed targets end, new ones begin, unchanged ones keep their rhythm."""
    gone, kept, added = targets(3)
    bench = Bench(durations={gone.name: 1e9})

    async def main() -> None:
        bench.scheduler.configure([gone, kept])
        await bench.work(1.5 * INTERVAL)
        assert bench.ended.count(gone.name) == 0
        bench.scheduler.configure([kept, added])
        await virtual.settle()
        assert bench.ended.count(gone.name) == 1
        await bench.work(4 * INTERVAL)
        await bench.scheduler.stop()

    virtual.run(main())
    assert len(bench.starts(gone.name)) == 1
    assert all(b - a == pytest.approx(INTERVAL) for a, b in pairwise(bench.starts(kept.name)[1:]))
    assert 1.5 * INTERVAL <= bench.starts(added.name)[0] <= 2.5 * INTERVAL


def test_a_changed_target_begins_anew() -> None:
    """A target with another port under the same name is another target."""
    (old,) = targets(1)
    new = replace(old, port=80)
    bench = Bench(durations={old.name: 30.0})

    async def main() -> None:
        bench.scheduler.configure([old])
        await bench.work(10)
        bench.scheduler.configure([new])
        await bench.work(10)
        await bench.scheduler.stop()

    virtual.run(main())
    assert bench.starts(old.name) == pytest.approx([0, 10])


def test_the_same_list_changes_nothing() -> None:
    """A reload of an unchanged file does not disturb a running trace."""
    bench = Bench(durations={"t0": 30.0})

    async def main() -> None:
        for _ in range(3):
            bench.scheduler.configure(targets(1))
            await bench.work(5)
        await bench.scheduler.stop()

    virtual.run(main())
    assert bench.starts("t0") == [0]


def test_stopping_is_immediate_and_clean() -> None:
    """Stop ends running traces without delay, waits for their clean-up, and starts no more."""
    bench = Bench(durations={"t0": 1e9, "t1": 1e9}, concurrency=1)

    async def main() -> None:
        bench.scheduler.configure(targets(2))
        await bench.work(INTERVAL)
        await bench.scheduler.stop()
        assert virtual.now() == INTERVAL
        assert bench.ended == ["t0"]
        assert not bench.running
        await bench.work(5 * INTERVAL)

    virtual.run(main())
    assert len(bench.runs) == 1


# -- many targets ----------------------------------------------------------------------


def test_a_thousand_targets_over_an_hour() -> None:
    """They are spread evenly over every second, in the first minute as later, and none is left out.

    A trace takes three seconds and there are twice as many places as that needs on average.
    """
    names = [f"t{n}" for n in range(1000)]
    bench = Bench(durations=dict.fromkeys(names, 3.0), concurrency=100)
    run(bench, targets(1000), HOUR)
    in_second = Counter(int(at) for _, at in bench.runs)
    share = 1000 / INTERVAL
    assert all(share / 2 <= in_second[second] <= 2 * share for second in range(int(HOUR)))
    assert set(Counter(name for name, _ in bench.runs).values()) <= {60, 61}
    assert not bench.skipped
    assert bench.most <= 60


def test_too_few_places_are_shared_evenly() -> None:
    """With places for two fifths of the traces, each target is traced every third time or so.

    None starves, none is traced more than a fifth more often than another, and what was left out
    is counted.
    """
    names = [f"t{n}" for n in range(200)]
    bench = Bench(durations=dict.fromkeys(names, 6.0), concurrency=8)
    run(bench, targets(200), HOUR)
    traced = Counter(name for name, _ in bench.runs)
    assert traced.total() == pytest.approx(HOUR / 6 * 8, rel=0.02)
    assert max(traced.values()) <= 1.2 * min(traced[name] for name in names)
    for name in names:
        waits = [later - sooner for sooner, later in pairwise(bench.starts(name))]
        assert max(waits) <= 4 * INTERVAL
        assert traced[name] + bench.skipped[name] == pytest.approx(HOUR / INTERVAL, abs=4)


def test_an_overload_is_seen_and_passes(caplog: pytest.LogCaptureFixture) -> None:
    """The lag grows to a round's length and no further, and is gone when traces are short again.

    The log says once that it begins and once that it is over.
    """
    caplog.set_level(logging.INFO)
    names = [f"t{n}" for n in range(200)]
    bench = Bench(durations=dict.fromkeys(names, 6.0), concurrency=8)
    lags = list[float]()

    async def main() -> None:
        bench.scheduler.configure(targets(200))
        for _ in range(30):
            await bench.work(INTERVAL)
            lags.append(bench.lag())
        bench.durations.clear()
        for _ in range(4):
            await bench.work(INTERVAL)
            lags.append(bench.lag())
        await bench.scheduler.stop()

    virtual.run(main())
    one_round = 200 * 6 / 8
    assert min(lags[2:30]) > INTERVAL / 2
    assert max(lags) <= one_round
    assert lags[-1] == pytest.approx(0, abs=1e-6)
    begun, over = (record.getMessage() for record in caplog.records)
    assert begun == (
        "overload: traces begin up to 30 s late, for all 8 places are taken, and some are skipped; "
        "`check` says what these targets need"
    )
    assert over == "the overload is over: traces begin in time"


def test_who_waits_behind_one_that_hangs_is_late() -> None:
    """The lag is that of who waits, and nobody has to begin for it to be seen."""
    bench = Bench(durations={"t0": 1e9}, concurrency=1)
    lags = list[float]()

    async def main() -> None:
        bench.scheduler.configure(targets(2))
        await bench.work(1.0)
        lags.append(bench.lag())
        await bench.work(999.0)
        lags.append(bench.lag())
        await bench.scheduler.stop()

    virtual.run(main())
    assert lags == pytest.approx([0, 1000 - FIRST_ROUND_SPACING])


def test_a_late_beginning_is_seen_for_a_minute() -> None:
    """A scrape that comes after the wait is over still sees it, and one much later does not."""
    lateness = Lateness()
    assert lateness.worst(0.0) == 0.0
    for late, now in ((5.0, 0.0), (9.0, 1.0), (2.0, 2.0)):
        lateness.began(late, now)
    assert [lateness.worst(now) for now in (2.0, 61.0, 61.5, 62.5)] == [9.0, 9.0, 2.0, 0.0]


# -- what has just failed --------------------------------------------------------------


def test_a_failing_target_is_traced_again_sooner_once() -> None:
    """A quarter of the interval after it was found, and then in its own rhythm again."""
    bench = Bench(durations={"t0": 2.0}, failing={"t0"})

    async def main() -> None:
        bench.scheduler.configure(targets(1))
        await bench.work(1.0)
        await bench.work(20.0)
        bench.failing.clear()
        await bench.work(5 * INTERVAL)
        await bench.scheduler.stop()

    virtual.run(main())
    assert bench.starts("t0") == pytest.approx([0, 17, 60, 120, 180, 240, 300])
    assert not bench.skipped


def test_a_target_that_goes_on_failing_anew_has_one_extra_trace_a_tick() -> None:
    """However often it finds something new, every other trace waits for its tick."""
    bench = Bench(durations={"t0": 2.0}, failing={"t0"})
    run(bench, targets(1), 3 * INTERVAL)
    assert bench.starts("t0") == pytest.approx([0, 17, 60, 77, 120, 137])


def test_an_outage_of_everything_adds_a_quarter() -> None:
    """A thousand targets that fail together get extra traces evenly, and the rest their ticks."""
    names = {f"t{n}" for n in range(1000)}
    bench = Bench(durations=dict.fromkeys(names, 3.0), concurrency=100)

    async def main() -> None:
        bench.scheduler.configure(targets(1000))
        await bench.work(2 * INTERVAL)
        bench.failing |= names
        await bench.work(INTERVAL)
        bench.failing.clear()
        await bench.work(INTERVAL)
        await bench.scheduler.stop()

    virtual.run(main())
    in_minute = Counter(int(at / INTERVAL) for _, at in bench.runs)
    in_second = Counter(int(at) for _, at in bench.runs)
    assert in_minute[1] == 1000
    assert 1100 <= in_minute[2] <= 1250
    assert max(in_second.values()) <= 1.5 * 1000 / INTERVAL
    assert not bench.skipped


def test_what_has_just_failed_does_not_wait_behind_the_others() -> None:
    """With too few places it is confirmed at once, and still everybody has a turn."""
    names = [f"t{n}" for n in range(100)]
    bench = Bench(durations=dict.fromkeys(names, 6.0), concurrency=4, failing={"t0"})
    run(bench, targets(100), HOUR)
    traced = Counter(name for name, _ in bench.runs)
    first, second, *_ = bench.starts("t0")
    assert second - first <= 6 + INTERVAL / 4 + 6
    others = [later - sooner for sooner, later in pairwise(bench.starts("t1"))]
    waits = [later - sooner for sooner, later in pairwise(bench.starts("t0"))]
    assert min(waits[5:]) < min(others[5:])
    assert traced["t0"] <= 2 * traced["t1"]
    assert min(traced[name] for name in names[1:]) >= 0.8 * max(traced[name] for name in names[1:])


# -- asked for -------------------------------------------------------------------------


@given(st.lists(st.floats(0, 10), max_size=100))
def test_no_way_of_asking_gives_more_than_the_allowance(pauses: list[float]) -> None:
    """In any span of time a burst, and one for each spacing in it."""
    allowance, now, taken = Allowance(), 1000.0, list[float]()
    for pause in pauses:
        now += pause
        if not allowance.wait(now):
            allowance.take(now)
            taken.append(now)
    for first, begin in enumerate(taken):
        for last, end in enumerate(taken[first:], first):
            assert last - first < BURST + (end - begin) / SPACING + 1e-6


def test_the_wait_is_as_long_as_it_says() -> None:
    """After a burst the next one is there when the time is over, and not before."""
    allowance = Allowance()
    for _ in range(BURST):
        assert allowance.wait(50.0) == 0
        allowance.take(50.0)
    assert allowance.wait(50.0) == SPACING
    assert allowance.wait(50.0 + SPACING) == 0
    assert allowance.wait(51.0) == SPACING - 1


def test_a_target_that_is_asked_for_is_traced_at_once_and_keeps_its_rhythm() -> None:
    """The trace comes on top, and the ticks stay where they were."""
    bench = Bench(durations={"t0": 2.0})

    async def main() -> None:
        bench.scheduler.configure(targets(1))
        await bench.work(80.0)
        assert bench.scheduler.now(targets(1)[0]) == 0
        await bench.work(2 * INTERVAL)
        await bench.scheduler.stop()

    virtual.run(main())
    assert bench.starts("t0") == pytest.approx([0, 60, 80, 120, 180])
    assert not bench.skipped


def test_a_tick_that_finds_what_was_asked_for_running_is_skipped() -> None:
    """It is counted, as behind any other trace."""
    bench = Bench(durations={"t0": 5.0})

    async def main() -> None:
        bench.scheduler.configure(targets(1))
        await bench.work(58.0)
        bench.scheduler.now(targets(1)[0])
        await bench.work(INTERVAL + 10)
        await bench.scheduler.stop()

    virtual.run(main())
    assert bench.starts("t0") == pytest.approx([0, 58, 120])
    assert bench.skipped["t0"] == 1


def test_what_was_asked_for_confirms() -> None:
    """It takes the place of the extra trace of a new failure, and may find one itself."""
    bench = Bench(failing={"t0"})

    async def main() -> None:
        bench.scheduler.configure(targets(1))
        await bench.work(10.0)
        bench.scheduler.now(targets(1)[0])
        await bench.work(60.0)
        bench.failing.clear()
        await bench.work(20.0)
        bench.failing.add("t0")
        bench.scheduler.now(targets(1)[0])
        await bench.work(25.0)
        await bench.scheduler.stop()

    virtual.run(main())
    assert bench.starts("t0") == pytest.approx([0, 10, 60, 75, 90, 105])


def test_who_runs_or_was_asked_for_is_under_way() -> None:
    """Asking again is answered alike, traces nothing a second time, and costs nothing."""
    bench = Bench(durations={"t0": 30.0, "t1": 30.0}, concurrency=1)
    running, waiting, *others = targets(10)

    async def main() -> None:
        bench.scheduler.configure([running, waiting, *others])
        await bench.work(1.0)
        answers = {bench.scheduler.now(one) for one in [running, waiting] * 50}
        assert answers == {0}
        assert [bench.scheduler.now(one) for one in others[:BURST]] == [0] * (BURST - 1) + [SPACING]
        await bench.work(40.0)
        await bench.scheduler.stop()

    virtual.run(main())
    assert bench.runs[:2] == [("t0", 0.0), ("t1", 30.0)]


def test_who_waits_for_a_place_gets_the_next_one() -> None:
    """Where all places are taken, who was asked for goes before those that wait for their tick."""
    names = [f"t{n}" for n in range(10)]
    bench = Bench(durations=dict.fromkeys(names, 40.0), concurrency=1)

    async def main() -> None:
        bench.scheduler.configure(targets(10))
        await bench.work(35.0)
        assert bench.scheduler.now(targets(10)[9]) == 0
        assert bench.lag() == pytest.approx(35 - FIRST_ROUND_SPACING)
        await bench.work(50.0)
        await bench.scheduler.stop()

    virtual.run(main())
    assert bench.runs == [("t0", 0.0), ("t9", 40.0), ("t1", 80.0)]
    assert bench.most == 1


def test_a_target_may_be_asked_for_again_after_a_pause() -> None:
    """Before that the answer is how long to wait, and no trace."""
    bench = Bench()
    (one,) = targets(1)

    async def main() -> None:
        bench.scheduler.configure([one])
        await bench.work(20.0)
        assert bench.scheduler.now(one) == 0
        await bench.work(4.0)
        assert bench.scheduler.now(one) == pytest.approx(PAUSE - 4)
        await bench.work(PAUSE - 4)
        assert bench.scheduler.now(one) == 0
        await bench.work(1.0)
        await bench.scheduler.stop()

    virtual.run(main())
    assert bench.starts("t0") == pytest.approx([0, 20, 20 + PAUSE])


def test_a_script_that_asks_for_everything_displaces_nobody() -> None:
    """With one place, and asked for all the time, each target keeps half its traces."""
    names = [f"t{n}" for n in range(10)]
    bench = Bench(durations=dict.fromkeys(names, 5.0), concurrency=1)
    drawn = random.Random(3)  # noqa: S311  -- any order will do
    asked = Counter[str]()

    async def main() -> None:
        bench.scheduler.configure(targets(10))
        for _ in range(3600):
            await bench.work(1.0)
            one = drawn.choice(targets(3))
            asked[one.name] += bench.scheduler.now(one) == 0
        await bench.scheduler.stop()

    virtual.run(main())
    traced = Counter(name for name, _ in bench.runs)
    assert bench.most == 1
    assert min(traced[name] for name in names) >= HOUR / INTERVAL / 2
    assert min(asked[name] for name in names[:3]) > HOUR / INTERVAL


def test_a_script_adds_twenty_traces_a_minute() -> None:
    """However many targets there are, and however often each is asked for."""
    wanted = targets(200)
    bench = Bench(concurrency=50)

    async def main() -> None:
        bench.scheduler.configure(wanted)
        await bench.work(2 * INTERVAL)
        before = len(bench.runs)
        for _ in range(60):
            for one in wanted:
                bench.scheduler.now(one)
            await bench.work(1.0)
        assert len(bench.runs) - before == pytest.approx(200 + INTERVAL / SPACING + BURST, abs=2)
        await bench.scheduler.stop()

    virtual.run(main())
    assert not bench.skipped


def test_who_is_not_scheduled_is_not_traced() -> None:
    """Removed, not there yet, or after the end: nothing is begun, and it may be asked for later."""
    bench = Bench(durations={"t0": 20.0}, concurrency=1)
    first, second = targets(2)

    async def main() -> None:
        assert bench.scheduler.now(first) == PAUSE
        bench.scheduler.configure([first, second])
        await bench.work(10.0)
        assert bench.scheduler.now(second) == 0
        bench.scheduler.configure([first])
        assert bench.scheduler.now(second) == PAUSE
        await bench.work(INTERVAL - 20)
        await bench.scheduler.stop()
        assert bench.scheduler.now(first) == PAUSE
        await bench.work(5 * INTERVAL)

    virtual.run(main())
    assert bench.runs == [("t0", 0.0)]


# -- reloads ---------------------------------------------------------------------------


def test_a_reload_fills_the_gaps() -> None:
    """Of a hundred targets half go and as many come: these tick where the others have."""
    before, after = targets(100)[:80], targets(150)[40:120]
    bench = Bench()

    async def main() -> None:
        bench.scheduler.configure(before)
        await bench.work(3.5 * INTERVAL)
        bench.scheduler.configure(after)
        await bench.work(5.5 * INTERVAL)
        await bench.scheduler.stop()

    virtual.run(main())
    assert {name for name, at in bench.runs if at > 5 * INTERVAL} == {t.name for t in after}
    last_round = sorted(at for _, at in bench.runs if 7 * INTERVAL <= at < 8 * INTERVAL)
    assert len(last_round) == 80
    assert max(later - sooner for sooner, later in pairwise(last_round)) <= 2 * INTERVAL / 80
    kept = bench.starts("t79")
    assert all(b - a == pytest.approx(INTERVAL) for a, b in pairwise(kept))


def test_nothing_to_trace() -> None:
    """Without any target nothing runs, and those that come later begin."""
    bench = Bench()

    async def main() -> None:
        bench.scheduler.configure([])
        await bench.work(10)
        bench.scheduler.configure(targets(1))
        await bench.work(10)
        bench.scheduler.configure([])
        await bench.work(5 * INTERVAL)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    virtual.run(main())
    assert bench.starts("t0") == [10]


def test_a_removed_target_gives_up_its_wait() -> None:
    """Who waits for a place when it is removed is not traced any more, and delays nobody."""
    bench = Bench(durations={"t0": 100.0}, concurrency=1)

    async def main() -> None:
        bench.scheduler.configure(targets(3))
        await bench.work(10)
        bench.scheduler.configure([targets(3)[0], targets(3)[2]])
        await bench.work(195)
        await bench.scheduler.stop()

    virtual.run(main())
    assert [name for name, _ in bench.runs] == ["t0", "t2", "t0"]


def test_no_mixture_of_targets_starves_any(caplog: pytest.LogCaptureFixture) -> None:
    """Short and long intervals, traces of every length, half of them failing anew each time."""
    drawn = random.Random(3)  # noqa: S311  -- any mixture will do
    mixed = [replace(t, interval=drawn.choice([15.0, 60.0, 300.0])) for t in targets(150)]
    bench = Bench(
        durations={target.name: drawn.uniform(0.5, 9) for target in mixed},
        failing={target.name for target in mixed[::2]},
        concurrency=6,
    )
    run(bench, mixed, HOUR)
    one_round = sum(bench.durations.values()) / bench.concurrency
    for target in mixed:
        waits = [later - sooner for sooner, later in pairwise(bench.starts(target.name))]
        assert max(waits) <= 2 * one_round + 2 * target.interval
    assert len(caplog.records) == 1
