"""What the traces of all targets show of the prober's own network, in virtual time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.model import (
    FULL_TTL,
    Flow,
    Handshake,
    Hop,
    ReplyKind,
    StopReason,
    Surroundings,
    Trace,
)
from exporter.surroundings import (
    IGNORES_TTLS,
    MEMORY,
    MOST_REJECTING,
    MOST_WITNESSES,
    PURSE_MEMORY,
    UNDELIVERED,
    Memory,
)
from tests.unit.samples import SOURCE, end, routers, silence, trace

NOW = 1000.0
GATEWAY = "10.0.2.2"
CONNECTED = Handshake(success=True, duration=0.01)
REFUSED = Handshake(success=False, duration=0.01, error="Connection refused")
UNKNOWN = Surroundings()
IGNORED = Surroundings(ignores_ttls=True, untraceable=IGNORES_TTLS)
NOT_DELIVERED = Surroundings(untraceable=UNDELIVERED)
ROUTERS_ANSWER = Surroundings(routers_answer=True)


def to(destination: str, *hops: Hop, gateway: str | None = GATEWAY) -> Trace:
    """A trace to a destination of its own."""
    made = trace(hops, StopReason.DESTINATION, confirmation=Hop(FULL_TTL, 3))
    return replace(made, flow=Flow(SOURCE, 33434, destination, 443), gateway=gateway)


def near(number: int, kind: ReplyKind = ReplyKind.SYN_ACK, gateway: str | None = GATEWAY) -> Trace:
    """A destination that answers at TTL 1."""
    return to(f"192.0.2.{number}", end(1, kind), gateway=gateway)


def far(number: int, gateway: str | None = GATEWAY) -> Trace:
    """A destination that answers at TTL 5, behind silence."""
    hops = (*silence(1, 4), end(5, ReplyKind.RST))
    return to(f"192.0.2.{number}", *hops, gateway=gateway)


def mute(number: int) -> Trace:
    """A destination that answers no traced SYN, behind silence."""
    return to(f"192.0.2.{number}", *silence(1, 30))


def counted(number: int) -> Trace:
    """A destination behind routers that answer."""
    return to(f"192.0.2.{number}", *routers(2), end(3, ReplyKind.SYN_ACK))


def learnt(*traces: Trace, handshake: Handshake | None = None) -> Surroundings:
    """What is known after traces that were made at once."""
    memory = Memory()
    known = UNKNOWN
    for made in traces:
        known = memory.learn(made, handshake, NOW)
    return known


# -- what proves what ------------------------------------------------------------------


def test_one_destination_at_ttl_1_proves_nothing() -> None:
    """It may be an address of the gateway, or a proxy's, however often it is traced."""
    assert learnt(near(1), near(1), near(1)) == UNKNOWN


def test_destinations_at_ttl_1_show_that_ttls_are_ignored() -> None:
    """Two of them behind a gateway, one open and one closed, and no word from a router."""
    assert learnt(near(1), near(2, ReplyKind.RST)) == IGNORED


def test_destinations_behind_silence_show_that_time_exceeded_is_not_delivered() -> None:
    """Two that were reached at their distance, and no word from a router."""
    assert learnt(far(1), far(2)) == NOT_DELIVERED


def test_a_plain_connect_reaches_as_well() -> None:
    """Where no traced SYN is answered, but connect() succeeds, the destinations were reached."""
    assert learnt(mute(1), mute(2), handshake=CONNECTED) == NOT_DELIVERED


@pytest.mark.parametrize("handshake", [None, REFUSED])
def test_silence_alone_shows_nothing(handshake: Handshake | None) -> None:
    """Blocked destinations behind silence may be blocked right here."""
    assert learnt(mute(1), mute(2), mute(3), handshake=handshake) == UNKNOWN


def test_neighbours_show_nothing() -> None:
    """On the host's own network there is no router that could have said time-exceeded."""
    assert learnt(near(1, gateway=""), near(2, gateway="")) == UNKNOWN


def test_without_a_routing_table_ttl_1_may_be_a_neighbour() -> None:
    """Where the kernel does not name the gateway, only a distance tells of routers."""
    assert learnt(near(1, gateway=None), near(2, gateway=None)) == UNKNOWN
    assert learnt(far(1, gateway=None), far(2, gateway=None)) == NOT_DELIVERED


def test_a_router_that_answers_outweighs_everything() -> None:
    """A proxy at hop 1 that answers on one port does not make the network one that ignores TTLs."""
    assert learnt(near(1), near(2), counted(3)) == ROUTERS_ANSWER
    assert learnt(counted(3), near(1), near(2)) == ROUTERS_ANSWER


# -- for how long, and how much --------------------------------------------------------


def test_what_was_seen_is_forgotten() -> None:
    """A router's word and a destination's answer count for an hour."""
    memory = Memory()
    memory.learn(counted(1), None, NOW)
    assert memory.learn(near(1), None, NOW + MEMORY) == ROUTERS_ANSWER
    assert memory.learn(near(2), None, NOW + MEMORY + 1) == IGNORED
    assert memory.untraceable(NOW + MEMORY + 1)
    assert not memory.untraceable(NOW + 3 * MEMORY)


def test_the_memory_is_bounded() -> None:
    """However many destinations there are, so many are remembered, those seen last."""
    memory = Memory()
    for number in range(3 * MOST_WITNESSES):
        memory.learn(to(f"192.0.{number}.1", end(1, ReplyKind.RST)), None, NOW)
    assert all(len(one._witnesses) <= MOST_WITNESSES for one in memory._networks.values())
    assert memory.learn(mute(1), None, NOW) == IGNORED


def test_who_rejects_is_remembered_for_a_minute() -> None:
    """Whichever target it rejected; what it rejects next it may not be able to say."""
    memory = Memory()
    rejected = to("192.0.2.1", *routers(1), end(2, ReplyKind.UNREACHABLE, "10.9.0.2", (3, 3)))
    assert memory.learn(rejected, None, NOW).rejecting == {"10.9.0.2"}
    assert memory.learn(counted(2), None, NOW + PURSE_MEMORY).rejecting == {"10.9.0.2"}
    assert memory.learn(counted(2), None, NOW + PURSE_MEMORY + 1).rejecting == frozenset()


def test_so_many_that_reject_are_remembered() -> None:
    """Those that were last heard."""
    memory = Memory()
    for number in range(2 * MOST_REJECTING):
        sender = end(2, ReplyKind.UNREACHABLE, f"198.18.0.{number}", (3, 13))
        known = memory.learn(to("192.0.2.1", *routers(1), sender), None, NOW)
    assert len(known.rejecting) == MOST_REJECTING
    assert "198.18.0.127" in known.rejecting


# -- both families ---------------------------------------------------------------------


def test_the_families_are_apart() -> None:
    """Routers that answer over IPv6 prove nothing about IPv4, and each is said by its name."""
    memory = Memory()
    sixth = to("2001:db8::1", *routers(2), end(3, ReplyKind.SYN_ACK), gateway="fe80::1")
    assert memory.learn(sixth, None, NOW) == ROUTERS_ANSWER
    memory.learn(near(1), None, NOW)
    assert memory.learn(near(2), None, NOW) == IGNORED
    assert memory.untraceable(NOW) == f"over IPv4, {IGNORES_TTLS}"
