"""A crowd: an exporter that traces many targets through the first hops that the prober shares."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.accuracy.tun import Net, TunWorld
from tests.lab.exporting import COMMAND, ROOT
from tests.lab.lab import LabError

#: Seconds: every target's trace asks each shared hop three times, so 29 of them ask for more
#: than four ICMP errors a second, of which Linux sends one.
INTERVAL = 20


@contextmanager
def crowded(net: Net) -> Iterator[TunWorld]:
    """The network, in which all targets but the first are being traced."""
    endpoints = " ".join(f"{net.target(path)['ipv4']}:443" for path in range(1, net.paths))
    settings = {"ENDPOINTS": endpoints, "INTERVAL_SECONDS": str(INTERVAL), "LOG_TRACES": "changes"}
    with (
        TunWorld(net) as world,
        world.popen(
            [*COMMAND, "serve"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as exporter,
    ):
        assert exporter.stdout
        for line in exporter.stdout:
            if " INFO 10." in line:
                break  # the first target has been traced, and others are under way
        else:
            raise LabError("the exporter that traces the crowd has ended")
        rest = threading.Thread(target=exporter.stdout.read)
        rest.start()
        try:
            yield world
        finally:
            exporter.terminate()
            rest.join()
