"""Evidence: what is in it, that nothing in it is hostile or secret, and how it is kept."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from scapy.utils import RawPcapNgReader, RawPcapReader

from exporter.compact import compact
from exporter.model import (
    MOST_PACKETS,
    SNAP,
    Answer,
    Capture,
    EngineStatus,
    Observation,
    Packet,
    Probe,
    Reply,
    ReplyKind,
    Source,
    State,
    Trace,
    packed,
    unpacked,
)
from exporter.probing.engines.film import Film, as_seen
from exporter.publish import evidence
from exporter.publish.evidence import (
    Evidence,
    Format,
    bundle,
    file_name,
    page,
    pcap,
    refusal,
    write,
)
from exporter.publish.report import CONNECT_SEES_NONE, MEANINGS, Dossier, Of
from exporter.publish.translated import translations
from exporter.shelf import ROOM, Shelf
from tests.unit import filming, samples

PACKETS = filming.exchange(filming.syn(), filming.expired(filming.syn()))
BLOCKED = filming.filmed(samples.filtered(), *PACKETS)
EARLIER = replace(samples.opened("db"), started_at=samples.STARTED_AT - 60)
HASH = "0" * 64


def dossier(observed: Observation = BLOCKED, **changes: Any) -> Dossier:
    """What the evidence of an observation is made of."""
    made = Dossier(
        of=Of.LATEST,
        observed=observed,
        last_good=EARLIER,
        first_bad=observed,
        engine=EngineStatus("syn", "raw sockets are permitted"),
        source=Source(samples.SOURCE),
        configuration=HASH,
        version="1.2.3",
    )
    return replace(made, **changes)


def told(made: Dossier) -> str:
    """The report as text."""
    return evidence.text(made).decode()


def unzipped(made: bytes) -> dict[str, bytes]:
    """The files of a zip, in its order."""
    with ZipFile(BytesIO(made)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


# -- what is in it ---------------------------------------------------------------------


def test_what_a_zip_holds() -> None:
    """Report, page, JSON, the last good trace where it is another one, packets and checksums."""
    assert list(unzipped(bundle(dossier()))) == [
        "report.txt",
        "report.html",
        "observation.json",
        "last-good.json",
        "probes.pcap",
        "about.json",
        "SHA256SUMS",
    ]


def test_the_first_bad_one_stands_beside_a_later_one() -> None:
    """Of a block that lasts, its beginning is in the zip and in the report as well."""
    first = replace(BLOCKED, started_at=samples.STARTED_AT - 30)
    files = unzipped(bundle(dossier(first_bad=first)))
    assert json.loads(files["first-bad.json"])["started_at"] == "2025-12-31T23:59:30.000Z"
    assert b"with which the trouble began" in files["report.txt"]


def test_sha256sum_agrees(tmp_path: Path) -> None:
    """The tool that everybody has checks every other file of the zip."""
    files = unzipped(bundle(dossier()))
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
        text=True,
    )
    assert done.stdout.count(": OK\n") == len(files) - 1


def test_the_same_observation_gives_the_same_octets() -> None:
    """Nothing in a zip depends on when or where it is made; its times are the observation's."""
    assert bundle(dossier()) == bundle(dossier())
    with ZipFile(BytesIO(bundle(dossier()))) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(2026, 1, 1, 0, 0, 0)}


def test_what_the_report_says() -> None:
    """A firewall team finds time, ends, verdict, sentence, controls and the last good trace."""
    text = told(dossier(samples.balanced()))
    assert "2026-01-01T00:00:00.000Z" in text
    assert re.search(r"traced +TCP 10\.9\.0\.1:33434 -> 10\.9\.11\.2:5432: ", text)
    assert "control: canary" in text
    assert "control: echo" in text
    assert "The last trace that got through" in text
    assert "What cannot be known" in text
    assert f"SHA-256 {HASH}" in text


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_there_is_a_report_of_anything(name: str) -> None:
    """Of each kind of observation, traced or not, text and page say the sentence."""
    made = dossier(samples.SAMPLES[name])
    sentence = samples.SAMPLES[name].verdict.reason.split()[0]
    assert sentence in told(made)
    assert unzipped(bundle(made))["report.html"].endswith(b"</html>\n")


