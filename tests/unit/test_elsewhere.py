"""Good traces of other targets: only those that are good now, and that go the same way at first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast

import pytest

from exporter.controls.elsewhere import INTERVALS, MOST, elsewhere
from exporter.model import Observation, StopReason, Trace
from exporter.store import Record
from tests.unit import samples

NOW = samples.STARTED_AT + 10
BAD = cast("Trace", samples.filtered().trace)


def good(number: int = 1, hops: Iterable[Any] | None = None, **changes: Any) -> Observation:
    """A target that is open now, at another address."""
    seen = samples.opened(f"web{number}")
    trace = cast("Trace", seen.trace)
    flow = trace.flow._replace(destination=f"192.0.2.{number}")
    made = replace(trace, flow=flow, hops=trace.hops if hops is None else tuple(hops))
    return replace(seen, trace=made, **changes)


def records(*observations: Observation | None) -> list[Record]:
    """A record of each, the ones without an observation not yet traced."""
    return [
        Record(one.target, latest=one) if one else Record(samples.target("new"))
        for one in observations
    ]


def found(*observations: Observation | None, trace: Trace = BAD, now: float = NOW) -> list[str]:
    """The destinations of the traces that are given."""
    traces = elsewhere(records(*observations), trace, now)
    return [one.flow.destination for one in traces]


def test_an_open_target_with_the_same_first_hops() -> None:
    """It shows that the way out works; targets that were never traced are passed over."""
    assert found(None, good()) == ["192.0.2.1"]


def test_every_address_of_a_target_counts() -> None:
    """Of a target with several addresses, those that are open now."""
    both = replace(samples.several(), each=(good(1), samples.filtered(), good(2)))
    assert found(both) == ["192.0.2.1", "192.0.2.2"]


def test_a_few_are_enough() -> None:
    """However many targets are open, no more than four are given."""
    assert len(found(*(good(number) for number in range(1, 100)))) == MOST


def test_what_is_not_open_shows_nothing() -> None:
    """Neither a closed nor a blocked target is a witness."""
    assert found(samples.closed(), samples.filtered("other"), samples.unresolved()) == []


def test_the_same_destination_is_not_elsewhere() -> None:
    """Another target at the same address is a control of this one, if anything."""
    assert found(samples.opened()) == []


@pytest.mark.parametrize(("age", "counts"), [(0.0, True), (60.0 * INTERVALS, True), (121.0, False)])
def test_only_what_was_seen_lately(age: float, *, counts: bool) -> None:
    """A trace counts for two intervals of its target."""
    assert bool(found(good(), now=samples.STARTED_AT + age)) is counts


def test_another_way_out() -> None:
    """The nearest hop that both know decides: other routers there, another way."""
    away = samples.router(1)
    away = replace(
        away,
        answers=tuple(
            one._replace(reply=one.reply._replace(address="10.8.0.2")) for one in away.answers
        ),
    )
    assert found(good(hops=[away, *samples.routers(12)[1:]])) == []


def test_silent_hops_decide_nothing() -> None:
    """Where the first hop is silent in one of them, the next one that both know does."""
    silent = [*samples.silence(1, 2), *samples.routers(12)[2:]]
    assert found(good(hops=silent)) == ["192.0.2.1"]
    unheard = samples.trace(silent[:2], StopReason.SILENCE)
    assert found(good(), trace=unheard) == []
    assert found(good(hops=samples.silence(1, 12))) == []
    assert found(good(hops=samples.routers(2)), trace=replace(BAD, hops=tuple(silent))) == []
