"""Nothing that can arrive makes the decoders fail."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.model import MplsLabel
from exporter.probing.packet import IcmpError
from tests import fuzz

thorough = settings(max_examples=500)
octets = st.integers(0, 255)
changes = st.lists(st.tuples(st.integers(0, 299), octets), max_size=8)


def test_a_million_packets() -> None:
    """A million random and mutated packets give typed results, every kind among them."""
    results = fuzz.run(seed=2, count=1_000_000)
    assert sum(results.values()) - results["foreign"] == 4_000_000
    assert min(results[kind] for kind in ("decoded", "not ours", "malformed", "foreign")) > 10_000


@thorough
@given(st.binary(max_size=300))
def test_random_octets(packet: bytes) -> None:
    """Whatever the octets are, the decoders return a value."""
    for result in fuzz.decoded(packet):
        fuzz.kind_of(result)


@thorough
@given(st.sampled_from(fuzz.corpus()), changes, st.integers(0, 300))
def test_mutated_packets(packet: bytes, changed: list[tuple[int, int]], size: int) -> None:
    """A valid packet with octets changed and its end cut off gives a value in its bounds."""
    mutated = bytearray(packet)
    for index, value in changed:
        mutated[index % len(mutated)] = value
    for result in fuzz.decoded(bytes(mutated[:size])):
        if isinstance(result, IcmpError):
            assert result.type in (1, 3, 11)
            assert all(_is_label(label) for label in result.mpls)
            assert 0 <= result.source_port <= 65535
            assert 0 <= result.sequence < 2**32
            assert 0 <= result.mark < 2**16


def _is_label(label: MplsLabel) -> bool:
    return 0 <= label.label < 2**20 and 0 <= label.traffic_class < 8 and 0 <= label.ttl < 256
