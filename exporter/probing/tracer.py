"""What to probe next, when to wait, when a trace is complete. No socket, no clock.

1. The sweep sends one SYN for each TTL, ascending, at most WINDOW TTLs past the farthest hop
   that has answered. When nothing new comes for as long as `patience` says, the window moves
   on without an answer, up to the plan's hop limit.
2. `patience` is three times the longest round trip seen, between a floor and the plan's
   timeout: what nearer hops took justifies how long a farther one may take.
3. The path ends at the lowest TTL that the destination answered over TCP or, as long as it has
   answered none, that an ICMP error other than time-exceeded answered. TTLs beyond it are not
   probed any more.
4. Each TTL gets the plan's attempts, SPACING apart: three of them outlast the second that
   Linux takes to allow itself one more ICMP error (icmp_ratelimit), so that a rate-limited or
   a lossy hop is not taken for a silent one. Past SILENT_LIMIT unanswered hops beyond the
   farthest answer, one attempt a TTL has to do; and where an ICMP error ended the path, since
   its sender needs what it may still send for its own hop and for the confirmation. Where the
   destination ends it, further attempts go STAGGER later than the others': two SYNs that reach
   the destination together get one SYN-ACK, and a SYN that overtakes one with a lower TTL would
   make the destination seem a hop farther than it is.
5. Unless the destination itself has answered over TCP, CONFIRMATIONS SYNs with the TTL of an
   ordinary packet follow, CONFIRMATION_SPACING apart, until one is answered: from the first
   stall of the window, or as soon as an ICMP error ends the path. Only they make silence
   "filtered". Together with the last one's patience they last 3.19 s, longer than a Linux router
   tries to resolve a dead neighbour before it says so.
6. A trace is complete when no probe is due or to come, and each one has been answered or has
   had its patience. Its stop reason follows from the answers alone.
7. The first answer to a probe counts, later ones never replace it; except that an answer of
   the destination over TCP replaces an ICMP error, which anyone on the way can send.
8. SEND_RETRIES refusals of the host in a row, or the DEADLINE, end a trace early.
9. A guide (near.py) names the routers that are known on the path, and spares some of its hops. All
   hops that answered before are asked at once; the window moves on from the farthest of them when
   that has answered or has had its attempts. A spared hop stays so if a farther router answers that
   was expected there, or rejects; or if the destination answers at the distance that it had, and
   not a hop nearer. Where nothing shows that, the spared hops are asked after all, once each: the
   farthest first, then the others. Where another router answers, all of them are. And what is
   silent behind the farthest answer gets all of its attempts, for nobody's budget is spent there.
10. A quick plan asks a hop again only if it did not answer as before, or as soon as there is
   something to confirm.
11. Where the farthest router that answers has lately rejected others' traffic, silence behind it
   may be a rejection that it had no ICMP error left for. So each confirmation is followed, PAIRED
   later, by a probe that expires there: an answer to it shows that there was one left.

All times are seconds on one monotonic clock, given by the caller.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple

from exporter.model import (
    FULL_TTL,
    TCP_KINDS,
    Answer,
    Failure,
    Hop,
    Plan,
    Probe,
    Reply,
    ReplyKind,
    StopReason,
)
from exporter.probing.near import UNGUIDED, Guide

WINDOW = 4
SILENT_LIMIT = 4
SPACING = 0.6
STALL_FLOOR = 0.1
PATIENCE_FLOOR = 0.5
CONFIRMATIONS = 3
CONFIRMATION_SPACING = 1.12
CONFIRMATION_PATIENCE_FLOOR = 0.95
TOLERATED_LOSS = 0.2
LOSSY_CONFIRMATIONS = 16
LOSSY_SPACING = 0.5
LOSSY_REACH = 2
STAGGER = 0.3
PAIRED = 0.03
#: A probe that was asked for along with a confirmation has left by then, in seconds after it.
PAIRED_UNTIL = 0.15
SEND_RETRIES = 5
SEND_RETRY_DELAY = 0.1
DEADLINE = 30.0

#: Looking a member up in its enumeration costs as much as the rest of a step.
TIME_EXCEEDED = ReplyKind.TIME_EXCEEDED


class _End(NamedTuple):
    """Where an answer ends the path; the lesser one counts (rule 3)."""

    only_icmp: bool
    ttl: int


class Tracer:
    """One trace in the making.

    The caller asks `next_probe`, sends what it names and reports `sent` or `send_failed`,
    hands in each `answer`, and comes back at `wake_at`, until `stop_reason` is set.
    """

    def __init__(self, plan: Plan, started_at: float, guide: Guide = UNGUIDED) -> None:
        self.plan = plan
        self.guide = guide
        self.stop_reason: StopReason | None = None
        self.failure: Failure | None = None
        self._deadline = started_at + DEADLINE
        self._not_before = started_at
        self._refusals = 0
        #: (due, ttl) of what is to be sent.
        self._queue: list[tuple[float, int]] = []
        #: TTL whose next attempt waits for the frontier to come near (rule 4) -> when it is due.
        self._parked: dict[int, float] = {}
        #: TTL -> probes sent, in order; and the answer to each.
        self._sent: dict[int, list[Probe]] = {}
        self._answers: dict[Probe, Answer] = {}
        #: What was sent and not answered yet, in order.
        self._unanswered: dict[Probe, None] = {}
        #: The farthest TTL whose first attempt is queued or sent, and how many still wait.
        self._opened = 0
        self._waiting_first = 0
        #: The farthest TTL that a router has answered.
        self._frontier = 0
        self._end: _End | None = None
        self._reached = False
        #: Whether a confirmation was answered.
        self._confirmed = False
        #: The TTL whose further attempts are delayed already.
        self._staggered: int | None = None
        self._confirming = False
        #: Confirmations, and the TTLs that are asked along with them (rule 11).
        self._pairs: list[tuple[Probe, int]] = []
        self._longest_rtt = guide.round_trip
        self._progress_at = started_at
        #: How many attempts a TTL may have where that is less than the plan's; and whether an
        #: answer has shown that those with none may stay without.
        self._limits = dict(guide.attempts)
        self._last_spared = max(
            (ttl for ttl, limit in self._limits.items() if not limit), default=0
        )
        self._proved = self._retreated = False
        first = next(ttl for ttl in count(1) if self._limit(ttl))
        self._open_window(guide.horizon or first + WINDOW - 1, started_at)

    # -- what the caller does ----------------------------------------------------------

    def next_probe(self, now: float) -> tuple[int, int] | None:
        """The (ttl, attempt) to send now, None when there is nothing to send yet."""
        queue = self._queue
        while True:
            self._skip_unwanted()
            if queue and queue[0][0] <= now < self._deadline and not self.stop_reason:
                ttl = queue[0][1]
                return None if now < self._not_before else (ttl, self._next_attempt(ttl))
            if not self._move_on(now):
                return None

    def sent(self, probe: Probe) -> None:
        """The probe that `next_probe` named is on its way."""
        heappop(self._queue)
        ttl, attempt = probe.ttl, probe.attempt
        self._refusals = 0
        self._sent.setdefault(ttl, []).append(probe)
        self._unanswered[probe] = None
        if ttl == FULL_TTL:
            self._confirm_again(probe)
            return
        if attempt == 1:
            self._waiting_first -= 1
            self._progress_at = max(self._progress_at, probe.sent_at)
        if attempt < self._limit(ttl):
            heappush(self._queue, (probe.sent_at + SPACING, ttl))

    def send_failed(self, failure: Failure, now: float) -> None:
        """The host refused to send the probe that `next_probe` named."""
        self._refusals += 1
        self._not_before = now + SEND_RETRY_DELAY
        if self._refusals >= SEND_RETRIES:
            self.failure = failure
            self.stop_reason = StopReason.SEND_FAILED

    def answer(self, answer: Answer) -> None:
        """Fold in the answer to a probe of this trace (rule 7)."""
        probe, reply = answer.probe, answer.reply
        known = self._answers.get(probe)
        if known and (known.reply.kind in TCP_KINDS or reply.kind not in TCP_KINDS):
            return
        self._answers[probe] = answer
        self._unanswered.pop(probe, None)
        self._confirmed |= probe.ttl == FULL_TTL
        if reply.kind is not ReplyKind.ACK and answer.rtt > self._longest_rtt:
            self._longest_rtt = answer.rtt
        if reply.kind is TIME_EXCEEDED:
            if probe.ttl != FULL_TTL:
                self._compare(probe.ttl, reply)
                self._advance_frontier(probe.ttl, reply.received_at)
            return
        self._reached |= reply.kind in TCP_KINDS
        if not self._reached:
            self._proved |= self._stands_past_spared(reply.address)
        if probe.ttl != FULL_TTL:
            self._end_at(_End(reply.kind not in TCP_KINDS, probe.ttl), reply.received_at)

    @property
    def sweeping(self) -> bool:
        """Whether the next answer may call for the next TTL at once."""
        return self._end is None and self._opened < self.plan.max_hops

    def wake_at(self) -> float:
        """When to call `next_probe` again if no answer comes before."""
        wanted = [self._deadline]
        if self._queue:
            wanted.append(max(self._queue[0][0], self._not_before))
        if self._may_stall():
            wanted.append(self._stall_at())
        elif not self._queue:
            wanted.append(self._settled_at())
        return min(wanted)

    # -- what came of it ---------------------------------------------------------------

    def hops(self) -> tuple[Hop, ...]:
        """Consecutive hops from TTL 1: all that were probed, up to where the path ends."""
        last = max((ttl for ttl in self._sent if ttl != FULL_TTL), default=0)
        return tuple(self._hop(ttl) for ttl in range(1, min(last, self._bound()) + 1))

    def confirmation(self) -> Hop | None:
        """The SYNs of rule 5 as a hop, None when none was sent."""
        return self._hop(FULL_TTL) if FULL_TTL in self._sent else None

    def witnessed(self) -> int:
        """As `Trace.witnessed` has it (rule 11)."""
        return sum(
            any(
                0 < probe.sent_at - confirmation.sent_at <= PAIRED_UNTIL and probe in self._answers
                for probe in self._sent[ttl]
            )
            for confirmation, ttl in self._pairs
            if confirmation not in self._answers
        )

    # -- the rules ---------------------------------------------------------------------

    def _skip_unwanted(self) -> None:
        """Bring what is wanted to the head of the queue."""
        queue = self._queue
        self._stagger()
        while queue and not self._wanted(queue[0][1]):
            due, ttl = heappop(queue)
            if ttl <= self._bound():
                self._parked[ttl] = due

    def _move_on(self, now: float) -> bool:
        """With nothing to send, open the window further or end; whether there is more to send."""
        if now >= self._deadline:
            self.stop_reason = self.stop_reason or StopReason.DEADLINE
        elif self._may_stall():
            return now >= self._stall_at() and self._pass_stall(now)
        elif not self._queue and now >= self._settled_at():
            if self._is_doubtful():
                self._ask_farthest_spared(now)
                return True
            self.stop_reason = self.stop_reason or self._conclusion()
        return False

    def _pass_stall(self, now: float) -> bool:
        self._progress_at = now
        if self._is_doubtful():
            self._ask_farthest_spared(now)
        self._lift_limits(now)
        if self._is_past_horizon():
            self._open_window(self._opened + WINDOW, now)
        if not self._reached:
            self._confirm(now)
        return True

    def _limit(self, ttl: int) -> int:
        return self._limits.get(ttl, self.plan.attempts)

    def _compare(self, ttl: int, reply: Reply) -> None:
        """Hold a router against the one that is expected (rule 9)."""
        expected = self.guide.expected.get(ttl)
        if expected and reply.address not in expected:
            self._ask_spared(reply.received_at)
        elif ttl > self._last_spared:
            self._proved = True

    def _stands_past_spared(self, address: str) -> bool:
        """Whether a device that rejects is expected at the farthest spared hop, or behind it."""
        expected = self.guide.expected.items()
        return any(ttl >= self._last_spared for ttl, known in expected if address in known)

    def _is_doubtful(self) -> bool:
        """Whether nothing shows that the traffic still passes the spared hops."""
        if not self._last_spared or self._proved:
            return False
        distance = self.guide.distance
        as_far = self._end == _End(only_icmp=False, ttl=distance) and distance - 1 in self._sent
        return not as_far

    def _ask_spared(self, now: float, since: int = 1) -> None:
        """Ask the spared hops from a TTL on, once each."""
        spared = sorted(ttl for ttl, limit in self._limits.items() if not limit)
        for ttl in (ttl for ttl in spared if ttl >= since):
            self._limits[ttl] = 1
            if ttl <= self._opened:
                heappush(self._queue, (now, ttl))
                self._waiting_first += 1
        self._last_spared = max((ttl for ttl in spared if ttl < since), default=0)

    def _ask_farthest_spared(self, now: float) -> None:
        """Ask what would prove that the nearer ones are passed, and these if that was asked."""
        self._ask_spared(now, since=1 if self._retreated else self._last_spared)
        self._retreated = True

    def _lift_limits(self, now: float) -> None:
        """Have what is silent behind the farthest answer asked as often as the plan says."""
        limits = self._limits.items()
        for ttl in [ttl for ttl, limit in limits if limit and ttl > self._frontier]:
            if len(self._sent.get(ttl, ())) >= self._limits.pop(ttl):
                heappush(self._queue, (now + SPACING, ttl))

    def _is_past_horizon(self) -> bool:
        horizon = min(self.guide.horizon, self.plan.max_hops)
        asked = len(self._sent.get(horizon, ())) >= self._limit(horizon)
        return asked or self._opened > horizon or self._frontier >= horizon

    def _is_quick(self) -> bool:
        return self.plan.quick and not self._confirming

    def _as_before(self, ttl: int) -> bool:
        """Whether a hop has answered, or been silent, as in the trace before."""
        expected = self.guide.expected.get(ttl)
        replies = [
            self._answers[probe].reply
            for probe in self._sent.get(ttl, ())
            if probe in self._answers
        ]
        if not replies:
            return not expected and ttl < self.guide.horizon
        if ttl == self.guide.distance:
            return all(reply.kind in TCP_KINDS for reply in replies)
        return expected is not None and all(reply.address in expected for reply in replies)

    def _end_at(self, end: _End, now: float) -> None:
        if self._end and self._end <= end:
            return
        self._end = end
        self._unpark(end.ttl, now)
        if not self._reached:
            self._confirm(now)

    def _stagger(self) -> None:
        """Delay the destination's further attempts once (rule 4)."""
        if self._end is None or self._end.only_icmp or self._end.ttl == self._staggered:
            return
        if self._queue and self._queue[0][1] == self._end.ttl:
            due, ttl = heappop(self._queue)
            heappush(self._queue, (due + STAGGER, ttl))
            self._staggered = ttl

    def _bound(self) -> int:
        return self._end.ttl if self._end else self.plan.max_hops

    def _next_attempt(self, ttl: int) -> int:
        return len(self._sent.get(ttl, ())) + 1

    def _wanted(self, ttl: int) -> bool:
        if ttl == FULL_TTL:
            return not (self._reached or self._confirmed)
        if ttl > self._bound():
            return False
        return ttl not in self._sent or self._wanted_again(ttl)

    def _wanted_again(self, ttl: int) -> bool:
        """Whether a hop of the path is worth more than one attempt."""
        if self._is_quick() and self._as_before(ttl):
            return False
        if self._end is None:
            return ttl <= self._near_enough()
        return self._reached or ttl != self._end.ttl

    def _near_enough(self) -> int:
        """The farthest TTL that is worth more than one attempt as long as no end is seen."""
        return max(self._frontier + SILENT_LIMIT, self.guide.horizon)

    def _may_stall(self) -> bool:
        more = self._opened < self.plan.max_hops or not (self._confirming or self._reached)
        return self._end is None and more and not self._waiting_first

    def _stall_at(self) -> float:
        return self._progress_at + self._patience(STALL_FLOOR)

    def _patience(self, floor: float) -> float:
        justified = 3 * self._longest_rtt
        return floor if justified <= floor else min(justified, max(floor, self.plan.timeout))

    def _open_window(self, until: int, now: float) -> None:
        until = min(until, self._bound())
        for ttl in range(self._opened + 1, until + 1):
            if self._limit(ttl):
                heappush(self._queue, (now, ttl))
                self._waiting_first += 1
        self._opened = max(self._opened, until)

    def _advance_frontier(self, ttl: int, now: float) -> None:
        self._progress_at = max(self._progress_at, now)
        if ttl <= self._frontier:
            return
        self._frontier = ttl
        if ttl >= self.guide.horizon:
            self._open_window(ttl + WINDOW, now)
        self._unpark(ttl + SILENT_LIMIT, now)

    def _unpark(self, until: int, now: float) -> None:
        for ttl in [ttl for ttl in self._parked if ttl <= until]:
            heappush(self._queue, (max(now, self._parked.pop(ttl)), ttl))

    def _confirm(self, now: float) -> None:
        if not self._confirming:
            self._confirming = True
            heappush(self._queue, (now, FULL_TTL))
            self._unpark(self._bound(), now)

    def _confirm_again(self, probe: Probe) -> None:
        if probe.attempt < CONFIRMATIONS:
            spacing = CONFIRMATION_SPACING
        elif probe.attempt < LOSSY_CONFIRMATIONS and self._is_lossy():
            spacing = LOSSY_SPACING
            self._ask_again(probe.sent_at)
        else:
            spacing = None
        if spacing:
            heappush(self._queue, (probe.sent_at + spacing, FULL_TTL))
        if self._frontier in self.guide.rejecting:
            self._pairs.append((probe, self._frontier))
            heappush(self._queue, (probe.sent_at + PAIRED, self._frontier))

    def _ask_again(self, now: float) -> None:
        until = min(self._frontier + LOSSY_REACH, self._bound())
        for ttl in range(self._frontier + 1, until + 1):
            heappush(self._queue, (now, ttl))

    def _is_lossy(self) -> bool:
        """Whether the hops that do answer lose more than rate limits explain."""
        sent = received = 0
        for ttl in range(1, self._frontier + 1):
            probes = self._sent.get(ttl, ())
            answered = sum(probe in self._answers for probe in probes)
            if answered:
                sent += len(probes)
                received += answered
        return received < (1 - TOLERATED_LOSS) * sent

    def _settled_at(self) -> float:
        """When the last unanswered probe has had its patience; the start of time if none has to."""
        bound, confirming = self._bound(), self._wanted(FULL_TTL)
        sweep = confirmation = float("-inf")
        for probe in self._unanswered:
            if probe.ttl <= bound:
                sweep = probe.sent_at
            elif probe.ttl == FULL_TTL and confirming:
                confirmation = probe.sent_at
        return max(
            sweep + self._patience(PATIENCE_FLOOR),
            confirmation + self._patience(CONFIRMATION_PATIENCE_FLOOR),
        )

    def _conclusion(self) -> StopReason:
        kinds = {answer.reply.kind for answer in self._answers.values()}
        if kinds & TCP_KINDS:
            return StopReason.DESTINATION
        if ReplyKind.UNREACHABLE in kinds:
            return StopReason.ICMP_ERROR
        if self._confirmed or self._frontier >= self.plan.max_hops:
            return StopReason.HOP_LIMIT
        return StopReason.SILENCE

    def _hop(self, ttl: int) -> Hop:
        probes = self._sent.get(ttl, [])
        answers = (self._answers.get(probe) for probe in probes)
        return Hop(ttl, len(probes), tuple(answer for answer in answers if answer))
