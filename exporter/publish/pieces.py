"""Answers in pieces, so that nothing else in the loop waits for a long one.

A long answer is an iterator: each `next` is quick, and b"" says that there is nothing to send
yet. Whoever runs it in the loop asks `Turns` after every piece.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Iterator
from itertools import chain

#: The loop has its turn after so much work, in seconds; a piece that takes longer is not cut.
SLICE_SECONDS = 0.002

#: zlib.compressobj: with the header and trailer of gzip (RFC 1952).
_GZIP = 16 + zlib.MAX_WBITS


class Turns:
    """Gives the loop its turn whenever a slice of time has been worked."""

    def __init__(self) -> None:
        self._over = time.perf_counter() + SLICE_SECONDS

    async def next(self) -> None:
        """Let everything else run, if it is time for that."""
        if time.perf_counter() >= self._over:
            await asyncio.sleep(0)
            self._over = time.perf_counter() + SLICE_SECONDS


async def begun(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same pieces, worked up to the first that holds something; raises what they raise."""
    turns = Turns()
    for piece in pieces:
        if piece:
            return chain((piece,), pieces)
        await turns.next()
    return pieces


async def whole(pieces: Iterator[bytes]) -> bytes:
    """All of them in one."""
    turns, made = Turns(), []
    for piece in pieces:
        made.append(piece)
        await turns.next()
    return b"".join(made)


def gzipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces compressed, as one stream."""
    # Level 1: a megabyte of metrics takes 5 ms, level 9 takes 50.
    compressor = zlib.compressobj(1, wbits=_GZIP)
    for piece in pieces:
        yield compressor.compress(piece)
    yield compressor.flush()
