"""Whole cycles with their controls in virtual time: what they find, and what they cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from exporter.controls.choice import SHORTEST_SWEEP
from exporter.controls.making import TIME
from exporter.diagnosis.zones import ZoneMap
from exporter.model import Controls, Family, Flow, Observation, Plan, Sounding, State, Target, Trace
from exporter.observer import observe
from exporter.probing.driver import Driver
from exporter.verbs import Probing
from tests import scenarios
from tests.scenarios import Rule, Scenario
from tests.simulated.network import SimulatedNetwork
from tests.simulated.run import ORDINARY
from tests.unit import virtual

CASES = {
    f"{scenario.name}-{expectation.port}": (scenario, expectation)
    for scenario in scenarios.load_all()
    for expectation in scenario.expectations
}
NONE = Controls(ports=(), echo=False, canary=False, failing_flows=1)
#: What a near device's answer, which ends a trace after few probes, gets in any case: three SYNs
#: for each of three flows and two ports at most, and the shortest sweep behind one more.
LEAST = 3 * (3 + 2) + 1 + SHORTEST_SWEEP
#: Seconds by which a network that is looked at now and then is late.
LATE = 0.1


class Prober:
    """Traces and soundings over one simulated network on the running loop."""

    def __init__(self, scenario: Scenario) -> None:
        self.network = SimulatedNetwork(scenario)
        self._driver = Driver(self.network, ORDINARY.probes_per_second, ORDINARY.burst)

    async def trace(
        self, destination: str, port: int, plan: Plan | Sounding, source_port: int
    ) -> Trace:
        """One trace or sounding."""
        done: asyncio.Future[Trace] = asyncio.get_running_loop().create_future()

        def finish(trace: Trace) -> None:
            if not done.done():
                done.set_result(trace)

        flow: Flow = self._driver.start(
            destination,
            port,
            plan,
            self.network.clock(),
            finish,
            wall_clock=0.0,
            preferred_port=source_port,
        )
        try:
            return await done
        finally:
            self._driver.cancel(flow)

    async def pump(self) -> None:
        """Let the network live in the loop's time."""
        loop = asyncio.get_running_loop()
        while True:
            wanted = self._driver.pump(self.network.clock())
            soon = loop.time() + LATE / 10
            self.network.advance_to_arrival(min(soon, wanted or soon))
            await asyncio.sleep(max(0.001, self.network.clock() - loop.time()))


@asynccontextmanager
async def probing(scenario: Scenario) -> AsyncIterator[Probing]:
    """What a cycle needs, without a plain connect, an echo and a canary."""
    prober = Prober(scenario)
    pumping = asyncio.create_task(prober.pump())

    async def resolve(host: str, _port: int, _family: Family) -> list[str]:
        return [host]

    try:
        yield Probing(resolve, prober.trace, None, sound=prober.trace)
    finally:
        pumping.cancel()


def cycle(scenario: Scenario, port: int, controls: Controls) -> tuple[Observation, float]:
    """One cycle of a target at the scenario's destination, and its seconds."""
    target = Target("db", scenario.destination, port, controls=controls)

    async def main() -> tuple[Observation, float]:
        async with probing(scenario) as verbs:
            seen = await observe(target, verbs, ZoneMap())
            return seen, virtual.now()

    return virtual.run(main())


def sent(trace: Trace) -> int:
    """Probes of a trace."""
    return sum(hop.sent for hop in (*trace.hops, *filter(None, [trace.confirmation])))


@pytest.mark.parametrize("family", scenarios.FAMILIES)
@pytest.mark.parametrize("case", CASES)
def test_controls_keep_to_their_budget(case: str, family: str) -> None:
    """In every scenario half of the trace's probes and 1.5 s, and two probes where it is open.

    A trace that a near device ends at once has sent so few that half of them is not enough. And
    of the hops behind the last one that answered, silent ones are asked twice.
    """
    scenario, expectation = CASES[case]
    scenario = replace(scenario, family=family)
    _, without = cycle(scenario, expectation.port, NONE)
    seen, seconds = cycle(scenario, expectation.port, Controls(echo=False, canary=False))
    assert seen.trace
    assert seen.verdict.state == expectation.state
    controls = seen.controlled.traces
    if seen.verdict.state is State.OPEN:  # for the first time
        assert sum(map(sent, controls)) == 2
        assert seconds <= without + 2 * LATE
    twice = sum(hop.sent == 2 for trace in controls for hop in trace.hops)
    assert sum(map(sent, controls)) - twice <= max(sent(seen.trace) // 2, LEAST)
    assert seconds <= without + TIME + LATE


#: Two hops are silent that nobody has a reason to wait for.
FAR = replace(
    scenarios.load(scenarios.FOLDER / "mid_path_firewall.toml"),
    name="far",
    hops=12,
    open_ports=(443,),
    silent=(9, 10),
    rules=(Rule(7, "drop", ports=(5432,)),),
    expectations=(),
)


@pytest.mark.parametrize("round_trip", [0.06, 0.312, 0.55])
def test_a_slow_path_is_swept_in_time(round_trip: float) -> None:
    """Behind silent routers, too: the port that passes shows the hop behind the firewall."""
    scenario = replace(FAR, delay=round_trip / (2 * FAR.hops))
    _, without = cycle(scenario, 5432, NONE)
    seen, seconds = cycle(scenario, 5432, Controls(echo=False, canary=False))
    assert seen.verdict.suspect_hops == (7, 8)
    assert seconds <= without + TIME + LATE
