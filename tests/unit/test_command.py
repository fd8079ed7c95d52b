"""The command line itself: what it prints of itself, and how it starts and ends."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import pytest

from exporter.__main__ import PROGRAM_END, SHELLS, TRACE_END, _parser, main
from exporter.commands.trace import EXIT_STATUS, UNKNOWN, WORST_FIRST, status_of
from exporter.model import State
from tests.unit import samples

ROOT = Path(__file__).parents[2]
OF_STATE = {
    State.OPEN: samples.opened(),
    State.CLOSED: samples.closed(),
    State.FILTERED: samples.filtered(),
    State.UNRESOLVED: samples.unresolved(),
}


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command prints before it leaves with 0."""
    with pytest.raises(SystemExit) as left:
        sys.exit(main(arguments))
    assert left.value.code == 0
    return capsys.readouterr().out


def test_a_start_that_is_stopped_ends_well() -> None:
    """SIGTERM before the service stands ends it with 0, even where the kernel has no default."""
    code = (
        "import os, signal, exporter.__main__ as command, exporter.commands.serve as serve;"
        "serve.configured = lambda _: os.kill(os.getpid(), signal.SIGTERM);"
        "command.main(['serve'])"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# -- help --------------------------------------------------------------------------------


def test_the_help_of_trace_answers(capsys: pytest.CaptureFixture[str]) -> None:
    """Every exit status, examples to copy, and the settings that matter."""
    text = printed(capsys, "trace", "--help")
    for status in {*EXIT_STATUS.values(), UNKNOWN, 2, 130}:
        assert f"\n{status:5}  " in text
    for word in ("--watch 30", "db=10.9.5.2:5432", "[2001:db8::1]:443", "PLATFORM_NETWORKS"):
        assert word in text


def test_the_help_of_the_program_answers(capsys: pytest.CaptureFixture[str]) -> None:
    """The commands, how to name targets, and where everything else stands."""
    text = printed(capsys, "--help")
    for word in ("serve | trace | check", "ENDPOINTS", "CONFIG_FILE", "docs/configuration.md"):
        assert word in text


@pytest.mark.parametrize("arguments", [["--help"], ["trace", "--help"], ["--version"]])
def test_help_loads_nothing_of_the_program(arguments: list[str]) -> None:
    """Who asks what there is to ask for does not wait for what would do it."""
    code = (
        "import atexit, os, sys, exporter.__main__ as command;"
        "atexit.register(lambda: os._exit('exporter.model' in sys.modules));"
        f"command.main({arguments!r})"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def examples() -> Iterator[str]:
    """Every command of this program in its help and in docs/terminal.md."""
    for text in ((ROOT / "docs" / "terminal.md").read_text(), PROGRAM_END, TRACE_END):
        yield from re.findall(
            r"^ *(?:ENDPOINTS=\S+ )?egress-exporter ((?:\S| (?![>|]))+)", text, re.MULTILINE
        )


@pytest.mark.parametrize("example", sorted(set(examples())))
def test_examples_are_understood(example: str) -> None:
    """What help and documentation show can be copied."""
    _parser().parse_args(shlex.split(example))


def test_there_are_examples() -> None:
    """The test above looks at some."""
    assert len(set(examples())) > 8


def test_an_endpoint_behind_watch_is_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    """`--watch HOST:PORT` says what is wrong, and what to do."""
    with pytest.raises(SystemExit) as left:
        main(["trace", "--watch", "db.example:443"])
    assert left.value.code == 2
    assert "'db.example:443' should be seconds; endpoints stand before --watch" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("seconds", ["0", "0.5", "nan", "1e9"])
def test_a_watch_is_bounded(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Seconds that no trace could keep up with, and those of next year, are refused."""
    assert main(["trace", "10.9.11.2:443", "--watch", seconds]) == 2
    assert "should be a number from 1 to 86400" in capsys.readouterr().err


# -- completion --------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_gets_its_completion(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The script names the program, its commands and their options."""
    script = printed(capsys, "--print-completion", shell)
    for word in ("egress-exporter", "trace", "watch", "connect"):
        assert word in script


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["tr"], "trace"),
        (["trace", "--wat"], "--watch"),
        (["trace", "--engine", "c"], "connect"),
        (["trace", "--color", "n"], "never"),
        (["--print-completion", "z"], "zsh"),
    ],
)
def test_a_real_bash_completes(
    words: list[str], found: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What bash offers for the beginning of a word is what the command takes."""
    bash = shutil.which("bash") or pytest.fail("bash is missing", pytrace=False)
    script = tmp_path / "completion"
    script.write_text(printed(capsys, "--print-completion", "bash"))
    ask = (
        f"source {script}; complete -p egress-exporter; shift; COMP_WORDS=(egress-exporter $@);"
        "COMP_CWORD=$#; _shtab_egress_exporter; echo ${COMPREPLY[@]}"
    )
    done = subprocess.run(
        [bash, "--norc", "-c", ask, "bash", "", *words], capture_output=True, text=True, check=True
    )
    registered, offered = done.stdout.splitlines()
    assert registered.endswith("-F _shtab_egress_exporter egress-exporter")
    assert (offered, done.stderr) == (found, "")


# -- exit status -------------------------------------------------------------------------


@pytest.mark.parametrize("state", State)
def test_every_state_has_its_place_in_the_order(state: State) -> None:
    """No state leads to a status that could not be compared."""
    assert EXIT_STATUS.get(state, UNKNOWN) in WORST_FIRST


@pytest.mark.parametrize(
    ("states", "status"),
    [
        ([State.OPEN], 0),
        ([State.OPEN, State.CLOSED], 3),
        ([State.OPEN, State.CLOSED, State.UNRESOLVED], 4),
        ([State.OPEN, State.CLOSED, State.UNRESOLVED, State.FILTERED], 1),
    ],
)
def test_the_worst_of_several_is_the_exit_status(states: list[State], status: int) -> None:
    """Blocked before unknown before closed before open, in whatever order they were asked for."""
    for order in permutations(OF_STATE[state] for state in states):
        assert status_of(order) == status
