"""Engines: how a probe gets on the wire and its answer back.

The seam is two verbs, `send` and `receive`, plus the flow that frames them. A new engine
is one file and one row in `ENGINES`; the contract test in tests/ runs over every row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from exporter.model import EngineStatus
from exporter.probing.engines.connect import ConnectEngine
from exporter.probing.engines.engine import Engine
from exporter.probing.engines.syn import SynEngine

__all__ = ["ENGINES", "Engine", "choose"]

#: Name -> what opens the engine, best first; an engine that cannot work here raises OSError
#: with the remedy, and proves that it can, for each IP version, while it opens.
ENGINES: dict[str, Callable[[], Engine]] = {"syn": SynEngine, "connect": ConnectEngine}


def choose(wanted: str) -> tuple[Engine | None, EngineStatus]:
    """Open the engine that ENGINE asks for, or with "auto" the first that can be opened.

    None, and the status that says why, when there is none.
    """
    names = tuple(ENGINES) if wanted == "auto" else (wanted,)
    refusals = []
    for name in names:
        if name not in ENGINES:
            refusals.append(f"the engine {name} is not part of this version")
            continue
        try:
            return ENGINES[name](), EngineStatus(name, _why(wanted, refusals))
        except OSError as error:
            refusals.append(str(error))
    return None, EngineStatus("none", "; ".join(refusals))


def _why(wanted: str, refusals: Sequence[str]) -> str:
    if wanted != "auto":
        return "configured by ENGINE"
    return "; ".join(("the best that this process may use", *refusals))
