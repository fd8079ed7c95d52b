"""The situations that are played behind a TUN device: real delays, and devices unlike Linux.

The chain is that of namespaces.py, with 3 ms a link unless something else is said. Whatever
blocks does so to DATABASE alone, so one control port is open and one is closed; ICMP errors are
limited as Linux does it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from tests.accuracy.chains import DATABASE, HOPS, MIDDLE
from tests.accuracy.namespaces import (
    EXTERNAL,
    PLATFORM,
    WIDE,
    filtered,
    reached,
    reset_at,
    said_by,
)
from tests.accuracy.situation import BLIND_ON_BRANCHES, Blind, Situation, Truth
from tests.accuracy.tun import Destination, Filter, Net, TunWorld, Weather
from tests.accuracy.tun_crowd import crowded

CHAIN = Net(HOPS, Destination(ports=(443, DATABASE)), delay=0.003)
CLOSED = replace(CHAIN, destination=Destination(ports=(443,)))


def firewall(hop: int, action: str = "drop", chain: str = "forward", **more: Any) -> Net:
    """The chain with a firewall on the database's port."""
    return replace(CHAIN, filters=(Filter(hop, action, chain, (DATABASE,), **more),))


DROPPED = firewall(MIDDLE)


def behind_tun(
    name: str,
    title: str,
    sentence: str,
    truth: Truth,
    net: Net,
    settings: Mapping[str, str] = {},
) -> Situation:
    """A situation in both IP versions."""
    return Situation(
        name,
        title,
        sentence,
        truth,
        net.target(),
        DATABASE,
        partial(TunWorld, net),
        {"PLATFORM_NETWORKS": net.platform_networks, **settings},
    )


def anywhere(truth: Truth) -> Truth:
    """The same, where nobody can say how far the farthest answer comes, nor what lies behind."""
    return replace(truth, last_reachable_hop=None, widest=None)


BLIND_UNDER_LOSS = Blind(
    "it has to measure the TTL with which an RST arrives, by several SYNs that are all answered"
)


#: Two of three probes are lost. The RST may be heard first for a TTL above the destination's, and
#: then a silent device at its distance, which resets, looks the same.
HARD = frozenset({"loss-both"})


def weather() -> Iterator[Situation]:
    """What happens to packets by chance."""
    for key, share, conditions in (
        ("loss-there", "40 % of all packets lost on their way there", Weather(loss_there=0.4)),
        ("loss-back", "40 % of all answers lost on their way back", Weather(loss_back=0.4)),
        ("loss-both", "40 % of all packets lost each way", Weather(0.4, 0.4)),
    ):
        for fate, net, blind in (("open", CHAIN, None), ("closed", CLOSED, BLIND_UNDER_LOSS)):
            yield behind_tun(
                f"{key}-{fate}",
                f"{share}: {fate}",
                f"the destination's port is {fate}; the first link loses packets by chance",
                replace(
                    anywhere(reached(fate)),
                    states=frozenset({fate, "inconclusive"} if key in HARD and blind else {fate}),
                    allowed_on_connect=blind,
                ),
                replace(net, weather=conditions),
            )
    for key, fate, truth, net in (
        ("loss-drop", "dropped mid-path", filtered(MIDDLE, MIDDLE), DROPPED),
        (
            "loss-reject",
            "rejected mid-path",
            said_by("rejected", MIDDLE),
            firewall(MIDDLE, "admin-prohibited"),
        ),
        ("loss-reset", "RST forged mid-path", reset_at(MIDDLE), firewall(MIDDLE, "tcp-reset")),
    ):
        yield behind_tun(
            key,
            f"20 % of all packets lost each way: {fate}",
            f"the port is {fate} at hop {MIDDLE}; the first link loses packets by chance",
            anywhere(truth),
            replace(net, weather=Weather(0.2, 0.2)),
        )
    for key, truth, net in (
        ("open", reached("open"), CHAIN),
        ("closed", reached("closed"), CLOSED),
        ("drop", filtered(MIDDLE, MIDDLE), DROPPED),
        ("reset", reset_at(MIDDLE), firewall(MIDDLE, "tcp-reset")),
    ):
        yield behind_tun(
            f"jitter-{key}",
            f"reordering and jitter: {key}",
            "packets take up to 30 ms more each way, and 3 of 10 another 50 ms",
            # Of two SYNs that overtake each other the destination answers one.
            anywhere(truth) if key in ("open", "closed") else truth,
            replace(net, weather=Weather(reordered=0.3, jitter=0.03)),
        )


