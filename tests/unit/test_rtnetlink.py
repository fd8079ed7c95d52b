"""The kernel's answers about interfaces and routes: real ones, and nonsense."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter import rtnetlink

GETLINK, GETADDR = 18, 22


def test_a_dump_tells_of_all() -> None:
    """Any host has a loopback, at least."""
    assert rtnetlink.ask(GETADDR, bytes(8), dump=True)


def test_a_question_about_nothing_has_no_answer() -> None:
    """The kernel's error is no answer, and nothing is waited for after it."""
    nobody = struct.pack("=BxHiII", 0, 0, 0x7FFFFFFF, 0, 0)
    assert rtnetlink.ask(GETLINK, nobody) == []


@pytest.mark.parametrize("read", [rtnetlink.messages, rtnetlink.attributes])
@given(data=st.binary(max_size=64))
def test_reading_ends_where_the_data_ends(
    read: Callable[[bytes], Iterable[object]], data: bytes
) -> None:
    """Any data is read to its end or refused as a whole."""
    try:
        found = list(read(data))
    except struct.error:
        return
    assert len(found) <= len(data) // 4
