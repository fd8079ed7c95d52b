"""Sample observations of each kind, built from the model's types alone.

The addresses are those of tests/scenarios: twelve devices, router n answers as 10.9.(n-1).2,
the destination is 10.9.11.2, the first two hops are inside the platform.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from exporter.model import (
    CANARIES,
    FULL_TTL,
    Answer,
    Condition,
    Confidence,
    Controlled,
    EngineStatus,
    Failure,
    FailureReason,
    Flow,
    Handshake,
    Hop,
    Location,
    MplsLabel,
    Observation,
    Place,
    Probe,
    ReloadStatus,
    Reply,
    ReplyKind,
    Source,
    SourceStatus,
    State,
    StopReason,
    Target,
    Trace,
    Verdict,
    Zone,
)
from exporter.store import Store

#: 2026-01-01T00:00:00Z
STARTED_AT = 1767225600.0
SOURCE = "10.9.0.1"
DESTINATION = "10.9.11.2"
#: Another address of the same name.
DESTINATION_TOO = "10.9.11.3"
DISTANCE = 12
PLATFORM_HOPS = 2

#: A name with everything that a page, a terminal, a log or a label must not take at its word.
HOSTILE = '<b>"q"</b>\'&\n\x1b[31mred\x1b[0m\r\u202e\udcff' + "n" * 280


def address(hop: int) -> str:
    """The address in whose name the device at `hop` answers."""
    return f"10.9.{hop - 1}.2"


def target(name: str = "db", port: int = 443, **changes: Any) -> Target:
    """A target at the destination."""
    return replace(Target(name, DESTINATION, port), **changes)


def answer(ttl: int, attempt: int, **reply: Any) -> Answer:
    """One probe and the router's reply to it, with changes to the reply.

    The round trip is a millisecond a hop and a little.
    """
    sent_at = ttl + attempt / 10
    received_at = sent_at + ttl / 1000 + attempt / 100_000
    ordinary = Reply(
        ReplyKind.TIME_EXCEEDED, address(ttl), received_at, FULL_TTL - ttl + 1, (11, 0)
    )
    return Answer(Probe(ttl, attempt, sent_at), ordinary._replace(**reply))


def router(ttl: int, sent: int = 3) -> Hop:
    """A hop that answers every probe with time-exceeded."""
    return Hop(ttl, sent, tuple(answer(ttl, attempt + 1) for attempt in range(sent)))


def routers(last: int) -> tuple[Hop, ...]:
    """The hops 1 to `last`, all of them answering."""
    return tuple(router(ttl) for ttl in range(1, last + 1))


def silence(first: int, last: int, sent: int = 3) -> tuple[Hop, ...]:
    """Hops that never answer."""
    return tuple(Hop(ttl, sent) for ttl in range(first, last + 1))


def end(
    ttl: int,
    kind: ReplyKind,
    by: str = DESTINATION,
    icmp: tuple[int, int] | None = None,
    sent: int = 3,
) -> Hop:
    """A hop whose every probe got the same answer from where the path ends."""
    answers = (answer(ttl, n + 1, kind=kind, address=by, icmp=icmp) for n in range(sent))
    return Hop(ttl, sent, tuple(answers))


def trace(
    hops: Iterable[Hop],
    stop_reason: StopReason,
    port: int = 443,
    confirmation: Hop | None = None,
    duration: float = 2.1,
) -> Trace:
    """A trace to the destination over the given hops."""
    return Trace(
        flow=Flow(SOURCE, 33434, DESTINATION, port),
        engine="syn",
        started_at=STARTED_AT,
        duration=duration,
        stop_reason=stop_reason,
        hops=tuple(hops),
        confirmation=confirmation,
    )


def places() -> Mapping[str, Place]:
    """Every address of the path."""
    sides = (Zone.EXTERNAL, Zone.PLATFORM)
    zones = {hop: sides[hop <= PLATFORM_HOPS] for hop in range(1, DISTANCE + 1)}
    return {address(hop): Place(zone, zone.value) for hop, zone in zones.items()}


def observation(of: Target, verdict: Verdict, made: Trace, **changes: Any) -> Observation:
    """An observation with a trace."""
    return replace(
        Observation(
            target=of,
            started_at=STARTED_AT,
            duration=made.duration + 0.05,
            verdict=verdict,
            address=DESTINATION,
            trace=made,
            places=places(),
        ),
        **changes,
    )


def opened(name: str = "web", port: int = 443) -> Observation:
    """The destination answers with SYN-ACK; a plain connect() agrees."""
    hops = (*routers(DISTANCE - 1), end(DISTANCE, ReplyKind.SYN_ACK))
    return observation(
        target(name, port),
        Verdict(
            State.OPEN,
            DISTANCE,
            f"{DESTINATION}:{port} accepts TCP connections, {DISTANCE} hops away.",
            Confidence.HIGH,
            evidence=(f"SYN-ACK from {DESTINATION} at TTL {DISTANCE}, 3 of 3 attempts",),
        ),
        trace(hops, StopReason.DESTINATION, port, duration=1.25),
        handshake=Handshake(success=True, duration=0.0123),
    )


def closed(name: str = "admin", port: int = 8443) -> Observation:
    """The destination answers with RST."""
    hops = (*routers(DISTANCE - 1), end(DISTANCE, ReplyKind.RST))
    return observation(
        target(name, port),
        Verdict(
            State.CLOSED,
            DISTANCE,
            f"The network lets the traffic through; {DESTINATION} has port {port} closed.",
            Confidence.HIGH,
            evidence=(f"RST from {DESTINATION} at TTL {DISTANCE}, 3 of 3 attempts",),
        ),
        trace(hops, StopReason.DESTINATION, port, duration=1.25),
        handshake=Handshake(success=False, duration=0.0124, error="connection refused"),
    )


def filtered(name: str = "db", port: int = 5432, last: int = 6, limit: int = 30) -> Observation:
    """Nothing answers past a hop, not even full-TTL SYNs."""
    hops = (*routers(last), *silence(last + 1, last + 4), *silence(last + 5, limit, sent=1))
    return observation(
        target(name, port),
        Verdict(
            State.FILTERED,
            last,
            f"Traffic to {DESTINATION}:{port} disappears without an answer at or behind "
            f"{address(last)} (hop {last}), outside the platform.",
            Confidence.MEDIUM,
            blocked_at_hop=last + 1,
            suspect_hops=(last, last + 1),
            location=Location.EXTERNAL,
            evidence=(
                f"{address(last)} answered 3 of 3 probes at TTL {last}",
                f"no answer to any probe past TTL {last}",
                "3 SYNs with TTL 64, 1.2 s apart, stayed without an answer",
            ),
        ),
        trace(hops, StopReason.SILENCE, port, Hop(FULL_TTL, 3), duration=4.95),
        handshake=Handshake(success=False, duration=3.0, error="timed out"),
    )


def rejected(name: str = "cache", port: int = 6379) -> Observation:
    """A firewall at hop 6 says that it does not let the traffic through."""
    by = address(6)
    refusal = end(7, ReplyKind.UNREACHABLE, by=by, icmp=(3, 13))
    return observation(
        target(name, port),
        Verdict(
            State.REJECTED,
            6,
            f"{by} (hop 6), outside the platform, rejects traffic to {DESTINATION}:{port}: "
            "administratively prohibited.",
            Confidence.HIGH,
            blocked_at_hop=6,
            suspect_hops=(6, 6),
            blocked_by=by,
            location=Location.EXTERNAL,
            evidence=(f"ICMP 3/13 from {by}, 3 of 3 probes at TTL 7",),
        ),
        trace(
            (*routers(6), refusal),
            StopReason.ICMP_ERROR,
            port,
            end(FULL_TTL, ReplyKind.UNREACHABLE, by=by, icmp=(3, 13), sent=1),
        ),
    )


def unresolved(name: str = "typo") -> Observation:
    """The name has no address, so nothing was traced."""
    return Observation(
        target=Target(name, "no-such-name.example", 443),
        started_at=STARTED_AT,
        duration=0.02,
        verdict=Verdict(
            State.UNRESOLVED,
            0,
            "Not measured: no-such-name.example has no address.",
            Confidence.LOW,
        ),
        failure=Failure(FailureReason.RESOLVE, "Name or service not known"),
    )


def refused_by_host(name: str = "stuck") -> Observation:
    """The prober's own host refused to send."""
    failure = Failure(FailureReason.PERMISSION, "Operation not permitted")
    return observation(
        target(name, 443),
        Verdict(
            State.ERROR,
            0,
            "Not measured: Operation not permitted.",
            Confidence.LOW,
        ),
        replace(trace((), StopReason.SEND_FAILED, duration=0.5), failure=failure),
        failure=failure,
    )


