"""Many targets behind the same first routers, traced round after round in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from exporter.model import Flow, Plan, ReplyKind, Trace
from exporter.probing.driver import Driver
from exporter.probing.near import Near
from tests.scenarios import Rule, Scenario
from tests.simulated.chains import CLOSED_PORT, OPEN_PORT, chain
from tests.simulated.network import CALM, Conditions, SimulatedNetwork

#: (address, port).
Endpoint = tuple[str, int]
PlanOf = Callable[[Endpoint], Plan]

DROPPED_PORT, REJECTED_PORT = 5432, 3306
PORTS = (OPEN_PORT, DROPPED_PORT, REJECTED_PORT, CLOSED_PORT)
#: A firewall in the middle that drops one port and rejects another.
FIREWALL_HOP = 6
SHARED_HOPS = 4

#: A trace to a dropped port takes 4 s, and may have to wait for its turn.
LONGEST_TRACE = 12.0


def whole(_endpoint: Endpoint) -> Plan:
    """Every trace with all attempts."""
    return Plan()


def middle_firewall(hops: int = 12, *, silent: tuple[int, ...] = ()) -> Scenario:
    """A chain of `hops` devices, 1 ms a link, with a firewall at FIREWALL_HOP."""
    return chain(
        hops,
        silent=silent,
        rules=(
            Rule(FIREWALL_HOP, "drop", ports=(DROPPED_PORT,)),
            Rule(FIREWALL_HOP, "admin-prohibited", ports=(REJECTED_PORT,)),
        ),
    )


def endpoints(number: int) -> list[Endpoint]:
    """So many (address, port), each at the end of a path of its own, the ports by turns."""
    return [(f"10.{20 + n // 250}.0.{n % 250 + 1}", PORTS[n % len(PORTS)]) for n in range(number)]


class Crowd(SimulatedNetwork):
    """A scenario for each destination, with the first `shared` routers in common."""

    def __init__(
        self, scenario: Scenario, conditions: Conditions = CALM, shared: int = SHARED_HOPS
    ) -> None:
        super().__init__(scenario, conditions)
        self.shared = shared
        #: (hop, destination or None for all) -> the address that stands there now.
        self.moved: dict[tuple[int, str | None], str] = {}

    def address_of(self, destination: str, hop: int) -> str:
        """Who answers at a hop of the path to a destination."""
        for whose in (destination, None):
            if moved := self.moved.get((hop, whose)):
                return moved
        if hop <= self.shared or hop >= self.scenario.hops:
            return destination if hop == self.scenario.hops else self.scenario.address(hop)
        _, second, _, fourth = destination.split(".")
        return f"10.{second}.{hop}.{fourth}"

    def _address(self, flow: Flow, hop: int) -> str:
        return self.address_of(flow.destination, hop)


@dataclass
class Rounds:
    """Traces each endpoint once an interval, spread evenly, always from the same port."""

    network: Crowd
    near: Near | None = field(default_factory=Near)
    interval: float = 60.0
    probes_per_second: float = 1_000.0

    def __post_init__(self) -> None:
        self.driver = Driver(self.network, self.probes_per_second, 50, near=self.near)
        self._ports: dict[Endpoint, int] = {}
        self._next_port = count(40_000)

    def run(
        self,
        targets: Sequence[Endpoint],
        plan: PlanOf = whole,
        rounds: int = 1,
    ) -> list[dict[Endpoint, Trace]]:
        """The traces of each round."""
        return [self._round(targets, plan) for _ in range(rounds)]

    def _round(self, targets: Sequence[Endpoint], plan: PlanOf) -> dict[Endpoint, Trace]:
        network, start = self.network, self.network.clock()
        found: dict[Endpoint, Trace] = {}
        for number, target in enumerate(targets):
            self._pump_until(start + number * (self.interval - LONGEST_TRACE) / len(targets))
            self.driver.start(
                *target,
                plan(target),
                network.clock(),
                partial(found.__setitem__, target),
                wall_clock=0.0,
                preferred_port=self._ports.setdefault(target, next(self._next_port)),
            )
        self._pump_until(start + self.interval)
        assert len(found) == len(targets), "a trace took longer than the rest of its round"
        return found

    def _pump_until(self, until: float) -> None:
        network = self.network
        while network.clock() < until:
            wanted = self.driver.pump(network.clock())
            network.advance_to_arrival(until if wanted is None else min(wanted, until))


def routers(trace: Trace) -> dict[int, str]:
    """TTL -> who is known there, shared or not."""
    return {
        hop.ttl: answer.reply.address
        for hop in trace.hops
        for answer in hop.known
        if answer.reply.kind is ReplyKind.TIME_EXCEEDED
    }


def probes(traces: Iterable[Trace]) -> int:
    """How many were sent for them."""
    return sum(hop.sent for t in traces for hop in (*t.hops, *filter(None, [t.confirmation])))
