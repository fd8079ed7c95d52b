"""The HTTP connections, in the program's own loop, and how long a peer may take.

Tornado's connection layer reads and writes HTTP (chosen by test, docs/web-server.md):

1. An exchange begins when a connection is accepted or the previous answer has been handed
   over, and ends when its own answer has. It has `EXCHANGE_SECONDS`, whatever the time goes
   to: a request that never comes, comes byte by byte, or an answer that is never read.
   An idle kept-alive connection is an exchange like any other.
2. A connection past its deadline is reset, not closed: after a close the kernel would keep
   what the peer has not read, and go on offering it.
3. Connections are bounded in number, and so are answers that wait for their reader.
   Beyond a bound the one whose exchange is the oldest goes, never the newcomer.
4. What a peer can send is bounded: headers, body, address. Too much closes the connection.
5. An answer in pieces is sent piece by piece, the next one when the kernel has taken the one
   before. One that fails half-way is broken off by a reset, so that no part passes for all.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import resource
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from email.utils import formatdate
from functools import partial
from typing import cast

from tornado.http1connection import HTTP1ConnectionParameters, HTTP1ServerConnection
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import IOStream
from tornado.netutil import add_accept_handler

from exporter.publish.pieces import Turns, gzipped
from exporter.publish.web import Credentials, Request, Response, Site, respond

log = logging.getLogger(__name__)

#: The longest exchange, see the module's text.
EXCHANGE_SECONDS = 20.0
MAX_CONNECTIONS = 128
#: So many answers may wait for their reader at once; of a page that is a megabyte each, of what
#: is sent in pieces one of these.
MAX_UNREAD_ANSWERS = 16
MAX_HEADER_BYTES = 16 * 1024
MAX_BODY_BYTES = 1024
#: What the kernel may hold of one answer (it doubles the number, socket(7)): kernel memory
#: counts against a container's limit too.
SEND_BUFFER_BYTES = 128 * 1024
#: Shorter answers are sent as they are.
MIN_GZIP_BYTES = 1024
#: A peer's mistakes are worth at most one line of the log in so many seconds.
LOG_PAUSE_SECONDS = 60.0

HEADERS_OF_EVERY_ANSWER = (
    # The pages hold one <style> and nothing else that is loaded or run; their forms lead back here.
    (
        "Content-Security-Policy",
        (
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
            "form-action 'self'; frame-ancestors 'none'"
        ),
    ),
    ("X-Content-Type-Options", "nosniff"),
    # Not "no-referrer": with that, browsers send `Origin: null` with a form of our own page (Fetch,
    # "append a request Origin header"), and it would pass for a foreign one's.
    ("Referrer-Policy", "same-origin"),
    ("X-Frame-Options", "DENY"),
    ("Cache-Control", "no-store"),
)


class Server(HTTPServerConnectionDelegate):
    """The connections and their deadlines; made by `start`."""

    def __init__(
        self, site: Site, sockets: Sequence[socket.socket], credentials: Credentials | None
    ) -> None:
        self._site = site
        self._credentials = credentials
        self._sockets = tuple(sockets)
        for sock in sockets:
            sock.settimeout(0)
        # Tracing needs descriptors too: at most half of those that the process may have.
        self._limit = min(MAX_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        #: Each connection's running exchange, the oldest first.
        self._deadlines: dict[HTTP1ServerConnection, asyncio.TimerHandle] = {}
        self._answers: dict[HTTP1ServerConnection, asyncio.Task[None]] = {}
        self._unlisten = [add_accept_handler(sock, self._accept) for sock in self._sockets]

    async def stop(self) -> None:
        """Close everything, at once; what the kernel holds of an answer is still delivered."""
        for unlisten in self._unlisten:
            unlisten()
        for sock in self._sockets:
            sock.close()
        answers = tuple(self._answers.values())
        for answer in answers:
            answer.cancel()
        closing = [connection.close() for connection in tuple(self._deadlines)]
        await asyncio.gather(*closing, *answers, return_exceptions=True)

    def _accept(self, sock: socket.socket, _address: object) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        stream = IOStream(sock, max_buffer_size=2 * MAX_HEADER_BYTES)
        connection = HTTP1ServerConnection(
            stream,
            HTTP1ConnectionParameters(
                max_header_size=MAX_HEADER_BYTES, max_body_size=MAX_BODY_BYTES
            ),
        )
        self._begin_exchange(connection)
        connection.start_serving(self)
        for oldest in tuple(self._deadlines)[: -self._limit]:
            self._reset(oldest)

    def _begin_exchange(self, connection: HTTP1ServerConnection) -> None:
        self._forget(connection)
        loop = asyncio.get_running_loop()
        self._deadlines[connection] = loop.call_later(EXCHANGE_SECONDS, self._reset, connection)

    def _forget(self, connection: HTTP1ServerConnection) -> None:
        if deadline := self._deadlines.pop(connection, None):
            deadline.cancel()

    def _reset(self, connection: HTTP1ServerConnection) -> None:
        self._forget(connection)
        if not connection.stream.closed():
            linger = struct.pack("ii", 1, 0)  # on, for 0 s: close() sends RST
            connection.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.stream.close()

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        """Tornado's call before it reads a request."""
        connection = cast("HTTP1ServerConnection", server_conn)
        self._begin_exchange(connection)
        return _Reader(partial(self._begin_answer, connection, request_conn))

    def on_close(self, server_conn: object) -> None:
        """Tornado's call after a connection's end."""
        connection = cast("HTTP1ServerConnection", server_conn)
        self._forget(connection)
        if answer := self._answers.pop(connection, None):
            answer.cancel()

    def _begin_answer(
        self, connection: HTTP1ServerConnection, exchange: HTTPConnection, request: Request
    ) -> None:
        # One at a time: Tornado reads the next request after the answer's end.
        self._answers[connection] = asyncio.get_running_loop().create_task(
            self._answer(connection, exchange, request)
        )

    async def _answer(
        self, connection: HTTP1ServerConnection, exchange: HTTPConnection, request: Request
    ) -> None:
        response = await respond(self._site, self._credentials, request)
        start = ResponseStartLine("HTTP/1.1", response.status, response.status.phrase)
        headers, body = _prepare(request, response)
        if request.method == "HEAD":
            body = b""
        if isinstance(body, bytes):
            exchange.write_headers(start, headers, body)
            exchange.finish()
            self._drop_unread_answers()
            return
        exchange.write_headers(start, headers)
        await self._send(connection, exchange, body)
        if request.version == "HTTP/1.0":
            # It knows no chunks: the answer ends with the connection, kept alive or not.
            connection.stream.close()

    async def _send(
        self, connection: HTTP1ServerConnection, exchange: HTTPConnection, pieces: Iterator[bytes]
    ) -> None:
        turns = Turns()
        try:
            for piece in pieces:
                if connection.stream.closed():
                    return
                if piece:
                    self._drop_unread_answers()
                    await exchange.write(piece)
                await turns.next()
        except Exception:
            log.exception("an answer broke off")
            self._reset(connection)
            return
        finally:
            # Tornado keeps the error of a connection that broke, and with it this frame.
            del pieces
        exchange.finish()

    def _drop_unread_answers(self) -> None:
        unread = [conn for conn in self._deadlines if conn.stream.writing()]
        for connection in unread[:-MAX_UNREAD_ANSWERS]:
            self._reset(connection)


