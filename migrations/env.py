"""Runs the migrations over the connection that `receiver migrate` hands in: no address is known here."""

from alembic import context

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("run `receiver migrate`: it knows the database from the settings (see docs/settings.md)")

context.configure(connection=connection, target_metadata=None, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
