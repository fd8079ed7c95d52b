"""What was observed, told to somebody who has never heard of this program.

What is said, and no more: `sheet` makes text or a page of it. Everything in it is `printable`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from exporter.model import (
    EngineStatus,
    Observation,
    Packet,
    Source,
    State,
    Trace,
    joined,
)
from exporter.publish.controls import Kind, controls_of, flows_of, outcome_of, probes_of
from exporter.publish.instance import answered_by
from exporter.publish.lines import render_trace
from exporter.publish.sheet import Block, Item, Raw, Row, Section
from exporter.publish.text import duration, host_port, printable, timestamp, where
from exporter.publish.translated import translations

#: So many translated addresses are named.
MOST_TRANSLATIONS = 4


class Of(StrEnum):
    """Which observation of a target."""

    LATEST = "latest"
    FIRST_BAD = "first-bad"
    LAST_GOOD = "last-good"


@dataclass(frozen=True, slots=True)
class Dossier:
    """What evidence is made of.

    `configuration` is the settings' hash (docs/evidence.md), `source` where the probes come from.
    """

    of: Of
    observed: Observation
    last_good: Observation | None
    first_bad: Observation | None
    engine: EngineStatus
    source: Source
    configuration: str
    version: str

    @property
    def packets(self) -> tuple[Packet, ...]:
        """All that were kept, in the order of time."""
        # Addresses of one name may share the canary.
        seen = {packet for one in self.observed.by_address for packet in one.packets}
        return tuple(sorted(seen))

    @property
    def no_packets(self) -> str:
        """Why there are none, as a sentence; "" where there are."""
        if self.packets:
            return ""
        trace, capture = self.observed.trace, self.observed.capture
        if trace is None:
            return "There are no packets, because nothing could be traced."
        if trace.engine == "connect":
            return CONNECT_SEES_NONE
        lost = capture.lost if capture else "packets are not kept through a restart of the prober"
        return f"There are no packets any more: {lost}."


CONNECT_SEES_NONE = (
    "There are no packets: the prober ran without the privilege to see them (engine connect). Its "
    "operating system has built, sent and read the packets, and has told no more than who answered "
    "which probe, with what, and when. That is in the report and in observation.json."
)

#: What each state means for the one who reads it.
MEANINGS = {
    State.OPEN: "The destination accepts the connection (SYN-ACK). Nothing blocks it.",
    State.CLOSED: (
        "The destination itself refuses the connection (RST): the network lets the traffic "
        "through, and nothing listens on the port."
    ),
    State.REJECTED: "A device on the way says that policy forbids the traffic (an ICMP error).",
    State.RESET: (
        "A device on the way refuses the connection in the destination's name (a forged RST)."
    ),
    State.UNREACHABLE: (
        "A device on the way says that there is no route, or no such host (an ICMP error)."
    ),
    State.FILTERED: (
        "The traffic gets as far as a certain device, and past it nothing answers, not even SYNs "
        "with an ordinary TTL that were repeated: something drops it without a word."
    ),
    State.LOOP: "Routers send the traffic in a circle, so that it never arrives.",
    State.INTERCEPTED: (
        "A device on the way accepts the connection in the destination's name, such as a "
        "transparent proxy. Whether the destination is reachable is not known."
    ),
    State.UNRESOLVED: "The name has no address, so nothing could be sent.",
    State.ERROR: "The prober or its host could not do its part. Of the path nothing is known.",
    State.INCONCLUSIVE: "What was seen supports no conclusion; the sentence says why.",
}

READING = (
    (
        "The prober sends TCP SYN packets whose TTL (hop limit) is 1, then 2, and so on. A router "
        "that gets one whose TTL runs out discards it and says so (ICMP time exceeded): that "
        "router was reached. Hop N in a trace is who answered to TTL N."
    ),
    (
        "Each line has the hop, who answered, in brackets what it said if that was something else, "
        "and a round-trip time for each attempt. A * is an attempt without an answer; one silent "
        "hop between others that answer means nothing. 'shared' follows what a router has just "
        "answered to the prober's other traces, 'not asked' a hop that was spared probes."
    ),
    (
        "A router checks the TTL before its filter. So the last hop that answers may itself be "
        "the one that drops, and the suspects begin with it."
    ),
    (
        "Controls are made within the same seconds: other source ports (flows), other ports of "
        "the same destination, an ICMP echo, and an address that nobody has (canary), which only "
        "a proxy answers for. What passes there shows that network and prober work as far as that."
    ),
    (
        "The probes are half-open or are closed at once, so the destination's application sees no "
        "data. Repeated probes with other TTLs are the measurement, and no scan."
    ),
)

UNKNOWABLE = (
    (
        "Silence has no sender: a packet that was dropped on its way there, and an answer that "
        "was dropped on its way back, look the same from here."
    ),
    (
        "Devices that forward without touching the TTL (bridges, transparent firewalls, tunnels) "
        "are in no list. They stand between two hops that are."
    ),
    (
        "The way back is not seen. A router may answer from another address than the one at which "
        "the traffic came in."
    ),
    "Past the last hop that answers nothing is known but what a control shows.",
    "Times are those of the prober's own clock, which was compared with no other one.",
)


# -- the sections ------------------------------------------------------------------------


def title(dossier: Dossier) -> str:
    """What it is about, in one line."""
    observed = dossier.observed
    return f"Evidence: {printable(observed.target.name)} is {observed.verdict.state}"


def sections(dossier: Dossier) -> Iterator[Section]:
    """The whole report."""
    observed = dossier.observed
    yield Section("In short", tuple(_summary(dossier)))
    yield Section("What to look for", tuple(_searching(dossier)))
    yield Section("What was sent", tuple(_flows(observed)))
    if observed.verdict.evidence:
        yield Section("What the verdict rests on", tuple(_facts(observed)))
    yield Section("The trace and its controls", (Raw(render_trace(observed)),))
    yield from _beside(dossier)
    yield Section("How to read it", tuple(map(Item, READING)))
    yield Section("What cannot be known", tuple(map(Item, UNKNOWABLE)))
    yield Section("Packets", tuple(_packets(dossier)))
    yield Section("Made by", tuple(_maker(dossier)))


def _summary(dossier: Dossier) -> Iterator[Block]:
    observed, verdict = dossier.observed, dossier.observed.verdict
    yield printable(verdict.reason)
    yield Row("Time (UTC)", f"{_span(observed)}, {duration(observed.duration)}")
    yield Row("From", _from(dossier))
    yield Row("Seen outside as", _translated(dossier))
    yield Row("To", f"{host_port(observed.target)}, {_addresses(observed)}, TCP")
    yield Row("Verdict", f"{verdict.state}, confidence {verdict.confidence}")
    yield Row("Which means", MEANINGS[verdict.state])
    yield Row("Where", where(verdict))
    yield Row("Last good", _when(dossier.last_good))
    yield Row("First bad", _when(dossier.first_bad))


def _searching(dossier: Dossier) -> Iterator[Block]:
    observed = dossier.observed
    yield "In a firewall's log, in flow records or in a capture, TCP SYN packets:"
    yield Row("between (UTC)", _span(observed, "and"))
    yield Row("from", _from(dossier))
    if any(translations(dossier.packets)):
        yield Row("or, translated", _translated(dossier))
    for one in observed.by_address:
        if one.address:
            yield Row("to", joined(printable(one.address), one.target.port))


def _facts(observed: Observation) -> Iterator[Block]:
    return (Item(printable(fact)) for fact in observed.verdict.evidence)


def _flows(observed: Observation) -> Iterator[Block]:
    for one in observed.by_address:
        if one.trace is None:
            continue
        yield Row("traced", _flow(one.trace))
        yield from (Row("other flow", _flow(flow)) for flow in flows_of(one.controlled))
        for control in controls_of(one.controlled):
            if control.kind is not Kind.ELSEWHERE:  # for it nothing was sent
                yield Row(f"control: {control.kind}", _flow(control.trace))
        if one.handshake:
            yield Row("plain connect", "one, from a port that the operating system chose")
    if all(one.trace is None for one in observed.by_address):
        yield "Nothing."


def _flow(trace: Trace) -> str:
    flow, (sent, received) = trace.flow, probes_of(trace)
    source, destination = printable(flow.source), printable(flow.destination)
    what = f"{outcome_of(trace)}, {sent} sent, {received} answered"
    if trace.engine == "echo":
        return f"ICMP echo {source} -> {destination}: {what}"
    to = joined(destination, flow.destination_port)
    if trace.engine == "connect":
        return f"TCP {source}, a source port for each probe -> {to}: {what}"
    return f"TCP {joined(source, flow.source_port)} -> {to}: {what}"


def _beside(dossier: Dossier) -> Iterator[Section]:
    """The other observations, where they are other ones."""
    for heading, other in (
        ("The last trace that got through", dossier.last_good),
        ("The trace with which the trouble began", dossier.first_bad),
    ):
        if other and other.started_at != dossier.observed.started_at:
            yield Section(heading, (Raw(render_trace(other)),))


def _packets(dossier: Dossier) -> Iterator[Block]:
    if not dossier.packets:
        yield dossier.no_packets
        return
    sent = sum(packet.sent for packet in dossier.packets)
    yield (
        f"probes.pcap holds {len(dossier.packets)} packets, {sent} of them sent by the prober and "
        f"{len(dossier.packets) - sent} received: those of the trace, its confirmation and the "
        "controls, and no other traffic. Wireshark and tcpdump open it."
    )
    yield (
        "What is in it was seen by the prober, with the kernel's time of arrival. Rebuilt are: of "
        "IPv4 probes the header checksum; of IPv6 replies the IPv6 header (addresses and hop limit "
        "are told by the kernel, traffic class and flow label are 0, extension headers missing); "
        "of ICMP echoes the IP header (identification, type of service and fragment bits are 0)."
    )
    yield (
        "Not in it are: late and repeated replies, ICMP errors about an echo request, the plain "
        "connect, and the RST by which the prober's kernel ends what a SYN-ACK has opened."
    )


def _maker(dossier: Dossier) -> Iterator[Block]:
    yield Row("Program", f"egress-exporter {printable(dossier.version)}")
    engine = dossier.engine
    yield Row("Engine", f"{printable(engine.name)} ({printable(engine.explanation)})")
    yield Row("Configuration", f"SHA-256 {dossier.configuration}")
    yield Row("Observation", f"{dossier.of}, {timestamp(dossier.observed.started_at)}")


# -- their words -------------------------------------------------------------------------


def _span(observed: Observation, until: str = "to") -> str:
    end = observed.started_at + observed.duration
    return f"{timestamp(observed.started_at)} {until} {timestamp(end)}"


def _when(observation: Observation | None) -> str:
    if observation is None:
        return "none known"
    return f"{timestamp(observation.started_at)} (UTC), {observation.verdict.state}"


def _from(dossier: Dossier) -> str:
    traces = (one.trace for one in dossier.observed.by_address)
    sources = dict.fromkeys(trace.flow.source for trace in traces if trace)
    address = ", ".join(map(printable, sources)) or printable(dossier.source.address) or "unknown"
    instance = answered_by(dossier.source)
    return f"{address} ({instance})" if instance else address


def _addresses(observed: Observation) -> str:
    found = [printable(one.address) for one in observed.by_address if one.address]
    return f"address{'es' * (len(found) > 1)} {', '.join(found)}" if found else "without an address"


def _translated(dossier: Dossier) -> str:
    """What is known of the addresses that a NAT gives the probes."""
    found = dict.fromkeys(translations(dossier.packets))
    if found:
        shown = ", ".join(joined(*ends) for ends in islice(found, MOST_TRANSLATIONS))
        return f"{shown}, as routers behind a NAT have quoted the probes"
    if dossier.source.cell and dossier.source.application:
        return f"probably {printable(dossier.source.cell)}, the cell's address; no router says so"
    return "unknown: no router says that the address is translated, but a NAT may hide it"
