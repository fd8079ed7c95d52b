"""Which of several instances traces a target, when they share the targets out.

Rendezvous hashing (highest random weight, Thaler and Ravishankar 1998): each instance has a weight
for each target, and the highest one has it. So nobody has to talk to anybody: the list of targets
and the count are all it takes. One instance more takes its part of every other's targets, and no
target moves between those; one fewer hands out its own alone.

A target is known by its name. It is what tells targets apart everywhere else, in `egress_state` as
on the page; so two of one host:port need not sit on one instance, and a database that moves to
another address stays on its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from exporter.model import Share, Target


def instance_of(name: str, count: int) -> int:
    """The index of the one of `count` instances that traces the target of that name."""
    return max(range(count), key=lambda index: _weight(name, index))


def own(targets: Iterable[Target], share: Share | None) -> tuple[Target, ...]:
    """The targets of an instance, in their order; all of them where nothing is shared out."""
    if share is None:
        return tuple(targets)
    return tuple(
        target for target in targets if instance_of(target.name, share.count) == share.index
    )


def _weight(name: str, index: int) -> bytes:
    # Not hash(): it has another seed in each process (PYTHONHASHSEED).
    return blake2b(name.encode(), digest_size=8, salt=index.to_bytes(2)).digest()
