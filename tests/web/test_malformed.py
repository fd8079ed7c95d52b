"""Requests that are none: refused, bounded, not echoed, hardly logged."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.publish import server
from tests.web.serving import PATIENCE, Content, ask, read_to_end, say, serving

#: What is said -> the status line's number, or None for a connection that just ends. The
#: server ends each by itself: what it understands says HTTP/1.0, where one answer is all.
MALFORMED: dict[bytes, int | None] = {
    b"\r\n\r\n": 400,
    b"GARBAGE\r\n\r\n": 400,
    b"GET /\r\n\r\n": 400,
    b"GET / HTTP/2.0\r\n\r\n": 400,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": 400,
    b"GET  / HTTP/1.1\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nno colon\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nA : b\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nA: b\x00c\r\n\r\n": 400,
    b"GET /\x00 HTTP/1.1\r\n\r\n": 400,
    b"POST /-/reload HTTP/1.1\r\nContent-Length: -1\r\n\r\n": 400,
    b"POST /-/reload HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n": 400,
    b"POST /-/reload HTTP/1.1\r\nContent-Length: 2000\r\n\r\n": 400,
    b"POST /-/reload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n": 400,
    b"POST /-/reload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n": 400,
    b"POST /-/reload HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n": 400,
    b"POST /-/reload HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0": 400,
    b"POST /-/trace/db HTTP/1.1\r\nContent-Length: 2000\r\n\r\n": 400,
    b"POST /-/trace/db HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n": 400,
    b"POST /-/trace/%zz%f HTTP/1.0\r\n\r\n": 404,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS ClientHello\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nA: " + b"a" * 20_000 + b"\r\n\r\n": None,
    b"GET / HTTP/1.1\r\n" + b"A: a\r\n" * 5_000 + b"\r\n": None,
    b"a" * 200_000: None,
    b"GET /" + b"a" * 5_000 + b" HTTP/1.0\r\n\r\n": 414,
    b"GET * HTTP/1.0\r\n\r\n": 404,
    b"GET http://elsewhere.example/ HTTP/1.0\r\n\r\n": 404,
    b"GET /../../etc/passwd HTTP/1.0\r\n\r\n": 404,
    b"GET /targets/%zz%f HTTP/1.0\r\n\r\n": 404,
    b"GET / HTTP/1.0\r\n\r\n": 200,
}


def status_of(answer: bytes) -> int | None:
    """The number in the first status line."""
    return int(answer.split()[1]) if answer else None


@pytest.mark.parametrize("request_", MALFORMED, ids=lambda data: repr(data[:60]))
def test_a_malformed_request_is_refused(port: int, content: Content, request_: bytes) -> None:
    """Each gets its status, or just the end of the connection; the next client is served."""
    assert status_of(say(port, request_)) == MALFORMED[request_]
    assert (content.reloads, content.traced) == (0, [])
    assert ask(port, "/-/healthy").status == 200


@pytest.mark.parametrize("request_", [data for data in MALFORMED if len(data) < 1000])
def test_a_request_may_arrive_byte_by_byte(port: int, request_: bytes) -> None:
    """How a request is cut into packets makes no difference."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for byte in request_:
                client.sendall(bytes([byte]))
        except OSError:
            pass  # refused before its end
        assert status_of(read_to_end(client)) == MALFORMED[request_]


@pytest.fixture(scope="module")
def steady_port() -> Iterator[int]:
    """One server for all of hypothesis' examples."""
    with serving(Content().site) as port:
        yield port


FRAGMENTS = st.sampled_from(
    [
        b"GET ",
        b"POST ",
        b"/",
        b"/metrics?name[]=",
        b"/targets/%",
        b" HTTP/1.1",
        b"\r\n",
        b"\r\n\r\n",
        b"Content-Length: ",
        b"Transfer-Encoding: chunked",
        b"Authorization: Basic ",
        b"Accept: application/openmetrics-text;version=",
        b"Expect: 100-continue",
        b"Host: ",
        b"0",
    ]
)


@settings(max_examples=300)
@given(st.lists(FRAGMENTS | st.binary(max_size=50), max_size=20).map(b"".join))
def test_no_bytes_bring_the_server_down(steady_port: int, data: bytes) -> None:
    """Whatever arrives, the answer is HTTP or nothing, shows no fault, and health stays.

    Most examples are unfinished, so the client ends them by closing its side.
    """
    answer = say(steady_port, data, half_close=True)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
    assert b"Traceback" not in answer
    assert b" 500 " not in answer
    assert ask(steady_port, "/-/healthy").status == 200


def test_malformed_requests_do_not_flood_the_log(
    port: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of them leave one line without their words, at the level for information."""
    monkeypatch.setattr(server._HUSH, "_quiet_until", 0.0)
    caplog.set_level(logging.DEBUG)
    for request in MALFORMED:
        for _ in range(10):
            say(port, request)
    written = [record for record in caplog.records if record.name != "asyncio"]
    assert [(record.name, record.levelno) for record in written] == [
        ("exporter.publish.server", logging.INFO)
    ]
    assert written[0].exc_info is None
    assert written[0].getMessage().startswith("malformed or broken-off requests")