def test_every_state_has_a_meaning() -> None:
    """No state is left unexplained."""
    assert set(MEANINGS) == set(State)


def test_a_page_is_one_file_that_loads_nothing() -> None:
    """Style and packets are inside; nothing has an address but the link that holds the packets."""
    whole = page(dossier()).decode()
    assert not re.search(r"<(script|link|img|iframe|object|form|base)\b|@import|url\(", whole)
    assert re.findall(r'(?:href|src)="([^,"]*)', whole) == [
        "data:application/vnd.tcpdump.pcap;base64"
    ]
    _WellFormed().feed(whole)


class _WellFormed(HTMLParser):
    """Fails where an element is closed that is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        del attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


# -- packets ---------------------------------------------------------------------------


def test_the_capture_file_has_every_packet_and_its_time(tmp_path: Path) -> None:
    """Octets, length on the wire and nanoseconds, as packets without a link layer."""
    long = PACKETS[1]._replace(at=filming.BEGAN + 1_234_567_891, length=2000)
    path = tmp_path / "probes.pcap"
    path.write_bytes(pcap((PACKETS[0], long)))
    with RawPcapReader(str(path)) as reader:
        assert not isinstance(reader, RawPcapNgReader)
        assert (reader.linktype, reader.nano) == (101, True)
        (first, _), (second, about) = reader
    assert (first, second) == (PACKETS[0].data, long.data)
    assert (about.sec, about.usec) == (int(samples.STARTED_AT) + 1, 234_567_891)
    assert (about.caplen, about.wirelen) == (len(long.data), 2000)


def test_without_packets_there_is_no_capture_file() -> None:
    """A file without packets would look as if nothing had been sent."""
    assert pcap(()) == b""
    assert "probes.pcap" not in unzipped(bundle(dossier(samples.filtered())))


def test_the_connect_engine_has_none_and_says_why() -> None:
    """Its report says that the kernel keeps them, and an echo's packets alone are not shown."""
    seen = samples.balanced()
    assert seen.trace
    assert seen.controlled.echo
    echo = replace(seen.controlled.echo, captured=packed(PACKETS))
    seen = replace(
        seen,
        trace=replace(seen.trace, engine="connect"),
        controlled=replace(seen.controlled, echo=echo),
    )
    made = dossier(seen)
    assert made.packets == ()
    assert made.no_packets == CONNECT_SEES_NONE
    files = unzipped(bundle(made))
    assert "probes.pcap" not in files
    assert json.loads(files["about.json"])["no_packets"] == CONNECT_SEES_NONE


@pytest.mark.parametrize(
    ("capture", "why"),
    [
        (Capture(lost="they were in the way"), "they were in the way"),
        (None, "not kept through a restart"),
    ],
)
def test_packets_that_are_gone_are_said_to_be(capture: Capture | None, why: str) -> None:
    """Whether room was wanting or the program began anew, the report tells."""
    made = dossier(replace(samples.filtered(), capture=capture))
    assert why in made.no_packets
    assert why in told(made).replace("\n", " ")


def test_packets_survive_compaction() -> None:
    """Kept in less room they are the same, those of controls and of the canary among them."""
    seen = samples.balanced()
    assert seen.trace
    assert seen.controlled.canary
    of_canary = filming.packet(7, filming.syn(port=9), sent=True)
    of_flow = filming.packet(3, filming.syn(port=8), sent=True)

    def with_film(trace: Trace, *packets: Packet) -> Trace:
        return replace(trace, captured=packed(packets))

    seen = replace(
        seen,
        trace=with_film(seen.trace, *PACKETS),
        controlled=replace(
            seen.controlled,
            flows=tuple(with_film(flow, of_flow) for flow in seen.controlled.flows[:1]),
            canary=with_film(seen.controlled.canary, of_canary),
        ),
    )
    kept = compact(compact(seen))
    assert kept.captured == b""
    assert kept.packets == seen.packets == (*PACKETS, of_flow, of_canary)


