"""Many traces over one engine: paced together, and none at another's mercy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model import (
    Failure,
    FailureReason,
    Flow,
    Plan,
    ProbeError,
    Sounding,
    StopReason,
    Trace,
)
from exporter.probing.driver import FLIGHT_TIME, HEAD_START, REFILL_QUANTUM, Driver, TokenBucket
from exporter.probing.tracer import Tracer
from tests.unit.playing import REJECTED, START, SYN_ACK, World, chain, nobody
from tests.unit.worlds import WorldEngine, pump_all

PLAN = Plan()
ONCE = Plan(attempts=1)
OPEN = chain(6, SYN_ACK)
SOUNDING = Sounding(attempts=1)
NO_ROUTE = ProbeError(Failure(FailureReason.NO_ROUTE, "no route"))


@dataclass
class Stage:
    """A driver over a world for each of so many destinations, and what came of each trace."""

    engine: WorldEngine
    driver: Driver
    done: dict[str, Trace] = field(default_factory=dict)
    failed: dict[str, Exception] = field(default_factory=dict)

    def start(self, destination: str, plan: Plan | Sounding = PLAN) -> Flow:
        """Begin a trace or a sounding."""
        return self.driver.start(
            destination,
            443,
            plan,
            self.engine.now,
            lambda trace: self.done.__setitem__(destination, trace),
            wall_clock=1767225600.0,
            failed=lambda error: self.failed.__setitem__(destination, error),
        )

    def run(self, plan: Plan = PLAN) -> None:
        """Trace every destination to its end."""
        for destination in self.engine.worlds:
            self.start(destination, plan)
        pump_all(self.driver, self.engine)


OpenStage = Callable[..., Stage]


@pytest.fixture
def stage() -> Iterator[OpenStage]:
    """Opens stages that are closed when the test ends."""
    opened: list[Stage] = []

    def enter(*worlds: World, rate: float = 1000.0, burst: int = 100) -> Stage:
        engine = WorldEngine({f"10.9.5.{n}": world for n, world in enumerate(worlds, start=2)})
        opened.append(Stage(engine, Driver(engine, rate, burst)))
        return opened[-1]

    yield enter
    for each in opened:
        each.engine.close()


# -- pacing ----------------------------------------------------------------------------


@given(
    st.floats(1, 1000),
    st.integers(1, 100),
    st.lists(st.floats(0, 2), min_size=1, max_size=200),
)
def test_a_bucket_holds_its_rate(rate: float, burst: int, pauses: list[float]) -> None:
    """In no stretch of time are there more tokens than burst and rate allow."""
    bucket, now, taken = TokenBucket(rate, burst), START, []
    for pause in pauses:
        now += pause
        while bucket.take(now):
            taken.append(now)
            assert len(taken) <= burst + rate * (now - START) + 1e-6


def test_all_traces_together_keep_the_rate(stage: OpenStage) -> None:
    """Forty traces send no more than one burst and then the rate."""
    crowd = stage(*[nobody] * 40, rate=100, burst=20)
    crowd.run(ONCE)
    times = [at - START for at, _ in crowd.engine.sent]
    assert all(number <= 20 + 100 * at + 1 for number, at in enumerate(times))
    assert len(crowd.done) == 40


def test_out_of_tokens_the_driver_waits(stage: OpenStage) -> None:
    """Without tokens the driver asks to be called after a few have come, not at once."""
    short = stage(nobody, rate=10, burst=1)
    short.start("10.9.5.2")
    assert short.driver.pump(START) == pytest.approx(START + REFILL_QUANTUM)


def test_no_trace_starves(stage: OpenStage) -> None:
    """However short tokens are, every trace gets its first probes before anyone's second window."""
    crowd = stage(*[nobody] * 40, rate=100, burst=4)
    crowd.run(ONCE)
    first = crowd.engine.sent[: 4 * 40]
    assert {flow.destination for _, flow in first} == set(crowd.engine.worlds)
    assert set(crowd.engine.sent_by.values()) == {33}


def test_pacing_does_not_change_what_is_found(stage: OpenStage) -> None:
    """Traces that wait for tokens find the same hops as one that does not."""
    alone = stage(OPEN)
    alone.run()
    crowd = stage(*[OPEN] * 30, rate=50, burst=10)
    crowd.run()
    (expected,) = alone.done.values()
    for trace in crowd.done.values():
        assert [hop.addresses for hop in trace.hops] == [hop.addresses for hop in expected.hops]
        assert trace.stop_reason is StopReason.DESTINATION


# -- a trace and its end ---------------------------------------------------------------


