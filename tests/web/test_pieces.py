"""Long answers: made and sent bit by bit, to slow readers, old clients and several at once."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import logging
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from http.client import IncompleteRead

import pytest
from prometheus_client import generate_latest

from exporter.publish import objects, server, sockets
from exporter.publish.log import LogStats
from exporter.publish.metrics import Exposition
from exporter.publish.pages import Pages
from exporter.publish.web import Site
from exporter.store import Store
from tests.bench.web_servers import never_reading
from tests.unit.crowd import crowd, member
from tests.unit.scraping import exposed
from tests.web.serving import PATIENCE, Answer, Content, ask, read_to_end, say, serving

TARGETS = 1000
#: So many seconds of work may be done in the loop before anything else in it has its turn; some
#: 5 ms are seen.
LONGEST_WORK = 0.1
GZIP = {"Accept-Encoding": "gzip"}


def site_of(store: Store) -> Site:
    """Everything about a store, as the service serves it."""
    pages, exposition = Pages(store, "1.2.3"), Exposition(store, LogStats())
    return replace(
        Content().site,
        index=lambda wanted, number: pages.index(wanted, number, time.time()),
        pages=pages.count,
        api_targets=lambda: objects.target_objects(store),
        metrics=exposition.pieces,
    )


def metrics_of(pieces: Callable[[], Iterator[bytes]]) -> Site:
    """A site whose metrics are these pieces, whatever is asked for."""
    return replace(Content().site, metrics=lambda _encode, _names: pieces())


# -- what arrives ----------------------------------------------------------------------


def test_a_long_answer_arrives_whole() -> None:
    """Metrics and list in pieces, with and without compression, are what they are in one."""
    store = crowd(150)
    listed = list(objects.target_objects(store))
    with serving(site_of(store)) as port:
        plain, packed = (ask(port, "/metrics", headers=each) for each in ({}, GZIP))
        assert plain.headers["Transfer-Encoding"] == "chunked"
        of_targets = exposed(store).partition("# HELP egress_build_info")[0]
        assert plain.text.startswith(of_targets)
        assert gzip.decompress(packed.body).decode().startswith(of_targets)
        assert json.loads(ask(port, "/api/v1/targets").body) == {"targets": listed}
        packed = ask(port, "/api/v1/targets", headers=GZIP)
        assert packed.headers["Content-Encoding"] == "gzip"
        assert json.loads(gzip.decompress(packed.body)) == {"targets": listed}


def test_an_empty_list_is_a_list(port: int, content: Content) -> None:
    """Without targets the list for scripts is there, and empty."""
    content.values.clear()
    assert json.loads(ask(port, "/api/v1/targets").body) == {"targets": []}


@pytest.mark.parametrize("header", [b"", b"Connection: keep-alive\r\n"])
def test_an_old_client_gets_it_up_to_the_end_of_the_connection(
    port: int, content: Content, header: bytes
) -> None:
    """HTTP/1.0 knows no chunks; the connection ends with the answer, even if asked to stay."""
    answer = say(port, b"GET /metrics HTTP/1.0\r\n" + header + b"\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert body == generate_latest(content.registry)


def test_a_connection_stays_after_an_answer_in_pieces(port: int) -> None:
    """The next request on the same connection is answered as well."""
    scrape = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        client.sendall(scrape * 2 + last)
        received = read_to_end(client)
    assert received.count(b"egress_two_total 2.0") == 2
    assert received.endswith(b"healthy\n")


# -- what breaks -----------------------------------------------------------------------


def breaking() -> Iterator[bytes]:
    """Pieces of which the third cannot be made."""
    yield b""
    yield b"first\n"
    raise RuntimeError("secret detail")


def test_an_answer_that_breaks_half_way_does_not_pass_for_a_whole(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The client sees it cut off, and the log says why; the next client is served."""
    with serving(metrics_of(breaking)) as port:
        with pytest.raises((IncompleteRead, ConnectionResetError)):
            ask(port, "/metrics")
        assert [(entry.levelno, entry.getMessage()) for entry in caplog.records] == [
            (logging.ERROR, "an answer broke off")
        ]
        assert "secret detail" in caplog.text
        assert ask(port, "/-/healthy").status == 200


def test_whoever_leaves_is_not_worked_for_any_longer() -> None:
    """When the client has gone, the pieces that are left are not made."""
    ended = threading.Event()

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 100_000
        finally:
            ended.set()

    with serving(metrics_of(endless)) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(4) == b"HTTP"
        assert ended.wait(PATIENCE)
        assert ask(port, "/-/healthy").status == 200


