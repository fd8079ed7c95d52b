"""What is remembered of each target, and that it is bounded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.model import (
    Answer,
    Confidence,
    EngineStatus,
    FailureReason,
    Handshake,
    Hop,
    Known,
    Observation,
    Probe,
    ReloadStatus,
    Reply,
    ReplyKind,
    Source,
    State,
    StopReason,
)
from exporter.paths import MAX_BRANCHES, Moved, PathChange
from exporter.store import MAX_KNOWN, Record, Store
from tests.unit import samples

OPEN = samples.opened()
#: Every state of the same target.
CLOSED, FILTERED, REJECTED, UNKNOWN, UNRESOLVED = (
    replace(other, target=OPEN.target)
    for other in (
        samples.closed(),
        samples.filtered(),
        samples.rejected(),
        samples.refused_by_host(),
        samples.unresolved(),
    )
)


def later(observation: Observation, seconds: float) -> Observation:
    """The same a while later."""
    return replace(observation, started_at=samples.STARTED_AT + seconds)


def record_of(*observations: Observation) -> Record:
    """What a store remembers of them."""
    record = samples.store(*observations).get(OPEN.target.name)
    assert record
    return record


def through(*hops: Hop) -> Observation:
    """An observation of a path."""
    made = samples.trace(hops, StopReason.DESTINATION)
    return samples.observation(OPEN.target, OPEN.verdict, made)


def hop(ttl: int, *addresses: str, kind: ReplyKind = ReplyKind.TIME_EXCEEDED) -> Hop:
    """A hop that each of the addresses answered once."""
    answers = tuple(
        Answer(Probe(ttl, n, 0.0), Reply(kind, address, 0.1))
        for n, address in enumerate(addresses, start=1)
    )
    return Hop(ttl, len(answers) or 1, answers)


# -- latest, last good, first bad ------------------------------------------------------


def test_a_new_target_is_unknown() -> None:
    """Before its first trace a target has a record with nothing in it."""
    store = samples.store(waiting=[OPEN.target])
    record = store.get(OPEN.target.name)
    assert record
    assert (record.latest, record.last_good, record.first_bad, record.traces) == (None,) * 3 + (0,)
    assert store.get("nobody") is None


@pytest.mark.parametrize("good", [OPEN, CLOSED], ids=["open", "closed"])
def test_a_target_that_is_reached_is_good(good: Observation) -> None:
    """What reaches the destination is the latest and the last good, and ends a block."""
    record = record_of(FILTERED, good)
    assert record.latest is record.last_good is good
    assert record.first_bad is None


def test_the_first_bad_one_of_a_block_is_kept() -> None:
    """While a block lasts, the observation with which it began and the last good one stay."""
    first, second, third = later(FILTERED, 60), later(REJECTED, 120), later(FILTERED, 180)
    record = record_of(OPEN, first, second, third)
    assert record.latest is third
    assert record.first_bad is first
    assert record.last_good is OPEN


def test_what_is_kept_of_a_block_holds_no_traces_of_other_targets() -> None:
    """The first bad observation loses them, the latest has them, and all else stays the same."""
    blocked = samples.balanced(OPEN.target.name)
    assert blocked.controlled.elsewhere
    record = record_of(blocked)
    assert record.latest is blocked
    alone = replace(blocked.controlled, elsewhere=())
    assert record.first_bad == replace(blocked, controlled=alone)


def test_a_second_block_begins_anew() -> None:
    """After the target was reached a new block has its own first observation."""
    second = later(FILTERED, 120)
    assert record_of(FILTERED, later(OPEN, 60), second).first_bad is second


@pytest.mark.parametrize("unknown", [UNKNOWN, UNRESOLVED], ids=["error", "unresolved"])
def test_not_knowing_changes_nothing(unknown: Observation) -> None:
    """An unknown state is the latest, but neither ends a block nor begins one."""
    assert record_of(unknown).first_bad is None
    record = record_of(OPEN, FILTERED, later(unknown, 60))
    assert record.first_bad is FILTERED
    assert record.last_good is OPEN


def test_interception_is_bad() -> None:
    """A target whose traffic is intercepted is not open."""
    verdict = replace(OPEN.verdict, state=State.INTERCEPTED)
    seen = replace(OPEN, verdict=verdict)
    assert record_of(seen).first_bad is seen
    assert record_of(seen).last_good is None


def test_a_state_has_a_beginning() -> None:
    """The time of the present state is that of its first observation."""
    record = record_of(later(OPEN, 0), later(FILTERED, 60), later(FILTERED, 120))
    assert record.history.since == samples.STARTED_AT + 60


def test_a_block_on_one_of_several_paths_is_bad() -> None:
    """When some flows pass and some are blocked, the last good trace stays, and a block begins."""
    verdict = replace(FILTERED.verdict, flows=4, flows_blocked=1)
    partly = later(replace(FILTERED, verdict=verdict), 60)
    record = record_of(OPEN, partly, later(FILTERED, 120))
    assert (record.last_good, record.first_bad) == (OPEN, partly)


# -- changes ---------------------------------------------------------------------------


def test_the_first_observation_is_a_change() -> None:
    """The log shows the first trace of a target in full."""
    store = samples.store(waiting=[OPEN.target])
    change = store.add(OPEN)
    assert (change.first, change.state, change.path) == (True, False, False)
    assert change


def test_the_same_again_is_none() -> None:
    """A second trace with the same result changes nothing."""
    assert not samples.store(OPEN).add(later(OPEN, 60))


@pytest.mark.parametrize(
    "change", [{"state": State.INCONCLUSIVE}, {"blocked_at_hop": 3}, {"blocked_by": "192.0.2.1"}]
)
def test_another_conclusion_is_a_change(change: dict[str, object]) -> None:
    """State, place and culprit of a block are what the log reports a change of."""
    verdict = replace(REJECTED.verdict, **change)  # type: ignore[arg-type]
    assert samples.store(REJECTED).add(replace(REJECTED, verdict=verdict)).state


def test_a_target_that_flaps_is_logged_in_short() -> None:
    """From the fourth change in a row on a change is none for the log, until it is quiet again."""
    store = samples.store(OPEN)
    changes = [store.add(one) for one in (FILTERED, OPEN, FILTERED, OPEN, FILTERED)]
    assert [bool(change) for change in changes] == [True, True, True, False, False]
    assert [change.damping for change in changes] == [False, False, False, True, False]
    assert all(change.phase and change.state for change in changes)
    while not (quiet := store.add(FILTERED)).damping:
        assert quiet.flaps
    assert not quiet.flaps
    assert store.add(OPEN)


def test_one_unknown_trace_is_logged_and_is_no_change_of_state() -> None:
    """The log shows why a trace said nothing; what counts as the state stays."""
    store = samples.store(OPEN)
    doubt, back = store.add(UNKNOWN), store.add(OPEN)
    assert (doubt.state, back.state) == (True, True)
    assert not doubt.phase
    assert not back.phase


def test_another_wording_is_none() -> None:
    """Evidence and confidence vary from trace to trace without a change of state."""
    verdict = replace(REJECTED.verdict, evidence=("3 of 3",), reason="Otherwise.")
    assert not samples.store(REJECTED).add(replace(REJECTED, verdict=verdict))


# -- paths -----------------------------------------------------------------------------


def test_another_responder_is_another_path() -> None:
    """A hop whose responders are all new has moved."""
    store = samples.store(through(hop(1, "a"), hop(2, "b")))
    assert store.add(through(hop(1, "a"), hop(2, "c"))).path
    assert not store.add(through(hop(1, "a"), hop(2, "c"))).path
    record = store.get(OPEN.target.name)
    assert record
    assert record.path_changes == 1
    assert record.path_change == PathChange(samples.STARTED_AT, (Moved(2, ("b",), ("c",)),))


def test_silence_is_no_other_path() -> None:
    """A hop that falls silent and answers again has not moved."""
    store = samples.store(through(hop(1, "a"), hop(2, "b"), hop(3, "c")))
    assert not store.add(through(hop(1, "a"), hop(2), hop(3, "c"))).path
    assert not store.add(through(hop(1, "a"), hop(2, "b"), hop(3, "c"))).path


def test_balanced_branches_are_one_path() -> None:
    """Responders that took turns before are known, one at a time or together."""
    store = samples.store(through(hop(1, "a", "b")))
    assert not store.add(through(hop(1, "b", "c"))).path
    assert not store.add(through(hop(1, "c"))).path
    assert not store.add(through(hop(1, "a"))).path


def test_a_rejecter_is_no_other_path() -> None:
    """An ICMP error from somewhere on the way says nothing about who stands at that hop."""
    store = samples.store(through(hop(1, "a"), hop(2, "b")))
    assert not store.add(through(hop(1, "a"), hop(2, "x", kind=ReplyKind.UNREACHABLE))).path


def test_known_branches_are_bounded() -> None:
    """A hop that answers from ever new addresses beside a steady one costs bounded memory."""
    store = samples.store(*(through(hop(1, "steady", f"new{n}")) for n in range(5 * MAX_BRANCHES)))
    record = store.get(OPEN.target.name)
    assert record
    assert len(record.known_paths[OPEN.target.host].hops[1]) <= MAX_BRANCHES
    assert record.path_changes == 0


# -- addresses -------------------------------------------------------------------------


def toward(address: str, observation: Observation = OPEN) -> Observation:
    """The same observation of another address."""
    made = observation.trace
    assert made
    moved = replace(made, flow=made.flow._replace(destination=address))
    return replace(observation, address=address, trace=moved)


def of_all(*each: Observation) -> Observation:
    """The observation of a target with all its addresses, the worst first."""
    return replace(each[0], each=each)


def test_the_address_traced_last_is_the_last_one_known() -> None:
    """What is known of an address stays when another is traced; the latest is at the end."""
    record = record_of(toward("192.0.2.1"), toward("192.0.2.2"), toward("192.0.2.1"))
    assert list(record.known) == ["192.0.2.2", "192.0.2.1"]


def test_a_cycle_without_a_trace_keeps_address_port_and_good_trace() -> None:
    """A look-up that fails, or a trace that cannot begin, takes away nothing that was known."""
    refused = replace(UNKNOWN, trace=None)
    record = record_of(OPEN, UNRESOLVED, refused)
    assert OPEN.trace
    assert record.known == {
        samples.DESTINATION: Known(OPEN.trace.flow.source_port, OPEN.trace),
    }


FAR = replace(
    OPEN,
    trace=samples.trace(
        (*samples.routers(12), samples.end(13, ReplyKind.SYN_ACK)), StopReason.DESTINATION
    ),
)
ELSEWHERE = through(
    *samples.routers(2),
    hop(3, "192.0.2.33"),
    *samples.routers(11)[3:],
    samples.end(12, ReplyKind.SYN_ACK),
)


@pytest.mark.parametrize(
    ("observations", "steady"),
    [
        ([OPEN], 0),
        ([OPEN, OPEN], 1),
        ([OPEN] * 12, 11),
        ([CLOSED] * 3, 2),
        ([OPEN, OPEN, FILTERED], 0),
        ([FILTERED] * 3, 0),
        ([OPEN, OPEN, FILTERED, OPEN], 0),
        ([OPEN, OPEN, FILTERED, OPEN, OPEN], 1),
        ([OPEN, OPEN, UNRESOLVED, OPEN], 0),
        ([OPEN, OPEN, CLOSED], 0),
        ([OPEN, OPEN, FAR], 0),
        ([OPEN, OPEN, ELSEWHERE], 0),
        ([OPEN, replace(OPEN, verdict=replace(OPEN.verdict, confidence=Confidence.LOW))], 0),
        ([OPEN, replace(OPEN, verdict=replace(OPEN.verdict, confidence=Confidence.MEDIUM))], 1),
        ([OPEN, replace(OPEN, handshake=Handshake(success=False, duration=3.0))], 0),
        ([OPEN, replace(OPEN, handshake=None)], 1),
    ],
    ids=[
        "the first",
        "alike",
        "a dozen alike",
        "closed",
        "blocked now",
        "always blocked",
        "well again",
        "well for a while",
        "not looked at",
        "another state",
        "another distance",
        "another way",
        "a low confidence",
        "a medium confidence",
        "the plain connect fails",
        "no plain connect",
    ],
)
def test_an_address_is_steady_that_answers_as_before(
    observations: list[Observation], steady: int
) -> None:
    """So many traces in a row have reached it in one state, from one distance, by one way."""
    assert record_of(*observations).known[samples.DESTINATION].steady == steady


def test_each_address_is_steady_by_itself() -> None:
    """One that fails does not make the others less so."""
    one, two = toward("192.0.2.1"), toward("192.0.2.2")
    blocked = toward("192.0.2.2", FILTERED)
    known = record_of(of_all(one, two), of_all(one, two), of_all(blocked, one)).known
    assert {address: one.steady for address, one in known.items()} == {
        "192.0.2.1": 2,
        "192.0.2.2": 0,
    }


def test_the_good_trace_of_each_address_is_kept() -> None:
    """An address that is blocked keeps its good trace, although the target was never good."""
    one, two = toward("192.0.2.1"), toward("192.0.2.2")
    blocked = toward("192.0.2.2", FILTERED)
    always = toward("192.0.2.3", FILTERED)
    record = record_of(of_all(always, one, two), of_all(blocked, always, one))
    assert record.last_good is None
    assert {address: known.last_good for address, known in record.known.items()} == {
        "192.0.2.1": one.trace,
        "192.0.2.2": two.trace,
        "192.0.2.3": None,
    }


def test_known_addresses_are_bounded() -> None:
    """A name that answers with ever new addresses costs bounded memory."""
    several = (of_all(toward(f"192.0.2.{n}"), toward(f"198.51.100.{n}")) for n in range(200))
    record = record_of(*several)
    assert len(record.known) == len(record.known_paths) == MAX_KNOWN
    assert "198.51.100.199" in record.known


def test_another_worst_address_is_no_other_path() -> None:
    """Each address has a path of its own, whichever is the worst."""
    path_of_one, path_of_two = through(hop(1, "a"), hop(2, "b")), through(hop(1, "a"), hop(2, "c"))
    one, two = toward("192.0.2.1", path_of_one), toward("192.0.2.2", path_of_two)
    store = samples.store(of_all(one, two))
    assert not store.add(of_all(two, one)).path
    assert store.add(of_all(one, toward("192.0.2.2", path_of_one))).path


def test_another_failing_address_is_a_change() -> None:
    """When a second address fails the log says so in full; good ones may come and go."""
    one, two, three = toward("192.0.2.1", FILTERED), toward("192.0.2.2"), toward("192.0.2.3")
    store = samples.store(of_all(one, two))
    assert not store.add(of_all(one, three))
    assert store.add(of_all(one, toward("192.0.2.2", FILTERED))).state


# -- counters --------------------------------------------------------------------------


def test_probes_and_replies_add_up() -> None:
    """The counters of a hop grow with each trace, for silent hops, too."""
    record = record_of(FILTERED, FILTERED)
    assert (record.hop_probes[6], record.hop_replies[6]) == (6, 6)
    assert (record.hop_probes[7], record.hop_replies[7]) == (6, 0)
    assert record.traces == 2


def test_confirmations_are_no_hop() -> None:
    """The SYNs with the TTL of an ordinary packet are counted at no hop."""
    assert max(record_of(FILTERED).hop_probes) == len(FILTERED.trace.hops if FILTERED.trace else ())


def test_failures_are_counted_by_reason() -> None:
    """Every reason exists from the start; only the one that happened grows."""
    record = record_of(UNKNOWN, UNRESOLVED, UNRESOLVED, OPEN)
    expected = dict.fromkeys(FailureReason, 0)
    expected |= {FailureReason.PERMISSION: 1, FailureReason.RESOLVE: 2}
    assert record.failures == expected
    assert record.traces == 4


def test_skipped_ticks_are_counted() -> None:
    """A skipped tick counts for its target; one of a removed target is nobody's."""
    store = samples.store(OPEN)
    store.skip(OPEN.target.name)
    store.skip("nobody")
    record = store.get(OPEN.target.name)
    assert record
    assert record.skipped_ticks == 1


