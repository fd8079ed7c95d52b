"""The fast path writes and reads what scapy says is right."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP, IPOption_NOP, IPOption_RR
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.ipsec import AH
from scapy.packet import Packet

from exporter.model import Flow, MplsLabel
from exporter.probing.packet import (
    MALFORMED,
    MAX_HEADERS,
    MAX_LABELS,
    NOT_OURS,
    IcmpError,
    Segment,
    SynTemplate,
    Undecoded,
    decode_icmp,
    decode_icmp6,
    decode_segment,
    decode_segment6,
)
from tests.unit.packets import (
    FLOW,
    FLOW6,
    MARK,
    ROUTER,
    ROUTER6,
    SEQUENCE,
    error,
    error6,
    extension,
    flows,
    flows6,
    padded,
    segment,
    segment6,
    stacks,
    syn,
    syn6,
)

STACK = [MplsLabel(16005, 5, bottom=False, ttl=1), MplsLabel(3, 0, bottom=True, ttl=7)]
#: What `error` with its defaults is.
TIME_EXCEEDED = IcmpError(
    ROUTER, 62, True, 11, 0, "10.9.0.1", 40001, "10.9.5.2", 443, SEQUENCE, MARK, 1, ()
)
#: And `error6`, read with `ROUTER6` as its sender and a hop limit of 62.
TIME_EXCEEDED6 = IcmpError(
    ROUTER6, 62, True, 3, 0, "fd09::1", 40001, "fd09:0:0:4::2", 443, SEQUENCE, MARK, 1, ()
)
#: The kernel's options of a SYN (tcp(7)), as scapy names them.
KERNEL_OPTIONS = ["MSS", "SAckOK", "Timestamp", "NOP", "WScale"]

words = st.integers(0, 0xFFFF)
sequences = st.integers(0, 0xFFFFFFFF)
quick = settings(max_examples=150)


def icmp(packet: bytes) -> IcmpError:
    """The packet, which must be an ICMP error."""
    return known(decode_icmp(packet))


def icmp6(packet: bytes) -> IcmpError:
    """The packet, which must be an ICMPv6 error."""
    return known(decode_icmp6(packet, ROUTER6, 62))


def known(decoded: IcmpError | Undecoded) -> IcmpError:
    """What was decoded, which must be an error."""
    assert isinstance(decoded, IcmpError), decoded
    return decoded


# -- out -------------------------------------------------------------------------------


@quick
@given(flows, st.lists(st.tuples(st.integers(1, 255), words, sequences), min_size=1, max_size=5))
def test_a_patched_syn_is_what_scapy_would_build(
    flow: Flow, probes: list[tuple[int, int, int]]
) -> None:
    """Each probe of one template has its own TTL, IP ID and sequence number, and sums up."""
    template = SynTemplate(flow)
    for ttl, mark, sequence in probes:
        packet = IP(bytes(template.patch(ttl, mark, sequence)))
        assert (packet.ttl, packet.id, packet[TCP].seq) == (ttl, mark, sequence)
        assert ends(packet) == flow
        assert checksums(packet) == (packet[TCP].chksum,) * 2


@quick
@given(flows6, st.lists(st.tuples(st.integers(1, 255), words, sequences), min_size=1, max_size=5))
def test_a_patched_ipv6_syn_is_what_scapy_would_build(
    flow: Flow, probes: list[tuple[int, int, int]]
) -> None:
    """Over IPv6 the mark is in the timestamp, and the flow label, which chooses paths, stays 0."""
    template = SynTemplate(flow)
    for ttl, mark, sequence in probes:
        packet = IPv6(bytes(template.patch(ttl, mark, sequence)))
        timestamp, echoed = dict(packet[TCP].options)["Timestamp"]
        assert (packet.hlim, timestamp & 0xFFFF, packet[TCP].seq) == (ttl, mark, sequence)
        assert (packet.fl, packet.tc, echoed) == (0, 0, 0)
        assert timestamp > 0xFFFF
        assert ends(packet) == flow
        assert checksums(packet) == (packet[TCP].chksum,) * 2


def ends(packet: Packet) -> Flow:
    """The flow of a SYN."""
    return Flow(packet.src, packet[TCP].sport, packet.dst, packet[TCP].dport)


def checksums(packet: Packet) -> tuple[int, int]:
    """The TCP checksum that a packet has, and the one that scapy gives it."""
    copy = packet.copy()
    del copy[TCP].chksum
    return packet[TCP].chksum, type(packet)(bytes(copy))[TCP].chksum


def test_scapy_is_called_once_for_each_ip_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Templates for other flows, and all probes, are made without it."""
    for flow in (FLOW, FLOW6):
        SynTemplate(flow)

    def refuse(_packet: Packet) -> bytes:
        raise AssertionError("scapy is slow")

    monkeypatch.setattr(Packet, "__bytes__", refuse)
    for flow in (FLOW, FLOW6):
        SynTemplate(flow._replace(source_port=7, destination_port=8)).patch(1, 2, 3)


