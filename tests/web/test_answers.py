"""What is answered at which address, to whom, and with which headers."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import logging
import re
import socket
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from tornado.httputil import HTTPHeaders

from exporter.publish import server, web
from tests.web.serving import PATIENCE, Content, ask, read_to_end, serving

PATHS = (
    "/",
    "/targets/db",
    "/metrics",
    "/api/v1/targets",
    "/api/v1/targets/db",
    "/-/healthy",
    "/-/ready",
)
#: What is sent as it is made.
IN_PIECES = ("/metrics", "/api/v1/targets")
NAMES = (
    "db",
    "a/b",
    'quo"te',
    "<script>alert(1)</script>",
    "per%20cent",
    "question?mark#hash",
    "blank and +plus",
    "Ümläut ☃",
    "..",
    "new\nline",
    "x" * 300,
)


#: What a header can hold once Tornado has let it through.
LATIN_1 = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_categories=["Cc"])
).map(str.strip)


# -- pages, metrics, JSON --------------------------------------------------------------


def encoded(name: str) -> str:
    """A name in an address, every byte of it."""
    return "".join(f"%{byte:02X}" for byte in name.encode())


def test_the_page_is_html(port: int) -> None:
    """The root answers with the site's page as UTF-8 HTML."""
    answer = ask(port, "/")
    assert (answer.status, answer.text) == (200, "<p>all targets</p>")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_decoded_exactly_once(port: int, content: Content, name: str) -> None:
    """A target is found by its percent-encoded name, whatever the name holds."""
    content.pages[name] = "its page"
    content.values[name] = {"target": name}
    assert ask(port, f"/targets/{encoded(name)}").text == "its page"
    answer = ask(port, f"/api/v1/targets/{encoded(name)}")
    assert json.loads(answer.body) == {"target": name}


def test_a_slash_in_a_name_may_stay_a_slash(port: int, content: Content) -> None:
    """Whoever types an address does not encode the slash of a name."""
    content.pages["a/b"] = "its page"
    assert ask(port, "/targets/a/b").text == "its page"


def test_a_name_that_is_no_utf_8_is_not_found(port: int) -> None:
    """Percent-encoded bytes that are no text name no target."""
    assert ask(port, "/targets/%ff%fe").status == 404


def test_an_unknown_target_is_not_found_and_not_echoed(port: int) -> None:
    """The page for an unknown name is plain text that says nothing of the name."""
    answer = ask(port, "/targets/%3Cscript%3E")
    assert answer.status == 404
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert b"script" not in answer.body


def test_the_api_answers_json(port: int, content: Content) -> None:
    """Both addresses of the API give JSON, escaped to ASCII."""
    content.values["ü"] = {"target": "ü"}
    answer = ask(port, "/api/v1/targets")
    assert json.loads(answer.body) == {"targets": [{"target": "db"}, {"target": "ü"}]}
    assert answer.body.isascii()
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"


def test_the_api_says_not_found_in_json(port: int) -> None:
    """A script that asks for an unknown target gets an object with an error."""
    answer = ask(port, "/api/v1/targets/nobody")
    assert answer.status == 404
    assert json.loads(answer.body) == {"error": "there is no target of that name"}


def test_bytes_that_were_never_utf_8_do_not_break_a_page(port: int, content: Content) -> None:
    """A surrogate from the environment's undecodable bytes becomes a question mark."""
    content.page = "name \udcff"
    assert ask(port, "/").body == b"name ?"


def test_metrics_are_text_by_default(port: int) -> None:
    """A client that does not negotiate gets the classic text format."""
    answer = ask(port, "/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "egress_two_total 2.0\n" in answer.text


def test_metrics_are_openmetrics_when_asked(port: int) -> None:
    """The Accept header of a Prometheus server gives OpenMetrics, with its end mark."""
    answer = ask(port, "/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"})
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    families = text_string_to_metric_families(answer.text)  # type: ignore[no-untyped-call]
    assert [family.name for family in families] == ["egress_one", "egress_two"]


