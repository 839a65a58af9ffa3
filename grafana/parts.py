"""What every dashboard shares: its variables, its frame, and panels that need their words."""

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model

POSITIVE = "delivered"
NEGATIVE = "invalid|not_verified|undelivered|failed|bounced|refused|expired"
# `read` is left out: a message that was delivered and then read would count twice.
FINAL = f"{POSITIVE}|{NEGATIVE}"
# Not final for coverage, but nobody waits for them any longer.
GIVEN_UP = "cancelled|no_receipt"

# The chosen tenants and channels, for metrics that carry both labels.
CHOSEN = 'tenant=~"$tenant",channel=~"$channel"'

DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")


def messages(states: str) -> str:
    """The selector of changes into `states` (alternatives, by `|`) for the chosen tenants and channels."""
    return f'receiver_messages_total{{{CHOSEN},state=~"{states}"}}'


def query(expr: str, legend: str = "", *, instant: bool = False) -> prometheus.Dataquery:
    """A query of the chosen data source; `instant` asks once, at the end of the time range."""
    made = prometheus.Dataquery().expr(expr).legend_format(legend or "__auto").datasource(DATASOURCE)
    return made.instant() if instant else made.range()


def thresholds(base: str, *steps: tuple[float, str]) -> dashboard.ThresholdsConfig:
    """Colours from `base` upwards; each step is the value from which its colour holds."""
    return (
        dashboard.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([model.Threshold(None, base), *(model.Threshold(value, color) for value, color in steps)])
    )


def figure(title: str, unit: str, description: str, *queries: prometheus.Dataquery) -> stat.Panel:
    """One number for the whole time range."""
    panel = (
        stat.Panel()
        .title(title)
        .unit(unit)
        .description(description)
        .datasource(DATASOURCE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .graph_mode(common_model.BigValueGraphMode.NONE)
        .span(8)
        .height(5)
    )
    for number, made in enumerate(queries):
        panel.with_target(made.ref_id(chr(ord("A") + number)))
    return panel


def curve(
    title: str, unit: str, description: str, *queries: prometheus.Dataquery, floor: float | None = 0
) -> timeseries.Panel:
    """Lines over time, from `floor` (None: from the lowest value), with last and highest in the legend."""
    panel = (
        timeseries.Panel()
        .title(title)
        .unit(unit)
        .description(description)
        .datasource(DATASOURCE)
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
        .span(12)
        .height(9)
    )
    if floor is not None:
        panel.min(floor)
    for number, made in enumerate(queries):
        panel.with_target(made.ref_id(chr(ord("A") + number)))
    return panel


def stacked(panel: timeseries.Panel) -> timeseries.Panel:
    """The same lines piled up, where their sum means something."""
    return panel.fill_opacity(40).stacking(common.StackingConfig().mode(common_model.StackingMode.NORMAL).group("A"))


def bars(title: str, unit: str, description: str, *queries: prometheus.Dataquery) -> bargauge.Panel:
    """One bar a series for the whole time range, longest where most."""
    panel = (
        bargauge.Panel()
        .title(title)
        .unit(unit)
        .description(description)
        .datasource(DATASOURCE)
        .min(0)
        .orientation(common_model.VizOrientation.HORIZONTAL)
        .display_mode(common_model.BarGaugeDisplayMode.BASIC)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .span(12)
        .height(9)
    )
    for number, made in enumerate(queries):
        panel.with_target(made.ref_id(chr(ord("A") + number)))
    return panel


def marked(panel: timeseries.Panel, steps: dashboard.ThresholdsConfig) -> timeseries.Panel:
    """The same lines with the thresholds drawn behind them."""
    return panel.thresholds(steps).thresholds_style(
        common.GraphThresholdsStyleConfig().mode(common_model.GraphThresholdsStyleMode.DASHED)
    )


def frame(uid: str, title: str, description: str) -> dashboard.Dashboard:
    """An empty dashboard with the variables datasource, tenant and channel, and links to its sisters."""
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["receiver"])
        .timezone("browser")
        .time("now-6h", "now")
        .refresh("1m")
        .readonly()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("Receiver")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags(["receiver"])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_labels("tenant", "Tenant", "label_values(receiver_messages_total, tenant)"))
        .with_variable(
            _labels("channel", "Channel", 'label_values(receiver_messages_total{tenant=~"$tenant"}, channel)')
        )
    )


def window() -> dashboard.IntervalVariable:
    """The variable `window`: over how long ratios are taken; it starts at the alert rules' half hour."""
    return (
        dashboard.IntervalVariable("window")
        .label("Window")
        .description("Over how long each point of a ratio is taken")
        .values("10m,30m,1h,6h,1d")
        .current(model.VariableOption(text="30m", value="30m", selected=True))
    )


def _labels(name: str, label: str, values: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .query(values)
        .datasource(DATASOURCE)
        .multi(True)
        .include_all(True)
        # Matches an empty label too: a forged receipt has no channel that could be believed.
        .all_value(".*")
        .current(model.VariableOption(text=["All"], value=["$__all"], selected=True))
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
    )