@pytest.mark.parametrize("sequence", [0, 1, 0xFFFF, 0x10000, 0xFFFF0000, 0xFFFFFFFF])
def test_checksums_fold_at_the_edges(sequence: int) -> None:
    """A carry out of 16 bits is added back, however often."""
    for packet in (
        IP(bytes(SynTemplate(FLOW).patch(1, 1, sequence))),
        IPv6(bytes(SynTemplate(FLOW6).patch(1, 0xFFFF, sequence))),
    ):
        given_sum, right_sum = checksums(packet)
        assert given_sum == right_sum


def test_a_carry_out_of_a_carry() -> None:
    """A sum of 0x1FFFF has to be folded twice."""
    template = SynTemplate(FLOW)
    without = int.from_bytes(template.patch(1, 1, 0)[36:38], "big") ^ 0xFFFF
    packet = IP(bytes(template.patch(1, 1, 0xFFFF << 16 | 0x10000 - without)))
    assert packet[TCP].chksum == 0xFFFE


@pytest.mark.parametrize("flow", [FLOW, FLOW6], ids=["ipv4", "ipv6"])
def test_a_syn_looks_like_a_kernels(flow: Flow) -> None:
    """A SYN carries the options of an ordinary connection, may not be fragmented, has no data."""
    octets = bytes(SynTemplate(flow).patch(5, 6, 7))
    packet = IP(octets) if flow is FLOW else IPv6(octets)
    assert packet[TCP].flags == "S"
    assert packet[TCP].ack == 0
    assert [name for name, _ in packet[TCP].options] == KERNEL_OPTIONS
    if flow is FLOW:
        assert packet.flags == "DF"
        assert len(packet) == packet.len == 60
    else:
        assert len(packet) == packet.plen + 40 == 80
    # What an MTU of 1500 leaves for data.
    assert dict(packet[TCP].options)["MSS"] == 1500 - (len(packet) - 20)


# -- ICMP errors -----------------------------------------------------------------------


def test_a_time_exceeded_is_read() -> None:
    """Every field of an ICMP error and its quote comes out as it went in."""
    assert decode_icmp(error(bytes(syn()))) == TIME_EXCEEDED


@pytest.mark.parametrize("code", range(16))
def test_every_unreachable_code_is_kept(code: int) -> None:
    """A destination-unreachable keeps its code, a known one or not."""
    decoded = icmp(error(bytes(syn()), kind=3, code=code))
    assert (decoded.type, decoded.code) == (3, code)


def test_eight_octets_of_tcp_are_enough() -> None:
    """A quote of no more than RFC 792 demands is read in full, one octet less is malformed."""
    quote = bytes(syn())
    assert decode_icmp(error(quote[:28])) == TIME_EXCEEDED
    assert decode_icmp(error(quote[:27])) is MALFORMED


