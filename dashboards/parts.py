"""Panels, variables and lists as the two dashboards use them, on the models of Grafana's own SDK.

A panel has a number and a title of its own for ever: links, annotations and people refer to them.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from grafana_foundation_sdk.models.common import (
    AxisPlacement,
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    GraphFieldConfig,
    HeatmapCellLayout,
    LegendDisplayMode,
    LegendPlacement,
    LineInterpolation,
    ReduceDataOptions,
    SortOrder,
    StackingConfig,
    StackingMode,
    TableFooterOptions,
    TableSortByFieldState,
    TooltipDisplayMode,
    VisibilityMode,
    VizLegendOptions,
    VizTooltipOptions,
)
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    DashboardCursorSync,
    DashboardDashboardTemplating,
    DashboardDashboardTime,
    DashboardFieldConfigSourceOverrides,
    DashboardLink,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColor,
    FieldColorModeId,
    FieldConfig,
    FieldConfigSource,
    GridPos,
    MatcherConfig,
    Panel,
    RowPanel,
    Threshold,
    ThresholdsConfig,
    ThresholdsMode,
    ValueMapping,
    VariableModel,
    VariableRefresh,
    VariableSort,
    VariableType,
)
from grafana_foundation_sdk.models.heatmap import (
    ExemplarConfig,
    HeatmapColorMode,
    HeatmapColorOptions,
    HeatmapColorScale,
    HeatmapLegend,
    HeatmapTooltip,
    RowsHeatmapOptions,
    YAxisConfig,
)
from grafana_foundation_sdk.models.heatmap import Options as HeatmapOptions
from grafana_foundation_sdk.models.prometheus import Dataquery, PromQueryFormat, QueryEditorMode
from grafana_foundation_sdk.models.stat import Options as StatOptions
from grafana_foundation_sdk.models.statetimeline import FieldConfig as TimelineFieldConfig
from grafana_foundation_sdk.models.statetimeline import Options as TimelineOptions
from grafana_foundation_sdk.models.table import Options as TableOptions
from grafana_foundation_sdk.models.timeseries import Options as LinesOptions

from dashboards.words import BLUE, GREY

#: Which Prometheus, the reader says.
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
#: The grid's width.
COLUMNS = 24
#: A label of the row or series, for a path or a parameter of a URL.
OF_ROW = "${{__data.fields.{}:percentencode}}"
OF_SERIES = "${{__field.labels.{}:percentencode}}"
#: The instance as the host and port of a URL, where an encoded colon would be none.
EXPORTER = "http://${__data.fields.instance:raw}"

Properties = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Line:
    """Panels beside each other, of one height in the grid's rows; they share its width."""

    height: int
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: a label of the query's, or its "Value", with Grafana's overrides.

    A `number` sorts and shows as one although it is a label.
    """

    label: str
    title: str
    overrides: Properties = field(default_factory=dict)
    number: bool = False


@dataclass(frozen=True, slots=True)
class About:
    """What a panel is called by, and what it tells, absence included."""

    id: int
    title: str
    description: str


def link(title: str, url: str) -> dict[str, object]:
    """A link of a cell or a point."""
    return {"title": title, "url": url, "targetBlank": True}


def line_query(expr: str, legend: str) -> Dataquery:
    """A query over the dashboard's range."""
    return Dataquery(
        expr=expr,
        legend_format=legend,
        range_val=True,
        instant=False,
        format_val=PromQueryFormat.TIME_SERIES,
        editor_mode=QueryEditorMode.CODE,
    )


def now_query(expr: str, legend: str = "", form: str = PromQueryFormat.TIME_SERIES) -> Dataquery:
    """A query at the end of the range."""
    return Dataquery(
        expr=expr,
        legend_format=legend,
        range_val=False,
        instant=True,
        format_val=PromQueryFormat(form),
        editor_mode=QueryEditorMode.CODE,
    )


def override(
    name: str, properties: Properties, by: str = "byName"
) -> DashboardFieldConfigSourceOverrides:
    """What is different for one field, or for those that a regular expression names."""
    return DashboardFieldConfigSourceOverrides(
        MatcherConfig(by, name),
        [DynamicConfigValue(key, value) for key, value in properties.items()],
    )


