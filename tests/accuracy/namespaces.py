"""The situations that are played by real routers, in network namespaces.

All but a few are one chain with something wrong on it, see chains.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial

from tests.accuracy.chains import (
    CHAIN,
    CLOSED,
    DATABASE,
    DATABASE_PORT,
    DESTINATION,
    HOPS,
    LAST,
    MEANT,
    MIDDLE,
    Extra,
    LabWorld,
    Network,
    addresses,
    nft,
    running,
)
from tests.accuracy.crooked import RETURNS, branches, loop
from tests.accuracy.situation import BLIND_ON_BRANCHES, Blind, Situation, Truth, World
from tests.lab.cell import ENVIRONMENT, GATEWAY, Cell
from tests.lab.lab import Lab
from tests.lab.user_mode import INNER, passt, slirp
from tests.scenarios import NUMBERINGS, Rule, Scenario

NETWORKS = tuple(n.network(link) for n in NUMBERINGS.values() for link in range(2))
SETTINGS = {"PLATFORM_NETWORKS": ",".join(NETWORKS)}

#: What is said of a block on the way, by where the culprit stands.
EXTERNAL, PLATFORM = frozenset({"external"}), frozenset({"platform"})
#: The culprit is the platform's last device, and the range must not end before it.
EDGE = frozenset({"platform", "boundary"})
#: The range begins inside, and nothing can narrow it.
WIDE = frozenset({"boundary", "unknown"})
#: The culprit is inside; to say that it is outside would be the worst mistake there is.
NEVER_OUTSIDE = frozenset({"platform", "boundary", "unknown"})


def firewall(hop: int, action: str, chain: str = "forward") -> Scenario:
    """The chain with a firewall on the database's port."""
    return replace(CHAIN, rules=(Rule(hop, action, chain, (DATABASE,)),))


def on_chain(
    name: str,
    title: str,
    sentence: str,
    truth: Truth,
    network: Network | Scenario = CHAIN,
    *,
    target: Mapping[str, str] = DESTINATION,
    changing: Callable[[Lab], None] | None = None,
    flows: int | None = None,
) -> Situation:
    """A situation on the chain or on what has become of it."""
    if isinstance(network, Scenario):
        network = Network(network)
    return Situation(
        name,
        title,
        sentence,
        truth,
        target,
        DATABASE,
        partial(running, network, changing),
        SETTINGS if flows is None else SETTINGS | {"FLOWS": str(flows)},
        changes=changing is not None,
    )


# -- truths ----------------------------------------------------------------------------


def reached(state: str) -> Truth:
    """The destination itself answers."""
    return Truth(frozenset({state}), last_reachable_hop=HOPS)


def filtered(
    culprit: int,
    last: int,
    locations: frozenset[str] = EXTERNAL,
    *,
    widest: int | None = 2,
    blind: Blind | None = None,
) -> Truth:
    """Dropped by the device at `culprit`; `last` is the last one that answers."""
    return Truth(
        frozenset({"filtered"}),
        locations,
        culprit,
        last_reachable_hop=last,
        widest=widest,
        allowed_on_connect=blind,
    )


def said_by(state: str, hop: int) -> Truth:
    """Refused by the device at `hop`, which says so itself."""
    return Truth(
        frozenset({state}), EXTERNAL, hop, addresses(hop), last_reachable_hop=hop, widest=2
    )


def reset_at(hop: int) -> Truth:
    """Reset in the destination's name by the device at `hop`."""
    return Truth(
        frozenset({"reset"}), EXTERNAL, hop, addresses(hop), last_reachable_hop=hop, widest=2
    )


def intercepted_at(hop: int) -> Truth:
    """Accepted in the destination's name by the device at `hop`."""
    return Truth(frozenset({"intercepted"}), last_reachable_hop=hop)


# -- the destination answers, or a firewall on the way does ----------------------------