def test_metrics_can_be_chosen_by_name(port: int) -> None:
    """?name[]= restricts the answer, and may be repeated."""
    assert "egress_one" not in ask(port, "/metrics?name%5B%5D=egress_two_total").text
    both = ask(port, "/metrics?name[]=egress_two_total&name[]=egress_one").text
    assert "egress_one 1.0" in both
    assert "egress_two_total 2.0" in both


@pytest.mark.parametrize("version", ["1.x", "x", "", "9" * 5000, "-1", "1.0.0,,;;"])
def test_a_strange_version_still_gets_metrics(port: int, version: str) -> None:
    """An Accept header with a version that is none gives some format, never an error."""
    accept = f"application/openmetrics-text;version={version}"
    assert ask(port, "/metrics", headers={"Accept": accept}).status == 200


class Broken(Collector):
    """A collector with a fault in it."""

    def collect(self) -> Iterable[Metric]:
        """Fail as a bug would."""
        raise RuntimeError("secret detail")


def test_a_fault_gives_500_and_the_log_the_reason(
    port: int, content: Content, caplog: pytest.LogCaptureFixture
) -> None:
    """A scrape that fails tells the client nothing of the inside, and the log everything."""
    content.registry.register(Broken())
    answer = ask(port, "/metrics")
    assert answer.status == 500
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.ERROR, "the answer to GET /metrics failed")
    ]
    assert "secret detail" in caplog.text
    assert ask(port, "/-/healthy").status == 200


@pytest.mark.parametrize("path", ["/nothing", "/targets/", "/targets", "/metrics/", "//", "/-/"])
def test_everything_else_is_not_found(port: int, path: str) -> None:
    """An unknown address gets a short plain page that names the known ones."""
    answer = ask(port, path)
    assert answer.status == 404
    assert "/metrics" in answer.text


# -- methods ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PATHS, "/nothing"])
def test_head_is_get_without_a_body(port: int, path: str) -> None:
    """HEAD has GET's status and headers and no body; the length, where one is known before."""
    head, get = ask(port, path, "HEAD"), ask(port, path)
    assert head.body == b""
    assert head.status == get.status
    in_pieces = get.headers["Transfer-Encoding"] == "chunked"
    assert in_pieces == (path in IN_PIECES)
    if not in_pieces:
        assert int(head.headers["Content-Length"]) == len(get.body)
    for answer in (head, get):
        del answer.headers["Date"]
        del answer.headers["Transfer-Encoding"]
    assert head.headers.items() == get.headers.items()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"])
