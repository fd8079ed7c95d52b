"""How candidate web servers bear hostile clients: the test by which one was chosen.

    python -m tests.bench.web_servers [NAME ...]

Each candidate serves the same body of about 1 MB at /metrics in a process of its own, with
its best obvious settings against slow clients. Then come, all at the same time,

- 300 half-open clients: half of them say nothing, half stop in the middle of the headers,
- 50 clients that send one byte of a header a second,
- one client that asks for 16 answers and reads none of them,

and twice a second a scrape on a new connection. 30 s later the kernel's table says how many
of the 351 connections it still has at the server's side. Candidates that are not installed
are named and passed over; docs/web-server.md has a table with all of them.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

HALF_OPEN = 300
TRICKLING = 50
UNREAD_ANSWERS = 16
SECONDS = 30.0
#: A scrape that takes longer has failed; Prometheus' own default is 10 s.
SCRAPE_TIMEOUT = 5.0
#: The time that each candidate is told to give a slow client, where it can be told.
PATIENCE = 15

BODY = b"".join(
    b'egress_hop_rtt_seconds{target="target-%d",hop="%d"} 0.0123456789\n' % divmod(n, 20)
    for n in range(16_000)
)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


# -- the candidates: each serves BODY on a port of 127.0.0.1 until it is killed ----------


def _wsgi(_environ: Any, start_response: Any) -> Iterable[bytes]:
    length = str(len(BODY))
    start_response("200 OK", [("Content-Type", CONTENT_TYPE), ("Content-Length", length)])
    return [BODY]


async def _asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    headers = [
        (b"content-type", CONTENT_TYPE.encode()),
        (b"content-length", b"%d" % len(BODY)),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})


def serve_prometheus_client(port: int) -> None:
    """What start_http_server() runs; it has no setting for timeouts."""
    exposition: Any = import_module("prometheus_client.exposition")
    simple_server: Any = import_module("wsgiref.simple_server")
    simple_server.make_server(
        "127.0.0.1",
        port,
        _wsgi,
        exposition.ThreadingWSGIServer,
        handler_class=exposition._SilentHandler,
    ).serve_forever()


def serve_waitress(port: int) -> None:
    """A channel counts as idle by its last byte, in either direction."""
    waitress: Any = import_module("waitress")
    waitress.serve(
        _wsgi,
        listen=f"127.0.0.1:{port}",
        threads=8,
        channel_timeout=PATIENCE,
        cleanup_interval=5,
        connection_limit=512,
        backlog=512,
        _quiet=True,
    )


def serve_uvicorn(port: int) -> None:
    """It has a time limit for idle kept-alive connections only."""
    uvicorn: Any = import_module("uvicorn")
    uvicorn.run(
        _asgi,
        host="127.0.0.1",
        port=port,
        timeout_keep_alive=PATIENCE,
        log_level="critical",
    )


def serve_hypercorn(port: int) -> None:
    """`read_timeout` is the time limit for one read from the socket."""
    config_module: Any = import_module("hypercorn.config")
    serve: Any = import_module("hypercorn.asyncio").serve
    config = config_module.Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.keep_alive_timeout = PATIENCE
    config.read_timeout = PATIENCE
    config.backlog = 512
    config.errorlog = None
    asyncio.run(serve(_asgi, config))


def serve_aiohttp(port: int) -> None:
    """It has a time limit for idle kept-alive connections only."""
    web: Any = import_module("aiohttp.web")

    async def metrics(_request: Any) -> Any:
        return web.Response(body=BODY, headers={"Content-Type": CONTENT_TYPE})

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics)])
    web.run_app(
        app,
        host="127.0.0.1",
        port=port,
        keepalive_timeout=PATIENCE,
        backlog=512,
        access_log=None,
        print=None,
    )


def serve_cheroot(port: int) -> None:
    """`timeout` is the time limit for one read or write of a worker thread."""
    wsgi: Any = import_module("cheroot.wsgi")
    wsgi.Server(
        ("127.0.0.1", port), _wsgi, numthreads=16, timeout=PATIENCE, request_queue_size=512
    ).start()


def serve_tornado(port: int) -> None:
    """The header and the body have a time limit each, the answer has none."""
    httpserver: Any = import_module("tornado.httpserver")
    web: Any = import_module("tornado.web")

    class Metrics(web.RequestHandler):  # type: ignore[misc]
        def get(self) -> None:
            self.set_header("Content-Type", CONTENT_TYPE)
            self.write(BODY)

    async def main() -> None:
        server = httpserver.HTTPServer(
            web.Application([("/metrics", Metrics)], log_function=lambda _handler: None),
            idle_connection_timeout=PATIENCE,
            body_timeout=PATIENCE,
            max_header_size=16 * 1024,
            max_body_size=1024,
        )
        server.listen(port, "127.0.0.1", backlog=512)
        await asyncio.Event().wait()

    asyncio.run(main())


def serve_exporter(port: int) -> None:
    """exporter.publish.server: Tornado's connections with a deadline for each exchange."""
    server: Any = import_module("exporter.publish.server")
    sockets: Any = import_module("exporter.publish.sockets")
    web: Any = import_module("exporter.publish.web")
    page = BODY.decode()

    async def reload() -> None: ...

    async def evidence(_name: str, _of: str, _kind: str) -> None: ...

    async def main() -> None:
        site = web.Site(
            index=lambda _number: iter([page]),
            pages=lambda: 1,
            target=lambda _name: page,
            api_targets=list,
            api_target=lambda _name: None,
            metrics=lambda _encode, _names: iter([b""]),
            ready=lambda: True,
            reload=reload,
            trace_now=lambda _name: None,
            evidence=evidence,
        )
        # The body is a constant, as it is for the others: rendering is not compared here.
        web.EXACT["/metrics"] = web.EXACT["/"]
        await server.start(site, sockets.listen("127.0.0.1", port), None)
        await asyncio.Event().wait()

    asyncio.run(main())


