"""The one place where tracer and engine meet.

`Driver` runs many traces over one engine, in whatever time its caller lives in: `pump` folds
in what has arrived, sends what is due and says when it wants to be called again. Tests call
it in virtual time; `Prober` calls it from an asyncio loop.

1. All traces wait in one heap until they are due, so that a call costs what is due and not what
   there is. An entry whose time is not its trace's any more counts for nothing.
2. What is due is sent at once, as long as the rate allows it and not too many probes are on their
   way. Who is refused waits in a line. There who has waited longest comes first, and whoever
   confirms that a target fails, or is a control, is taken to have waited HEAD_START longer: so
   they go first, and nobody starves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush

from exporter.model import (
    FULL_TTL,
    Answer,
    Flow,
    Plan,
    Probe,
    ProbeError,
    Sounding,
    StopReason,
    Trace,
)
from exporter.probing.engines import Engine
from exporter.probing.near import UNGUIDED, Near
from exporter.probing.sounder import Sounder
from exporter.probing.tracer import Tracer

#: So many probes may go at once before the rate holds: a dozen traces' windows.
PROBE_BURST = 50
#: How long the prober rests at most while it is busy: short while one of a FEW traces is finding
#: its way, for the first sweep feels it; else as long as attempts, and controls, can wait.
SWEEP_TICK = 0.003
TICK = 0.03
FEW = 2
#: Refused, the driver waits for a few tokens at once instead of waking up for each.
REFILL_QUANTUM = 0.01
#: Seconds that who confirms a failure is ahead of others in the line. A trace may take 30 s, so
#: those can wait so long.
HEAD_START = 5.0
#: Seconds after which a probe without an answer does not count as on its way any more: as long as
#: the connect engine's sockets may be needed (`PATIENCE`), and a little more.
FLIGHT_TIME = 1.0

#: In place of the time at which a trace is due: it stands in the line; it is over.
_IN_LINE, _OVER = float("-inf"), float("inf")


class TokenBucket:
    """A rate of `rate` a second after a burst of `burst`."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Take one token if there is one."""
        if now > self._at:  # of many at the same time only the first has to reckon
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Flights:
    """The probes that are on their way, `most` of them at once."""

    def __init__(self, most: int) -> None:
        self._most = most
        #: The oldest first.
        self._flying: dict[tuple[Flow, Probe], None] = {}

    def began(self, flow: Flow, probe: Probe) -> None:
        """A probe is on its way."""
        self._flying[flow, probe] = None

    def ended(self, flow: Flow, probe: Probe) -> None:
        """It is answered."""
        self._flying.pop((flow, probe), None)

    def full(self, now: float) -> bool:
        """Whether none more may begin; counts out those that are older than FLIGHT_TIME."""
        flying = self._flying
        while len(flying) >= self._most:
            oldest = next(iter(flying))
            if oldest[1].sent_at > now - FLIGHT_TIME:
                return True
            del flying[oldest]
        return False


@dataclass(slots=True, eq=False)
class _Run:
    """A trace on its way, and what it owes to whom."""

    tracer: Tracer | Sounder
    flow: Flow
    wall_clock: float
    started_at: float
    done: Callable[[Trace], None]
    failed: Callable[[Exception], None] | None
    #: When it is due, _IN_LINE or _OVER; and since when it has been due while it stands in line.
    wake: float
    since: float
    #: Tells runs apart that are due at the same time: who began first.
    order: int
    gateway: str | None
    errors_before: int


def not_told(_destination: str) -> str | None:
    """No gateway is known, for who has no routing table to ask."""
    return None


