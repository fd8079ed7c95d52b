"""When the way to a destination is another one, and what only looks like it."""

from __future__ import annotations

from dataclasses import replace

from exporter.model import Answer, Hop, Probe, Reply, ReplyKind, StopReason, Trace
from exporter.paths import MAX_BRANCHES, Moved, Path
from tests.unit import samples


def hop(ttl: int, *routers: str, sent: int = 0, kind: ReplyKind = ReplyKind.TIME_EXCEEDED) -> Hop:
    """A hop that each of the routers answered once; `sent` where there were more probes."""
    answers = tuple(
        Answer(Probe(ttl, n, 0.0), Reply(kind, router, 0.1)) for n, router in enumerate(routers, 1)
    )
    return Hop(ttl, sent or len(answers) or 1, answers)


def trace(*hops: Hop, source_port: int = 33434) -> Trace:
    """A trace of a flow."""
    made = samples.trace(hops, StopReason.DESTINATION)
    return replace(made, flow=made.flow._replace(source_port=source_port))


def moves(*traces: Trace) -> tuple[Moved, ...]:
    """The hops at which the last of the traces went another way."""
    path = Path()
    moved: tuple[Moved, ...] = ()
    for one in traces:
        path, moved = path.after(one)
    return moved


def test_the_first_trace_is_no_change() -> None:
    """What was not known before cannot be another one."""
    assert moves(trace(hop(1, "a"), hop(2, "b"))) == ()


def test_a_change_names_hop_and_routers() -> None:
    """Before and after are the routers that answered there."""
    assert moves(trace(hop(1, "a"), hop(2, "c", "b")), trace(hop(1, "a"), hop(2, "d"))) == (
        Moved(2, ("b", "c"), ("d",)),
    )


def test_a_longer_path_is_no_change_by_itself() -> None:
    """A hop that nobody was known at has no before."""
    assert moves(trace(hop(1, "a")), trace(hop(1, "a"), hop(2, "b"))) == ()


def test_another_flow_may_take_another_branch() -> None:
    """Its routers are learnt; from then on they are compared."""
    first, other = trace(hop(1, "a")), trace(hop(1, "b"), source_port=40000)
    assert moves(first, other) == ()
    assert moves(first, other, first) == ()
    assert moves(first, other, trace(hop(1, "c"), source_port=40000)) == (
        Moved(1, ("a", "b"), ("c",)),
    )


def test_further_flows_of_a_cycle_show_branches() -> None:
    """What the flows beside a trace have passed is known when the trace passes it."""
    path, _ = Path().after(trace(hop(1, "a")), [trace(hop(1, "b"), source_port=40000)])
    assert path.after(trace(hop(1, "b")))[1] == ()


def test_a_hop_that_limits_its_answers_has_not_moved() -> None:
    """As long as a probe of the hop lacks its answer, the known router may be behind it."""
    known, limited = trace(hop(1, "a", "b", sent=3)), trace(hop(1, "c", sent=3))
    assert moves(known, limited) == ()
    assert moves(known, limited, trace(hop(1, "c", "c", "c"))) == (Moved(1, ("a", "b"), ("c",)),)


def test_silence_in_between_forgets_nothing() -> None:
    """A hop that was silent for a while is compared with what it was before."""
    known, silent = trace(hop(1, "a"), hop(2, "z")), trace(hop(1), hop(2, "z"))
    assert moves(known, silent, known) == ()
    assert moves(known, silent, trace(hop(1, "b"), hop(2, "z"))) == (Moved(1, ("a",), ("b",)),)


def test_an_answer_in_the_destinations_name_is_no_router() -> None:
    """A firewall that begins to forge resets at hop 2 does not change the path."""
    forged = trace(hop(1, "a"), hop(2, "destination", kind=ReplyKind.RST))
    assert moves(trace(hop(1, "a"), hop(2, "b"), hop(3, "c")), forged) == ()


def test_the_routers_of_a_hop_are_bounded() -> None:
    """The oldest ones make room."""
    path = Path()
    for number in range(5 * MAX_BRANCHES):
        path, moved = path.after(trace(hop(1, "steady", f"new{number}")))
        assert moved == ()
    assert len(path.hops[1]) <= MAX_BRANCHES


def spared(ttl: int, *routers: str) -> Hop:
    """A hop that was not asked; others were answered there by the routers."""
    return Hop(ttl, 0, (), hop(ttl, *routers).answers)


def test_a_spared_hop_shows_a_change() -> None:
    """Who waits for its turn to ask tells it as soon as others have met another router."""
    known, told = trace(hop(1, "a"), hop(2, "z")), trace(spared(1, "b"), hop(2, "z"))
    assert moves(known, told) == (Moved(1, ("a",), ("b",)),)
    assert moves(known, trace(spared(1, "b", "a"), hop(2, "z"))) == ()


def test_a_spared_hop_shows_each_router_once() -> None:
    """Whichever of the two is heard next, by this trace or by others, nothing has changed again."""
    known, told = trace(hop(1, "a"), hop(2, "z")), trace(spared(1, "b"), hop(2, "z"))
    for one in (known, told, trace(hop(1, "b"), hop(2, "z"))):
        assert moves(known, told, one) == ()
    assert moves(known, told, trace(hop(1, "c"))) == (Moved(1, ("a", "b"), ("c",)),)


def test_nothing_is_learnt_of_others_routers_alone() -> None:
    """A hop that never answered this target, or another flow of it, has nothing to compare."""
    told = trace(spared(1, "b"), hop(2, "z"))
    assert moves(told, trace(hop(1, "a"), hop(2, "z"))) == ()
    other = trace(spared(1, "b"), hop(2, "z"), source_port=40000)
    assert moves(trace(hop(1, "a"), hop(2, "z")), other) == ()