def test_options_in_the_outer_header_move_the_rest() -> None:
    """IP options of the router's own packet do not shift what is read."""
    options = [IPOption_NOP(), IPOption_RR(routers=["10.0.0.1", "10.0.0.2"])]
    assert decode_icmp(error(bytes(syn()), options=options)) == TIME_EXCEEDED


def test_options_in_the_quoted_header_move_the_ports() -> None:
    """IP options that were added on the way are skipped in the quote, too."""
    quoted = bytes(syn(options=[IPOption_RR(routers=["10.0.0.1"] * 9)]))
    assert quoted[0] == 0x4F
    assert decode_icmp(error(quoted)) == TIME_EXCEEDED
    assert decode_icmp(error(quoted[:68])) == TIME_EXCEEDED
    assert decode_icmp(error(quoted[:67])) is MALFORMED


def test_the_quoted_ttl_is_kept() -> None:
    """A quote whose TTL is not 1 shows it, for the hop is uncertain then."""
    assert icmp(error(bytes(syn(ttl=0)))).quoted_ttl == 0
    assert icmp(error(bytes(syn(ttl=9)))).quoted_ttl == 9


def _outer(index: int, value: int) -> bytes:
    packet = bytearray(error(bytes(syn())))
    packet[index] = value
    return bytes(packet)


def _quoted(index: int, value: int) -> bytes:
    return _outer(28 + index, value)


FOREIGN = {
    "outer IPv6": _outer(0, 0x65),
    "outer version 0": _outer(0, 0x05),
    "not ICMP": _outer(9, 17),
    "echo reply": _outer(20, 0),
    "source quench": _outer(20, 4),
    "redirect": _outer(20, 5),
    "parameter problem": _outer(20, 12),
    "quoted IPv6": _quoted(0, 0x65),
    "quoted UDP": _quoted(9, 17),
    "quoted ICMP": _quoted(9, 1),
    "quoted later fragment": _quoted(7, 1),
}
BROKEN = {
    "nothing": b"",
    "19 octets": error(bytes(syn()))[:19],
    "no ICMP header": error(bytes(syn()))[:27],
    "no quote": error(bytes(syn()))[:28],
    "quoted header cut": error(bytes(syn()))[:47],
    "outer header length 0": _outer(0, 0x40),
    "outer header length 16": _outer(0, 0x44),
    "outer header longer than the packet": error(b"", options=[])[:20].replace(b"\x45", b"\x4f", 1),
    "quoted header length 0": _quoted(0, 0x40),
    "quoted header length 16": _quoted(0, 0x44),
    "quoted header longer than the packet": _quoted(0, 0x4F),
}


@pytest.mark.parametrize("packet", FOREIGN.values(), ids=FOREIGN)
def test_what_is_none_of_our_business(packet: bytes) -> None:
    """ICMP that quotes no SYN of ours is not ours, and no error."""
    assert decode_icmp(packet) is NOT_OURS