def test_packets_of_all_addresses_are_together() -> None:
    """A target with several addresses has one capture file."""
    later = filming.packet(9, filming.syn(port=9), sent=True)
    each = (
        filming.filmed(samples.filtered(), *PACKETS),
        filming.filmed(samples.opened("db"), later),
    )
    seen = compact(replace(each[0], each=each))
    assert dossier(seen).packets == (*PACKETS, later)


def test_a_row_gives_back_what_was_packed() -> None:
    """Any packets, even none, and rows that were joined."""
    assert tuple(unpacked(b"")) == ()
    assert tuple(unpacked(packed(PACKETS) + packed(PACKETS[:1]))) == (*PACKETS, PACKETS[0])


def test_a_film_is_bounded() -> None:
    """Of a flow the first packets are kept, of each a part, and how long it was."""
    film = Film()
    probe = Probe(1, 1, 0.0)
    huge = Reply(ReplyKind.TIME_EXCEEDED, filming.ROUTER, 0.0, 64, (11, 0))
    film.received(Answer(probe, huge), b"\x45" + bytes(1999))
    for _ in range(MOST_PACKETS + 9):
        film.sent(probe, bytes(filming.syn()))
    packets = tuple(unpacked(film.row(as_seen)))
    assert len(packets) == MOST_PACKETS
    assert (len(packets[0].data), packets[0].length) == (SNAP, 2000)


# -- translation -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "quoted", "expected"),
    [
        (filming.syn(), filming.syn("10.1.1.1", 777), [("10.1.1.1", 777)]),
        (filming.syn6(), filming.syn6("2001:db8::77", 777), [("2001:db8::77", 777)]),
        (filming.syn(), filming.syn(), []),
        (filming.syn6(), filming.syn6(), []),
    ],
)
def test_a_translated_source_is_read_from_quotes(sent: Any, quoted: Any, expected: Any) -> None:
    """What a router quotes with another source has passed a NAT; an unchanged one says nothing."""
    assert list(translations(filming.exchange(sent, filming.expired(quoted)))) == expected


def test_the_report_names_the_translated_address() -> None:
    """Who reads a firewall's log behind a NAT learns what to look for."""
    quoted = filming.expired(filming.syn("10.1.1.1", 777))
    made = dossier(filming.filmed(samples.filtered(), *filming.exchange(filming.syn(), quoted)))
    assert re.search(r"or, translated +10\.1\.1\.1:777", told(made))


@pytest.mark.parametrize("make", [filming.syn, filming.syn6])
def test_cut_and_broken_quotes_say_nothing(make: Any) -> None:
    """A packet that ends anywhere, or whose octets are any, is read without a fault."""
    whole = bytes(filming.expired(make(port=777)))
    for end in range(len(whole)):
        list(translations([filming.packet(0, whole[:end], sent=False)]))
        list(translations([filming.packet(0, whole[:end] + os.urandom(40), sent=False)]))


# -- hostile and secret ----------------------------------------------------------------


def test_hostile_names_stay_text() -> None:
    """Markup, escapes and direction marks of names and addresses reach neither page nor text."""
    made = dossier(samples.varied(samples.HOSTILE), source=Source(samples.HOSTILE))
    text, whole = told(made), page(made).decode()
    assert "\x1b" not in text + whole
    assert "\u202e" not in text + whole
    assert "<b>&quot;" not in whole
    assert '<b>"q"' not in whole
    _WellFormed().feed(whole)


@pytest.mark.parametrize("name", [samples.HOSTILE, "../../etc/passwd", 'a"; b="c', "x\r\ny", "db"])
def test_a_file_name_is_safe_anywhere(name: str) -> None:
    """Neither a header nor a file system is led astray by a target's name."""
    made = file_name(dossier(samples.filtered(name)), Format.ZIP)
    assert re.fullmatch(r"evidence-[A-Za-z0-9._-]{1,60}-20260101T000000Z\.zip", made)


# -- how much is kept ------------------------------------------------------------------


