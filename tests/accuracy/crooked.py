"""Paths that are not one chain: branches, loops, and other ways back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from tests.accuracy.chains import (
    CHAIN,
    DATABASE_PORT,
    HOPS,
    MEANT,
    MIDDLE,
    Extra,
    Network,
    nft,
    routes,
    side_end,
    side_link,
)
from tests.lab.lab import Device, name
from tests.scenarios import NUMBERINGS, Scenario

#: Links of side ways; the chain's own count from 0.
FORK, JOIN, BACK = 104, 105, 108
#: The route through the other branch, for SYNs that nft marks.
BRANCH_MARK = 2


def _destination_network(family: str) -> str:
    return NUMBERINGS[family].network(HOPS - 1)


def branches() -> Network:
    """A second router at hop MIDDLE, which drops the port; every other flow goes through it.

    By turns instead of by a hash, so that of any four flows some take the bad branch. A source
    port keeps its branch, as it does by a hash.
    """
    fork, join = MIDDLE - 1, MIDDLE + 1
    other = "branch"
    balance = "".join(_turns(*pair) for pair in (("ip", MEANT[0]), ("ip6", MEANT[1])))
    choose = f"rule add fwmark {BRANCH_MARK} lookup {BRANCH_MARK}\n"
    marked = "".join(
        f"route add {_destination_network(family)} via {n.address(FORK, 2)} table {BRANCH_MARK}\n"
        for family, n in NUMBERINGS.items()
    )
    back = "".join(routes(partial(_network, link), FORK, 1) for link in range(fork))
    through = Device(
        other,
        forwards=True,
        ip="link set lo up\n"
        + side_end("near", FORK, 2)
        + side_end("far", JOIN, 1)
        + back
        + routes(_destination_network, JOIN, 2),
        nft=nft("forward priority filter", f'iifname "near" {DATABASE_PORT} drop'),
    )
    return Network(
        CHAIN,
        {
            fork: Extra(side_end("side", FORK, 1) + marked + choose, choose, balance),
            join: Extra(side_end("side", JOIN, 2)),
        },
        f"netns add {other}\n"
        + side_link((name(fork), "side"), (other, "near"))
        + side_link((other, "far"), (name(join), "side")),
        (through,),
    )


def loop() -> Network:
    """Hop MIDDLE + 1 sends what is for the destination back to hop MIDDLE."""
    return Network(CHAIN, {MIDDLE + 1: Extra(routes(_destination_network, MIDDLE, 1))})


def _network(link: int, family: str) -> str:
    return NUMBERINGS[family].network(link)


def _turns(family: str, meant: str) -> str:
    """Marks the SYNs of every second source port that asks for the database."""
    return f"""\
table {family} balance {{
  map branch {{ typeof tcp sport : meta mark; size 65535; flags dynamic; }}
  chain choose {{
    meta mark set tcp sport map @branch return
    add @branch {{ tcp sport : numgen inc mod 2 offset 1 }}
    meta mark set tcp sport map @branch
  }}
  chain arriving {{
    type filter hook prerouting priority mangle;
    iifname "near" {meant} {DATABASE_PORT} jump choose
  }}
}}
"""


def _short_return(scenario: Scenario) -> Network:
    """The destination's answers go to hop 2 at once."""
    return Network(
        scenario,
        {2: Extra(side_end("side", BACK, 1)), HOPS: Extra(_leaving())},
        side_link((name(2), "side"), (name(HOPS), "back")),
    )


def _long_return(scenario: Scenario) -> Network:
    """The destination's answers pass four more routers on their way to hop MIDDLE."""
    detour = [f"detour{number}" for number in range(4)]
    leaving = [(name(HOPS), "back"), *((one, "far") for one in detour)]
    arriving = [*((one, "near") for one in detour), (name(MIDDLE), "side")]
    return Network(
        scenario,
        {
            MIDDLE: Extra(side_end("side", BACK + len(detour), 1)),
            HOPS: Extra(_leaving()),
        },
        "".join(f"netns add {one}\n" for one in detour)
        + "".join(side_link(*ends) for ends in zip(leaving, arriving, strict=True)),
        tuple(
            Device(
                one,
                forwards=True,
                ip="link set lo up\n"
                + side_end("near", BACK + number, 1)
                + side_end("far", BACK + number + 1, 2)
                + routes(_default, BACK + number + 1, 1),
            )
            for number, one in enumerate(detour)
        ),
    )


def _leaving() -> str:
    """The destination's other interface, through which its answers leave."""
    return side_end("back", BACK, 2) + routes(_default, BACK, 1)


def _default(_family: str) -> str:
    return "default"


#: What the way back is, beside the way there.
RETURNS: Mapping[str, Callable[[Scenario], Network]] = {
    "short": _short_return,
    "long": _long_return,
}
