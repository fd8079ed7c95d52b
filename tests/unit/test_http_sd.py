"""Lists from a web server, a real one on loopback: what is asked, and what is believed."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from base64 import b64decode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.config import load
from exporter.discovery import http
from exporter.discovery.http import HttpWatch
from exporter.settings import HttpSource, Lists, Login

#: More than any look takes; a test that waits longer has failed.
PATIENCE = 20.0
#: Instead of the ten seconds that another end has.
SHORT = 0.3
NO_ANSWER = "sent no whole answer of at most 1,048,576 bytes"

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def listing(*words: str) -> bytes:
    """A list in JSON."""
    return json.dumps([{"targets": words}]).encode()


def answer(
    body: bytes, status: str = "200 OK", kind: str = "application/json", *more: str
) -> bytes:
    """A whole answer."""
    lines = (
        f"HTTP/1.1 {status}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        *more,
        "",
        "",
    )
    return "\r\n".join(lines).encode() + body


@dataclass
class Server:
    """Answers each connection with the same bytes, then as it is told to go on."""

    answer: bytes = b""
    then: Behaviour | None = None
    requests: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        try:
            self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(self.answer)
            await writer.drain()
            if self.then:
                await self.then(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the other end had enough
        finally:
            writer.close()


def lists() -> Lists:
    """What reads lists."""
    found = load({"HTTP_SD_URL": "http://127.0.0.1/"}).sources
    assert found
    return found.lists


def source(port: int, scheme: str = "http", **values: Any) -> HttpSource:
    """A source on loopback."""
    url = f"{scheme}://localhost:{port}/list?token=secret"
    return replace(HttpSource("source", url, 60.0), **values)


async def serving(
    server: Server, use: Callable[[int], Awaitable[None]], context: ssl.SSLContext | None = None
) -> None:
    """Serve on a free port while `use` runs."""
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
    async with listening, asyncio.timeout(PATIENCE):
        await use(listening.sockets[0].getsockname()[1])


def looked(server: Server, **values: Any) -> HttpWatch:
    """A watch that has looked once."""
    watches = []

    async def use(port: int) -> None:
        watch = HttpWatch(source(port, **values), lists())
        await watch.look()
        watches.append(watch)

    asyncio.run(serving(server, use))
    return watches[0]


def names(watch: HttpWatch) -> list[str]:
    """What the source names now."""
    return [target.name for target in watch.found.targets]


# -- what is asked -----------------------------------------------------------------------


def test_what_is_listed_is_found() -> None:
    """An answer of the right kind gives its targets; the request says what Prometheus' says."""
    server = Server(answer(listing("a:1", "b"), kind="application/json; charset=utf-8"))
    watch = looked(server)
    assert (names(watch), watch.found.left_out, watch.found.failure) == (["a:1"], 1, "")
    (request,) = server.requests
    lines = request.split("\r\n")
    assert lines[0] == "GET /list?token=secret HTTP/1.1"
    assert "Accept: application/json" in lines
    assert "X-Prometheus-Refresh-Interval-Seconds: 60" in lines
    assert "Authorization" not in request
    assert "Accept-Encoding" not in request


def test_a_login_is_sent(tmp_path: Path) -> None:
    """User and password go as basic authentication, a token as it is, from a file as well."""
    file = tmp_path / "secret"
    file.write_text("from file\n")
    logins = {
        Login("Basic", "user", "pass:word"): "Basic user:pass:word",
        Login("Basic", "user", file=file): "Basic user:from file",
        Login("Bearer", "", "token"): "Bearer token",
        Login("Token", "", file=file): "Token from file",
    }
    for login, expected in logins.items():
        server = Server(answer(b"[]"))
        looked(server, login=login)
        header = server.requests[0].partition("Authorization: ")[2].partition("\r\n")[0]
        scheme, _, sent = header.partition(" ")
        assert f"{scheme} {b64decode(sent).decode() if scheme == 'Basic' else sent}" == expected


@pytest.mark.parametrize("content", [b"", b"a\nb", b"\xff", b"x" * 5_000])
def test_what_is_no_secret_is_not_sent(tmp_path: Path, content: bytes) -> None:
    """A file that cannot be a header's value ends the look, and is not quoted."""
    file = tmp_path / "secret"
    file.write_bytes(content)
    server = Server(answer(b"[]"))
    found = looked(server, login=Login("Bearer", file=file)).found
    assert found.failure == f"source: {file} should hold one secret of at most 4,096 bytes"
    assert server.requests == []


def test_a_secret_that_is_missing_ends_the_look(tmp_path: Path) -> None:
    """Without its secret no request goes out."""
    found = looked(Server(), login=Login("Bearer", file=tmp_path / "none")).found
    assert found.failure == "source: No such file or directory"