def test_for_a_slow_reader_nothing_is_made_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next piece is made when the kernel has taken the last one; the deadline holds."""
    monkeypatch.setattr(server, "EXCHANGE_SECONDS", 1.0)
    made: list[int] = []
    ended = threading.Event()

    def counted() -> Iterator[bytes]:
        try:
            for number in range(1000):
                made.append(number)
                yield b"x" * 100_000
        finally:
            ended.set()

    with serving(metrics_of(counted)) as port:
        clients = never_reading(port, "/metrics")
        assert ended.wait(PATIENCE)
        assert 0 < len(made) < 100  # what both kernels' buffers hold
        for client in clients:
            client.close()


# -- which page ------------------------------------------------------------------------


def test_a_page_of_the_index_is_chosen_by_its_number(port: int, content: Content) -> None:
    """Without a number the first one is shown."""
    content.others = ("<p>the second</p>",)
    assert ask(port, "/?page=2").text == "<p>the second</p>"
    assert ask(port, "/?page=1").text == ask(port, "/").text == content.page


@pytest.mark.parametrize(
    ("page", "status"),
    [
        *(("0", 404), ("3", 404), ("999999999", 404), ("-1", 400), ("two", 400), ("1.0", 400)),
        *(("1" * 5000, 414), ("1" * 3000, 400), ("%D9%A1", 400), ("%00", 400), ("1%0A", 400)),
    ],
)
def test_a_wrong_page_is_told_what_is_right(
    port: int, content: Content, page: str, status: int
) -> None:
    """A number beyond the last page is not found, anything else is no number; none is echoed."""
    content.others = ("<p>the second</p>",)
    answer = ask(port, f"/?page={page}")
    assert answer.status == status
    assert ("?page= takes a number from 1 to 2." in answer.text) == (status != 414)
    assert answer.headers["Content-Type"].startswith("text/plain")


def test_only_the_underscores_of_names_stay_single(port: int) -> None:
    """A scraper that asks for the escaping scheme "dots" is answered with another one."""
    accept = "application/openmetrics-text;version=1.0.0;escaping=dots"
    answer = ask(port, "/metrics", headers={"Accept": accept})
    assert answer.headers["Content-Type"].endswith("escaping=underscores")
    assert "egress_one 1.0" in answer.text


# -- the loop --------------------------------------------------------------------------


class Ticker:
    """Sees how much is worked in the loop between two turns of a task that is always ready.

    That is the thread's own time: what other programs take of a busy machine is not the loop's.
    """

    def __init__(self) -> None:
        self.longest = 0.0

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            began = time.thread_time()
            await asyncio.sleep(0)
            self.longest = max(self.longest, time.thread_time() - began)


async def while_serving(
    store: Store, asked: Callable[[int], list[Answer]]
) -> tuple[list[Answer], float]:
    """The answers of a site about a store that changes, and the most work between two turns.

    `asked` runs in a thread and gets the port.
    """
    listening = sockets.listen("127.0.0.1", 0)
    port: int = listening[0].getsockname()[1]
    running = await server.start(site_of(store), listening, None)
    ticker = Ticker()
    gc.disable()  # its pauses are long here, and nothing that publishing could shorten
    tasks = [asyncio.create_task(each) for each in (ticker.run(), observing(store))]
    try:
        answers = await asyncio.to_thread(asked, port)
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await running.stop()
        gc.enable()
    return answers, ticker.longest


async def observing(store: Store) -> None:
    """New observations of a thousand targets, about one a millisecond."""
    for cycle in range(2, 1_000_000):
        for number in range(0, TARGETS, 7):
            store.add(member(number, cycle))
            await asyncio.sleep(0.001)


@pytest.mark.alone
def test_a_thousand_targets_block_the_loop_for_no_long_time() -> None:
    """While all of them are scraped, shown and listed, everything else has its turn."""

    def asked(port: int) -> list[Answer]:
        paths = ("/metrics", "/", "/?page=2", "/api/v1/targets", "/metrics", "/")
        return [ask(port, path, headers=GZIP) for path in paths]

    answers, longest = asyncio.run(while_serving(crowd(TARGETS), asked))
    assert [answer.status for answer in answers] == [200] * 6
    # With "pytest -rP" it is seen, too.
    sys.stdout.write(f"the most work between two turns: {longest * 1000:.1f} ms\n")
    assert longest < LONGEST_WORK


def numbers(series: str, text: str) -> list[tuple[str, float]]:
    """Of each line that begins so the target and the number; a parser would take seconds."""
    found = re.findall(rf"^{series} (.*)$", text, re.MULTILINE)
    return [(name, float(number)) for name, number in found]


@pytest.mark.alone
def test_several_scrapers_get_each_target_of_one_cycle() -> None:
    """Three scrapes at once of a changing store: each is complete and mixes nothing."""

    def asked(port: int) -> list[Answer]:
        answers: list[Answer] = []
        threads = [
            threading.Thread(target=lambda: answers.append(ask(port, "/metrics"))) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers

    answers, _ = asyncio.run(while_serving(crowd(TARGETS), asked))
    assert len(answers) == 3
    for answer in answers:
        traces = dict(numbers(r'egress_traces_total{target="(.*)"}', answer.text))
        first_hops = numbers(r'egress_hop_probes_total{hop="1",target="(.*)"}', answer.text)
        assert len(traces) == TARGETS
        assert {name: probes / 3 for name, probes in first_hops} == traces
