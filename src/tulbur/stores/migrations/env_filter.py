"""Which tables of a database are ours."""

from __future__ import annotations

from tulbur.stores.schema import VERSION_TABLE


def is_ours(name: str | None, kind: str, _parents: object) -> bool:
    """For Alembic's `include_name`: the shop's own tables in the same database are never looked at."""
    return kind != "table" or (name is not None and name.startswith("tulbur_") and name != VERSION_TABLE)
