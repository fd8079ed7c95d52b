"""The dashboards against Grafana's own types, @grafana/schema of npm: no key or value of theirs.

TypeScript compares them: each dashboard becomes a source file, in which the dashboard and each of
its panels is a literal of the type that it has to be. In the types, a string enum accepts no
string, so `Plain` puts its values in its place.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.dashboards.boards import BOARDS

MODULES = Path(__file__).parents[1] / "node" / "node_modules"
#: A panel's type -> the module that declares its options and fields.
PLUGINS = {
    "heatmap": "Heatmap",
    "stat": "Stat",
    "state-timeline": "StateTimeline",
    "table": "Table",
    "timeseries": "TimeSeries",
}
#: Their fields have nothing of their own.
PLAIN_FIELDS = {"stat"}
#: What Prometheus' plugin adds; its own package is not published with types.
TYPES = """
import type * as g from "@grafana/schema";

export type Plain<T> =
  T extends string ? `${T}` :
  T extends (infer Item)[] ? Plain<Item>[] :
  T extends object ? { [Key in keyof T]: Plain<T[Key]> } :
  T;
type Override<Fields, Prefix extends string> = {
  [Key in keyof Fields & string]-?: { id: `${Prefix}${Key}`; value: Plain<Fields[Key]> };
}[keyof Fields & string];
type Property<Custom> = Override<g.FieldConfig, ""> | Override<Custom, "custom.">;
interface Fields<Custom> {
  defaults: Plain<Omit<g.FieldConfig, "custom">> & { custom?: Plain<Partial<Custom>> };
  overrides: { matcher: { id: "byName" | "byRegexp"; options: string };
               properties: Property<Custom>[] }[];
}
interface Query extends Plain<g.DataQuery> {
  expr: string; legendFormat: string; range: boolean; instant: boolean;
  format: "time_series" | "table" | "heatmap"; editorMode: "code";
}
export type Panel<Type, Options, Custom> =
  Omit<Plain<g.Panel>, "type" | "options" | "fieldConfig" | "targets"> &
  { type: Type; options: Plain<Options>; fieldConfig: Fields<Custom>; targets: Query[] };
interface Events extends Plain<Omit<g.AnnotationQuery, "target">> {
  expr: string; step: string; titleFormat: string; textFormat: string; tagKeys: string;
}
export type Board =
  Omit<Plain<g.Dashboard>, "panels" | "annotations"> & { annotations?: { list?: Events[] } };
"""

Board = dict[str, Any]
#: What is wrong -> how a copy of the fleet's dashboard gets it.
MISTAKES: dict[str, Callable[[Board], object]] = {
    "a key that no dashboard has": lambda board: board.update(refreshRate="1m"),
    "a key that no variable has": lambda board: board["templating"]["list"][0].update(auto=True),
    "a key that no panel has": lambda board: panel(board, "Engines").update(subtitle=""),
    "an option that no table has": lambda board: panel(board, "Exporters")["options"].update(
        page=1
    ),
    "an option of another type": lambda board: panel(board, "Engines")["options"].update(
        wideLayout="yes"
    ),
    "a colour mode that there is not": lambda board: panel(board, "Engines")["fieldConfig"][
        "defaults"
    ]["color"].update(mode="rainbow"),
    "an override of what no field has": lambda board: panel(board, "Exporters")["fieldConfig"][
        "overrides"
    ][0]["properties"][0].update(id="hue"),
    "an override that no table's field has": lambda board: panel(board, "Exporters")["fieldConfig"][
        "overrides"
    ][0]["properties"].append({"id": "custom.lineWidth", "value": 1}),
    "a query with another key": lambda board: panel(board, "Engines")["targets"][0].update(
        legend=""
    ),
}


def panel(board: Board, title: str) -> dict[str, Any]:
    """The panel of that title, in a copy of a dashboard."""
    return next(one for one in board["panels"] if one["title"] == title)


def source(board: Board) -> str:
    """A dashboard as TypeScript: itself without its panels, then each of them."""
    imports = [
        f'import type * as {name} from "@grafana/schema/dist/esm/raw/composable/{name.lower()}'
        f'/panelcfg/x/{name}PanelCfg_types.gen.js";'
        for name in PLUGINS.values()
    ]
    fields = {
        kind: "Record<string, never>" if kind in PLAIN_FIELDS else f"{plugin}.FieldConfig"
        for kind, plugin in PLUGINS.items()
    }
    frame = {key: value for key, value in board.items() if key != "panels"}
    return "\n".join(
        [
            'import type { Board, Panel } from "./types";',
            *imports,
            f"export const board: Board = {json.dumps(frame)};",
            *(
                f"export const panel{one['id']}: Panel<{json.dumps(one['type'])}, "
                f"{PLUGINS[one['type']]}.Options, {fields[one['type']]}> = {json.dumps(one)};"
                for one in board["panels"]
            ),
        ]
    )


def spoilt(mistake: Callable[[Board], object]) -> Board:
    """A copy of the fleet's dashboard with a mistake in it."""
    board = copy.deepcopy(BOARDS["fleet"])
    mistake(board)
    return board


def file_name(title: str) -> str:
    """What the source with that content is called by."""
    return title.replace(" ", "-").replace("'", "")


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Source -> what TypeScript says of it; one run for all of them, some seconds."""
    compiler = MODULES / ".bin" / "tsc"
    assert shutil.which(str(compiler)), f"{compiler} is missing: make test installs it from npm"
    folder = tmp_path_factory.mktemp("grafana")
    (folder / "node_modules").symlink_to(MODULES)
    boards = BOARDS | {file_name(title): spoilt(mistake) for title, mistake in MISTAKES.items()}
    (folder / "types.ts").write_text(TYPES)
    for name, board in boards.items():
        (folder / f"{name}.ts").write_text(source(board))
    options = {
        "strict": True,
        "noEmit": True,
        "skipLibCheck": True,
        "module": "esnext",
        "moduleResolution": "bundler",
        "types": [],
    }
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": options}))
    done = subprocess.run(
        [compiler, "--project", folder], capture_output=True, check=False, text=True, cwd=folder
    )
    found = defaultdict(list)
    for line in done.stdout.splitlines():
        if parsed := re.match(r"(\S+)\.ts\(", line):
            found[parsed[1]].append(line)
    assert found, done.stdout + done.stderr
    return found


@pytest.mark.parametrize("name", [*BOARDS, "types"])
def test_grafana_knows_every_key_and_value(complaints: dict[str, list[str]], name: str) -> None:
    """Nothing in a dashboard is unknown to Grafana's types, or of another type."""
    assert complaints.get(name, []) == []


@pytest.mark.parametrize("title", MISTAKES)
def test_a_mistake_is_noticed(complaints: dict[str, list[str]], title: str) -> None:
    """The same comparison finds a wrong key, value or type in each part of a dashboard."""
    assert complaints.get(file_name(title), []) != []
