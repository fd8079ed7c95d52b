"""A silence that may be a rejection for which a router had no ICMP error left."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.diagnosis.spent import WITNESSES
from exporter.diagnosis.verdict import judge
from exporter.diagnosis.zones import ZoneMap
from exporter.model import FULL_TTL, Hop, ReplyKind, State, StopReason, Surroundings, Trace
from exporter.surroundings import PURSE_MEMORY, Memory
from tests.unit.samples import answer, routers, silence, trace

LAST = 3
SILENT = trace(
    (*routers(LAST), *silence(LAST + 1, 9)),
    StopReason.SILENCE,
    confirmation=Hop(FULL_TTL, 3),
)
BEFORE, ROUTER = (hop.addresses[0] for hop in SILENT.hops[LAST - 2 : LAST])


def state_of(
    made: Trace,
    rejecting: frozenset[str] = frozenset(),
    before_rejecting: frozenset[str] = frozenset(),
) -> State:
    """The state of a trace in these surroundings."""
    here = Surroundings(rejecting=rejecting, before_rejecting=before_rejecting)
    return judge(made, zones=ZoneMap(()), surroundings=here).state


def rejected(after: int, by: str) -> Trace:
    """A trace of another target that somebody rejects after so many routers."""
    no = answer(after + 1, 1, address=by, kind=ReplyKind.UNREACHABLE, icmp=(3, 13))
    return trace((*routers(after), Hop(after + 1, 1, (no,))), StopReason.ICMP_ERROR)


@pytest.mark.parametrize("witnessed", range(WITNESSES))
def test_a_router_that_rejects_others_may_reject_in_silence(witnessed: int) -> None:
    """Where it has not shown that it could have spoken, its silence is not called a drop."""
    made = replace(SILENT, witnessed=witnessed)
    assert state_of(made, rejecting=frozenset({ROUTER})) is State.INCONCLUSIVE


def test_a_router_that_could_have_spoken_drops() -> None:
    """Probes that expired there right after the confirmations were answered."""
    made = replace(SILENT, witnessed=WITNESSES)
    assert state_of(made, rejecting=frozenset({ROUTER})) is State.FILTERED


def test_the_next_device_may_be_the_one_that_is_spent() -> None:
    """The last router speaks for itself alone, not for the one behind it that rejects."""
    made = replace(SILENT, witnessed=WITNESSES)
    assert state_of(made, before_rejecting=frozenset({ROUTER})) is State.INCONCLUSIVE


def test_who_rejects_elsewhere_does_not_count() -> None:
    """A nearer router that rejects others has let this trace pass."""
    assert state_of(SILENT, rejecting=frozenset({BEFORE})) is State.FILTERED


@pytest.mark.parametrize(
    ("by", "before"),
    [
        pytest.param(ROUTER, BEFORE, id="a router that was heard"),
        pytest.param("10.9.77.1", ROUTER, id="one that was not"),
    ],
)
def test_who_stands_before_a_rejecter_is_remembered(by: str, before: str) -> None:
    """For a minute, who rejects is known, and who is heard last when it is not."""
    memory = Memory()
    memory.learn(rejected(LAST, by), None, 0.0)
    for at, known in ((PURSE_MEMORY, True), (PURSE_MEMORY + 0.1, False)):
        here = memory.learn(SILENT, None, at)
        assert (by in here.rejecting, before in here.before_rejecting) == (known, known)
