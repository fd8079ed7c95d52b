"""The network of the soak: many targets, whose fates change by a timetable.

    prober -- 4 routers that all paths share -- 8 devices of each path's own; hop 6 has the firewall

A quarter each of the targets is open, closed, dropped at hop 6 and rejected there. Time is divided
into rounds. In each round a tenth of the targets change their fates for a while; a seventh goes by
other routers at hops 8 and 9; and every third round the shared router at hop 3 is another one.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import cache

from exporter.model import Answer, Flow, Handshake, Location, Probe, State
from exporter.probing.handshake import HANDSHAKE_TIMEOUT
from tests.scenarios import Rule, Scenario
from tests.simulated.network import CALM, SimulatedNetwork
from tests.simulated.network import _Bucket as IcmpBudget

HOPS, SHARED_HOPS, FIREWALL = 12, 4, 6
PORT = 443
#: One way over a link, in seconds: the destination is 24 ms away.
DELAY = 0.001
PLATFORM = "10.9.0.0/16"
PATHS_A_NETWORK = 200
NEAR_HOP = 3
DETOUR_HOPS = (8, 9)
#: Of a round: when blocks come and go.
TURN_BEGINS, TURN_ENDS = 0.2, 0.5
CHANGING, DETOURING, NEAR_ROUNDS = 10, 7, 3


@dataclass(frozen=True, slots=True)
class Truth:
    """What a verdict has to say."""

    state: State
    location: Location = Location.NONE
    blocked_at_hop: int = 0
    suspects: tuple[int, int] = (0, 0)


class Fate(Enum):
    """What becomes of a target's traffic: the firewall's action, whether the port is open."""

    OPEN = ("", True, Truth(State.OPEN))
    CLOSED = ("", False, Truth(State.CLOSED))
    DROPPED = (
        "drop",
        True,
        Truth(State.FILTERED, Location.EXTERNAL, FIREWALL + 1, (FIREWALL, FIREWALL + 1)),
    )
    REJECTED = (
        "admin-prohibited",
        True,
        Truth(State.REJECTED, Location.EXTERNAL, FIREWALL, (FIREWALL, FIREWALL)),
    )

    def __init__(self, action: str, is_open: bool, truth: Truth) -> None:  # noqa: FBT001
        self.rules = (Rule(FIREWALL, action, ports=(PORT,)),) if action else ()
        self.open_ports = (PORT,) if is_open else ()
        self.truth = truth


FATES = tuple(Fate)


@dataclass(frozen=True, slots=True)
class Timetable:
    """What holds when; seconds are counted from the start of the soak."""

    round_seconds: float

    def fate(self, number: int, at: float) -> Fate:
        """That of a target: mostly its own, sometimes the opposite one."""
        turn, part = divmod(at / self.round_seconds, 1)
        changes = (number + int(turn)) % CHANGING == 0 and TURN_BEGINS <= part < TURN_ENDS
        return FATES[(number + 2 * changes) % len(FATES)]

    def detour(self, number: int, at: float) -> bool:
        """Whether a target's path goes by its other routers."""
        return (number + int(at / self.round_seconds)) % DETOURING == 0

    def near(self, at: float) -> int:
        """Which of two routers stands at the shared hop that changes."""
        return int(at / self.round_seconds / NEAR_ROUNDS) % 2

    def way(self, number: int, at: float) -> Way:
        """The path of a target as it is at a time."""
        fate = self.fate(number, at)
        return _way(
            number, fate.rules, fate.open_ports, near=self.near(at), detour=self.detour(number, at)
        )

    def steady(self, number: int, since: float, until: float) -> bool:
        """Whether nothing about a target's path has changed in a span of time."""
        return self.way(number, since) == self.way(number, until)


@dataclass(frozen=True, slots=True)
class Way(Scenario):
    """A scenario whose first routers are those of all paths."""

    number: int = 0
    near: int = 0
    detour: bool = False

    def address(self, hop: int) -> str:
        """The address in whose name the device at `hop` answers."""
        if hop <= SHARED_HOPS:
            return f"10.9.{hop - 1}.{2 + self.near * (hop == NEAR_HOP)}"
        network, host = divmod(self.number, PATHS_A_NETWORK)
        other = 100 * (self.detour and hop in DETOUR_HOPS)
        return f"10.{20 + network}.{hop + other}.{host + 10}"


@cache  # a target has a handful of them, and each probe asks
def _way(
    number: int,
    rules: tuple[Rule, ...],
    open_ports: tuple[int, ...],
    *,
    near: int = 0,
    detour: bool = False,
) -> Way:
    return Way(
        name=f"path {number}",
        title="made for the soak",
        hops=HOPS,
        platform_hops=SHARED_HOPS,
        delay=DELAY,
        open_ports=open_ports,
        destination_exists=True,
        silent=(),
        rules=rules,
        expectations=(),
        number=number,
        near=near,
        detour=detour,
    )


