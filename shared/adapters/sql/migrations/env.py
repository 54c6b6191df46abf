"""Alembic's entry: it runs over the connection that `migrate` hands it."""

from alembic import context

from shared.adapters.sql.schema import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
