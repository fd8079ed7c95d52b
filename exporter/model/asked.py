"""What is asked: targets, and how each is traced."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

#: The TTL of a SYN that is meant to arrive: Linux' net.ipv4.ip_default_ttl (RFC 1700).
FULL_TTL = 64
#: So many addresses of a name are traced in one cycle.
MAX_ADDRESSES = 8
#: Addresses that nobody has (TEST-NET-2, RFC 5737; RFC 3849): whoever answers for them is a proxy.
CANARIES = ("198.51.100.1", "2001:db8::1")


@dataclass(frozen=True, slots=True)
class Plan:
    """How one target is traced."""

    max_hops: int = 30
    attempts: int = 3
    #: The longest wait for the answer to one SYN, in seconds.
    timeout: float = 2.0
    #: Whether one attempt is enough where a hop answers as it did in the trace before: a check of
    #: a path that is known and well. What answers otherwise gets all attempts.
    quick: bool = False


@dataclass(frozen=True, slots=True)
class Controls:
    """Which controls are made beside the traces of one target."""

    #: Other ports of the destination, asked in this order.
    ports: tuple[int, ...] = (443, 80)
    #: Whether the destination is asked for an ICMP echo.
    echo: bool = True
    #: Whether the same port of `CANARY` is asked.
    canary: bool = True
    #: Flows of every cycle, and of one in which something fails.
    flows: int = 1
    failing_flows: int = 4


class Family(StrEnum):
    """Which addresses of its host a target is traced to; AUTO leaves it to the resolver."""

    AUTO = "auto"
    IPV4 = "ipv4"
    IPV6 = "ipv6"

    @classmethod
    def of(cls, address: str) -> Family:
        """The family of an address as text."""
        return cls.IPV6 if ":" in address else cls.IPV4


#: What people call a family.
FAMILY_NAMES = {Family.IPV4: "IPv4", Family.IPV6: "IPv6"}


@dataclass(frozen=True, slots=True)
class Target:
    """A configured name for host:port, with the labels that its series carry."""

    name: str
    host: str
    port: int
    labels: tuple[tuple[str, str], ...] = ()
    interval: float = 60.0
    plan: Plan = field(default_factory=Plan)
    family: Family = Family.AUTO
    #: Whether each cycle traces every address of the host, at most `MAX_ADDRESSES`.
    all_addresses: bool = False
    controls: Controls = field(default_factory=Controls)


def joined(host: str, port: str | int) -> str:
    """host:port, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
