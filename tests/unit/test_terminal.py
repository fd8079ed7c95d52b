"""Frames on a real pseudo-terminal, read back as a person would see them; colours and cutting."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import termios
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.commands.terminal import (
    Colours,
    Terminal,
    When,
    can_redraw,
    cut,
    fitted,
    has_colours,
)
from exporter.model import State
from exporter.publish.lines import render_trace
from exporter.publish.text import printable
from tests.unit import samples
from tests.unit.screen import Screen

PLAIN = Colours(on=False)
COLOURED = Colours(on=True)


@dataclass
class Window:
    """A pseudo-terminal: the program's end, and what its other end shows."""

    stream: TextIO
    master: int
    screen: Screen

    def resize(self, columns: int, rows: int) -> None:
        """Tell the terminal its size; what is shown stays, as in a terminal that wraps nothing."""
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)
        self.screen.columns, self.screen.rows = columns, rows

    @property
    def shown(self) -> list[str]:
        """What a person sees."""
        os.set_blocking(self.master, False)
        while True:
            try:
                part = os.read(self.master, 65536)
            except BlockingIOError:
                return self.screen.shown
            self.screen.write(part.decode())


@pytest.fixture
def window() -> Iterator[Window]:
    """One of 40 columns and 10 rows."""
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as stream:
        opened = Window(stream, master, Screen())
        opened.resize(40, 10)
        yield opened
    os.close(master)


# -- frames ------------------------------------------------------------------------------


def test_a_frame_takes_the_place_of_the_last_one(window: Window) -> None:
    """Longer lines and further lines of an older frame leave nothing behind."""
    terminal = Terminal(window.stream)
    terminal.say("before")
    terminal.draw(["a long line", "two", "three"])
    assert window.shown == ["before", "a long line", "two", "three"]
    terminal.draw(["short", "2"])
    assert window.shown == ["before", "short", "2"]


def test_what_stays_takes_the_place_of_the_frame(window: Window) -> None:
    """What is said after a frame is all that is left, even the characters of a Ctrl-C go."""
    terminal = Terminal(window.stream)
    terminal.draw(["under way", "1 s"])
    window.stream.write("^C")
    terminal.say("the end")
    terminal.draw(["next"])
    assert window.shown == ["the end", "next"]


def test_no_line_of_a_frame_wraps(window: Window) -> None:
    """What is wider than the window is cut, also where characters take two columns."""
    terminal = Terminal(window.stream)
    for number in range(3):
        terminal.draw([f"{number} {'x' * 100}", "漢" * 50])
    assert [len(line) for line in window.shown] == [39, 19]
    assert window.screen.wrapped == 0


def test_no_frame_is_higher_than_the_window(window: Window) -> None:
    """Of many lines the last ones are shown, and how many stand above them."""
    terminal = Terminal(window.stream)
    for count in (30, 31):
        terminal.draw([str(number) for number in range(count)])
    assert window.shown == ["... 23 lines above", *(str(number) for number in range(23, 31))]


def test_after_a_change_of_size_the_next_frame_is_drawn_below(window: Window) -> None:
    """Nobody knows what the terminal has made of the old one, so nothing of it is written over."""
    terminal = Terminal(window.stream)
    terminal.draw(["old", "old"])
    assert window.shown == ["old", "old"]
    window.resize(20, 10)
    terminal.draw(["new", "new"])
    terminal.draw(["newer"])
    assert window.shown == ["old", "old", "newer"]
    window.resize(40, 10)
    terminal.say("the end")
    assert window.shown == ["old", "old", "newer", "the end"]


def test_an_unchanged_frame_is_not_written_again(window: Window) -> None:
    """A terminal at the end of a slow line gets nothing to do for nothing."""
    terminal = Terminal(window.stream)
    terminal.draw(["same"])
    assert window.shown == ["same"]
    terminal.draw(["same"])
    with pytest.raises(BlockingIOError):
        os.read(window.master, 1)


def test_a_terminal_without_a_size_has_that_of_a_vt100(window: Window) -> None:
    """A serial console that was told no size still shows a frame."""
    window.resize(0, 0)
    window.screen.columns, window.screen.rows = 80, 24
    Terminal(window.stream).draw(["x" * 100])
    assert window.shown == ["x" * 79]


