"""The web server: pages, metrics, JSON and health over HTTP/1.1, in the program's own loop.

Tornado's connection layer reads and writes HTTP (chosen by test, docs/web-server.md); this
module decides what is answered and how long a peer may take:

1. An exchange begins when a connection is accepted or the previous answer has been handed
   over, and ends when its own answer has. It has `EXCHANGE_SECONDS`, whatever the time goes
   to: a request that never comes, comes byte by byte, or an answer that is never read.
   An idle kept-alive connection is an exchange like any other.
2. A connection past its deadline is reset, not closed: after a close the kernel would keep
   what the peer has not read, and go on offering it.
3. Connections are bounded in number, and so are answers that wait for their reader.
   Beyond a bound the one whose exchange is the oldest goes, never the newcomer.
4. What a peer can send is bounded: headers, body, address. Too much closes the connection.

`respond` is free of sockets: a `Request` in, a `Response` out. Everything in a request is
hostile; nothing of it is echoed into an answer or the log.
"""

from __future__ import annotations

import asyncio
import errno
import gzip
import hmac
import json
import logging
import os
import re
import resource
import socket
import struct
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from typing import cast
from urllib.parse import parse_qs, unquote_to_bytes

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
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

log = logging.getLogger(__name__)

#: The longest exchange, see the module's text.
EXCHANGE_SECONDS = 20.0
MAX_CONNECTIONS = 512
#: So many answers may wait for their reader at once; an answer is about a megabyte.
MAX_UNREAD_ANSWERS = 16
MAX_HEADER_BYTES = 16 * 1024
MAX_BODY_BYTES = 1024
MAX_ADDRESS_BYTES = 4 * 1024
#: What the kernel may hold of one answer (it doubles the number, socket(7)): kernel memory
#: counts against a container's limit too.
SEND_BUFFER_BYTES = 128 * 1024
#: Shorter answers are sent as they are.
MIN_GZIP_BYTES = 1024
#: A peer's mistakes are worth at most one line of the log in so many seconds.
LOG_PAUSE_SECONDS = 60.0
#: Connections that wait for accept(): a burst of them must not cost a scrape a retry.
BACKLOG = 512
#: sd_listen_fds(3): the first inherited descriptor.
LISTEN_FDS_START = 3

