"""The latest, the last good and the first bad observation of each target; bounded.

The scheduler writes, everything that publishes reads. One record a target, in each three
observations, two counters a hop and a history of bounded length, so memory is bounded by the
configuration. Their packets have a bound of their own, all targets together (shelf.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TypeVar

from exporter.history import History
from exporter.model import (
    BLOCKED_STATES,
    MAX_ADDRESSES,
    REACHED_STATES,
    Capture,
    Confidence,
    EngineStatus,
    FailureReason,
    Family,
    Known,
    Observation,
    ReloadStatus,
    Share,
    Source,
    SourceStatus,
    State,
    Target,
    Trace,
)
from exporter.paths import Moved, Path, PathChange
from exporter.shelf import Shelf

#: So many addresses of a target are remembered, those traced last.
MAX_KNOWN = 2 * MAX_ADDRESSES
NO_ROOM = Capture(lost="there was no room left for them beside those of other targets")

Value = TypeVar("Value")

_VERSIONS = count(1)


@dataclass(slots=True)
class Record:
    """What is remembered of one target."""

    target: Target
    latest: Observation | None = None
    #: The last observation that reached the destination.
    last_good: Observation | None = None
    #: The observation with which the present block began; None when not blocked.
    first_bad: Observation | None = None
    history: History = field(default_factory=History)
    traces: int = 0
    path_changes: int = 0
    #: The last one of them.
    path_change: PathChange | None = None
    skipped_ticks: int = 0
    #: When somebody asked for a trace now, None when it has come or nobody did.
    asked_at: float | None = None
    failures: dict[FailureReason, int] = field(
        default_factory=lambda: dict.fromkeys(FailureReason, 0)
    )
    #: TTL -> probes sent and replies received since the start.
    hop_probes: dict[int, int] = field(default_factory=dict)
    hop_replies: dict[int, int] = field(default_factory=dict)
    #: Address -> what is known of it, the one traced last at the end.
    known: dict[str, Known] = field(default_factory=dict)
    #: The host, or each address with `all_addresses` -> the path there.
    known_paths: dict[str, Path] = field(default_factory=dict)
    #: Another number after each change, and in each record: what was made of one is good as long
    #: as its version.
    version: int = field(default_factory=lambda: next(_VERSIONS), compare=False)

    def changed(self) -> None:
        """Give the record another version; for whoever has changed it."""
        self.version = next(_VERSIONS)


@dataclass(frozen=True, slots=True)
class Change:
    """What an observation changed: drives the log's choice between a line and a trace.

    `state` is another conclusion than the last one; `phase` another state that counts (see
    `history`). `flaps` says that the target flaps now, `damping` that this began or ended.
    """

    first: bool = False
    state: bool = False
    path: bool = False
    phase: bool = False
    flaps: bool = False
    damping: bool = False

    def __bool__(self) -> bool:
        return self.first or ((self.state or self.path) and not self.flaps)


class Store:
    """All records, and what the program says about itself."""

    def __init__(
        self, engine: EngineStatus, source: Source, reload: ReloadStatus, started_at: float
    ) -> None:
        self.engine = engine
        self.source = source
        #: Which part of the `configured` targets this instance traces, None: all of them.
        self.share: Share | None = None
        self.configured = 0
        self.reload = reload
        #: How each source of discovered targets fares.
        self.sources: tuple[SourceStatus, ...] = ()
        #: ICMP errors that the kernel has kept from the engine since the start.
        self.unseen_errors = 0
        #: How many seconds late traces begin.
        self.scheduler_lag: Callable[[], float] = float
        #: Whether the last writing of the state file succeeded, None when none was tried.
        self.state_file_written: bool | None = None
        self.started_at = started_at
        self._records: dict[str, Record] = {}
        self._shelf = Shelf()

    def configure(self, targets: Iterable[Target]) -> None:
        """Take over a new list of targets; a target whose host and port stay keeps its record."""
        records: dict[str, Record] = {}
        for target in targets:
            old = self._records.get(target.name)
            if old and (old.target.host, old.target.port) == (target.host, target.port):
                old.target = target
                old.changed()
                records[target.name] = old
            else:
                records[target.name] = Record(target)
        for name, old in self._records.items():
            if records.get(name) is not old:
                self._shelf.remove(name)
        self._records = records

    def __iter__(self) -> Iterator[Record]:
        return iter(tuple(self._records.values()))

    def __len__(self) -> int:
        return len(self._records)

    def get(self, name: str) -> Record | None:
        """The record of a configured target, None when there is none of that name."""
        return self._records.get(name)

    def skip(self, name: str) -> None:
        """Count a tick that found the target's last trace still running."""
        if record := self._records.get(name):
            record.skipped_ticks += 1
            record.changed()

    def add(self, observation: Observation) -> Change:
        """Take in an observation; one for a target that was removed meanwhile is dropped."""
        record = self._records.get(observation.target.name)
        if record is None:
            return Change()
        before, history = record.latest, record.history
        record.history = history.after(observation)
        moved = _learn_paths(record, observation)
        record.latest = observation
        record.asked_at = None
        record.traces += 1
        if moved:
            record.path_changes += 1
            record.path_change = PathChange(observation.started_at, moved)
        if observation.failure:
            record.failures[observation.failure.reason] += 1
        if observation.trace:
            _count(record, observation.trace)
            self._learn_source(observation.trace.flow.source)
        _remember(record, observation)
        _remember_addresses(record, observation, before, moved=bool(moved))
        self._keep_packets(record, observation)
        record.changed()
        return Change(
            first=before is None,
            state=before is not None and _conclusion(before) != _conclusion(observation),
            path=bool(moved),
            phase=record.history.changes > history.changes,
            flaps=record.history.flapping,
            damping=record.history.flapping is not history.flapping,
        )

    def _keep_packets(self, record: Record, observation: Observation) -> None:
        """Keep those of the record, as long as there is room, at the expense of others."""
        well = observation.verdict.state in REACHED_STATES
        for name in self._shelf.put(record.target.name, _octets(record), well=well):
            _lose_packets(self._records[name])

    def _learn_source(self, address: str) -> None:
        """Take over where probes came from; the two families of a host do not take turns."""
        known = self.source.address
        if address == known:
            return
        if not known or Family.of(address) in {Family.IPV4, Family.of(known)}:
            self.source = replace(self.source, address=address)


