"""A control, measured with few probes and in little time. No socket, no clock.

1. Up to `Sounding.attempts` probes with the TTL of an ordinary packet go out, SPACING apart, until
   one is answered.
2. An answer in the name of the destination begins the sweep, if one is wanted, and without any
   such attempts it begins at once: the TTLs from `first` on, at most WINDOW past the farthest that
   was answered. When nothing comes for as long as `patience` says, the window moves on without an
   answer, up to `last`. Where the round trip is known to be longer than SLOW, all TTLs are asked
   at once, for one window after the other would take too long.
3. The path ends at the lowest TTL that anything but time-exceeded answered. Each TTL up to there
   that is unanswered gets one more probe, RETRY later: a probe may be lost, and of two SYNs that
   reach the destination together one may stay unanswered.
4. The patience is three times the longest round trip known, but PATIENCE_FLOOR at least.
5. It is over when no probe is due or to come and each one has been answered or has had its
   patience, and `seconds` after the start in any case.

`Tracer` makes traces; this has the same methods, so that the driver does not know which it is.
All times are seconds on one monotonic clock, given by the caller.
"""

from __future__ import annotations

from heapq import heappop, heappush

from exporter.model import (
    END_KINDS,
    FULL_TTL,
    TCP_KINDS,
    Answer,
    Failure,
    Hop,
    Probe,
    ReplyKind,
    Sounding,
    StopReason,
)

SPACING = 0.5
RETRY = 0.35
WINDOW = 4
SLOW = 0.1
STALL = 0.1
PATIENCE_FLOOR = 0.3


