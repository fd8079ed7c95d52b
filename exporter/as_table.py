"""Whose network an address is in: autonomous systems, from a table on disk.

Two formats, told apart line by line, plain or compressed with gzip:

1. Ranges, as iptoasn.com publishes them: first address, last address, number, country and
   description, with tabs between them. The number 0 means that nobody announces the range.
2. Prefixes, as CAIDA publishes them (pfx2as): network, length, numbers. Where several systems
   announce a network ("64500_64501") or a set does ("64500,64501"), the first one stands for it.

A table of the whole Internet has 700,000 networks and stays in memory, so everything is in few
flat arrays. Each network becomes a record of first address, inverted last address and owner, which
sort as bytes so that a network comes before those within it. One pass over them cuts the networks
into segments that do not overlap; the last segment that begins at or before an address holds it.
"""

from __future__ import annotations

import gzip
import re
import stat
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from socket import AF_INET, AF_INET6, inet_pton
from typing import NamedTuple

GZIP_MAGIC = b"\x1f\x8b"
#: The longest line that is read as one, in bytes, and the most lines.
MAX_LINE = 2_000
MAX_LINES = 4_000_000
#: The longest name that is kept, in bytes.
MAX_NAME = 100
#: A file is no such table when more than one line of so many is bad, and more than a few are.
BAD_SHARE = 10
FEW_BAD = 3
#: Where that is so after so many bad lines, the rest is not read.
MANY_BAD = 100
#: RFC 6793: four octets.
MAX_NUMBER = 0xFFFF_FFFF

_NUMBERS = re.compile(rb"\{?([0-9]{1,10})[0-9_,{}]*")
#: The owner of what nobody announces; the others count from 1.
_NOBODY = 0
#: Bytes of an owner in a record.
_OWNER = 4
_INVERTED = bytes(range(255, -1, -1))


class Origin(NamedTuple):
    """An autonomous system; `name` is "" where the table has none."""

    number: int
    name: str


class AsTable:
    """What a table says; `networks` counts its rows, `warning` is "" when all lines were good."""

    def __init__(self, reading: _Reading) -> None:
        self._numbers, self._names = reading.numbers, reading.names
        # Each family's records go when its segments stand.
        self._segments = {rows.width: _Segments(rows) for rows in reading.drain()}
        self.networks = reading.good
        self.warning = reading.warning

    def origin(self, address: str) -> Origin | None:
        """Who announces the network of an address, None when nobody is known to."""
        packed = ip_address(address).packed
        owner = self._segments[len(packed)].owner(packed)
        return None if owner == _NOBODY else Origin(self._numbers[owner], self._names[owner])


def load(path: str | Path) -> AsTable:
    """Read a table, for seconds; raises ValueError with a predicate, e.g. "cannot be read: ..."."""
    reading = _Reading()
    try:
        for number, line in enumerate(_lines(Path(path)), 1):
            reading.take(number, line)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"cannot be read: {reason}") from None
    return AsTable(reading)


def _lines(path: Path) -> Iterator[bytes]:
    # A pipe would block, and could not be read again on a reload.
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("should be a regular file")
    with path.open("rb") as file:
        is_compressed = file.peek(2).startswith(GZIP_MAGIC)
        stream = gzip.GzipFile(fileobj=file) if is_compressed else file
        yield from iter(lambda: stream.readline(MAX_LINE), b"")


# -- reading -----------------------------------------------------------------------------


class _Rows:
    """The records of one family; `width` is that of an address in bytes."""

    def __init__(self, family: int, width: int) -> None:
        self.family, self.width = family, width
        self._inverted_masks = [
            (256**width - 1 >> length).to_bytes(width, "big") for length in range(8 * width + 1)
        ]
        self._records = bytearray()
        self._is_sorted = True
        self._latest = b""

    def address(self, text: str) -> bytes:
        """An address as bytes; raises OSError when it is none."""
        return inet_pton(self.family, text)

    def last_of(self, first: bytes, length: int) -> bytes:
        """The last address of a prefix; raises an error when it is none."""
        hosts = int.from_bytes(self._inverted_masks[length], "big")
        number = int.from_bytes(first, "big")
        if number & hosts:
            raise ValueError("has host bits set")
        return (number | hosts).to_bytes(self.width, "big")

    def add(self, first: bytes, last: bytes, owner: int) -> None:
        """Append the network between two addresses; raises ValueError when it is none."""
        if first > last:
            raise ValueError("ends before it begins")
        record = first + last.translate(_INVERTED) + owner.to_bytes(_OWNER, "big")
        self._is_sorted = self._is_sorted and record >= self._latest
        self._records += record
        self._latest = record

    def __iter__(self) -> Iterator[tuple[bytes, bytes, int]]:
        """First address, last address and owner of each, a network before those within it."""
        width = self.width
        for record in self._each() if self._is_sorted else sorted(self._each()):
            last = record[width:-_OWNER].translate(_INVERTED)
            yield record[:width], last, int.from_bytes(record[-_OWNER:], "big")

    def _each(self) -> Iterator[bytes]:
        size = 2 * self.width + _OWNER
        for at in range(0, len(self._records), size):
            yield bytes(self._records[at : at + size])


