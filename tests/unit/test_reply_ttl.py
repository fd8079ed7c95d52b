"""The TTL of answers that nobody shows: the search, and who is asked when."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import count, cycle, repeat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model import FULL_TTL, Failure, FailureReason, ProbeError
from exporter.probing import reply_ttl
from exporter.probing.reply_ttl import HIGHEST_TTL, MOST_SYNS, search

NO_LOSS = repeat(False)
LOOPBACKS = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}


class Asked:
    """An endpoint whose answers have a TTL on each way; `lost` says which of them get lost."""

    def __init__(self, ttls: Sequence[int], lost: Iterator[bool] = NO_LOSS) -> None:
        self.questions: list[tuple[int, int]] = []
        self._ttls = ttls
        self._lost = lost

    async def __call__(self, minimum: int, way: int) -> bool | None:
        """What comes of one SYN."""
        self.questions.append((minimum, way))
        return None if next(self._lost) else self._ttls[way % len(self._ttls)] >= minimum


def searched(asked: Asked, expected: int) -> int | None:
    """What the search finds."""
    return asyncio.run(search(expected, asked))


def test_the_expected_ttl_takes_two_questions() -> None:
    """The ordinary case is over when the next higher TTL is dropped, and both went one way."""
    asked = Asked([61])
    assert searched(asked, 61) == 61
    assert asked.questions == [(61, 0), (62, 0)]


@pytest.mark.parametrize(("ttl", "most"), [(125, 4), (252, 6)])
def test_another_initial_ttl_takes_few_questions(ttl: int, most: int) -> None:
    """The same distance from a host that begins with 128 or 255 is guessed."""
    asked = Asked([ttl])
    assert searched(asked, 61) == ttl
    assert len(asked.questions) == most


@pytest.mark.parametrize("distance", [1, 8, 30])
def test_every_ttl_is_found(distance: int) -> None:
    """Whatever was expected, each TTL that a packet may have is found within the bound."""
    expected = FULL_TTL - distance + 1
    ttls = range(1, HIGHEST_TTL + 1)
    assert [searched(Asked([ttl]), expected) for ttl in ttls] == list(ttls)


@given(
    expected=st.integers(1, HIGHEST_TTL),
    ttl=st.integers(1, HIGHEST_TTL),
    lost=st.lists(st.booleans(), min_size=MOST_SYNS, max_size=MOST_SYNS),
)
def test_loss_never_makes_another_ttl(expected: int, ttl: int, lost: list[bool]) -> None:
    """A question without an answer is put again, and silence proves nothing."""
    asked = Asked([ttl], iter(lost))
    assert searched(asked, expected) in (ttl, None)
    assert len(asked.questions) <= MOST_SYNS


@given(
    expected=st.integers(1, HIGHEST_TTL),
    ttls=st.lists(st.integers(1, HIGHEST_TTL), min_size=2, max_size=5),
)
def test_several_paths_never_make_another_ttl(expected: int, ttls: list[int]) -> None:
    """Where answers differ from way to way, what is found is one of theirs."""
    assert searched(Asked(ttls), expected) in (*ttls, None)


def test_one_loss_in_three_is_made_good() -> None:
    """An ordinary search outlasts a path that loses much."""
    assert searched(Asked([61], cycle([True, False, False])), 61) == 61


# -- the measurement -------------------------------------------------------------------


def measure(address: str, port: int, expected: int = FULL_TTL) -> int | None:
    """One measurement on a loop of its own."""
    return asyncio.run(reply_ttl.reply_ttl(address, port, expected))


@pytest.mark.parametrize("address", LOOPBACKS)
def test_loopback(address: str) -> None:
    """A closed and an open port of this host answer with the initial TTL; nothing stays open."""
    before = set(Path("/proc/self/fd").iterdir())
    with socket.socket(LOOPBACKS[address]) as closed:
        closed.bind((address, 0))
        port = closed.getsockname()[1]
        assert measure(address, port) == FULL_TTL
        closed.listen()
        assert measure(address, port) == FULL_TTL
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_without_the_kernel_s_count_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel does not say what it drops, no upper bound could be proved."""
    monkeypatch.setattr(reply_ttl, "count_ttl_drops", lambda: None)
    monkeypatch.setattr(reply_ttl, "_Endpoint", None)
    assert measure("127.0.0.1", 9) is None


def test_a_host_without_a_route_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """What keeps this host from sending is no answer, and no exception."""

    def refuse(*_: object) -> None:
        raise ProbeError(Failure(FailureReason.NO_ROUTE, "no route"))

    monkeypatch.setattr(reply_ttl, "route_to", refuse)
    assert measure("127.0.0.1", 9) is None


def endpoints(ask: Callable[[int, int], Awaitable[bool | None]]) -> type:
    """Make the class of endpoints that are asked like this."""

    class Fake:
        def __init__(self, _address: str, _port: int) -> None:
            self.ask = ask

    return Fake


def test_an_endless_search_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is bounded whatever the endpoint does."""

    async def never(_minimum: int, _way: int) -> bool | None:
        await asyncio.Event().wait()
        return None

    monkeypatch.setattr(reply_ttl, "_Endpoint", endpoints(never))
    monkeypatch.setattr(reply_ttl, "SECONDS", 0.01)
    assert measure("127.0.0.1", 9) is None


@pytest.mark.parametrize("address", LOOPBACKS)
def test_what_other_programs_drop_is_no_answer(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody answers, nothing is concluded from a count that rises all the time."""
    monkeypatch.setattr(reply_ttl, "count_ttl_drops", count().__next__)
    monkeypatch.setattr(reply_ttl, "FIRST_PATIENCE", 0.05)
    with socket.socket(LOOPBACKS[address]) as busy, socket.socket(LOOPBACKS[address]) as caller:
        busy.bind((address, 0))
        busy.listen(0)
        caller.connect(busy.getsockname())  # there is no room for another
        endpoint = reply_ttl._Endpoint(address, busy.getsockname()[1])
        assert asyncio.run(endpoint.ask(FULL_TTL, 0)) is None


def test_several_measurements_at_once_do_not_disturb_each_other() -> None:
    """Each finds its endpoint's TTL, whatever the others have the kernel drop."""

    async def at_once() -> list[int | None]:
        ttls = (1, FULL_TTL, FULL_TTL + 1, 128, HIGHEST_TTL)
        measuring = (reply_ttl.reply_ttl("127.0.0.1", port, ttl) for ttl in ttls)
        return await asyncio.gather(*measuring)

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        assert asyncio.run(at_once()) == [FULL_TTL] * 5
