"""`make demo`: the exporter at work in a lab of 12 hops, its page on the host's loopback.

The lab is tests/scenarios/mid_path_firewall.toml: the exporter runs inside it and sees nothing
else, but the socket that it serves on was opened here and stays here. PORT names the port of
the page (8080); if that is taken, the next free one serves. Where Prometheus is installed, one
runs beside it with the rules of dashboards/rules, its data in a folder of their own, on port 9090
or the next free one. Ctrl-C or SIGTERM ends everything.
"""

from __future__ import annotations

import errno
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests import scenarios
from tests.lab import prometheus
from tests.lab.lab import Lab, LabError, at, draw
from tests.scenarios import Scenario

FOLDER = Path(__file__).parents[2]
#: Port of the destination -> the target's name.
NAMES = {443: "shop-api", 8443: "closed-port", 5432: "database", 6379: "cache"}
INTERVAL_SECONDS = 15
RULES = FOLDER / "dashboards" / "rules"
PROMETHEUS_PORT = 9090
#: From one scrape to the next.
SCRAPE_INTERVAL = "2s"
#: A router without a rule, which a visitor may give one.
SPARE_HOP = 4
#: The exporter promises to end within 2 s of SIGTERM.
STOP_SECONDS = 2.5
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: What of the caller's environment the exporter gets; the settings are the demo's.
KEPT = ("HOME", "LANG", "PATH", "TERM")


def main() -> int:
    """Run the demo until it is stopped; returns the exit status."""
    scenario = scenarios.load(scenarios.FOLDER / "mid_path_firewall.toml")
    for number in STOP_SIGNALS:
        signal.signal(number, signal.default_int_handler)
    try:
        with ExitStack() as stack:
            listener = stack.enter_context(listen(os.environ.get("PORT", "8080")))
            lab = stack.enter_context(Lab(scenario))
            introduce(lab, listener, stack.enter_context(watching(listener)))
            status = follow(lab, listener)
            started = time.monotonic()
    except (LabError, prometheus.PrometheusError, OSError, ValueError) as error:
        print(f"No demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before the exporter had begun
        print("Stopped; nothing is left.")
        return 0
    print(
        f"Removed the lab in {time.monotonic() - started:.2f} s: {scenario.hops + 1} network "
        f"namespaces, {scenario.hops} links, their firewalls and every process inside."
    )
    return status


def listen(first: str) -> socket.socket:
    """A listening socket on loopback, on the first port from `first` on that is free."""
    if not first.isascii() or not first.isdigit() or not 0 < int(first) < 65536:
        raise ValueError(f"PORT is {first!r}; it should be a number from 1 to 65535")
    return first_free(int(first))


def first_free(first: int) -> socket.socket:
    """A listening socket on the first port from `first` on that is free."""
    for port in range(first, 65536):
        try:
            return socket.create_server(("127.0.0.1", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(f"no port from {first} on is free")


@contextmanager
def watching(listener: socket.socket) -> Iterator[str | None]:
    """Prometheus over the exporter, and its address; None where it is not installed."""
    if not prometheus.is_installed():
        yield None
        return
    with first_free(PROMETHEUS_PORT) as found:
        port = found.getsockname()[1]
    host, exporter = listener.getsockname()
    with (
        TemporaryDirectory(prefix="egress-demo-") as folder,
        prometheus.running(
            Path(folder),
            [f"{host}:{exporter}"],
            sorted(RULES.glob("*.rules.yml")),
            every=SCRAPE_INTERVAL,
            port=port,
        ) as running,
    ):
        yield running.address


def introduce(lab: Lab, listener: socket.socket, watcher: str | None) -> None:
    """Say what there is to see, and where."""
    host, port = listener.getsockname()
    scenario = lab.scenario
    print(draw(scenario), end="\n\n")
    for expectation in scenario.expectations:
        name = NAMES[expectation.port]
        print(f"{name:>12}  {scenario.destination}:{expectation.port:<5} is {expectation.state}")
    print(f"\n        page  http://{host}:{port}/")
    print(f"     metrics  http://{host}:{port}/metrics")
    if watcher:
        print(f"      alerts  {watcher}/alerts")
        print("              pending within half a minute; EgressBlockedOutside fires 2 min later")
    else:
        print(f"      alerts  none: {prometheus.MISSING}")
    print("\nTo have shop-api dropped too, and to let it pass again, in another terminal:")
    print(f"  {switch(lab, 'add rule inet lab forward tcp dport 443 drop')}")
    print(f"  {switch(lab, 'flush chain inet lab forward')}")
    print(f"\nTraces every {INTERVAL_SECONDS} s; Ctrl-C ends it. The exporter's log:", flush=True)


def switch(lab: Lab, command: str) -> str:
    """The command line that gives nft a command at the spare hop, from outside the lab."""
    user = () if os.geteuid() == 0 else ("--user", "--preserve-credentials")
    inside = at(SPARE_HOP, ["nft", command])
    words = ["nsenter", f"--target={lab.pid}", *user, "--net", "--mount", *inside]
    return shlex.join(words)


def follow(lab: Lab, listener: socket.socket) -> int:
    """Run the exporter in the lab until it ends or a signal comes; returns the exit status."""
    exporter = lab.popen(
        [sys.executable, "-m", "exporter", "serve"],
        listener,
        cwd=FOLDER,
        env=environment(lab.scenario),
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C at the terminal is for us
    )
    try:
        status = exporter.wait()
    except KeyboardInterrupt:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # impatience would leave a mess
        stop(exporter)
        return 0
    print(f"The exporter ended by itself with status {status}.")
    return status


def environment(scenario: Scenario) -> dict[str, str]:
    """The exporter's settings."""
    endpoints = (f"{name}={scenario.destination}:{port}" for port, name in NAMES.items())
    return {
        **{name: os.environ[name] for name in KEPT if name in os.environ},
        "ENDPOINTS": " ".join(endpoints),
        "INTERVAL_SECONDS": str(INTERVAL_SECONDS),
        "PLATFORM_NETWORKS": ",".join(scenario.platform_networks),
    }


def stop(exporter: subprocess.Popen[bytes]) -> None:
    """End the exporter, by force if it does not go."""
    started = time.monotonic()
    exporter.terminate()
    try:
        status = exporter.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        exporter.kill()
        status = exporter.wait()
    print(f"\nStopped the exporter in {time.monotonic() - started:.2f} s (status {status}).")


if __name__ == "__main__":
    sys.exit(main())