class Driver:
    """Runs traces over an engine; at most `probes_per_second`, all traces together.

    `gateway_to` gives the gateway to a destination, as `Trace.gateway` has it; soundings do
    without. `near` lets traces share what their first hops answer; without it each stands for
    itself.
    """

    def __init__(
        self,
        engine: Engine,
        probes_per_second: float,
        burst: int,
        gateway_to: Callable[[str], str | None] = not_told,
        near: Near | None = None,
    ) -> None:
        self.engine = engine
        self._gateway_to = gateway_to
        self._near = near
        self._bucket = TokenBucket(probes_per_second, burst)
        self._flights = Flights(engine.most_on_their_way)
        self._runs: dict[Flow, _Run] = {}
        #: (when it is due, order, run), and (since when with its head start, order, run).
        self._wakes: list[tuple[float, int, _Run]] = []
        self._line: list[tuple[float, int, _Run]] = []
        self._started = 0
        #: How many probes have left, all traces together.
        self.probes_sent = 0
        #: Whether the last `pump` found anything to read or to send, and whether one of a FEW
        #: traces is finding its way, so that what arrives next should be read soon.
        self.busy = False
        self.sweeping = False

    def start(
        self,
        destination: str,
        port: int,
        plan: Plan | Sounding,
        now: float,
        done: Callable[[Trace], None],
        *,
        wall_clock: float,
        preferred_port: int = 0,
        failed: Callable[[Exception], None] | None = None,
    ) -> Flow:
        """Begin a trace or a sounding; `done` gets it when it is complete. Raises `ProbeError`.

        A fault in this one trace goes to `failed` and never to the others' caller.
        """
        flow = self.engine.open(destination, port, preferred_port)
        self._started += 1
        run = self._runs[flow] = _Run(
            self._maker_of(flow, plan, now),
            flow,
            wall_clock,
            now,
            done,
            failed,
            wake=now,
            since=now,
            order=self._started,
            # To ask takes a socket each time, and of a control nobody wants to know it.
            gateway=None if isinstance(plan, Sounding) else self._gateway_to(destination),
            errors_before=self.engine.unseen_errors(),
        )
        self._wake(run, now)
        return flow

    def _maker_of(self, flow: Flow, plan: Plan | Sounding, now: float) -> Tracer | Sounder:
        """What makes the trace or the sounding; only a trace rests on others."""
        if isinstance(plan, Sounding):
            return Sounder(plan, now)
        return Tracer(plan, now, self._near.guide(flow, plan, now) if self._near else UNGUIDED)

    def cancel(self, flow: Flow) -> None:
        """Forget a trace; `done` is not called."""
        if run := self._runs.pop(flow, None):
            run.wake = _OVER
            self.engine.release(flow)

    def so_far(self, flow: Flow, now: float) -> Trace | None:
        """A trace under way as if its time were over now; None when none of this flow is."""
        run = self._runs.get(flow)
        if run is None:
            return None
        return Trace(
            flow=flow,
            engine=self.engine.name,
            started_at=run.wall_clock,
            duration=now - run.started_at,
            stop_reason=StopReason.DEADLINE,
            hops=run.tracer.hops(),
            confirmation=run.tracer.confirmation(),
        )

    def pump(self, now: float) -> float | None:
        """Do what is due; returns when to be called again, None when no trace runs."""
        arrived = self._arrived()
        for flow, answer in arrived:
            if run := self._runs.get(flow):
                self._guard(run, self._fold, run, answer, now)
        self._serve_line(now)
        served = self._serve_due(now)
        self.busy = bool(arrived) or served
        few = len(self._runs) <= FEW
        self.sweeping = few and any(run.tracer.sweeping for run in self._runs.values())
        return self._next_wake(now)

    def _wake(self, run: _Run, at: float) -> None:
        """Have a run served at that time."""
        run.wake = at
        heappush(self._wakes, (at, run.order, run))

    def _next_wake(self, now: float) -> float | None:
        if self._line:
            return now + REFILL_QUANTUM
        wakes = self._wakes
        while wakes and wakes[0][0] != wakes[0][2].wake:
            heappop(wakes)
        return wakes[0][0] if wakes else None

    def _fold(self, run: _Run, answer: Answer, now: float) -> None:
        run.tracer.answer(answer)
        if self._near:
            self._near.hear(run.flow, answer)
        self._flights.ended(run.flow, answer.probe)
        if run.wake > now:
            self._wake(run, now)

    def _serve_line(self, now: float) -> None:
        """Serve those who wait in the line, until one is refused again."""
        for _ in range(len(self._line)):
            _, _, run = heappop(self._line)
            if run.wake == _IN_LINE:
                self._guard(run, self._serve, run, now)
            if run.wake == _IN_LINE:
                return

    def _serve_due(self, now: float) -> bool:
        """Serve those who are due, who has waited longest first; whether there were any."""
        wakes, served = self._wakes, False
        while wakes and wakes[0][0] <= now:
            due, _, run = heappop(wakes)
            if due == run.wake:
                run.since, served = due, True
                self._guard(run, self._serve, run, now)
        return served

    def _arrived(self) -> list[tuple[Flow, Answer]]:
        try:
            return list(self.engine.receive())
        except Exception as error:  # noqa: BLE001  -- goes to every caller, who would wait for ever
            for run in tuple(self._runs.values()):
                self._fail(run, error)
            return []

    def _guard(self, run: _Run, step: Callable[..., None], *arguments: object) -> None:
        """Do a step of one trace; a fault in it ends that trace alone."""
        try:
            step(*arguments)
        except Exception as error:  # noqa: BLE001  -- goes to whoever awaits this trace
            self._fail(run, error)

    def _fail(self, run: _Run, error: Exception) -> None:
        self.cancel(run.flow)
        if run.failed is None:
            raise error
        run.failed(error)

    def _serve(self, run: _Run, now: float) -> None:
        tracer = run.tracer
        while wanted := tracer.next_probe(now):
            if self._flights.full(now) or not self._bucket.take(now):
                self._line_up(run, wanted[0])
                return
            self._send(run, *wanted, now)
        if tracer.stop_reason:
            self._finish(run, tracer.stop_reason, now)
        else:
            self._wake(run, max(tracer.wake_at(), now + 1e-6))

    def _send(self, run: _Run, ttl: int, attempt: int, now: float) -> None:
        try:
            probe = self.engine.send(run.flow, ttl, attempt)
        except ProbeError as error:
            run.tracer.send_failed(error.failure, now)
            return
        self.probes_sent += 1
        self._flights.began(run.flow, probe)
        run.tracer.sent(probe)

    def _line_up(self, run: _Run, ttl: int) -> None:
        """Have a run wait that was refused its probe with this TTL."""
        urgent = ttl == FULL_TTL or isinstance(run.tracer, Sounder)
        run.wake = _IN_LINE
        heappush(self._line, (run.since - HEAD_START * urgent, run.order, run))

    def _finish(self, run: _Run, stop_reason: StopReason, now: float) -> None:
        del self._runs[run.flow]
        run.wake = _OVER
        unseen_errors = self.engine.unseen_errors() - run.errors_before
        captured = self.engine.captured(run.flow)
        duplicates = self.engine.release(run.flow)
        trace = Trace(
            flow=run.flow,
            engine=self.engine.name,
            started_at=run.wall_clock,
            duration=now - run.started_at,
            stop_reason=stop_reason,
            hops=run.tracer.hops(),
            confirmation=run.tracer.confirmation(),
            duplicates=duplicates,
            witnessed=run.tracer.witnessed(),
            failure=run.tracer.failure,
            unseen_errors=unseen_errors,
            gateway=run.gateway,
            captured=captured,
        )
        if self._near and isinstance(run.tracer, Tracer):
            trace = self._near.learn(trace, run.tracer.guide, now)
        run.done(trace)


