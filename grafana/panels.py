"""The panels that dashboards are made of. Each needs words: a title, a unit, what it means for who is on call."""

from typing import TypeVar

from grafana_foundation_sdk.builders import bargauge, common, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders.dashboard import DashboardLink, ThresholdsConfig
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heatmap_model
from grafana_foundation_sdk.models import units

from grafana import parts, postgres

Query = prometheus.Dataquery | postgres.Query
Panel = TypeVar("Panel", stat.Panel, timeseries.Panel, bargauge.Panel, heatmap.Panel, table.Panel)


def asking(panel: Panel, queries: tuple[Query, ...]) -> Panel:
    """The panel with its queries A, B, C, …"""
    for number, made in enumerate(queries):
        panel.with_target(made.ref_id(chr(ord("A") + number)))
    return panel


def figure(title: str, unit: str, description: str, *queries: Query) -> stat.Panel:
    """One number for the whole time range."""
    panel = (
        stat.Panel()
        .title(title)
        .unit(unit)
        .description(description)
        .datasource(parts.DATASOURCE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .graph_mode(common_model.BigValueGraphMode.NONE)
        .span(4)
        .height(4)
    )
    return asking(panel, queries)


def curve(
    title: str, unit: str, description: str, *queries: Query, floor: float | None = 0, wide: int = 12
) -> timeseries.Panel:
    """Lines over time, from `floor` (None: from the lowest value), with last and highest in the legend."""
    panel = (
        timeseries.Panel()
        .title(title)
        .unit(unit)
        .description(description)
        .datasource(parts.DATASOURCE)
        .line_width(1)
        .fill_opacity(10)
        .legend(
            common.VizLegendOptions()
            .display_mode(common_model.LegendDisplayMode.TABLE)
            .placement(common_model.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_model.TooltipDisplayMode.MULTI)
            .sort(common_model.SortOrder.DESCENDING)
        )
        .span(wide)
        .height(8)
    )
    if floor is not None:
        panel.min(floor)
    return asking(panel, queries)


def stacked(panel: timeseries.Panel) -> timeseries.Panel:
    """The same lines piled up, where their sum means something."""
    return panel.fill_opacity(40).stacking(common.StackingConfig().mode(common_model.StackingMode.NORMAL).group("A"))


def marked(panel: timeseries.Panel, steps: ThresholdsConfig) -> timeseries.Panel:
    """The same lines with the thresholds drawn behind them."""
    return panel.thresholds(steps).thresholds_style(
        common.GraphThresholdsStyleConfig().mode(common_model.GraphThresholdsStyleMode.DASHED)
    )


def painted(panel: timeseries.Panel, **colors: str) -> timeseries.Panel:
    """The same lines, those of a name in its colour."""
    for name, color in colors.items():
        panel.override_by_name(name, [model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})])
    return panel


def bars(title: str, unit: str, description: str, *queries: Query, wide: int = 12) -> bargauge.Panel:
    """One bar a series for the whole time range."""
    panel = (
        bargauge.Panel()
        .title(title)
        .unit(unit)
        .description(description)
        .datasource(parts.DATASOURCE)
        .min(0)
        .orientation(common_model.VizOrientation.HORIZONTAL)
        .display_mode(common_model.BarGaugeDisplayMode.BASIC)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .span(wide)
        .height(8)
    )
    return asking(panel, queries)


def heat(title: str, description: str, metric: str, labels: str, *, wide: int = 8) -> heatmap.Panel:
    """How many of the histogram `metric` (seconds) came after how long, over time: the darker, the more."""
    panel = (
        heatmap.Panel()
        .title(title)
        .unit(units.Seconds)
        .description(description)
        .datasource(parts.DATASOURCE)
        .calculate(False)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heatmap_model.HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .scale(heatmap_model.HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
            .steps(64)
        )
        .cell_values(heatmap.CellValues().unit(units.Short).decimals(0))
        .y_axis(heatmap.YAxisConfig().unit(units.Seconds).axis_placement(common_model.AxisPlacement.LEFT))
        .mode(common_model.TooltipDisplayMode.SINGLE)
        .show_y_histogram()
        .show_legend()
        .span(wide)
        .height(9)
    )
    return asking(panel, (parts.buckets(f"sum by (le) (increase({metric}_bucket{{{labels}}}[$__rate_interval]))"),))


def tabled(
    title: str,
    description: str,
    *queries: Query,
    unit: str = units.Short,
    source: model.DataSourceRef = parts.DATASOURCE,
    wide: int = 24,
    high: int = 9,
) -> table.Panel:
    """Rows and columns; `unit` holds for the numbers of which nothing else is said."""
    panel = (
        table.Panel()
        .title(title)
        .unit(unit)
        .description(description)
        .datasource(source)
        .filterable(True)
        .cell_height(common_model.TableCellHeight.SM)
        .no_value("none")
        .span(wide)
        .height(high)
    )
    return asking(panel, queries)


def measured(panel: table.Panel, unit: str, *columns: str, steps: ThresholdsConfig | None = None) -> table.Panel:
    """The same table, those columns in a unit of their own, and coloured where there are steps."""
    for one in columns:
        values = [model.DynamicConfigValue("unit", unit), model.DynamicConfigValue("decimals", 1)]
        if steps:
            values.append(model.DynamicConfigValue("thresholds", steps.build()))
            values.append(model.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
        panel.override_by_name(one, values)
    return panel


def linked(panel: table.Panel, column: str, *links: DashboardLink) -> table.Panel:
    """The same table, whose cells in `column` lead somewhere."""
    made = [{"title": link.title, "url": link.url} for link in (one.build() for one in links)]
    return panel.override_by_name(column, [model.DynamicConfigValue("links", made)])


def merged(panel: table.Panel, names: dict[str, str], sort: str, *, falling: bool = False) -> table.Panel:
    """The same table with one row for each set of labels, the columns `names` (`Value #A`: what it is), in an order."""
    order = [{"field": sort, "desc": falling}]
    return (
        panel.with_transformation(model.DataTransformerConfig("merge", options={}))
        .with_transformation(
            model.DataTransformerConfig("organize", options={"excludeByName": {"Time": True}, "renameByName": names})
        )
        .with_transformation(model.DataTransformerConfig("sortBy", options={"fields": {}, "sort": order}))
    )
