"""The import rules of docs/architecture.md, read from the source by AST.

Imports point one way: model <- probing, diagnosis, publish, schedule <- service <- commands. Each
library has the few modules that may know it; the rest would not notice its exchange.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "exporter"


class May(NamedTuple):
    """What a module may import: parts of this package, and libraries; of Python, anything."""

    parts: str = ""
    libraries: str = ""


#: The longest name that a module's own begins with decides, in whole words.
RULES = {
    "exporter": May(),
    "exporter.model": May("model"),
    "exporter.history": May("model"),
    "exporter.paths": May("model"),
    "exporter.shelf": May(),
    "exporter.store": May("history model paths shelf"),
    "exporter.state": May("history model paths state store"),
    "exporter.compact": May("model"),
    "exporter.surroundings": May("model"),
    "exporter.shares": May("model"),
    "exporter.settings": May("model"),
    "exporter.config": May(
        "config model settings", "pydantic pydantic_core pydantic_settings yaml"
    ),
    "exporter.probing": May("model probing"),
    "exporter.probing.routes": May("rtnetlink"),
    "exporter.probing.packet": May("model probing", "scapy"),
    "exporter.diagnosis": May("model diagnosis"),
    "exporter.schedule": May("model schedule"),
    "exporter.publish": May("model store publish"),
    "exporter.publish.change": May("history model paths store publish"),
    "exporter.publish.evidence": May("model store publish", "scapy"),
    "exporter.publish.metrics": May("model store publish", "prometheus_client"),
    "exporter.publish.pages": May("model store publish", "tornado"),
    "exporter.publish.web": May("model store publish", "prometheus_client tornado"),
    "exporter.publish.server": May("model store publish", "tornado"),
    "exporter.names": May(),
    "exporter.as_table": May(),
    "exporter.directory": May("as_table model names settings"),
    "exporter.networks": May("diagnosis model rtnetlink"),
    "exporter.discovery": May("discovery model settings"),
    "exporter.discovery.http": May("discovery model settings", "tornado"),
    "exporter.verbs": May("model"),
    "exporter.controls": May("controls diagnosis model verbs"),
    "exporter.controls.elsewhere": May("model store"),
    "exporter.observer": May("controls diagnosis model schedule verbs"),
    "exporter.estimate": May("controls model observer probing schedule"),
    "exporter.plan": May(
        "as_table controls diagnosis estimate model probing publish settings shares"
    ),
    "exporter.privileges": May(),
    "exporter.rtnetlink": May(),
    "exporter.service": May(
        "as_table compact controls diagnosis directory discovery model names networks "
        "observer publish schedule settings shares state store surroundings verbs"
    ),
    "exporter.commands": May("commands model publish"),
    "exporter.commands.parts": May("config controls model probing settings verbs"),
    "exporter.commands.progress": May("diagnosis model probing verbs"),
    "exporter.commands.session": May(
        "commands controls diagnosis directory model names networks observer probing publish "
        "settings store surroundings verbs"
    ),
    "exporter.commands.proof": May("model publish settings"),
    "exporter.commands.trace": May("commands config model publish settings"),
    "exporter.commands.check": May(
        "commands directory discovery model networks plan probing settings"
    ),
    "exporter.commands.serve": May("commands config privileges publish service settings verbs"),
    "exporter.__main__": May("commands settings", "shtab"),
}


def module_name(path: Path) -> str:
    """exporter/publish/__init__.py -> exporter.publish."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}


def imported_by(source: str) -> Iterator[str]:
    """The full name of everything that the source imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative imports hide where they lead"
            # `from exporter import model` names a module, `from exporter.model import Hop` not.
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in MODULES else str(node.module) for name in names)


def rule_for(module: str) -> May:
    """The rule of the module, or of the nearest package around it that has one."""
    while module not in RULES:
        module = module.rpartition(".")[0]
    return RULES[module]


def offences(module: str, source: str) -> list[str]:
    """What the source imports although the rule for the module does not allow it."""
    may = rule_for(module)
    found = []
    for name in imported_by(source):
        top, _, rest = name.partition(".")
        part = rest.partition(".")[0]
        if top == PACKAGE:
            allowed = not part or part in may.parts.split()
        else:
            allowed = top in sys.stdlib_module_names or top in may.libraries.split()
        if not allowed:
            found.append(name)
    return found


@pytest.mark.parametrize("module", MODULES)
def test_modules_import_only_what_their_rule_allows(module: str) -> None:
    """No module imports a part or a library that its row in RULES does not name."""
    assert offences(module, MODULES[module].read_text()) == []


@pytest.mark.parametrize("module", RULES)
def test_every_rule_is_about_a_module_that_exists(module: str) -> None:
    """A rule whose module was renamed or removed does not linger."""
    assert module in MODULES


@pytest.mark.parametrize(
    ("module", "source", "offence"),
    [
        ("exporter.model", "import exporter.store", "exporter.store"),
        ("exporter.publish.text", "from exporter import probing", "exporter.probing"),
        ("exporter.publish.pages", "def f():\n from scapy.all import IP", "scapy.all"),
        ("exporter.diagnosis.verdict", "from exporter.config import x", "exporter.config"),
        ("exporter.schedule", "import prometheus_client.core", "prometheus_client.core"),
    ],
)
def test_a_forbidden_import_is_found_in_every_spelling(
    module: str, source: str, offence: str
) -> None:
    """Neither the form of an import nor its place in the file hides it."""
    assert offences(module, source) == [offence]


def test_start_up_does_not_load_scapy() -> None:
    """Importing the commands leaves scapy out: 45 MB and 0.25 s that `check` never needs."""
    commands = "exporter.__main__, exporter.commands.serve, exporter.commands.trace"
    code = f"import sys, {commands}; sys.exit('scapy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


CONNECTING = """
import socket, sys
from exporter.model import FULL_TTL
from exporter.probing.engines.connect import ConnectEngine
with socket.create_server(("127.0.0.1", 0)) as server:
    engine = ConnectEngine()
    flow = engine.open(*server.getsockname())
    engine.send(flow, FULL_TTL, 1)
    engine.close()
sys.exit("scapy" in sys.modules)
"""


def test_the_connect_engine_never_loads_scapy() -> None:
    """Where no raw packet is built, nothing is loaded to build one."""
    subprocess.run([sys.executable, "-c", CONNECTING], cwd=ROOT, check=True)
