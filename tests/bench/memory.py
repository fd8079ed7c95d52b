"""What everything around the probes costs: memory a target, CPU a cycle, and where both go.

    python -m tests.bench.memory TARGETS [--cycles N] [--places]

The service's own cycle (observe, judge, control, describe, remember, log) runs in virtual time,
without a socket: each trace is played once over the simulated network of `tests/bench/paths.py`,
and every later one is a copy of it with values of its own, as an engine makes them. A quarter of
the targets each is open, closed, dropped and rejected; the first SHARED_HOPS routers are common to
all. Copying is the network's part, and left out of the figures.

It is the quick instrument to find places with, not the proof: that is the bench over TUN.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import re
import sys
import time
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from socket import inet_aton, inet_ntoa
from typing import Any

import exporter.service
from exporter import observer
from exporter.commands.serve import GARBAGE_THRESHOLD
from exporter.config import load
from exporter.controls.canary import ADDRESSES, Canaries
from exporter.diagnosis.zones import ZoneMap
from exporter.directory import Directory
from exporter.model import (
    Answer,
    EngineStatus,
    Family,
    Flow,
    Handshake,
    Hop,
    Plan,
    Probe,
    Reply,
    ReplyKind,
    Sounding,
    Target,
    Trace,
)
from exporter.publish import log
from exporter.service import Service
from exporter.store import Store
from exporter.surroundings import Memory
from exporter.verbs import Probing
from tests.bench import tun_network
from tests.bench.paths import CLOSED_PORT, DROPPED_PORT, OPEN_PORT, REJECTED_PORT, delayed
from tests.simulated.network import CALM, SimulatedNetwork
from tests.simulated.run import trace_over
from tests.unit import virtual

SHARED_HOPS = 4
PORTS = {
    "open": OPEN_PORT,
    "closed": CLOSED_PORT,
    "dropped": DROPPED_PORT,
    "rejected": REJECTED_PORT,
}
FATES = tuple(PORTS)
SCENARIO = delayed()
#: Without limits on ICMP errors: each trace is played alone, and found as it would be alone.
CONDITIONS = replace(CALM, icmp_rate=None)
CANARY = ADDRESSES[Family.IPV4]
#: So many places are printed.
MOST_PLACES = 40
KIB = 1024


# -- the network ---------------------------------------------------------------------------


@cache
def played(port: int, plan: Plan | Sounding) -> Trace:
    """A trace over the simulated network, made once."""
    network = SimulatedNetwork(SCENARIO, CONDITIONS)
    (trace,) = trace_over(network, [(SCENARIO.destination, port)], plan)
    return trace


def own_copy(trace: Trace, flow: Flow, path: int) -> Trace:
    """The trace as it would be on another path: every address and time a value of its own."""

    def address(ttl: int) -> str:
        shared = ttl <= SHARED_HOPS
        return inet_ntoa(inet_aton(tun_network.address(0 if shared else path, ttl)))

    hop_of = {SCENARIO.address(ttl): ttl for ttl in range(1, SCENARIO.hops + 1)}

    def answer(one: Answer) -> Answer:
        probe, reply = one
        return Answer(
            Probe(probe.ttl, probe.attempt, probe.sent_at + 0.0),
            reply._replace(
                address=address(hop_of[reply.address]),
                received_at=reply.received_at + 0.0,
                icmp=reply.icmp and (reply.icmp[0], reply.icmp[1]),
            ),
        )

    def hop(one: Hop) -> Hop:
        return Hop(one.ttl, one.sent, tuple(map(answer, one.answers)))

    return replace(
        trace,
        flow=flow,
        started_at=time.time(),
        hops=tuple(map(hop, trace.hops)),
        confirmation=trace.confirmation and hop(trace.confirmation),
        gateway=address(1),
    )


def as_echo(trace: Trace) -> Trace:
    """What an echo request gets where an open port is reached."""

    def reply(one: Reply) -> Reply:
        is_end = one.kind is not ReplyKind.TIME_EXCEEDED
        return one._replace(kind=ReplyKind.ECHO_REPLY) if is_end else one

    def hop(one: Hop) -> Hop:
        answers = tuple(Answer(answer.probe, reply(answer.reply)) for answer in one.answers)
        return replace(one, answers=answers)

    return replace(
        trace,
        engine="echo",
        flow=trace.flow._replace(source_port=0, destination_port=0),
        hops=tuple(map(hop, trace.hops)),
        confirmation=trace.confirmation and hop(trace.confirmation),
    )


@dataclass
class Clock:
    """CPU time by what it was spent on, in seconds, with the number of calls."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    calls: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def timed(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, its time noted."""

        def run(*arguments: Any, **named: Any) -> Any:
            began = time.thread_time()
            try:
                return work(*arguments, **named)
            finally:
                self.seconds[name] += time.thread_time() - began
                self.calls[name] += 1

        return run


