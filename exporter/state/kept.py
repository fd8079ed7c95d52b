"""What is kept of a target's record through a restart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from exporter.history import History
from exporter.model import Known, Observation, Place, Target, Trace
from exporter.paths import Path, PathChange
from exporter.store import Record

#: The responders of a trace -> what is known of them; the networks may be configured anew.
PlacesOf = Callable[[Trace], Mapping[str, Place]]


@dataclass(frozen=True, slots=True)
class Kept:
    """The part of a `Record` that outlives the process; frozen, so any thread may write it.

    The targets of the observations have name, host and port alone.
    """

    target: Target
    history: History = field(default_factory=History)
    known: tuple[tuple[str, Known], ...] = ()
    paths: tuple[tuple[str, Path], ...] = ()
    path_change: PathChange | None = None
    last_good: Observation | None = None
    first_bad: Observation | None = None


def keep(record: Record) -> Kept:
    """What is worth keeping of a record."""
    return Kept(
        record.target,
        record.history,
        tuple(record.known.items()),
        tuple(record.known_paths.items()),
        record.path_change,
        record.last_good,
        record.first_bad,
    )


def restore(record: Record, kept: Kept, places_of: PlacesOf) -> None:
    """Give a new record what was kept of the one before it."""
    record.history = kept.history
    record.known.update(kept.known)
    record.known_paths.update(kept.paths)
    record.path_change = kept.path_change
    record.last_good = _seen_again(kept.last_good, record.target, places_of)
    record.first_bad = _seen_again(kept.first_bad, record.target, places_of)
    record.changed()


def _seen_again(
    observation: Observation | None, target: Target, places_of: PlacesOf
) -> Observation | None:
    if observation is None:
        return None
    places = places_of(observation.trace) if observation.trace else {}
    return replace(observation, target=target, places=places)
