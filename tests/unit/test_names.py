"""Reverse DNS: names come in the background, bounded, and only if they are names."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from exporter import names
from exporter.names import FAILURE_LIFETIME, LIFETIME, THREADS, Names, host_name

#: Longer than any look-up here takes.
PATIENCE = 30.0


class Zone:
    """A reverse zone that counts who is asked for; raises what it has in the place of a name."""

    def __init__(self, answers: Mapping[str, str | Exception]) -> None:
        self.answers = dict(answers)
        self.asked: list[str] = []

    def lookup(self, address: str) -> str:
        """The answer, OSError where there is none."""
        self.asked.append(address)
        answer = self.answers.get(address, socket.gaierror(socket.EAI_NONAME, "no name"))
        if isinstance(answer, Exception):
            raise answer
        return answer


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def known(found: Names, *addresses: str) -> list[str | None]:
    """The names, once they have been looked up."""
    for address in addresses:
        found.of(address)
    found.wait(PATIENCE)
    return [found.of(address) for address in addresses]


@contextmanager
def hanging() -> Iterator[tuple[Names, list[str]]]:
    """Names whose resolver answers nobody before the end, and whom it was asked for."""
    release, asked = threading.Event(), []

    def lookup(address: str) -> str:
        asked.append(address)
        release.wait(PATIENCE)
        return "late.example"

    try:
        yield Names(lookup), asked
    finally:
        release.set()


# -- when they come --------------------------------------------------------------------


def test_a_name_is_there_for_whoever_asks_later() -> None:
    """The first question is answered at once with nothing, a later one with the name."""
    with hanging() as (found, _):
        assert found.of("10.9.0.2") is None
    found.wait(PATIENCE)
    assert found.of("10.9.0.2") == "late.example"


def test_a_resolver_that_hangs_blocks_nobody() -> None:
    """Questions are answered at once, wait() gives up, and no more than the threads are busy."""
    with hanging() as (found, asked):
        assert [found.of(f"10.9.0.{n}") for n in range(50)] == [None] * 50
        found.wait(0.01)
        assert len(asked) <= THREADS
    found.wait(PATIENCE)
    assert len(asked) == 50


def test_an_address_is_looked_up_once_at_a_time() -> None:
    """Asking again while a look-up is under way starts no other."""
    with hanging() as (found, asked):
        for _ in range(10):
            found.of("10.9.0.2")
    found.wait(PATIENCE)
    assert asked == ["10.9.0.2"]


def test_questions_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What finds the queue full is asked for when somebody wants it again."""
    monkeypatch.setattr(names, "MAX_WAITING", 3)
    with hanging() as (found, asked):
        for n in range(20):
            found.of(f"10.9.0.{n}")
    found.wait(PATIENCE)
    assert len(asked) <= 3 + THREADS
    assert known(found, "10.9.0.19") == ["late.example"]


# -- how long they count ---------------------------------------------------------------


def test_names_and_failures_have_their_lifetimes() -> None:
    """A name counts for an hour, a failure for ten minutes; then they are looked up again."""
    zone, clock = Zone({"10.9.0.2": "a.example"}), Clock()
    found = Names(zone.lookup, clock)
    assert known(found, "10.9.0.2", "10.9.0.3") == ["a.example", None]
    clock.now += FAILURE_LIFETIME - 1
    known(found, "10.9.0.2", "10.9.0.3")
    assert len(zone.asked) == 2
    clock.now += 2
    known(found, "10.9.0.2", "10.9.0.3")
    assert zone.asked[2:] == ["10.9.0.3"]
    clock.now += LIFETIME
    zone.answers["10.9.0.2"] = "b.example"
    assert found.of("10.9.0.2") == "a.example", "the old one until the new one is there"
    assert known(found, "10.9.0.2") == ["b.example"]


@pytest.mark.parametrize(
    ("error", "kept"), [(socket.EAI_AGAIN, "a.example"), (socket.EAI_NONAME, None)]
)
def test_a_resolver_that_does_not_answer_takes_no_name_away(error: int, kept: str | None) -> None:
    """A name ends when the resolver says that there is none, not when it says nothing."""
    zone, clock = Zone({"10.9.0.2": "a.example"}), Clock()
    found = Names(zone.lookup, clock)
    known(found, "10.9.0.2")
    clock.now += LIFETIME
    zone.answers["10.9.0.2"] = socket.gaierror(error, "")
    assert known(found, "10.9.0.2") == [kept]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address that was learnt first is forgotten first."""
    monkeypatch.setattr(names, "MAX_KNOWN", 2)
    zone = Zone({f"10.9.0.{n}": f"r{n}.example" for n in range(3)})
    found = Names(zone.lookup)
    for n in range(3):
        known(found, f"10.9.0.{n}")
    assert [found.of(f"10.9.0.{n}") for n in (1, 2)] == ["r1.example", "r2.example"]
    assert len(zone.asked) == 3
    found.of("10.9.0.0")
    found.wait(PATIENCE)
    assert len(zone.asked) == 4


# -- what is a name --------------------------------------------------------------------

LABEL = "a" * 63


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("core1.fra.example.net", "core1.fra.example.net"),
        ("xe-0_1.example.", "xe-0_1.example"),
        ("_gateway", "_gateway"),
        (f"{LABEL}.{LABEL}.{LABEL}.{'a' * 61}", f"{LABEL}.{LABEL}.{LABEL}.{'a' * 61}"),
        *(
            (text, None)
            for text in (
                *("", ".", "a..b", ".a", "-a.example", "a-.example", "a b", "a/b", "a:b"),
                *("10.9.5.2", "2001:db8::1", "1.2.3", "example.7"),
                *("<b>x</b>", "a\n", "a.example\n", "\x1b[31m", "a\u202eb", "b\xfccher.example"),
                *(f"{LABEL}a.example", f"{LABEL}.{LABEL}.{LABEL}.{'a' * 62}", "a." * 200),
            )
        ),
    ],
)
def test_only_host_names_are_names(text: str, name: str | None) -> None:
    """Letters, digits, hyphens, underscores and dots in bounds, and nothing like an address."""
    assert host_name(text) == name


@pytest.mark.parametrize(
    "answer", ["<script>.example", "10.9.5.2", UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")]
)
def test_a_hostile_name_is_a_failure(answer: str | Exception) -> None:
    """What is no host name leaves the address without one, and ends no thread."""
    found = Names(Zone({"10.9.0.2": answer, "10.9.0.3": "a.example"}).lookup)
    assert known(found, "10.9.0.2", "10.9.0.3") == [None, "a.example"]


def test_the_system_is_asked_for_the_name_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address without a name is an error, not its own name."""
    asked = []

    def getnameinfo(address: tuple[str, int], flags: int) -> tuple[str, str]:
        asked.append((address, flags))
        return "a.example", "0"

    monkeypatch.setattr(socket, "getnameinfo", getnameinfo)
    assert known(Names(), "2001:db8::1") == ["a.example"]
    assert asked == [(("2001:db8::1", 0), socket.NI_NAMEREQD)]
