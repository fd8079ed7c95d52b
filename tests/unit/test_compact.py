"""Observations in less memory say what they said before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from exporter.compact import compact
from exporter.model import Answer, Hop, Observation, Trace
from exporter.publish.lines import render_trace
from exporter.publish.objects import observation_object, to_json
from tests.unit import samples

BALANCED = samples.SAMPLES["balanced"]


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_nothing_that_is_published_changes(name: str) -> None:
    """Text and JSON of an observation are the same, round-trip times included."""
    seen = samples.SAMPLES[name]
    again = compact(seen)
    assert render_trace(again) == render_trace(seen)
    assert to_json(observation_object(again)) == to_json(observation_object(seen))


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_nothing_but_the_clock_of_its_answers_is_lost(name: str) -> None:
    """All that differs is that probes were sent at 0, and answered as much later."""

    def told(observation: Observation) -> Observation:
        controlled = observation.controlled
        return replace(
            observation,
            trace=observation.trace and timeless(observation.trace),
            controlled=replace(
                controlled,
                flows=tuple(map(timeless, controlled.flows)),
                ports=tuple(map(timeless, controlled.ports)),
                echo=controlled.echo and timeless(controlled.echo),
            ),
            each=tuple(map(told, observation.each)),
        )

    seen = samples.SAMPLES[name]
    assert told(compact(seen)) == told(seen)


def test_a_second_time_changes_nothing() -> None:
    """What is compact already stays equal to itself."""
    once = compact(BALANCED)
    assert compact(once) == once


def test_what_is_equal_is_held_once() -> None:
    """Two observations share probes, addresses, ICMP codes, silent hops and conditions."""
    one, other = compact(copied(BALANCED)), compact(copied(BALANCED))
    assert one.conditions is other.conditions
    for here, there in zip(answers_of(one), answers_of(other), strict=True):
        assert here.probe is there.probe
        assert here.reply.address is there.reply.address
        assert here.reply.icmp is there.reply.icmp
    silent = [hop for hop in hops_of(one) if not hop.known]
    assert silent
    assert all(a is b for a, b in zip(silent, silent_hops_of(other), strict=True))


def test_what_others_hold_stays_what_it_is() -> None:
    """The canary's trace and those of other targets are no copies: others hold them as well."""
    seen = compact(BALANCED).controlled
    assert seen.canary is BALANCED.controlled.canary
    assert seen.elsewhere[0] is BALANCED.controlled.elsewhere[0]


def test_a_target_shares_the_trace_of_its_worst_address() -> None:
    """The observation of several addresses holds the first one's trace, not a copy of it."""
    seen = compact(samples.SAMPLES["several"])
    assert seen.trace is seen.each[0].trace


def test_what_others_answered_is_kept() -> None:
    """The answers that a hop shares with other traces stay, with their round-trip times."""
    near = samples.router(1, sent=1)
    hop = Hop(1, 0, shared=near.answers)
    opened = samples.opened()
    assert opened.trace
    seen = compact(replace(opened, trace=replace(opened.trace, hops=(hop, *opened.trace.hops[1:]))))
    assert seen.trace
    assert seen.trace.hops[0].best_rtt == near.best_rtt


def timeless(trace: Trace) -> Trace:
    """A trace with the round-trip times of its answers, and no clock."""

    def hop(one: Hop) -> Hop:
        return replace(one, answers=tuple(map(answer, one.answers)))

    def answer(one: Answer) -> Answer:
        return Answer(
            one.probe._replace(sent_at=0.0), one.reply._replace(received_at=round(one.rtt, 9))
        )

    return replace(
        trace,
        hops=tuple(map(hop, trace.hops)),
        confirmation=trace.confirmation and hop(trace.confirmation),
    )


def copied(value: Any) -> Any:
    """An observation whose texts and tuples are objects of their own, as an engine makes them."""
    if type(value) is str:
        return "".join(list(value))
    if isinstance(value, tuple):
        items = [copied(item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, Observation | Trace | Hop):
        fields = {name: copied(getattr(value, name)) for name in value.__slots__}
        return replace(value, **fields)
    return value


def hops_of(observation: Observation) -> list[Hop]:
    """The hops of its own trace."""
    assert observation.trace
    return list(observation.trace.hops)


def silent_hops_of(observation: Observation) -> list[Hop]:
    """Those of them that nobody is known at."""
    return [hop for hop in hops_of(observation) if not hop.known]


def answers_of(observation: Observation) -> Iterator[Answer]:
    """The answers of its own trace."""
    assert observation.trace
    yield from observation.trace.answers
