"""Traces on an asyncio loop, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from exporter.model import (
    Answer,
    Failure,
    FailureReason,
    Flow,
    Plan,
    ProbeError,
    StopReason,
    Trace,
)
from exporter.probing import driver as driver_module
from exporter.probing.driver import Driver, Prober
from tests.unit import virtual
from tests.unit.playing import SYN_ACK, World, chain, nobody
from tests.unit.worlds import LoopEngine

PLAN = Plan(attempts=1)
OPEN = chain(6, SYN_ACK)


@pytest.fixture(autouse=True)
def one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prober's monotonic clock is the running loop's, as it is in life."""

    def monotonic() -> float:
        return asyncio.get_running_loop().time()

    clocks = SimpleNamespace(monotonic=monotonic, time=lambda: 1767225600.0)
    monkeypatch.setattr(driver_module, "time", clocks)


@asynccontextmanager
async def probing(*worlds: World) -> AsyncIterator[tuple[Prober, LoopEngine]]:
    """A prober over the destinations 10.9.5.2, 10.9.5.3 and so on, closed at the end."""
    engine = LoopEngine({f"10.9.5.{n}": world for n, world in enumerate(worlds, start=2)})
    prober = Prober(Driver(engine, 1000, 100))
    try:
        yield prober, engine
    finally:
        prober.close()


def trace(prober: Prober, host: int, plan: Plan = PLAN, port: int = 0) -> asyncio.Task[Trace]:
    """A trace in a task of its own."""
    return asyncio.create_task(prober.trace(f"10.9.5.{host}", 443, plan, port))


def test_a_trace_is_awaited() -> None:
    """`trace` returns the complete trace when its last answer has come."""

    async def main() -> None:
        async with probing(OPEN) as (prober, engine):
            done = await trace(prober, 2)
            assert done.stop_reason is StopReason.DESTINATION
            assert virtual.now() == pytest.approx(0.02)
            assert engine.released == [done.flow]

    virtual.run(main())


def test_many_traces_at_once() -> None:
    """Traces run side by side; a silent one does not keep an open one."""

    async def main() -> None:
        async with probing(nobody, *[OPEN] * 20) as (prober, _):
            silent, *others = [trace(prober, host) for host in range(2, 23)]
            done = await asyncio.gather(*others)
            assert {each.distance for each in done} == {6}
            assert virtual.now() < 0.2
            assert (await silent).stop_reason is StopReason.SILENCE

    virtual.run(main())


def test_a_lone_trace_is_read_soon_and_a_crowd_in_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many traces wake the prober no oftener than every TICK, where one sweeps without delay."""

    async def main() -> None:
        async with probing(OPEN, *[OPEN] * 20) as (prober, engine):
            reads: list[float] = []

            def receive() -> Iterator[tuple[Flow, Answer]]:
                reads.append(virtual.now())
                return LoopEngine.receive(engine)

            monkeypatch.setattr(engine, "receive", receive)
            await trace(prober, 2)
            assert virtual.now() == pytest.approx(0.02, abs=2 * driver_module.SWEEP_TICK)
            reads.clear()
            began = virtual.now()
            await asyncio.gather(*(trace(prober, host) for host in range(3, 23)))
            assert len(reads) <= 2 + (virtual.now() - began) / driver_module.TICK

    virtual.run(main())


def test_ticks_are_multiples_of_their_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever a crowd begins, the prober wakes up when every other prober on the loop does."""

    async def main() -> None:
        async with probing(*[OPEN] * 20) as (prober, engine):
            ticks: list[float] = []

            def receive() -> Iterator[tuple[Flow, Answer]]:
                ticks.append(asyncio.get_running_loop().time() / driver_module.TICK)
                return LoopEngine.receive(engine)

            await asyncio.sleep(0.4 * driver_module.TICK)
            crowd = asyncio.gather(*(trace(prober, host) for host in range(2, 22)))
            await asyncio.sleep(driver_module.TICK)
            monkeypatch.setattr(engine, "receive", receive)
            await crowd
            assert ticks
            assert ticks == pytest.approx([round(tick) for tick in ticks], abs=1e-3)

    virtual.run(main())


def test_the_preferred_port_is_asked_for() -> None:
    """The port of the trace before is handed to the engine."""

    async def main() -> None:
        async with probing(OPEN) as (prober, _):
            assert (await trace(prober, 2, port=41234)).flow.source_port == 41234

    virtual.run(main())


def test_a_cancelled_trace_frees_its_flow() -> None:
    """Cancelling the task ends the trace at once; others and later ones are as before."""

    async def main() -> None:
        async with probing(nobody, OPEN) as (prober, engine):
            gone, stays = trace(prober, 2), trace(prober, 3)
            await virtual.settle()
            gone.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gone
            assert [flow.destination for flow in engine.released] == ["10.9.5.2"]
            assert virtual.now() == 0
            assert (await stays).distance == 6

    virtual.run(main())


def test_a_finished_trace_leaves_its_ports_next_user_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace that gets the flow of one that has just ended is not ended with it."""

    async def main() -> None:
        async with probing(OPEN) as (prober, engine):
            freed = asyncio.Event()

            def release(flow: Flow) -> int:
                freed.set()
                return LoopEngine.release(engine, flow)

            monkeypatch.setattr(engine, "release", release)
            first = trace(prober, 2, port=41234)
            await freed.wait()
            assert not first.done()
            second = await prober.trace("10.9.5.2", 443, PLAN, 41234)
            assert second.flow == (await first).flow

    virtual.run(main())


def test_a_trace_that_cannot_begin() -> None:
    """A refusal of the engine to open a flow is raised to whoever asked."""

    async def main() -> None:
        refusal = ProbeError(Failure(FailureReason.NO_ROUTE, "no route"))
        async with probing(OPEN) as (prober, engine):
            engine.unopenable = refusal
            with pytest.raises(ProbeError, match="no route"):
                await trace(prober, 2)

    virtual.run(main())


@pytest.mark.parametrize("fault", ["send", "answer"])
def test_a_fault_is_raised_to_its_own_caller(fault: str) -> None:
    """A fault in one trace is raised there, and the trace beside it is complete."""

    async def main() -> None:
        async with probing(OPEN, OPEN) as (prober, engine):
            if fault == "send":
                engine.refusals["10.9.5.2"] = AttributeError("bug")
            else:
                engine.garbage.add("10.9.5.2")
            faulty, sound = trace(prober, 2), trace(prober, 3)
            with pytest.raises(AttributeError):
                await faulty
            assert (await sound).distance == 6

    virtual.run(main())


def test_closing_leaves_the_loop() -> None:
    """After close the prober has no timer and no reader, and the engine is closed."""

    async def main() -> None:
        async with probing(nobody) as (prober, engine):
            running = trace(prober, 2)
            await virtual.settle()
            running.cancel()
            await virtual.settle()
        assert engine.pair[0].fileno() == -1
        await asyncio.sleep(100)

    virtual.run(main())