def plain() -> Iterator[Situation]:
    """One chain, at most one firewall."""
    yield on_chain(
        "open", "open", "the destination accepts; nothing is in the way", reached("open")
    )
    yield on_chain(
        "closed",
        "closed",
        "the destination itself refuses: nothing listens on the port",
        reached("closed"),
        CLOSED,
    )
    for key, hop, last, locations, where in (
        ("hop-1", 1, 1, PLATFORM, "the first hop, inside the platform"),
        ("edge", 2, 2, EDGE, "the platform's last hop"),
        ("mid-path", MIDDLE, MIDDLE, EXTERNAL, "mid-path"),
        ("last-hop", LAST, LAST, EXTERNAL, "the last router before the destination"),
    ):
        yield on_chain(
            f"drop-{key}",
            f"drop in forward, {where}",
            f"hop {hop} drops the port after its TTL check, so it still answers for its own hop",
            filtered(hop, last, locations),
            firewall(hop, "drop"),
        )
    yield on_chain(
        "drop-ingress",
        "drop at ingress, mid-path",
        f"hop {MIDDLE} drops the port before its TTL check, so it never answers",
        filtered(MIDDLE, MIDDLE - 1),
        firewall(MIDDLE, "drop", "ingress"),
    )
    for action in ("admin-prohibited", "host-prohibited", "net-prohibited", "port-unreachable"):
        yield on_chain(
            action,
            f"{action}, mid-path",
            f"hop {MIDDLE} rejects the port with ICMP {action}",
            said_by("rejected", MIDDLE),
            firewall(MIDDLE, action),
        )
    yield on_chain(
        "host-firewall",
        "port-unreachable from the destination's host",
        "the destination's own firewall rejects the port",
        said_by("rejected", HOPS),
        firewall(HOPS, "port-unreachable", "input"),
    )
    yield on_chain(
        "no-route",
        "no route",
        f"hop {MIDDLE} has no route to the destination, and says so",
        said_by("unreachable", MIDDLE),
        replace(CHAIN, rules=(Rule(MIDDLE, "net-unreachable", "ingress"),)),
    )
    yield on_chain(
        "dead-host",
        "dead host",
        f"nobody has the destination's address; hop {LAST} says so after 3 s",
        said_by("unreachable", LAST),
        replace(CHAIN, open_ports=(), destination_exists=False),
    )


def forged() -> Iterator[Situation]:
    """Somebody on the way answers in the destination's name."""
    for hop, where in ((MIDDLE, "far from the destination"), (LAST, "right before it")):
        for chain in ("forward", "ingress"):
            yield on_chain(
                f"reset-{chain}-{hop}",
                f"RST forged in {chain}, {where}",
                f"hop {hop} resets the port in the destination's name",
                reset_at(hop),
                firewall(hop, "tcp-reset", chain),
            )
    yield on_chain(
        "syn-proxy",
        "SYN proxy",
        f"hop {MIDDLE} shakes hands in the destination's name before it asks the destination",
        intercepted_at(MIDDLE),
        Network(CHAIN, {MIDDLE: SYN_PROXY}),
        # nft_synproxy checks an IPv6 SYN by IPv4's pseudo header, so it drops every one whose
        # checksum is complete, as that of a raw socket is (seen on Linux 6.18).
        target={"ipv4": DESTINATION["ipv4"]},
    )
    for key, title, sentence, statements in PROXIES:
        yield on_chain(
            key,
            title,
            sentence,
            intercepted_at(MIDDLE),
            Network(CHAIN, {MIDDLE: _proxy(statements)}),
        )


#: nft's own recipe: SYNs are not tracked, and what is not tracked goes to the proxy.
SYN_PROXY = Extra(
    nft=nft(
        "prerouting priority raw - 1",
        f'iifname "near" {DATABASE_PORT} tcp flags & (fin | syn | rst | ack) == syn notrack',
    )
    + nft(
        "forward priority filter - 1",
        f'iifname "near" {DATABASE_PORT} ct state invalid,untracked '
        "synproxy mss 1460 wscale 7 timestamp sack-perm",
        f"{DATABASE_PORT} ct state invalid drop",
    ),
    kernel=(("netfilter/nf_conntrack_tcp_loose", "0"),),
)
#: Where the transparent proxy listens.
PROXY_PORT = 15001
PROXIES = (
    (
        "proxy-one-port",
        "transparent proxy on one port only",
        f"a proxy at hop {MIDDLE} accepts this port in the destination's name",
        tuple(f"{meant} {DATABASE_PORT}" for meant in MEANT),
    ),
    (
        "canary-answered",
        "canary answered: a proxy for this port of all addresses",
        f"a proxy at hop {MIDDLE} accepts this port in everybody's name",
        (DATABASE_PORT,),
    ),
    (
        "proxy-everything",
        "canary answered: a proxy for all ports of all addresses",
        f"a proxy at hop {MIDDLE} accepts everything in everybody's name",
        ("meta l4proto tcp",),
    ),
)


