"""Which controls a trace gets, and what each is asked.

Each is asked with FULL_TTL first, for that takes one probe where somebody answers. What gets
through is then asked hop by hop: ports and echo from the last hop on that both should have in
common with the trace, a flow only where it gets farther than the trace, and from the first hop on,
for it shows another branch.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import partial
from typing import Literal

from exporter.model import (
    END_KINDS,
    FULL_TTL,
    ReplyKind,
    Sounding,
    StopReason,
    Target,
    Trace,
)

Kind = Literal["flow", "port", "echo"]
Sound = Callable[[str, int, Sounding, int], Awaitable[Trace]]
Echo = Callable[[str, Sounding], Awaitable[Trace]]

#: The least that shows where a device stands: the hop before it, its own, the next.
SHORTEST_SWEEP = 3
#: So many hops are looked at by each control where the trace has heard nobody.
NEAREST_HOPS = 5
#: The first hop to ask is so many before the one at which the traced endpoint answers.
BEFORE_THE_END = 2
AT_FULL_TTL = Sounding()

#: Source ports of controls follow from that of the trace, so that each keeps its way from cycle to
#: cycle. The step is a prime and wider than what the ports of a trace differ by (connect.py).
_FIRST_PORT, _PORTS, _STEP = 32_768, 28_232, 4_099


class Reach(IntEnum):
    """How far the SYNs of a trace get."""

    NOWHERE = 0
    REFUSED = 1
    ACCEPTED = 2

    @classmethod
    def of(cls, trace: Trace) -> Reach:
        """By what came back in the name of the destination; an echo counts as accepted."""
        kinds = {answer.reply.kind for answer in trace.answers} & END_KINDS
        if not kinds:
            return cls.NOWHERE
        return cls.REFUSED if kinds == {ReplyKind.RST} else cls.ACCEPTED


@dataclass(frozen=True, slots=True, eq=False)
class Control:
    """A control: what is asked first, and the sweep if that gets farther than `beyond`."""

    kind: Kind
    #: (sounding, source port) -> trace.
    ask: Callable[[Sounding, int], Awaitable[Trace]]
    source_port: int
    opening: Sounding = AT_FULL_TTL
    beyond: Reach = Reach.ACCEPTED
    #: The TTLs of the sweep: the first one, and the fewest that are of use.
    first: int = 1
    shortest: int = SHORTEST_SWEEP
    longest: int = FULL_TTL


@dataclass(frozen=True, slots=True)
class Choice:
    """Names the controls of a trace."""

    trace: Trace
    target: Target
    sound: Sound
    echo: Echo | None

    def of_every_cycle(self) -> Iterator[Control]:
        """The flows of a target that wants several in any case, each of them hop by hop."""
        whole = Sounding(first=1, last=self.target.plan.max_hops)
        for number in range(1, self.target.controls.flows):
            yield self._sounding("flow", number, self.target.port, opening=whole)

    def of_first_sight(self) -> Iterator[Control]:
        """Whether another port is farther away than the traced one."""
        yield from self.of_every_cycle()
        distance, controls = self.trace.distance, self.target.controls
        if distance and (others := self._other_ports()):
            there = Sounding(first=distance, last=distance, attempts=1)
            yield self._sounding("port", controls.flows, others[0], opening=there)

    def of_closed_as_ever(self) -> Iterator[Control]:
        """Whether an echo comes from where the RSTs come from: the hop before, and that."""
        yield from self.of_every_cycle()
        distance = self.trace.distance
        if distance and self.echo:
            there = Sounding(first=max(1, distance - 1), last=distance, attempts=1)
            yield self._echo(self.echo, opening=there)

    def of_failure(self) -> Iterator[Control]:
        """All that may tell why something fails."""
        controls, common = self.target.controls, _in_common(self.trace)
        reach, shortest = Reach.of(self.trace), common + SHORTEST_SWEEP - 1
        # A device that speaks is asked once: it repeats itself, or has spent its ICMP errors.
        # Where not even the first hop was heard, what counts is who else hears it.
        unheard = not self.trace.last_answering_ttl
        silent = self.trace.stop_reason is StopReason.SILENCE and not unheard
        opening = AT_FULL_TTL if silent else replace(AT_FULL_TTL, attempts=1)
        longest = NEAREST_HOPS if unheard else FULL_TTL
        for number in range(1, controls.failing_flows):
            control = self._sounding("flow", number, self.target.port, opening=opening)
            yield replace(control, beyond=reach, first=1, shortest=shortest)
        for number, port in enumerate(self._other_ports(), controls.failing_flows):
            control = self._sounding("port", number, port)
            yield replace(control, beyond=Reach.NOWHERE, first=common, longest=longest)
        if self.echo and controls.echo:
            control = self._echo(self.echo)
            yield replace(control, beyond=Reach.NOWHERE, first=common, longest=longest)

    def _echo(self, echo: Echo, opening: Sounding = AT_FULL_TTL) -> Control:
        ask = partial(_echo, echo, self.trace.flow.destination)
        return Control("echo", ask, 0, opening=opening)

    def _other_ports(self) -> list[int]:
        return [port for port in self.target.controls.ports if port != self.target.port]

    def _sounding(
        self, kind: Kind, number: int, port: int, opening: Sounding = AT_FULL_TTL
    ) -> Control:
        flow = self.trace.flow
        source_port = _FIRST_PORT + (flow.source_port - _FIRST_PORT + number * _STEP) % _PORTS
        return Control(kind, partial(self.sound, flow.destination, port), source_port, opening)


async def _echo(echo: Echo, address: str, sounding: Sounding, _source_port: int) -> Trace:
    return await echo(address, sounding)


def _in_common(trace: Trace) -> int:
    """The farthest hop that a control of the same destination should have in common."""
    if trace.distance:
        return max(1, trace.distance - BEFORE_THE_END)
    expired = (a.probe.ttl for a in trace.answers if a.reply.kind is ReplyKind.TIME_EXCEEDED)
    return max((ttl for ttl in expired if ttl != FULL_TTL), default=1)