def crowds() -> Iterator[Situation]:
    """29 other targets behind the same first hops, traced all the time.

    Whether such a hop answers within one trace is a matter of luck. Where it blocks, how far the
    answers come and how wide the range is are left open; the range holds it all the same, and
    nothing but its own side of the edge may be named.
    """
    unheard = EXTERNAL | {"unknown"}
    for key, title, truth, net in (
        ("open", "open", reached("open"), CHAIN),
        ("drop", "dropped mid-path", filtered(MIDDLE, MIDDLE), DROPPED),
        (
            "drop-shared",
            "dropped by such a hop",
            anywhere(filtered(3, 3, unheard)),
            firewall(3),
        ),
        (
            "reject-shared",
            "rejected by such a hop",
            replace(anywhere(said_by("rejected", 3)), locations=unheard),
            firewall(3, "admin-prohibited"),
        ),
    ):
        shared = replace(net, paths=30, shared_hops=3)
        yield Situation(
            f"crowd-{key}",
            f"rate-limited first hops, 30 targets: {title}",
            "an exporter traces 29 other targets through the first three hops, "
            "which may send one ICMP error a second",
            truth,
            {"ipv4": shared.target()["ipv4"]},
            DATABASE,
            partial(crowded, shared),
            {"PLATFORM_NETWORKS": shared.platform_networks},
        )


def hosts() -> Iterator[Situation]:
    """Destinations with habits of their own."""
    for counts, title in (
        ("connection", "third SYN of a connection only"),
        ("flow", "third SYN from the same port only"),
        ("source", "third SYN of any kind only"),
    ):
        host = replace(CHAIN.destination, answers_from=3, counts=counts)
        yield behind_tun(
            f"third-syn-{counts}",
            title,
            "the destination accepts, but ignores the first two SYNs that it sees "
            + {
                "connection": "with the same ports and sequence number",
                "flow": "with the same ports",
                "source": "to a port",
            }[counts],
            anywhere(reached("open")),
            replace(CHAIN, destination=host),
        )
    for ttl in (128, 255):
        for fate, net in (("open", CHAIN), ("closed", CLOSED)):
            yield behind_tun(
                f"ttl-{ttl}-{fate}",
                f"a destination that sends TTL {ttl}: {fate}",
                f"the destination's port is {fate}; its packets start with TTL {ttl}",
                reached(fate),
                replace(net, destination=replace(net.destination, initial_ttl=ttl)),
            )


def forged() -> Iterator[Situation]:
    """Resets whose own TTL misleads."""
    mimic = 64 - (HOPS - MIDDLE)
    for key, chain, ttl, title in (
        ("128", "forward", 128, "RST forged mid-path, TTL 128"),
        ("255", "forward", 255, "RST forged mid-path, TTL 255"),
        ("255-ingress", "ingress", 255, "RST forged at ingress, TTL 255"),
        ("mimic", "forward", mimic, "RST forged with the TTL of the destination's own"),
    ):
        yield behind_tun(
            f"reset-{key}",
            title,
            f"hop {MIDDLE} resets the port in the destination's name, from TTL {ttl}",
            reset_at(MIDDLE),
            firewall(MIDDLE, "tcp-reset", chain, initial_ttl=ttl),
        )
    yield behind_tun(
        "reset-every-port",
        "RST forged mid-path on every port",
        f"hop {MIDDLE} resets every connection; the destination answers ICMP echo alone",
        reset_at(MIDDLE),
        replace(CHAIN, filters=(Filter(MIDDLE, "tcp-reset"),)),
    )


