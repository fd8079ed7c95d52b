"""PromQL in pieces: what several panels ask.

`of` is always the label matchers of a dashboard, its variables in them. Tables ask one query each,
whose labels are the columns and whose value is one more: Grafana calls a value "Value" when one
query of a panel has answered and "Value #A" when several have, so with two queries the columns
would change their names whenever one of them has nothing to say. A label that may be missing, as
the address of a silent hop, is joined from "what is known, or else nothing" (`or_none`), so that
its row stays.
"""

from __future__ import annotations

from dashboards.words import CODES, REACHED
from exporter.model import REACHED_STATES, State

#: Who sees what: the labels of one target's series of one instance.
VIEW = "instance, job, target"
PROBER = "instance, job"


def age(of: str) -> str:
    """How old the latest trace is, in seconds."""
    return f"time() - egress_last_trace_timestamp_seconds{{{of}}}"


def oldest(of: str) -> str:
    """How old it may be and still count: as dashboards/rules/fleet.rules.yml has it."""
    return f"3 * egress_trace_interval_seconds{{{of}}} + 60"


def fresh(of: str) -> str:
    """A series for each view whose latest trace is fresh."""
    return f"({age(of)} <= {oldest(of)})"


def fresh_only(series: str, of: str) -> str:
    """Those of views whose latest trace is fresh."""
    return f"({series} and on ({VIEW}) {fresh(of)})"


def targets_by(label: str, series: str, of: str) -> str:
    """How many targets some instance sees so; 0 where nobody does, absent where nobody looks."""
    seen = fresh_only(series, of)
    return f"sum by ({label}) (max by (job, target, {label}) {seen})"


def as_label(label: str, series: str, by: str = VIEW) -> str:
    """The value of each series as a label; the new value is 1."""
    return f'count_values by ({by}) ("{label}", {series})'


def join(labels: str, other: str, on: str = VIEW) -> str:
    """What follows a vector to give it labels of another one, whose values are 1."""
    return f"\n  * on ({on}) group_left ({labels}) ({other})"


def or_none(known: str, every: str, on: str) -> str:
    """What is known, and for each other series of `every` a 1 without these labels."""
    return f"{known} or on ({on}) {every} ^ 0"


def blocked_at(of: str) -> str:
    """The hop at which each view is blocked, as the label `hop`; "0": it is not."""
    return as_label("hop", f"egress_blocked_at_hop{{{of}}}")


def blocker(of: str) -> str:
    """What follows a vector with `hop` to give it the address, name and zone of who is there."""
    on = f"{VIEW}, hop"
    known = or_none(f"egress_hop_info{{{of}}}", blocked_at(of), on)
    return join("address, name, zone", known, on)


def where(of: str) -> str:
    """What follows the vector of a view to tell on which side, at which hop and by whom."""
    side = join("location", f"egress_blocked{{{of}}} == 1")
    return side + join("hop", blocked_at(of)) + blocker(of)


def failing_now(of: str) -> str:
    """What fails, from how many instances (the value), of how many that look (`traced`).

    Those that meet the same device count together, however far it is from each: `instance` is one
    of them, and `hop` is where that one is blocked.
    """
    failing = fresh_only(f'(egress_state{{{of}, state!~"{REACHED}"}} == 1)', of) + where(of)
    looking = as_label("traced", f"count by (job, target) {fresh(of)}", "job, target")
    alike = "job, target, state, location, address, name, zone"
    return (
        f"max by ({alike}, hop, instance, traced) (\n"
        f"  topk by ({alike}) (1,\n  {failing})"
        f"\n  * on ({alike}) group_left () count by ({alike}) (\n  {failing})"
        + join("traced", looking, "job, target")
        + "\n)"
    )


def seen_now(of: str) -> str:
    """What each instance sees of a target; the value is the last hop that can be reached."""
    suspects = (
        "label_join(\n    "
        + as_label("first", f"egress_suspect_hop_first{{{of}}}")
        + join("last", as_label("last", f"egress_suspect_hop_last{{{of}}}"))
        + ',\n    "suspects", " to ", "first", "last")'
    )
    is_fresh = as_label("fresh", f"{age(of)} <= bool {oldest(of)}")
    columns = "instance, state, location, hop, suspects, address, name, zone, fresh"
    return (
        f"max by ({columns}) (\n  egress_last_reachable_hop{{{of}}}"
        + join("state", f"egress_state{{{of}}} == 1")
        + where(of)
        + join("suspects", suspects)
        + join("fresh", is_fresh)
        + "\n)"
    )


