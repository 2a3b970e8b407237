"""Alembic's environment: it runs on the connection, and in the transaction, that `tulbur.stores.migrate` gives it."""

from __future__ import annotations

from alembic import context

from tulbur.stores.migrations.env_filter import is_ours
from tulbur.stores.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    include_name=is_ours,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
