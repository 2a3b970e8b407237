"""Alembic's environment: it runs on the connection, and in the transaction, that `tulbur.stores.migrate` gives it."""

from __future__ import annotations

from alembic import context

from tulbur.stores.schema import VERSION_TABLE, metadata


def _is_ours(name: str | None, kind: str, _parents: object) -> bool:
    # The shop's own tables in the same database are never looked at.
    return kind != "table" or (name is not None and name.startswith("tulbur_") and name != VERSION_TABLE)


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    include_name=_is_ours,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
