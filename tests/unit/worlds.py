"""An engine in virtual time over the worlds of playing.py, for what stands on top of engines."""

from __future__ import annotations

import asyncio
import heapq
import select
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from exporter.model import Answer, Flow, Probe
from exporter.probing.driver import Driver
from tests.unit.playing import MOST_STEPS, START, World, answer

FIRST_PORT = 40_000


@dataclass
class WorldEngine:
    """One world for each destination; `now` is set by whoever plays.

    Faults by destination: `refusals` are raised by `send`, `garbage` makes answers that no
    tracer can read; `deaf` is raised by `receive`, `unopenable` by `open`.
    """

    worlds: dict[str, World]
    now: float = START
    name: str = "world"
    kernel_times: bool = True
    most_on_their_way: int = 1000
    sent: list[tuple[float, Flow]] = field(default_factory=list)
    released: list[Flow] = field(default_factory=list)
    opened: list[Flow] = field(default_factory=list)
    refusals: dict[str, Exception] = field(default_factory=dict)
    garbage: set[str] = field(default_factory=set)
    deaf: Exception | None = None
    unopenable: Exception | None = None
    duplicates: int = 0
    unseen: int = 0
    #: Stand for the engine's own socket and whoever writes to it.
    pair: tuple[socket.socket, socket.socket] = field(default_factory=socket.socketpair)
    _arriving: list[tuple[float, int, Flow, Answer]] = field(default_factory=list)

    def clock(self) -> float:
        """The time that its probes are stamped with."""
        return self.now

    def announce(self, arrives_at: float) -> None:
        """Take note that an answer will arrive."""

    def filenos(self) -> tuple[int, ...]:
        """The one that becomes readable."""
        return (self.pair[0].fileno(),)

    def open(self, destination: str, port: int, preferred_port: int = 0) -> Flow:
        """A flow from the preferred port, or from the next."""
        if self.unopenable:
            raise self.unopenable
        source_port = preferred_port or FIRST_PORT + len(self.opened)
        flow = Flow("10.9.0.1", source_port, destination, port)
        self.opened.append(flow)
        return flow

    def send(self, flow: Flow, ttl: int, attempt: int) -> Probe:
        """Ask the world of the flow's destination."""
        if error := self.refusals.get(flow.destination):
            raise error
        probe = Probe(ttl, attempt, self.clock())
        self.sent.append((probe.sent_at, flow))
        if says := self.worlds[flow.destination](ttl, attempt):
            arrives_at = probe.sent_at + says.after
            item = arrives_at, len(self.sent), flow, answer(probe, says)
            heapq.heappush(self._arriving, item)
            self.announce(arrives_at)
        return probe

    def receive(self) -> Iterator[tuple[Flow, Answer]]:
        """What has arrived by now."""
        if self.deaf:
            raise self.deaf
        while self._arriving and self._arriving[0][0] <= self.clock():
            _, _, flow, answered = heapq.heappop(self._arriving)
            broken: Answer = None  # type: ignore[assignment]  # what no engine should give
            yield flow, broken if flow.destination in self.garbage else answered

    def unseen_errors(self) -> int:
        """How many errors it was never told of."""
        return self.unseen

    def captured(self, _flow: Flow) -> bytes:
        """None."""
        return b""

    def release(self, flow: Flow) -> int:
        """Note it."""
        self.released.append(flow)
        return self.duplicates

    def close(self) -> None:
        """Close the pair."""
        for end in self.pair:
            end.close()

    def next_arrival(self) -> float:
        """When the next answer comes."""
        return self._arriving[0][0] if self._arriving else float("inf")

    @property
    def sent_by(self) -> Counter[str]:
        """How many probes went to each destination."""
        return Counter(flow.destination for _, flow in self.sent)


class LoopEngine(WorldEngine):
    """A world in the running loop's time: its descriptor is readable when an answer arrives."""

    def clock(self) -> float:
        """The loop's."""
        return asyncio.get_running_loop().time()

    def announce(self, arrives_at: float) -> None:
        """Ring when it is due."""
        asyncio.get_running_loop().call_at(arrives_at, self._ring)

    def receive(self) -> Iterator[tuple[Flow, Answer]]:
        """What has arrived; the descriptor is not readable any more."""
        while select.select([self.pair[0]], [], [], 0)[0]:
            self.pair[0].recv(4096)
        return super().receive()

    def _ring(self) -> None:
        if self.pair[1].fileno() >= 0:  # else closed meanwhile
            self.pair[1].send(b"!")


def pump_all(driver: Driver, engine: WorldEngine) -> None:
    """Pump until no trace runs."""
    for _ in range(MOST_STEPS):
        wanted = driver.pump(engine.now)
        if wanted is None:
            return
        assert wanted > engine.now, "the driver would turn in circles"
        engine.now = min(wanted, max(engine.next_arrival(), engine.now))
    raise AssertionError("the driver does not come to an end")