@pytest.mark.parametrize("path", PATHS)
def test_other_methods_are_not_allowed(port: int, path: str, method: str) -> None:
    """What can be read cannot be written."""
    answer = ask(port, path, method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_reload_is_for_post_only(port: int, content: Content, method: str) -> None:
    """Following a link never reloads."""
    answer = ask(port, "/-/reload", method)
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    assert content.reloads == 0


def test_reload_says_how_it_went(port: int, content: Content) -> None:
    """A reload answers 200, or 500 with the error's text."""
    assert ask(port, "/-/reload", "POST").status == 200
    content.reload_error = "targets.yml line 3: port is missing"
    answer = ask(port, "/-/reload", "POST")
    assert (answer.status, answer.text) == (500, "targets.yml line 3: port is missing\n")
    assert content.reloads == 2


#: What a browser says of the page that a request comes from, and what becomes of it.
ORIGINS = [
    ({"Sec-Fetch-Site": "cross-site"}, 403),
    ({"Sec-Fetch-Site": "same-site"}, 403),
    ({"Sec-Fetch-Site": "same-origin"}, 200),
    ({"Sec-Fetch-Site": "none"}, 200),
    ({"Origin": "http://evil.example"}, 403),
    ({"Origin": "null"}, 403),
    ({"Origin": "http://us.example:8080", "Host": "us.example:8080"}, 200),
    ({"Origin": "http://us.example:8081", "Host": "us.example:8080"}, 403),
]


@pytest.mark.parametrize(("headers", "status"), ORIGINS)
def test_a_foreign_page_cannot_reload(
    port: int, content: Content, headers: dict[str, str], status: int
) -> None:
    """A browser's request from another origin is refused, over HTTPS and plain HTTP."""
    assert ask(port, "/-/reload", "POST", headers).status == status
    assert content.reloads == (status == 200)


# -- tracing now -----------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_who_asks_for_a_trace_is_led_to_the_page(port: int, content: Content, name: str) -> None:
    """Whatever the name holds, it is found, the answer leads to its page, the text is one line."""
    content.pages[name] = "its page"
    answer = ask(port, f"/-/trace/{encoded(name)}", "POST")
    assert (answer.status, content.traced) == (303, [name])
    assert answer.headers["Location"].isascii()
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert re.fullmatch(r"[^\n]+ is traced now\n", answer.text)
    assert ask(port, answer.headers["Location"]).text == "its page"


def test_a_trace_that_comes_too_soon_is_not_made(port: int, content: Content) -> None:
    """Who asks too often is told when to ask again, in whole seconds that are long enough."""
    content.wait = 6.1
    answer = ask(port, "/-/trace/db", "POST")
    assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
    assert answer.text == "Not now: ask again in 7 s.\n"
    assert "Location" not in answer.headers
    assert content.traced == []


@pytest.mark.parametrize(
    "path", ["nobody", "%3Cscript%3E", "%ff", "db/", "/db", "db%00", "%2e%2e/db"]
)
def test_only_configured_targets_are_traced(port: int, content: Content, path: str) -> None:
    """A name that no target has gives 404, and is not echoed."""
    answer = ask(port, f"/-/trace/{path}", "POST")
    assert answer.status == 404
    assert answer.text == "There is no target of that name; / lists them all.\n"
    assert content.traced == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_a_link_never_traces(port: int, content: Content, method: str) -> None:
    """A trace is asked for by POST alone."""
    answer = ask(port, "/-/trace/db", method)
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    assert content.traced == []


@pytest.mark.parametrize(("headers", "status"), ORIGINS)
def test_a_foreign_page_cannot_trace(
    port: int, content: Content, headers: dict[str, str], status: int
) -> None:
    """A browser's request from another origin is refused before anything is looked up."""
    status = 303 if status == 200 else status
    assert ask(port, "/-/trace/db", "POST", headers).status == status
    assert content.traced == ["db"] * (status == 303)
    if status == 403:
        assert ask(port, "/-/trace/nobody", "POST", headers).status == 403


@pytest.mark.parametrize("body", [b"", b"name=other", b"x" * server.MAX_BODY_BYTES])
def test_a_form_needs_no_fields(port: int, content: Content, body: bytes) -> None:
    """A body says nothing, as long as it is short."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert ask(port, "/-/trace/db?target=other", "POST", headers, body).status == 303
    assert content.traced == ["db"]


# -- health ----------------------------------------------------------------------------


def test_healthy_is_always_healthy(port: int, content: Content) -> None:
    """Liveness does not depend on what the traces find."""
    content.is_ready = False
    assert ask(port, "/-/healthy").status == 200


def test_ready_says_what_is_missing(port: int, content: Content) -> None:
    """Readiness is 503 with a reason until the site says so."""
    content.is_ready = False
    answer = ask(port, "/-/ready")
    assert answer.status == 503
    assert "first traces" in answer.text
    content.is_ready = True
    assert ask(port, "/-/ready").status == 200


# -- headers ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PATHS, "/nothing", "/-/reload", "/-/trace/db"])
def test_every_answer_carries_the_protective_headers(port: int, path: str) -> None:
    """No script, no framing, no sniffing, no cache, no banner, whatever the status."""
    headers = ask(port, path).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline';")
    assert "script" not in policy
    assert "form-action 'self'; frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cache-Control"] == "no-store"
    assert "Server" not in headers
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", headers["Date"])


@pytest.mark.parametrize(
    ("accept", "compressed"),
    [
        ("gzip", True),
        ("gzip, deflate, br", True),
        ("deflate,GZIP;q=0.5", True),
        ("gzip; q=1.0", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("deflate", False),
        ("", False),
    ],
)
def test_long_answers_are_compressed_when_accepted(
    port: int, content: Content, accept: str, *, compressed: bool
) -> None:
    """The client's Accept-Encoding decides, quality included."""
    content.page = "<p>long</p>" * 1000
    answer = ask(port, "/", headers={"Accept-Encoding": accept})
    assert (answer.headers["Content-Encoding"] == "gzip") is compressed
    body = gzip.decompress(answer.body) if compressed else answer.body
    assert body.decode() == content.page


# -- credentials -----------------------------------------------------------------------

SECRET = web.Credentials("scraper", "pâss:word")


def basic(user: str, password: str, scheme: str = "Basic") -> dict[str, str]:
    """The header that a client sends."""
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"{scheme} {token}"}


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC"])
def test_credentials_open_everything(content: Content, scheme: str) -> None:
    """User and password, colons and non-ASCII letters included, admit to every address."""
    with serving(content.site, SECRET) as port:
        for path in PATHS:
            headers = basic("scraper", "pâss:word", scheme)
            assert ask(port, path, headers=headers).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic("scraper", "wrong"),
        basic("wrong", "pâss:word"),
        basic("", ""),
        basic("scraper", ""),
        basic("scraper", "pâss:word", scheme="Bearer"),
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic " + base64.b64encode(b"scraper").decode()},
        {"Authorization": "Basic \xff\xff"},
        {"Authorization": "Basic " + base64.b64encode(b"\xff:\xff").decode()},
    ],
)
def test_without_credentials_nothing_but_health_is_told(
    content: Content, headers: dict[str, str]
) -> None:
    """Everything is 401 with a challenge, unknown addresses and methods too; health is not."""
    with serving(content.site, SECRET) as port:
        for path in ("/", "/metrics", "/targets/db", "/api/v1/targets", "/nothing", "/" * 9000):
            answer = ask(port, path, headers=headers)
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"].startswith('Basic realm="egress-exporter"')
        assert ask(port, "/-/reload", "POST", headers).status == 401
        assert ask(port, "/-/trace/db", "POST", headers).status == 401
        assert ask(port, "/-/healthy", headers=headers).status == 200
        assert ask(port, "/-/ready", headers=headers).status == 200
    assert (content.reloads, content.traced) == (0, [])


