"""A terminal's window: what a person sees of a stream with escapes.

It knows what the program uses (ECMA-48: CUU, EL, ED, SGR) and nothing else, and wraps as a VT100.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TOKEN = re.compile(r"\x1b\[(?P<number>[0-9;]*)(?P<letter>[A-Za-z])|(?P<char>[\s\S])")


@dataclass
class Screen:
    """Lines, those that have scrolled out of the window included."""

    columns: int = 80
    rows: int = 24
    lines: list[str] = field(default_factory=lambda: [""])
    row: int = 0
    column: int = 0
    #: What SGR has switched on, "0" for nothing.
    colour: str = "0"
    #: How many characters have wrapped.
    wrapped: int = 0

    def write(self, text: str) -> None:
        """Take in a part of the stream."""
        for token in _TOKEN.finditer(text):
            if char := token["char"]:
                self._put(char)
            else:
                self._obey(token["letter"], token["number"])

    @property
    def shown(self) -> list[str]:
        """The lines without blanks at their ends, and without empty ones at the end."""
        return "\n".join(line.rstrip() for line in self.lines).rstrip("\n").split("\n")

    def _put(self, char: str) -> None:
        if char == "\r":
            self.column = 0
        elif char == "\n":
            self.row += 1
            if self.row == len(self.lines):
                self.lines.append("")
        else:
            assert char.isprintable(), f"{char!r} is no character to print"
            if self.column == self.columns:
                self.wrapped += 1
                self._put("\r")
                self._put("\n")
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + char + line[self.column + 1 :]
            self.column += 1

    def _obey(self, letter: str, number: str) -> None:
        if letter == "A":
            top = max(0, len(self.lines) - self.rows)
            assert self.row - int(number) >= top, "the cursor cannot leave the window"
            self.row -= int(number)
        elif letter == "K":
            self.lines[self.row] = self.lines[self.row][: self.column]
        elif letter == "J":
            self.lines[self.row] = self.lines[self.row][: self.column]
            # The window stays where it is.
            self.lines[self.row + 1 :] = [""] * (len(self.lines) - self.row - 1)
        else:
            assert letter == "m", f"an escape that ends with {letter} is not for every terminal"
            self.colour = number
