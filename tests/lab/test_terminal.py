"""`egress-exporter trace` for real, at a terminal and in a pipe: growing, several, watched."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.conftest import OpenLab
from tests.lab.exporting import COMMAND, ROOT, environment
from tests.lab.lab import Lab
from tests.scenarios import FOLDER, load
from tests.unit.screen import Screen

SCENARIO = load(FOLDER / "mid_path_firewall.toml")
OPEN, CLOSED, DROPPED, REJECTED = (
    f"{SCENARIO.destination}:{port}" for port in (443, 8443, 5432, 6379)
)
SECONDS = 60
#: What differs from trace to trace of the same path: times, ports and how many were answered.
VARYING = re.compile(r"[0-9.]+ m?s|[0-9T:-]+\.[0-9]+Z| \*|  \[rate-limited\]")


@pytest.fixture
def lab(open_lab: OpenLab) -> Lab:
    """A firewall in mid-path: open, closed, dropped and rejected ports."""
    return open_lab(SCENARIO)


class Tty:
    """A command at a pseudo-terminal, and what a person sees there."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self.screen = Screen(columns=80, rows=24)
        self.stream = ""
        self._master = master

    def wait_for(self, text: str) -> None:
        """Read until the command has written a text; the test fails when it ends before."""
        while text not in self.stream:
            assert self._read(), f"no {text!r} came, but:\n{self.stream}"

    def end(self) -> int:
        """Read to the end; the exit status."""
        while self._read():
            pass
        return self.process.wait(SECONDS)

    def _read(self) -> bool:
        try:
            part = os.read(self._master, 1 << 16).decode()
        except OSError:  # EIO: nobody has the other end any more
            return False
        self.stream += part
        self.screen.write(part)
        return bool(part)


@contextmanager
def at_terminal(lab: Lab, *arguments: str) -> Iterator[Tty]:
    """Run `trace` at a terminal of its own, of the size that is none: 80 columns and 24 rows."""
    master, slave = pty.openpty()
    try:
        with lab.popen(
            [*COMMAND, "trace", *arguments],
            cwd=ROOT,
            env=environment(lab, TERM="xterm"),
            stdin=subprocess.DEVNULL,
            stdout=slave,
            stderr=slave,
        ) as process:
            os.close(slave)
            try:
                yield Tty(process, master)
            finally:
                process.kill()
    finally:
        os.close(master)


def piped(lab: Lab, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `trace` with its output in a pipe."""
    return lab.run(
        [*COMMAND, "trace", *arguments],
        cwd=ROOT,
        env=environment(lab, TERM="xterm"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def constant(lines: list[str]) -> list[str]:
    """What two traces of one path have in common: the headline, the hops and the sentence."""
    verdict = next(n for n, line in enumerate(lines) if line.startswith("verdict"))
    text = "\n".join((*lines[: SCENARIO.hops + 1], *lines[verdict : verdict + 2]))
    return VARYING.sub("", text).split("\n")


def test_what_has_grown_reads_as_what_is_piped(lab: Lab) -> None:
    """Hops stand there before the end; in the end the text is a pipe's, which has no escape."""
    plain = piped(lab, CLOSED)
    assert (plain.returncode, plain.stderr) == (3, "")
    assert "\x1b" not in plain.stdout
    with at_terminal(lab, CLOSED) as tty:
        tty.wait_for("tracing, ")
        status = tty.end()
    growing, _, last = tty.stream.rpartition("\x1b[J")
    assert " 1  10.9.0.2 \x1b[36m[platform]\x1b[0m" in growing
    assert "verdict" not in growing
    whole = Screen(columns=1000)
    whole.write(last)
    assert constant(whole.shown) == constant(plain.stdout.splitlines())
    # Nothing of what was drawn is left above or below it; long lines wrap.
    assert "".join(tty.screen.shown).replace(" ", "") == "".join(whole.shown).replace(" ", "")
    assert (status, tty.screen.colour) == (3, "0")


def test_several_targets(lab: Lab) -> None:
    """A line each while they are traced, then each trace in the order given; the worst counts."""
    with at_terminal(lab, f"web={OPEN}", f"cache={REJECTED}", "--color", "never") as tty:
        tty.wait_for("cache  waiting")
        assert tty.end() == 1
    assert "1 of 2 traced, " in tty.stream
    heads = [line.split(" from ")[0] for line in tty.screen.shown if " engine " in line]
    assert heads == [f"web: {OPEN}", f"cache: {REJECTED}"]
    verdicts = [line.split(",")[0] for line in tty.screen.shown if line.startswith("verdict")]
    assert verdicts == ["verdict: open", "verdict: rejected"]


def test_several_targets_as_json(lab: Lab) -> None:
    """One object a line, in the order given; one word may hold them all, as ENDPOINTS does."""
    done = piped(lab, f"web={OPEN} admin={CLOSED}", "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["target"] for one in found] == ["web", "admin"]
    assert [one["verdict"]["state"] for one in found] == ["open", "closed"]
    assert (done.returncode, done.stderr) == (3, "")


def test_ctrl_c_leaves_what_is_known_and_a_clean_terminal(lab: Lab) -> None:
    """The hops so far, a line that says so, exit status 130; no colour stays on."""
    with at_terminal(lab, DROPPED) as tty:
        tty.wait_for("no answer yet")
        tty.process.send_signal(signal.SIGINT)
        assert tty.end() == 130
    assert tty.screen.shown[1].startswith(" 1  10.9.0.2 [platform]  ")
    assert tty.screen.shown[-1] == "interrupted"
    assert "Traceback" not in tty.stream
    assert tty.screen.colour == "0"
    assert "\x1b[?25l" not in tty.stream


def test_a_watch_tells_of_a_block_when_it_comes(lab: Lab, tmp_path: Path) -> None:
    """In a file a line for the beginning and for each change, and one that sums up."""
    path = tmp_path / "watch.log"
    with (
        path.open("w") as file,
        lab.popen(
            [*COMMAND, "trace", f"web={OPEN}", "--watch", "1"],
            cwd=ROOT,
            env=environment(lab, TERM="xterm"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        ) as process,
    ):
        assert process.stdout
        first = process.stdout.readline()
        assert re.match(r"20\S+Z web: open, reached at hop 12, ", first)
        lab.nft(6, "add rule inet lab forward tcp dport 443 drop")
        second = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        last = process.stdout.readlines()[-1]
        assert process.wait(SECONDS) == 1
    assert " web: Open until " in second
    assert ", since " in second
    assert " filtered after hop 6 (10.9.5.2); up to hop 6 the way is the same." in second
    assert re.fullmatch(r"\d+ rounds in \d+ s, 1 change; now 1 filtered\n", last)
    assert path.read_text() == ""
