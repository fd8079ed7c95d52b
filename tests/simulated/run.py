"""Whole traces in virtual time: the real driver and tracer over a simulated network.

The loop is the program's event loop without the waiting: the driver says when it wants to be
called, the network says what arrives before that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from exporter.model import Flow, Plan, Sounding, Trace
from exporter.probing.driver import Driver
from tests.scenarios import Scenario
from tests.simulated.network import CALM, Conditions, SimulatedNetwork

#: A trace that has not ended after so much virtual time, in seconds, never will.
TIME_LIMIT = 300.0
#: More calls than twenty traces need, many times over.
CALL_LIMIT = 20_000
#: A driver that asks so often in a row to be called again at once, with nothing to read, would
#: burn a processor in real time.
SPIN_LIMIT = 20
SPIN_STEP = 0.0001


@dataclass(frozen=True, slots=True)
class Pace:
    """The prober's own limits: probes a second over all traces, and how many at once."""

    probes_per_second: float = 200.0
    burst: int = 100


DEFAULTS = Plan()
ORDINARY = Pace()


def run(driver: Driver, network: SimulatedNetwork) -> None:
    """Call the driver until it is idle; raises AssertionError when it never is, or spins."""
    limit = network.clock() + TIME_LIMIT
    spins = 0
    for _ in range(CALL_LIMIT):
        wanted = driver.pump(network.clock())
        if wanted is None:
            return
        if wanted > limit:
            break
        before = network.clock()
        arrived = network.advance_to_arrival(wanted)
        spins = 0 if arrived or network.clock() - before > SPIN_STEP else spins + 1
        assert spins < SPIN_LIMIT, f"called {spins} times in a row for nothing at {before:.6f}"
    raise AssertionError(f"no end after {TIME_LIMIT:g} s of virtual time or {CALL_LIMIT} calls")


def trace_over(
    network: SimulatedNetwork,
    endpoints: Iterable[tuple[str, int]],
    plan: Plan | Sounding = DEFAULTS,
    pace: Pace = ORDINARY,
) -> tuple[Trace, ...]:
    """Trace several (destination, port) at once over one network, in the order given.

    Raises what `Driver.start` raises, and AssertionError when a trace does not end.
    """
    driver = Driver(network, pace.probes_per_second, pace.burst)
    traces: dict[Flow, Trace] = {}

    def done(trace: Trace) -> None:
        assert trace.flow not in traces, "a trace was finished twice"
        traces[trace.flow] = trace

    flows = [
        driver.start(destination, port, plan, network.clock(), done, wall_clock=0.0)
        for destination, port in endpoints
    ]
    run(driver, network)
    return tuple(traces[flow] for flow in flows)


def sound_over(
    network: SimulatedNetwork,
    endpoints: Iterable[tuple[str, int]],
    sounding: Sounding,
    pace: Pace = ORDINARY,
) -> tuple[Trace, ...]:
    """Sound several (destination, port) at once over a network, as the controls of a trace do."""
    return trace_over(network, endpoints, sounding, pace)


def trace_many(
    scenario: Scenario,
    endpoints: Iterable[tuple[str, int]],
    plan: Plan = DEFAULTS,
    conditions: Conditions = CALM,
    pace: Pace = ORDINARY,
) -> tuple[Trace, ...]:
    """`trace_over` a network of its own."""
    return trace_over(SimulatedNetwork(scenario, conditions), endpoints, plan, pace)


def trace(
    scenario: Scenario,
    port: int,
    plan: Plan = DEFAULTS,
    conditions: Conditions = CALM,
    pace: Pace = ORDINARY,
) -> Trace:
    """Trace one port of the scenario's destination."""
    (result,) = trace_many(scenario, [(scenario.destination, port)], plan, conditions, pace)
    return result