class _Names:
    """Texts by number, from 0 on, one after the other: as objects they would take three times."""

    def __init__(self) -> None:
        self._texts = bytearray()
        self._ends = array("I", [0])

    def add(self, text: bytes) -> None:
        """Append a text."""
        self._texts += text
        self._ends.append(len(self._texts))

    def __getitem__(self, index: int) -> str:
        return self._texts[self._ends[index] : self._ends[index + 1]].decode(errors="replace")


class _Reading:
    """One way through a table."""

    def __init__(self) -> None:
        self._rows = [_Rows(AF_INET, 4), _Rows(AF_INET6, 16)]
        #: Owner -> number and name of a system.
        self.numbers = array("I", [0])
        self.names = _Names()
        self.names.add(b"")
        self.good = 0
        #: A row's numbers as they are written -> owner; the first name that it has stays.
        self._owners = {b"0": _NOBODY}
        self._bad = self._first_bad = 0

    def take(self, number: int, line: bytes) -> None:
        """Read a line; raises ValueError when it is enough."""
        if number > MAX_LINES:
            raise ValueError(f"is too long; it should have at most {MAX_LINES:,} lines")
        try:
            self._row(line)
            self.good += 1
        except (OSError, ValueError, IndexError):  # the first is inet_pton's
            if not line.isspace() and not line.startswith(b"#"):
                self._leave_out(number)

    def drain(self) -> Iterator[_Rows]:
        """The rows of each family, kept no longer; raises ValueError when it was no table."""
        self._judge(FEW_BAD)
        if not self.good:
            raise ValueError("has no row that names a network and a system")
        self._owners.clear()
        while self._rows:
            yield self._rows.pop()

    @property
    def warning(self) -> str:
        """What was left out, as a predicate."""
        if not self._bad:
            return ""
        lines = "1 line" if self._bad == 1 else f"{self._bad:,} lines"
        return f"has {lines} that cannot be read and are left out, first line {self._first_bad}"

    def _leave_out(self, number: int) -> None:
        self._bad += 1
        self._first_bad = self._first_bad or number
        self._judge(MANY_BAD)

    def _judge(self, allowed: int) -> None:
        if self._bad > allowed and self._bad * BAD_SHARE > self.good:
            raise ValueError(
                "is no table as iptoasn.com or CAIDA (pfx2as) publish them, "
                f"for one from line {self._first_bad} on"
            )

    def _row(self, line: bytes) -> None:
        """Keep a row; raises one of several errors when it is none."""
        fields = line.split(b"\t", 4) if b"\t" in line else line.split(None, 4)
        start, end = fields[0].decode(), fields[1].decode()
        rows = self._rows[":" in start]
        first = rows.address(start)
        last = rows.last_of(first, int(end)) if end.isdecimal() else rows.address(end)
        rows.add(first, last, self._owner(fields[2], fields[4] if len(fields) > 4 else b""))

    def _owner(self, numbers: bytes, name: bytes) -> int:
        known = self._owners.get(numbers)
        return self._add_owner(numbers, name) if known is None else known

    def _add_owner(self, numbers: bytes, name: bytes) -> int:
        match = _NUMBERS.fullmatch(numbers.strip())
        number = int(match[1]) if match else MAX_NUMBER + 1
        if number > MAX_NUMBER:
            raise ValueError("is no number of a system")
        owner = len(self.numbers) if number else _NOBODY
        if owner:
            self.numbers.append(number)
            self.names.add(name.strip()[:MAX_NAME])
        self._owners[numbers] = owner
        return owner


# -- looking up --------------------------------------------------------------------------


class _Segments:
    """Who owns which address of a family; the starts are addresses, one after the other."""

    def __init__(self, rows: _Rows) -> None:
        self._width = rows.width
        self._starts = bytearray()
        self._owners = array("I")
        self._cut(rows)

    def __len__(self) -> int:
        return len(self._owners)

    def __getitem__(self, index: int) -> bytes:
        return bytes(self._starts[index * self._width : (index + 1) * self._width])

    def owner(self, address: bytes) -> int:
        """The owner of an address."""
        index = bisect_right(self, address)
        return self._owners[index - 1] if index else _NOBODY

    def _cut(self, rows: _Rows) -> None:
        """Cut the networks where one begins or ends within another."""
        #: Last address and owner of each network that goes on, the innermost at the end.
        around: list[tuple[bytes, int]] = []

        def close(before: bytes) -> None:
            while around and around[-1][0] < before:
                last, _ = around.pop()
                # What ends with the network around it is followed by what is around both.
                if not around or around[-1][0] > last:
                    follows = int.from_bytes(last, "big") + 1
                    owner = around[-1][1] if around else _NOBODY
                    self._begin(follows.to_bytes(self._width, "big"), owner)

        for first, last, owner in rows:
            close(first)
            # A range that begins within another one and ends behind it takes its end.
            while around and around[-1][0] < last:
                around.pop()
            self._begin(first, owner)
            around.append((last, owner))
        close(b"\xff" * self._width)

    def _begin(self, start: bytes, owner: int) -> None:
        """Let a segment begin; one that begins at the same address is replaced."""
        if self._owners and self[len(self) - 1] == start:
            self._owners[-1] = owner
        elif not self._owners or self._owners[-1] != owner:
            self._starts += start
            self._owners.append(owner)