HEADERS_OF_EVERY_ANSWER = (
    # The pages hold one <style> and nothing else that is loaded or run.
    (
        "Content-Security-Policy",
        (
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
            "form-action 'none'; frame-ancestors 'none'"
        ),
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Frame-Options", "DENY"),
    ("Cache-Control", "no-store"),
)

HELP = (
    "Not found. There is / (the page), /targets/NAME, /metrics, /api/v1/targets, "
    "/api/v1/targets/NAME, /-/healthy, /-/ready and POST /-/reload."
)


# -- what is asked, and by whom --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Site:
    """What is served. The callables are quick and run in the loop; they may raise.

    `target` and `api_target` get a decoded name and give None when there is no such target.
    `reload` gives None on success, else why it failed.
    """

    index: Callable[[], str]
    target: Callable[[str], str | None]
    api_targets: Callable[[], object]
    api_target: Callable[[str], object | None]
    registry: CollectorRegistry
    ready: Callable[[], bool]
    reload: Callable[[], Awaitable[str | None]]


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who may read, by basic authentication (RFC 7617)."""

    user: str
    password: str = field(repr=False)

    def admit(self, authorization: str) -> bool:
        """Whether an Authorization header holds them, in time that tells nothing of them."""
        scheme, _, token = authorization.partition(" ")
        try:
            user, colon, password = b64decode(token.strip(), validate=True).partition(b":")
        except ValueError:  # no base64, or not even ASCII
            return False
        same_user = hmac.compare_digest(user, self.user.encode())
        same_password = hmac.compare_digest(password, self.password.encode())
        return same_user & same_password & (scheme.lower() == "basic") & (colon == b":")


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came: `address` is the request line's, nothing decoded."""

    method: str
    address: str
    headers: HTTPHeaders

    @property
    def path(self) -> str:
        """The address without its query."""
        return self.address.partition("?")[0]

    @property
    def names(self) -> list[str]:
        """The metrics asked for by ?name[]=, all of them when empty."""
        return parse_qs(self.address.partition("?")[2]).get("name[]", [])

    @property
    def accepts_gzip(self) -> bool:
        """Whether the answer may be compressed (RFC 9110, 12.5.3)."""
        codings = self.headers.get("Accept-Encoding", "").lower().replace(" ", "").split(",")
        return any(re.fullmatch(r"gzip(;q=(1|1\.0+|0\.0*[1-9]\d*))?", c) for c in codings)

    @property
    def is_cross_origin(self) -> bool:
        """Whether a browser sent this from a page of some other origin.

        Browsers send Sec-Fetch-Site over HTTPS only, Origin with every POST; other clients
        send neither.
        """
        site = self.headers.get("Sec-Fetch-Site")
        if site is not None:
            return site not in ("same-origin", "none")
        origin = self.headers.get("Origin")
        return origin is not None and origin.partition("://")[2] != self.headers.get("Host")


@dataclass(frozen=True, slots=True)
class Response:
    """A status, a body and its type; `headers` are those beyond every answer's."""

    status: HTTPStatus
    body: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()


def _text(status: HTTPStatus, text: str, *headers: tuple[str, str]) -> Response:
    return Response(status, _utf8(f"{text}\n"), "text/plain; charset=utf-8", headers)


def _html(page: str) -> Response:
    return Response(HTTPStatus.OK, _utf8(page), "text/html; charset=utf-8")


def _json(status: HTTPStatus, value: object) -> Response:
    body = _utf8(json.dumps(value, ensure_ascii=False) + "\n")
    return Response(status, body, "application/json; charset=utf-8")


def _utf8(text: str) -> bytes:
    # A name from the environment may hold bytes that were never UTF-8 (PEP 383).
    return text.encode("utf-8", "replace")


# -- the answers -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Call:
    """A request that a route is to answer; `name` is the address's, decoded."""

    site: Site
    request: Request
    name: str


async def _index(call: Call) -> Response:
    return _html(call.site.index())


async def _target(call: Call) -> Response:
    page = call.site.target(call.name)
    if page is None:
        return _text(HTTPStatus.NOT_FOUND, "There is no target of that name; / lists them all.")
    return _html(page)


async def _metrics(call: Call) -> Response:
    encode, content_type = _encoder(call.request.headers.get("Accept", ""))
    registry = call.site.registry
    if names := call.request.names:
        # It has all that an encoder uses of a registry, but shares no type with it.
        registry = cast("CollectorRegistry", registry.restricted_registry(names))
    return Response(HTTPStatus.OK, encode(registry), content_type)


def _encoder(accept: str) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    try:
        return choose_encoder(accept)
    except TypeError:  # a version that is no number, such as "version=1.x"
        return choose_encoder("")


async def _api_targets(call: Call) -> Response:
    return _json(HTTPStatus.OK, call.site.api_targets())


async def _api_target(call: Call) -> Response:
    value = call.site.api_target(call.name)
    if value is None:
        return _json(HTTPStatus.NOT_FOUND, {"error": "there is no target of that name"})
    return _json(HTTPStatus.OK, value)


async def _healthy(_call: Call) -> Response:
    return _text(HTTPStatus.OK, "healthy")


async def _ready(call: Call) -> Response:
    if call.site.ready():
        return _text(HTTPStatus.OK, "ready")
    return _text(HTTPStatus.SERVICE_UNAVAILABLE, "not ready: the first traces are not done yet")


async def _reload(call: Call) -> Response:
    if call.request.is_cross_origin:
        return _text(HTTPStatus.FORBIDDEN, "Refused: a page of another origin asked for this.")
    error = await call.site.reload()
    if error is not None:
        return _text(HTTPStatus.INTERNAL_SERVER_ERROR, error)
    return _text(HTTPStatus.OK, "reloaded")


@dataclass(frozen=True, slots=True)
class Route:
    """What answers at `path`."""

    path: str
    answer: Callable[[Call], Awaitable[Response]]
    methods: tuple[str, ...] = ("GET", "HEAD")
    #: Answered without credentials: a platform's health check has none.
    public: bool = False


EXACT = {
    route.path: route
    for route in (
        Route("/", _index),
        Route("/metrics", _metrics),
        Route("/api/v1/targets", _api_targets),
        Route("/-/healthy", _healthy, public=True),
        Route("/-/ready", _ready, public=True),
        Route("/-/reload", _reload, methods=("POST",)),
    )
}
#: Their paths are followed by a name, which may hold slashes.
NAMED = (Route("/targets/", _target), Route("/api/v1/targets/", _api_target))


def _find(path: str) -> tuple[Route, str] | None:
    """The route of a path and the name in it, decoded once; None when there is neither."""
    if path in EXACT:
        return EXACT[path], ""
    for route in NAMED:
        if path.startswith(route.path) and path != route.path:
            # Tornado decodes the request line as Latin-1, so this gives its bytes back.
            raw = unquote_to_bytes(path[len(route.path) :].encode("latin-1"))
            return route, raw.decode("utf-8", "replace")
    return None


async def respond(site: Site, credentials: Credentials | None, request: Request) -> Response:
    """The answer to one request; raises nothing."""
    found = _find(request.path)
    admitted = (found is not None and found[0].public) or (
        credentials is None or credentials.admit(request.headers.get("Authorization", ""))
    )
    if not admitted:
        challenge = ("WWW-Authenticate", 'Basic realm="egress-exporter", charset="UTF-8"')
        return _text(HTTPStatus.UNAUTHORIZED, "User and password are needed.", challenge)
    if len(request.address) > MAX_ADDRESS_BYTES:
        return _text(HTTPStatus.REQUEST_URI_TOO_LONG, "The address is too long.")
    if found is None:
        return _text(HTTPStatus.NOT_FOUND, HELP)
    route, name = found
    if request.method not in route.methods:
        allowed = ", ".join(route.methods)
        text = f"Only {allowed} is possible here."
        return _text(HTTPStatus.METHOD_NOT_ALLOWED, text, ("Allow", allowed))
    try:
        return await route.answer(Call(site, request, name))
    except Exception:
        log.exception("the answer to %s %s failed", request.method, route.path)
        return _text(HTTPStatus.INTERNAL_SERVER_ERROR, "This answer failed; the log says why.")


def _prepare(request: Request, response: Response) -> tuple[HTTPHeaders, bytes]:
    """The headers and the body as they are sent; a HEAD request's body is dropped later."""
    headers = HTTPHeaders()
    for key, value in (*HEADERS_OF_EVERY_ANSWER, *response.headers):
        headers.add(key, value)
    body = response.body
    if request.accepts_gzip and len(body) >= MIN_GZIP_BYTES:
        # Level 1: a megabyte of metrics takes 11 ms of the loop, level 9 takes 110.
        body = gzip.compress(body, compresslevel=1)
        headers.add("Content-Encoding", "gzip")
    headers.add("Content-Type", response.content_type)
    headers.add("Content-Length", str(len(body)))
    headers.add("Date", formatdate(usegmt=True))
    return headers, body


# -- connections -----------------------------------------------------------------------


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
        self._answers: set[asyncio.Task[None]] = set()
        self._unlisten = [add_accept_handler(sock, self._accept) for sock in self._sockets]

    async def stop(self) -> None:
        """Close everything, at once; what the kernel holds of an answer is still delivered."""
        for unlisten in self._unlisten:
            unlisten()
        for sock in self._sockets:
            sock.close()
        for answer in self._answers:
            answer.cancel()
        closing = [connection.close() for connection in tuple(self._deadlines)]
        await asyncio.gather(*closing, *self._answers, return_exceptions=True)

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
        self._begin_exchange(cast("HTTP1ServerConnection", server_conn))
        return _Reader(partial(self._begin_answer, request_conn))

    def on_close(self, server_conn: object) -> None:
        """Tornado's call after a connection's end."""
        self._forget(cast("HTTP1ServerConnection", server_conn))

    def _begin_answer(self, connection: HTTPConnection, request: Request) -> None:
        answer = asyncio.get_running_loop().create_task(self._answer(connection, request))
        self._answers.add(answer)
        answer.add_done_callback(self._answers.discard)

    async def _answer(self, connection: HTTPConnection, request: Request) -> None:
        response = await respond(self._site, self._credentials, request)
        headers, body = _prepare(request, response)
        start = ResponseStartLine("HTTP/1.1", response.status, response.status.phrase)
        connection.write_headers(start, headers, None if request.method == "HEAD" else body)
        connection.finish()
        self._drop_unread_answers()

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
        self._request = Request(line.method, line.path, headers)

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


# -- sockets ---------------------------------------------------------------------------

WHY_NOT_LISTENING = {
    errno.EADDRINUSE: "another program listens there already",
    errno.EACCES: "no permission; a port below 1024 needs root or CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "this host does not have that address",
}


def listen(address: str, port: int) -> list[socket.socket]:
    """Listening sockets; the address "" means all of the host's, IPv4 and IPv6.

    Raises OSError with a sentence for the user.
    """
    try:
        return _listen(address, port) if address else [_listen_everywhere(port)]
    except OSError as error:
        why = WHY_NOT_LISTENING.get(error.errno or 0, error.strerror)
        place = f"{address} port {port}" if address else f"port {port}"
        raise OSError(f"cannot listen on {place}: {why}") from error


def _listen_everywhere(port: int) -> socket.socket:
    both = socket.has_dualstack_ipv6()
    return socket.create_server(
        ("", port),
        family=socket.AF_INET6 if both else socket.AF_INET,
        backlog=BACKLOG,
        dualstack_ipv6=both,
    )


def _listen(address: str, port: int) -> list[socket.socket]:
    found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
    with ExitStack() as on_failure:
        sockets = [
            on_failure.enter_context(socket.create_server(to, family=family, backlog=BACKLOG))
            for family, *_, to in dict.fromkeys(found)
        ]
        on_failure.pop_all()
    return sockets


def inherited_sockets(environ: Mapping[str, str]) -> list[socket.socket]:
    """The listening sockets that the program was started with, as sd_listen_fds(3) has it.

    None without LISTEN_FDS, or when LISTEN_PID names another process; a starter that cannot
    know our process id may leave LISTEN_PID out. Raises OSError with a sentence for the user.
    """
    count = environ.get("LISTEN_FDS", "0")
    if environ.get("LISTEN_PID", str(os.getpid())) != str(os.getpid()):
        return []
    if not re.fullmatch(r"[0-9]{1,3}", count):
        raise OSError(f"LISTEN_FDS is {count!r}; it should be a number of descriptors, such as 1")
    return [_adopt(LISTEN_FDS_START + n) for n in range(int(count))]


def _adopt(descriptor: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise OSError(f"LISTEN_FDS: descriptor {descriptor} is no open socket") from error
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        raise OSError(f"LISTEN_FDS: the socket at descriptor {descriptor} does not listen")
    sock.set_inheritable(False)
    return sock
