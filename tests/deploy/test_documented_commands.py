"""The documents' commands for platforms that no test has: they name what is really there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from exporter.__main__ import _parser
from exporter.config import load

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "docs/cloud-foundry.md", "docs/image.md", "docs/kubernetes.md")
IMAGE = "egress-exporter"
#: Options of `docker run` that stand alone.
FLAGS = {"--rm", "--detach", "--read-only"}


def commands(document: str, program: str) -> Iterator[list[str]]:
    """Every command of a program in a document's blocks, as the shell would read it."""
    text = (ROOT / document).read_text()
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for line in re.split(r"\n|&&", block.replace("\\\n", " ")):
            if line.strip().startswith(program):
                yield shlex.split(line, comments=True)


def all_commands(program: str) -> list[str]:
    """Those of all documents, each once."""
    found = (shlex.join(one) for document in DOCUMENTS for one in commands(document, program))
    return list(dict.fromkeys(found))


def variables_of(command: list[str]) -> set[str]:
    """The names that --var gives a value."""
    given = [value for option, value in pairwise(command) if option == "--var"]
    return {value.partition("=")[0] for value in given}


@pytest.mark.parametrize("line", all_commands("cf push"))
def test_a_push_gives_its_manifest_every_variable(line: str) -> None:
    """The manifest exists, and needs no other variable than those of the command."""
    command = shlex.split(line)
    name = command[command.index("-f") + 1] if "-f" in command else "manifest.yml"
    wanted = set(re.findall(r"\(\((.+?)\)\)", (ROOT / name).read_text()))
    assert variables_of(command) == wanted


@pytest.mark.parametrize("line", all_commands("kubectl apply"))
def test_what_is_applied_is_there(line: str) -> None:
    """`kubectl apply -k` names a folder with a kustomization."""
    command = shlex.split(line)
    assert (ROOT / command[command.index("-k") + 1] / "kustomization.yaml").is_file()


@pytest.mark.parametrize("line", all_commands("docker run"))
def test_the_image_is_run_with_what_it_understands(line: str) -> None:
    """Its settings are accepted, and what follows its name is a command line of the exporter."""
    options, arguments = split_run(shlex.split(line))
    _parser().parse_args(arguments)
    given = [value for option, value in options if option == "--env"]
    load(dict(one.split("=", 1) for one in given))


def split_run(command: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """The options with a value of a `docker run`, and what follows the image's name."""
    words = iter(command[2:])
    options: list[tuple[str, str]] = []
    for word in words:
        if word == IMAGE:
            return options, list(words)
        if word not in FLAGS:
            options.append((word, next(words)))
    raise AssertionError(f"{shlex.join(command)} does not name {IMAGE}")


@pytest.mark.parametrize("program", ["cf push", "docker build", "docker run", "kubectl apply"])
def test_the_readme_says_how(program: str) -> None:
    """From nothing to a running exporter, on each platform."""
    assert list(commands("README.md", program))