def _proxy(meant: Iterable[str]) -> Extra:
    statements = (f'iifname "near" {one} redirect to :{PROXY_PORT}' for one in meant)
    return Extra(
        nft=nft("prerouting priority dstnat", *statements, kind="nat"), ports=(PROXY_PORT,)
    )


# -- silence ---------------------------------------------------------------------------


def silent() -> Iterator[Situation]:
    """Routers that send no ICMP errors, and drops that nothing gets past."""
    everybody = tuple(range(1, HOPS))
    yield on_chain(
        "silent-open",
        "all routers silent, open",
        "the destination accepts; no router on the way ever answers",
        reached("open"),
        replace(CHAIN, silent=everybody),
    )
    yield on_chain(
        "silent-blocked",
        "all routers silent, blocked",
        f"hop {MIDDLE} drops the port; no router on the way ever answers",
        filtered(MIDDLE, 0, WIDE, widest=None),
        replace(firewall(MIDDLE, "drop"), silent=everybody),
    )
    yield on_chain(
        "silent-around",
        "silent routers before and behind the firewall",
        f"hop {MIDDLE} drops the port; its neighbours never answer",
        filtered(MIDDLE, MIDDLE, widest=3),
        replace(firewall(MIDDLE, "drop"), silent=(MIDDLE - 1, MIDDLE + 1)),
    )
    yield on_chain(
        "silent-firewall",
        "the firewall itself silent",
        f"hop {MIDDLE} drops the port and never answers",
        filtered(MIDDLE, MIDDLE - 1, widest=3),
        replace(firewall(MIDDLE, "drop"), silent=(MIDDLE,)),
    )
    yield on_chain(
        "silent-ingress",
        "drop at ingress behind a silent router",
        f"hop {MIDDLE} drops the port before its TTL check; hop {MIDDLE - 1} never answers",
        filtered(MIDDLE, MIDDLE - 2, widest=3),
        replace(firewall(MIDDLE, "drop", "ingress"), silent=(MIDDLE - 1,)),
    )
    yield on_chain(
        "silent-reset",
        "RST forged by a silent firewall",
        f"hop {MIDDLE} resets the port in the destination's name and never answers itself",
        reset_at(MIDDLE),
        replace(firewall(MIDDLE, "tcp-reset"), silent=(MIDDLE,)),
    )
    yield on_chain(
        "drop-host",
        "everything to the host dropped, mid-path",
        f"hop {MIDDLE} drops whatever goes to the destination, so no control passes",
        filtered(MIDDLE, MIDDLE, widest=None),
        Network(CHAIN, {MIDDLE: Extra(nft=nft("forward priority filter", *_dropped(MEANT)))}),
    )


def _dropped(meant: Iterable[str]) -> Iterator[str]:
    return (f"{one} drop" for one in meant)


# -- paths that are not one chain ------------------------------------------------------


def crooked() -> Iterator[Situation]:
    """Branches, loops and ways back."""
    for key, title, flows in (
        ("one-branch", "ECMP with one bad branch", None),
        ("one-branch-flows", "ECMP with one bad branch, four flows in every cycle", 4),
    ):
        yield on_chain(
            key,
            title,
            f"of two routers that share hop {MIDDLE} one drops the port; flows take turns",
            replace(
                filtered(MIDDLE, MIDDLE, widest=None, blind=BLIND_ON_BRANCHES), some_flows=True
            ),
            branches(),
            flows=flows,
        )
    yield on_chain(
        "loop",
        "loop",
        f"hop {MIDDLE + 1} sends what is for the destination back to hop {MIDDLE}",
        # In IPv6 hop MIDDLE has two names, one for each interface that the packet came in by, so
        # which hop closes the first round nobody can know.
        Truth(frozenset({"loop"}), EXTERNAL, MIDDLE + 1),
        loop(),
    )
    for length, returning in RETURNS.items():
        for key, truth, scenario in (
            ("open", reached("open"), CHAIN),
            ("closed", reached("closed"), CLOSED),
            ("drop", filtered(MIDDLE, MIDDLE), firewall(MIDDLE, "drop")),
            ("reset", reset_at(MIDDLE), firewall(MIDDLE, "tcp-reset")),
        ):
            yield on_chain(
                f"{length}-return-{key}",
                f"asymmetric return path, {length}er: {key}",
                f"the destination's answers take a {length}er way back; "
                f"{'otherwise as the same row above' if truth.culprit else f'it is {key}'}",
                truth,
                returning(scenario),
            )


