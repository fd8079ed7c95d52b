"""One control inside a lab, as a line of JSON.

    python -m tests.lab.controlling reply_ttl ADDRESS PORT EXPECTED
    python -m tests.lab.controlling echo ADDRESS FIRST

Prints the TTL or null; or what an echo sounding found, or {"status": why} where it may not.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from exporter.model import Hop, Sounding, Trace
from exporter.probing import reply_ttl
from exporter.probing.echo import Echoer
from tests.lab.exporting import ROOT
from tests.lab.lab import Lab

#: Echo requests a second.
RATE = 200.0


def control(lab: Lab, *command: object, wrapper: Sequence[str] = ()) -> Any:
    """The result of one control that is made at the lab's beginning."""
    argv = [*wrapper, sys.executable, "-m", "tests.lab.controlling", *map(str, command)]
    return json.loads(lab.run(argv, cwd=ROOT, capture_output=True, check=True).stdout)


async def measure(address: str, port: str, expected: str) -> int | None:
    """The TTL of the endpoint's answers."""
    return await reply_ttl.reply_ttl(address, int(port), int(expected))


async def echo(address: str, first: str) -> dict[str, object]:
    """A sounding from the TTL `first` on, without the times."""
    echoer = Echoer(RATE)
    if echoer.status:
        return {"status": echoer.status}
    trace = await echoer.echo(address, Sounding(first=int(first)))
    echoer.close()
    return _found(trace)


def _found(trace: Trace) -> dict[str, object]:
    assert trace.confirmation
    return {
        "engine": trace.engine,
        "ports": [trace.flow.source_port, trace.flow.destination_port],
        "stop_reason": trace.stop_reason,
        "distance": trace.distance,
        "duration": trace.duration,
        "full": _replies(trace.confirmation),
        "hops": [_replies(hop) for hop in trace.hops],
        "rtt": max((answer.rtt for answer in trace.answers), default=None),
    }


def _replies(hop: Hop) -> list[object]:
    """How many were sent, and (address, kind, ICMP, TTL) of each reply."""
    replies = [answer.reply for answer in hop.answers]
    return [hop.sent, *((one.address, one.kind, one.icmp, one.ttl) for one in replies)]


VERBS: dict[str, Callable[..., Coroutine[Any, Any, object]]] = {
    "reply_ttl": measure,
    "echo": echo,
}

if __name__ == "__main__":
    print(json.dumps(asyncio.run(VERBS[sys.argv[1]](*sys.argv[2:]))))