def test_what_is_well_makes_room_first() -> None:
    """Healthy targets lose their packets, the oldest first, before any failing one does."""
    shelf = Shelf(room=100)
    assert shelf.put("bad", 40, well=False) == []
    assert shelf.put("good", 30, well=True) == []
    assert shelf.put("better", 30, well=True) == []
    assert shelf.put("good", 30, well=True) == []
    assert shelf.put("worse", 50, well=False) == ["better", "good"]
    assert shelf.put("worst", 30, well=False) == ["bad"]
    assert shelf.taken == 80
    shelf.remove("worse")
    assert shelf.taken == 30


def test_the_store_keeps_packets_within_its_room() -> None:
    """A target whose packets had to go keeps its observations, and they say so."""
    noise = tuple(filming.packet(n, os.urandom(1500), sent=True) for n in range(MOST_PACKETS))
    few = ROOM // (MOST_PACKETS * 1500) + 2
    seen = [
        compact(filming.filmed(samples.filtered(f"t{number}"), *noise)) for number in range(few)
    ]
    store = samples.store(*seen)
    kept = [record.latest.packets for record in store if record.latest]
    assert kept[0] == ()
    assert len(kept[-1]) == MOST_PACKETS
    first = store.get("t0")
    assert first
    assert first.latest
    assert first.first_bad
    assert first.latest.capture
    assert "no room" in first.latest.capture.lost
    assert first.first_bad is first.latest
    assert first.latest.verdict == seen[0].verdict


# -- handing it out --------------------------------------------------------------------


def asked(of: Of, kind: Format = Format.ZIP, name: str = "db") -> evidence.File | None:
    """What a store that has seen a target open, then blocked, hands out."""
    store = samples.store(EARLIER, BLOCKED_DB)
    return asyncio.run(Evidence(store, lambda: HASH, "1.2.3").file(name, of, kind))


BLOCKED_DB = replace(BLOCKED, target=EARLIER.target)


@pytest.mark.parametrize(
    ("of", "state"), [(Of.LATEST, "filtered"), (Of.FIRST_BAD, "filtered"), (Of.LAST_GOOD, "open")]
)
def test_each_kept_observation_can_be_had(of: Of, state: str) -> None:
    """The latest, the first bad and the last good one, each with a name of its own time."""
    file = asked(of)
    assert file
    seen = json.loads(unzipped(file.body)["observation.json"])
    assert seen["verdict"]["state"] == state
    moment = re.sub(r"[:-]|\.\d+", "", seen["started_at"])
    assert file.name == f"evidence-db-{moment}.zip"


def test_a_page_can_be_had_alone() -> None:
    """What is mailed is one page, with its type."""
    file = asked(Of.LATEST, Format.HTML)
    assert file
    assert file.name.endswith(".html")
    assert file.content_type == "text/html; charset=utf-8"
    assert file.body.startswith(b"<!DOCTYPE html>")


def test_what_is_not_there_is_none() -> None:
    """An unknown target, or one that has never been blocked, has no such evidence."""
    assert asked(Of.LATEST, name="nobody") is None
    store = samples.store(samples.opened("db"))
    assert (
        asyncio.run(Evidence(store, lambda: HASH, "1").file("db", Of.FIRST_BAD, Format.ZIP)) is None
    )


@pytest.mark.parametrize(("name", "begins"), [("e.zip", b"PK"), ("e.HTML", b"<!DOCTYPE")])
def test_writing_replaces_a_file_as_a_whole(tmp_path: Path, name: str, begins: bytes) -> None:
    """The end of its name decides what it becomes; nothing else is left in the folder."""
    path = tmp_path / name
    path.write_text("old")
    write(path, dossier())
    assert path.read_bytes().startswith(begins)
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong, what stood there stays, and nothing half-written does."""
    path = tmp_path / "e.zip"
    path.write_text("old")

    def fail(_dossier: Dossier) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(evidence.MAKERS, Format.ZIP, fail)
    with pytest.raises(OSError, match="No space"):
        write(path, dossier())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    """A folder that is missing, and one in the file's place, are named in advance."""
    assert refusal(tmp_path / "e.zip") == ""
    assert refusal(tmp_path / "none" / "e.zip") == f"there is no folder {tmp_path / 'none'}"
    assert refusal(tmp_path) == f"{tmp_path} is a folder"
    assert refusal(tmp_path / ("n" * 300)).endswith(": File name too long")
