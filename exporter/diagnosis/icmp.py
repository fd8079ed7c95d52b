"""What an ICMP error says about the traffic that it refuses: policy, or routing and dead hosts.

Each family has a table of its own, since the same numbers mean other things: 3/0 is "network
unreachable" in ICMP and "hop limit exceeded" in ICMPv6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from exporter.model import Family, Reply, State

#: Type and code of an error.
Code = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Protocol:
    """One family's ICMP.

    `states` gives the state and the standards' name of each (type, code) that says something
    about a block; `neighbours` is how a host asks for its neighbours.
    """

    name: str
    neighbours: str
    states: Mapping[Code, tuple[State, str]]


#: RFC 792, RFC 1122 section 3.2.2.1, RFC 1812 section 5.2.7.1.
ICMP = Protocol(
    "ICMP",
    "ARP",
    {
        (3, 0): (State.UNREACHABLE, "network unreachable"),
        (3, 1): (State.UNREACHABLE, "host unreachable"),
        (3, 2): (State.REJECTED, "protocol unreachable"),
        (3, 3): (State.REJECTED, "port unreachable"),
        (3, 5): (State.UNREACHABLE, "source route failed"),
        (3, 6): (State.UNREACHABLE, "destination network unknown"),
        (3, 7): (State.UNREACHABLE, "destination host unknown"),
        (3, 8): (State.UNREACHABLE, "source host isolated"),
        (3, 9): (State.REJECTED, "communication with destination network prohibited"),
        (3, 10): (State.REJECTED, "communication with destination host prohibited"),
        (3, 11): (State.UNREACHABLE, "network unreachable for type of service"),
        (3, 12): (State.UNREACHABLE, "host unreachable for type of service"),
        (3, 13): (State.REJECTED, "communication administratively prohibited"),
    },
)
#: RFC 4443 section 3.1.
ICMPV6 = Protocol(
    "ICMPv6",
    "neighbour discovery",
    {
        (1, 0): (State.UNREACHABLE, "no route to destination"),
        (1, 1): (State.REJECTED, "communication administratively prohibited"),
        (1, 2): (State.UNREACHABLE, "beyond scope of source address"),
        (1, 3): (State.UNREACHABLE, "address unreachable"),
        (1, 4): (State.REJECTED, "port unreachable"),
        (1, 5): (State.REJECTED, "source address failed ingress/egress policy"),
        (1, 6): (State.REJECTED, "reject route to destination"),
    },
)


PROTOCOLS = {Family.IPV4: ICMP, Family.IPV6: ICMPV6}


def protocol_of(address: str) -> Protocol:
    """The ICMP that an address speaks."""
    return PROTOCOLS[Family.of(address)]


def meaning_of(reply: Reply) -> tuple[State, str]:
    """The state that an ICMP error stands for, and the error as "ICMP 3/3 (port unreachable)".

    `State.INCONCLUSIVE` for an error that says nothing about a block.
    """
    protocol = protocol_of(reply.address)
    if reply.icmp is None:
        return State.INCONCLUSIVE, f"an unknown {protocol.name} error"
    state, name = protocol.states.get(reply.icmp, (State.INCONCLUSIVE, "unknown code"))
    kind, code = reply.icmp
    return state, f"{protocol.name} {kind}/{code} ({name})"
