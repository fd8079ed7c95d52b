"""Which gateway leads to a destination: the kernel's answer, byte by byte."""

from __future__ import annotations

import socket
import struct

import pytest

from exporter.probing import routes
from exporter.probing.routes import gateway_to

DESTINATION, OUTGOING, GATEWAY, VIA = 1, 4, 5, 18


def attribute(kind: int, value: bytes) -> bytes:
    """One struct rtattr, padded."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def route(*attributes: bytes, family: int = socket.AF_INET) -> bytes:
    """The body of the kernel's answer."""
    return struct.pack("=8BI", family, 32, *(0,) * 7) + b"".join(attributes)


def told(
    monkeypatch: pytest.MonkeyPatch, answer: bytes | OSError | None, destination: str
) -> str | None:
    """What is made of an answer."""

    def ask(_question: int, _body: bytes) -> list[bytes]:
        if isinstance(answer, OSError):
            raise answer
        return [] if answer is None else [answer]

    monkeypatch.setattr(routes, "ask", ask)
    return gateway_to(destination)


def test_the_gateway_of_an_ipv4_route(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands among other attributes."""
    answer = route(
        attribute(DESTINATION, socket.inet_aton("192.0.2.1")),
        attribute(OUTGOING, b"\x02\0\0\0"),
        attribute(GATEWAY, socket.inet_aton("10.0.2.2")),
    )
    assert told(monkeypatch, answer, "192.0.2.1") == "10.0.2.2"


def test_the_gateway_of_an_ipv6_route(monkeypatch: pytest.MonkeyPatch) -> None:
    """As text like any other address."""
    gateway = attribute(GATEWAY, socket.inet_pton(socket.AF_INET6, "fe80::1"))
    answer = route(gateway, family=socket.AF_INET6)
    assert told(monkeypatch, answer, "2001:db8::1") == "fe80::1"


def test_an_ipv6_gateway_of_an_ipv4_route(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 8950: the gateway's family stands before its address."""
    via = struct.pack("=H", socket.AF_INET6) + socket.inet_pton(socket.AF_INET6, "fe80::1")
    assert told(monkeypatch, route(attribute(VIA, via)), "192.0.2.1") == "fe80::1"


def test_a_route_without_a_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    """The destination is on a network of this host."""
    answer = route(attribute(OUTGOING, b"\x02\0\0\0"))
    assert told(monkeypatch, answer, "192.0.2.1") == ""


@pytest.mark.parametrize(
    "answer",
    [
        *(None, b"\0" * 8, route(attribute(GATEWAY, b"\0" * 5)), route(b"\1\0\0\0")),
        *(TimeoutError("no answer"), PermissionError("sandbox")),
    ],
    ids=["no route", "too short", "no address", "no attribute", "no answer", "not permitted"],
)
def test_what_is_not_told(monkeypatch: pytest.MonkeyPatch, answer: bytes | OSError | None) -> None:
    """An error, a truncated answer and a sandbox that has no netlink are all "not told"."""
    assert told(monkeypatch, answer, "192.0.2.1") is None


def test_this_host_is_no_gateway_away() -> None:
    """The real kernel says that its own address needs no gateway."""
    assert gateway_to("127.0.0.1") == ""
