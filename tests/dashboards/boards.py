"""The committed dashboards as tests read them, and their queries as Grafana would send them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parents[2] / "dashboards"
BOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))
}
#: $name, ${name} and ${name:format}, in a query or a URL.
VARIABLE = re.compile(r"\$(?:\{(\w+)[^}]*\}|(\w+))")


class Asked(NamedTuple):
    """A query of a panel, or of an annotation; `at` is its letter."""

    board: str
    title: str
    at: str
    expr: str


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every panel, with the name of its dashboard."""
    for name, board in BOARDS.items():
        yield from ((name, panel) for panel in board["panels"])


def marks() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every annotation, with the name of its dashboard."""
    for name, board in BOARDS.items():
        yield from ((name, one) for one in board.get("annotations", {}).get("list", ()))


def queries() -> list[Asked]:
    """All that is asked of Prometheus but the values of variables."""
    return [
        *(
            Asked(board, panel["title"], query["refId"], query["expr"])
            for board, panel in panels()
            for query in panel["targets"]
        ),
        *(Asked(board, one["name"], "", one["expr"]) for board, one in marks()),
    ]


def variables(text: str) -> set[str]:
    """The names of the variables in a text."""
    return {bracketed or plain for bracketed, plain in VARIABLE.findall(text)}


def sent(expr: str, values: Mapping[str, str]) -> str:
    """A query with its variables replaced; each of them must have a value."""
    return VARIABLE.sub(lambda found: values[found[1] or found[2]], expr)