BLIND_BEHIND_NAT = Blind(
    "the kernel drops ICMP errors that quote an address and a port which it has not sent",
    frozenset({"filtered", "inconclusive"}),
)
BLIND_BEHIND_SHIFT = Blind(
    "the kernel drops ICMP errors that quote a sequence number which it has not sent",
    frozenset({"filtered", "inconclusive"}),
)


def rewriters() -> Iterator[Situation]:
    """Devices that change what passes, and not what is quoted of it."""
    behind = MIDDLE + 1
    cases: tuple[tuple[str, str, str, dict[str, Any], Blind], ...] = (
        (
            "stateless-nat",
            "stateless NAT",
            "hop 3 translates address and port, and leaves them translated in quotes",
            {"translates": 3},
            BLIND_BEHIND_NAT,
        ),
        (
            "shifted-sequence",
            "sequence numbers shifted",
            "hop 3 shifts sequence numbers, and leaves them shifted in quotes",
            {"shifts_sequences": 3},
            BLIND_BEHIND_SHIFT,
        ),
    )
    for key, title, what, part, blind in cases:
        for fate, truth, net in (
            ("open", reached("open"), CHAIN),
            ("closed", reached("closed"), CLOSED),
            ("drop", filtered(behind, behind, blind=blind), firewall(behind)),
            (
                "reject",
                replace(said_by("rejected", behind), allowed_on_connect=blind),
                firewall(behind, "admin-prohibited"),
            ),
        ):
            yield behind_tun(
                f"{key}-{fate}",
                f"{title}: {fate}",
                f"{what}; {FATES[fate].format(hop=behind)}",
                truth,
                replace(net, **part),
            )


FATES = {
    "open": "the destination accepts",
    "closed": "the destination refuses",
    "drop": "hop {hop} drops the port after its TTL check",
    "ingress": "hop {hop} drops the port before its TTL check",
    "reject": "hop {hop} rejects the port with ICMP admin-prohibited",
    "reset": "hop {hop} resets the port in the destination's name",
}


def routers() -> Iterator[Situation]:
    """Routers that count or answer in their own way."""
    before = MIDDLE - 1
    for fate, truth, net in (
        ("open", reached("open"), CHAIN),
        ("drop", filtered(MIDDLE, MIDDLE), DROPPED),
        ("ingress", filtered(MIDDLE, before - 1, widest=3), firewall(MIDDLE, chain="ingress")),
        ("reject", said_by("rejected", MIDDLE), firewall(MIDDLE, "admin-prohibited")),
        ("reset", reset_at(MIDDLE), firewall(MIDDLE, "tcp-reset")),
    ):
        yield behind_tun(
            f"zero-ttl-{fate}",
            f"zero-TTL forwarder before the firewall: {fate}",
            f"hop {before} forwards what it should have let expire, so hop {MIDDLE} answers in "
            f"its place as well; {FATES[fate].format(hop=MIDDLE)}",
            truth,
            replace(net, zero_ttl=(before,)),
        )
    behind = MIDDLE + 1
    for fate, truth, net in (
        ("open", reached("open"), CHAIN),
        ("drop", filtered(behind, behind), firewall(behind)),
        ("ingress", filtered(behind, MIDDLE), firewall(behind, chain="ingress")),
        ("reset", reset_at(behind), firewall(behind, "tcp-reset")),
    ):
        yield behind_tun(
            f"mpls-{fate}",
            f"MPLS tunnel before the firewall: {fate}",
            f"hops 3 to {MIDDLE} are a tunnel, and their answers take the way to its end first; "
            + FATES[fate].format(hop=behind),
            truth,
            replace(net, mpls=(3, MIDDLE)),
        )
    everybody = tuple(range(1, HOPS))
    for fate, truth, net in (
        ("open", reached("open"), CHAIN),
        ("closed", reached("closed"), CLOSED),
        ("drop", filtered(MIDDLE, 0, WIDE, widest=None), DROPPED),
    ):
        yield behind_tun(
            f"far-silent-{fate}",
            f"all routers silent, 20 ms a link: {fate}",
            f"no router ever answers; {FATES[fate].format(hop=MIDDLE)}",
            truth,
            replace(net, silent=everybody, delay=0.020),
        )