@dataclass
class PlayedNetwork:
    """What `Probing` asks; every path is known by its destination."""

    paths: dict[str, int]
    clock: Clock
    opened: int = 0

    def probing(self) -> Probing:
        """The verbs, every one of them without a socket."""
        return Probing(
            self._resolve,
            self._trace,
            self._connect,
            sound=self._trace,
            echo=self._echo,
            canary=Canaries(self._trace).ask,
        )

    async def _resolve(self, host: str, _port: int, _family: Family) -> list[str]:
        return [host]

    async def _connect(self, _address: str, port: int) -> Handshake:
        return Handshake(success=port == OPEN_PORT, duration=0.026, error=_ERRORS.get(port))

    async def _trace(
        self, address: str, port: int, plan: Plan | Sounding, preferred_port: int = 0
    ) -> Trace:
        trace = self._copied(address, port, plan, preferred_port)
        await asyncio.sleep(trace.duration)
        return trace

    async def _echo(self, address: str, sounding: Sounding) -> Trace:
        return as_echo(await self._trace(address, OPEN_PORT, sounding))

    def _copied(self, address: str, port: int, plan: Plan | Sounding, preferred_port: int) -> Trace:
        self.opened += 1
        source_port = preferred_port or 30_000 + self.opened % 30_000
        flow = Flow(SCENARIO.source, source_port, address, port)
        # What is not yet played is no part of the program's time, nor of its garbage.
        copy = self.clock.timed("(network)", own_copy)
        play = self.clock.timed("(network)", played)
        # A canary is nobody's address: silence.
        trace = play(DROPPED_PORT if address == CANARY else port, plan)
        done: Trace = copy(trace, flow, self.paths.get(address, 0))
        return done


_ERRORS = {
    CLOSED_PORT: "Connection refused",
    DROPPED_PORT: "timed out",
    REJECTED_PORT: "No route to host",
}


# -- the program ---------------------------------------------------------------------------

#: Whose attribute -> what is timed under its own name.
PHASES: Sequence[tuple[Any, str]] = (
    (observer, "judge"),
    (observer, "need_of"),
    (observer, "conditions_of"),
    (exporter.service, "elsewhere"),
    (exporter.service, "news"),
    (exporter.service, "compact"),
    (Store, "add"),
    (log.TraceLog, "write"),
    (Directory, "described"),
    (Memory, "learn"),
    (ZoneMap, "places_of"),
)


@contextmanager
def phases_timed(clock: Clock) -> Iterator[None]:
    """While it lasts, each of PHASES is timed."""
    before = [getattr(owner, name) for owner, name in PHASES]
    try:
        for (owner, name), work in zip(PHASES, before, strict=True):
            setattr(owner, name, clock.timed(name, work))
        yield
    finally:
        for (owner, name), work in zip(PHASES, before, strict=True):
            setattr(owner, name, work)


def endpoints(count: int) -> dict[str, str]:
    """Target's name -> its endpoint; a quarter of each fate."""
    return {
        f"{FATES[index % len(FATES)]}-{index}": (
            f"{tun_network.address(index, SCENARIO.hops)}:{PORTS[FATES[index % len(FATES)]]}"
        )
        for index in range(count)
    }


