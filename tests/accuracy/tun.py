"""Networks that namespaces cannot be: delays, loss, and devices that are not Linux.

A `Net` describes one; `TunWorld` plays it behind a TUN device (tun_network.py). A chain of
devices leads to the destination, with the addresses of tests/scenarios in both IP versions:

    prober 10.9.0.1 (tun0) -- router 1 10.9.0.2 -- router 2 10.9.1.2 ... -- 10.9.(hops-1).2
           fd09::1                    fd09::2            fd09:0:0:1::2 ...

With `paths` there are so many destinations at the same distance, the one of path p ends with
2 + p, and so do the routers that it does not share. Where a path branches, the routers of
branch b end with 2 + 10 * b.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tests.lab.tun import TunLab
from tests.scenarios import NUMBERINGS

#: What `Destination.counts` may be.
COUNTS = ("connection", "flow", "source")


@dataclass(frozen=True, slots=True)
class Filter:
    """What the device at a hop does to TCP, as `tests.scenarios.Rule`; and more.

    `chain` is "ingress" (before the TTL check), "forward" (after it), "input" (the destination's
    own) or "return": what comes back through the device in the destination's name.
    """

    hop: int
    action: str = "drop"
    chain: str = "forward"
    #: Empty: all of them, and ICMP echo requests as well if `echo` says so.
    ports: tuple[int, ...] = ()
    echo: bool = False
    #: Only on these branches of a path that has some.
    branches: tuple[int, ...] = ()
    #: The TTL that a forged RST leaves its sender with.
    initial_ttl: int = 64


@dataclass(frozen=True, slots=True)
class Destination:
    """The host at the end of the path."""

    ports: tuple[int, ...] = (443,)
    initial_ttl: int = 64
    echo: bool = True
    #: Which SYN is the first one to be answered, and among which it is counted: those of one
    #: "connection" (the same ports and sequence number), of one "flow" (the same ports), or
    #: of one "source" to the same port.
    answers_from: int = 1
    counts: str = "connection"


@dataclass(frozen=True, slots=True)
class Weather:
    """What happens to packets by chance; each is a probability or a longest time in seconds."""

    #: Of the packets that cross the link to `lossy_hop` on their way there, and back.
    loss_there: float = 0.0
    loss_back: float = 0.0
    lossy_hop: int = 1
    #: Held back so long that later ones overtake, each way.
    reordered: float = 0.0
    #: Added to each way.
    jitter: float = 0.0


CALM = Weather()


@dataclass(frozen=True, slots=True)
class Net:
    """One network; hops count from 1 at the prober, `hops` is the destination's."""

    hops: int
    destination: Destination = Destination()
    filters: tuple[Filter, ...] = ()
    weather: Weather = CALM
    #: The one-way delay of each link in seconds.
    delay: float = 0.001
    #: Inside PLATFORM_NETWORKS.
    platform_hops: int = 2
    #: Routers that never send an ICMP error.
    silent: tuple[int, ...] = ()
    #: Routers that forward a packet whose TTL they have brought down to 0.
    zero_ttl: tuple[int, ...] = ()
    #: First and last hop of an MPLS tunnel that shows its routers. Their time-exceeded messages
    #: travel to the tunnel's end before they turn back.
    mpls: tuple[int, int] | None = None
    #: The hop that shifts sequence numbers, and back again in what TCP answers; 0 for none.
    shifts_sequences: int = 0
    #: The hop of a stateless NAT: it changes source address and port, and back again in every
    #: answer's header, but not in what an ICMP error quotes; 0 for none.
    translates: int = 0
    #: (hop, more): what this hop and those behind it send takes so many hops more on its way back.
    longer_return: tuple[tuple[int, int], ...] = ()
    #: The TTL that a router's ICMP errors leave it with.
    router_ttl: int = 64
    #: First and last hop of a circle that packets never leave.
    loop: tuple[int, int] | None = None
    #: First and last hop of the part with several branches, and how many they are.
    branches: tuple[int, int, int] = (0, 0, 1)
    paths: int = 1
    #: The first so many routers are the same on every path.
    shared_hops: int = 0
    #: Makes the same dice fall; each world has its own otherwise.
    seed: int | None = None

    def address(self, family: str, hop: int, number: int = 0) -> str:
        """The address in whose name a device answers; see the module's text for `number`."""
        return NUMBERINGS[family].address(hop - 1, 2 + number)

    def target(self, path: int = 0) -> dict[str, str]:
        """Family -> the destination's address."""
        return {family: self.address(family, self.hops, path) for family in NUMBERINGS}

    @property
    def platform_networks(self) -> str:
        """What PLATFORM_NETWORKS holds."""
        return ",".join(
            numbering.network(link)
            for numbering in NUMBERINGS.values()
            for link in range(self.platform_hops)
        )


class TunWorld(TunLab):
    """A network that runs; a context manager. Nothing in it changes by itself."""

    def __init__(self, net: Net) -> None:
        super().__init__("tests.accuracy.tun_network", asdict(net))

    @property
    def prober(self) -> int:
        """A process in the prober's namespaces."""
        return self.pid

    def change(self) -> None:
        """Nothing: no situation behind the TUN device is about a change."""


def net_of(told: Mapping[str, Any]) -> Net:
    """The network that `asdict` and JSON took apart."""
    parts = {
        "destination": Destination(**_tuples(told["destination"])),
        "weather": Weather(**told["weather"]),
        "filters": tuple(Filter(**_tuples(one)) for one in told["filters"]),
        "longer_return": tuple((hop, more) for hop, more in told["longer_return"]),
    }
    return Net(**{**_tuples(told), **parts})


def _tuples(told: Mapping[str, Any]) -> dict[str, Any]:
    """JSON makes lists of tuples."""
    return {key: tuple(one) if isinstance(one, list) else one for key, one in told.items()}
