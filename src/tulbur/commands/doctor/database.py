"""The database: which one it is, whether it is reached, written and read back, its schema, and what it may lose."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tulbur.commands.doctor.files import where_it_lies
from tulbur.commands.doctor.finding import Finding, fine, of_sentence, problem, remark
from tulbur.commands.doctor.reaching import aside, hosts_of, reach
from tulbur.errors import SchemaUnusable, SettingsError, StoreUnavailable
from tulbur.ports import Store
from tulbur.settings import Settings, sqlite_path
from tulbur.stores.choosing import open_store
from tulbur.stores.sqlite import SqliteStore
from tulbur.wiring import now

if TYPE_CHECKING:
    from tulbur.stores.evidence import Evidence
    from tulbur.stores.migrate import SchemaStatus

BUSY_SECONDS: Final = 5.0
"""How long another process may hold the database before that is called a problem."""

ANSWER_SECONDS: Final = 6.0
"""How long a server may take for one call."""

LOOK_SECONDS: Final = 12.0
"""How long one look at a database that answers may take."""

CLOCK_SECONDS: Final = 30
"""How far two clocks may be apart."""

LEASE_SECONDS: Final = 60
"""After which the lease that proves writing ends by itself, should the doctor be killed."""

_PORTS: Final[Mapping[str, int]] = {
    "postgresql": 5432,
    "postgres": 5432,
    "mysql": 3306,
    "mariadb": 3306,
    "mongodb": 27017,
}
_ESCAPE: Final = "write @, /, : and % in a password as %40, %2F, %3A and %25"
_SILENT: Final[Mapping[str, str]] = {
    "mongodb": "see that rs.status() shows a primary, that replicaSet in DATABASE_URL is its name, that its members' "
    "names can be looked up from here, and whether it wants tls=true",
    "mongodb+srv": "let this machine into Atlas (Network Access: its IP access list), and see that the cluster runs",
}
_OF_FILES: Final[Mapping[str, str]] = {
    "locked": "find out who holds it (fuser): a shell left open, a backup that runs",
    "cannot be written": "let the user that runs tulbur write the file and its directory",
    "disk is full": "make room on its disk",
    "disk cannot be read": "look at the disk: the system's log says what it reports",
    "damaged": "stop tulbur, keep a copy of the file, and put the last backup back",
    "not a SQLite database": "correct DATABASE_URL: that file belongs to something else",
    "write-ahead log": "move it to a local disk, and correct DATABASE_URL",
}


@dataclass(slots=True)
class Database:
    """The database while it is examined.

    `store` is there when it can be used, and whoever examines stops it. `empty`: it was never used, so that no service
    can be running on it. `earnest`: QPay is a real one.
    """

    settings: Settings
    earnest: bool
    store: Store | None = None
    empty: bool = False

    async def examine(self) -> AsyncIterator[Finding]:
        """Nothing is made that was not there."""
        if "database_url" not in self.settings.model_fields_set:
            yield remark(
                "settings",
                "DATABASE_URL is not set, so the file tulbur.db of the working directory is used",
                "set DATABASE_URL, so that every process has the same one wherever it is started",
            )
        try:
            path = sqlite_path(self.settings.database_url)
            looking = self._server() if path is None else self._file(path)
            async for finding in looking:
                yield finding
        except SchemaUnusable as wrong:
            yield of_sentence("schema", wrong.message)
        except SettingsError as wrong:
            yield of_sentence("database", wrong.message)

    async def stop(self) -> None:
        store, self.store = self.store, None
        if store is not None:
            await store.stop()

    # --- a file

    async def _file(self, path: Path) -> AsyncIterator[Finding]:
        absent = _absent(path)
        if absent is not None:
            yield absent
            if absent.ok:
                self.empty = True
                yield where_it_lies(path, earnest=self.earnest)
            return
        try:
            async for finding in self._opened(path):
                yield finding
        except StoreUnavailable as silent:
            advice = next((remedy for said, remedy in _OF_FILES.items() if said in silent.message), "")
            remedy = advice or "see that it and its directory can be read and written, and that the disk has room"
            yield problem("database", f"{path}: {silent.message}", remedy)

    async def _opened(self, path: Path) -> AsyncIterator[Finding]:
        from tulbur.stores.migrate import has_tables  # noqa: PLC0415 - Alembic is slow to import

        if not has_tables(path):
            self.empty = True
            yield fine("database", str(path))
            yield fine("schema", "no tables yet; tulbur serve makes them")
            yield where_it_lies(path, earnest=self.earnest)
            return
        self.store = SqliteStore(path, busy_seconds=BUSY_SECONDS)
        async for finding in self._used(str(path), self.store):
            yield finding
        yield where_it_lies(path, earnest=self.earnest)

    # --- a server

    async def _server(self) -> AsyncIterator[Finding]:
        url = self.settings.database_url
        scheme = url.partition("://")[0]
        if "@" in url.partition("://")[2].partition("/")[2].partition("?")[0]:
            yield problem("database", "DATABASE_URL has an @ behind its host", _ESCAPE)
            return
        store = open_store(url, seconds=ANSWER_SECONDS)
        hosts = hosts_of(url, _PORTS[scheme]) if scheme in _PORTS else ()
        trouble = await reach(hosts, "DATABASE_URL")
        if trouble is not None:
            yield problem("database", trouble.detail, trouble.remedy)
            return
        told = _called(scheme, hosts)
        self.store = store
        try:
            async for finding in self._used(told, store):
                yield finding
        except StoreUnavailable as silent:
            yield _of_silence(silent, told, _SILENT.get(scheme, "see its log, and correct DATABASE_URL"))
        except SchemaUnusable:
            yield fine("database", f"{told} answers")
            self.empty = (await self._status()).current is None
            raise

    # --- both

    async def _used(self, told: str, store: Store) -> AsyncIterator[Finding]:
        """Start it as the service does, then prove that what is written stays."""
        try:
            await store.start()
            name, owner = f"doctor-{secrets.token_hex(8)}", secrets.token_hex(8)
            await store.lease(name, owner, LEASE_SECONDS)
            found, apart = await self._evidence(name, owner)
        except BaseException:
            await self.stop()
            raise
        yield _kept(told, found)
        yield await self._schema()
        if sqlite_path(self.settings.database_url) is None:
            for finding in _durability(found):
                yield finding
            yield _clock(apart)

    async def _evidence(self, name: str, owner: str) -> tuple[Evidence, float]:
        from tulbur.stores.choosing import evidence  # noqa: PLC0415 - slow to import

        url, before = self.settings.database_url, now()
        found = await aside(lambda: evidence(url, name, owner), LOOK_SECONDS)
        middle = (before + now()) / 2
        return found, (middle - found.clock) / 1_000_000

    async def _schema(self) -> Finding:
        try:
            found = await self._status()
        except StoreUnavailable as silent:
            return problem("schema", silent.message, "run tulbur doctor again")
        waiting = ", ".join(found.pending)
        detail = f"at {found.current}, pending: {waiting or 'none'}"
        return problem("schema", detail, "run: tulbur migrate") if waiting else fine("schema", detail)

    async def _status(self) -> SchemaStatus:
        from tulbur.stores.choosing import migrations  # noqa: PLC0415 - slow to import

        url = self.settings.database_url
        return await aside(lambda: migrations(url).status(url), LOOK_SECONDS)


def _absent(path: Path) -> Finding | None:
    if path.is_dir() or not path.parent.is_dir():
        return problem("database", f"{path} can be no file", "make its directory, or correct DATABASE_URL")
    if not path.exists():
        return fine("database", f"{path} is not there yet; tulbur serve makes it")
    return None


def _called(scheme: str, hosts: Sequence[tuple[str, int]]) -> str:
    kind = {"postgres": "PostgreSQL", "postgresql": "PostgreSQL", "mysql": "MySQL", "mariadb": "MariaDB"}
    at = ", ".join(f"{name}:{port}" for name, port in hosts)
    return kind.get(scheme, "MongoDB") + (f" at {at}" if at else "")


def _of_silence(silent: StoreUnavailable, told: str, otherwise: str) -> Finding:
    """The SQL drivers say `who: what: what to do`, MongoDB's `what: what to do`; a remedy may be missing in both."""
    who, _, rest = silent.message.partition(": ")
    if " at " not in who:
        who, rest = told, silent.message
    what, _, remedy = rest.partition(": ")
    what = what.replace("MongoDB", "it", 1) if who.startswith("MongoDB") else what
    return problem("database", f"{who}: {what}", remedy or otherwise)


def _kept(told: str, found: Evidence) -> Finding:
    if found.kept:
        return fine("database", f"{told}: what was written was read back over a new connection")
    detail = f"{told}: what was written is not there for a new connection, so sessions do not persist"
    return problem("database", detail, "DATABASE_URL leads to more than one database: name the primary alone")


def _durability(found: Evidence) -> Sequence[Finding]:
    if not found.weaknesses:
        return [fine("durability", "a commit is on its disk before it is answered")]
    return [(problem if weak.serious else remark)("durability", weak.detail, weak.remedy) for weak in found.weaknesses]


def _clock(apart: float) -> Finding:
    if abs(apart) > CLOCK_SECONDS:
        remedy = "synchronise both machines' clocks (chrony, systemd-timesyncd)"
        return problem("database clock", f"ours is {apart:+.0f} s from the database's", remedy)
    return fine("database clock", f"within {CLOCK_SECONDS} s of ours")
