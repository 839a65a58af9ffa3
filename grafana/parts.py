"""What every dashboard shares: its frame and variables, its queries, and the links between dashboards."""

from grafana_foundation_sdk.builders import dashboard, prometheus
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from grafana import postgres

POSITIVE = "delivered"
# Not final for coverage, but nobody waits for them any longer.
GIVEN_UP = "cancelled|no_receipt"

TENANT = 'tenant=~"$tenant"'
# The chosen tenants and channels, for metrics that carry both labels.
CHOSEN = f'{TENANT},channel=~"$channel"'
# An old export is no news: the alert rules leave it out, too.
NEWS = f'{CHOSEN},feed!~"import|replay"'

FIRST_SAMPLE = (
    "What was counted between a process's start and its first scrape, and the first failure of a kind that a "
    "process had not exposed before, may be missing."
)

DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")

# The dashboards, as links name them.
OVERVIEW, INTAKE, SENDING, FIND = "receiver-delivery", "receiver-intake", "receiver-sending", "receiver-find"


def messages(states: str) -> str:
    """The selector of changes into `states` (alternatives, by `|`) for the chosen tenants and channels."""
    return f'receiver_messages_total{{{NEWS},state=~"{states}"}}'


def query(expr: str, legend: str = "", *, instant: bool = False) -> prometheus.Dataquery:
    """A query of the chosen data source; `instant` asks once, at the end of the time range."""
    made = prometheus.Dataquery().expr(expr).legend_format(legend or "__auto").datasource(DATASOURCE)
    return made.instant() if instant else made.range()


def rows(expr: str) -> prometheus.Dataquery:
    """A query asked once, whose labels become the columns of a table."""
    return query(expr, instant=True).format(PromQueryFormat.TABLE)


def buckets(expr: str) -> prometheus.Dataquery:
    """A query that gives the buckets of a histogram, as a heat map reads them."""
    return query(expr, "{{le}}").format(PromQueryFormat.HEATMAP)


def quantile(share: float, metric: str, labels: str = "", by: str = "", window: str = "$window") -> str:
    """Within how many seconds that share came, by the histogram `metric`; nothing where none came (else NaN)."""
    grouped = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({grouped}) (increase({metric}_bucket{{{labels}}}[{window}]))) >= 0"


def thresholds(base: str, *steps: tuple[float, str]) -> dashboard.ThresholdsConfig:
    """Colours from `base` upwards; each step is the value from which its colour holds."""
    return (
        dashboard.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([model.Threshold(None, base), *(model.Threshold(value, color) for value, color in steps)])
    )


def way(title: str, uid: str) -> dashboard.DashboardLink:
    """A panel's link to a dashboard, with the time range and everything that is chosen."""
    return (
        dashboard.DashboardLink(title)
        .type(model.DashboardLinkType.LINK)
        .url(f"/d/{uid}?${{__url_time_range}}&${{__all_variables}}")
    )


def lead(title: str, uid: str, chosen: str, *kept: str) -> dashboard.DashboardLink:
    """A link from a bar, a line or a cell to a dashboard on which `chosen` (`var-name=value`) is chosen.

    It keeps the time range, the data sources and the variables `kept`.
    """
    variables = "&".join(f"${{{name}:queryparam}}" for name in ("datasource", "sql", *kept))
    return (
        dashboard.DashboardLink(title)
        .type(model.DashboardLinkType.LINK)
        .url(f"/d/{uid}?${{__url_time_range}}&{variables}&{chosen}")
    )


def frame(
    uid: str, title: str, description: str, *, figures: bool = True, tables: bool = True, since: str = "now-6h"
) -> dashboard.Dashboard:
    """An empty dashboard with links to its sisters, and the variables of the data sources that it asks."""
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["receiver"])
        .timezone("browser")
        .time(since, "now")
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
    )
    # The two data sources; one that is not asked here is hidden, and goes on with the links all the same.
    for name, words, kind, shown in (
        ("datasource", "Data source", "prometheus", figures),
        ("sql", "Tables from", str(postgres.SOURCE.type_val), tables),
    ):
        hide = model.VariableHide.DONT_HIDE if shown else model.VariableHide.HIDE_VARIABLE
        made.with_variable(dashboard.DatasourceVariable(name).label(words).type(kind).hide(hide))
    return made


def frame_of_service(uid: str, title: str, description: str) -> dashboard.Dashboard:
    """A frame for what the service does: figures alone, chosen by tenant and window."""
    tenants = label("tenant", "Tenant", "label_values(receiver_outbox_messages, tenant)", matches_none=True)
    return frame(uid, title, description, tables=False).with_variable(tenants).with_variable(window())


def label(name: str, title: str, values: str, *, matches_none: bool = False) -> dashboard.QueryVariable:
    """A variable by the values of a label. `matches_none`: all of it matches a series without the label, too.

    That is for PromQL alone: in SQL all of it must be a list.
    """
    made = _choice(name, title, values, DATASOURCE)
    return made.all_value(".*") if matches_none else made


def column(name: str, title: str, statement: str) -> dashboard.QueryVariable:
    """A variable by the values of a column."""
    return _choice(name, title, statement, postgres.SOURCE)


def window() -> dashboard.IntervalVariable:
    """The variable `window`: over how long ratios are taken; it starts at the alert rules' half hour."""
    return (
        dashboard.IntervalVariable("window")
        .label("Window")
        .description("Over how long each point of a ratio is taken, and which two windows are compared")
        .values("10m,30m,1h,6h,1d")
        .current(model.VariableOption(text="30m", value="30m", selected=True))
    )


def _choice(name: str, title: str, values: str, source: model.DataSourceRef) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(title)
        .query(values)
        .datasource(source)
        .multi(True)
        .include_all(True)
        .current(model.VariableOption(text=["All"], value=["$__all"], selected=True))
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
    )
