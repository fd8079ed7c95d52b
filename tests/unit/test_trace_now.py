"""A trace that somebody asks for: the service's part of it, in virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace

import pytest

from exporter.config import load
from exporter.model import EngineStatus, Family, Handshake, Observation, Plan, Trace
from exporter.publish.log import LogStats
from exporter.service import Service
from exporter.store import Record
from exporter.verbs import Probing
from tests.unit import samples, virtual

ENVIRONMENT = {"ENDPOINTS": f"web={samples.DESTINATION}:443"}
INTERVAL = 60.0
LATER = 20.0


@dataclass
class World:
    """A destination that is open, and a service that traces it."""

    #: The plan of each trace.
    plans: list[Plan] = field(default_factory=list)
    #: Seconds that a trace takes.
    lasts: float = 1.0

    def __post_init__(self) -> None:
        settings = load(ENVIRONMENT)
        probing = Probing(self.resolve, self.trace, self.connect)
        engine = EngineStatus("simulated", "a test")
        self.service = Service(settings, lambda: settings, probing, engine, LogStats())

    async def resolve(self, host: str, _port: int, _family: Family) -> list[str]:
        """The host is an address."""
        return [host]

    async def trace(self, _address: str, _port: int, plan: Plan, _source_port: int) -> Trace:
        """What an open path gives."""
        self.plans.append(plan)
        await asyncio.sleep(self.lasts)
        trace = samples.opened().trace
        assert trace
        return trace

    async def connect(self, _address: str, _port: int) -> Handshake:
        """An application answers."""
        return Handshake(success=True, duration=0.01)

    def ask(self, name: str = "web") -> float | None:
        """As `POST /-/trace/NAME` does."""
        return self.service._site.trace_now(name)

    @property
    def record(self) -> Record:
        """The target's."""
        record = self.service._store.get("web")
        assert record
        return record


def run(world: World, main: Callable[[], Coroutine[object, object, None]]) -> None:
    """Let the service trace while `main` runs."""

    async def tracing() -> None:
        world.service._configure()
        await main()
        await world.service._scheduler.stop()

    virtual.run(tracing())


def test_a_trace_that_is_asked_for_is_whole() -> None:
    """A steady target is traced quickly in its cycles, and with all attempts when asked for."""
    world = World()

    async def main() -> None:
        await asyncio.sleep(3 * INTERVAL + LATER)
        assert world.plans[-1].quick
        assert world.ask() == 0
        await asyncio.sleep(INTERVAL)

    run(world, main)
    assert [plan.quick for plan in world.plans[-3:]] == [True, False, True]


def test_the_record_says_that_a_trace_is_on_its_way() -> None:
    """From the request to the observation, each with a version of its own for what is kept."""
    world = World()

    async def main() -> None:
        await asyncio.sleep(LATER)
        version, record = world.record.version, world.record
        assert not record.asked_at
        assert world.ask() == 0
        assert record.asked_at
        assert record.version != version
        asked_at, version = record.asked_at, record.version
        assert world.ask() == 0
        assert (record.asked_at, record.version) == (asked_at, version)
        await asyncio.sleep(2.0)
        assert (world.record.asked_at, world.record.traces) == (None, 2)

    run(world, main)


def test_who_asks_too_soon_changes_nothing() -> None:
    """The record says of no trace that will not come."""
    world = World()

    async def main() -> None:
        await asyncio.sleep(LATER)
        assert world.ask() == 0
        await asyncio.sleep(2.0)
        wait = world.ask()
        assert wait
        assert wait > 0
        assert world.record.asked_at is None

    run(world, main)


def test_nobody_else_is_traced() -> None:
    """A name that is not configured gives None."""
    world = World()

    async def main() -> None:
        assert world.ask("nobody") is None
        assert world.ask("") is None

    run(world, main)


def test_a_fault_leaves_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A cycle with a bug in it brings no observation; the request is over all the same."""
    world = World()

    def broken(_observation: Observation) -> None:
        raise RuntimeError("bug in the store")

    async def main() -> None:
        await asyncio.sleep(LATER)
        monkeypatch.setattr(world.service._store, "add", broken)
        assert world.ask() == 0
        version = world.record.version
        await asyncio.sleep(2.0)
        assert (world.record.asked_at, world.record.traces) == (None, 1)
        assert world.record.version != version

    run(world, main)
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.ERROR, "internal error in the cycle of 'web'")
    ]


def test_a_reload_ends_what_was_asked_for() -> None:
    """A target whose settings change is cancelled and begins anew; nobody waits in vain."""
    world = World(lasts=30.0)

    async def main() -> None:
        await asyncio.sleep(1.0)
        assert world.ask() == 0
        service = world.service
        settings = load({**ENVIRONMENT, "INTERVAL_SECONDS": "40"})
        service._settings = replace(service._settings, targets=settings.targets)
        service._configure()
        await virtual.settle()
        assert world.record.asked_at is None
        assert len(world.plans) == 2

    run(world, main)