@pytest.mark.parametrize("packet", BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_read(packet: bytes) -> None:
    """ICMP that is cut short or lies about a length is malformed."""
    assert decode_icmp(packet) is MALFORMED


# -- extensions ------------------------------------------------------------------------


@quick
@given(stacks)
def test_a_compliant_label_stack_is_read(stack: list[MplsLabel]) -> None:
    """Labels behind a quote with the length that RFC 4884 asks for come out in order."""
    packet = error(padded(bytes(syn())) + extension(stack), length=32)
    assert icmp(packet).mpls == tuple(stack)


@quick
@given(stacks)
def test_a_legacy_label_stack_is_read(stack: list[MplsLabel]) -> None:
    """Routers older than RFC 4884 leave the length 0 and put the labels behind 128 octets."""
    assert icmp(error(padded(bytes(syn())) + extension(stack))).mpls == tuple(stack)


def test_a_short_quote_has_no_extension() -> None:
    """A length below 128 octets is not RFC 4884's, whatever stands behind the quote."""
    assert icmp(error(bytes(syn())[:28] + extension(STACK), length=7)).mpls == ()


def test_a_longer_quote_moves_the_extension() -> None:
    """The length in the header says where the extension begins."""
    packet = error(bytes(syn()).ljust(160, b"\0") + extension(STACK), length=40)
    assert icmp(packet).mpls == tuple(STACK)


def test_other_objects_before_the_labels_are_skipped() -> None:
    """Interface information (RFC 5837) in front of the labels is passed over."""
    before = b"\0\x08\x02\x0a\xde\xad\xbe\xef"
    packet = error(padded(bytes(syn())) + extension(STACK, before=before), length=32)
    assert icmp(packet).mpls == tuple(STACK)


def test_a_missing_checksum_is_allowed_with_a_length() -> None:
    """RFC 4884 lets a sender leave the checksum 0; without a length that proves nothing."""
    unsummed = bytearray(extension(STACK))
    unsummed[2:4] = b"\0\0"
    quote = padded(bytes(syn())) + bytes(unsummed)
    assert icmp(error(quote, length=32)).mpls == tuple(STACK)
    assert icmp(error(quote)).mpls == ()


def test_a_label_stack_is_bounded() -> None:
    """No more labels are kept than any real network stacks."""
    packet = error(padded(bytes(syn())) + extension(STACK * 50), length=32)
    assert len(icmp(packet).mpls) == MAX_LABELS


BAD_EXTENSIONS = {
    "nothing": (b"", 32),
    "header only": (b"\x20\0\0\0", 32),
    "version 1": (b"\x10" + extension(STACK)[1:], 32),
    "wrong checksum": (extension(STACK)[:-1] + b"\xff", 32),
    "object of length 0": (b"\x20\0\0\0\0\0\1\1", 32),
    "object of length 3": (b"\x20\0\0\0\0\3\1\1", 32),
    "object longer than the packet": (b"\x20\0\0\0\xff\xff\1\1", 32),
    "length below 128 octets": (extension(STACK), 7),
    "length beyond the packet": (extension(STACK), 255),
    "labels behind an object of length 3": (b"\x20\0\0\0\0\3\2" + extension(STACK)[4:], 32),
    "half a label": (b"\x20\0\0\0\0\6\1\1\1\2", 32),
}


@pytest.mark.parametrize(("bad", "length"), BAD_EXTENSIONS.values(), ids=BAD_EXTENSIONS)
def test_a_bad_extension_costs_only_itself(bad: bytes, length: int) -> None:
    """An extension that cannot be read gives no labels, and the rest of the error stays."""
    assert decode_icmp(error(padded(bytes(syn())) + bad, length=length)) == TIME_EXCEEDED


# -- ICMPv6 errors ---------------------------------------------------------------------


def test_an_icmpv6_time_exceeded_is_read() -> None:
    """Every field of an ICMPv6 error and its quote comes out as it went in."""
    assert icmp6(error6(bytes(syn6()))) == TIME_EXCEEDED6


def test_a_hop_limit_that_is_not_told_is_unknown() -> None:
    """Where the kernel does not tell the reply's own hop limit, it is None."""
    decoded = known(decode_icmp6(error6(bytes(syn6())), ROUTER6, None))
    assert decoded == TIME_EXCEEDED6._replace(reply_ttl=None)


@pytest.mark.parametrize("code", range(8))
def test_every_icmpv6_unreachable_code_is_kept(code: int) -> None:
    """A destination-unreachable of ICMPv6 has type 1 and keeps its code."""
    decoded = icmp6(error6(bytes(syn6()), kind=1, code=code))
    assert (decoded.expired, decoded.type, decoded.code) == (False, 1, code)


def test_eight_octets_of_tcp_are_enough_over_ipv6() -> None:
    """A short quote lacks the mark and nothing else, one octet less is malformed."""
    quote = bytes(syn6())
    assert icmp6(error6(quote[:48])) == TIME_EXCEEDED6._replace(mark=0)
    assert icmp6(error6(quote[:71])).mark == 0
    assert icmp6(error6(quote[:72])).mark == MARK
    assert decode_icmp6(error6(quote[:47]), ROUTER6, 62) is MALFORMED


def test_other_options_have_no_mark() -> None:
    """Where a middlebox has overwritten the timestamp there is no mark to read."""
    quote = bytearray(bytes(syn6()))
    quote[66:76] = b"\1" * 10
    assert icmp6(error6(bytes(quote))).mark == 0


EXTENSION_HEADERS = {
    "hop-by-hop": [IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(20))])],
    "destination options": [IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(4))])],
    "routing": [IPv6ExtHdrRouting(addresses=["fd09::9", "fd09::8"], segleft=1)],
    "first fragment": [IPv6ExtHdrFragment(offset=0, m=1, id=7)],
    "authentication": [AH(nh=6, payloadlen=4, icv=bytes(12))],
    "several": [
        IPv6ExtHdrHopByHop(),
        IPv6ExtHdrRouting(),
        IPv6ExtHdrFragment(),
        AH(nh=6, payloadlen=2, icv=bytes(4)),
    ],
    "as many as are read": [IPv6ExtHdrDestOpt()] * MAX_HEADERS,
}