def panel(
    kind: str,
    about: About,
    queries: Sequence[Dataquery],
    defaults: FieldConfig,
    options: object,
    overrides: Sequence[DashboardFieldConfigSourceOverrides] = (),
) -> Panel:
    """A panel of Grafana's plugin `kind`; its queries are A, B, C."""
    for name, one in zip(string.ascii_uppercase, queries, strict=False):
        one.ref_id = name
        one.datasource = SOURCE
    return Panel(
        type_val=kind,
        id_val=about.id,
        title=about.title,
        description=about.description,
        datasource=SOURCE,
        targets=list(queries),
        options=options,
        field_config=FieldConfigSource(defaults, list(overrides)),
    )


def stat(
    about: About,
    queries: Sequence[Dataquery],
    overrides: Sequence[DashboardFieldConfigSourceOverrides] = (),
) -> Panel:
    """Some numbers of now, each under its name."""
    return panel(
        "stat",
        about,
        queries,
        FieldConfig(
            unit="none",
            decimals=0,
            no_value="no data",
            thresholds=thresholds(BLUE),
            color=FieldColor(FieldColorModeId.THRESHOLDS),
        ),
        StatOptions(
            graph_mode=BigValueGraphMode.NONE,
            color_mode=BigValueColorMode.VALUE,
            text_mode=BigValueTextMode.VALUE_AND_NAME,
            reduce_options=ReduceDataOptions(values=False, calcs=["lastNotNull"], fields=""),
        ),
        overrides,
    )


def table(
    about: About, expr: str, columns: Sequence[Column], sort: Sequence[tuple[str, bool]]
) -> Panel:
    """A query's labels and value as columns; `sort`: columns' titles, and whether downwards."""
    one = panel(
        "table",
        about,
        [now_query(expr, form=PromQueryFormat.TABLE)],
        FieldConfig(
            no_value="-", thresholds=thresholds(GREY), color=FieldColor(FieldColorModeId.THRESHOLDS)
        ),
        TableOptions(
            sort_by=[TableSortByFieldState(title, desc=downwards) for title, downwards in sort],
            footer=TableFooterOptions(enable_pagination=True),
        ),
        [override(column.label, column.overrides) for column in columns if column.overrides],
    )
    shown = {column.label for column in columns}
    one.transformations = [
        DataTransformerConfig(
            "convertFieldType",
            options={
                "conversions": [
                    {"targetField": column.label, "destinationType": "number"}
                    for column in columns
                    if column.number
                ],
                "fields": {},
            },
        ),
        DataTransformerConfig(
            "organize",
            options={
                "excludeByName": {name: True for name in ("Time", "Value") if name not in shown},
                "indexByName": {column.label: at for at, column in enumerate(columns)},
                "renameByName": {column.label: column.title for column in columns},
            },
        ),
    ]
    return one


def timeline(
    about: About,
    queries: Sequence[Dataquery],
    values: list[ValueMapping],
    overrides: Sequence[DashboardFieldConfigSourceOverrides] = (),
    links: Sequence[Mapping[str, object]] = (),
) -> Panel:
    """A bar for each series, coloured and labelled by its values; a gap where there is none."""
    everywhere = [override("/.*/", {"links": list(links)}, "byRegexp")] if links else []
    return panel(
        "state-timeline",
        about,
        queries,
        FieldConfig(
            mappings=values,
            thresholds=thresholds(GREY),
            color=FieldColor(FieldColorModeId.THRESHOLDS),
            custom=TimelineFieldConfig(line_width=0, fill_opacity=85),
        ),
        TimelineOptions(
            show_value=VisibilityMode.AUTO,
            merge_values=True,
            per_page=20,
            legend=VizLegendOptions(show_legend=False),
            tooltip=VizTooltipOptions(TooltipDisplayMode.SINGLE, SortOrder.NONE),
        ),
        [*everywhere, *overrides],
    )


