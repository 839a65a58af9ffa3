"""${message}"""

from pathlib import Path

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}

SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    op.get_context().config.attributes["run_script"](op.get_bind(), (SQL / "${up_revision}.sql").read_text())
