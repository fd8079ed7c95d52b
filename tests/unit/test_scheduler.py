"""When traces run, how many at once, and that none disturbs another; in virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model import Target
from exporter.schedule.cadence import FIRST_ROUND_SPACING, Cadence, splay
from exporter.schedule.scheduler import Scheduler
from tests.unit import virtual

INTERVAL = 60.0

intervals = st.floats(1, 3600)
times = st.floats(0, 1e6)


def targets(count: int, interval: float = INTERVAL) -> list[Target]:
    """So many targets, named t0, t1 and so on."""
    return [Target(f"t{n}", f"10.9.5.{n}", 443, interval=interval) for n in range(count)]


# -- cadence ---------------------------------------------------------------------------


@given(intervals, st.integers(1, 100), st.data())
def test_ticks_keep_their_interval(interval: float, count: int, data: st.DataObject) -> None:
    """After the first round every tick is an interval after the one before."""
    index = data.draw(st.integers(0, count - 1))
    cadence = splay(index, count, interval, 1000.0)
    ticks = [cadence.first]
    for _ in range(4):
        ticks.append(cadence.next_tick(ticks[-1]))
    first_gap, *gaps = (later - sooner for sooner, later in pairwise(ticks))
    assert interval / 2 - 1e-6 <= first_gap <= interval * 1.5 + 1e-6
    assert gaps == pytest.approx([interval] * 3)


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
    ticks = sorted(splay(n, 20, INTERVAL, 0).next_tick(1000) for n in range(20))
    assert [later - sooner for sooner, later in pairwise(ticks)] == pytest.approx([3.0] * 19)


def test_the_first_round_is_quick_and_no_burst() -> None:
    """A few targets do not wait for their part of the interval, and do not start together."""
    firsts = [splay(n, 4, INTERVAL, 0).first for n in range(4)]
    assert firsts == [n * FIRST_ROUND_SPACING for n in range(4)]
    assert splay(99, 100, INTERVAL, 0).first < INTERVAL


# -- scheduler -------------------------------------------------------------------------


@dataclass
class Bench:
    """A scheduler, what it ran and skipped, and how long the traces of each target take."""

    durations: dict[str, float] = field(default_factory=dict)
    faults: set[str] = field(default_factory=set)
    runs: list[tuple[str, float]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    running: Counter[str] = field(default_factory=Counter)
    most: int = 0
    concurrency: int = 10

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(self.trace, self.skip, self.concurrency)

    async def trace(self, target: Target) -> None:
        """Take the target's time; at most one trace of it at once."""
        self.runs.append((target.name, virtual.now()))
        self.running[target.name] += 1
        assert self.running[target.name] == 1, "two traces of one target at once"
        self.most = max(self.most, self.running.total())
        try:
            await asyncio.sleep(self.durations.get(target.name, 0.0))
            if target.name in self.faults:
                raise RuntimeError("bug in the trace")
        finally:
            self.running[target.name] -= 1
            self.ended.append(target.name)

    def skip(self, name: str) -> None:
        """Count a skipped tick."""
        self.skipped[name] += 1

    def starts(self, name: str) -> list[float]:
        """When the traces of a target began."""
        return [at for who, at in self.runs if who == name]

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
        assert bench.running.total() == 0
        await bench.work(5 * INTERVAL)

    virtual.run(main())
    assert len(bench.runs) == 1
