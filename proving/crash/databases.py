"""The databases a table is made for: how to open one, empty it, and lose the answer to its commits."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import PyMongoError
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import OperationalError

from proving.crash.shared import Edge
from proving.crash.strikes import Striker
from tulbur.stores import choosing
from tulbur.stores.harnesses import empty
from tulbur.stores.mongo import MongoStore
from tulbur.stores.mongo_harness import emptied
from tulbur.stores.network import NetworkStore
from tulbur.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

DATABASES: Final = ("sqlite", "postgres", "mariadb", "mongodb")

_MEMORY_DISK: Final = Path("/dev/shm")  # noqa: S108 - only speed depends on it

LOST: Final = "the answer was lost"


@dataclass(frozen=True, slots=True)
class Place:
    """One database, used by one trial at a time."""

    kind: str
    url: str

    def store(self, striker: Striker) -> Kept:
        """A store of the shipped code, the answers to whose commits can be lost; not started."""
        clock = striker.shared.clock
        if self.kind == "sqlite":
            return Sqlite(striker, self.url, clock)
        if self.kind == "mongodb":
            return Mongo(striker, self.url, clock)
        return Network(striker, self.url, clock)

    def threads(self, store: object) -> list[Executor]:
        """The threads in which a started store runs what it is asked."""
        lanes = (store._writer, store._reader) if isinstance(store, SqliteStore) else ()
        return [lane._pool for lane in lanes if lane is not None]

    async def lapse(self) -> None:
        """Let the time pass after which MongoDB itself ends what a dead process left open: a minute."""
        if self.kind == "mongodb":
            client: AsyncMongoClient[dict[str, Any]]
            async with AsyncMongoClient(self.url) as client:
                await client.admin.command("killAllSessions", [])

    def kept(self) -> bytes | None:
        """All that it holds, where that is a file and nobody has it open."""
        return Path(self.url).read_bytes() if self.kind == "sqlite" else None

    def put_back(self, kept: bytes) -> None:
        for path in Path(self.url).parent.glob(Path(self.url).name + "*"):
            path.unlink()
        Path(self.url).write_bytes(kept)

    async def empty(self, striker: Striker) -> None:
        """A server's; a file is made anew."""
        if self.kind == "mongodb":
            await self.lapse()
            await emptied(self.url)
        else:
            store = Network(striker, self.url)
            await store.start()
            await store._write(empty)
            await store.stop()


def sqlite_place() -> tuple[Place, tempfile.TemporaryDirectory[str]]:
    """A new file, on a memory disk where there is one; a kill of a process loses nothing of what it wrote."""
    folder = tempfile.TemporaryDirectory(prefix="crash-", dir=_MEMORY_DISK if _MEMORY_DISK.is_dir() else None)
    path = str(Path(folder.name) / "t.db")
    choosing.migrations(f"sqlite:///{path}").up(path)
    return Place("sqlite", path), folder


def migrated(kind: str, url: str) -> Place:
    choosing.migrations(url).up(url)
    return Place(kind, url)


class Sqlite(SqliteStore):
    def __init__(self, striker: Striker, path: str, clock: Callable[[], int] | None = None) -> None:
        super().__init__(path, clock)
        self.striker = striker

    def _send_commit(self, connection: Connection) -> None:
        super()._send_commit(connection)
        if self.striker.reach(Edge.LOST_COMMIT, "COMMIT"):
            raise OperationalError("COMMIT", None, ConnectionError(LOST))


class Network(NetworkStore):
    def __init__(self, striker: Striker, url: str, clock: Callable[[], int] | None = None) -> None:
        super().__init__(url, clock, pool_size=4)
        self.striker = striker

    async def _send_commit(self, connection: AsyncConnection) -> None:
        await super()._send_commit(connection)
        if self.striker.reach(Edge.LOST_COMMIT, "COMMIT"):
            raise OperationalError("COMMIT", None, ConnectionError(LOST))


class Mongo(MongoStore):
    def __init__(self, striker: Striker, url: str, clock: Callable[[], int] | None = None) -> None:
        super().__init__(url, clock)
        self.striker = striker

    async def _send_commit(self, session: AsyncClientSession) -> None:
        await super()._send_commit(session)
        if self.striker.reach(Edge.LOST_COMMIT, "commitTransaction"):
            raise PyMongoError(LOST)


Kept: TypeAlias = Sqlite | Network | Mongo
"""A store whose `striker` may be another one in the next trial."""


class _Compiled(dict[Any, Any]):
    """Statements that SQLAlchemy has compiled, by the name of a dialect and not by each engine's own object of it."""

    def get(self, key: Any, default: Any = None) -> Any:  # noqa: ANN401 - SQLAlchemy's
        return super().get((key[0].name, *key[1:]), default)

    def __setitem__(self, key: Any, compiled: Any) -> None:  # noqa: ANN401 - SQLAlchemy's
        super().__setitem__((key[0].name, *key[1:]), compiled)


_COMPILED: Final = _Compiled()


def keep_compiled() -> None:
    """Let all engines of this process, and of those it forks, share what is compiled: no trial shows anything of it."""
    if not event.contains(Engine, "engine_connect", _use_compiled):
        event.listen(Engine, "engine_connect", _use_compiled)


def _use_compiled(connection: Connection) -> None:
    connection.execution_options(compiled_cache=_COMPILED)
