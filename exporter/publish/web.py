"""What is answered over HTTP: pages, metrics, JSON and health.

`respond` is free of sockets: a `Request` in, a `Response` out; `server` reads and writes them.
Everything in a request is hostile; nothing of it is echoed into an answer or the log.

What grows with the number of targets is made in pieces (see `pieces`): the metrics and the list
for scripts are sent so, a page of the index is short enough to be put together first.
"""

from __future__ import annotations

import hmac
import json
import logging
import re
from base64 import b64decode
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from math import ceil
from urllib.parse import parse_qs, unquote_to_bytes

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from tornado.httputil import HTTPHeaders

from exporter.publish.evidence import File, Format
from exporter.publish.links import page_link
from exporter.publish.pieces import begun, whole
from exporter.publish.report import Of
from exporter.publish.text import printable
from exporter.publish.wanted import Wanted, WrongQueryError

log = logging.getLogger(__name__)

MAX_ADDRESS_BYTES = 4 * 1024

HELP = (
    "Not found. There is / (the page), /targets/NAME, /metrics, /api/v1/targets, "
    "/api/v1/targets/NAME, /api/v1/evidence/NAME, /-/healthy, /-/ready, POST /-/reload and "
    "POST /-/trace/NAME."
)


JSON = "application/json; charset=utf-8"

# -- what is asked, and by whom --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Site:
    """What is served. The callables are quick and run in the loop; they may raise.

    `index` gets what is wanted and the number of a page, from 1 to `pages` of what is wanted.
    `target` and `api_target` get a decoded name and give None when there is no such target.
    `metrics` gets an encoder of prometheus_client and the names that are asked for, none: all.
    `reload` gives None on success, else why it failed.
    `trace_now` gives 0 when the target of a name is traced now, else the seconds after which to ask
    again; None when there is no such target. `evidence` gives None when there is nothing to prove.
    """

    index: Callable[[Wanted, int], Iterator[str]]
    pages: Callable[[Wanted], int]
    target: Callable[[str, Wanted], str | None]
    api_targets: Callable[[], Iterable[object]]
    api_target: Callable[[str], object | None]
    metrics: Callable[[Callable[[CollectorRegistry], bytes], Collection[str]], Iterator[bytes]]
    ready: Callable[[], bool]
    reload: Callable[[], Awaitable[str | None]]
    trace_now: Callable[[str], float | None]
    evidence: Callable[[str, Of, Format], Awaitable[File | None]]


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
    version: str = "HTTP/1.1"

    @property
    def path(self) -> str:
        """The address without its query."""
        return self.address.partition("?")[0]

    @property
    def names(self) -> list[str]:
        """The metrics asked for by ?name[]=, all of them when empty."""
        return self._query.get("name[]", [])

    @property
    def page(self) -> str:
        """The page of the index asked for by ?page=, as it came."""
        return self._query.get("page", ["1"])[-1]

    @property
    def wanted(self) -> Wanted:
        """What the pages are to show; raises `WrongQueryError`."""
        return Wanted.of(self._query)

    @property
    def evidence(self) -> tuple[Of, Format] | None:
        """Which evidence is asked for by ?of= and ?format=, None for what there never is."""
        of, kind = (
            self._query.get(key, [default])[-1]
            for key, default in (("of", Of.LATEST), ("format", Format.ZIP))
        )
        try:
            return Of(of), Format(kind)
        except ValueError:
            return None

    @property
    def _query(self) -> dict[str, list[str]]:
        return parse_qs(self.address.partition("?")[2])

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
    """A status, a body and its type; `headers` are those beyond every answer's.

    A body in pieces is sent as it is made. It may raise, and holds what was there when it began.
    """

    status: HTTPStatus
    body: bytes | Iterator[bytes]
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()


def _text(status: HTTPStatus, text: str, *headers: tuple[str, str]) -> Response:
    return Response(status, _utf8(f"{text}\n"), "text/plain; charset=utf-8", headers)


def _html(page: bytes, wanted: Wanted) -> Response:
    refresh = (("Refresh", str(wanted.reload)),) if wanted.reload else ()
    return Response(HTTPStatus.OK, page, "text/html; charset=utf-8", refresh)


def _json(status: HTTPStatus, value: object) -> Response:
    return Response(status, _dumped(value) + b"\n", JSON)


def _dumped(value: object) -> bytes:
    # Escaped to ASCII, so that no bidirectional control stands raw in anything that shows it.
    return json.dumps(value).encode()