def test_no_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment says of proxies is for others."""
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert names(looked(Server(answer(listing("a:1"))))) == ["a:1"]


# -- what is believed --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "failure"),
    [
        (answer(b"oops", "500 <b>Bad"), "answered with status 500"),
        (answer(b"", "204 No Content"), "answered with status 204"),
        (
            answer(b"[]", "302 Found", "application/json", "Location: http://127.0.0.1:1/"),
            "answered with status 302",
        ),
        (
            answer(b"<html>", kind="text/html"),
            "answered with something else than application/json",
        ),
        (
            answer(b"[]", kind="application/json-seq"),
            "answered with something else than application/json",
        ),
        (answer(b"<html>"), "cannot be read as JSON, from line 1, column 1 on"),
        (answer(b"{}"), "should be a list of groups with targets and labels"),
        (answer(b""), "is empty; a list without targets is written []"),
        (
            answer(listing(*(f"h{n}:1" for n in range(2_001)))),
            "names more than 2,000 targets",
        ),
        (answer(b"[]")[:-1], NO_ANSWER),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n",
            NO_ANSWER,
        ),
        (b"\x00" * 100_000, NO_ANSWER),
        (b"SSH-2.0-x\r\n\r\n", NO_ANSWER),
        (b"", NO_ANSWER),
        (
            b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 10_000 + b"\r\n",
            NO_ANSWER,
        ),
    ],
)
def test_what_cannot_be_believed_is_said(sent: bytes, failure: str) -> None:
    """Another status, type or content is one printable line, and names nobody."""
    found = looked(Server(sent)).found
    assert found.targets == ()
    assert found.failure.removeprefix("source").lstrip(": ") == failure


@settings(max_examples=40)
@given(
    head=st.sampled_from(
        [
            b"",
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n",
        ]
    ),
    rest=st.binary(max_size=100),
)
def test_whatever_a_server_sends_is_one_line(head: bytes, rest: bytes) -> None:
    """Bytes of any kind end in a line that prints, and in no exception."""
    failure = looked(Server(head + rest)).found.failure
    assert failure
    assert failure.isprintable()


def test_a_million_targets_are_not_read() -> None:
    """An answer ends where there can be no more, however it is framed."""

    async def on_and_on(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(20):
            part = b'{"targets": ["a.example:1"]},' * 10_000
            writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    found = looked(Server(head + b"1\r\n[\r\n", on_and_on)).found
    assert found.failure == f"source: {NO_ANSWER}"


def test_a_slow_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither silence nor one byte after the other keeps a look longer than its time."""
    monkeypatch.setattr(http, "PATIENCE", SHORT)

    async def silence(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the other end closes

    async def drops(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(SHORT / 10)

    for then in (silence, drops):
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"
        found = looked(Server(head, then)).found
        assert found.failure == f"source: took longer than {SHORT:g} s"


def test_nobody_there_is_said() -> None:
    """A refused connection is one line."""
    listening: list[int] = []

    async def use(port: int) -> None:
        listening.append(port)

    asyncio.run(serving(Server(), use))
    watch = HttpWatch(source(listening[0]), lists())
    asyncio.run(watch.look())
    assert watch.found.failure == "source: Connection refused"


def test_a_failure_leaves_what_was_named_before() -> None:
    """Targets stay while the source fails, and change when it names others."""
    server = Server(answer(listing("a:1")))

    async def use(port: int) -> None:
        watch = HttpWatch(source(port), lists())
        for sent, expected, fails in (
            (server.answer, ["a:1"], False),
            (answer(b"", "503 Busy"), ["a:1"], True),
            (server.answer, ["a:1"], False),
            (answer(b"nonsense"), ["a:1"], True),
            (answer(listing("b:2")), ["b:2"], False),
            (answer(b"[]"), [], False),
        ):
            server.answer = sent
            await watch.look()
            assert (names(watch), bool(watch.found.failure)) == (expected, fails)
        old = watch
        server.answer = b""
        new = HttpWatch(source(port), lists(), old)
        await new.look()
        assert new.found.failure

    asyncio.run(serving(server, use))


def test_the_same_answer_is_not_read_twice() -> None:
    """Most answers are the same as before, and cost next to nothing."""
    server = Server(answer(listing("a:1")))

    async def use(port: int) -> None:
        watch = HttpWatch(source(port), lists())
        await watch.look()
        before = watch.found
        await watch.look()
        assert watch.found.targets is before.targets
        assert watch.found == before

    asyncio.run(serving(server, use))
    assert len(server.requests) == 2


# -- TLS ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of localhost, its key in the same file."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    key, own = path.with_name("key.pem"), path.with_name("own.pem")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(own)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    path.write_text(key.read_text() + own.read_text())
    return path


def test_certificates_are_verified(certificate: Path) -> None:
    """A certificate that nobody vouches for is refused, and believed once it is named."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = Server(answer(listing("a:1")))

    async def use(port: int) -> None:
        stranger = HttpWatch(source(port, "https"), lists())
        await stranger.look()
        assert "CERTIFICATE_VERIFY_FAILED" in stranger.found.failure
        friend = HttpWatch(source(port, "https", ca_file=certificate), lists())
        await friend.look()
        assert (names(friend), friend.found.failure) == (["a:1"], "")

    asyncio.run(serving(server, use, context))


def test_our_own_certificate_is_shown(certificate: Path) -> None:
    """A server that asks for a certificate gets the configured one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificate)
    server = Server(answer(listing("a:1")))

    async def use(port: int) -> None:
        files = {"ca_file": certificate, "cert_file": certificate, "key_file": certificate}
        shown = HttpWatch(source(port, "https", **files), lists())
        await shown.look()
        assert (names(shown), shown.found.failure) == (["a:1"], "")
        hidden = HttpWatch(source(port, "https", ca_file=certificate), lists())
        await hidden.look()
        assert hidden.found.failure

    asyncio.run(serving(server, use, context))