def hops_now(of: str) -> str:
    """The hops of the latest path; the value is the loss in the dashboard's range.

    NaN: none was sent there, as where a hop was left to another target's trace.
    """
    on = f"{VIEW}, hop"
    probes = f"egress_hop_probes_total{{{of}}}"
    sent = f"increase({probes}[$__range])"
    answered = f"increase(egress_hop_replies_total{{{of}}}[$__range])"
    loss = f"clamp_min(1 - {answered} / {sent}, 0)"
    here = or_none(f"egress_hop_info{{{of}}}", probes, on)
    time = or_none(as_label("rtt", f"egress_hop_rtt_seconds{{{of}}}", on), probes, on)
    return (
        "max by (instance, hop, address, name, zone, rtt) (\n"
        f"  (({loss} and on ({on}) {probes}) or {probes} * NaN)"
        + join("address, name, zone", here, on)
        + join("rtt", time, on)
        + "\n)"
    )


def endpoint(of: str) -> str:
    """What is configured, and what the name resolved to."""
    configured = f"egress_target_info{{{of}}}"
    resolved = or_none(f"egress_destination_info{{{of}}}", configured, VIEW)
    joined = join("address, family", resolved)
    return f"max by (instance, host, port, address, family) (\n  {configured}{joined}\n)"


def worst_state(of: str, chosen: str = "") -> str:
    """The worst state of each view since the step before, as a number of `CODES`.

    Where the latest trace is not fresh there is none. `chosen`: only these views. They are chosen
    among those that are reached before anything is put together, for these are most of them: it
    makes a query about 500 targets ten times faster.
    """
    only = f"\n  and on ({VIEW})\n{chosen}" if chosen else ""
    states = "\n  or\n".join(
        f'{code} * (max_over_time(egress_state{{{of}, state="{state}"}}[$__rate_interval]) == 1'
        f"{only if state in REACHED_STATES else ''})"
        for state, code in CODES.items()
    )
    return f"max by ({VIEW}) (\n{states}\n)\n  and on ({VIEW})\n{fresh(of)}{only}"


def not_always_reached(of: str, most: int) -> str:
    """The views that failed within the dashboard's range, at most so many: the longest.

    The modifier makes it one choice for the whole range, not one for each point of it.
    """
    open_, closed = (
        f'avg_over_time(egress_state{{{of}, state="{state}"}}[$__range] @ end())'
        for state in (State.OPEN, State.CLOSED)
    )
    return f"topk({most}, 1 - ({open_} + ignoring (state) {closed}) > 0)"


def probers(of: str) -> str:
    """`up` of each instance that was scraped within the last hour; 0 is a dead one."""
    known = f"last_over_time(egress_build_info{{{of}}}[1h])"
    return f"(up{{{of}}} and on ({PROBER}) {known})"


def probers_now(of: str) -> str:
    """Each of these with its engine and version; the value is 1 while it answers."""
    everyone = probers(of)
    reload = as_label("reload", f"egress_config_last_reload_successful{{{of}}}", PROBER)
    joins = (
        ("engine, reason", f"egress_engine_info{{{of}}}"),
        ("version", f"egress_build_info{{{of}}}"),
        ("address, cell", f"egress_source_info{{{of}}}"),
        ("reload", reload),
    )
    return (
        "max by (job, instance, engine, reason, version, address, cell, reload) (\n"
        f"  {everyone}"
        + "".join(join(labels, or_none(one, everyone, PROBER), PROBER) for labels, one in joins)
        + "\n)"
    )


def late_traces(of: str, most: int) -> str:
    """How old the traces are that do not count any more, the oldest ones first."""
    return f"topk({most}, max by ({VIEW}) ({age(of)} > {oldest(of)}))"


def since_a_minute(counter: str) -> str:
    """How far a counter has come in the last minute, where it has.

    By offset: an increase needs two samples in the minute, which a slow scrape does not give.
    """
    return f"({counter} - {counter} offset 1m > 0)"
