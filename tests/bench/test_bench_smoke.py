"""The benchmark runs, and the network behind the TUN device tells the truth.

No figure is asserted: each part runs once with the smallest counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from exporter.probing.engines import ENGINES
from tests.bench import blocked, cpu, open_path, serving, tools
from tests.bench.__main__ import main
from tests.bench.paths import BLOCKED, OPEN_PORT, delayed
from tests.bench.prober import QUOTED_AT
from tests.bench.report import Goal, Part, machine, summary
from tests.bench.tools import (
    MTR,
    OURS,
    OURS_UNPRIVILEGED,
    PEERS,
    TCPTRACEROUTE,
    TRACEROUTE,
    LastHop,
)
from tests.bench.tun_network import (
    SYN,
    Layout,
    Network,
    TunNetwork,
    address,
)
from tests.lab.lab import LabError
from tests.lab.tun import ICMP_BURST, ROOT
from tests.scenarios import Rule, Scenario
from tests.simulated.network import ICMP_OF_ACTION, INITIAL_TTL

pytestmark = pytest.mark.alone

PRINTED = {
    TCPTRACEROUTE: " 5  10.9.4.2  0.1 ms  0.1 ms  0.1 ms\n 6  * 10.9.5.2  0.1 ms *\n 7  * * *\n",
    TRACEROUTE: (
        "traceroute to 10.9.11.2 (10.9.11.2), 30 hops max, 60 byte packets\n"
        " 6  10.9.5.2  0.073 ms  0.069 ms  0.068 ms\n 7  * * *\n"
    ),
    MTR: (
        "Start: 2026-01-01T00:00:00+0000\nHOST: 10-9-0-1      Loss%   Snt   Last\n"
        "  6.|-- 10.9.5.2       0.0%     3    0.1\n  7.|-- ???           100.0     3    0.0\n"
    ),
    OURS: json.dumps(
        {
            "verdict": {"last_reachable_hop": 6},
            "hops": [{"hop": 6, "responders": [{"address": "10.9.5.2"}]}],
        }
    ),
}


@contextmanager
def opened(scenario: Scenario) -> Iterator[TunNetwork]:
    """A network behind a TUN device, or one line that says what it lacks."""
    try:
        with TunNetwork(scenario) as network:
            yield network
    except LabError as error:
        pytest.fail(str(error), pytrace=False)


def ours(network: TunNetwork, path: int, port: int) -> subprocess.Popen[str]:
    """`egress-exporter trace` on its way to the end of a path."""
    endpoint = f"{network.destination(path)}:{port}"
    argv = [sys.executable, "-m", "exporter", "trace", endpoint, "--json"]
    process: subprocess.Popen[str] = network.popen(
        argv, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    return process


def syn(path: int, ttl: int, port: int) -> bytes:
    """The least of a SYN that the network looks at."""
    destination = bytes(map(int, address(path, BLOCKED.hops).split(".")))
    header = bytes((0x45, 0, 0, 40, 0, 7, 0, 0, ttl, 6, 0, 0, 10, 9, 0, 1)) + destination
    ports = (33000).to_bytes(2, "big") + port.to_bytes(2, "big")
    return header + ports + (99).to_bytes(4, "big") + bytes((0, 0, 0, 0, 0x50, SYN)) + bytes(6)


def answers(network: Network, *packets: bytes, at: float = 0.0) -> list[bytes]:
    """Everything that comes back for packets that were sent at once."""
    for packet in packets:
        network.take(packet, at)
    found = []
    while answer := network.due(at + 1.0):
        found.append(answer)
    return found


def test_a_path_behind_the_tun_device_is_what_its_scenario_says() -> None:
    """Each port gets its verdict, every hop its address and no less than its round trip."""
    with opened(delayed()) as network:
        tracing = {
            expected: (path, ours(network, path, expected.port))
            for path, expected in enumerate(BLOCKED.expectations)
        }
        observed = {
            expected: (path, json.loads(process.communicate()[0]))
            for expected, (path, process) in tracing.items()
        }
    for expected, (path, observation) in observed.items():
        verdict = observation["verdict"]
        assert verdict["state"] == expected.state
        assert verdict["last_reachable_hop"] == expected.last_reachable_hop
        for hop in observation["hops"][: expected.last_reachable_hop]:
            responder = hop["responders"][0]
            assert responder["address"] == address(path, hop["hop"])
            assert min(responder["rtt_seconds"]) >= 2 * hop["hop"] * delayed().delay


def test_an_ordinary_connection_succeeds_and_ends() -> None:
    """The kernel's own connect() takes the SYN-ACK, so checksums are right."""
    program = "import socket, sys; socket.create_connection((sys.argv[1], 443), 5).close()"
    with opened(delayed()) as network:
        argv = [sys.executable, "-c", program, network.destination(0)]
        assert network.run(argv).returncode == 0