def _conclusion(observation: Observation) -> tuple[State, int, str | None, frozenset[str | None]]:
    verdict = observation.verdict
    # Of several addresses those that fail: the others may be other ones in each cycle.
    failing = (one.address for one in observation.each if one.verdict.state not in REACHED_STATES)
    return verdict.state, verdict.blocked_at_hop, verdict.blocked_by, frozenset(failing)


def _remember(record: Record, observation: Observation) -> None:
    state = observation.verdict.state
    if state in REACHED_STATES:
        record.last_good = _own(observation)
        record.first_bad = None
    elif state in BLOCKED_STATES or state is State.INTERCEPTED:
        record.first_bad = record.first_bad or _own(observation)
    # An unknown state neither ends a block nor begins one.


def _own(observation: Observation) -> Observation:
    """The observation without other targets' traces: they would stay as long as it is kept."""
    controlled = observation.controlled
    if not (controlled.elsewhere or observation.each):
        return observation
    return replace(
        observation,
        controlled=replace(controlled, elsewhere=()),
        each=tuple(map(_own, observation.each)),
    )


def _octets(record: Record) -> int:
    """What the record's packets take; observations share theirs."""
    seen = filter(None, (record.latest, record.first_bad, record.last_good))
    captures = (one.capture for observation in seen for one in observation.by_address)
    return sum({id(one): len(one.compressed) for one in captures if one}.values())


def _lose_packets(record: Record) -> None:
    kept = (record.latest, record.last_good, record.first_bad)
    # One that is kept as two of them stays one.
    without = {id(one): _without_packets(one) for one in kept if one}
    record.latest, record.last_good, record.first_bad = (one and without[id(one)] for one in kept)


def _without_packets(observation: Observation) -> Observation:
    return replace(
        observation,
        capture=observation.capture and NO_ROOM,
        each=tuple(map(_without_packets, observation.each)),
    )


def _remember_addresses(
    record: Record, observation: Observation, last: Observation | None, *, moved: bool
) -> None:
    states = {one.address: one.verdict.state for one in last.by_address} if last else {}
    for one in observation.by_address:
        if one.address is None:
            continue
        before = record.known.get(one.address, Known())
        source_port = one.trace.flow.source_port if one.trace else before.source_port
        good = one.trace if one.verdict.state in REACHED_STATES else before.last_good
        same_state = states.get(one.address) is one.verdict.state
        alike = same_state and not moved and _is_well_and_as_far(one, before.last_good)
        steady = before.steady + 1 if alike else 0
        _put_last(record.known, one.address, Known(source_port, good, steady))


def _is_well_and_as_far(observation: Observation, last_good: Trace | None) -> bool:
    """Whether it has reached its address, without any doubt, and from as far away as before."""
    trace, verdict, handshake = observation.trace, observation.verdict, observation.handshake
    if not (trace and last_good and verdict.state in REACHED_STATES):
        return False
    if verdict.state is State.OPEN and handshake and not handshake.success:
        return False
    return verdict.confidence is not Confidence.LOW and trace.distance == last_good.distance


def _put_last(memory: dict[str, Value], key: str, value: Value) -> None:
    """Remember the value as the last one; beyond MAX_KNOWN the first one is forgotten."""
    memory.pop(key, None)
    memory[key] = value
    if len(memory) > MAX_KNOWN:
        del memory[next(iter(memory))]


def _count(record: Record, trace: Trace) -> None:
    for hop in trace.hops:
        record.hop_probes[hop.ttl] = record.hop_probes.get(hop.ttl, 0) + hop.sent
        record.hop_replies[hop.ttl] = record.hop_replies.get(hop.ttl, 0) + len(hop.answers)


def _learn_paths(record: Record, observation: Observation) -> tuple[Moved, ...]:
    """Fold what was traced into the known paths; the hops at which one of them has changed."""
    moved: list[Moved] = []
    for one in observation.by_address:
        if one.trace:
            key = one.trace.flow.destination if observation.each else one.target.host
            known = record.known_paths.get(key, Path())
            path, hops = known.after(one.trace, one.controlled.flows)
            moved += hops
            _put_last(record.known_paths, key, path)
    return tuple(moved)
