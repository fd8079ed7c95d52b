"""The canary's memory: asked seldom, for all targets together, and each time once it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field

import pytest

from exporter.controls.canary import MEMORY, MOST_REMEMBERED, SOUNDING, Canaries
from exporter.model import (
    CANARIES,
    FULL_TTL,
    Answer,
    Failure,
    FailureReason,
    Flow,
    Hop,
    Probe,
    ProbeError,
    Reply,
    ReplyKind,
    Sounding,
    StopReason,
    Trace,
)
from tests.unit import samples, virtual

FOUR, SIX = CANARIES
NO_ROUTE = Failure(FailureReason.NO_ROUTE, "no route")


@dataclass
class World:
    """What sounding a canary gives, after a second."""

    kind: ReplyKind | None = None
    error: Exception | None = None
    failure: Failure | None = None
    asked: list[tuple[str, int]] = field(default_factory=list)

    async def sound(self, address: str, port: int, sounding: Sounding, source_port: int) -> Trace:
        """Sound."""
        assert (sounding, source_port) == (SOUNDING, 0)
        self.asked.append((address, port))
        await asyncio.sleep(1)
        if self.error:
            raise self.error
        answers: tuple[Answer, ...] = ()
        if self.kind:
            answers = (Answer(Probe(FULL_TTL, 1, 0.0), Reply(self.kind, address, 0.1)),)
        flow = Flow(samples.SOURCE, 40_000, address, port)
        full = Hop(FULL_TTL, 1, answers)
        return Trace(flow, "syn", 0.0, 1.0, StopReason.SILENCE, (), full, failure=self.failure)


def run(main: Coroutine[object, object, None]) -> None:
    """Virtual time."""
    virtual.run(main)


def test_silence_counts_for_a_while() -> None:
    """A canary that was silent is asked again after 300 s, and known until then."""
    world = World()

    async def main() -> None:
        canaries = Canaries(world.sound)
        first = await canaries.ask(samples.DESTINATION, 443)
        assert first
        assert first.flow.destination == FOUR
        await asyncio.sleep(MEMORY - 1)
        assert await canaries.ask("192.0.2.9", 443) is first
        await asyncio.sleep(1)
        assert await canaries.ask(samples.DESTINATION, 443) is not first
        assert world.asked == [(FOUR, 443)] * 2

    run(main())


def test_ports_and_families_are_apart() -> None:
    """Each port of each family has a canary of its own."""
    world = World()

    async def main() -> None:
        canaries = Canaries(world.sound)
        for destination, port in ((samples.DESTINATION, 443), (samples.DESTINATION, 80)):
            await canaries.ask(destination, port)
        await canaries.ask("fd09:0:0:b::2", 443)
        assert world.asked == [(FOUR, 443), (FOUR, 80), (SIX, 443)]

    run(main())


@pytest.mark.parametrize("kind", [ReplyKind.SYN_ACK, ReplyKind.RST])
def test_one_that_is_answered_is_asked_each_time(kind: ReplyKind) -> None:
    """A proxy shows anew in each cycle, until it is gone."""
    world = World(kind)

    async def main() -> None:
        canaries = Canaries(world.sound)
        for _ in range(3):
            await canaries.ask(samples.DESTINATION, 443)
        assert len(world.asked) == 3

    run(main())


def test_an_error_on_the_way_is_no_answer() -> None:
    """A router that has no route to the canary is as good as silence."""
    world = World(ReplyKind.UNREACHABLE)

    async def main() -> None:
        canaries = Canaries(world.sound)
        await canaries.ask(samples.DESTINATION, 443)
        await canaries.ask(samples.DESTINATION, 443)
        assert len(world.asked) == 1

    run(main())


def test_cycles_at_the_same_time_share_one() -> None:
    """Ten targets with one port ask once, and each gets the answer."""
    world = World()

    async def main() -> None:
        canaries = Canaries(world.sound)
        found = await asyncio.gather(*(canaries.ask(f"192.0.2.{n}", 443) for n in range(10)))
        assert len(world.asked) == 1
        assert len({id(trace) for trace in found}) == 1
        assert found[0]

    run(main())


def test_who_stops_waiting_does_not_end_it_for_others() -> None:
    """A cycle that is cancelled while it shares a canary leaves it to the others."""
    world = World()

    async def main() -> None:
        canaries = Canaries(world.sound)
        first, gone, last = (
            asyncio.create_task(canaries.ask(samples.DESTINATION, 443)) for _ in range(3)
        )
        await virtual.settle()
        gone.cancel()
        assert await first
        assert await last is await first

    run(main())


def test_who_asks_may_be_cancelled() -> None:
    """Then those who share it do without, and the next one asks anew."""
    world = World()

    async def main() -> None:
        canaries = Canaries(world.sound)
        first, second = (
            asyncio.create_task(canaries.ask(samples.DESTINATION, 443)) for _ in range(2)
        )
        await virtual.settle()
        first.cancel()
        assert await second is None
        assert await canaries.ask(samples.DESTINATION, 443)
        assert len(world.asked) == 2

    run(main())


@pytest.mark.parametrize(
    "world", [World(error=ProbeError(NO_ROUTE)), World(failure=NO_ROUTE)], ids=["raised", "sending"]
)
def test_one_that_cannot_be_asked_is_none(world: World) -> None:
    """Without a route there is no canary, and it is tried again each time."""

    async def main() -> None:
        canaries = Canaries(world.sound)
        assert await canaries.ask(samples.DESTINATION, 443) is None
        assert await canaries.ask(samples.DESTINATION, 443) is None
        assert len(world.asked) == 2

    run(main())


def test_the_canary_is_no_canary_for_itself() -> None:
    """A target at the canary's address has none."""
    world = World()

    async def main() -> None:
        canaries = Canaries(world.sound)
        assert await canaries.ask(FOUR, 443) is None
        assert await canaries.ask(SIX, 443) is None
        assert world.asked == []

    run(main())


def test_memory_is_bounded() -> None:
    """The canary asked longest ago is forgotten first."""
    world = World()

    async def main() -> None:
        canaries = Canaries(world.sound)
        ports = range(1, MOST_REMEMBERED + 2)
        await asyncio.gather(*(canaries.ask(samples.DESTINATION, port) for port in ports))
        await canaries.ask(samples.DESTINATION, 2)
        assert len(world.asked) == MOST_REMEMBERED + 1
        await canaries.ask(samples.DESTINATION, 1)
        assert len(world.asked) == MOST_REMEMBERED + 2

    run(main())
