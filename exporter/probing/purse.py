"""How many probes a router may be asked to answer: its budget of ICMP errors, learnt.

A Linux router says to one recipient at most BURST errors at once and then one a second
(icmp_ratelimit, net/ipv4/icmp.c); others say more, or less. A purse begins with what Linux allows,
a little below it, and follows what the router does: unanswered probes lower the rate at once,
answers raise it step by step where more would be asked (AIMD, RFC 5681).

All times are seconds on one monotonic clock, given by the caller.
"""

from __future__ import annotations

from math import inf

BURST = 6.0
#: Probes a second: where a purse begins, and how far it goes down and up.
FIRST_RATE = 0.9
LEAST_RATE, MOST_RATE = 0.2, 50.0
#: What is kept back for those that ask first and then look: confirmations and rejections.
RESERVE = 2.0
#: So many answers in a row, while more was wanted, raise the rate by RAISE.
ENOUGH = 20
RAISE, CUT = 1.25, 0.75


class Purse:
    """What one router, or a group that answers by turns, may still be asked."""

    __slots__ = ("_answered", "_at", "_coins", "_cut_at", "_refused", "rate")

    def __init__(self, now: float, spent: int = 0) -> None:
        self.rate = FIRST_RATE
        self._coins = max(0.0, BURST - spent)
        self._at = now
        #: Answers since the rate was last changed, and whether somebody was refused since then.
        self._answered = 0
        self._refused = False
        self._cut_at = -inf

    def take(self, wanted: int, now: float) -> int:
        """How many of the wanted probes may be sent now, from 0 on; they count as sent."""
        self._fill(now)
        granted = min(wanted, max(0, int(self._coins - RESERVE)))
        self._coins -= granted
        self._refused |= granted < wanted
        return granted

    def spend(self, spent: int, now: float) -> None:
        """Count what the router has said, or was asked, without anybody's leave."""
        self._fill(now)
        self._coins = max(-BURST, self._coins - spent)

    def refuse(self) -> None:
        """Somebody would ask, and has to wait for its turn."""
        self._refused = True

    def learn(self, asked: int, answered: int, now: float) -> None:
        """What became of probes that the router should have answered."""
        if answered < asked:
            # What it lacks shows in several traces at once, and for as long as it takes to refill.
            if now - self._cut_at > BURST / self.rate:
                self._cut_at = now
                self._change(max(LEAST_RATE, self.rate * CUT))
            return
        self._answered += answered
        if self._refused and self._answered >= ENOUGH:
            self._change(min(MOST_RATE, self.rate * RAISE))

    def _change(self, rate: float) -> None:
        self.rate, self._answered, self._refused = rate, 0, False

    def _fill(self, now: float) -> None:
        self._coins = min(BURST, self._coins + max(0.0, now - self._at) * self.rate)
        self._at = now