def test_a_trace_says_what_it_was(stage: OpenStage) -> None:
    """A finished trace has its flow, engine, start, duration and count of duplicates."""
    one = stage(OPEN)
    one.engine.duplicates = 3
    one.run(ONCE)
    trace = one.done["10.9.5.2"]
    assert trace.flow == one.engine.opened[0]
    assert (trace.engine, trace.started_at, trace.duplicates) == ("world", 1767225600.0, 3)
    assert trace.duration == pytest.approx(0.02)
    assert one.engine.released == [trace.flow]


def test_a_trace_says_what_the_kernel_kept_back_meanwhile(stage: OpenStage) -> None:
    """Errors that the engine did not see count from the start of a trace to its end."""
    one = stage(OPEN)
    one.engine.unseen = 5
    flow = one.start("10.9.5.2", ONCE)
    one.engine.unseen = 7
    pump_all(one.driver, one.engine)
    assert one.done[flow.destination].unseen_errors == 2


def test_a_trace_names_the_gateway(stage: OpenStage) -> None:
    """What the routing table says at its start stands in the trace; None where nobody is asked."""
    one = stage(OPEN)
    one.run(ONCE)
    assert one.done["10.9.5.2"].gateway is None
    one.driver = Driver(one.engine, 1000, 100, lambda destination: f"to {destination}")
    one.run(ONCE)
    assert one.done["10.9.5.2"].gateway == "to 10.9.5.2"


def test_a_sounding_asks_for_no_gateway(stage: OpenStage) -> None:
    """Only a trace's own gateway is of use, and the question has its price."""
    one = stage(OPEN)
    one.driver = Driver(one.engine, 1000, 100, lambda destination: f"to {destination}")
    one.start("10.9.5.2", SOUNDING)
    pump_all(one.driver, one.engine)
    assert one.done["10.9.5.2"].gateway is None


def test_an_idle_driver_wants_nothing(stage: OpenStage) -> None:
    """Without traces the driver does not ask to be called."""
    assert stage(OPEN).driver.pump(START) is None


def test_a_flow_that_cannot_be_opened(stage: OpenStage) -> None:
    """A refusal to open is the caller's, and leaves nothing behind."""
    one = stage(OPEN)
    one.engine.unopenable = NO_ROUTE
    with pytest.raises(ProbeError):
        one.start("10.9.5.2")
    assert one.driver.pump(START) is None


def test_a_host_that_refuses_every_probe(stage: OpenStage) -> None:
    """A refused trace ends with the reason, and the other one does not notice."""
    two = stage(OPEN, OPEN)
    two.engine.refusals["10.9.5.2"] = NO_ROUTE
    two.run()
    assert two.done["10.9.5.2"].stop_reason is StopReason.SEND_FAILED
    assert two.done["10.9.5.2"].failure == NO_ROUTE.failure
    assert two.done["10.9.5.3"].stop_reason is StopReason.DESTINATION


def test_a_cancelled_trace_is_forgotten(stage: OpenStage) -> None:
    """After a cancel the flow is free, nobody is called, and other traces go on."""
    two = stage(OPEN, OPEN)
    gone = two.start("10.9.5.2")
    two.start("10.9.5.3")
    two.driver.pump(START)
    two.driver.cancel(gone)
    two.driver.cancel(gone)
    pump_all(two.driver, two.engine)
    assert list(two.done) == ["10.9.5.3"]
    assert two.engine.released.count(gone) == 1
    assert not two.failed


# -- faults ----------------------------------------------------------------------------


def test_an_engine_that_raises_for_one_flow(stage: OpenStage) -> None:
    """A fault while one trace sends ends that trace, and no other."""
    three = stage(OPEN, OPEN, OPEN)
    fault = three.engine.refusals["10.9.5.3"] = RuntimeError("bug in send")
    three.run()
    assert three.failed == {"10.9.5.3": fault}
    assert list(three.done) == ["10.9.5.2", "10.9.5.4"]
    assert len(three.engine.released) == 3


def test_an_answer_that_no_tracer_can_read(stage: OpenStage) -> None:
    """A fault while one trace takes an answer ends that trace, and no other."""
    three = stage(OPEN, OPEN, OPEN)
    three.engine.garbage.add("10.9.5.2")
    three.run()
    assert list(three.failed) == ["10.9.5.2"]
    assert {trace.distance for trace in three.done.values()} == {6}
    assert len(three.done) == 2


def test_a_caller_that_raises(stage: OpenStage) -> None:
    """A fault in whoever takes the finished trace is his alone."""
    two = stage(OPEN, OPEN)

    def refuse(_trace: Trace) -> None:
        raise RuntimeError("bug in done")

    errors: list[Exception] = []
    two.driver.start("10.9.5.2", 443, PLAN, START, refuse, wall_clock=0, failed=errors.append)
    two.start("10.9.5.3")
    pump_all(two.driver, two.engine)
    assert [str(error) for error in errors] == ["bug in done"]
    assert list(two.done) == ["10.9.5.3"]


