"""The kernel's stamps on the monotonic clock: right when late, harmless when the clock is set."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.probing.engines import stamps
from exporter.probing.engines.stamps import STAMPING, Ancillary, Arrivals, arrival_time

#: Two clocks at one moment: 2026-01-01 in nanoseconds, and seconds since some boot.
WALL_NS = 1767225600_000_000_000
MONOTONIC = 86_400.0
HOUR_NS = 3600_000_000_000

seconds = st.floats(-1e6, 1e6)


@pytest.mark.parametrize("late", [0.0, 0.000_050, 0.050, 1.5])
def test_a_late_reader_does_not_lengthen_a_round_trip(late: float) -> None:
    """What the kernel stamped some time ago arrived then, not when it is read."""
    arrived = arrival_time(WALL_NS - round(late * 1e9), WALL_NS, MONOTONIC)
    assert arrived == pytest.approx(MONOTONIC - late, abs=1e-6)


@pytest.mark.parametrize("step", [HOUR_NS, -HOUR_NS, 24 * HOUR_NS, 3_000_000_000, -1])
def test_a_step_of_the_clock_counts_as_now(step: int) -> None:
    """When the wall clock was set after the stamp, its age is nonsense: the packet arrives now."""
    assert arrival_time(WALL_NS, WALL_NS + step, MONOTONIC) == MONOTONIC


@given(seconds, st.floats(0, 60))
def test_no_step_gives_an_impossible_time(step: float, waited: float) -> None:
    """Whatever the clocks do, an arrival is neither in the future nor more than 2 s ago."""
    stamp = WALL_NS - round(waited * 1e9)
    arrived = arrival_time(stamp, WALL_NS + round(step * 1e9), MONOTONIC)
    assert MONOTONIC - 2.0 <= arrived <= MONOTONIC


def test_a_packet_that_comes_while_others_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clocks of a batch are read once, and again for what was stamped later than that."""
    arrivals = (-0.001, 0.0, 0.0015, -0.001)
    monkeypatch.setattr(stamps, "time", clocks(0.0))
    batch = Arrivals()
    monkeypatch.setattr(stamps, "time", clocks(0.002))
    times = [batch.time_of(stamped(elapsed)) for elapsed in arrivals]
    assert times == pytest.approx([MONOTONIC + elapsed for elapsed in arrivals], abs=1e-6)


def clocks(elapsed: float) -> SimpleNamespace:
    """Both clocks, so long after `WALL_NS` and `MONOTONIC`."""
    wall_ns, monotonic = WALL_NS + round(elapsed * 1e9), MONOTONIC + elapsed
    return SimpleNamespace(time_ns=lambda: wall_ns, monotonic=lambda: monotonic)


def stamped(elapsed: float) -> Ancillary:
    """The ancillary data of a packet that came so long after `WALL_NS`."""
    seconds, nanoseconds = divmod(WALL_NS + round(elapsed * 1e9), 1_000_000_000)
    return [(*STAMPING[:2], struct.pack("@qq", seconds, nanoseconds))]
