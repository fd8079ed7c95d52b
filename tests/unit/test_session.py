"""What `trace` does with its targets and what it shows of them, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TypeVar

import pytest

from exporter.commands import progress as progress_module
from exporter.commands import session as session_module
from exporter.commands import view as view_module
from exporter.commands.progress import Step
from exporter.commands.session import HEAD_START, SPREAD, Session, starts
from exporter.commands.terminal import Colours
from exporter.commands.view import View
from exporter.config import load
from exporter.model import EngineStatus, Family, Observation, State
from exporter.probing import driver as driver_module
from exporter.probing.driver import Driver, Prober
from exporter.verbs import Probing
from tests.unit import samples, virtual
from tests.unit.playing import START, SYN_ACK, World, chain
from tests.unit.worlds import LoopEngine

T = TypeVar("T")

OPEN = chain(6, SYN_ACK)
DROPPED = chain(6, None)
ENGINE = EngineStatus("world", "")


@pytest.fixture(autouse=True)
def one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every clock is the loop's, and what would be done in a thread is done at once."""

    def monotonic() -> float:
        return asyncio.get_running_loop().time()

    def wall() -> float:
        return samples.STARTED_AT + monotonic() - START

    async def at_once(function: Callable[..., T], *arguments: object) -> T:
        return function(*arguments)

    clocks = SimpleNamespace(monotonic=monotonic, time=wall)
    for module in (driver_module, progress_module, session_module, view_module):
        monkeypatch.setattr(module, "time", clocks)
    monkeypatch.setattr("exporter.observer.time", clocks)
    monkeypatch.setattr(asyncio, "to_thread", at_once)


@dataclass
class Opened:
    """A session over worlds of the targets a, b and so on, and what it told."""

    session: Session
    engine: LoopEngine
    view: View
    told: list[str] = field(default_factory=list)


@asynccontextmanager
async def opened(*worlds: World, interval: int = 60) -> AsyncIterator[Opened]:
    """The targets a, b and so on, each with its world."""
    names = {f"10.9.5.{n}": chr(ord("a") + n) for n in range(len(worlds))}
    engine = LoopEngine(dict(zip(names, worlds, strict=True)))
    prober = Prober(Driver(engine, 1000, 100))

    async def resolve(host: str, _port: int, _family: Family) -> list[str]:
        await asyncio.sleep(0.001)
        return [host]

    endpoints = " ".join(f"{name}={address}:443" for address, name in names.items())
    settings = load(
        {
            "ENDPOINTS": endpoints,
            "INTERVAL_SECONDS": str(interval),
            "PLATFORM_NETWORKS": "10.9.0.0/23",
        }
    )
    told: list[str] = []
    probing = Probing(resolve, prober.trace, None)
    session = Session(settings, ENGINE, prober, probing, told.append)
    try:
        yield Opened(session, engine, View(session, Colours(on=False)), told)
    finally:
        prober.close()


def states(observations: list[Observation]) -> list[State]:
    """What each is found to be."""
    return [one.verdict.state for one in observations]


# -- rounds ------------------------------------------------------------------------------


def test_a_round_observes_every_target_in_their_order() -> None:
    """The observations come in the order of the targets, whichever is complete first."""

    async def main() -> None:
        async with opened(DROPPED, OPEN) as it:
            await it.session.round()
            found = list(it.session.observations)
            assert [one.target.name for one in found] == ["a", "b"]
            assert states(found) == [State.FILTERED, State.OPEN]
            assert [one.step for one in it.session.progress] == [Step.DONE] * 2

    virtual.run(main())


def test_the_first_target_has_a_head_start() -> None:
    """When the others begin, it has shown what the near hops answer; later rounds know that."""

    async def main() -> None:
        async with opened(OPEN, OPEN, OPEN) as it:
            await it.session.round()
            began = [at - START for at, flow in it.engine.sent if flow.destination != "10.9.5.0"]
            assert min(began) >= HEAD_START
            again = virtual.now()
            await it.session.round()
            began = [at - START for at, _ in it.engine.sent if at - START >= again]
            assert max(began) - again < HEAD_START + 2

    virtual.run(main())


