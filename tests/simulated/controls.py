"""The controls of a cycle in virtual time, as the program makes them where a trace fails."""

from __future__ import annotations

from exporter.diagnosis.verdict import judge
from exporter.model import Controlled, Controls, Sounding, State, Trace, Verdict
from tests.scenarios import Scenario
from tests.simulated.chains import zones_of
from tests.simulated.network import CALM, Conditions, SimulatedNetwork
from tests.simulated.run import sound_over, trace_over

DEFAULTS = Controls()
#: A control has about so many probes for its hops: no more than half as many as the trace in all.
REACH = 7


def controlled(
    network: SimulatedNetwork, trace: Trace, controls: Controls = DEFAULTS
) -> Controlled:
    """Other ports of the trace's destination, and further flows to the same one, all at once."""
    destination, port = trace.flow.destination, trace.flow.destination_port
    first = max(1, trace.last_answering_ttl)
    sounding = Sounding(first, last=first + REACH - 1)
    ports = [other for other in controls.ports if other != port]
    flows = [port] * (controls.failing_flows - 1)
    found = sound_over(network, [(destination, to) for to in (*flows, *ports)], sounding)
    return Controlled(flows=found[: len(flows)], ports=found[len(flows) :])


def verdict_with_controls(
    scenario: Scenario, port: int, conditions: Conditions = CALM, controls: Controls = DEFAULTS
) -> Verdict:
    """The verdict of one cycle: a trace and, unless it is open, controls over the same network."""
    network = SimulatedNetwork(scenario, conditions)
    (trace,) = trace_over(network, [(scenario.destination, port)])
    zones = zones_of(scenario)
    verdict = judge(trace, zones=zones)
    if verdict.state is State.OPEN:
        return verdict
    return judge(trace, zones=zones, controlled=controlled(network, trace, controls))
