"""Writes the dashboards beside this file: `python -m dashboards`."""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards import fleet, target

HERE = Path(__file__).parent
BOARDS = {"fleet.json": fleet.build, "target.json": target.build}
#: The SDK writes these into variables of each kind; Grafana's types know them nowhere.
NOT_GRAFANAS = ("auto", "auto_min", "auto_count")


def as_json(board: Dashboard) -> str:
    """As it stands in a file: each key in its place, so that a change shows as one."""
    content = json.loads(json.dumps(board, cls=JSONEncoder))
    for variable in content["templating"]["list"]:
        for key in NOT_GRAFANAS:
            del variable[key]
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def rendered() -> dict[str, str]:
    """The text of each file."""
    return {name: as_json(build()) for name, build in BOARDS.items()}


def main() -> None:
    """Write them all."""
    for name, text in rendered().items():
        (HERE / name).write_text(text)


if __name__ == "__main__":
    main()