@pytest.mark.parametrize(("count", "interval"), [(1, 60), (4, 60), (500, 60), (500, 1)])
@pytest.mark.parametrize("first", [True, False])
def test_nobody_waits_long_for_a_turn(count: int, interval: float, *, first: bool) -> None:
    """However many there are, the last one begins within half a minute, or an interval."""
    begins = starts(count, interval, first=first)
    assert len(begins) == count
    assert begins[0] == 0
    assert begins == sorted(begins)
    assert begins[-1] <= min(SPREAD, interval) + HEAD_START


def test_a_watch_keeps_its_distance_and_tells_what_changes() -> None:
    """Rounds begin an interval apart; the first tells of every target, later ones of changes."""

    async def main() -> None:
        async with opened(OPEN, interval=10) as it:
            rounds: list[float] = []
            watching = asyncio.create_task(
                it.session.watch(10, lambda: rounds.append(virtual.now()))
            )
            await asyncio.sleep(25)
            assert len(rounds) == 3
            assert len(it.told) == 1
            assert it.told[0].startswith("2026-01-01T00:00:00.000Z a: open, reached at hop 6, ")
            it.engine.worlds["10.9.5.0"] = DROPPED
            await asyncio.sleep(20)
            watching.cancel()
            (change,) = it.told[1:]
            assert change == (
                "2026-01-01T00:00:30.000Z a: Open until 00:00:20 UTC via ... 10.9.4.2, 10.9.5.2 "
                "(6 hops), since 00:00:30 UTC filtered after hop 5 (10.9.4.2); up to hop 5 the way "
                "is the same."
            )
            assert list(it.session.recent) == [change]
            assert it.view.sum() == "5 rounds in 45 s, 1 change; now 1 filtered"
            assert it.view.watch()[-3:] == [
                "changes:",
                change,
                "round 5, the next at 00:00:50 UTC; Ctrl-C ends it",
            ]

    virtual.run(main())


# -- what is shown -----------------------------------------------------------------------


def test_a_trace_is_shown_as_it_grows() -> None:
    """Waiting, looking up, hops as they answer, and the whole trace in the end."""

    async def main() -> None:
        async with opened(DROPPED) as it:
            assert it.view.once()[-1] == "waiting, 0.0 s"
            tracing = asyncio.create_task(it.session.round())
            await virtual.settle()
            assert it.view.once() == [
                "a: 10.9.5.0:443, 2026-01-01T00:00:00.000Z",
                "looking up, 0.0 s",
            ]
            await asyncio.sleep(0.115)
            lines = it.view.once()
            assert lines[0].startswith("a: 10.9.5.0:443 from 10.9.0.1, engine world, ")
            assert lines[1] == " 1  10.9.0.2 [platform]  10.000 ms"
            assert lines[5] == " 5  10.9.4.2 [external]  10.000 ms"
            assert lines[6].startswith(" 6-9")
            assert lines[6].endswith(" *  no answer yet")
            assert lines[-1] == "tracing, 0.1 s"
            await tracing
            (whole,) = it.view.known()
            assert whole[1].startswith(" 1  10.9.0.2 [platform]  10.000 ms")
            assert any(line.startswith("verdict: filtered, ") for line in whole)

    virtual.run(main())


def test_several_have_a_line_each() -> None:
    """What is being done for a target and how far it is, then its state; names in a column."""

    async def main() -> None:
        async with opened(OPEN, DROPPED) as it:
            assert it.view.once() == [
                "a  waiting     ",
                "b  waiting     ",
                "0 of 2 traced, 0.0 s",
            ]
            tracing = asyncio.create_task(it.session.round())
            await asyncio.sleep(HEAD_START + 0.2)
            assert it.view.once() == [
                "a  open          reached at hop 6, confidence medium",
                "b  tracing       hop 5",
                "1 of 2 traced, 3.2 s",
            ]
            await tracing
            assert it.view.once()[1].startswith("b  filtered      blocked at hop 6, ")

    virtual.run(main())


def test_what_is_known_survives_an_interruption() -> None:
    """Hops that have answered are kept from a trace that is cancelled before its end."""

    async def main() -> None:
        async with opened(DROPPED) as it:
            tracing = asyncio.create_task(it.session.round())
            await asyncio.sleep(0.5)
            it.session.keep()
            tracing.cancel()
            await virtual.settle()
            (known,) = it.view.known()
            assert known[1].startswith(" 1  10.9.0.2 [platform]  10.000 ms")
            assert not any(line.startswith("verdict") for line in known)
            assert it.session.observations == []

    virtual.run(main())
