"""Never more than 512 descriptors: the bounds of the parts, added up."""

from __future__ import annotations

from exporter.config.schema import Globals
from exporter.config.sources import MAX_SOURCES
from exporter.probing.driver import PROBE_BURST
from exporter.probing.engines.waiting import MOST_SOCKETS, PATIENCE
from exporter.publish.server import MAX_CONNECTIONS

BOUND = 512
#: For what a library opens for a moment, such as a source file for a traceback.
RESERVE = 32

#: What the process has open at once, at most, with the connect engine.
MOST = {
    "probes": MOST_SOCKETS,
    "the engine's epoll, timer and a datagram socket for each IP version": 4,
    "connections to the pages, and the one that comes before another has to go": MAX_CONNECTIONS
    + 1,
    "listening sockets": 2,
    "a plain connect() of each trace": Globals.model_fields["max_concurrent_traces"].default,
    "a look-up of each trace: a socket for each IP version": 2
    * Globals.model_fields["max_concurrent_traces"].default,
    "the event loop's epoll, and the pair that wakes it": 3,
    "standard input, output and error": 3,
    "a list of targets that is asked for or read, of each source": MAX_SOURCES,
    "a file that is read: configuration, routes, counters, resolv.conf": 4,
}


def test_the_bounds_of_all_parts_add_up_to_no_more_than_the_promise() -> None:
    """Every part at its bound at the same time, the process stays below 512, with a reserve."""
    assert sum(MOST.values()) <= BOUND - RESERVE


def test_the_default_rate_never_runs_out_of_sockets() -> None:
    """Where nobody answers, a socket has had its patience before its place is needed."""
    rate = Globals.model_fields["probes_per_second"].default
    assert PROBE_BURST + rate * PATIENCE <= MOST_SOCKETS
