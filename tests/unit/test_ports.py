"""The source ports that the syn engine holds."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from exporter.probing.engines import bpf
from exporter.probing.engines import ports as ports_module
from exporter.probing.engines.ports import MOST_PORTS, ORDINARY_PORTS, SourcePorts

ONE, OTHER = ("10.9.5.2", 443), ("10.9.5.3", 443)


class Held:
    """Source ports, and how often they were said to have changed."""

    def __init__(self) -> None:
        self.changes = 0
        self.ports = SourcePorts(socket.AF_INET, self._note)

    def _note(self) -> None:
        self.changes += 1


@pytest.fixture
def held() -> Iterator[Held]:
    """Ports that are let go of when the test ends."""
    one = Held()
    yield one
    one.ports.close()


def test_a_thousand_targets_share_a_handful_of_ports(held: Held) -> None:
    """However many endpoints there are, few ports do, and they do not change."""
    taken = {held.ports.take(("10.9.5.2", port), 0) for port in range(1, 1001)}
    assert len(taken) == len(held.ports.held) == ORDINARY_PORTS
    assert held.changes == 0


def test_flows_to_one_endpoint_differ(held: Held) -> None:
    """No two flows to the same endpoint have the same port, however many there are."""
    taken = [held.ports.take(ONE, 0) for _ in range(ORDINARY_PORTS + 20)]
    assert len(set(taken)) == len(taken)


def test_the_preferred_port_is_taken_if_it_is_free(held: Held) -> None:
    """A flow gets back the port that it had, but not while another to its endpoint has it."""
    port = held.ports.take(ONE, 0)
    assert held.ports.take(OTHER, port) == port
    assert held.ports.take(ONE, port) != port
    held.ports.give_back(ONE, port)
    assert held.ports.take(ONE, port) == port


def test_a_preferred_port_of_before_is_held_anew(held: Held) -> None:
    """The port of a program that has ended is taken up, unless an application has it."""
    with socket.socket() as application:
        application.bind(("", 0))
        port = application.getsockname()[1]
        assert held.ports.take(ONE, port) != port
    assert held.ports.take(ONE, port) == port


def test_idle_ports_go_when_there_are_too_many(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the bound those that no flow uses are free for others; the used and ordinary ones stay."""
    monkeypatch.setattr(ports_module, "MOST_PORTS", ORDINARY_PORTS + 2)
    ordinary = set(held.ports.held)
    used, idle, last = free_ports(3)
    for port in (used, idle):
        held.ports.take(ONE, port)
    held.ports.give_back(ONE, idle)
    assert held.ports.take(ONE, last) == last
    assert set(held.ports.held) == {*ordinary, used, last}
    assert held.changes == 3
    with socket.socket() as application:
        application.bind(("", idle))


def free_ports(number: int) -> list[int]:
    """Ports that nobody has."""
    with ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def test_the_bound_leaves_room_in_a_filter() -> None:
    """All ports that are held fit into one program."""
    assert MOST_PORTS <= bpf.MOST_PORTS