def test_answers_carry_what_a_router_would_send() -> None:
    """An ICMP error names its sender, quotes the SYN, and comes with the TTL of its distance."""
    network = Network(BLOCKED, Layout())
    [error] = answers(network, syn(3, 5, OPEN_PORT))
    assert error[12:16] == bytes((10, 9, 4, 5))
    assert (error[20], error[21]) == ICMP_OF_ACTION["ipv4"]["time-exceeded"]
    assert error[8] == INITIAL_TTL - 4
    assert int.from_bytes(error[QUOTED_AT + 4 : QUOTED_AT + 8], "big") == 99
    assert error[28 + 8] == 1  # the quoted TTL


@pytest.mark.parametrize(("shared_hops", "paths"), [(1, 1), (0, 2)])
def test_a_router_has_one_budget_for_all_paths_that_share_it(shared_hops: int, paths: int) -> None:
    """Six errors at once and then one a second, from each router that there is."""
    network = Network(BLOCKED, Layout(shared_hops=shared_hops))
    burst = [syn(path, 1, OPEN_PORT) for path in (0, 1) for _ in range(10)]
    assert len(answers(network, *burst)) == paths * ICMP_BURST
    assert len(answers(network, *burst, at=1.0)) == paths


def test_without_a_limit_every_probe_is_answered() -> None:
    """The limit on ICMP errors is an option."""
    network = Network(BLOCKED, Layout(limited=False))
    assert len(answers(network, *[syn(0, 1, OPEN_PORT)] * 20)) == 20


def test_a_reset_in_mid_path_is_forged_and_a_silent_router_is_silent() -> None:
    """The other actions of a scenario hold behind the TUN device, too."""
    scenario = replace(BLOCKED, silent=(3,), rules=(Rule(6, "tcp-reset"),))
    network = Network(scenario, Layout())
    assert answers(network, syn(0, 3, OPEN_PORT)) == []
    [reset] = answers(network, syn(0, 7, OPEN_PORT))
    assert reset[12:16] == bytes((10, 9, 11, 2))
    assert reset[8] == INITIAL_TTL - 5


@pytest.mark.parametrize("packet", [b"", bytes(60), syn(0, 1, 443)[:39], b"\x60" + bytes(59)])
def test_what_is_no_syn_gets_no_answer(packet: bytes) -> None:
    """Packets that the network does not know, e.g. IPv6 router solicitations, are left alone."""
    assert answers(Network(BLOCKED, Layout()), packet) == []


def test_a_network_needs_a_destination() -> None:
    """A scenario that the TUN device cannot play is refused."""
    with pytest.raises(LabError, match="every destination exists"):
        TunNetwork(replace(BLOCKED, destination_exists=False))


@pytest.mark.parametrize("tool", PRINTED, ids=lambda tool: tool.name)
def test_the_last_hop_is_read_from_each_programs_output(tool: tools.Tool) -> None:
    """The last line with an address counts, whatever silence and headings stand around it."""
    assert tool.last_hop(PRINTED[tool]) == LastHop(6, "10.9.5.2")


def test_every_program_is_there_and_tells_its_version() -> None:
    """What is compared is installed, and the table can name its version."""
    assert tools.versions(PEERS).count(" ") == 2 * len(PEERS) - 1


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says what to install."""
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(tools.MissingToolError, match=r"needs mtr \(Debian package mtr-tiny\)"):
        MTR.version()


def test_the_parts_run() -> None:
    """Each part runs from end to end with the smallest counts, and finds what there is."""
    assert blocked.measure({OURS: 1, OURS_UNPRIVILEGED: 1}).render().count("6  10.9.5.2") == 2
    told = open_path.measure({OURS: 1, TRACEROUTE: 1}, sweeps=1).render()
    assert told.count("12 hops found") == len(ENGINES)
    assert told.count("last hop 12") == 2
    assert cpu.measure(crowds=(2,), rounds=1, repeats=1).render().count("72 of 72") == len(ENGINES)
    assert "descriptors" in serving.measure(targets=2, cycles=1, starts=1).render()


def test_a_part_is_a_table_with_its_goals() -> None:
    """Columns are aligned, and a goal says whether it was met."""
    goals = (Goal("speed", 1.0, 2.0, "s"), Goal("share", 3.0, 2.0, ""))
    part = Part("Title", ("what", "time"), (("a", "1 s"), ("long", "10 s")), goals, ("a note",))
    assert part.render() == (
        "### Title\n\n"
        "| what | time |\n|------|------|\n| a    | 1 s  |\n| long | 10 s |\n\n"
        "- speed: 1 s of at most 2: met\n- share: 3 of at most 2: MISSED\n- a note"
    )


def test_figures_are_told_with_their_spread() -> None:
    """A median stands with the range and the number of runs it comes from."""
    assert summary([0.003, 0.001, 0.002], "ms", 1e3) == "2 ms (1 to 3, 3 runs)"
    assert summary([2.0]) == "2 s (1 run)"


def test_the_machine_is_described_without_its_name() -> None:
    """The line above the tables tells size and kernel, never who it was."""
    assert "cores" in machine()
    assert os.uname().nodename not in machine()


def test_an_unknown_part_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """The parts that there are stand in the message."""
    with pytest.raises(SystemExit) as ended:
        main(["nothing"])
    assert ended.value.code == 2
    assert "blocked, open, cpu, serve" in capsys.readouterr().err
