"""Random and mutated packets through decoders and matcher; `python -m tests.fuzz` runs more."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

from scapy.layers.inet6 import IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting

from exporter.model import MplsLabel, Probe
from exporter.probing.matching import Matcher
from exporter.probing.packet import (
    IcmpError,
    Segment,
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
    ROUTER6,
    SEQUENCE,
    error,
    error6,
    extension,
    padded,
    segment,
    segment6,
    syn,
    syn6,
)

#: Longer than the longest valid packet of the corpus.
MOST_OCTETS = 300
MOST_CHANGES = 4


def corpus() -> tuple[bytes, ...]:
    """Valid packets of each kind, the seeds of all mutations."""
    labels = extension([MplsLabel(16005, 5, bottom=False, ttl=1)] * 3)
    quote, quote6 = bytes(syn()), bytes(syn6())
    headers = IPv6ExtHdrHopByHop(), IPv6ExtHdrRouting(), IPv6ExtHdrFragment()
    return (
        error(quote),
        error(quote[:28], kind=3, code=13),
        error(padded(quote) + labels, length=32),
        error(padded(quote) + labels),
        segment(),
        segment(flags="RA"),
        error6(quote6),
        error6(quote6[:48], kind=1, code=1),
        error6(padded(quote6) + labels, length=16),
        error6(bytes(syn6(FLOW6, *headers))),
        segment6(),
    )


def decoded(packet: bytes) -> tuple[IcmpError | Segment | Undecoded, ...]:
    """What each decoder makes of a packet."""
    return (
        decode_icmp(packet),
        decode_segment(packet),
        decode_icmp6(packet, ROUTER6, 62),
        decode_segment6(packet, FLOW6.destination, None),
    )


def packets(seed: int, count: int) -> Iterator[bytes]:
    """So many packets: three of four mutated, the others random; the same for the same seed."""
    source = random.Random(seed)  # noqa: S311  -- to be repeatable, not secret
    valid = corpus()
    for _ in range(count):
        if source.random() < 0.75:
            yield mutated(source.choice(valid), source)
        else:
            yield source.randbytes(source.randrange(MOST_OCTETS))


def mutated(packet: bytes, source: random.Random) -> bytes:
    """The packet with a few octets changed, and now and then cut or grown."""
    changed = bytearray(packet)
    for _ in range(source.randint(1, MOST_CHANGES)):
        changed[int(source.random() * len(changed))] = source.getrandbits(8)
    fate = source.random()
    if fate < 0.2:
        del changed[int(source.random() * len(changed)) :]
    elif fate < 0.3:
        changed += source.randbytes(20)
    return bytes(changed)


def run(seed: int, count: int) -> Counter[str]:
    """Feed so many packets in; returns how often each kind of result came.

    Raises AssertionError for a result of no known kind, and whatever leaves the code under test.
    """
    matchers = [Matcher(), Matcher()]
    for matcher, flow in zip(matchers, (FLOW, FLOW6), strict=True):
        matcher.sent(matcher.open(flow), Probe(1, 1, 0.0), SEQUENCE, MARK)
    results: Counter[str] = Counter()
    for packet in packets(seed, count):
        for index, result in enumerate(decoded(packet)):
            results[kind_of(result)] += 1
            matcher = matchers[index // 2]
            if isinstance(result, IcmpError):
                matcher.match_error(result, 1.0)
            elif isinstance(result, Segment):
                matcher.match_segment(result, 1.0)
    results["foreign"] = sum(matcher.foreign for matcher in matchers)
    return results


def kind_of(result: IcmpError | Segment | Undecoded) -> str:
    """The name of a result's kind."""
    if isinstance(result, Undecoded):
        return result.value
    assert isinstance(result, IcmpError | Segment), result
    return "decoded"
