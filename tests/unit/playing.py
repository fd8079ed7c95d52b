"""One trace in virtual time against a world that is a function: (TTL, attempt) -> what it says."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

from exporter.model import FULL_TTL, Answer, Failure, FailureReason, Plan, Probe, Reply, ReplyKind
from exporter.probing.tracer import Tracer

#: A monotonic clock starts anywhere; at 0 it would hide a mistaken test for truth.
START = 1000.0
NO_BUFFER = Failure(FailureReason.INTERNAL, "no buffer space available")
#: More steps than any trace has reason for.
MOST_STEPS = 5000


@dataclass(frozen=True, slots=True)
class Says:
    """What comes back for one probe, so many seconds later."""

    kind: ReplyKind = ReplyKind.TIME_EXCEEDED
    after: float = 0.01
    icmp: tuple[int, int] | None = None


World = Callable[[int, int], Says | None]

EXPIRED = Says()
SYN_ACK = Says(ReplyKind.SYN_ACK)
RST = Says(ReplyKind.RST)
REJECTED = Says(ReplyKind.UNREACHABLE, icmp=(3, 13))


def chain(length: int, end: Says | None, silent: tuple[int, ...] = ()) -> World:
    """Routers, some of them silent, up to `length`, where `end` is said to what gets so far."""
    return lambda ttl, _: end if ttl >= length else None if ttl in silent else EXPIRED


def nobody(_ttl: int, _attempt: int) -> None:
    """A world in which nothing ever answers."""


@dataclass(slots=True)
class Sent:
    """A probe and when it went, in seconds since the start."""

    at: float
    ttl: int
    attempt: int


@dataclass(slots=True)
class Play:
    """A trace that has ended."""

    tracer: Tracer
    sent: list[Sent] = field(default_factory=list)
    #: When it ended, in seconds since the start.
    ended: float = 0.0

    def times(self, ttl: int) -> list[float]:
        """When the probes of one TTL went."""
        return [probe.at for probe in self.sent if probe.ttl == ttl]

    @property
    def confirmations(self) -> list[float]:
        """When the SYNs with the TTL of an ordinary packet went."""
        return self.times(FULL_TTL)

    @property
    def counts(self) -> dict[int, int]:
        """How many probes each TTL of the sweep got."""
        return {hop.ttl: hop.sent for hop in self.tracer.hops()}

    @property
    def farthest(self) -> int:
        """The highest TTL of the sweep that was sent."""
        return max(probe.ttl for probe in self.sent if probe.ttl != FULL_TTL)


def play(
    world: World, plan: Plan | None = None, refuses: Callable[[int], bool] = lambda _: False
) -> Play:
    """Run a trace to its end; `refuses(n)` is whether the host refuses the n-th try to send."""
    result = Play(Tracer(plan or Plan(), START))
    now, tries = START, 0
    arriving: list[tuple[float, int, Answer]] = []
    for _ in range(MOST_STEPS):
        while arriving and arriving[0][0] <= now:
            result.tracer.answer(heapq.heappop(arriving)[2])
        while wanted := result.tracer.next_probe(now):
            tries += 1
            if refuses(tries):
                result.tracer.send_failed(NO_BUFFER, now)
                continue
            probe = Probe(*wanted, now)
            result.tracer.sent(probe)
            result.sent.append(Sent(now - START, *wanted))
            if says := world(*wanted):
                heapq.heappush(arriving, (now + says.after, tries, answer(probe, says)))
        if result.tracer.stop_reason:
            result.ended = now - START
            return result
        wake = result.tracer.wake_at()
        assert wake > now, f"the tracer would turn in circles at {now - START:g} s"
        now = min(wake, arriving[0][0]) if arriving else wake
    raise AssertionError("the trace does not end")


def answer(probe: Probe, says: Says) -> Answer:
    """The answer to a probe that the world gives."""
    sender = f"10.9.{probe.ttl - 1}.2" if says.icmp is None else "10.9.99.2"
    return Answer(probe, Reply(says.kind, sender, probe.sent_at + says.after, 60, says.icmp))