# -- what is rewritten on the way ------------------------------------------------------

#: Whose packets the translators at hop TRANSLATOR change.
TRANSLATOR = 4
VIRTUAL = {family: n.address(200, 1) for family, n in NUMBERINGS.items()}
SNAT = Extra(nft=nft("postrouting priority srcnat", 'oifname "far" masquerade', kind="nat"))
DNAT = Extra(
    nft=nft(
        "prerouting priority dstnat",
        f"ip daddr {VIRTUAL['ipv4']} dnat ip to {DESTINATION['ipv4']}",
        f"ip6 daddr {VIRTUAL['ipv6']} dnat ip6 to {DESTINATION['ipv6']}",
        kind="nat",
    )
)
#: Both ways, so that connections work; the quotes in ICMP errors it leaves alone. An
#: exclusive-or of the upper half commutes with the + 1 that a SYN counts.
REWRITER = Extra(
    nft=nft(
        "forward priority mangle",
        'iifname "near" tcp sequence set tcp sequence ^ 0x5a5a0000',
        'oifname "near" tcp ackseq set tcp ackseq ^ 0x5a5a0000',
    )
)
BLIND_BEHIND_REWRITER = Blind(
    "the kernel drops ICMP errors that quote a sequence number which it has not sent",
    frozenset({"filtered", "inconclusive"}),
)


def rewritten() -> Iterator[Situation]:
    """Translators of addresses and of sequence numbers, with a drop behind them and without."""
    behind = firewall(TRANSLATOR + 2, "drop")
    dropped = filtered(TRANSLATOR + 2, TRANSLATOR + 2)
    for key, title, extra, target in (
        ("snat", "SNAT in path", SNAT, DESTINATION),
        ("dnat", "DNAT in path", DNAT, VIRTUAL),
    ):
        translated = f"hop {TRANSLATOR} translates addresses"
        extras = {TRANSLATOR: extra}
        yield on_chain(
            f"{key}-open",
            f"{title}, open",
            f"the destination accepts; {translated}",
            reached("open"),
            Network(CHAIN, extras),
            target=target,
        )
        yield on_chain(
            f"{key}-drop",
            f"{title}, drop behind it",
            f"hop {TRANSLATOR + 2} drops the port; {translated}",
            dropped,
            Network(behind, extras),
            target=target,
        )
    yield on_chain(
        "sequence-open",
        "sequence numbers rewritten, open",
        "the destination accepts; hop 2 rewrites sequence numbers",
        reached("open"),
        Network(CHAIN, {2: REWRITER}),
    )
    yield on_chain(
        "sequence-drop",
        "sequence numbers rewritten, drop behind it",
        f"hop {TRANSLATOR + 2} drops the port; hop 2 rewrites sequence numbers",
        replace(dropped, allowed_on_connect=BLIND_BEHIND_REWRITER),
        Network(behind, {2: REWRITER}),
    )


# -- the platform ----------------------------------------------------------------------


