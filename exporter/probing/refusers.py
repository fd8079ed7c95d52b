"""Who rejects so much that it may reject in silence.

A Linux router says six ICMP errors at once to one recipient and then one a second
(icmp_ratelimit), to all traces together. Where many targets are rejected by one device, it has no
error left for some of them, and these look dropped. A device may have been spent while a trace ran
if

1. it has lately rejected ENDPOINTS targets or more, so it is not one target's own,
2. it sent ICMP errors of whatever type to others meanwhile: a spent one still says one a second
   to somebody, and one that says none has saved them up,
3. and nothing shows that the trace goes another way than those that it rejected.

All times are seconds on one monotonic clock, given by the caller.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from exporter.model import Answer, Flow, ReplyKind

#: So many endpoints make a device everybody's, and so many errors during a trace make it busy: most
#: of a spent one go to plain connects, which the kernel keeps to itself, or to controls.
ENDPOINTS = 2
BUSY = 1
#: Seconds for which a rejection counts.
MEMORY = 120.0
#: Of each device: errors, more than it says while a trace runs; endpoints.
MOST_ERRORS, MOST_ENDPOINTS = 64, 16
MOST = 1_000

#: TTL -> the routers there.
Way = Mapping[int, frozenset[str]]


class _Refuser:
    """A device that rejects."""

    __slots__ = ("endpoints", "errors", "way")

    def __init__(self) -> None:
        #: (flow, when), the latest at the end; and the endpoints of targets, likewise.
        self.errors: deque[tuple[Flow, float]] = deque(maxlen=MOST_ERRORS)
        self.endpoints: dict[tuple[str, int], float] = {}
        self.way: Way = {}

    def is_everybodys(self, now: float) -> bool:
        late = [at for at in self.endpoints.values() if now - at <= MEMORY]
        return len(late) >= ENDPOINTS


class Refusers:
    """All of them, as far as there is room."""

    def __init__(self) -> None:
        self._known: dict[str, _Refuser] = {}

    def hear(self, flow: Flow, answer: Answer) -> None:
        """Take in an answer to any flow, a control's as well."""
        reply = answer.reply
        refuser = self._known.get(reply.address)
        if refuser is None and reply.kind is ReplyKind.UNREACHABLE:
            refuser = self._known[reply.address] = _Refuser()
            if len(self._known) > MOST:
                del self._known[next(iter(self._known))]
        if refuser is not None and reply.icmp:
            refuser.errors.append((flow, reply.received_at))

    def learn(self, flow: Flow, refusing: frozenset[str], way: Way, now: float) -> None:
        """Take in who rejected a target's trace, and the way on which it met them."""
        for address in refusing & self._known.keys():
            refuser = self._known[address]
            endpoint = flow.destination, flow.destination_port
            refuser.endpoints.pop(endpoint, None)
            refuser.endpoints[endpoint] = now
            if len(refuser.endpoints) > MOST_ENDPOINTS:
                del refuser.endpoints[next(iter(refuser.endpoints))]
            refuser.way = way

    def is_everybodys(self, address: str, now: float) -> bool:
        """Whether it has lately rejected several targets."""
        refuser = self._known.get(address)
        return refuser is not None and refuser.is_everybodys(now)

    def spent(self, flow: Flow, way: Way, since: float, now: float) -> frozenset[str]:
        """Those that may have rejected a trace in silence which ran since then on that way."""
        return frozenset(
            address
            for address, one in self._known.items()
            if one.is_everybodys(now)
            and sum(other != flow and at >= since for other, at in one.errors) >= BUSY
            and not any(one.way.get(ttl, who).isdisjoint(who) for ttl, who in way.items())
        )
