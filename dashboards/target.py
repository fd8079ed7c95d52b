"""The dashboard "Egress: target": what each instance sees of one target, and saw before."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import (
    AnnotationContainer,
    AnnotationQuery,
    Dashboard,
    DashboardFieldConfigSourceOverrides,
    DashboardSpecialValueMapOptions,
    Panel,
    SpecialValueMap,
    SpecialValueMatch,
    ValueMappingResult,
)

from dashboards import queries
from dashboards.parts import (
    EXPORTER,
    SOURCE,
    About,
    Column,
    Line,
    dashboard,
    heat,
    line_query,
    lines,
    link,
    override,
    source_variable,
    table,
    timeline,
    variable,
)
from dashboards.words import (
    BLUE,
    GREEN,
    GREY,
    LOCATION_NAMES,
    ORANGE,
    PURPLE,
    STATE_CODES,
    STATE_NAMES,
    VERMILION,
    mappings,
)

VIEWS = 'job="$job", instance=~"$instance", target="$target"'

EVIDENCE_URL = EXPORTER + "/api/v1/evidence/${target:percentencode}?of="
#: Where the address that Prometheus scrapes is one that the reader's browser reaches, too.
LINKS = [
    link("The exporter's page", EXPORTER + "/targets/${target:percentencode}"),
    link("Evidence: latest trace", EVIDENCE_URL + "latest"),
    link("Evidence: first bad trace", EVIDENCE_URL + "first-bad"),
    link("Evidence: last good trace", EVIDENCE_URL + "last-good"),
]
COLORED = {"custom.cellOptions": {"type": "color-text"}}
#: The ratio of nothing.
NO_PROBES = [
    SpecialValueMap(
        DashboardSpecialValueMapOptions(
            SpecialValueMatch.NA_N, ValueMappingResult(text="-", color=GREY)
        )
    )
]
DONE = mappings([("1", "succeeds", GREEN), ("0", "fails", VERMILION)])


class Events(AnnotationQuery):
    """An annotation with what Prometheus' plugin adds to Grafana's own fields."""

    def to_json(self) -> dict[str, object]:
        """A mark at each minute with a sample; its title from the labels."""
        texts = {"titleFormat": self.name, "textFormat": "{{instance}} {{state}}"}
        return super().to_json() | texts | {"step": "60s", "tagKeys": "instance"}


def events(name: str, expr: str, color: str) -> Events:
    """Marks in all charts."""
    return Events(name=name, datasource=SOURCE, icon_color=color, expr=expr, built_in=None)


def now() -> Panel:
    """A row for each instance."""
    return table(
        About(
            1,
            "Seen now",
            "What each instance sees in its latest trace. Suspects: the hops of which one must "
            "be the blocking device; by: who stands where the traffic stops, empty where nobody "
            "answers there. Fresh: no means that the trace is too old to count. An instance "
            "without a row: it does not trace this target, or it is dead and nothing is known. "
            "Its name leads to the exporter's page and to evidence for the network team.",
        ),
        queries.seen_now(VIEWS),
        [
            Column("instance", "Instance", {"links": LINKS}),
            Column("state", "State", {"mappings": STATE_NAMES, **COLORED}),
            Column("location", "Location", {"mappings": LOCATION_NAMES}),
            Column("Value", "Last reachable hop", {"decimals": 0}),
            Column(
                "hop",
                "Blocked at hop",
                {"mappings": mappings([("0", "-", GREY)])},
                number=True,
            ),
            Column("suspects", "Suspects", {"mappings": mappings([("0 to 0", "-", GREY)])}),
            Column("address", "By"),
            Column("name", "Name"),
            Column("zone", "Zone"),
            Column(
                "fresh",
                "Fresh",
                {"mappings": mappings([("1", "yes", GREEN), ("0", "no", VERMILION)]), **COLORED},
            ),
        ],
        [("Instance", False)],
    )


def configured() -> Panel:
    """Host, port, address."""
    return table(
        About(
            2,
            "Endpoint",
            "What is configured, and the address that the name resolved to for the latest trace "
            "of each instance; no address: it did not resolve, or there was no trace yet.",
        ),
        queries.endpoint(VIEWS),
        [
            Column("host", "Host"),
            Column("port", "Port"),
            Column("address", "Address"),
            Column("family", "Family"),
            Column("instance", "Instance", {"links": LINKS[:1]}),
        ],
        [("Instance", False)],
    )


def age() -> Panel:
    """Whether it is looked at."""
    return lines(
        About(
            3,
            "Age of the latest trace",
            "It grows to the interval and falls with each trace. What goes on growing is traced "
            "no more; a line that ends is an exporter that Prometheus cannot scrape.",
        ),
        [line_query(queries.age(VIEWS), "{{instance}}")],
        "s",
    )


def states() -> Panel:
    """Who saw what, when."""
    return timeline(
        About(
            4,
            "State from each instance",
            "The worst state since the step before. A gap: the exporter was not scraped then, or "
            "its latest trace was too old to count, so nothing is known.",
        ),
        [line_query(queries.worst_state(VIEWS), "{{instance}}")],
        STATE_CODES,
    )


def distances() -> Panel:
    """Where the traffic stops."""
    return lines(
        About(
            5,
            "How far the traffic gets",
            "Hops. Last reachable: of the farthest device that answers, the destination's "
            "distance when reached; 0: nobody answers. Blocked at: only while blocked. Last in "
            "the platform: only where one is seen. Choose one instance where lines cross.",
        ),
        [
            line_query(f"egress_last_reachable_hop{{{VIEWS}}}", "last reachable, {{instance}}"),
            line_query(f"egress_blocked_at_hop{{{VIEWS}}} > 0", "blocked at, {{instance}}"),
            line_query(
                f"egress_last_platform_hop{{{VIEWS}}} > 0", "last in the platform, {{instance}}"
            ),
        ],
        "none",
        [
            fixed("/^last reachable/", GREEN),
            fixed("/^blocked at/", VERMILION),
            fixed("/^last in the platform/", BLUE),
        ],
        steps=True,
    )


def fixed(names: str, color: str) -> DashboardFieldConfigSourceOverrides:
    """One colour for what a regular expression names."""
    return override(names, {"color": {"mode": "fixed", "fixedColor": color}}, "byRegexp")


def hops() -> Panel:
    """The latest path."""
    return table(
        About(
            6,
            "Hops",
            "The path of the latest trace: who answered first at each hop, and the lowest "
            "round-trip time; no address and no time: a silent hop. Loss is that of the "
            "dashboard's range: a router that limits its ICMP errors looks lossy, loss on the "
            "path goes on to the last hop. -: nothing was sent there, for another target's "
            "trace has just asked.",
        ),
        queries.hops_now(VIEWS),
        [
            Column("instance", "Instance", {"links": LINKS[:1]}),
            Column("hop", "Hop", number=True),
            Column("address", "Address"),
            Column("name", "Name"),
            Column("zone", "Zone"),
            Column("rtt", "Round trip", {"unit": "s"}, number=True),
            Column("Value", "Loss", {"unit": "percentunit", "decimals": 0, "mappings": NO_PROBES}),
        ],
        [("Instance", False), ("Hop", False)],
    )


def times() -> Panel:
    """Where the time goes."""
    return heat(
        About(
            7,
            "Round-trip times by hop",
            "The lowest round-trip time of each trace, by hop; of several instances the highest. "
            "A white cell: the hop was silent, or is not on the path.",
        ),
        line_query(f"max by (hop) (egress_hop_rtt_seconds{{{VIEWS}}})", "{{hop}}"),
        "s",
    )


def connect_times() -> Panel:
    """How long the application waits."""
    return lines(
        About(
            8,
            "Time of a plain connect()",
            "How long an ordinary connect() took to succeed or fail in each cycle, as an "
            "application would see it. No data: CONNECT_CHECK is off, or the name did not "
            "resolve.",
        ),
        [line_query(f"egress_connect_duration_seconds{{{VIEWS}}}", "{{instance}}")],
        "s",
    )


def connects() -> Panel:
    """Whether it gets there."""
    success = f"min_over_time(egress_connect_success{{{VIEWS}}}[$__rate_interval])"
    return timeline(
        About(
            9,
            "Does a plain connect() succeed?",
            "Whether it succeeded in all cycles since the step before. To a closed port it fails "
            "although the network lets the traffic through.",
        ),
        [line_query(success, "{{instance}}")],
        DONE,
    )


def flows() -> Panel:
    """Whether some paths are open."""
    return lines(
        About(
            10,
            "Flows",
            "Flows of which is known whether they pass: one, or several when something failed. "
            "Fewer blocked than known: some paths of a load balancer let the traffic through.",
        ),
        [
            line_query(f"egress_flows{{{VIEWS}}}", "known, {{instance}}"),
            line_query(f"egress_flows_blocked{{{VIEWS}}}", "blocked, {{instance}}"),
        ],
        "none",
        [fixed("/^known/", BLUE), fixed("/^blocked/", VERMILION)],
        steps=True,
    )


def controls() -> Panel:
    """What else answers."""
    return timeline(
        About(
            11,
            "Controls",
            "Measured beside a trace that is not plainly healthy. port: another port of the "
            "destination answers, so the host is up; echo: it answers ICMP; canary: an address "
            "that nobody has answers, so a proxy answers for any. A gap: not measured then.",
        ),
        [
            line_query(
                f"egress_control_answered{{{VIEWS}}}",
                "{{control}} from {{instance}}",
            )
        ],
        mappings([("1", "answered", GREEN), ("0", "silent", ORANGE)]),
        [
            override(
                "/^canary/",
                {"mappings": mappings([("1", "answered", VERMILION), ("0", "silent", GREEN)])},
                "byRegexp",
            )
        ],
    )


def marks() -> AnnotationContainer:
    """When the path or the state became another one."""
    changed = queries.since_a_minute(f"egress_state_changes_total{{{VIEWS}}}")
    state = f"(egress_state{{{VIEWS}}} == 1) and on ({queries.VIEW}) {changed}"
    return AnnotationContainer(
        [
            events("New state", state, VERMILION),
            events(
                "New path", queries.since_a_minute(f"egress_path_changes_total{{{VIEWS}}}"), PURPLE
            ),
        ]
    )


def build() -> Dashboard:
    """All of it."""
    board = dashboard(
        "egress-target",
        "Egress: target",
        "Where the traffic to one target stops, as each instance sees it, and how that came "
        "about. docs/grafana.md of the egress exporter explains.",
        [
            source_variable(),
            variable("job", "egress_target_info", several=False),
            variable("target", 'egress_target_info{job="$job"}', several=False),
            variable(
                "instance",
                'egress_target_info{job="$job", target="$target"}',
                several=True,
                everything=".*",
            ),
        ],
        [
            Line(6, (now(),)),
            Line(6, (configured(), age())),
            Line(6, (states(),)),
            Line(10, (distances(),)),
            Line(12, (hops(), times())),
            Line(8, (connect_times(), connects())),
            Line(8, (flows(), controls())),
        ],
    )
    board.annotations = marks()
    return board
