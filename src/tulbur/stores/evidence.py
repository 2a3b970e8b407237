"""What a database shows of itself to whoever examines it: that what was written is kept, its clock, its weak spots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, select

from tulbur.core.session import Micros
from tulbur.stores.dialects import BEGIN, database_clock
from tulbur.stores.places import place
from tulbur.stores.schema import leases

LOCK_SECONDS: Final = 5.0
"""How long another process may hold the database."""


@dataclass(frozen=True, slots=True)
class Weakness:
    """A way in which a commit that was acknowledged can be lost; not `serious` where it depends."""

    detail: str
    remedy: str
    serious: bool = True


@dataclass(frozen=True, slots=True)
class Evidence:
    """`kept`: the lease that was taken over another connection was there; it is gone now. `clock`: the database's."""

    kept: bool
    clock: Micros
    weaknesses: tuple[Weakness, ...] = ()


def look(url: str, name: str, owner: str) -> Evidence:
    """Read the lease back over a connection of its own, remove it, and look at the database's settings.

    Raises:
        StoreUnavailable: the database does not answer, or refuses.
    """
    return place(url).read(lambda connection: _look(connection, name, owner), LOCK_SECONDS)


def _look(connection: Connection, name: str, owner: str) -> Evidence:
    held = connection.execute(select(leases.c.owner).where(leases.c.name == name)).scalar()
    # As the store's own transactions begin, whatever the server or the role prefer.
    connection.exec_driver_sql(BEGIN.get(connection.dialect.name, "BEGIN IMMEDIATE"))
    connection.execute(leases.delete().where(leases.c.name == name, leases.c.owner == owner))
    connection.exec_driver_sql("COMMIT")
    found = {"postgresql": _of_postgresql, "mysql": _of_mysql, "mariadb": _of_mysql}.get(connection.dialect.name)
    weaknesses = tuple(found(connection)) if found else ()
    return Evidence(held == owner, database_clock(connection), weaknesses)


def _of_postgresql(connection: Connection) -> Iterator[Weakness]:
    for name, then in (
        ("fsync", "orders that were promised are lost when its machine goes down"),
        ("full_page_writes", "a power cut can damage the database"),
    ):
        if _one(connection, f"SHOW {name}") == "off":
            remedy = f"set {name} = on in postgresql.conf and reload it"
            yield Weakness(f"PostgreSQL runs with {name} off: {then}", remedy)
    standbys = _one(
        connection, "SELECT count(*) FROM pg_stat_replication WHERE application_name IS DISTINCT FROM 'pg_basebackup'"
    )
    if standbys and not _one(connection, "SHOW synchronous_standby_names"):
        detail = "PostgreSQL's standbys are asynchronous: a failover loses the orders they have not got yet"
        yield Weakness(detail, "set synchronous_standby_names, see docs/clusters.md", serious=False)


def _of_mysql(connection: Connection) -> Iterator[Weakness]:
    flushed = _one(connection, "SELECT @@innodb_flush_log_at_trx_commit")
    if flushed == 1:
        return
    galera = bool(connection.exec_driver_sql("SHOW VARIABLES WHERE variable_name = 'wsrep_on' AND value = 'ON'").all())
    detail = (
        f"innodb_flush_log_at_trx_commit is {flushed}: the last second of orders is lost when its machine goes down"
    )
    yield Weakness(detail, "set innodb_flush_log_at_trx_commit = 1 (SET GLOBAL, and my.cnf)", serious=not galera)


def _one(connection: Connection, query: str) -> object:
    return connection.exec_driver_sql(query).scalar()