class Prober:
    """A driver on the running asyncio loop: `trace` awaits one trace.

    While packets come and go it works in ticks, so that a wake-up serves many of them, provided
    that their times are the kernel's and none is the worse for waiting. Else it sleeps until one
    comes.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._listening = False
        self._resting = False

    async def trace(
        self,
        destination: str,
        port: int,
        plan: Plan | Sounding,
        preferred_port: int = 0,
        begun: Callable[[Flow], None] | None = None,
    ) -> Trace:
        """One complete trace or sounding. Raises `ProbeError` when it cannot begin.

        `begun` is told its flow, for who wants to ask `so_far`.
        """
        result: asyncio.Future[Trace] = self._loop.create_future()

        def done(trace: Trace) -> None:
            if not result.done():  # cancelled, and not yet cleaned up below
                result.set_result(trace)

        def failed(error: Exception) -> None:
            if not result.done():
                result.set_exception(error)

        flow = self._driver.start(
            destination,
            port,
            plan,
            time.monotonic(),
            done,
            wall_clock=time.time(),
            preferred_port=preferred_port,
            failed=failed,
        )
        if begun:
            begun(flow)
        try:
            if not self._resting:  # else the tick that comes serves it, too
                self._pump()
            return await result
        finally:
            # A finished trace's flow is released, and may be another trace's by now.
            if result.cancelled() or not result.done():
                self._driver.cancel(flow)

    def so_far(self, flow: Flow) -> Trace | None:
        """A trace under way, as far as it has come by now."""
        return self._driver.so_far(flow, time.monotonic())

    def close(self) -> None:
        """Leave the loop and close the engine."""
        self._sleep_until(None)
        self._listen(on=False)
        self._driver.engine.close()

    def _pump(self) -> None:
        """Do what is due, then rest for a tick, or sleep when there was nothing to do."""
        now = time.monotonic()
        wanted: float | None = now + TICK  # after a fault, which the loop reports, as well
        try:
            wanted = self._driver.pump(now)
        finally:
            may_rest = wanted is not None and self._driver.engine.kernel_times
            self._resting = may_rest and self._driver.busy
            self._listen(on=not self._resting)
            tick = SWEEP_TICK if self._driver.sweeping else TICK
            # Ticks are multiples of their length, so that two probers on a loop share its wake-ups;
            # one that is all but over is not rested for.
            self._sleep_until(int(now / tick + 1.1) * tick if self._resting else wanted)

    def _listen(self, *, on: bool) -> None:
        if on is self._listening:
            return
        self._listening = on
        for fileno in self._driver.engine.filenos():
            if on:
                self._loop.add_reader(fileno, self._pump)
            else:
                self._loop.remove_reader(fileno)

    def _sleep_until(self, when: float | None) -> None:
        if self._timer:
            self._timer.cancel()
        # loop.time() is the monotonic clock on every platform with raw sockets.
        self._timer = None if when is None else self._loop.call_at(when, self._pump)