def lines(
    about: About,
    queries: Sequence[Dataquery],
    unit: str,
    overrides: Sequence[DashboardFieldConfigSourceOverrides] = (),
    *,
    steps: bool = False,
    stacked: bool = False,
) -> Panel:
    """Lines over time, from 0 up; `steps` for what holds until the next value."""
    custom = GraphFieldConfig(
        line_interpolation=LineInterpolation.STEP_AFTER if steps else LineInterpolation.LINEAR,
        line_width=2,
        fill_opacity=30 if stacked else 0,
        show_points=VisibilityMode.AUTO,
        span_nulls=False,
        stacking=StackingConfig(StackingMode.NORMAL if stacked else StackingMode.NONE, "A"),
    )
    return panel(
        "timeseries",
        about,
        queries,
        FieldConfig(
            unit=unit,
            decimals=0 if steps else None,
            min_val=0,
            color=FieldColor(FieldColorModeId.PALETTE_CLASSIC_BY_NAME),
            custom=custom,
        ),
        LinesOptions(
            legend=VizLegendOptions(
                LegendDisplayMode.TABLE,
                LegendPlacement.BOTTOM,
                show_legend=True,
                calcs=["lastNotNull", "max"],
            ),
            tooltip=VizTooltipOptions(TooltipDisplayMode.MULTI, SortOrder.DESCENDING),
        ),
        overrides,
    )


def heat(about: About, query: Dataquery, unit: str) -> Panel:
    """A row for each series in the order of their names, and the value as a colour."""
    return panel(
        "heatmap",
        about,
        [query],
        FieldConfig(unit=unit),
        HeatmapOptions(
            calculate=False,
            rows_frame=RowsHeatmapOptions(value="time", layout=HeatmapCellLayout.UNKNOWN),
            # Viridis: even steps of lightness, whatever the colour vision.
            color=HeatmapColorOptions(
                mode=HeatmapColorMode.SCHEME,
                scheme="Viridis",
                fill=BLUE,
                scale=HeatmapColorScale.EXPONENTIAL,
                exponent=0.5,
                steps=64,
            ),
            y_axis=YAxisConfig(axis_placement=AxisPlacement.LEFT, axis_label="hop"),
            legend=HeatmapLegend(show=True),
            show_value=VisibilityMode.NEVER,
            tooltip=HeatmapTooltip(TooltipDisplayMode.SINGLE, show_color_scale=True),
            exemplars=ExemplarConfig(GREY),
        ),
    )


def thresholds(*colors: str) -> ThresholdsConfig:
    """The first colour below 1, the second one from 1 on."""
    starts = (None, 1.0)
    steps = [Threshold(start, color) for start, color in zip(starts, colors, strict=False)]
    return ThresholdsConfig(ThresholdsMode.ABSOLUTE, steps)


# -- variables ---------------------------------------------------------------------------


def source_variable() -> VariableModel:
    """Which Prometheus."""
    return VariableModel(
        type_val=VariableType.DATASOURCE, name="datasource", label="Data source", query="prometheus"
    )


def variable(
    name: str, series: str, *, several: bool, everything: str | None = None
) -> VariableModel:
    """The values that the label `name` has on `series` within the range.

    `everything` stands for all of them in a query, where to list them would make it long.
    """
    query = f"label_values({series}, {name})"
    return VariableModel(
        type_val=VariableType.QUERY,
        name=name,
        label=name.capitalize(),
        query={"query": query, "refId": name},
        datasource=SOURCE,
        refresh=VariableRefresh.ON_TIME_RANGE_CHANGED,
        sort=VariableSort.NATURAL_ASC,
        multi=several,
        include_all=several,
        all_value=everything,
    )


# -- a dashboard -------------------------------------------------------------------------


def placed(rows: Sequence[Line]) -> list[Panel | RowPanel]:
    """The panels with their places, from the top."""
    top = 0
    panels: list[Panel | RowPanel] = []
    for row in rows:
        width = COLUMNS // len(row.panels)
        for at, one in enumerate(row.panels):
            one.grid_pos = GridPos(h=row.height, w=width, x=at * width, y=top)
            panels.append(one)
        top += row.height
    return panels


def dashboard(
    uid: str, title: str, description: str, variables: list[VariableModel], rows: Sequence[Line]
) -> Dashboard:
    """A dashboard that links to the others of this program."""
    siblings = DashboardLink(
        title="Egress",
        type_val=DashboardLinkType.DASHBOARDS,
        icon="external link",
        tags=["egress"],
        include_vars=True,
        keep_time=True,
    )
    return Dashboard(
        uid=uid,
        title=title,
        description=description,
        tags=["egress"],
        time=DashboardDashboardTime("now-6h", "now"),
        refresh="1m",
        graph_tooltip=DashboardCursorSync.CROSSHAIR,
        links=[siblings],
        templating=DashboardDashboardTemplating(variables),
        panels=placed(rows),
    )
