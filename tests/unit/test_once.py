"""What is remembered of traces, by their identity."""

from __future__ import annotations

from dataclasses import replace

from exporter.diagnosis.once import MOST, once
from exporter.model import StopReason, Trace
from tests.unit import samples


class Counting:
    """A function of a trace that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, trace: Trace) -> int:
        """How many hops the trace has."""
        self.asked += 1
        return len(trace.hops)


def made(last: int) -> Trace:
    """A trace whose routers answer up to a hop."""
    return samples.trace(samples.routers(last), StopReason.HOP_LIMIT)


def test_a_trace_is_asked_about_once() -> None:
    """The second answer is the first one."""
    count = Counting()
    ask, trace = once(count), made(3)
    assert [ask(trace), ask(trace)] == [3, 3]
    assert count.asked == 1


def test_an_equal_trace_is_another_one() -> None:
    """Traces are known by identity: one that is made anew is asked about again."""
    count = Counting()
    ask, trace = once(count), made(3)
    ask(trace)
    assert ask(replace(trace)) == 3
    assert count.asked == 2


def test_no_answer_is_one_too() -> None:
    """What is None, or 0, is not asked about again."""
    count = Counting()
    ask, trace = once(count), made(0)
    assert [ask(trace), ask(trace)] == [0, 0]
    assert count.asked == 1


def test_what_is_remembered_is_bounded() -> None:
    """The trace that was asked about first is forgotten first."""
    count = Counting()
    ask = once(count)
    traces = [made(ttl) for ttl in range(MOST + 1)]
    assert [ask(trace) for trace in traces] == list(range(MOST + 1))
    assert ask(traces[-1]) == MOST
    assert count.asked == MOST + 1
    assert ask(traces[0]) == 0
    assert count.asked == MOST + 2
