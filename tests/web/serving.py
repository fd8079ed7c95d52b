"""A real server in a thread of its own, and clients that say exactly what a test wants."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPMessage
from typing import cast

from prometheus_client import CollectorRegistry, Counter, Gauge

from exporter.publish import server, sockets, web
from exporter.publish.evidence import CONTENT_TYPES, File, Format
from exporter.publish.report import Of

#: More than any answer takes; a test that waits longer has failed.
PATIENCE = 10.0


@dataclass
class Content:
    """What the site holds; tests change it while it is served."""

    page: str = "<p>all targets</p>"
    #: The further pages of the index.
    others: tuple[str, ...] = ()
    pages: dict[str, str] = field(default_factory=dict)
    values: dict[str, object] = field(default_factory=dict)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    is_ready: bool = True
    reload_error: str | None = None
    reloads: int = 0
    #: Seconds after which a trace may be asked for; 0: now.
    wait: float = 0.0
    #: The names of the targets that were traced now.
    traced: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        Gauge("egress_one", "The first.", registry=self.registry).set(1)
        Counter("egress_two", "The second.", registry=self.registry).inc(2)

    async def reload(self) -> str | None:
        """Count, and give the error that the test wants."""
        self.reloads += 1
        return self.reload_error

    def trace_now(self, name: str) -> float | None:
        """Keep the name, if it is a target's and it is time."""
        if name not in self.pages:
            return None
        if not self.wait:
            self.traced.append(name)
        return self.wait

    async def evidence(self, name: str, of: Of, kind: Format) -> File | None:
        """What it is asked for, if it is a target's."""
        if name not in self.pages:
            return None
        return File(f"evidence.{kind}", CONTENT_TYPES[kind], of.encode())

    def metrics(
        self, encode: Callable[[CollectorRegistry], bytes], names: Collection[str]
    ) -> Iterator[bytes]:
        """The registry's, in two pieces."""
        yield b""
        # A restricted one has all that an encoder uses, but shares no type with it.
        asked = self.registry.restricted_registry(names) if names else self.registry
        yield encode(cast("CollectorRegistry", asked))

    @property
    def site(self) -> web.Site:
        """The content as the server takes it."""
        return web.Site(
            index=lambda _wanted, number: iter(["", (self.page, *self.others)[number - 1]]),
            pages=lambda _wanted: 1 + len(self.others),
            target=lambda name, _wanted: self.pages.get(name),
            api_targets=self.values.values,
            api_target=self.values.get,
            metrics=self.metrics,
            ready=lambda: self.is_ready,
            reload=self.reload,
            trace_now=self.trace_now,
            evidence=self.evidence,
        )


class Loop:
    """An event loop in a thread of its own, with the server in it."""

    def __init__(self, site: web.Site, credentials: web.Credentials | None = None) -> None:
        listening = sockets.listen("127.0.0.1", 0)
        self.port: int = listening[0].getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        start = server.start(site, listening, credentials)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result(PATIENCE)

    def stop_server(self, patience: float = PATIENCE) -> None:
        """Stop the server; TimeoutError when it takes longer."""
        asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop).result(patience)

    def end(self) -> None:
        """End the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def serving(site: web.Site, credentials: web.Credentials | None = None) -> Iterator[int]:
    """Serve a site on a port of 127.0.0.1."""
    loop = Loop(site, credentials)
    try:
        yield loop.port
        loop.stop_server()
    finally:
        loop.end()


@dataclass(frozen=True)
class Answer:
    """What came back for a request."""

    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        """The body, decoded."""
        return self.body.decode()


def ask(
    port: int,
    path: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Answer:
    """One request on a connection of its own."""
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def say(port: int, data: bytes, *, half_close: bool = False) -> bytes:
    """Everything that the server answers to these bytes, until it ends the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        try:
            client.sendall(data)
            if half_close:
                client.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server had enough and closed; what it said may still be read
        return read_to_end(client)


def read_to_end(client: socket.socket) -> bytes:
    """All that arrives before the connection ends, gracefully or not."""
    received = b""
    try:
        while chunk := client.recv(65536):
            received += chunk
    except ConnectionError:
        pass
    return received
