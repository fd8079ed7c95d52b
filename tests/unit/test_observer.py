"""One cycle of one target: whatever goes wrong, an observation comes out."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field, replace
from typing import TypeVar

import pytest

from exporter import observer
from exporter.diagnosis.verdict import judge as sound_judge
from exporter.diagnosis.zones import ZoneMap
from exporter.model import (
    Failure,
    FailureReason,
    Flow,
    Handshake,
    Observation,
    Plan,
    ProbeError,
    State,
    Trace,
    Verdict,
)
from exporter.observer import Probing, observe, refusing
from tests.unit import samples, virtual

T = TypeVar("T")
TARGET = samples.target()
OPEN = samples.opened()
ZONES = ZoneMap(())
CONNECTED = Handshake(success=True, duration=0.012)
REFUSED = Handshake(success=False, duration=0.012, error="Connection refused")
NO_ROUTE = Failure(FailureReason.NO_ROUTE, "this host has no route")


@dataclass
class Verbs:
    """What resolve, trace and connect give: a value, an error that is raised, or None to hang."""

    addresses: list[str] | Exception | None = field(default_factory=lambda: [samples.DESTINATION])
    trace: Trace | Exception | None = OPEN.trace
    handshake: Handshake | Exception | None = CONNECTED
    #: Seconds that a connect takes.
    connecting: float = 0.0
    #: (address, preferred source port, seconds since the start) of each trace.
    traced: list[tuple[str, int, float]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    #: What was begun, in order.
    order: list[str] = field(default_factory=list)

    async def resolve(self, _host: str, _port: int) -> list[str]:
        """Look up."""
        return await self._give("resolve", self.addresses)

    async def probe(self, address: str, port: int, _plan: Plan, source_port: int) -> Trace:
        """Trace to the address that is asked for."""
        self.order.append("trace")
        self.traced.append((address, source_port, virtual.now()))
        made = await self._give("trace", self.trace)
        return replace(made, flow=Flow(samples.SOURCE, source_port or 33434, address, port))

    async def connect(self, _address: str, _port: int) -> Handshake:
        """Connect."""
        self.order.append("connect")
        await asyncio.sleep(self.connecting)
        return await self._give("connect", self.handshake)

    async def _give(self, verb: str, result: T | Exception | None) -> T:
        try:
            if result is None:
                await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.cancelled.append(verb)
            raise
        if result is None or isinstance(result, Exception):
            raise result or AssertionError(f"{verb} was waited for")
        return result

    def probing(self, *, connects: bool = True) -> Probing:
        """All three as the observer takes them."""
        return Probing(self.resolve, self.probe, self.connect if connects else None)


def observed(verbs: Verbs, latest: Observation | None = None) -> Observation:
    """One cycle in virtual time."""
    return virtual.run(observe(TARGET, verbs.probing(), ZONES, latest))


# -- what is observed ------------------------------------------------------------------


def test_a_cycle_that_succeeds() -> None:
    """An observation has address, trace, handshake, zones and verdict, and no failure."""
    seen = observed(Verbs())
    assert seen.target is TARGET
    assert seen.address == samples.DESTINATION
    assert seen.trace
    assert seen.handshake is CONNECTED
    assert seen.failure is None
    assert seen.verdict.state is State.OPEN
    assert set(seen.zones) == {answer.reply.address for answer in seen.trace.answers}
    assert seen.duration >= 0


def test_the_plain_connect_goes_first() -> None:
    """The connect has sent its SYN when the trace begins, and the trace does not wait for more."""
    verbs = Verbs(connecting=3.0)
    assert observed(verbs).handshake is CONNECTED
    assert verbs.order == ["connect", "trace"]
    assert verbs.traced[0][2] == 0


def test_without_the_plain_connect() -> None:
    """Where the connect is switched off there is no handshake, and no wait for one."""
    verbs = Verbs()
    seen = virtual.run(observe(TARGET, verbs.probing(connects=False), ZONES))
    assert seen.handshake is None
    assert seen.verdict.state is State.OPEN
    assert verbs.traced[0][2] == 0


def test_the_last_good_trace_reaches_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge sees the trace of the last good observation."""
    judged: list[object] = []

    def judge(trace: Trace | None, **known: object) -> Verdict:
        judged.append(known["last_good"])
        assert trace
        return OPEN.verdict

    monkeypatch.setattr(observer, "judge", judge)
    virtual.run(observe(TARGET, Verbs().probing(), ZONES, None, OPEN))
    assert judged == [OPEN.trace]


# -- what stays the same from trace to trace -------------------------------------------


def test_the_address_before_is_kept() -> None:
    """Of several addresses in any order the one traced before is traced again, from its port."""
    assert OPEN.trace
    rotated = ["192.0.2.1", "192.0.2.2", samples.DESTINATION]
    verbs = Verbs(addresses=rotated)
    assert observed(verbs, latest=OPEN).address == samples.DESTINATION
    assert verbs.traced[0][:2] == (samples.DESTINATION, OPEN.trace.flow.source_port)


