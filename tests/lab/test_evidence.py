"""Evidence against a real firewall: tcpdump saw the same packets, and tshark finds them right."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any
from zipfile import ZipFile

import pytest
from scapy.utils import RawPcapReader

from exporter.publish.report import CONNECT_SEES_NONE
from tests import scenarios
from tests.lab.conftest import OpenLab
from tests.lab.exporting import COMMAND, ROOT, environment, exporting
from tests.lab.lab import Lab, LabError
from tests.scenarios import FAMILIES, Scenario

#: Open at 443, dropped at 5432 by the sixth of twelve devices.
FIREWALL = scenarios.load(scenarios.FOLDER / "mid_path_firewall.toml")
DROPPED = 5432
ETHERNET_HEADER = 14
#: Where an IP header has its source and its destination.
ADDRESSES = {"ipv4": (slice(12, 16), slice(16, 20)), "ipv6": (slice(8, 24), slice(24, 40))}
#: Octets of an IP header without options.
IP_HEADERS = {"ipv4": 20, "ipv6": 40}
#: Of an IPv6 reply, traffic class and flow label are not told.
UNTOLD = 4


@dataclass(frozen=True, slots=True)
class Case:
    """What a trace has left: the observation, the zip's files, and the packets on the wire."""

    family: str
    said: Any
    folder: Path
    wire: Counter[bytes]

    def packets(self) -> list[bytes]:
        """Those of the capture file."""
        return read(self.folder / "probes.pcap", 0)

    def is_echo(self, packet: bytes) -> bool:
        """Whether it is an echo request or its reply."""
        protocol, header = (packet[9], 20) if self.family == "ipv4" else (packet[6], 40)
        return (protocol, packet[header]) in {(1, 0), (1, 8), (58, 128), (58, 129)}

    def is_probe(self, packet: bytes) -> bool:
        """Whether this host has sent it."""
        source, _ = ADDRESSES[self.family]
        return packet[source] == self.packets()[0][source]


def read(path: Path, link_layer: int) -> list[bytes]:
    """The packets of a capture file from their IP headers on."""
    with RawPcapReader(str(path)) as reader:
        return [bytes(data)[link_layer:] for data, _ in reader]


def tool(name: str) -> str:
    """The path of a tool; the test fails without it."""
    path = shutil.which(name)
    if path is None:
        pytest.fail(f"evidence is checked with {name} (Debian package of that name)", pytrace=False)
    return path


def traced(scenario: Scenario, folder: Path, engine: str = "syn") -> tuple[Any, Path]:
    """Trace the dropped port while tcpdump looks on; the JSON, and tcpdump's file."""
    seen = folder / "seen.pcap"
    dump = [tool("tcpdump"), "--immediate-mode", "-Z", "root", "-i", "far", "-w", str(seen)]
    endpoint = f"{scenario.destination}:{DROPPED}"
    if scenario.family == "ipv6":
        endpoint = f"[{scenario.destination}]:{DROPPED}"
    with Lab(scenario) as lab, lab.popen(dump, stderr=subprocess.PIPE, text=True) as dumping:
        assert dumping.stderr
        assert "listening on" in dumping.stderr.readline()
        command = [*COMMAND, "trace", "--json", "--evidence", str(folder / "e.zip"), endpoint]
        env = environment(lab, ENGINE=engine, CONNECT_CHECK="false")
        done = lab.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
        dumping.send_signal(signal.SIGINT)
        dumping.communicate()
    assert done.returncode == 1, done.stderr
    with ZipFile(folder / "e.zip") as archive:
        archive.extractall(folder)
    return json.loads(done.stdout), seen