class Bench:
    """A service over the played network."""

    def __init__(self, count: int, log_stats: log.LogStats) -> None:
        self.count = count
        self.clock = Clock()
        named = endpoints(count)
        environment = {
            "ENDPOINTS": ",".join(f"{name}={endpoint}" for name, endpoint in named.items()),
            "PLATFORM_NETWORKS": ",".join(SCENARIO.platform_networks),
            "LOG_TRACES": "changes",
        }
        settings = load(environment)
        network = PlayedNetwork(
            {endpoint.split(":")[0]: path for path, endpoint in enumerate(named.values())},
            self.clock,
        )
        status = EngineStatus("syn", "played")
        self.targets = settings.targets
        self.service = Service(settings, lambda: settings, network.probing(), status, log_stats)
        self.service._store.configure(settings.targets)

    async def cycle(self) -> dict[str, float]:
        """Every target once, one after the other; CPU seconds by fate, without the network's."""
        spent = dict.fromkeys(FATES, 0.0)
        for target in self.targets:
            before = time.process_time() - self.clock.seconds["(network)"]
            await self.service._cycle(target)
            after = time.process_time() - self.clock.seconds["(network)"]
            spent[_fate_of(target)] += after - before
        return spent


def _fate_of(target: Target) -> str:
    return target.name.split("-")[0]


def rss() -> int:
    """The resident memory of this process in KiB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


# -- the report ----------------------------------------------------------------------------


async def _measure(bench: Bench, cycles: int) -> None:
    clock, count = bench.clock, bench.count
    of_fate = Counter(map(_fate_of, bench.targets))
    gc.collect()
    gc.freeze()
    print(f"{count} targets, RSS before the first cycle {rss()} KiB")
    for number in range(1, cycles + 1):
        clock.seconds.clear()
        clock.calls.clear()
        with collections_told():
            spent = await bench.cycle()
        by_fate = ", ".join(f"{fate} {s / of_fate[fate] * 1000:.2f}" for fate, s in spent.items())
        mean = sum(spent.values()) / count * 1000
        print(f"cycle {number}: RSS {rss()} KiB; CPU ms a target: mean {mean:.2f} ({by_fate})")
    for name, seconds in sorted(clock.seconds.items(), key=lambda item: -item[1]):
        calls = clock.calls[name]
        print(f"  {name:14} {seconds / count * 1e6:8.1f} us a target, {calls / count:5.2f} calls")


async def _print_places(count: int, cycles: int, log_stats: log.LogStats) -> None:
    """Where the memory was taken that a number of targets holds."""
    # What is made once is there before.
    await _measure(Bench(len(FATES), log_stats), 2)
    tracemalloc.start()
    before = tracemalloc.take_snapshot()
    bench = Bench(count, log_stats)
    await _measure(bench, cycles)
    gc.collect()
    grown = tracemalloc.take_snapshot().compare_to(before, "lineno")
    print(f"tracemalloc: {sum(one.size_diff for one in grown) / count:.0f} bytes a target")
    for one in grown[:MOST_PLACES]:
        frame = one.traceback[0]
        size, blocks = one.size_diff / count, one.count_diff / count
        place = f"{frame.filename[-45:]}:{frame.lineno}"
        print(f"  {size:8.0f} bytes, {blocks:6.1f} blocks  {place}")


@contextmanager
def collections_told() -> Iterator[None]:
    """Print, at its end, what the garbage collector did meanwhile, by generation."""
    spent: dict[int, list[float]] = defaultdict(list)
    began = 0.0

    def note(phase: str, info: dict[str, int]) -> None:
        nonlocal began
        if phase == "start":
            began = time.thread_time()
        else:
            spent[info["generation"]].append(time.thread_time() - began)

    gc.callbacks.append(note)
    try:
        yield
    finally:
        gc.callbacks.remove(note)
    for generation, each in sorted(spent.items()):
        total, longest = sum(each) * 1000, max(each) * 1000
        what = f"garbage, generation {generation}: {len(each)} x"
        print(f"  {what}, {total:.0f} ms, longest {longest:.1f} ms")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one measurement in this process."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.memory")
    parser.add_argument("targets", type=int)
    parser.add_argument("--cycles", type=int, default=3)
    parser.add_argument("--places", action="store_true", help="by tracemalloc; no times then")
    parser.add_argument("--phases", action="store_true", help="CPU by phase")
    options = parser.parse_args(arguments)

    gc.set_threshold(GARBAGE_THRESHOLD)
    # The log holds it open, as it does with standard output.
    nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    log_stats = log.configure("text", nowhere)

    async def run() -> None:
        if options.places:
            await _print_places(options.targets, options.cycles, log_stats)
            return
        bench = Bench(options.targets, log_stats)
        with phases_timed(bench.clock) if options.phases else nullcontext():
            await _measure(bench, options.cycles)

    virtual.run(run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
