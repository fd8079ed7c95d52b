"""What stands around the code agrees with it: commands, version, locks, no package index."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from exporter import __version__
from exporter.config.schema import VARIABLES
from exporter.publish.tables import PROGRAM_METRICS, TARGET_METRICS

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(p.relative_to(ROOT) for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUNTIME = PROJECT["dependencies"]
DEVELOPMENT = RUNTIME + PROJECT["optional-dependencies"]["dev"]


def pins(lock: str) -> dict[str, Version]:
    """The versions that a lock file pins, by normalised name."""
    found = re.findall(r"^([\w.-]+)==(\S+) \\$", (ROOT / lock).read_text(), re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in found}


def project_files() -> Iterator[Path]:
    """Every file of the project; what .gitignore names is none."""
    ignored = (ROOT / ".gitignore").read_text().split()
    foreign = {".git", *(name.removesuffix("/") for name in ignored)}
    for folder, folders, files in os.walk(ROOT):
        folders[:] = set(folders) - foreign
        yield from (Path(folder, name) for name in files if name not in foreign)


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_documented_commands_exist(document: Path) -> None:
    """Every `make TARGET` in a document's code is a target of the Makefile."""
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    commands = re.findall(
        r"(?:^|`|sudo )make ([a-z]+)", (ROOT / document).read_text(), re.MULTILINE
    )
    assert set(commands) <= set(targets)


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_documents_link_to_files_that_exist(document: Path) -> None:
    """Every relative link in a document leads to a file or folder of the project."""
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / document).read_text())
    assert [link for link in links if not (ROOT / document.parent / link).exists()] == []


def test_the_readme_names_every_variable() -> None:
    """Each setting of the environment is in the README; labels are the file's alone."""
    variables = {key.upper() for key in VARIABLES}
    assert variables <= set(re.findall(r"\b[A-Z_]+\b", (ROOT / "README.md").read_text()))


def test_the_readme_names_every_metric_and_no_other() -> None:
    """The README's overview and the tables of metrics are the same list."""
    metrics = {row.name for row in TARGET_METRICS} | {row.name for row in PROGRAM_METRICS}
    assert set(re.findall(r"\begress_[a-z_]+", (ROOT / "README.md").read_text())) == metrics


def test_the_version_stands_in_one_place() -> None:
    """pyproject.toml takes the version from the package, and the changelog knows it."""
    assert PROJECT["dynamic"] == ["version"]
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize(
    ("lock", "requirements"),
    [("requirements.lock", RUNTIME), ("requirements-dev.lock", DEVELOPMENT)],
)
def test_locks_satisfy_pyproject(lock: str, requirements: list[str]) -> None:
    """Each requirement is pinned, to a version that it allows; if not, `make lock` is due."""
    pinned = pins(lock)
    for requirement in map(Requirement, requirements):
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier


def test_development_runs_with_the_versions_of_production() -> None:
    """Every pin of requirements.lock stands in requirements-dev.lock as well."""
    assert pins("requirements.lock").items() <= pins("requirements-dev.lock").items()


def test_no_file_names_a_package_index() -> None:
    """Where packages come from is decided by whoever installs, not by the project."""
    address = rb"https?://[^\s/]*(?:pypi|pythonhosted)|https?://\S+/simple\b"
    option = rb"^--(?:extra-)?index-url|^--find-links|^--trusted-host"
    index = re.compile(address + rb"|" + option, re.MULTILINE)
    assert [path for path in project_files() if index.search(path.read_bytes())] == []