class Sounder:
    """One sounding in the making; its methods are those of `Tracer`."""

    def __init__(self, sounding: Sounding, started_at: float) -> None:
        self.sounding = sounding
        self.stop_reason: StopReason | None = None
        self.failure: Failure | None = None
        self._deadline = started_at + sounding.seconds
        #: (due, ttl) of what is to be sent.
        self._queue: list[tuple[float, int]] = []
        self._sent: dict[int, list[Probe]] = {}
        self._answers: dict[Probe, Answer] = {}
        self._answered: set[int] = set()
        #: The farthest TTL of the sweep that is queued or sent; None before the sweep.
        self._opened: int | None = None
        #: The lowest TTL that ends the path.
        self._end: int | None = None
        self._longest_rtt = sounding.round_trip
        self._window = sounding.last if sounding.round_trip > SLOW else WINDOW
        self._progress_at = started_at
        if sounding.attempts:
            self._queue.append((started_at, FULL_TTL))
        else:
            self._sweep(started_at)

    # -- what the caller does ----------------------------------------------------------

    def next_probe(self, now: float) -> tuple[int, int] | None:
        """The (ttl, attempt) to send now, None when there is nothing to send yet."""
        if self.stop_reason or now >= self._deadline:
            self.stop_reason = self.stop_reason or self._conclusion()
            return None
        queue = self._queue
        while queue and not self._wanted(queue[0][1]):
            heappop(queue)
        if not queue and self._may_stall() and now >= self._stall_at():
            self._pass_stall(now)
        if queue:
            due, ttl = queue[0]
            return (ttl, len(self._sent.get(ttl, ())) + 1) if due <= now else None
        if not self._may_stall() and now >= self._settled_at():
            self.stop_reason = self._conclusion()
        return None

    def sent(self, probe: Probe) -> None:
        """The probe that `next_probe` named is on its way."""
        heappop(self._queue)
        self._sent.setdefault(probe.ttl, []).append(probe)
        self._progress_at = probe.sent_at
        if probe.ttl != FULL_TTL:
            self._ask_again(probe.ttl)
        elif probe.attempt < self.sounding.attempts:
            heappush(self._queue, (probe.sent_at + SPACING, FULL_TTL))

    def send_failed(self, failure: Failure, _now: float) -> None:
        """The host refused to send the probe that `next_probe` named: a control may fail."""
        self.failure = failure
        self.stop_reason = StopReason.SEND_FAILED

    def answer(self, answer: Answer) -> None:
        """Fold in the answer to a probe; one of the destination outweighs an ICMP error."""
        probe, reply = answer.probe, answer.reply
        known = self._answers.get(probe)
        if known and (known.reply.kind in TCP_KINDS or reply.kind not in TCP_KINDS):
            return
        self._answers[probe] = answer
        self._answered.add(probe.ttl)
        if reply.kind is not ReplyKind.ACK:
            self._longest_rtt = max(self._longest_rtt, answer.rtt)
        if probe.ttl == FULL_TTL:
            if reply.kind in END_KINDS and self.sounding.first and self._opened is None:
                self._sweep(reply.received_at)
            return
        self._progress_at = max(self._progress_at, reply.received_at)
        if reply.kind is ReplyKind.TIME_EXCEEDED:
            self._open_window(probe.ttl + self._window, reply.received_at)
        else:
            self._end_at(probe.ttl)

    @property
    def sweeping(self) -> bool:
        """Whether the next answer may call for the next TTL at once."""
        return self._may_stall()

    def wake_at(self) -> float:
        """When to call `next_probe` again if no answer comes before."""
        if self._queue:
            wanted = self._queue[0][0]
        else:
            wanted = self._stall_at() if self._may_stall() else self._settled_at()
        return min(wanted, self._deadline)

    # -- what came of it ---------------------------------------------------------------

    def hops(self) -> tuple[Hop, ...]:
        """Consecutive hops from TTL 1, those before the sweep without a probe; () without one."""
        last = max((ttl for ttl in self._sent if ttl != FULL_TTL), default=0)
        return tuple(self._hop(ttl) for ttl in range(1, min(last, self._end or last) + 1))

    def confirmation(self) -> Hop | None:
        """The probes of rule 1 as a hop, None when there were none."""
        return self._hop(FULL_TTL) if FULL_TTL in self._sent else None

    def witnessed(self) -> int:
        """None: what a control meets tells enough."""
        return 0

    # -- the rules ---------------------------------------------------------------------

    def _wanted(self, ttl: int) -> bool:
        on_path = ttl == FULL_TTL or self._end is None or ttl <= self._end
        return on_path and ttl not in self._answered

    def _may_stall(self) -> bool:
        return self._opened is not None and self._end is None and self._opened < self.sounding.last

    def _stall_at(self) -> float:
        return self._progress_at + self._patience(STALL)

    def _patience(self, floor: float) -> float:
        return max(floor, 3 * self._longest_rtt)

    def _sweep(self, now: float) -> None:
        self._opened = self.sounding.first - 1
        self._open_window(self._opened + self._window, now)

    def _open_window(self, until: int, now: float) -> None:
        if self._opened is None or self._end is not None:
            return
        until = min(until, self.sounding.last)
        for ttl in range(self._opened + 1, until + 1):
            heappush(self._queue, (now, ttl))
        self._opened = max(self._opened, until)

    def _pass_stall(self, now: float) -> None:
        self._progress_at = now
        self._open_window((self._opened or 0) + self._window, now)

    def _end_at(self, ttl: int) -> None:
        known, self._end = self._end, min(ttl, self._end or ttl)
        if known is None:  # only now it is known which of the silent TTLs lie on the path
            for silent in range(self.sounding.first, ttl):
                self._ask_again(silent)

    def _ask_again(self, ttl: int) -> None:
        probes = self._sent.get(ttl, ())
        if self._end is not None and len(probes) == 1 and self._wanted(ttl):
            heappush(self._queue, (probes[0].sent_at + RETRY, ttl))

    def _settled_at(self) -> float:
        """When the last unanswered probe has had its patience; the start of time if none has to."""
        waiting = (probes[-1].sent_at for ttl, probes in self._sent.items() if self._wanted(ttl))
        return max(waiting, default=float("-inf")) + self._patience(PATIENCE_FLOOR)

    def _conclusion(self) -> StopReason:
        kinds = {answer.reply.kind for answer in self._answers.values()}
        if kinds & END_KINDS:
            return StopReason.DESTINATION
        if ReplyKind.UNREACHABLE in kinds:
            return StopReason.ICMP_ERROR
        return StopReason.HOP_LIMIT if kinds else StopReason.SILENCE

    def _hop(self, ttl: int) -> Hop:
        probes = self._sent.get(ttl, [])
        answers = (self._answers.get(probe) for probe in probes)
        return Hop(ttl, len(probes), tuple(answer for answer in answers if answer))
