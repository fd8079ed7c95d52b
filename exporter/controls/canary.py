"""A canary: an address that nobody has, so whoever answers for it answers for anybody.

1. One port of it stands for all targets with that port in that family: what a sounding has shown
   holds for MEMORY seconds. One that was answered is asked again each time.
2. Cycles that want the same canary at the same time share one sounding.
3. A sounding that could not be made says nothing, and is not remembered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from exporter.model import CANARIES, END_KINDS, Family, ProbeError, Sounding, Trace

log = logging.getLogger(__name__)

#: Seconds for which silence counts.
MEMORY = 300.0
#: So many canaries are remembered, those asked last.
MOST_REMEMBERED = 64
#: Two probes, for one may be lost; hop by hop only where something answers.
SOUNDING = Sounding(first=1, attempts=2)

ADDRESSES = {Family.of(address): address for address in CANARIES}

Sound = Callable[[str, int, Sounding, int], Awaitable[Trace]]
_Endpoint = tuple[str, int]


class _Asked(NamedTuple):
    """What came of a sounding, and when it was over on the loop's clock."""

    at: float
    trace: Trace


def answered(trace: Trace | None) -> bool:
    """Whether something answered in the name of the destination."""
    return trace is not None and any(a.reply.kind in END_KINDS for a in trace.answers)


class Canaries:
    """Asks canaries, and remembers what they said; used on one loop."""

    def __init__(self, sound: Sound) -> None:
        self._sound = sound
        self._asked: dict[_Endpoint, _Asked] = {}
        self._under_way: dict[_Endpoint, asyncio.Future[Trace | None]] = {}

    async def ask(self, destination: str, port: int) -> Trace | None:
        """The canary for an endpoint: its latest trace, None where there is none."""
        address = ADDRESSES[Family.of(destination)]
        if destination == address:
            return None
        endpoint = address, port
        if asked := self._asked.get(endpoint):
            age = asyncio.get_running_loop().time() - asked.at
            if age < MEMORY and not answered(asked.trace):
                return asked.trace
        if under_way := self._under_way.get(endpoint):
            # Who stops waiting must not end it for the others.
            return await asyncio.shield(under_way)
        return await self._ask(endpoint)

    async def _ask(self, endpoint: _Endpoint) -> Trace | None:
        loop = asyncio.get_running_loop()
        under_way = self._under_way[endpoint] = loop.create_future()
        found = None
        try:
            trace = await self._sound(*endpoint, SOUNDING, 0)
            if trace.failure is None:
                found = trace
                self._remember(endpoint, _Asked(loop.time(), trace))
        except ProbeError as error:
            log.debug("no canary on port %d: %s", endpoint[1], error)
        finally:
            del self._under_way[endpoint]
            under_way.set_result(found)
        return found

    def _remember(self, endpoint: _Endpoint, asked: _Asked) -> None:
        self._asked.pop(endpoint, None)
        self._asked[endpoint] = asked
        if len(self._asked) > MOST_REMEMBERED:
            del self._asked[next(iter(self._asked))]
