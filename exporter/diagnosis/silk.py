"""How Cloud Foundry's own block looks: a cell that rejects what no security group allows.

Silk, the network of Cloud Foundry's containers, gives each a /32 address of OVERLAY and its cell
for a gateway, as 169.254.0.1. For what leaves for elsewhere the cell has the rules of the
application security groups (ASG), and behind the last one a reject with ICMP port-unreachable
(cloudfoundry/silk-release, cni-wrapper-plugin/netrules). It looks like this:

1. the runtime says which instance this is, and on which cell;
2. 169.254.0.1 sends ICMP 3/3, and nobody behind it answers any probe;
3. the destination is neither another container, for which network policies decide, nor the cell
   itself, for which its own input rules do.

Two things look the same: networks that the platform denies to everybody (deny_networks), and its
limit on new connections.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from exporter.diagnosis.case import Case
from exporter.diagnosis.placing import is_spared
from exporter.diagnosis.words import destination_of
from exporter.model import Confidence, Reply, Source, State, Trace, Verdict

#: The default of silk-release, where it is called `network`.
OVERLAY = ip_network("10.255.0.0/16")
#: The cell's end of the link to each of its containers.
GATEWAY = "169.254.0.1"
PORT_UNREACHABLE = (3, 3)
#: The kernel's log prefix has room for 28 characters, DENY_ among them.
LOGGED = 28 - len("DENY_")


def is_only_cell(trace: Trace, source: Source) -> bool:
    """Whether all answers are those of this instance's cell.

    A cell drops no SYN, so where it leaves probes unanswered, its limit on ICMP errors hides
    rejections.
    """
    return is_on_cell(source) and _responders(trace) == {GATEWAY}


def is_on_cell(source: Source) -> bool:
    """Whether the environment names an instance and its cell."""
    return bool(source.instance_guid) and _is_address(source.cell)


def _responders(trace: Trace) -> set[str]:
    return {answer.reply.address for answer in trace.answers}


def may_be_cell(case: Case) -> bool:
    """Whether a silence may be that of a cell that rejects and has no ICMP error left to send.

    It has rejected other targets within the last minute, and nobody behind it answers.
    """
    spent = GATEWAY in case.surroundings.rejecting
    return spent and is_on_cell(case.source) and _responders(case.trace) <= {GATEWAY}


def perhaps_rejected(trace: Trace) -> Verdict:
    """The verdict on such a silence."""
    return Verdict(
        state=State.INCONCLUSIVE,
        last_reachable_hop=trace.last_answering_ttl,
        reason=f"{destination_of(trace)} does not answer, and neither does anybody behind this "
        "instance's cell. The cell has just rejected traffic to other targets, and may do so here: "
        "its limit on ICMP errors hides what it rejects.",
        confidence=Confidence.LOW,
    )


def is_security_group(trace: Trace, reply: Reply, source: Source) -> bool:
    """Whether a rejection is that of a cell whose security groups do not allow the traffic."""
    destination = trace.flow.destination
    return (
        reply.icmp == PORT_UNREACHABLE
        and is_only_cell(trace, source)
        and not any(map(is_spared, trace.hops))
        and destination not in (GATEWAY, source.cell)
        and ip_address(destination) not in OVERLAY
    )


def security_group_sentence(trace: Trace, source: Source) -> str:
    """What to tell the operator of the platform."""
    return (
        f"Cloud Foundry itself rejects {destination_of(trace)}, inside the platform: no "
        "application security group (ASG) of this space, nor of all running applications, allows "
        f"tcp to it; in the log of cell {source.cell} look for instance GUID "
        f"{source.instance_guid}."
    )


def security_group_facts(source: Source) -> tuple[str, ...]:
    """What else it might be, and what to look for."""
    return (
        (
            f"{GATEWAY} is the cell's end of this container's link, and nobody behind it answered; "
            "networks that the platform denies to everybody, and its limit on new connections, "
            "look the same"
        ),
        (
            f"where the platform logs denials, the kernel's log of cell {source.cell} has this "
            f"one as DENY_{source.instance_guid[:LOGGED]}"
        ),
    )


def _is_address(text: str) -> bool:
    """Whether the cell is named by its address: on Kubernetes it is a node's name."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