def destination(number: int) -> str:
    """The address of a target; it is the same however its path goes."""
    return _way(number, (), ()).destination


#: Where no target is, as the canary's address: nobody beyond the shared routers answers.
NOWHERE = _way(0, (Rule(SHARED_HOPS + 1, "drop", "ingress"),), ())


class _Path(SimulatedNetwork):
    """One target's devices, in the loop's time. The budgets of the shared ones are everybody's."""

    def __init__(self, world: World, way: Way) -> None:
        super().__init__(way, CALM)
        self._world = world
        self._buckets = world.budgets

    def at_present(self, way: Way) -> None:
        """Let the loop's time be, and the path as it is then."""
        self.scenario = way
        self.advance(self._world.clock())

    def _after(self, delay: float, happen: Callable[[], None]) -> None:
        self._world.loop.call_at(self.clock() + delay, self._happen, happen)

    def _happen(self, happen: Callable[[], None]) -> None:
        self.advance(self._world.clock())
        happen()
        if self._arrived:
            self._world.ring(self)


class World:
    """All paths as one engine on the running loop."""

    name = "simulated"
    kernel_times = True
    most_on_their_way = 1000

    def __init__(self, timetable: Timetable, numbers: Iterable[int]) -> None:
        self.loop = asyncio.get_running_loop()
        self.budgets: dict[str, IcmpBudget] = {}
        self.probes = 0
        self._timetable = timetable
        self._began = self.loop.time()
        self._numbers = {destination(number): number for number in numbers}
        self._paths: dict[str, _Path] = {}
        self._arrived: dict[_Path, None] = {}
        #: Stand for the engine's own socket and the kernel.
        self._pair = socket.socketpair()
        for end in self._pair:
            end.setblocking(False)

    def clock(self) -> float:
        """The loop's time."""
        return self.loop.time()

    def elapsed(self) -> float:
        """Seconds since the start."""
        return self.clock() - self._began

    def ring(self, path: _Path) -> None:
        """Something has arrived there."""
        if not self._arrived:
            self._pair[1].send(b"!")
        self._arrived[path] = None

    # -- the engine --------------------------------------------------------------------

    def filenos(self) -> tuple[int, ...]:
        """The one that becomes readable."""
        return (self._pair[0].fileno(),)

    def open(self, destination: str, port: int, preferred_port: int = 0) -> Flow:
        """A flow on the path to the destination."""
        return self._path(destination).open(destination, port, preferred_port)

    def send(self, flow: Flow, ttl: int, attempt: int) -> Probe:
        """Send a SYN on the path as it is now."""
        self.probes += 1
        return self._path(flow.destination).send(flow, ttl, attempt)

    def receive(self) -> Iterable[tuple[Flow, Answer]]:
        """What has arrived by now."""
        with suppress(BlockingIOError):
            self._pair[0].recv(64)
        arrived, self._arrived = self._arrived, {}
        return [item for path in arrived for item in path.receive()]

    def unseen_errors(self) -> int:
        """None."""
        return 0

    def captured(self, flow: Flow) -> bytes:
        """The packets of a flow."""
        return self._path(flow.destination).captured(flow)

    def release(self, flow: Flow) -> int:
        """Close a flow."""
        return self._path(flow.destination).release(flow)

    def close(self) -> None:
        """Close the descriptors."""
        for end in self._pair:
            end.close()

    def _path(self, destination: str) -> _Path:
        number = self._numbers.get(destination)
        way = NOWHERE if number is None else self._timetable.way(number, self.elapsed())
        if destination not in self._paths:
            self._paths[destination] = _Path(self, way)
        path = self._paths[destination]
        path.at_present(way)
        return path

    # -- the application's view ----------------------------------------------------------

    async def connect(self, address: str, _port: int) -> Handshake:
        """The application's view as it would be now."""
        fate = self._timetable.fate(self._numbers[address], self.elapsed())
        hops = FIREWALL if fate.rules else HOPS
        duration = HANDSHAKE_TIMEOUT if fate is Fate.DROPPED else 2 * hops * DELAY
        await asyncio.sleep(duration)
        error = None if fate is Fate.OPEN else os.strerror(ERRORS[fate])
        return Handshake(success=error is None, duration=duration, error=error)


#: errno of connect() (Linux): ECONNREFUSED after RST, EHOSTUNREACH after ICMP 3/13.
ERRORS = {Fate.CLOSED: 111, Fate.DROPPED: 110, Fate.REJECTED: 113}
