"""The data model, the functions that write it, and the views that others read."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None

SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    """Create the tables, then the functions, then the views for reports and what finds messages for them."""
    run_script = op.get_context().config.attributes["run_script"]
    for name in ("0001_tables.sql", "0001_functions.sql", "0001_views.sql", "0001_find.sql"):
        run_script(op.get_bind(), (SQL / name).read_text())


def downgrade() -> None:
    """There is nothing before the first migration."""
    raise NotImplementedError("the first migration has nothing to go back to: drop the database instead")
