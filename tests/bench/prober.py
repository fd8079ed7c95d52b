"""Our own engines measured from inside; other parts start them in the prober's namespace.

    python -m tests.bench.prober sweep ENGINE FIRST COUNT       one open path after the other
    python -m tests.bench.prober cpu ENGINE TRACES ROUNDS       many traces at once
    python -m tests.bench.prober bare ROUNDS                    a loop without any machinery
    python -m tests.bench.prober profile ENGINE TRACES ROUNDS   the traces under cProfile

Each prints one line of JSON, except for `profile`, which prints a list for people.
"""

from __future__ import annotations

import asyncio
import cProfile
import gc
import json
import pstats
import select
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from struct import Struct

from exporter.model import Flow, Plan, Trace
from exporter.probing.driver import Driver, Prober
from exporter.probing.engines import ENGINES
from exporter.probing.engines.stamps import STAMPING
from exporter.probing.packet import SynTemplate
from tests.bench.paths import BLOCKED, OPEN_PORT
from tests.bench.tun_network import address

#: Nothing is held back: the work is measured, not the pace.
UNLIMITED = 1_000_000
PROFILE_LINES = 30
#: The bare loop has one SYN for each hop of so many paths on its way; a receive buffer of
#: ordinary size (net.core.rmem_max) holds their answers.
BARE_PATHS = 20

#: Of an ICMP error without IP options: the quoted ports and sequence number behind 20 octets of
#: IP, 8 of ICMP and 20 of quoted IP.
QUOTED = Struct("!HHI")
QUOTED_AT = 48
TIMESPEC = Struct("@qq")


@dataclass(frozen=True, slots=True)
class Sweep:
    """The first attempt at each TTL: seconds from the first SYN to the last answer."""

    seconds: float
    hops_found: int
    #: Of the whole trace, with all attempts.
    duration: float


@dataclass(frozen=True, slots=True)
class Load:
    """CPU seconds of this process, and what they were spent on."""

    cpu: float
    probes: int
    answers: int

    @property
    def per_probe(self) -> float:
        """Seconds for one probe and its answer."""
        return self.cpu / self.probes


# -- sweep -----------------------------------------------------------------------------


def sweep_of(trace: Trace) -> Sweep:
    """What the first attempts of a trace took and found."""
    firsts = [answer for hop in trace.hops for answer in hop.answers if answer.probe.attempt == 1]
    ended = max(answer.reply.received_at for answer in firsts)
    began = min(answer.probe.sent_at for answer in firsts)
    return Sweep(ended - began, len(firsts), trace.duration)


async def sweep(engine: str, first: int, count: int) -> list[Sweep]:
    """Trace each path once, one after the other; on its own routers none disturbs the next."""
    prober = Prober(Driver(ENGINES[engine](), UNLIMITED, UNLIMITED))
    try:
        ends = [address(path, BLOCKED.hops) for path in range(first, first + count)]
        return [sweep_of(await prober.trace(end, OPEN_PORT, Plan())) for end in ends]
    finally:
        prober.close()


# -- cpu -------------------------------------------------------------------------------


async def many_traces(
    engine: str, traces: int, rounds: int, profile: cProfile.Profile | None = None
) -> Load:
    """`rounds` times `traces` traces at once, after one round to warm up.

    As in service a target keeps its source port, and with it the template of its SYN.
    """
    prober = Prober(Driver(ENGINES[engine](), UNLIMITED, UNLIMITED))
    try:
        latest = await _round(prober, [0] * traces)
        gc.freeze()  # as `serve` does when it has started
        if profile:
            profile.enable()
        began, done = time.process_time(), []
        for _ in range(rounds):
            latest = await _round(prober, [trace.flow.source_port for trace in latest])
            done += latest
        cpu = time.process_time() - began
        if profile:
            profile.disable()
    finally:
        prober.close()
    probes = sum(hop.sent for trace in done for hop in trace.hops)
    return Load(cpu, probes, sum(len(trace.answers) for trace in done))


async def _round(prober: Prober, source_ports: Sequence[int]) -> list[Trace]:
    traces = (
        prober.trace(address(path, BLOCKED.hops), OPEN_PORT, Plan(), source_port)
        for path, source_port in enumerate(source_ports)
    )
    return await asyncio.gather(*traces)


def bare_loop(paths: int, rounds: int) -> Load:
    """The least that such a program must do: patch, send, receive with the stamp, look up."""
    templates = {address(path, BLOCKED.hops): path for path in range(paths)}
    syns = [
        (SynTemplate(Flow(BLOCKED.source, 40_000 + path, end, OPEN_PORT)), (end, 0))
        for end, path in templates.items()
    ]
    ttls = range(1, BLOCKED.hops)
    with _raw(socket.IPPROTO_RAW) as sender, _raw(socket.IPPROTO_ICMP) as receiver:
        answers = 0
        began = time.process_time()
        for number in range(rounds):
            waiting = {}
            for path, (template, end) in enumerate(syns):
                for ttl in ttls:
                    sequence = (number << 20) + (path << 8) + ttl
                    sender.sendto(template.patch(ttl, ttl, sequence), end)
                    waiting[sequence] = time.monotonic()
            answers += _collect(receiver, waiting)
        cpu = time.process_time() - began
    return Load(cpu, len(syns) * len(ttls) * rounds, answers)


def _collect(receiver: socket.socket, waiting: dict[int, float]) -> int:
    """Receive until every probe is answered, or nothing has come for half a second."""
    answers = 0
    while waiting and select.select((receiver,), (), (), 0.5)[0]:
        while True:
            try:
                packet, ancillary, _, _ = receiver.recvmsg(2048, 64)
            except BlockingIOError:
                break
            TIMESPEC.unpack(ancillary[0][2])
            _, _, sequence = QUOTED.unpack_from(packet, QUOTED_AT)
            answers += waiting.pop(sequence, None) is not None
    return answers


def _raw(protocol: int) -> socket.socket:
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)
    raw.setblocking(False)
    raw.setsockopt(*STAMPING)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    return raw


# -- profile ---------------------------------------------------------------------------


def profile(engine: str, traces: int, rounds: int) -> None:
    """Print where the CPU time goes; cProfile itself makes everything a few times slower."""
    profiler = cProfile.Profile(time.process_time)
    load = asyncio.run(many_traces(engine, traces, rounds, profiler))
    print(f"{load.per_probe * 1e6:.1f} us a probe under cProfile, {load.probes} probes")
    pstats.Stats(profiler).strip_dirs().sort_stats("tottime").print_stats(PROFILE_LINES)


def main(arguments: Sequence[str]) -> None:
    """Run what the arguments say."""
    match arguments:
        case "profile", engine, traces, rounds:
            profile(engine, int(traces), int(rounds))
            return
        case "sweep", engine, first, count:
            found: list[Sweep] | list[Load] = asyncio.run(sweep(engine, int(first), int(count)))
        case "cpu", engine, traces, rounds:
            found = [asyncio.run(many_traces(engine, int(traces), int(rounds)))]
        case _, rounds:
            found = [bare_loop(BARE_PATHS, int(rounds))]
        case _:
            raise SystemExit(__doc__)
    print(json.dumps([asdict(one) for one in found]))


if __name__ == "__main__":
    main(sys.argv[1:])
