"""The old shop's data in PostgreSQL or MySQL, as Prisma keeps it: models and fields by their own names, quoted."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    String,
    Text,
    cast,
    column,
    func,
    inspect,
    literal_column,
    or_,
    select,
    table,
    text,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.sql.expression import TableClause

from tulbur.errors import SettingsError, SourceUnavailable
from tulbur.importer.rows import Row, id_of
from tulbur.importer.rows import order_ids as ids_named
from tulbur.importer.sources import BATCH, MOST_ORDERS, ORDERS, PROCESSED, SESSIONS, bounded

NAMED_AT_ONCE: Final = 20
"""Orders looked for in one reading of the processed invoices."""

_ERRORS: Final = (SQLAlchemyError, OSError)
_READ_ONLY: Final = {
    "postgresql": "SET default_transaction_read_only = on",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
}
_DRIVERS: Final = {
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
    "mysql": "mysql+asyncmy",
    "mariadb": "mysql+asyncmy",
}


class SqlSource:
    """Implements `Source` over one connection that may only read; no transaction stays open between two batches."""

    def __init__(self, url: str) -> None:
        address, options, self._schema = _address(url)
        self._engine = create_async_engine(
            address, connect_args=options, poolclass=NullPool, isolation_level="AUTOCOMMIT", hide_parameters=True
        )
        self._open: AsyncConnection | None = None
        self._columns: Mapping[str, frozenset[str]] = {}
        self._no_text: frozenset[str] = frozenset()

    async def start(self) -> None:
        self._open = await bounded(self._engine.connect(), _ERRORS)
        try:
            await bounded(self._connection.execute(text(_READ_ONLY[self._engine.dialect.name])), _ERRORS)
            self._columns = await bounded(self._connection.run_sync(self._described), _ERRORS)
        except BaseException:
            await self.stop()
            raise
        if SESSIONS not in self._columns:
            await self.stop()
            raise SettingsError(f"--from names a database without the table {SESSIONS}.")

    async def stop(self) -> None:
        connection, self._open = self._open, None
        if connection is not None:
            await connection.close()
        await self._engine.dispose()

    async def count(self) -> int:
        found = await bounded(
            self._connection.execute(select(func.count()).select_from(self._table(SESSIONS))), _ERRORS
        )
        return int(found.scalar_one())

    def sessions(self) -> AsyncIterator[Sequence[Row]]:
        return self._batches(SESSIONS)

    def processed(self) -> AsyncIterator[Sequence[Row]]:
        return self._batches(PROCESSED)

    async def processed_for(self, invoice_ids: Sequence[str], session_ids: Sequence[str]) -> Sequence[Row]:
        return await self._found(PROCESSED, invoice_ids, session_ids)

    async def known_sessions(self, invoice_ids: Sequence[str], session_ids: Sequence[str]) -> Sequence[Row]:
        return await self._found(SESSIONS, invoice_ids, session_ids)

    async def orders(self, ids: Sequence[str]) -> Mapping[str, Row] | None:
        if "id" not in self._columns.get(ORDERS, ()):
            return None
        orders = self._table(ORDERS)
        wanted = [orders.c[name] for name in ("id", "shopId") if name in orders.c]
        rows = await self._rows(select(*wanted).where(self._among(orders.c.id, ids)))
        return {id_of(row): row for row in rows}

    async def orders_of(self, user_ids: Sequence[str]) -> Sequence[Row]:
        wanted = ("id", "userId", "shopId", "total", "createdAt")
        if not set(wanted) <= self._columns.get(ORDERS, frozenset()):
            return []
        orders = self._table(ORDERS)
        query = select(*(orders.c[name] for name in wanted)).where(self._among(orders.c.userId, user_ids))
        return await self._rows(query.order_by(orders.c.createdAt.desc()).limit(MOST_ORDERS))

    async def named(self, order_ids: Sequence[str]) -> Sequence[str]:
        if "orderIds" not in self._columns.get(PROCESSED, ()):
            return []
        listed = self._table(PROCESSED).c.orderIds  # an array here, JSON there; ids are found in the text of both
        found: list[str] = []
        for start in range(0, len(order_ids), NAMED_AT_ONCE):
            some = order_ids[start : start + NAMED_AT_ONCE]
            either = or_(*(cast(listed, Text).contains(id_, autoescape=True) for id_ in some))
            found += ids_named(await self._rows(select(listed).where(either)))
        return found

    @property
    def _connection(self) -> AsyncConnection:
        if self._open is None:
            raise SourceUnavailable("the source is not started")
        return self._open

    def _described(self, connection: Connection) -> Mapping[str, frozenset[str]]:
        """The columns there are, for a schema may be older than the last of them."""
        found = inspect(connection)
        names = set(found.get_table_names(schema=self._schema)) & {SESSIONS, PROCESSED, ORDERS}
        columns = {name: found.get_columns(name, schema=self._schema) for name in names}
        self._no_text = frozenset(c["name"] for c in columns.get(ORDERS, []) if not isinstance(c["type"], String))
        return {name: frozenset(c["name"] for c in listed) for name, listed in columns.items()}

    def _among(self, ids: ColumnElement[Any], wanted: Sequence[str]) -> ColumnElement[bool]:
        """Numbers and UUIDs are compared by their text; text as it is, for that has an index."""
        return (cast(ids, Text) if getattr(ids, "name", "") in self._no_text else ids).in_(wanted)

    def _table(self, name: str) -> TableClause:
        return table(name, *(column(each) for each in sorted(self._columns[name])), schema=self._schema)

    async def _batches(self, name: str) -> AsyncIterator[Sequence[Row]]:
        if name not in self._columns:
            return
        # A processed invoice may have no id of its own.
        source = self._table(name)
        key = source.c["id" if "id" in source.c else "invoiceId"]
        page: Select[Any] = select(literal_column("*")).select_from(source).order_by(key).limit(BATCH)
        rows = await self._rows(page)
        while rows:
            yield rows
            rows = await self._rows(page.where(key > rows[-1][key.name]))

    async def _found(self, name: str, invoice_ids: Sequence[str], session_ids: Sequence[str]) -> Sequence[Row]:
        if name not in self._columns:
            return []
        source = self._table(name)
        either = [("invoiceId", invoice_ids), ("sessionId", session_ids)]
        wanted = [source.c[field].in_(ids) for field, ids in either if field in source.c and ids]
        return await self._rows(select(literal_column("*")).select_from(source).where(or_(*wanted))) if wanted else []

    async def _rows(self, query: Select[Any]) -> Sequence[Row]:
        found = await bounded(self._connection.execute(query), _ERRORS)
        return [dict(row) for row in found.mappings()]


def _address(url: str) -> tuple[URL, dict[str, Any], str | None]:
    """Prisma's URL as SQLAlchemy takes it: the options of Prisma's own engine are left out."""
    plain, _, query = url.partition("?")
    given = dict(parse_qsl(query))
    try:
        address = make_url(plain)
        address = address.set(drivername=_DRIVERS[address.drivername.partition("+")[0]])
    except (ArgumentError, KeyError, ValueError):
        raise SettingsError("--from is no database URL.") from None
    if address.get_backend_name() == "postgresql":
        sslmode = given.get("sslmode")
        options: dict[str, Any] = {"ssl": sslmode} if sslmode else {}
        if given.get("pgbouncer") == "true":
            options |= {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
        return address, options, given.get("schema")
    strict = given.get("sslaccept") == "strict"
    return address, {"ssl": ssl.create_default_context()} if strict else {}, None
