"""Lists from a web server (Prometheus' http_sd): asked for every `refresh_interval`.

1. What comes is believed only when it is whole: status 200, `application/json`, a list. Anything
   else leaves what the source has named before.
2. An exchange takes at most PATIENCE seconds, whatever the other end does with them, and
   MAX_ANSWER_BYTES. Nothing is compressed: a small answer would then be a large one.
3. A redirection is not followed. Whoever is asked would else decide whom this program talks to,
   and with which credentials.
4. No proxy of the environment is used, as for probes. Certificates are verified.
5. Files that hold secrets are read for each request, so that they can be renewed.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from ssl import SSLContext, create_default_context

from tornado.httpclient import HTTPClientError, HTTPRequest, HTTPResponse
from tornado.httputil import HTTPInputError
from tornado.iostream import StreamClosedError, UnsatisfiableReadError
from tornado.simple_httpclient import HTTPTimeoutError, SimpleAsyncHTTPClient

from exporter import __version__
from exporter.discovery.watch import Found
from exporter.settings import HttpSource, Lists, Login

PATIENCE = 10.0
#: 500 bytes for each of as many targets as there can be. What hostile JSON of this size becomes
#: while it is read takes 40 MB.
MAX_ANSWER_BYTES = 1 << 20
MAX_HEADER_BYTES = 16 << 10
MAX_SECRET_BYTES = 4_096

#: As Prometheus has it.
CONTENT_TYPE = re.compile(r'application/json(;\s*charset=("utf-8"|utf-8))?', re.IGNORECASE)

#: How Tornado says that what came is no HTTP, too much of it, or not all.
NO_ANSWER = (HTTPClientError, HTTPInputError, StreamClosedError, UnsatisfiableReadError)


class HttpWatch:
    """Asks one address; `before` is what an earlier watch of it has seen."""

    def __init__(self, source: HttpSource, lists: Lists, before: HttpWatch | None = None) -> None:
        self.name = source.name
        self.pause = source.refresh_interval
        self.found: Found = before.found if before else Found()
        self._source = source
        self._lists = lists
        #: Of the last good answer; most are the same again.
        self._digest = b""

    async def look(self) -> None:
        """Ask once."""
        try:
            body = await _answer(self._source)
            digest = sha256(body).digest()
            if digest == self._digest:
                self.found = self.found.failed("")
                return
            # In a thread: a list may be long.
            listed = await asyncio.to_thread(self._lists.of_answer, body, self.name)
        except ValueError as error:
            self.found = self.found.failed(str(error))
        else:
            self._digest = digest
            self.found = Found(listed.targets, listed.left_out, listed.problems)


async def _answer(source: HttpSource) -> bytes:
    """The body of an answer that can be believed; raises ValueError with one printable line."""
    try:
        request = await asyncio.to_thread(_request, source)
        response = await _exchange(request)
        _check(response)
    except (HTTPTimeoutError, TimeoutError):
        raise ValueError(f"{source.name}: took longer than {PATIENCE:g} s") from None
    except NO_ANSWER:
        reason = f"sent no whole answer of at most {MAX_ANSWER_BYTES:,} bytes"
        raise ValueError(f"{source.name}: {reason}") from None
    except OSError as error:
        raise ValueError(f"{source.name}: {error.strerror or type(error).__name__}") from None
    except ValueError as error:
        raise ValueError(f"{source.name}: {error}") from None
    return response.body


async def _exchange(request: HTTPRequest) -> HTTPResponse:
    client = SimpleAsyncHTTPClient(
        force_instance=True,
        max_body_size=MAX_ANSWER_BYTES,
        max_header_size=MAX_HEADER_BYTES,
        max_buffer_size=MAX_ANSWER_BYTES + MAX_HEADER_BYTES,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            return await client.fetch(request, raise_error=False)
    finally:
        client.close()


def _request(source: HttpSource) -> HTTPRequest:
    """What is asked. Blocks, and raises OSError or ValueError, where files hold secrets."""
    headers = {
        "Accept": "application/json",
        "User-Agent": f"egress-exporter/{__version__}",
        "X-Prometheus-Refresh-Interval-Seconds": f"{source.refresh_interval:g}",
    }
    if source.login:
        headers["Authorization"] = _authorization(source.login)
    return HTTPRequest(
        source.url,
        headers=headers,
        connect_timeout=PATIENCE,
        request_timeout=PATIENCE,
        follow_redirects=False,
        decompress_response=False,
        ssl_options=_tls(source),
    )


def _tls(source: HttpSource) -> SSLContext | None:
    """What certificates are verified with, and ours; None: the system's, and no one's."""
    if source.ca_file is None and source.cert_file is None:
        return None
    context = create_default_context(cafile=source.ca_file)
    if source.cert_file:
        context.load_cert_chain(source.cert_file, source.key_file)
    return context


def _authorization(login: Login) -> str:
    secret = _content(login.file) if login.file else login.secret
    if login.username:
        # RFC 7617 section 2.1: nothing but ASCII is certain; most take UTF-8.
        secret = b64encode(f"{login.username}:{secret}".encode()).decode("ascii")
    return f"{login.scheme} {secret}"


def _content(path: Path) -> str:
    """The secret in a file, one line of ASCII; no error quotes it."""
    with path.open("rb") as stream:
        text = stream.read(MAX_SECRET_BYTES + 1).strip()
    if len(text) > MAX_SECRET_BYTES or not re.fullmatch(rb"[ -~]+", text):
        raise ValueError(f"{path} should hold one secret of at most {MAX_SECRET_BYTES:,} bytes")
    return text.decode("ascii")


def _check(response: HTTPResponse) -> None:
    """Raise ValueError with a predicate for what cannot be believed."""
    if response.code != HTTPStatus.OK:
        raise ValueError(f"answered with status {response.code}")
    if not CONTENT_TYPE.fullmatch(response.headers.get("Content-Type", "").strip()):
        raise ValueError("answered with something else than application/json")