def test_an_engine_that_cannot_receive(stage: OpenStage) -> None:
    """When receiving itself fails every waiting trace is told, and a later one may succeed."""
    two = stage(OPEN, OPEN)
    two.engine.deaf = RuntimeError("bug in receive")
    two.run()
    assert set(two.failed.values()) == {two.engine.deaf}
    two.engine.deaf = None
    two.run()
    assert len(two.done) == 2


def test_a_fault_that_nobody_takes_is_raised(stage: OpenStage) -> None:
    """Without `failed` a fault reaches the caller of pump, after the trace is gone."""
    one = stage(OPEN)
    one.engine.refusals["10.9.5.2"] = RuntimeError("bug in send")
    one.driver.start("10.9.5.2", 443, PLAN, START, lambda _: None, wall_clock=0)
    with pytest.raises(RuntimeError, match="bug in send"):
        one.driver.pump(START)
    assert one.driver.pump(START) is None


# -- who goes first --------------------------------------------------------------------


def lined_up(stage: Stage, others: int) -> None:
    """Have so many traces to silent destinations wait for tokens."""
    for number in range(others):
        stage.start(f"10.9.5.{number + 3}", ONCE)


def test_a_sounding_goes_before_traces(stage: OpenStage) -> None:
    """When tokens are short, a control that begins last gets its probe with the next tokens."""
    short = stage(*[nobody] * 21, rate=100, burst=4)
    lined_up(short, 20)
    short.engine.now = short.driver.pump(short.engine.now) or 0.0
    short.start("10.9.5.2", SOUNDING)
    short.engine.now = short.driver.pump(short.engine.now) or 0.0
    short.driver.pump(short.engine.now)
    sent = [flow.destination for _, flow in short.engine.sent]
    assert "10.9.5.2" not in sent[:4]
    assert "10.9.5.2" in sent[4:6]


def test_a_confirmation_goes_before_sweeps(stage: OpenStage) -> None:
    """A failing target's SYN with an ordinary TTL overtakes what other traces wait to send."""
    short = stage(chain(3, REJECTED), *[nobody] * 40, rate=100, burst=4)
    short.start("10.9.5.2", Plan(attempts=1))
    short.driver.pump(short.engine.now)
    lined_up(short, 40)
    pump_all(short.driver, short.engine)
    failing = [n for n, (_, flow) in enumerate(short.engine.sent) if flow.destination == "10.9.5.2"]
    # Its window of four, the others' of the same burst, and then the confirmation.
    assert failing[4] < 12


def test_nobody_waits_for_ever_behind_confirmations(stage: OpenStage) -> None:
    """Who has waited HEAD_START longer than a sounding goes before it, however many there are."""
    short = stage(*[nobody] * 300, rate=10, burst=2)
    short.start("10.9.5.2", ONCE)
    for number in range(3, 302):
        short.start(f"10.9.5.{number}", Sounding(attempts=1, seconds=60))
        short.driver.pump(short.engine.now)
        short.engine.now += HEAD_START / 100
    assert short.engine.sent_by["10.9.5.2"] > 2
    assert len(short.engine.sent) < len(short.engine.opened)


def test_no_more_than_so_many_are_on_their_way(stage: OpenStage) -> None:
    """Beyond the engine's bound a probe waits until one is answered, or old; nothing fails."""
    crowd = stage(*[nobody] * 10, *[OPEN] * 10)
    crowd.engine.most_on_their_way = bound = 20
    crowd.driver = Driver(crowd.engine, 1000, 100)
    crowd.run(ONCE)
    times = [at for at, flow in crowd.engine.sent if flow.destination in silent(crowd)]
    for first, later in zip(times, times[bound:], strict=False):
        assert later - first >= FLIGHT_TIME
    assert {trace.stop_reason for trace in crowd.done.values()} == {
        StopReason.SILENCE,
        StopReason.DESTINATION,
    }


def silent(crowd: Stage) -> set[str]:
    """The destinations where nobody answers."""
    return {destination for destination, world in crowd.engine.worlds.items() if world is nobody}


def test_probes_are_counted(stage: OpenStage) -> None:
    """The driver knows how many probes have left; one that the host refused has not."""
    two = stage(OPEN, OPEN)
    two.engine.refusals["10.9.5.2"] = NO_ROUTE
    two.run()
    assert two.driver.probes_sent == len(two.engine.sent) > 0


def test_only_who_is_due_is_asked(stage: OpenStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that comes before anything is due or has arrived asks no trace at all."""
    crowd = stage(*[nobody] * 50, burst=1000)
    for destination in crowd.engine.worlds:
        crowd.start(destination)
    wanted = crowd.driver.pump(START)
    assert wanted
    asked: list[float] = []
    monkeypatch.setattr(Tracer, "next_probe", lambda _, now: asked.append(now))
    assert crowd.driver.pump((START + wanted) / 2) == wanted
    assert asked == []
    assert not crowd.driver.busy