@pytest.mark.parametrize("headers", EXTENSION_HEADERS.values(), ids=EXTENSION_HEADERS)
def test_extension_headers_in_the_quote_move_the_ports(headers: list[Packet]) -> None:
    """IPv6 headers that were added on the way are skipped in the quote; cut off, it is broken."""
    quote = bytes(syn6(FLOW6, *headers))
    assert icmp6(error6(quote)) == TIME_EXCEEDED6
    for size in range(40, len(quote) - 36 + 8 - 1):
        assert decode_icmp6(error6(quote[:size]), ROUTER6, 62) is MALFORMED


def quoted6(index: int, value: int) -> bytes:
    """An error whose quote has this octet."""
    packet = bytearray(error6(bytes(syn6())))
    packet[8 + index] = value
    return bytes(packet)


FOREIGN6 = {
    "packet too big": error6(bytes(syn6()), kind=2),
    "parameter problem": error6(bytes(syn6()), kind=4),
    "echo reply": error6(bytes(syn6()), kind=129),
    "neighbour advertisement": error6(bytes(syn6()), kind=136),
    "ICMPv4's time-exceeded": error6(bytes(syn6()), kind=11),
    "quoted IPv4": quoted6(0, 0x45),
    "quoted UDP": error6(bytes(IPv6(src="fd09::1", dst="fd09::2") / UDP())),
    "quoted ICMPv6": quoted6(6, 58),
    "quoted later fragment": error6(bytes(syn6(FLOW6, IPv6ExtHdrFragment(offset=1)))),
    "no next header": quoted6(6, 59),
    "encrypted": quoted6(6, 50),
    "too many headers": error6(bytes(syn6(FLOW6, *[IPv6ExtHdrDestOpt()] * (MAX_HEADERS + 1)))),
}
BROKEN6 = {
    "nothing": b"",
    "7 octets": error6(b"")[:7],
    "no quote": error6(b""),
    "quoted header cut": error6(bytes(syn6())[:39]),
    "header longer than the packet": quoted6(6, 60)[:48] + b"\x06\xff" + bytes(40),
}


@pytest.mark.parametrize("packet", FOREIGN6.values(), ids=FOREIGN6)
def test_what_is_none_of_our_business_over_ipv6(packet: bytes) -> None:
    """ICMPv6 that quotes no SYN of ours is not ours, and no error."""
    assert decode_icmp6(packet, ROUTER6, 62) is NOT_OURS


@pytest.mark.parametrize("packet", BROKEN6.values(), ids=BROKEN6)
def test_what_cannot_be_read_over_ipv6(packet: bytes) -> None:
    """ICMPv6 that is cut short or lies about a length is malformed."""
    assert decode_icmp6(packet, ROUTER6, 62) is MALFORMED