def ways() -> Iterator[Situation]:
    """Long ways, ways back that differ, several ways, and ways without end."""
    far = replace(CHAIN, hops=12, delay=0.013)
    for fate, truth, net in (
        ("open", replace(reached("open"), last_reachable_hop=12), far),
        ("drop", filtered(7, 7), replace(far, filters=firewall(7).filters)),
    ):
        yield behind_tun(
            f"long-{fate}",
            f"long path, 12 hops and 26 ms each: {fate}",
            f"the destination is 312 ms away; {FATES[fate].format(hop=7)}",
            truth,
            net,
        )
    for key, title, more in (
        ("longer", "3 hops longer", 3),
        ("shorter", "2 hops shorter", -2),
    ):
        for fate, truth, net in (
            ("open", reached("open"), CHAIN),
            ("closed", reached("closed"), CLOSED),
            ("drop", filtered(MIDDLE, MIDDLE), DROPPED),
            ("reset", reset_at(MIDDLE), firewall(MIDDLE, "tcp-reset")),
        ):
            yield behind_tun(
                f"{key}-way-back-{fate}",
                f"the way back {title} from hop 4 on: {fate}",
                f"answers from hop 4 and behind come back {title}, those of routers from TTL 255; "
                + FATES[fate].format(hop=MIDDLE),
                truth,
                replace(net, longer_return=((4, more),), router_ttl=255),
            )
    yield from branched()
    for key, first, last, locations in (
        ("platform", 1, 2, PLATFORM),
        ("edge", 2, 3, frozenset({"boundary"})),
        ("external", 4, 6, EXTERNAL),
    ):
        yield behind_tun(
            f"loop-{key}",
            f"loop of hops {first} to {last}, rate-limited",
            f"hop {last} sends everything back to hop {first}",
            Truth(frozenset({"loop"}), locations, last, last_reachable_hop=last),
            replace(CHAIN, loop=(first, last)),
        )


def branched() -> Iterator[Situation]:
    """Four branches from hop 4 to hop 6; flows are dealt out by turns."""
    some = replace(
        anywhere(filtered(MIDDLE, MIDDLE)), some_flows=True, allowed_on_connect=BLIND_ON_BRANCHES
    )
    for key, title, truth, branches, settings in (
        ("good", "four branches, all good", reached("open"), (), {}),
        ("one-bad", "four branches, the first flow's is bad", some, (0,), {}),
        ("two-bad", "four branches, two bad, four flows a cycle", some, (1, 3), {"FLOWS": "4"}),
        (
            "all-bad",
            "four branches, all bad",
            replace(anywhere(filtered(MIDDLE, MIDDLE))),
            (0, 1, 2, 3),
            {},
        ),
    ):
        net = firewall(MIDDLE, branches=branches) if branches else CHAIN
        yield behind_tun(
            f"branches-{key}",
            title,
            f"hops 4 to 6 have four branches; hop {MIDDLE} of {len(branches)} of them drops the "
            "port",
            truth,
            replace(net, branches=(4, 6, 4)),
            settings,
        )


SITUATIONS: tuple[Situation, ...] = (
    *weather(),
    *crowds(),
    *hosts(),
    *forged(),
    *rewriters(),
    *routers(),
    *ways(),
)