def several(name: str = "pair") -> Observation:
    """Of a name's three addresses one is filtered, one cannot be measured and one is open."""
    of = replace(target(name), host="db.example", all_addresses=True)
    bad, good = filtered(port=443), opened()
    path = (*routers(DISTANCE - 1), end(DISTANCE, ReplyKind.SYN_ACK, by=DESTINATION_TOO))
    flow = Flow(SOURCE, 33434, DESTINATION_TOO, 443)
    each = (
        replace(bad, target=of),
        replace(
            good,
            target=of,
            address="2001:db8::1",
            trace=None,
            handshake=None,
            failure=Failure(FailureReason.INTERNAL, "internal error (OSError)"),
            verdict=Verdict(
                State.ERROR, 0, "Not measured: internal error (OSError).", Confidence.LOW
            ),
        ),
        replace(
            good,
            target=of,
            address=DESTINATION_TOO,
            trace=replace(trace(path, StopReason.DESTINATION, duration=1.25), flow=flow),
        ),
    )
    reason = (
        f"1 of 3 addresses of db.example fails: {DESTINATION} is filtered, 2001:db8::1 is not "
        f"measured, {DESTINATION_TOO} is open. {bad.verdict.reason}"
    )
    return replace(each[0], duration=7.25, verdict=replace(bad.verdict, reason=reason), each=each)


