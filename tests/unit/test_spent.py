"""A silence that may be a rejection for which a device had no ICMP error left."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.diagnosis.spent import WITNESSES
from exporter.diagnosis.verdict import judge
from exporter.diagnosis.zones import ZoneMap
from exporter.model import FULL_TTL, Answer, Flow, Hop, Probe, Reply, ReplyKind, State, StopReason
from exporter.probing.refusers import BUSY, ENDPOINTS, MEMORY, Refusers
from tests.unit.samples import routers, silence, trace

LAST = 3
SILENT = trace(
    (*routers(LAST), *silence(LAST + 1, 9)),
    StopReason.SILENCE,
    confirmation=Hop(FULL_TTL, 3),
)
ROUTER = SILENT.hops[LAST - 1].addresses[0]
BEHIND = "10.9.77.1"
WAY = {1: frozenset({"10.9.0.2"}), 2: frozenset({"10.9.1.2"})}
OTHER_WAY = {1: frozenset({"10.9.0.2"}), 2: frozenset({"10.9.66.6"})}


def state_of(refusing: set[str], witnessed: int = 0) -> State:
    """The state of a trace that met silence behind ROUTER."""
    made = replace(SILENT, refusing=frozenset(refusing), witnessed=witnessed)
    return judge(made, zones=ZoneMap(())).state


def test_silence_alone_is_a_drop() -> None:
    """Nobody rejects others' traffic, so nobody rejects this in silence."""
    assert state_of(set()) is State.FILTERED


@pytest.mark.parametrize("witnessed", range(WITNESSES))
def test_a_router_that_rejects_others_may_reject_in_silence(witnessed: int) -> None:
    """Where it has not shown that it could have spoken, its silence is not called a drop."""
    assert state_of({ROUTER}, witnessed) is State.INCONCLUSIVE


def test_a_router_that_could_have_spoken_drops() -> None:
    """Probes that expired there right after the confirmations were answered."""
    assert state_of({ROUTER}, WITNESSES) is State.FILTERED


def test_the_next_device_may_be_the_one_that_is_spent() -> None:
    """The last router speaks for itself alone, not for one behind it that rejects."""
    assert state_of({BEHIND}, WITNESSES) is State.INCONCLUSIVE


# -- who that may be ---------------------------------------------------------------------


def flow(number: int) -> Flow:
    """One of the flows to different targets."""
    return Flow("10.9.0.1", 40_000 + number, f"10.9.5.{number}", 443)


def said(at: float, kind: ReplyKind = ReplyKind.UNREACHABLE) -> Answer:
    """An ICMP error of BEHIND."""
    icmp = (3, 13) if kind is ReplyKind.UNREACHABLE else (11, 0)
    return Answer(Probe(5, 1, at - 0.01), Reply(kind, BEHIND, at, icmp=icmp))


def busy(rejected: int = ENDPOINTS, errors: int = BUSY) -> Refusers:
    """BEHIND has rejected so many targets at 0 s, and said so much to others at 10 s."""
    refusers = Refusers()
    for number in range(rejected):
        refusers.hear(flow(number), said(0.0))
        refusers.learn(flow(number), frozenset({BEHIND}), WAY, 0.0)
    for number in range(errors):
        refusers.hear(flow(number), said(10.0, ReplyKind.TIME_EXCEEDED))
    return refusers


def test_a_busy_device_of_several_targets_may_be_spent() -> None:
    """It rejects several targets, and speaks to others while a trace meets silence."""
    assert busy().spent(flow(99), WAY, 9.0, 12.0) == {BEHIND}


def test_nothing_is_known_of_a_trace_that_heard_nobody() -> None:
    """Without a router in common nothing speaks against it either."""
    assert busy().spent(flow(99), {}, 9.0, 12.0) == {BEHIND}


@pytest.mark.parametrize(
    ("refusers", "way", "since", "now"),
    [
        pytest.param(busy(rejected=ENDPOINTS - 1), WAY, 9.0, 12.0, id="one target's own device"),
        pytest.param(busy(errors=BUSY - 1), WAY, 9.0, 12.0, id="at rest"),
        pytest.param(busy(), WAY, 10.5, 12.0, id="busy before"),
        pytest.param(busy(), OTHER_WAY, 9.0, 12.0, id="on another way"),
        pytest.param(busy(), WAY, 9.0, MEMORY + 1.0, id="long ago"),
    ],
)
def test_others_have_errors_left(
    refusers: Refusers, way: dict[int, frozenset[str]], since: float, now: float
) -> None:
    """A device that is not everybody's, not busy or not on the way would have spoken."""
    assert refusers.spent(flow(99), way, since, now) == frozenset()


def test_what_it_says_to_the_trace_itself_does_not_count() -> None:
    """A device that answers this very flow is not kept from it by others."""
    refusers = busy(errors=0)
    for _ in range(BUSY):
        refusers.hear(flow(99), said(10.0, ReplyKind.TIME_EXCEEDED))
    assert refusers.spent(flow(99), WAY, 9.0, 12.0) == frozenset()


def test_it_is_everybodys_once_it_has_rejected_several() -> None:
    """For as long as a rejection counts."""
    assert not busy(rejected=1).is_everybodys(BEHIND, 1.0)
    assert busy().is_everybodys(BEHIND, MEMORY)
    assert not busy().is_everybodys(BEHIND, MEMORY + 1.0)
    assert not busy().is_everybodys("10.9.99.99", 1.0)
