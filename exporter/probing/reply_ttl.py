"""The IP TTL with which an endpoint's TCP answers arrive, for who may not see packets.

1. Linux drops a segment whose TTL is lower than its socket's IP_MINTTL, over IPv6 IPV6_MINHOPCOUNT
   (RFC 5082; tcp_v4_rcv, tcp_v6_rcv). So a SYN from a socket with a minimum that is answered
   proves that the answer's TTL is not lower.
2. What is dropped is counted, so that the TTL is lower is proved by an answer, too: the socket
   counts what it drops for any reason (SO_MEMINFO), the network namespace what is dropped for its
   TTL (TCPMinTTLDrop). Neither proves it alone: a reset without an acknowledgement raises the one;
   another program, or an ICMP error that is dropped for the TTL which it quotes, raises the other.
   Silence proves nothing: the SYN or its answer may be lost, and the question is put again.
3. The questions that prove a TTL from both sides come from one source port, so that load balancers
   send both along one path. But after a dropped answer the port is another one, for an endpoint
   that accepts goes on waiting there.
4. The TTL that is expected is asked first, and the next higher one, which ends an ordinary case.
   Else the same distance from another initial TTL is tried, then what divides the initial TTLs from
   each other, and what is left is halved until it is one TTL.
5. A socket is muted and goes at once, as connect.py has it, before the kernel repeats its SYN.

An ICMP error ends it: what rejects a SYN tells nothing about an answer.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from itertools import chain
from select import POLLOUT, poll
from typing import NamedTuple

from exporter.model import FULL_TTL, TCP_KINDS, Family, Flow, Probe, ProbeError
from exporter.probing.engines.connect import connect_to, read_reply, route_to
from exporter.probing.engines.error_queue import IPV4, IPV6, set_options
from exporter.probing.engines.netstat import count_ttl_drops
from exporter.probing.engines.waiting import ABORTING, NEVER, Waiting

#: What one search may take; an ordinary one takes 2 SYNs, and no round trip more than that.
MOST_SYNS = 16
SECONDS = 1.5
#: The patience before anything is known of the round trip, and the least afterwards, in seconds.
FIRST_PATIENCE = 0.45
PATIENCE_FLOOR = 0.1
#: The kernel repeats a SYN after 1 s (RFC 6298, 2.1).
PATIENCE_LIMIT = 0.9
_TICK = 0.005

_STREAM = int(socket.SOCK_STREAM | socket.SOCK_NONBLOCK)

HIGHEST_TTL = 255
#: The initial TTLs that systems use are 64, 128 and 255: how much higher an answer arrives that
#: began with the second or the third instead of the first, and where those of the first two end.
OTHER_INITIALS = (64, 191)
BEYOND_INITIALS = (65, 129)

#: linux/in.h and linux/in6.h; the socket module does not name them.
MINIMUM = {
    Family.IPV4: (int(socket.IPPROTO_IP), 21),
    Family.IPV6: (int(socket.IPPROTO_IPV6), 73),
}
DIALECTS = {Family.IPV4: IPV4, Family.IPV6: IPV6}

#: asm-generic/socket.h, and the last of the counts that linux/sock_diag.h names SK_MEMINFO_...
SO_MEMINFO = 55
_DROPS = struct.Struct("=32xI")

#: (TTL, number of a way) -> whether an answer's TTL is as high as this; None without an answer.
#: What is asked on the same way takes the same path.
Ask = Callable[[int, int], Awaitable[bool | None]]


class _Bound(NamedTuple):
    """A minimum that was answered, or dropped, and on which way; None without being asked."""

    ttl: int
    way: int | None


class _NoAnswerError(Exception):
    """Something else came than an answer of TCP."""


async def reply_ttl(address: str, port: int, expected: int) -> int | None:
    """The TTL, asking for `expected` first; None when it cannot be told in `SECONDS`."""
    if count_ttl_drops() is None:
        return None
    try:
        async with asyncio.timeout(SECONDS):
            return await search(expected, _Endpoint(address, port).ask)
    except (OSError, ProbeError, _NoAnswerError):  # TimeoutError is an OSError
        return None


async def search(expected: int, ask: Ask) -> int | None:
    """The TTL that is proved from both sides on one way, None after `MOST_SYNS` questions."""
    likely = [(expected + more, expected + more + 1) for more in (0, *OTHER_INITIALS)]
    wanted = (*chain.from_iterable(likely), *BEYOND_INITIALS)
    way = 0
    reached, beyond = _Bound(0, None), _Bound(HIGHEST_TTL + 1, None)
    for _ in range(MOST_SYNS):
        if beyond.ttl - reached.ttl > 1:
            halves = (reached.ttl + beyond.ttl) // 2
            minimum = next(ttl for ttl in (*wanted, halves) if reached.ttl < ttl < beyond.ttl)
        else:
            minimum = beyond.ttl if reached.way == way else reached.ttl
        answer = await ask(minimum, way)
        if answer:
            reached = _Bound(minimum, way)
        elif answer is False:
            beyond = _Bound(minimum, way)
        if reached.ttl >= beyond.ttl or beyond.ttl == 1:
            return None  # two paths, or no answer at all
        if beyond.ttl - reached.ttl == 1 and beyond.way in (reached.way, None):
            return reached.ttl
        way += not answer
    return None


class _Endpoint:
    """An endpoint that is asked by one SYN at a time. Raises OSError and `ProbeError`."""

    def __init__(self, address: str, port: int) -> None:
        self._dialect = DIALECTS[Family.of(address)]
        source, self._mute = route_to(self._dialect, address, port)
        self._flow, self._way = Flow(source, 0, address, port), 0
        self._patience = FIRST_PATIENCE

    async def ask(self, minimum: int, way: int) -> bool | None:
        """See `Ask`; another way is another source port."""
        if way != self._way:
            self._way, self._flow = way, self._flow._replace(source_port=0)
        with socket.socket(self._dialect.address_family, _STREAM) as one:
            drops = count_ttl_drops()
            waiting = self._send(one, minimum)
            try:
                answer = await self._answer(waiting, drops)
            finally:
                set_options(one, self._dialect.unmute)
                one.setsockopt(*ABORTING)
        if answer is not None:
            round_trip = time.monotonic() - waiting.probe.sent_at
            self._patience = min(max(PATIENCE_FLOOR, 3 * round_trip), PATIENCE_LIMIT)
        return answer

    def _send(self, one: socket.socket, minimum: int) -> Waiting:
        set_options(one, (*self._dialect.options, (*MINIMUM[self._dialect.family], minimum)))
        one.bind((self._flow.source, self._flow.source_port))
        self._flow = self._flow._replace(source_port=one.getsockname()[1])
        probe = Probe(FULL_TTL, 1, time.monotonic())
        connect_to(one, self._flow)
        set_options(one, self._mute)
        return Waiting(one, self._flow, probe, NEVER)

    async def _answer(self, waiting: Waiting, drops: int | None) -> bool | None:
        """True for an answer, False for one that was dropped, None for neither in time."""
        answered = poll()
        answered.register(waiting.socket, POLLOUT)
        until = waiting.probe.sent_at + self._patience
        while time.monotonic() < until:
            await asyncio.sleep(_TICK)
            for _, events in answered.poll(0):
                reply = read_reply(waiting, self._dialect, events)
                if reply is None or reply.kind not in TCP_KINDS:
                    raise _NoAnswerError
                return True
            if _has_dropped(waiting.socket) and count_ttl_drops() != drops:
                return False
        return None


def _has_dropped(one: socket.SocketType) -> bool:
    """Whether a socket has dropped some segment. Raises OSError where it does not tell."""
    (drops,) = _DROPS.unpack(one.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _DROPS.size))
    return bool(drops)
