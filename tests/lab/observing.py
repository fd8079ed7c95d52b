"""Observes targets inside a lab whenever a test says so, with the program's own parts.

    python -m tests.lab.observing HOST:PORT ...      one observation of each a line of input

A line of output is a list of the targets' observations at that moment, made side by side, as
the API gives them. Sockets stay open from line to line.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from types import TracebackType
from typing import Any, Self

from exporter import observer
from exporter.diagnosis.zones import ZoneMap
from exporter.model import EngineStatus, ReloadStatus, Source, Target
from exporter.probing import handshake
from exporter.probing.driver import PROBE_BURST, Driver, Prober
from exporter.probing.engines.syn import SynEngine
from exporter.probing.resolver import Resolver
from exporter.publish.objects import observation_object, to_json
from exporter.store import Store
from exporter.verbs import Probing
from tests.lab.lab import Lab


class Observer:
    """The test's end; a context manager."""

    def __init__(self, lab: Lab, *endpoints: str) -> None:
        argv = [sys.executable, "-m", "tests.lab.observing", *endpoints]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = lab.popen(argv, **pipes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.communicate()

    def begin(self) -> None:
        """Have every target observed."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self) -> list[Any]:
        """The observations that were begun, in the order of the targets."""
        assert self._process.stdout
        seen: list[Any] = json.loads(self._process.stdout.readline())
        return seen

    def observe(self) -> list[Any]:
        """Both."""
        self.begin()
        return self.end()


async def main(endpoints: list[str]) -> None:
    """Observe on every line until standard input ends."""
    prober = Prober(Driver(SynEngine(), 200, PROBE_BURST))
    probing = Probing(Resolver().resolve, prober.trace, handshake.connect)
    targets = [
        Target(endpoint, host, int(port))
        for endpoint in endpoints
        for host, _, port in [endpoint.rpartition(":")]
    ]
    store = Store(EngineStatus("syn", ""), Source(), ReloadStatus(successful=True, at=0.0), 0.0)
    store.configure(targets)
    while await asyncio.to_thread(sys.stdin.readline):
        seen = await asyncio.gather(
            *(observer.observe(r.target, probing, ZoneMap(()), r.known) for r in store)
        )
        for observation in seen:
            store.add(observation)
        objects = [json.loads(to_json(observation_object(one))) for one in seen]
        print(json.dumps(objects), flush=True)
    prober.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