# -- cutting -----------------------------------------------------------------------------


@given(st.text(), st.integers(0, 100))
def test_a_line_that_is_cut_ends_as_it_would_have(raw: str, columns: int) -> None:
    """However short it is cut, it switches off the colour that it switched on."""
    line = f"{COLOURED.state(printable(raw), State.OPEN)} {printable(raw)}"
    screen = Screen(columns=200)
    screen.write(cut(line, columns))
    assert screen.colour == "0"
    assert len(screen.shown[0]) <= columns


@pytest.mark.parametrize("rows", range(4))
def test_a_frame_fits_into_the_smallest_window(rows: int) -> None:
    """In a window of a row or two there is at least no mess."""
    assert len(fitted(["1", "2", "3", "4"], 80, rows)) <= max(rows, 1)


# -- colours -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", samples.SAMPLES)
def test_colours_change_no_word(kind: str) -> None:
    """A coloured trace without its escapes is the plain one, so colour never says a thing alone."""
    lines = render_trace(samples.SAMPLES[kind]).split("\n")
    screen = Screen(columns=1000)
    screen.write("\r\n".join(map(COLOURED.line, lines)))
    assert screen.shown == lines
    assert [PLAIN.line(line) for line in lines] == lines


def test_hostile_text_brings_no_escape_of_its_own() -> None:
    """What comes from the network can neither colour nor move anything."""
    lines = render_trace(samples.hostile()).split("\n")
    screen = Screen(columns=10_000)
    screen.write("\r\n".join(map(COLOURED.line, lines)))
    assert screen.shown == [line.rstrip() for line in lines]


@pytest.mark.parametrize(
    ("line", "coloured"),
    [
        (" 1  10.9.0.2 [platform]  1 ms", " 1  10.9.0.2 \x1b[36m[platform]\x1b[0m  1 ms"),
        (
            " 6  10.9.5.2 [closed] [external: isp] [AS1 [platform]]",
            " 6  10.9.5.2 [closed] \x1b[35m[external: isp]\x1b[0m [AS1 [platform]]",
        ),
        ("verdict: open, reached", "verdict: \x1b[1;32mopen\x1b[0m, reached"),
        ("verdict: filtered, blocked", "verdict: \x1b[1;31mfiltered\x1b[0m, blocked"),
        ("also 10.9.1.1: error, last", "also 10.9.1.1: \x1b[1;33merror\x1b[0m, last"),
        ("  verdict: open", "  verdict: open"),
    ],
)
def test_zones_and_states_are_coloured(line: str, coloured: str) -> None:
    """The zone of a responder, and the state of a verdict; not what looks like one elsewhere."""
    assert COLOURED.line(line) == coloured


class Tty(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """It says so."""
        return True


@pytest.mark.parametrize(
    ("when", "stream", "environ", "expected"),
    [
        ("auto", Tty(), {"TERM": "xterm"}, True),
        ("auto", Tty(), {"TERM": "xterm", "NO_COLOR": ""}, True),
        ("auto", Tty(), {"TERM": "xterm", "NO_COLOR": "1"}, False),
        ("auto", Tty(), {"TERM": "dumb"}, False),
        ("auto", Tty(), {}, False),
        ("auto", io.StringIO(), {"TERM": "xterm"}, False),
        ("always", io.StringIO(), {"NO_COLOR": "1"}, True),
        ("never", Tty(), {"TERM": "xterm"}, False),
    ],
)
def test_when_to_colour(
    when: When, stream: TextIO, environ: dict[str, str], *, expected: bool
) -> None:
    """On a terminal that can, unless NO_COLOR forbids it; what is asked for outright is done."""
    assert has_colours(when, stream, environ) is expected


def test_a_dumb_terminal_is_written_to_as_a_file() -> None:
    """Where the cursor cannot be moved, nothing is redrawn."""
    assert can_redraw(Tty(), {"TERM": "xterm"})
    assert not can_redraw(Tty(), {"TERM": "dumb"})
    assert not can_redraw(io.StringIO(), {"TERM": "xterm"})
