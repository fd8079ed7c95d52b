"""Standard output: lines, and on a terminal a frame of lines that is redrawn in place.

1. A frame is drawn by one write: back to its first line, each line and the rest of its row erased,
   then everything below (ECMA-48: CUU, EL, ED).
2. No line of a frame is wider than the window and no frame as high, so that it never wraps and
   never scrolls. What does not fit is cut; of a frame that is too high the end is shown.
3. Where the window's size has changed, the terminal may have wrapped anew what was drawn, and
   nobody knows where it begins. Then the next frame is drawn below.
4. After each write the cursor stands below the frame, visible, and no colour is on. However the
   program ends, it leaves the terminal as it was.

Whatever comes from outside is `printable` (see `text`) before it comes here, so that the only
escapes are those of this module.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TextIO

from exporter.model import BLOCKED_STATES, REACHED_STATES, State

#: A size of 0 is one that nobody has told the terminal: then that of a VT100.
COLUMNS, ROWS = 80, 24

_UP, _ERASE_LINE, _ERASE_BELOW = "\x1b[{}A", "\x1b[K", "\x1b[J"
_PIECE = re.compile(r"\x1b\[[0-9;]*m|.")

When = Literal["auto", "always", "never"]

# ECMA-48 SGR: of the eight colours those that can be read on a light ground and on a dark one. A
# word or a number always says the same.
_GREEN, _RED, _YELLOW = "\x1b[1;32m", "\x1b[1;31m", "\x1b[1;33m"
_CYAN, _MAGENTA, _PLAIN = "\x1b[36m", "\x1b[35m", "\x1b[0m"
_STATE_COLOURS: Mapping[str, str] = {
    **dict.fromkeys(REACHED_STATES, _GREEN),
    **dict.fromkeys(BLOCKED_STATES | {State.INTERCEPTED}, _RED),
}
_ZONE_COLOURS = {"platform": _CYAN, "external": _MAGENTA}
#: What `text` writes: the zone of a responder, and the state of a verdict.
_ZONE = re.compile(r"\[(platform|external)(?:: [^\[\]]*)?\]")
_STATE = re.compile(r"^(verdict: |also \S+: )([a-z]+)")


def has_colours(when: When, stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether to colour; `auto`: on a terminal, unless NO_COLOR (no-color.org) forbids it."""
    if when == "auto":
        return can_redraw(stream, environ) and not environ.get("NO_COLOR")
    return when == "always"


def can_redraw(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether the stream is a terminal whose cursor can be moved."""
    return stream.isatty() and environ.get("TERM", "dumb") != "dumb"


class Colours:
    """Colours beside the words; without `on`, none."""

    def __init__(self, *, on: bool) -> None:
        self._on = on

    def state(self, text: str, state: str) -> str:
        """A text in the colour of a state."""
        return self._in(_STATE_COLOURS.get(state, _YELLOW), text)

    def line(self, line: str) -> str:
        """A line of `text.render_trace` with its zone, or the state of its verdict, in colour."""
        if found := _STATE.match(line):
            return found[1] + self.state(found[2], found[2]) + line[found.end() :]
        # Only the first: behind it stand names that others have chosen.
        return _ZONE.sub(lambda zone: self._in(_ZONE_COLOURS[zone[1]], zone[0]), line, count=1)

    def _in(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_PLAIN}" if self._on else text


class Terminal:
    """Lines to a stream, and frames if it is a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        #: What stands above the cursor, and the size of the window that it was drawn for.
        self._frame: Sequence[str] = ()
        self._size = (0, 0)

    def say(self, *lines: str) -> None:
        """Write lines that stay, in place of the frame."""
        self._write(self._back(_ERASE_BELOW) + "".join(f"{line}\n" for line in lines))
        self._frame = ()

    def draw(self, lines: Sequence[str]) -> None:
        """Show a frame in place of the last one."""
        columns, rows = size = self._window()
        frame = fitted(lines, columns - 1, rows - 1)
        if (frame, size) != (self._frame, self._size):
            text = "".join(f"{line}{_ERASE_LINE}\n" for line in frame)
            self._write(f"{self._back()}{text}{_ERASE_BELOW}")
            self._frame, self._size = frame, size

    def _back(self, erase: str = "") -> str:
        """What leads back to the beginning of the frame, if that can be told (see 3)."""
        if not self._frame or self._window() != self._size:
            return ""
        return f"\r{_UP.format(len(self._frame))}{erase}"

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    def _window(self) -> tuple[int, int]:
        columns, rows = os.get_terminal_size(self._stream.fileno())
        return columns or COLUMNS, rows or ROWS


def fitted(lines: Sequence[str], columns: int, rows: int) -> list[str]:
    """The lines cut to so many columns; of more than `rows` lines the last ones."""
    if len(lines) > rows:
        shown = lines[len(lines) - max(rows - 1, 0) :]
        lines = [f"... {len(lines) - len(shown)} lines above", *shown]
    return [cut(line, columns) for line in lines]


def cut(line: str, columns: int) -> str:
    """So much of a line as fits into so many columns; its colours stay whole."""
    return "".join(_kept(_PIECE.findall(line), columns))


def _kept(pieces: Iterable[str], columns: int) -> Iterable[str]:
    for piece in pieces:
        if not piece.startswith("\x1b"):
            columns -= _width(piece)
            if columns < 0:
                continue
        yield piece


def _width(char: str) -> int:
    """How many columns a character takes (Unicode Standard Annex 11)."""
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
