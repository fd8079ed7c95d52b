"""The host's own networks: what becomes of what the kernel says, and of nonsense."""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter import networks
from exporter.diagnosis.zones import Own
from exporter.model import Source
from exporter.networks import revealed

CELL = Own(ip_network("10.0.4.7/32"), "this instance's cell", on_link=False)


def attribute(kind: int, address: str) -> bytes:
    """An attribute that holds an IPv4 address."""
    return struct.pack("=HH4s", 8, kind, socket.inet_aton(address))


def told(local: str, peer: str, prefix: int) -> bytes:
    """The body of an RTM_NEWADDR."""
    head = struct.pack("=BBBBi", socket.AF_INET, prefix, 0, 0, 2)
    return head + attribute(1, peer) + attribute(2, local)


def kernel_says(
    monkeypatch: pytest.MonkeyPatch, *addresses: bytes, link_flags: int | None = 0
) -> None:
    """Have the kernel tell of these addresses, all on one link."""
    link = [] if link_flags is None else [struct.pack("=BxHiII", 0, 0, 2, link_flags, 0)]

    def ask(question: int, _body: bytes, *, dump: bool = False) -> list[bytes]:
        assert dump is (question == 22)
        return list(addresses) if question == 22 else link

    monkeypatch.setattr(networks, "ask", ask)


def shown(source: Source = Source()) -> list[tuple[str, bool]]:  # noqa: B008 - frozen
    """What is revealed, without words."""
    return [(str(own.network), own.on_link) for own in revealed(source)]


def test_silk_s_address_stands_for_the_network_of_all_containers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A /32 of 10.255.0.0/16 with 169.254.0.1 at the other end is Cloud Foundry's container."""
    kernel_says(monkeypatch, told("10.255.1.2", "169.254.0.1", 32))
    assert shown() == [("10.255.0.0/16", False), ("169.254.0.1/32", True)]


@pytest.mark.parametrize(
    ("local", "peer", "prefix", "expected"),
    [
        ("10.255.1.2", "10.255.1.2", 24, ("10.255.1.0/24", True)),
        ("10.255.1.2", "10.255.0.1", 32, ("10.255.0.1/32", True)),
        ("10.254.1.2", "169.254.0.1", 32, ("169.254.0.1/32", True)),
    ],
)
def test_a_network_that_only_resembles_silk_s(
    local: str,
    peer: str,
    prefix: int,
    expected: tuple[str, bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another prefix, another gateway or another network says nothing of other containers."""
    kernel_says(monkeypatch, told(local, peer, prefix))
    found = shown()
    assert expected in found
    assert "10.255.0.0/16" not in dict(found)


@pytest.mark.parametrize("link_flags", [0x10, None])
def test_a_link_that_may_lead_elsewhere_counts_with_the_own_address(
    link_flags: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other end of a tunnel is not one's own, and neither is one of which nothing is told."""
    kernel_says(monkeypatch, told("10.8.0.6", "10.8.0.5", 32), link_flags=link_flags)
    assert shown() == [("10.8.0.6/32", False)]


def test_the_cell_is_the_platforms(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cell's address, in whose name all traffic leaves, is inside."""
    kernel_says(monkeypatch)
    assert revealed(Source(cell="10.0.4.7")) == (CELL,)


@pytest.mark.parametrize("cell", ["", "node-7", "10.0.0.0/8", "10.0.0.7:61001"])
def test_a_cell_that_is_no_address_reveals_nothing(
    cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node's name, a network or an address with a port is no address."""
    kernel_says(monkeypatch)
    assert revealed(Source(cell=cell)) == ()


def test_a_kernel_that_refuses_reveals_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without rtnetlink the runtime's own word is all there is."""

    def refuse(*_: object) -> socket.socket:
        raise PermissionError

    monkeypatch.setattr(socket, "socket", refuse)
    assert revealed(Source(cell="10.0.4.7")) == (CELL,)


@given(st.binary(max_size=64))
def test_nonsense_reveals_nothing_and_stops_nothing(body: bytes) -> None:
    """Whatever the kernel's answer holds, nothing is raised."""
    with pytest.MonkeyPatch.context() as patch:
        kernel_says(patch, body, told("10.9.0.1", "10.9.0.1", 24))
        assert len(revealed(Source())) <= 4