@quick
@given(stacks, st.sampled_from([128, 136, 1000]))
def test_a_label_stack_is_read_over_ipv6(stack: list[MplsLabel], size: int) -> None:
    """ICMPv6 says in 64-bit words how long the quote is."""
    quote = bytes(syn6()).ljust(size, b"\0")
    assert icmp6(error6(quote + extension(stack), length=size // 8)).mpls == tuple(stack)


@quick
@given(stacks)
def test_a_label_stack_is_read_over_ipv6_without_a_length(stack: list[MplsLabel]) -> None:
    """Labels right behind 128 octets are found by their checksum."""
    assert icmp6(error6(padded(bytes(syn6())) + extension(stack))).mpls == tuple(stack)


@pytest.mark.parametrize(("bad", "length"), BAD_EXTENSIONS.values(), ids=BAD_EXTENSIONS)
def test_a_bad_extension_costs_only_itself_over_ipv6(bad: bytes, length: int) -> None:
    """What cannot be read gives no labels, and the rest of the error stays."""
    packet = error6(padded(bytes(syn6())) + bad, length=length // 2)
    assert icmp6(packet) == TIME_EXCEEDED6


# -- TCP -------------------------------------------------------------------------------


@quick
@given(flows, sequences, st.integers(0, 255), st.integers(0, 255))
def test_a_segment_is_read(flow: Flow, ack: int, flags: int, ttl: int) -> None:
    """Sender, ports, acknowledgement, flags and TTL of a segment come out as they went in."""
    tcp = TCP(sport=flow.destination_port, dport=flow.source_port, flags=flags, ack=ack)
    packet = bytes(IP(src=flow.destination, dst=flow.source, ttl=ttl) / tcp)
    assert decode_segment(packet) == Segment(
        flow.destination, flow.destination_port, flow.source_port, ack, flags, ttl
    )


def test_options_in_a_segments_header_move_the_rest() -> None:
    """IP options of a TCP answer do not shift what is read."""
    options = [IPOption_RR(routers=["10.0.0.1"] * 9)]
    assert decode_segment(segment(options=options)) == decode_segment(segment())


SEGMENTS: dict[str, tuple[bytes, Undecoded]] = {
    "nothing": (b"", MALFORMED),
    "19 octets": (segment()[:19], MALFORMED),
    "TCP header cut": (segment()[:35], MALFORMED),
    "header length 16": (b"\x44" + segment()[1:], MALFORMED),
    "header longer than the packet": (b"\x4f" + segment()[1:], MALFORMED),
    "IPv6": (b"\x65" + segment()[1:], NOT_OURS),
    "UDP": (segment(proto=17), NOT_OURS),
    "later fragment": (segment(frag=1), NOT_OURS),
}


@pytest.mark.parametrize(("packet", "why"), SEGMENTS.values(), ids=SEGMENTS)
def test_segments_that_give_nothing(packet: bytes, why: Undecoded) -> None:
    """A segment that is foreign or cut short says which of the two it is."""
    assert decode_segment(packet) is why


@quick
@given(flows6, sequences, st.integers(0, 255))
def test_an_ipv6_segment_is_read(flow: Flow, ack: int, flags: int) -> None:
    """A raw IPv6 socket gives the TCP header; sender and hop limit come beside it."""
    tcp = TCP(sport=flow.destination_port, dport=flow.source_port, flags=flags, ack=ack)
    assert decode_segment6(bytes(tcp), flow.destination, 61) == Segment(
        flow.destination, flow.destination_port, flow.source_port, ack, flags, 61
    )


def test_an_ipv6_segment_that_is_cut_is_malformed() -> None:
    """Fewer octets than a TCP header's fields give nothing."""
    assert decode_segment6(segment6()[:15], FLOW6.destination, 61) is MALFORMED
    assert decode_segment6(b"", FLOW6.destination, 61) is MALFORMED
