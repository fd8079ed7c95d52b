"""The dashboard "Egress: fleet": what fails, from how many instances, and whether they all look."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

from dashboards import queries
from dashboards.parts import (
    EXPORTER,
    OF_ROW,
    OF_SERIES,
    About,
    Column,
    Line,
    dashboard,
    line_query,
    lines,
    link,
    now_query,
    override,
    source_variable,
    stat,
    table,
    thresholds,
    timeline,
    variable,
)
from dashboards.words import (
    BLUE,
    GREEN,
    GREY,
    LOCATION_NAMES,
    LOCATIONS,
    ORANGE,
    PURPLE,
    STATE_CODES,
    STATE_NAMES,
    VERMILION,
    mappings,
)
from exporter.model import Location

PROBERS = 'job=~"$job", instance=~"$instance"'
VIEWS = f'{PROBERS}, target=~"$target"'

#: A screen has no use for more; which ones these are, a query decides, not chance.
MOST = 100
#: Prometheus evaluates a query for each point of a chart, and these are about all targets.
POINTS = 200

TARGET_URL = (
    "/d/egress-target?${{datasource:queryparam}}&var-job={}&var-target={}&${{__url_time_range}}"
)
#: Where the address that Prometheus scrapes is one that the reader's browser reaches, too.
PAGE_URL = f"{EXPORTER}/targets/{OF_ROW.format('target')}"


def target_link(label: str) -> dict[str, object]:
    """To the dashboard of a row's or series' target."""
    return link("This target", TARGET_URL.format(label.format("job"), label.format("target")))


def blocked_targets() -> str:
    """How many targets some instance sees blocked, by location."""
    series = f'egress_blocked{{{VIEWS}, location!="none"}}'
    return queries.targets_by("location", series, VIEWS)


def blocked() -> Panel:
    """Now, by location."""
    return stat(
        About(
            1,
            "Blocked targets",
            "Targets that at least one instance sees blocked now, by the side of the platform's "
            "edge on which the traffic stops. A target that two instances see blocked on two "
            "sides counts on both. 0: nobody sees one. No data: nobody looks, or Prometheus "
            "cannot scrape who does; that is no sign that all is well.",
        ),
        [now_query(blocked_targets(), "{{location}}")],
        [
            override(place, {"displayName": text, "thresholds": thresholds(BLUE, VERMILION)})
            for place, text, _ in LOCATIONS
            if place is not Location.NONE
        ],
    )


def targets() -> Panel:
    """Whether all targets are looked at."""
    traced = f"({queries.age(VIEWS)} <= bool {queries.oldest(VIEWS)})"
    return stat(
        About(
            2,
            "Targets",
            "Configured: in the configuration. Traced: at least one of the chosen instances has "
            "a fresh trace, no older than three intervals and a minute. Untraced: configured, "
            "and no instance of the job traces it; from the recording rules, whatever instances "
            "and targets are chosen.",
        ),
        [
            now_query(f"sum(max by (job) (egress_targets_configured{{{PROBERS}}}))", "configured"),
            now_query(f"sum(max by (job, target) {traced})", "traced"),
            now_query('sum(job:egress_untraced_targets:count{job=~"$job"})', "untraced"),
        ],
        [override("untraced", {"thresholds": thresholds(BLUE, VERMILION)})],
    )


def instances() -> Panel:
    """Whether all instances answer."""
    everyone = queries.probers(PROBERS)
    return stat(
        About(
            3,
            "Instances",
            "Exporters that Prometheus scraped within the last hour: those that answer now, and "
            "those that do not. What a dead one saw is unknown, and neither blocked nor open.",
        ),
        [
            now_query(f"sum({everyone})", "answer"),
            now_query(f"sum(1 - {everyone})", "dead"),
        ],
        [override("dead", {"thresholds": thresholds(BLUE, VERMILION)})],
    )


def engines() -> Panel:
    """What they trace with."""
    return stat(
        About(
            4,
            "Engines",
            "Instances that answer, by engine. connect: no raw sockets, so some answers cannot "
            "be told apart. none: such an instance cannot trace at all.",
        ),
        [now_query(f"sum by (engine) (egress_engine_info{{{PROBERS}}})", "{{engine}}")],
        [
            override("connect", {"thresholds": thresholds(BLUE, ORANGE)}),
            override("none", {"thresholds": thresholds(BLUE, VERMILION)}),
        ],
    )


def failing() -> Panel:
    """A row for each target, state and place."""
    return table(
        About(
            5,
            "What fails now",
            "Targets whose latest fresh trace is neither open nor closed, those that most "
            "instances see so first. From and of: how many instances see it so, of how many that "
            "trace the target now. By: who stands where the traffic stops, empty where nobody "
            "answers there, as with a filter. Seen by: one of them, and blocked at: the hop as it "
            "counts. Several rows of one target: the instances disagree. No data: nothing fails, "
            "or nobody looks; see Targets and Instances.",
        ),
        queries.failing_now(VIEWS),
        [
            Column("target", "Target", {"links": [target_link(OF_ROW)], "custom.width": 200}),
            Column(
                "state",
                "State",
                {"mappings": STATE_NAMES, "custom.cellOptions": {"type": "color-text"}},
            ),
            Column("location", "Location", {"mappings": LOCATION_NAMES}),
            Column("Value", "From", {"decimals": 0}),
            Column("traced", "Of", number=True),
            Column(
                "hop",
                "Blocked at hop",
                {"mappings": mappings([("0", "-", GREY)])},
                number=True,
            ),
            Column("address", "By"),
            Column("name", "Name"),
            Column("zone", "Zone"),
            Column("instance", "Seen by", {"links": [link("The exporter's page", PAGE_URL)]}),
            Column("job", "Job"),
        ],
        [("From", True), ("Target", False)],
    )


def history() -> Panel:
    """How many were blocked."""
    return lines(
        About(
            6,
            "Blocked targets over time",
            "Targets that at least one instance saw blocked, by location, one upon the other. A "
            "gap: nobody looked.",
        ),
        [line_query(blocked_targets(), "{{location}}")],
        "none",
        [
            override(
                place,
                {"displayName": text, "color": {"mode": "fixed", "fixedColor": color}},
            )
            for place, text, color in LOCATIONS
            if place is not Location.NONE
        ],
        steps=True,
        stacked=True,
    )


def unknown() -> Panel:
    """How many nobody can judge."""
    series = f'egress_state{{{VIEWS}, state=~"intercepted|unresolved|error|inconclusive"}}'
    colors = {"intercepted": PURPLE, "unresolved": BLUE, "error": ORANGE, "inconclusive": GREY}
    return lines(
        About(
            7,
            "Neither blocked nor reached",
            "Targets that at least one instance could not judge, by state; and those for which "
            "somebody else answers (intercepted). A gap: nobody looked.",
        ),
        [line_query(queries.targets_by("state", series, VIEWS), "{{state}}")],
        "none",
        [
            override(state, {"color": {"mode": "fixed", "fixedColor": color}})
            for state, color in colors.items()
        ],
        steps=True,
        stacked=True,
    )


def states() -> Panel:
    """Who saw what, when."""
    chosen = queries.not_always_reached(VIEWS, MOST)
    return timeline(
        About(
            8,
            "Targets that were not always reached",
            f"The worst state of each target from each instance; at most {MOST}, those that "
            "failed longest within the range, 20 on a page. Targets that were open or closed all "
            "the time are left out. A gap: the exporter was not scraped then, or its latest "
            "trace was too old to count, so nothing is known. No data: nothing "
            "failed within the range.",
        ),
        [
            line_query(
                queries.worst_state(VIEWS, chosen),
                "{{target}} from {{instance}}",
            )
        ],
        STATE_CODES,
        links=[target_link(OF_SERIES)],
    )


def probers() -> Panel:
    """Each instance, and how it is."""
    return table(
        About(
            9,
            "Exporters",
            "Exporters that Prometheus scraped within the last hour, dead ones first; of a dead "
            "one nothing else is known. Configuration: whether its last reading succeeded; else "
            "the one before runs on.",
        ),
        queries.probers_now(PROBERS),
        [
            Column(
                "instance",
                "Instance",
                {"links": [link("The exporter's page", f"{EXPORTER}/")]},
            ),
            Column(
                "Value",
                "Scrape",
                {
                    "mappings": mappings([("1", "answers", GREEN), ("0", "dead", VERMILION)]),
                    "custom.cellOptions": {"type": "color-text"},
                },
            ),
            Column("engine", "Engine"),
            Column("reason", "Why this engine", {"custom.width": 300}),
            Column(
                "reload",
                "Configuration",
                {
                    "mappings": mappings([("1", "read", GREEN), ("0", "failed", VERMILION)]),
                    "custom.cellOptions": {"type": "color-text"},
                },
            ),
            Column("address", "Probes from"),
            Column("cell", "Cell or node"),
            Column("version", "Version"),
            Column("job", "Job"),
        ],
        [("Scrape", False), ("Instance", False)],
    )


def late() -> Panel:
    """What is scraped and not traced any more."""
    return table(
        About(
            10,
            "Traces that are too old",
            "Targets whose exporter answers, and whose latest trace is older than three "
            f"intervals and a minute: it counts nowhere here. At most {MOST}. No data: none is.",
        ),
        queries.late_traces(VIEWS, MOST),
        [
            Column("target", "Target", {"links": [target_link(OF_ROW)]}),
            Column("instance", "Instance", {"links": [link("The exporter's page", PAGE_URL)]}),
            Column("Value", "Age", {"unit": "s"}),
            Column("job", "Job"),
        ],
        [("Age", True)],
    )


def lag() -> Panel:
    """Whether the exporters keep up."""
    return lines(
        About(
            11,
            "How late traces begin",
            "The longest wait of a trace for its place, for the ten latest instances. "
            "Milliseconds are nothing; what grows towards the interval means too many targets "
            "or too few places.",
        ),
        [
            line_query(
                f"topk(10, egress_scheduler_lag_seconds{{{PROBERS}}})",
                "{{instance}}",
            )
        ],
        "s",
    )


def coarse(one: Panel) -> Panel:
    """The panel with `POINTS` points, not as many as the screen has."""
    one.max_data_points = POINTS
    return one


def build() -> Dashboard:
    """All of it."""
    return dashboard(
        "egress-fleet",
        "Egress: fleet",
        "Which targets are blocked, where, and from how many instances; and whether the "
        "instances look at all. docs/grafana.md of the egress exporter explains.",
        [
            source_variable(),
            variable("job", "egress_build_info", several=True),
            variable("instance", 'egress_build_info{job=~"$job"}', several=True, everything=".*"),
            variable("target", f"egress_target_info{{{PROBERS}}}", several=True, everything=".*"),
        ],
        [
            Line(4, (blocked(), targets(), instances(), engines())),
            Line(10, (failing(),)),
            Line(12, (coarse(states()),)),
            Line(8, (coarse(history()), coarse(unknown()))),
            Line(8, (probers(),)),
            Line(8, (late(), lag())),
        ],
    )
