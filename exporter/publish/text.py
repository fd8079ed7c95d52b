"""The words and small formats in which everything is told: page, log, terminal, metrics, evidence.

Everything from outside passes through `printable`: names, addresses, error messages. So a
line of text is one line on any terminal and in any log.
"""

from __future__ import annotations

from datetime import UTC, datetime

from exporter.model import (
    REACHED_STATES,
    Condition,
    Family,
    Observation,
    Place,
    Reply,
    ReplyKind,
    State,
    StopReason,
    Target,
    Verdict,
    Zone,
)

#: The longest summary line, in characters.
SUMMARY_LENGTH = 200
#: So much of a name may stand in the summary line; what matters more must fit behind it.
SUMMARY_NAME_LENGTH = 60
#: So much of the name of an autonomous system stands behind its number.
AS_NAME_LENGTH = 40

#: What an ICMP error says: traceroute's mark for it, where it has one, and its words.
ICMP_WORDS = {
    # RFC 792, RFC 1122 section 3.2.2.1, RFC 1812 section 5.2.7.1
    (3, 0): "!N network unreachable",
    (3, 1): "!H host unreachable",
    (3, 2): "!P protocol unreachable",
    (3, 3): "port unreachable",
    (3, 4): "!F fragmentation needed",
    (3, 5): "!S source route failed",
    (3, 6): "!U network unknown",
    (3, 7): "!W host unknown",
    (3, 8): "!I source host isolated",
    (3, 9): "!A network prohibited",
    (3, 10): "!Z host prohibited",
    (3, 11): "!Q network unreachable for this type of service",
    (3, 12): "!T host unreachable for this type of service",
    (3, 13): "!X administratively prohibited",
    (3, 14): "!V host precedence violation",
    (3, 15): "!C precedence cutoff",
}
#: The same of ICMPv6, where the same numbers mean other things.
ICMPV6_WORDS = {
    # RFC 4443 section 3.1
    (1, 0): "!N no route",
    (1, 1): "!X administratively prohibited",
    (1, 2): "!S beyond the scope of the source address",
    (1, 3): "!H address unreachable",
    (1, 4): "port unreachable",
    (1, 5): "!X source address failed the policy",
    (1, 6): "!X route says reject",
}
ICMP_OF_FAMILY = {Family.IPV4: ("ICMP", ICMP_WORDS), Family.IPV6: ("ICMPv6", ICMPV6_WORDS)}

#: What stands in brackets behind the address of an end point.
TCP_WORDS = {
    ReplyKind.SYN_ACK: "open",
    ReplyKind.RST: "closed",
    ReplyKind.ACK: "answers with ACK",
}

#: The same where the verdict is that somebody nearer has answered for it.
FORGED_WORDS = {
    (State.RESET, ReplyKind.RST): "reset in its name",
    (State.INTERCEPTED, ReplyKind.SYN_ACK): "accepted in its name",
}

#: What a hop's asterisks would not tell by themselves.
TOLD_CONDITIONS = {Condition.RATE_LIMITED, Condition.LOSSY}

#: What a control's answer is called; as a sign of life an RST is as good as a SYN-ACK.
END_WORDS = {
    ReplyKind.SYN_ACK: "SYN-ACK",
    ReplyKind.RST: "RST",
    ReplyKind.ACK: "ACK",
    ReplyKind.ECHO_REPLY: "echo reply",
}

#: Why a trace ended.
STOP_WORDS = {
    StopReason.DESTINATION: "the destination answered",
    StopReason.ICMP_ERROR: "a device said that the traffic goes no further",
    StopReason.SILENCE: "silence, confirmed",
    StopReason.HOP_LIMIT: "routers answered up to the last TTL",
    StopReason.SEND_FAILED: "the host refused to send",
    StopReason.DEADLINE: "the trace ran out of its time",
}