def varied(name: str = "varied") -> Observation:
    """Loss, load balancing, MPLS, a NAT and a hop that stays silent on an open path."""
    labels = (MplsLabel(24001, 0, bottom=False, ttl=1), MplsLabel(16, 5, bottom=True, ttl=1))
    rewriting = tuple(answer(5, n, rewritten=("source port", "IP ID")) for n in (1, 2, 3))
    hops = (
        router(1),
        Hop(2, 3, (answer(2, 2),)),
        Hop(3, 3, (answer(3, 1), answer(3, 2, address="10.9.2.6"), answer(3, 3))),
        Hop(4, 3, tuple(answer(4, n, mpls=labels) for n in (1, 2, 3))),
        Hop(5, 3, rewriting),
        Hop(6, 3),
        replace(end(7, ReplyKind.SYN_ACK, sent=1), sent=3),
        end(8, ReplyKind.SYN_ACK, sent=1),
    )
    made = replace(trace(hops, StopReason.DESTINATION), duplicates=2)
    return observation(
        target(name),
        Verdict(State.OPEN, 7, f"{DESTINATION}:443 accepts TCP connections.", Confidence.HIGH),
        made,
    )


def spared(ttl: int, sent: int = 0, by: str = "") -> Hop:
    """A hop that this trace left to others, one of whose probes it has answered."""
    return Hop(ttl, sent, (), (answer(ttl, 1, address=by or address(ttl)),))


def sparing(name: str = "sparing") -> Observation:
    """An open path of which hop 2 was left to others, hop 3 asked in vain, hop 4 not asked."""
    made = opened(name)
    hops = (router(1), spared(2), spared(3, sent=1), Hop(4, 0), *routers(DISTANCE - 1)[4:])
    whole = trace((*hops, end(DISTANCE, ReplyKind.SYN_ACK)), StopReason.DESTINATION)
    return replace(made, trace=whole, conditions={2: Condition.SHARED, 3: Condition.SHARED})


def sounding(
    full: Hop, hops: Iterable[Hop] = (), flow: Flow | None = None, engine: str = "syn"
) -> Trace:
    """A control to the destination: what answered the full TTL, and the hops that were asked."""
    asked = {hop.ttl: hop for hop in hops}
    consecutive = (asked.get(ttl, Hop(ttl, 0)) for ttl in range(1, max(asked, default=0) + 1))
    reached = StopReason.DESTINATION if full.answers else StopReason.SILENCE
    made = trace(consecutive, reached, confirmation=full, duration=0.3)
    return replace(made, engine=engine, flow=flow or made.flow)