@pytest.fixture(scope="module", params=FAMILIES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A trace by the syn engine, over each IP version."""
    folder, family = tmp_path_factory.mktemp("evidence"), str(request.param)
    try:
        said, seen = traced(replace(FIREWALL, family=family), folder)
    except LabError as error:
        pytest.fail(str(error), pytrace=False)
    return Case(family, said, folder, Counter(read(seen, ETHERNET_HEADER)))


def test_every_packet_was_on_the_wire(case: Case) -> None:
    """Octet for octet tcpdump saw the same; but for those fields that the docs call rebuilt."""
    header = IP_HEADERS[case.family]

    def told(packet: bytes) -> bytes:
        if case.is_echo(packet):
            return packet[header:]
        return packet[UNTOLD:] if case.family == "ipv6" and not case.is_probe(packet) else packet

    wire = Counter(told(packet) for packet in case.wire.elements())
    ours = Counter(map(told, case.packets()))
    assert ours - wire == Counter()


def test_no_probe_and_no_answer_is_missing(case: Case) -> None:
    """All SYNs and what came for them are in the file, those of the trace as the JSON counts them.

    Of a control the JSON leaves out what was asked past the destination.
    """
    packets = [one for one in case.packets() if not case.is_echo(one)]
    wire = [one for one in case.wire.elements() if is_ours(one, case.family)]
    untold = UNTOLD if case.family == "ipv6" else 0
    assert Counter(one[untold:] for one in packets) == Counter(one[untold:] for one in wire)
    of_trace = [one for one in packets if ends(one, case.family) == trace_ends(case)]
    hops = [*case.said["hops"], case.said["confirmation"]]
    sent = [one for one in of_trace if case.is_probe(one)]
    assert len(sent) == sum(hop["sent"] for hop in hops)
    assert len(of_trace) - len(sent) == sum(hop["received"] for hop in hops)


def is_ours(packet: bytes, family: str) -> bool:
    """Whether it is a SYN, an answer to one over TCP, or an ICMP error that quotes one.

    The plain connect is off, so no other TCP is there but the RSTs of the prober's kernel.
    """
    kernels = 0x04  # RST without ACK
    tcp, quoted = segment(packet, family), segment(quote(packet, family), family)
    return bool(quoted) or (bool(tcp) and tcp[13] != kernels)


def segment(packet: bytes, family: str) -> bytes:
    """A packet from its TCP header on, b"" where it is none of that IP version."""
    version, protocol_at = (4, 9) if family == "ipv4" else (6, 6)
    if len(packet) < IP_HEADERS[family] or packet[0] >> 4 != version or packet[protocol_at] != 6:
        return b""
    return packet[IP_HEADERS[family] :]


def quote(packet: bytes, family: str) -> bytes:
    """What an ICMP error quotes, b"" in any other packet."""
    protocol, errors = {"ipv4": (1, {3, 11}), "ipv6": (58, {1, 3})}[family]
    header = IP_HEADERS[family]
    if len(packet) <= header or packet[9 if family == "ipv4" else 6] != protocol:
        return b""
    return packet[header + 8 :] if packet[header] in errors else b""


def ends(packet: bytes, family: str) -> frozenset[tuple[bytes, int]]:
    """Both addresses with their ports: of a TCP segment, or of the one an ICMP error quotes.

    The source port alone does not tell flows apart: several share it.
    """
    whole = quote(packet, family) or packet
    source, destination = ADDRESSES[family]
    tcp = segment(whole, family)
    return frozenset(
        {
            (whole[source], int.from_bytes(tcp[:2], "big")),
            (whole[destination], int.from_bytes(tcp[2:4], "big")),
        }
    )


def trace_ends(case: Case) -> frozenset[tuple[bytes, int]]:
    """Those of the traced flow."""
    kind = AF_INET if case.family == "ipv4" else AF_INET6
    source, destination = (inet_pton(kind, case.said[key]) for key in ("source", "address"))
    return frozenset({(source, trace_port(case.said)), (destination, DROPPED)})


def trace_port(said: Any) -> int:
    """The source port of the trace, which the verdict's facts name."""
    fact = next(fact for fact in said["verdict"]["evidence"] if "SYNs from" in fact)
    return int(fact.split(" from ")[1].split(" to ")[0].rpartition(":")[2])


CHECKSUMS = {
    "ipv4": ("ip.checksum.status", "tcp.checksum.status", "icmp.checksum.status"),
    "ipv6": ("tcp.checksum.status", "icmpv6.checksum.status"),
}


def fields(case: Case, *names: str) -> list[list[str]]:
    """What tshark reads in these fields of each packet; it has nothing to complain of."""
    done = subprocess.run(
        [
            *(tool("tshark"), "-r", str(case.folder / "probes.pcap")),
            *("-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE"),
            *("-T", "fields", "-E", "occurrence=f"),
            *(part for name in names for part in ("-e", name)),
        ],
        capture_output=True,
        check=True,
        text=True,
    )
    assert not [line for line in done.stderr.splitlines() if "Running as user" not in line]
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_tshark_finds_nothing_wrong(case: Case) -> None:
    """Wireshark's own reader takes every packet for whole, and the checksums for right."""
    rows = fields(case, "tcp.flags.ack", "_ws.malformed", *CHECKSUMS[case.family])
    assert len(rows) == len(case.packets())
    good, in_a_quote = "1", "2"
    # Between namespaces the kernel leaves the checksum of a segment to hardware that is not there.
    ours = [row for row in rows if row[0] != "1"]
    assert len(ours) > len(rows) - 5
    for _, malformed, *statuses in ours:
        assert malformed == ""
        assert good in statuses
        assert set(statuses) <= {"", good, in_a_quote}


def test_the_times_are_those_of_the_trace(case: Case) -> None:
    """Packets stand in the order of their times, within the time of the cycle."""
    times = [float(at) for (at,) in fields(case, "frame.time_epoch")]
    assert times == sorted(times)
    assert times[-1] - times[0] < case.said["duration_seconds"]


def test_the_connect_engine_says_what_it_cannot_give(tmp_path: Path) -> None:
    """Without packets there is no capture file; the report is there, and tells why."""
    try:
        said, _ = traced(FIREWALL, tmp_path, "connect")
    except LabError as error:
        pytest.fail(str(error), pytrace=False)
    assert not (tmp_path / "probes.pcap").exists()
    assert json.loads((tmp_path / "observation.json").read_text())["verdict"] == said["verdict"]
    assert CONNECT_SEES_NONE in (tmp_path / "report.txt").read_text().replace("\n", " ")


def test_a_running_exporter_hands_it_out(open_lab: OpenLab) -> None:
    """The latest and the first bad observation are there with their packets, and no good one."""
    settings = {"ENDPOINTS": f"db={FIREWALL.destination}:{DROPPED}", "ENGINE": "syn"}
    with exporting(open_lab(FIREWALL), settings) as exporter:
        exporter.wait_for_traces("db")
        for of in ("latest", "first-bad"):
            status, page = exporter.fetch(f"/api/v1/evidence/db?of={of}&format=html")
            assert status == 200
            assert "data:application/vnd.tcpdump.pcap;base64," in page
        assert exporter.fetch("/api/v1/evidence/db?of=last-good")[0] == 404
