"""How often people and scripts may have targets traced out of turn. Pure arithmetic.

1. A target is asked for at most once in PAUSE seconds.
2. All together may be asked for BURST at once, and then one in SPACING seconds: a token bucket. So
   whoever asks as often as possible adds 20 traces a minute, and no burst of probes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

#: Between two traces that were asked for of one target: longer than most traces take, and than
#: the routers' limits on ICMP errors need to recover.
PAUSE = 10.0
BURST = 5
#: As in a first round: three probes to each shared hop in three seconds is what the ICMP limit of
#: a Linux router (one a second) replenishes.
SPACING = 3.0


@dataclass(slots=True)
class Allowance:
    """The token bucket of all targets together; times are of a monotonic clock."""

    #: When the bucket is full again.
    _full_at: float = -inf

    def wait(self, now: float) -> float:
        """Seconds until there is a token; 0: there is one."""
        return max(0.0, self._full_at - (BURST - 1) * SPACING - now)

    def take(self, now: float) -> None:
        """Take a token."""
        self._full_at = max(self._full_at, now) + SPACING
