"""A portable copy of our tables: one JSON line for each row, from any database and into any other.

{"tulbur": "backup", "schema": "0002_min0001"}
{"table": "tulbur_sessions", "row": {"id": "…", "document": {"base64": "…"}, …}}
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Table, select, tuple_

from tulbur.errors import Conflict, SettingsError
from tulbur.stores.schema import metadata

PAGE: Final = 500
"""Rows read or written in one statement."""


def dump(connection: Connection, path: Path, schema: str) -> int:
    """Write every row of ours to a new file; how many there were. The caller keeps everybody from writing meanwhile.

    Raises:
        Conflict: the file exists already.
    """
    count = 0
    try:
        file = path.open("x", encoding="utf-8")
    except FileExistsError:
        raise Conflict(f"there is a backup {path.name} already: choose another stamp") from None
    with file:
        path.chmod(0o600)
        file.write(json.dumps({"tulbur": "backup", "schema": schema}) + "\n")
        for table in metadata.sorted_tables:
            for row in _rows(connection, table):
                file.write(json.dumps({"table": table.name, "row": row}, ensure_ascii=False) + "\n")
                count += 1
    return count


def restore(connection: Connection, path: Path, schema: str | None) -> int:
    """Put the rows of a backup into tables that are empty; how many there were. The caller has a transaction.

    Raises:
        Conflict: there are rows already.
        SettingsError: this is no backup, or one of another schema than the database has.
    """
    for table in metadata.sorted_tables:
        if connection.execute(select(*table.primary_key).limit(1)).first() is not None:
            raise Conflict(f"{table.name} is not empty: restore into a database that was migrated and never used")
    count = 0
    with path.open(encoding="utf-8") as file:
        found = _schema(file.readline())
        if found != schema:
            raise SettingsError(f"the backup has schema {found}, the database {schema}: restore it with that release")
        lines = (json.loads(line) for line in file)
        for name, rows in groupby(lines, lambda line: str(line["table"])):
            while page := [_read(line["row"]) for line in islice(rows, PAGE)]:
                connection.execute(metadata.tables[name].insert(), page)
                count += len(page)
    return count


def _schema(line: str) -> str:
    try:
        head = json.loads(line)
        if head["tulbur"] == "backup":
            return str(head["schema"])
    except (ValueError, KeyError, TypeError):
        pass
    raise SettingsError("this is no backup that tulbur made")


def _rows(connection: Connection, table: Table) -> Iterator[dict[str, Any]]:
    """All rows in the order of their key, a page at a time."""
    key = list(table.primary_key)
    query = select(table).order_by(*key).limit(PAGE)
    page = connection.execute(query).mappings().all()
    while page:
        yield from ({name: _plain(value) for name, value in row.items()} for row in page)
        last = [page[-1][column.name] for column in key]
        page = connection.execute(query.where(tuple_(*key) > tuple_(*last))).mappings().all()


def _plain(value: object) -> object:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _read(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: base64.b64decode(value["base64"]) if isinstance(value, dict) else value for name, value in row.items()
    }
