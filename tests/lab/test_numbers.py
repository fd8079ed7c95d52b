"""What the service needs with the connect engine, at its worst: memory, descriptors, no scapy."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.bench.paths import DROPPED_PORT, OPEN_PORT, delayed
from tests.bench.serving import DESCRIPTOR_BOUND, MEMORY_BOUNDS, Service, Watch
from tests.bench.tun_network import TunNetwork
from tests.bench.web_servers import half_open
from tests.lab.exporting import exporting
from tests.lab.lab import LabError, command_pid

TARGETS = 24
#: Every fourth is open, the others are dropped: a dropped probe keeps its socket the longest.
PORTS = (OPEN_PORT, DROPPED_PORT, DROPPED_PORT, DROPPED_PORT)
PAGES = ("/", "/targets/target-1", "/metrics", "/api/v1/targets", "/api/v1/targets/target-1")


@pytest.fixture
def network() -> Iterator[TunNetwork]:
    """A path of its own for each target."""
    try:
        with TunNetwork(delayed()) as network:
            yield network
    except LabError as error:
        pytest.fail(str(error), pytrace=False)


def test_the_service_stays_small_under_everything_at_once(network: TunNetwork) -> None:
    """24 targets without a pause, at once and fast, and 300 half-open clients.

    The process stays within 64 MiB and 512 descriptors, and never loads scapy, whatever is
    asked of it.
    """
    settings = {
        "ENGINE": "connect",
        "ENDPOINTS": " ".join(
            f"target-{path}={network.destination(path)}:{PORTS[path % len(PORTS)]}"
            for path in range(TARGETS)
        ),
        "INTERVAL_SECONDS": "1",
        "MAX_CONCURRENT_TRACES": str(TARGETS),
        "PROBES_PER_SECOND": "1000",
        # Python tells of every import on standard error.
        "PYTHONPROFILEIMPORTTIME": "1",
    }
    with exporting(network, settings) as exporter:
        exporter.wait_for("ready:")
        service = Service(command_pid(exporter.process), ("127.0.0.1", exporter.port))
        with Watch(service) as watch:
            clients = half_open(exporter.port)
            exporter.wait_for_traces(*(f"target-{path}" for path in range(TARGETS)))
            statuses = [exporter.fetch(page)[0] for page in PAGES]
        for client in clients:
            client.close()
        memory = service.memory()
        exporter.signal(signal.SIGTERM)
        exporter.wait_for("stopping")
    loaded = [line for line in exporter.log if line.startswith("import time:")]
    assert statuses == [200] * len(PAGES)
    assert memory.peak <= MEMORY_BOUNDS["connect"]
    assert watch.most <= DESCRIPTOR_BOUND
    assert any("exporter.probing.engines.connect" in line for line in loaded)
    assert not any("scapy" in line for line in loaded)
