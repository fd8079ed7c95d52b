"""`make demo`: the exporter at work in a lab of 12 hops, its page on the host's loopback.

The lab is tests/scenarios/mid_path_firewall.toml: the exporter runs inside it and sees nothing
else, but the socket that it serves on was opened here and stays here. PORT names the port of
the page (8080); if that is taken, the next free one serves. Ctrl-C or SIGTERM ends everything.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests import scenarios
from tests.lab.lab import Lab, LabError, draw
from tests.scenarios import Scenario

FOLDER = Path(__file__).parents[2]
#: Port of the destination -> the target's name.
NAMES = {443: "shop-api", 8443: "closed-port", 5432: "database", 6379: "cache"}
INTERVAL_SECONDS = 15
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
        with listen(os.environ.get("PORT", "8080")) as listener, Lab(scenario) as lab:
            introduce(scenario, listener)
            status = follow(lab, listener)
            started = time.monotonic()
    except (LabError, OSError, ValueError) as error:
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
    for port in range(int(first), 65536):
        try:
            return socket.create_server(("127.0.0.1", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(f"no port from {first} on is free")


def introduce(scenario: Scenario, listener: socket.socket) -> None:
    """Say what there is to see, and where."""
    host, port = listener.getsockname()
    print(draw(scenario), end="\n\n")
    for expectation in scenario.expectations:
        name = NAMES[expectation.port]
        print(f"{name:>12}  {scenario.destination}:{expectation.port:<5} is {expectation.state}")
    print(f"\n        page  http://{host}:{port}/")
    print(f"     metrics  http://{host}:{port}/metrics")
    print(f"\nTraces every {INTERVAL_SECONDS} s; Ctrl-C ends it. The exporter's log:", flush=True)


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