def beside(port: int = 5432) -> Controlled:
    """One control of each kind, and three further flows, of which two pass by another router."""
    accepted = end(FULL_TTL, ReplyKind.SYN_ACK, sent=1)
    refusal = end(FULL_TTL, ReplyKind.UNREACHABLE, by=address(6), icmp=(3, 13), sent=1)
    other_way = Hop(7, 1, (answer(7, 1, address="10.9.6.6"),))
    sweep = (*routers(6), other_way, *routers(DISTANCE - 1)[7:], end(DISTANCE, ReplyKind.SYN_ACK))
    once = tuple(replace(hop, sent=1, answers=hop.answers[:1]) for hop in sweep)
    elsewhere = trace(sweep, StopReason.DESTINATION)
    return Controlled(
        flows=(
            sounding(accepted, once, Flow(SOURCE, 37533, DESTINATION, port)),
            sounding(Hop(FULL_TTL, 3), (), Flow(SOURCE, 41632, DESTINATION, port)),
            sounding(accepted, once, Flow(SOURCE, 45731, DESTINATION, port)),
        ),
        ports=(
            sounding(accepted, once[5:], Flow(SOURCE, 40001, DESTINATION, 443)),
            sounding(refusal, (), Flow(SOURCE, 40002, DESTINATION, 80)),
        ),
        echo=sounding(Hop(FULL_TTL, 3), (), Flow(SOURCE, 0, DESTINATION, 0), "echo"),
        canary=sounding(Hop(FULL_TTL, 3), (), Flow(SOURCE, 40003, CANARIES[0], port)),
        elsewhere=(replace(elsewhere, flow=Flow(SOURCE, 33500, "10.9.12.2", 443)),),
    )


def balanced(name: str = "balanced") -> Observation:
    """Blocked on two of four paths, with every control; a hop limits itself, another loses."""
    made = filtered(name)
    verdict = replace(made.verdict, flows=4, flows_blocked=2)
    conditions = {2: Condition.RATE_LIMITED, 3: Condition.LOSSY, 4: Condition.ANSWERS}
    return replace(made, verdict=verdict, controlled=beside(), conditions=conditions)


def hostile(text: str = HOSTILE) -> Observation:
    """Every text that can come from outside is an attack, or another text."""
    failure = Failure(FailureReason.INTERNAL, text)
    made = trace(
        (
            Hop(1, 1, (answer(1, 1, address=text, rewritten=(text,)),)),
            Hop(2, 1),
        ),
        StopReason.SEND_FAILED,
        confirmation=end(FULL_TTL, ReplyKind.RST, by=text, sent=1),
    )
    return Observation(
        target=Target(text, text, 443, labels=(("team", text),)),
        started_at=STARTED_AT,
        duration=1.0,
        verdict=Verdict(
            State.REJECTED,
            1,
            text,
            Confidence.LOW,
            blocked_at_hop=1,
            suspect_hops=(1, 1),
            blocked_by=text,
            location=Location.UNKNOWN,
            evidence=(text, text),
        ),
        address=text,
        trace=replace(made, engine=text, failure=failure, flow=Flow(text, 1, text, 2)),
        handshake=Handshake(success=False, duration=1.0, error=text),
        failure=failure,
        controlled=Controlled(
            flows=(replace(made, flow=Flow(text, 3, text, 2)),),
            ports=(replace(made, flow=Flow(text, 4, text, 2), failure=failure),),
            canary=sounding(Hop(FULL_TTL, 1), (), Flow(text, 5, text, 2)),
            elsewhere=(made,),
        ),
        conditions={1: Condition.LOSSY},
        places={text: Place(Zone.EXTERNAL, text, text, 64500, text)},
    )


#: The kinds by name, for golden files.
SAMPLES = {
    "open": opened(),
    "closed": closed(),
    "filtered": filtered(),
    "rejected": rejected(),
    "unresolved": unresolved(),
    "error": refused_by_host(),
    "varied": varied(),
    "several": several(),
    "balanced": balanced(),
}


def store(*observations: Observation, waiting: Iterable[Target] = ()) -> Store:
    """A store that has taken in the observations, and has other targets still to be traced."""
    made = Store(
        EngineStatus("syn", "raw sockets are permitted"),
        Source(SOURCE, "0", "5f2c7a0e-0000-4000-8000-000000000001", "10.0.16.7"),
        ReloadStatus(successful=True, at=STARTED_AT - 3600),
        STARTED_AT - 3600,
    )
    made.state_file_written = True
    made.sources = (SourceStatus("/etc/egress/sd/*.json", successful=True, targets=3, left_out=1),)
    targets = {item.target.name: item.target for item in observations}
    made.configure((*targets.values(), *waiting))
    made.configured = len(made)
    for item in observations:
        made.add(item)
    return made