def printable(text: str) -> str:
    r"""Show what could move a cursor, break a line or hide itself as \x1b, \n, \u202e.

    The one gate for text from outside. It also takes away lone surrogates, which no UTF-8
    encoder accepts.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def shorten(text: str, length: int) -> str:
    """At most `length` characters of a text; dots stand for the rest."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def timestamp(seconds: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC, with milliseconds and Z."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def duration(seconds: float) -> str:
    """A span of time as every line writes it: in ms below a second, else in s."""
    return f"{seconds * 1000:.3f} ms" if seconds < 1 else f"{seconds:.3f} s"


def host_port(target: Target) -> str:
    """The target as `host:port`; an IPv6 address stands in brackets."""
    host = printable(target.host)
    return f"[{host}]:{target.port}" if ":" in host else f"{host}:{target.port}"


def endpoint_of(observation: Observation) -> str:
    """`host:port`, and the address where the host is a name."""
    endpoint = host_port(observation.target)
    if observation.address and observation.address != observation.target.host:
        endpoint += f" ({printable(observation.address)})"
    return endpoint


def where(verdict: Verdict) -> str:
    """How far the traffic gets and who stops it, in one clause."""
    if verdict.state in REACHED_STATES and not verdict.last_reachable_hop:
        return "reached, distance not known"
    if verdict.state in REACHED_STATES:
        return f"reached at hop {verdict.last_reachable_hop}"
    if not verdict.blocked_at_hop:
        return f"last reachable hop {verdict.last_reachable_hop}"
    parts = [f"blocked at hop {verdict.blocked_at_hop}"]
    if verdict.blocked_by:
        parts.append(f"by {printable(verdict.blocked_by)}")
    if verdict.suspect_hops and verdict.suspect_hops[0] != verdict.suspect_hops[1]:
        parts.append("suspect hops {}-{}".format(*verdict.suspect_hops))
    parts.append(f"location {verdict.location}")
    return ", ".join(parts)


def summary_line(observation: Observation) -> str:
    """The key facts in one line of at most `SUMMARY_LENGTH` characters."""
    verdict = observation.verdict
    name = shorten(printable(observation.target.name), SUMMARY_NAME_LENGTH)
    endpoint = shorten(endpoint_of(observation), SUMMARY_NAME_LENGTH)
    several = len(observation.each)
    of_several = f"{alike(observation)} of {several} addresses, " if several > 1 else ""
    return shorten(
        f"{name}: {verdict.state}, {where(verdict)}, confidence {verdict.confidence}, "
        f"{of_several}{endpoint}, {duration(observation.duration)}",
        SUMMARY_LENGTH,
    )


def alike(observation: Observation) -> int:
    """How many of a target's addresses are in the state of the target."""
    state = observation.verdict.state
    return sum(one.verdict.state is state for one in observation.each)


def saying(observation: Observation, reply: Reply) -> str:
    """What a reply says; "" for time-exceeded, which a hop is expected to say."""
    forged = FORGED_WORDS.get((observation.verdict.state, reply.kind))
    return forged or words_of(reply)


def words_of(reply: Reply) -> str:
    """The same of the reply by itself, whatever the verdict."""
    if reply.kind is ReplyKind.TIME_EXCEEDED:
        return ""
    if reply.icmp is None:
        return TCP_WORDS.get(reply.kind, reply.kind.value)
    protocol, known = ICMP_OF_FAMILY[Family.of(reply.address)]
    number = "{} {}/{}".format(protocol, *reply.icmp)
    words = known.get(reply.icmp)
    return f"{words}, {number}" if words else number


def zone_words(place: Place) -> str:
    """The side of the edge, and the zone's name where it has one; "" when neither is known."""
    if place.zone_name == place.zone:
        return "" if place.zone is Zone.UNKNOWN else place.zone
    return f"{place.zone}: {printable(place.zone_name)}"


def autonomous_system(place: Place) -> str:
    """Number and name, e.g. "AS64500 Example"; "" where neither is known."""
    if place.as_number is None:
        return ""
    return f"AS{place.as_number} {printable(shorten(place.as_name, AS_NAME_LENGTH))}".rstrip()