def test_empty_credentials_do_not_admit_the_silent() -> None:
    """A request without the header is refused even where user and password are empty."""
    assert not web.Credentials("", "").admit("")


@given(st.text(max_size=200))
def test_no_authorization_header_raises(header: str) -> None:
    """Whatever the header holds, the answer is yes or no."""
    assert SECRET.admit(header) is False


def test_the_password_is_not_printed() -> None:
    """Credentials in a traceback or a log line keep their secret."""
    assert "word" not in repr(SECRET)


# -- connections -----------------------------------------------------------------------


def test_pipelined_requests_are_answered_in_order(port: int, content: Content) -> None:
    """A client may send a hundred requests at once on one kept-alive connection."""
    requests = []
    for number in range(100):
        content.pages[str(number)] = f"page {number}."
        requests.append(b"GET /targets/%d HTTP/1.1\r\nHost: x\r\n" % number)
    requests[-1] += b"Connection: close\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        client.sendall(b"\r\n".join(requests) + b"\r\n")
        received = read_to_end(client)
    assert re.findall(rb"page (\d+)\.", received) == [b"%d" % number for number in range(100)]


def test_a_post_with_a_body_keeps_the_connection(port: int) -> None:
    """A small body is read and dropped; the next request on the connection is understood."""
    request = b"POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    last = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        client.sendall(request + last)
        received = read_to_end(client)
    assert received.count(b"HTTP/1.1 200 OK") == 2


@given(LATIN_1, LATIN_1)
def test_no_header_of_a_client_can_break_an_answer(accept: str, encoding: str) -> None:
    """Negotiation gives an answer, and one that can be sent, whatever was asked for."""
    headers = HTTPHeaders()
    headers.add("Accept", f"application/openmetrics-text;version={accept}")
    headers.add("Accept-Encoding", encoding)
    request = web.Request("GET", "/metrics", headers)
    response = asyncio.run(web.respond(Content().site, None, request))
    assert response.status == 200
    server._prepare(request, response)
