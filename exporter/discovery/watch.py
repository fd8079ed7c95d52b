"""What each source of targets has in common: what was found there, and how to look again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from exporter.model import SourceStatus, Target


@dataclass(frozen=True, slots=True)
class Found:
    """What a source names now: its last good list, and why there is no newer one.

    `left_out` counts entries that cannot be targets and `problems` has lines about them;
    `failure` is "" when the last look succeeded. All of it is printable.
    """

    targets: tuple[Target, ...] = ()
    left_out: int = 0
    problems: tuple[str, ...] = ()
    failure: str = ""

    def failed(self, why: str) -> Found:
        """The same after a look that found nothing to believe."""
        return replace(self, failure=why)

    def status(self, source: str) -> SourceStatus:
        """What the program says of that source."""
        return SourceStatus(source, not self.failure, len(self.targets), self.left_out)


class Watch(Protocol):
    """Looks at one source, again and again.

    `pause` is how many seconds lie between two looks; `found` what the last ones have shown.
    """

    name: str
    pause: float
    found: Found

    async def look(self) -> None:
        """Look once; whatever goes wrong is said in `found`."""