def test_an_address_that_is_gone_is_given_up() -> None:
    """When the name has moved its first address is traced, from a new port."""
    verbs = Verbs(addresses=["192.0.2.1", "192.0.2.2"])
    assert observed(verbs, latest=OPEN).address == "192.0.2.1"
    assert verbs.traced[0][:2] == ("192.0.2.1", 0)


@pytest.mark.parametrize("latest", [None, samples.unresolved()])
def test_the_first_address_of_all(latest: Observation | None) -> None:
    """Without a trace before, the system's first choice is traced."""
    verbs = Verbs(addresses=["192.0.2.9", samples.DESTINATION])
    observed(verbs, latest)
    assert verbs.traced[0][:2] == ("192.0.2.9", 0)


# -- what fails ------------------------------------------------------------------------


def test_a_name_that_does_not_resolve() -> None:
    """Without an address nothing is traced, and the state is unresolved."""
    failure = Failure(FailureReason.RESOLVE, "db.example does not resolve")
    verbs = Verbs(addresses=ProbeError(failure))
    seen = observed(verbs)
    assert (seen.failure, seen.address, seen.trace) == (failure, None, None)
    assert seen.verdict.state is State.UNRESOLVED
    assert verbs.traced == []


@pytest.mark.parametrize("reason", set(FailureReason) - {FailureReason.RESOLVE})
def test_a_trace_that_cannot_begin(reason: FailureReason) -> None:
    """Without a trace the state is error, and the application's view is kept."""
    failure = Failure(reason, "said why")
    seen = observed(Verbs(trace=ProbeError(failure), handshake=REFUSED))
    assert (seen.failure, seen.trace, seen.handshake) == (failure, None, REFUSED)
    assert seen.verdict.state is State.ERROR
    assert "said why" in seen.verdict.reason


def test_a_trace_that_ended_early() -> None:
    """The failure inside a trace is the observation's, and the trace is kept."""
    stuck = samples.refused_by_host()
    seen = observed(Verbs(trace=stuck.trace))
    assert seen.trace
    assert seen.failure == stuck.failure
    assert seen.verdict.state is State.ERROR


@pytest.mark.parametrize(
    "verbs",
    [
        Verbs(addresses=ZeroDivisionError()),
        Verbs(addresses=[]),
        Verbs(trace=ZeroDivisionError()),
        Verbs(handshake=ZeroDivisionError()),
    ],
    ids=["resolve", "no-address", "trace", "connect"],
)
def test_a_bug_becomes_an_observation(verbs: Verbs, caplog: pytest.LogCaptureFixture) -> None:
    """A fault of the program is logged with its traceback and becomes an internal error."""
    seen = observed(verbs)
    assert seen.failure
    assert seen.failure.reason is FailureReason.INTERNAL
    assert seen.verdict.state is State.ERROR
    (record,) = (record for record in caplog.records if record.name == "exporter.observer")
    assert record.levelno == logging.ERROR
    assert record.exc_info


def test_a_bug_in_the_verdict_becomes_an_observation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace that cannot be judged is kept, and the state is error."""

    def judge(trace: Trace | None, *, zones: ZoneMap, failure: Failure, **_: object) -> Verdict:
        if trace:
            raise KeyError("bug")
        return sound_judge(trace, zones=zones, failure=failure)

    monkeypatch.setattr(observer, "judge", judge)
    seen = observed(Verbs())
    assert seen.trace
    assert seen.failure == Failure(FailureReason.INTERNAL, "internal error (KeyError)")
    assert seen.verdict.state is State.ERROR


def test_without_an_engine() -> None:
    """A process that has no engine still resolves and connects, and says what is missing."""
    verbs = Verbs()
    probing = Probing(verbs.resolve, refusing("CAP_NET_RAW is missing"), verbs.connect)
    seen = virtual.run(observe(TARGET, probing, ZONES))
    assert seen.failure
    assert seen.failure.reason is FailureReason.PERMISSION
    assert "CAP_NET_RAW is missing" in seen.verdict.reason
    assert seen.handshake is CONNECTED


# -- cancellation ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verbs", "cancelled"),
    [
        (Verbs(addresses=None), {"resolve"}),
        (Verbs(trace=None), {"trace"}),
        (Verbs(handshake=None), {"connect"}),
        (Verbs(trace=None, handshake=None), {"trace", "connect"}),
    ],
    ids=["resolve", "trace", "connect", "both"],
)
def test_cancellation_is_prompt(verbs: Verbs, cancelled: set[str]) -> None:
    """Wherever a cycle hangs, cancelling it ends everything it has begun, at once."""

    async def main() -> None:
        cycle = asyncio.create_task(observe(TARGET, verbs.probing(), ZONES))
        await asyncio.sleep(1)
        cycle.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cycle
        await virtual.settle()
        assert virtual.now() == 1
        assert set(verbs.cancelled) == cancelled
        assert asyncio.all_tasks() == {asyncio.current_task()}

    virtual.run(main())
