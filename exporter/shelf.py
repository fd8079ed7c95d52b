"""Whose packets are kept: as many targets' as there is room for.

The packets of what is well go first, then those of what fails; of both what was traced longest ago.
"""

from __future__ import annotations

#: Octets, of all targets together. A healthy target takes some 600, a failing one some 6,000.
ROOM = 4 << 20


class Shelf:
    """How much room the packets of each target take."""

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        #: Target -> octets, who was traced last at the end.
        self._well: dict[str, int] = {}
        self._failing: dict[str, int] = {}
        self.taken = 0

    def put(self, name: str, octets: int, *, well: bool) -> list[str]:
        """Note what a target takes from now on; the targets that have to make room for it."""
        self.remove(name)
        (self._well if well else self._failing)[name] = octets
        self.taken += octets
        gone = []
        while self.taken > self._room:
            gone.append(next(iter(self._well or self._failing)))
            self.remove(gone[-1])
        return gone

    def remove(self, name: str) -> None:
        """Forget a target."""
        for kept in (self._well, self._failing):
            self.taken -= kept.pop(name, 0)
