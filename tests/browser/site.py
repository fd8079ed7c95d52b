"""The program's own site over a store that was filled by hand: no target is traced.

It is `Service` that puts the site together, so every address answers as it does where `serve` runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

from exporter.config import load
from exporter.model import EngineStatus, Observation, Source, Target
from exporter.publish.log import LogStats
from exporter.service import Service
from exporter.verbs import Probing, refusing
from tests.unit import samples
from tests.web.serving import serving

ENVIRONMENT = {"ENDPOINT": samples.DESTINATION, "ENDPOINT_TCP_PORT": "443"}
SOURCE = Source(samples.SOURCE, "0", "5f2c7a0e-0000-4000-8000-000000000001", "10.0.16.7")
ENGINE = EngineStatus("syn", "raw sockets are permitted")
#: One target of each kind, those that fail first.
KINDS = (
    samples.several(),
    samples.balanced(),
    samples.rejected(),
    samples.refused_by_host(),
    samples.varied(),
)
#: In this order `db` was reached, and then blocked for two cycles.
BLOCKED = (
    samples.opened("db", 5432),
    *(replace(samples.filtered("db"), started_at=samples.STARTED_AT + 60 * n) for n in (1, 2)),
)
WAITING = samples.target("waiting")


def filled(observations: Iterable[Observation], waiting: Iterable[Target] = ()) -> Service:
    """A service that has taken in the observations, and has other targets still to be traced."""
    settings = replace(load(ENVIRONMENT), source=SOURCE)
    nowhere = cast("Callable[..., Awaitable[Any]]", refusing("the store is filled by hand"))
    probing = Probing(nowhere, nowhere, None)
    service = Service(settings, lambda: settings, probing, ENGINE, LogStats())
    store, taken = service._store, tuple(observations)
    store.configure((*(one.target for one in taken), *waiting))
    store.configured = len(store)
    for one in taken:
        store.add(one)
    return service


@contextmanager
def served(service: Service) -> Iterator[str]:
    """Serve what it shows; gives the site's address, without the slash."""
    with serving(service._site) as port:
        yield f"http://127.0.0.1:{port}"
