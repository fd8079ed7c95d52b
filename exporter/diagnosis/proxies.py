"""What a proxy that the environment names has to do with a direct failure. Pure functions.

Where traffic is meant to leave through a proxy, the direct way is often closed on purpose. That is
no reason for another verdict, but it belongs beside it.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address, ip_network

from exporter.model import REACHED_STATES, Observation, Proxy, State, Target

#: States in which something at the other end has answered directly.
DIRECT_STATES = REACHED_STATES | {State.INTERCEPTED}


def noted(observation: Observation, proxy: Proxy | None) -> Observation:
    """The observation, with a line of evidence where a proxy may explain its failure."""
    if proxy is None or observation.verdict.state in DIRECT_STATES:
        return observation
    target = observation.target
    if any(_exempts(entry, target) for entry in proxy.exempt):
        return observation
    verdict = observation.verdict
    fact = (
        f"the environment names a proxy ({proxy}), and NO_PROXY does not exempt "
        f"{target.host}: direct connections may be blocked by design; this program uses no proxy"
    )
    return replace(
        observation,
        verdict=replace(verdict, evidence=(*verdict.evidence, fact)),
        each=tuple(noted(one, proxy) for one in observation.each),
    )


def _exempts(entry: str, target: Target) -> bool:
    """Whether an entry of NO_PROXY means the target, as curl and Go's net/http read it.

    An entry is *, a network, an address or a domain with all below it, perhaps with a port.
    A name is not resolved for it: an address in NO_PROXY exempts no name.
    """
    host = target.host.lower().removesuffix(".")
    with suppress(ValueError):
        return ip_address(host) in ip_network(entry, strict=False)
    match = re.fullmatch(r"(\[.*\]|[^:]*)(?::([0-9]+))?", entry.lower())
    if not match or (match[2] and int(match[2]) != target.port):
        return False
    domain = match[1].strip("[]").removeprefix("*.").removeprefix(".").removesuffix(".")
    return domain in {"*", host} or bool(domain and host.endswith(f".{domain}"))