class _Reader(HTTPMessageDelegate):
    """Takes in one request and passes it on; the body says nothing and is dropped."""

    def __init__(self, done: Callable[[Request], None]) -> None:
        self._done = done
        self._request: Request

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> None:
        """Tornado's call with the headers."""
        line = cast("RequestStartLine", start_line)
        self._request = Request(line.method, line.path, headers, line.version)

    def data_received(self, _chunk: bytes) -> None:
        """Tornado's call with a part of the body."""

    def finish(self) -> None:
        """Tornado's call after the whole request."""
        self._done(self._request)


class _Hush(logging.Filter):
    """Turns what peers make Tornado log into at most one line of ours a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._count = 0
        self._quiet_until = 0.0

    def filter(self, _record: logging.LogRecord) -> bool:
        """Drop the record, and count it."""
        self._count += 1
        now = time.monotonic()
        if now >= self._quiet_until:
            log.info("malformed or broken-off requests since the last such line: %d", self._count)
            self._count = 0
            self._quiet_until = now + LOG_PAUSE_SECONDS
        return False


_HUSH = _Hush()


async def start(
    site: Site, sockets: Sequence[socket.socket], credentials: Credentials | None
) -> Server:
    """Serve `site` on listening sockets in the running loop; the server owns the sockets."""
    # Faults of ours go to tornado.application, which is left to speak.
    logging.getLogger("tornado.general").addFilter(_HUSH)
    return Server(site, sockets, credentials)


def _prepare(request: Request, response: Response) -> tuple[HTTPHeaders, bytes | Iterator[bytes]]:
    """The headers and the body as they are sent; a HEAD request's body is dropped later."""
    headers = HTTPHeaders()
    for key, value in (*HEADERS_OF_EVERY_ANSWER, *response.headers):
        headers.add(key, value)
    body = response.body
    if request.accepts_gzip and not _is_short(body):
        # Level 1: a page of 300 kB takes 3 ms of the loop, level 9 takes 30.
        body = gzip.compress(body, compresslevel=1) if isinstance(body, bytes) else gzipped(body)
        headers.add("Content-Encoding", "gzip")
    headers.add("Content-Type", response.content_type)
    if isinstance(body, bytes):
        headers.add("Content-Length", str(len(body)))
    headers.add("Date", formatdate(usegmt=True))
    return headers, body


def _is_short(body: bytes | Iterator[bytes]) -> bool:
    return isinstance(body, bytes) and len(body) < MIN_GZIP_BYTES
