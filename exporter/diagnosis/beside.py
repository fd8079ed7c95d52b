"""What the controls of a cycle tell of a silence, as facts with their packets' numbers.

Another port or an echo of the same destination that is answered: the path carries traffic, and so
does the way back. None of them: the host is down, or all of it is filtered. Other targets' traffic
through the last hop that answered: that device works.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from exporter.diagnosis.case import Case
from exporter.diagnosis.icmp import meaning_of
from exporter.diagnosis.placing import is_spared
from exporter.diagnosis.witnesses import (
    Beyond,
    Witness,
    was_reached,
    went_the_same_way,
    witnesses_of,
)
from exporter.diagnosis.words import listed, numbers_of, range_text
from exporter.model import END_KINDS, Answer, ReplyKind, Trace

#: So many targets are named.
MOST_NAMED = 4


def what_is_behind(last: int, beyond: Beyond | None) -> str:
    """Who ends the range of suspects that begins at a hop, 0 for this host."""
    if beyond:
        shown_by = listed([one.name for one in beyond.witnesses])
        where = range_text((beyond.nearest, beyond.hop))
        return f"{beyond.addresses[0]} stands at {where}, as shown by {shown_by}"
    where = f"hop {last}" if last else "this host"
    return (
        f"nothing shows what stands behind {where}; routers that never answer may stand between "
        "it and the device that drops"
    )


def controls_facts(case: Case) -> Iterator[str]:
    """What the controls tell of a trace that met silence."""
    passing = [one for one in witnesses_of(case) if one.current]
    yield from _passing(case, passing)
    yield from _refused(case)
    if not passing:
        yield from _nothing_passes(case)
    if not any(went_the_same_way(case.trace, one.trace) for one in passing):
        yield (
            "no control of this destination was answered over the same hops: it may as well be the "
            "answers that are dropped, on their way back"
        )
    yield from _elsewhere(case)


def _passing(case: Case, passing: Sequence[Witness]) -> Iterator[str]:
    """The controls that are answered, those of which the same can be said together."""
    alike: dict[str, list[Witness]] = {}
    for one in passing:
        if one.is_control_of(case.trace):
            alike.setdefault(_says(case, one), []).append(one)
    for said, controls in alike.items():
        verb = "is" if len(controls) == 1 else "are"
        numbers = numbers_of([_nearest_end(one.trace) for one in controls])
        yield f"{listed([one.name for one in controls])} of it {verb} answered{said} ({numbers})"


def _says(case: Case, one: Witness) -> str:
    trace = one.trace
    at = f" at hop {trace.distance}" if trace.distance else ""
    if not went_the_same_way(case.trace, trace):
        return f"{at}, over which hops is not known"
    if trace is case.controlled.echo:
        return f"{at}: the host is up and its answers come back, so TCP or this port is filtered"
    return f"{at}: the path carries traffic and answers come back, so only this port is filtered"


def _nearest_end(trace: Trace) -> Answer:
    """The answer of the destination to the lowest TTL."""
    ends = (answer for answer in trace.answers if answer.reply.kind in END_KINDS)
    return min(ends, key=lambda answer: answer.probe.ttl)


def _refused(case: Case) -> Iterator[str]:
    """The controls that an ICMP error answers."""
    for control in (*case.controlled.ports, *_echo(case)):
        errors = [a.reply for a in control.answers if a.reply.kind is ReplyKind.UNREACHABLE]
        if errors and not was_reached(control):
            _, icmp = meaning_of(errors[0])
            yield f"{_name(control)} of it is answered with {icmp} by " + (errors[0].address)


def _nothing_passes(case: Case) -> Iterator[str]:
    asked = [_name(control) for control in (*case.controlled.ports, *_echo(case))]
    if asked:
        yield (
            f"{listed(asked)} of it {_get(asked)} no answer from it either: the host is down, or "
            "everything to it is filtered"
        )


def _elsewhere(case: Case) -> Iterator[str]:
    trace, elsewhere = case.trace, case.controlled.elsewhere
    last = trace.last_answering_ttl
    if not elsewhere or not last:
        return
    here = set(trace.hops[last - 1].addresses)
    behind = [
        other.flow.destination
        for other in elsewhere
        if len(other.hops) > last and here & set(other.hops[last - 1].addresses)
    ]
    if behind:
        named = listed(list(dict.fromkeys(behind))[:MOST_NAMED])
        yield f"hop {last} forwards the traffic of other targets: {named}"
    elif not any(is_spared(hop) for other in elsewhere for hop in other.hops[last - 1 : last]):
        yield f"no other target that was open when last seen is reached through hop {last}"


def _echo(case: Case) -> Sequence[Trace]:
    return (case.controlled.echo,) if case.controlled.echo else ()


def _name(control: Trace) -> str:
    port = control.flow.destination_port
    return f"port {port}" if port else "an ICMP echo"


def _get(asked: Sequence[str]) -> str:
    return "gets" if len(asked) == 1 else "get"