def test_the_source_address_is_learnt() -> None:
    """Where the probes come from is what the kernel chose for the last trace."""
    made = OPEN.trace
    assert made
    moved = replace(made, flow=made.flow._replace(source="192.0.2.99"))
    store = samples.store(OPEN, replace(OPEN, trace=moved))
    assert store.source.address == "192.0.2.99"
    assert store.source.cell == "10.0.16.7"


def test_the_source_addresses_of_two_families_do_not_take_turns() -> None:
    """IPv6's is published until there is one of IPv4, and then IPv4's."""
    made = OPEN.trace
    assert made
    six = replace(OPEN, trace=replace(made, flow=made.flow._replace(source="2001:db8::9")))
    store = Store(EngineStatus("syn", ""), Source(), ReloadStatus(successful=True, at=0.0), 0.0)
    store.configure([OPEN.target])
    found = []
    for observation in (six, OPEN, six):
        store.add(observation)
        found.append(store.source.address)
    assert found == ["2001:db8::9", samples.SOURCE, samples.SOURCE]


# -- another configuration -------------------------------------------------------------


def test_an_unchanged_target_keeps_its_record() -> None:
    """A reload with other labels or another interval keeps history and counters."""
    store = samples.store(OPEN)
    before = store.get(OPEN.target.name)
    relabelled = replace(OPEN.target, labels=(("team", "core"),), interval=5.0)
    store.configure([relabelled])
    record = store.get(OPEN.target.name)
    assert record is before
    assert record
    assert record.target == relabelled


@pytest.mark.parametrize("change", [{"host": "192.0.2.1"}, {"port": 80}])
def test_a_moved_target_begins_anew(change: dict[str, object]) -> None:
    """Another host or port under the same name has no history."""
    store = samples.store(OPEN)
    store.configure([replace(OPEN.target, **change)])  # type: ignore[arg-type]
    record = store.get(OPEN.target.name)
    assert record
    assert record.latest is None


def test_a_removed_target_is_forgotten() -> None:
    """What arrives for a target that was removed meanwhile is dropped."""
    store: Store = samples.store(OPEN)
    store.configure([])
    assert not store.add(OPEN)
    assert len(store) == 0
    assert list(store) == []


def test_reading_while_the_configuration_changes() -> None:
    """Whoever walks through the records sees those of one moment."""
    store = samples.store(OPEN, samples.filtered())
    seen = []
    for record in store:
        store.configure([])
        seen.append(record.target.name)
    assert seen == ["web", "db"]
