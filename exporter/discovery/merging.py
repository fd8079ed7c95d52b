"""Targets of the configuration and of every source, as one list.

The configuration comes first, then the sources in the order in which they are configured, files by
their name. Of two targets of one name the first one counts; so what is configured by hand is
never changed by whoever writes a list, and the same lists always give the same targets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from exporter.model import Target, joined
from exporter.settings import MAX_TARGETS

#: So many lines tell of targets that are left out.
MAX_PROBLEMS = 20


class Merged(NamedTuple):
    """The targets, and lines about those that are left out."""

    targets: tuple[Target, ...]
    problems: tuple[str, ...]


def merged(
    configured: Sequence[Target], discovered: Iterable[tuple[str, Sequence[Target]]]
) -> Merged:
    """The targets, each under a name of its own; `discovered` has each source's."""
    taken = {target.name: target for target in configured}
    problems: list[str] = []
    for source, targets in discovered:
        for target in targets:
            other = taken.get(target.name)
            if other is None and len(taken) < MAX_TARGETS:
                taken[target.name] = target
            elif other != target:  # the same twice is none too many
                problems.append(f"{source}: {_why_not(target, other)}")
    return Merged(tuple(taken.values()), tuple(dict.fromkeys(problems))[:MAX_PROBLEMS])


def _why_not(target: Target, other: Target | None) -> str:
    """Why the target is left out: because of the other one of its name, or for want of room."""
    if other is None:
        return f"there are more than {MAX_TARGETS:,} targets; the rest is left out"
    one, two = joined(target.host, target.port), joined(other.host, other.port)
    difference = f"for {two}" if one != two else "with other labels or settings"
    return f"{target.name!r} for {one} is left out, for the name is taken {difference}"
