"""Evidence to hand to another team: one zip, or one page that can be mailed.

The zip holds the report as text and as a page, the observation as JSON, the last good and the first
bad one where they are other ones, the packets, what made it all, and checksums. The same
observation always gives the same octets.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
from base64 import b64encode
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from io import BytesIO
from pathlib import Path
from typing import NamedTuple
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from exporter.model import Observation, Packet
from exporter.publish.objects import observation_object, to_json
from exporter.publish.report import Dossier, Of, sections, title
from exporter.publish.sheet import as_page, as_text
from exporter.publish.text import timestamp
from exporter.store import Record, Store

#: So many are made at the same time; others wait. One takes some 10 ms.
AT_ONCE = 2
#: https://www.tcpdump.org/linktypes.html: packets begin with an IP header, either version's.
_LINKTYPE_RAW = 101
#: Of a name, in a file's.
_NAME_LENGTH = 60
_SECOND = 1_000_000_000
#: The link by which a page holds the packets, in base64.
_LINK = (
    '<p><a download="probes.pcap" href="data:application/vnd.tcpdump.pcap;base64,{}">'
    "probes.pcap, which this page holds</a></p>\n"
)


class Format(StrEnum):
    """What evidence is handed out as."""

    ZIP = "zip"
    HTML = "html"


class File(NamedTuple):
    """A file to hand out; its name is safe in a header and in any file system."""

    name: str
    content_type: str
    body: bytes


CONTENT_TYPES = {Format.ZIP: "application/zip", Format.HTML: "text/html; charset=utf-8"}


# -- what it is made of ------------------------------------------------------------------


def bundle(dossier: Dossier) -> bytes:
    """The zip."""
    packets = pcap(dossier.packets)
    files = {
        "report.txt": text(dossier),
        "report.html": _page(dossier, packets),
        "observation.json": _json(observation_object(dossier.observed)),
        **_others(dossier),
        **({"probes.pcap": packets} if packets else {}),
        "about.json": _json(_about(dossier)),
    }
    files["SHA256SUMS"] = b"".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()
        for name, content in files.items()
    )
    return _zipped(files, dossier.observed.started_at)


def text(dossier: Dossier) -> bytes:
    """The report, without the packets."""
    return _utf8(as_text(title(dossier), sections(dossier)))


def page(dossier: Dossier) -> bytes:
    """The report and the packets in one page."""
    return _page(dossier, pcap(dossier.packets))


def _page(dossier: Dossier, packets: bytes) -> bytes:
    link = _LINK.format(b64encode(packets).decode()) if packets else ""
    return _utf8(as_page(title(dossier), sections(dossier), link))


MAKERS = {Format.ZIP: bundle, Format.HTML: page}


def file_name(dossier: Dossier, kind: Format) -> str:
    """E.g. evidence-db-20260101T000000Z.zip."""
    observed = dossier.observed
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", observed.target.name)[:_NAME_LENGTH]
    moment = datetime.fromtimestamp(observed.started_at, UTC)
    return f"evidence-{name}-{moment:%Y%m%dT%H%M%SZ}.{kind}"


def pcap(packets: Sequence[Packet]) -> bytes:
    """A capture file with times in nanoseconds; b"" without packets."""
    if not packets:
        return b""
    # Where there are packets, the engine has loaded it already.
    from scapy.utils import RawPcapWriter  # noqa: PLC0415

    content = BytesIO()
    writer = RawPcapWriter(content, linktype=_LINKTYPE_RAW, nano=True)
    writer.write_header(None)
    for at, _, data, length in packets:
        writer.write_packet(data, sec=at // _SECOND, usec=at % _SECOND, wirelen=length)
    return content.getvalue()


def _others(dossier: Dossier) -> dict[str, bytes]:
    others = {"last-good.json": dossier.last_good, "first-bad.json": dossier.first_bad}
    return {
        name: _json(observation_object(other))
        for name, other in others.items()
        if other and other.started_at != dossier.observed.started_at
    }


def _about(dossier: Dossier) -> dict[str, object]:
    packets = dossier.packets
    sent = sum(packet.sent for packet in packets)
    return {
        "program": "egress-exporter",
        "version": dossier.version,
        "engine": dossier.engine.name,
        "engine_reason": dossier.engine.explanation,
        "configuration_sha256": dossier.configuration,
        "target": dossier.observed.target.name,
        "observation": dossier.of.value,
        "observed_at": timestamp(dossier.observed.started_at),
        "packets_sent": sent,
        "packets_received": len(packets) - sent,
        "no_packets": dossier.no_packets or None,
    }


def _json(value: dict[str, object]) -> bytes:
    return _utf8(to_json(value, indent=1) + "\n")


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _zipped(files: dict[str, bytes], at: float) -> bytes:
    moment = datetime.fromtimestamp(at, UTC)
    content = BytesIO()
    with ZipFile(content, "w") as archive:
        for name, body in files.items():
            entry = ZipInfo(name, moment.timetuple()[:6])
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, body, ZIP_DEFLATED)
    return content.getvalue()


# -- to whom it is handed ----------------------------------------------------------------


class Evidence:
    """Evidence of what a store holds; made in threads, so that the loop goes on meanwhile.

    `configuration` gives the settings' hash, and is called in such a thread.
    """

    def __init__(self, store: Store, configuration: Callable[[], str], version: str) -> None:
        self._store = store
        self._configuration = configuration
        self._version = version
        self._making = asyncio.Semaphore(AT_ONCE)

    async def file(self, name: str, of: Of, kind: Format) -> File | None:
        """The evidence of a target; None where there is no such target or observation."""
        record = self._store.get(name)
        observed = _observed(record, of) if record else None
        if record is None or observed is None:
            return None
        last_good, first_bad = record.last_good, record.first_bad
        engine, source = self._store.engine, self._store.source

        def make() -> File:
            configuration, version = self._configuration(), self._version
            dossier = Dossier(
                of, observed, last_good, first_bad, engine, source, configuration, version
            )
            return File(file_name(dossier, kind), CONTENT_TYPES[kind], MAKERS[kind](dossier))

        async with self._making:
            return await asyncio.to_thread(make)


def _observed(record: Record, of: Of) -> Observation | None:
    return {
        Of.LATEST: record.latest,
        Of.FIRST_BAD: record.first_bad,
        Of.LAST_GOOD: record.last_good,
    }[of]


def refusal(path: Path) -> str:
    """Why evidence could not be written there, as a clause; "" if it probably can."""
    folder = path.parent
    try:
        if path.is_dir():
            return f"{path} is a folder"
    except OSError as error:  # its name is too long, or holds what none can
        return f"{path}: {error.strerror}"
    if not folder.is_dir():
        return f"there is no folder {folder}"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"the folder {folder} is not writable"
    return ""


def write(path: Path, dossier: Dossier) -> None:
    """Write evidence to a file, a page if it ends in .html; whole or not at all. Raises OSError."""
    kind = Format.HTML if path.suffix.lower() == ".html" else Format.ZIP
    beside = path.with_name(f".evidence-{secrets.token_hex(8)}")
    try:
        with beside.open("xb") as file:
            file.write(MAKERS[kind](dossier))
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
