"""Questions in SQL: a query for Grafana's PostgreSQL data source, and what such queries share."""

from grafana_foundation_sdk.cog import builder, variants
from grafana_foundation_sdk.models import dashboard as model

SOURCE = model.DataSourceRef(type_val="grafana-postgresql-datasource", uid="${sql}")

# A list stays a list where nothing is chosen or known yet: `in ()` would be no SQL.
TENANTS = "array[${tenant:sqlstring}]::text[]"
FROM, TO = "$__timeFrom()::timestamptz", "$__timeTo()::timestamptz"


class Statement(variants.Dataquery):
    """One target of a panel. The SDK has no model for this data source."""

    def __init__(self, text: str, form: str) -> None:
        self.text, self.form, self.ref_id = text, form, "A"

    def to_json(self) -> dict[str, object]:
        """As Grafana's editor writes it."""
        return {
            "datasource": SOURCE,
            "editorMode": "code",
            "format": self.form,
            "rawQuery": True,
            "rawSql": self.text,
            "refId": self.ref_id,
        }


class Query(builder.Builder[variants.Dataquery]):
    """Asks the chosen database; `over_time` wants a column `time` and gives a line for each other column."""

    def __init__(self, text: str, *, over_time: bool = False) -> None:
        self._statement = Statement(text.strip(), "time_series" if over_time else "table")

    def ref_id(self, ref_id: str) -> "Query":
        """Under which letter the panel knows it."""
        self._statement.ref_id = ref_id
        return self

    def build(self) -> Statement:
        """The target."""
        return self._statement


def given(variable: str) -> str:
    """What stands in a text box, as a literal of SQL; null where nothing does.

    The format doubles the quotes in it. What a box can't hold off the role for reports does: it reads views alone.
    """
    return f"nullif(btrim(${{{variable}:sqlstring}}), '')"