@dataclass(frozen=True)
class Candidate:
    """A row of the table; `package` is the distribution that has to be installed."""

    name: str
    package: str
    serve: Callable[[int], None]


CANDIDATES = (
    Candidate("prometheus_client", "prometheus_client", serve_prometheus_client),
    Candidate("waitress", "waitress", serve_waitress),
    Candidate("uvicorn", "uvicorn", serve_uvicorn),
    Candidate("hypercorn", "hypercorn", serve_hypercorn),
    Candidate("aiohttp", "aiohttp", serve_aiohttp),
    Candidate("cheroot", "cheroot", serve_cheroot),
    Candidate("tornado", "tornado", serve_tornado),
    Candidate("exporter", "tornado", serve_exporter),
)


# -- the hostile clients ---------------------------------------------------------------


def half_open(port: int) -> list[socket.socket]:
    """Connections without a request, and with a part of one."""
    clients = []
    for number in range(HALF_OPEN):
        client = socket.create_connection(("127.0.0.1", port))
        if number % 2 == 0:  # at once, for a server may end the oldest when more come
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Half")
        clients.append(client)
    return clients


def trickling(port: int, stop: threading.Event) -> list[socket.socket]:
    """Connections whose header grows by a byte a second until they are closed."""
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(TRICKLING)]
    for client in clients:
        client.sendall(b"GET /metrics HTTP/1.1\r\nX-Slow: ")

    def trickle() -> None:
        alive = clients
        while not stop.wait(1.0):
            alive = [client for client in alive if _send_byte(client)]

    threading.Thread(target=trickle, daemon=True).start()
    return clients


def _send_byte(client: socket.socket) -> bool:
    try:
        client.send(b"x")
    except OSError:
        return False
    return True


def never_reading(port: int, path: str = "/metrics") -> list[socket.socket]:
    """A connection that asks for more than the kernel's buffers hold, and reads none of it."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * UNREAD_ANSWERS)
    return [client]


# -- what is measured ------------------------------------------------------------------


def scrape(port: int) -> float | None:
    """The seconds that one scrape takes on a new connection; None when it fails."""
    began = time.perf_counter()
    received = 0
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=SCRAPE_TIMEOUT) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            while chunk := client.recv(256 * 1024):
                received += len(chunk)
                if time.perf_counter() - began > SCRAPE_TIMEOUT:
                    return None
    except OSError:
        return None
    return time.perf_counter() - began if received > len(BODY) else None


def open_at_server(port: int) -> int:
    """The connections that the kernel holds data for at the server's side (proc(5), tcp)."""
    held = {"01", "04", "08", "09"}  # ESTABLISHED, FIN_WAIT1, CLOSE_WAIT, LAST_ACK
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = (row.split() for row in rows)
    return sum(row[1].endswith(f":{port:04X}") and row[3] in held for row in fields)


def status_of(pid: int, key: str) -> int:
    """A number of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


@dataclass(frozen=True)
class Result:
    """Latencies in seconds, memory in MiB."""

    calm: float
    worst: float
    failed: int
    still_open: int
    rss: float
    threads: int

    @property
    def row(self) -> str:
        """The cells of the table."""
        return (
            f"{self.calm * 1000:.0f} | {self.worst * 1000:.0f} | {self.failed} | "
            f"{self.still_open} | {self.rss:.0f} | {self.threads}"
        )


def measure(pid: int, port: int) -> Result:
    """Scrape before and during the siege."""
    calm = [scrape(port) or SCRAPE_TIMEOUT for _ in range(20)]
    stop = threading.Event()
    clients = [*half_open(port), *trickling(port, stop), *never_reading(port)]
    began = time.perf_counter()
    latencies, rss, threads = [], 0, 0
    while time.perf_counter() - began < SECONDS:
        latencies.append(scrape(port))
        rss = max(rss, status_of(pid, "VmRSS"))
        threads = max(threads, status_of(pid, "Threads"))
        time.sleep(0.5)
    still_open = open_at_server(port)
    stop.set()
    for client in clients:
        client.close()
    done = [latency for latency in latencies if latency is not None]
    return Result(
        calm=max(calm),
        worst=max(done, default=SCRAPE_TIMEOUT),
        failed=len(latencies) - len(done),
        still_open=still_open,
        rss=rss / 1024,
        threads=threads,
    )


def besiege(candidate: Candidate) -> Result:
    """Run one candidate in a process of its own and measure it."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    command = [sys.executable, "-m", "tests.bench.web_servers", "--serve", candidate.name]
    with subprocess.Popen([*command, str(port)]) as server:
        try:
            for _ in range(100):
                if scrape(port) is not None:
                    break
                time.sleep(0.1)
            return measure(server.pid, port)
        finally:
            server.kill()


def main(arguments: list[str]) -> None:
    """Print the table."""
    if arguments[:1] == ["--serve"]:
        serve = {candidate.name: candidate.serve for candidate in CANDIDATES}
        serve[arguments[1]](int(arguments[2]))
        return
    print("| server | version | calm ms | worst ms | failed | still open | RSS MiB | threads |")
    print("|---|---|---|---|---|---|---|---|")
    for candidate in CANDIDATES:
        if arguments and candidate.name not in arguments:
            continue
        try:
            release = version(candidate.package)
        except ModuleNotFoundError:
            print(f"| {candidate.name} | not installed | | | | | | |", flush=True)
            continue
        print(f"| {candidate.name} | {release} | {besiege(candidate).row} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