def platform() -> Iterator[Situation]:
    """What the platform itself does: security groups, policies, user-mode networks."""
    yield Situation(
        "security-group",
        "security group of the platform",
        "the cell (hop 1) rejects what no security group allows, with ICMP port-unreachable",
        Truth(frozenset({"rejected"}), PLATFORM, 1, {"ipv4": GATEWAY}, last_reachable_hop=1),
        {"ipv4": DESTINATION["ipv4"]},
        DATABASE,
        cell,
        SETTINGS | ENVIRONMENT,
    )
    everything = 'iifname "near" meta l4proto { tcp, icmp, ipv6-icmp } drop'
    neighbours = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"
    yield on_chain(
        "policy-port",
        "silent drop by the platform's network policy, one port, no answer at TTL 1",
        "hop 1, inside the platform, drops the port before its TTL check",
        filtered(1, 0, NEVER_OUTSIDE),
        firewall(1, "drop", "ingress"),
    )
    yield on_chain(
        "policy-all",
        "silent drop by the platform's network policy, everything",
        "hop 1, inside the platform, drops all traffic after its TTL check",
        filtered(1, 1, NEVER_OUTSIDE, widest=None),
        Network(CHAIN, {1: Extra(nft=nft("forward priority filter", everything))}),
    )
    yield on_chain(
        "policy-all-silent",
        "silent drop by the platform's network policy, everything, no answer at TTL 1",
        "hop 1, inside the platform, drops all traffic before its TTL check: nothing answers",
        replace(
            filtered(1, 0, NEVER_OUTSIDE | {"none"}, widest=None),
            states=frozenset({"filtered", "inconclusive"}),
        ),
        Network(CHAIN, {1: Extra(nft=nft("prerouting priority raw - 1", neighbours, everything))}),
    )
    for key, network in USER_MODE.items():
        for fate, states, scenario in (
            ("open", frozenset({"open", "inconclusive"}), CHAIN),
            ("drop", frozenset({"inconclusive"}), firewall(MIDDLE, "drop")),
        ):
            yield Situation(
                f"{key}-{fate}",
                f"user-mode network ({key}), {fate}",
                "no TTL survives and no router is ever heard: nothing can be placed",
                Truth(states, last_reachable_hop=0),
                {"ipv4": DESTINATION["ipv4"]},
                DATABASE,
                partial(user_mode, network, scenario),
            )


USER_MODE: Mapping[str, Callable[[Lab], AbstractContextManager[None]]] = {
    "slirp4netns": slirp,
    "passt": passt,
}


@contextmanager
def cell() -> Iterator[World]:
    """A container on a cell that allows web traffic and nothing else."""
    with Lab(CHAIN, Network(CHAIN).plan()) as lab, Cell(lab) as container:
        container.allow(["tcp dport { 80, 443 }"])
        yield LabWorld(lab, tuple(container.inside("root")))


@contextmanager
def user_mode(
    network: Callable[[Lab], AbstractContextManager[None]], scenario: Scenario
) -> Iterator[World]:
    """A container behind a user-mode network."""
    with Lab(scenario, Network(scenario).plan()) as lab:
        lab.run(["ip", "netns", "add", "inner"], check=True)
        with network(lab):
            yield LabWorld(lab, INNER)


# -- what was good before --------------------------------------------------------------


#: Three cycles within seconds use up what hops may send, which looks like loss; then the range goes
#: on until loss is ruled out, past the next hop of the last good trace.
LATELY = 5


def spoilt() -> Iterator[Situation]:
    """Open in a first cycle, and no longer in the last one; no control passes then."""
    for key, title, sentence, truth, statements in (
        (
            "lately-drop",
            "open before, then everything to the host dropped",
            f"hop {MIDDLE} drops whatever goes to the destination since a while ago",
            filtered(MIDDLE, MIDDLE, widest=LATELY),
            tuple(f"forward {one} drop" for one in MEANT),
        ),
        (
            "lately-ingress",
            "open before, then everything to the host dropped at ingress",
            f"hop {MIDDLE} drops it before its TTL check since a while ago",
            filtered(MIDDLE, MIDDLE - 1, widest=LATELY),
            tuple(f"ingress {one} drop" for one in MEANT),
        ),
        (
            "lately-reset",
            "open before, then every port of the host reset",
            f"hop {MIDDLE} resets all TCP in the destination's name since a while ago",
            reset_at(MIDDLE),
            (
                *(f"forward {one} meta l4proto tcp reject with tcp reset" for one in MEANT),
                *(f"forward {one} drop" for one in MEANT),
            ),
        ),
    ):
        rules = "".join(f"add rule inet lab {statement}\n" for statement in statements)
        yield on_chain(
            key, title, sentence, truth, changing=partial(Lab.nft, hop=MIDDLE, text=rules)
        )


SITUATIONS: tuple[Situation, ...] = (
    *plain(),
    *forged(),
    *silent(),
    *crooked(),
    *rewritten(),
    *platform(),
    *spoilt(),
)