def _list(key: str, values: Iterable[object]) -> Iterator[bytes]:
    """An object with one list, a value at a time."""
    yield b'{"%b": [' % key.encode()
    comma = b""
    for value in values:
        yield comma + _dumped(value)
        comma = b", "
    yield b"]}\n"


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
    wanted = call.request.wanted
    asked, count = call.request.page, call.site.pages(wanted)
    right = f"?page= takes a number from 1 to {count}."
    # No number of pages has more digits than this.
    if not re.fullmatch(r"[0-9]{1,9}", asked):
        return _text(HTTPStatus.BAD_REQUEST, f"That is no page: {right}")
    if not 1 <= int(asked) <= count:
        return _text(HTTPStatus.NOT_FOUND, f"There is no such page: {right}")
    page = await whole(map(_utf8, call.site.index(wanted, int(asked))))
    return _html(page, wanted)


async def _target(call: Call) -> Response:
    wanted = call.request.wanted
    page = call.site.target(call.name, wanted)
    return _no_target() if page is None else _html(_utf8(page), wanted)


async def _metrics(call: Call) -> Response:
    encode, content_type = _encoder(call.request.headers.get("Accept", ""))
    pieces = call.site.metrics(encode, frozenset(call.request.names))
    return Response(HTTPStatus.OK, await begun(pieces), content_type)


def _encoder(accept: str) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    # "dots" would write each underscore of our names twice. Under any other scheme they stay as
    # they are, and the one that is used stands in the answer's type.
    accept = accept.replace("escaping=dots", "escaping=underscores")
    try:
        return choose_encoder(accept)
    except TypeError:  # a version that is no number, such as "version=1.x"
        return choose_encoder("")


async def _api_targets(call: Call) -> Response:
    pieces = _list("targets", call.site.api_targets())
    return Response(HTTPStatus.OK, await begun(pieces), JSON)


async def _api_target(call: Call) -> Response:
    value = call.site.api_target(call.name)
    if value is None:
        return _json(HTTPStatus.NOT_FOUND, {"error": "there is no target of that name"})
    return _json(HTTPStatus.OK, value)


async def _evidence(call: Call) -> Response:
    asked = call.request.evidence
    if asked is None:
        error = "?of= takes latest, first-bad or last-good, and ?format= zip or html"
        return _json(HTTPStatus.BAD_REQUEST, {"error": error})
    file = await call.site.evidence(call.name, *asked)
    if file is None:
        error = "there is no target of that name, or no such observation of it"
        return _json(HTTPStatus.NOT_FOUND, {"error": error})
    disposition = ("Content-Disposition", f'attachment; filename="{file.name}"')
    return Response(HTTPStatus.OK, file.body, file.content_type, (disposition,))


async def _healthy(_call: Call) -> Response:
    return _text(HTTPStatus.OK, "healthy")


async def _ready(call: Call) -> Response:
    if call.site.ready():
        return _text(HTTPStatus.OK, "ready")
    return _text(HTTPStatus.SERVICE_UNAVAILABLE, "not ready: the first traces are not done yet")


async def _reload(call: Call) -> Response:
    if call.request.is_cross_origin:
        return _foreign()
    error = await call.site.reload()
    if error is not None:
        return _text(HTTPStatus.INTERNAL_SERVER_ERROR, error)
    return _text(HTTPStatus.OK, "reloaded")


async def _trace(call: Call) -> Response:
    if call.request.is_cross_origin:
        return _foreign()
    wait = call.site.trace_now(call.name)
    if wait is None:
        return _no_target()
    if wait:
        seconds = str(ceil(wait))
        text = f"Not now: ask again in {seconds} s."
        return _text(HTTPStatus.TOO_MANY_REQUESTS, text, ("Retry-After", seconds))
    # A redirection to GET, so that a reload of the page asks for nothing (RFC 9110, 15.4.4).
    location = ("Location", page_link(call.name))
    return _text(HTTPStatus.SEE_OTHER, f"{printable(call.name)} is traced now", location)


def _foreign() -> Response:
    return _text(HTTPStatus.FORBIDDEN, "Refused: a page of another origin asked for this.")


def _no_target() -> Response:
    return _text(HTTPStatus.NOT_FOUND, "There is no target of that name; / lists them all.")


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
NAMED = (
    Route("/targets/", _target),
    Route("/api/v1/targets/", _api_target),
    Route("/api/v1/evidence/", _evidence),
    Route("/-/trace/", _trace, methods=("POST",)),
)


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
    except WrongQueryError as error:
        status, text = HTTPStatus.BAD_REQUEST, str(error)
    except Exception:
        log.exception("the answer to %s %s failed", request.method, route.path)
        status, text = HTTPStatus.INTERNAL_SERVER_ERROR, "This answer failed; the log says why."
    return _text(status, text)
