"""Three MongoDB servers as one replica set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from testbed.binaries import Missing
from testbed.clusters.cluster import Cluster, at_once, until
from testbed.mongodb import REPLICA_SET, MongoDB
from testbed.servers import Server

MEMBERS: Final = 3

ELECTION_SECONDS: Final = 4
"""How long a primary may be silent; MongoDB's own 10 s would only make the test longer."""


class _Member(MongoDB):
    """One of several, which is not told at its start who the others are."""

    def admin_url(self, port: int) -> str:
        return f"mongodb://127.0.0.1:{port}/?directConnection=true"

    def answers(self, admin_url: str) -> bool:
        return _ask(admin_url, "ping") is not None


class ReplicaSet(Cluster):
    name = "replica set"

    def start(self) -> None:
        members = [self._node(_Member()) for _ in range(MEMBERS)]
        at_once(members)
        config = {
            "_id": REPLICA_SET,
            "members": [{"_id": n, "host": f"127.0.0.1:{node.port}"} for n, node in enumerate(members)],
            "settings": {"electionTimeoutMillis": ELECTION_SECONDS * 1000},
        }
        if _ask(members[0].admin_url, "replSetInitiate", config) is None:
            raise Missing("the replica set cannot be initiated")
        until(self.whole, "the replica set had no primary and two secondaries")

    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"mongodb://{hosts}/{self._next_name()}?replicaSet={REPLICA_SET}"

    def primary(self) -> Server:
        """Who is it; waits for an election."""
        return until(lambda: next((node for node in self.nodes if _role(node) == "primary"), None), "has no primary")

    def whole(self) -> bool:
        """Whether every member has caught up."""
        return sorted(_role(node) for node in self.nodes) == ["primary", "secondary", "secondary"]


def _role(node: Server) -> str:
    hello = _ask(node.admin_url, "hello") if node.running() else None
    if hello is None:
        return ""
    return "primary" if hello.get("isWritablePrimary") else "secondary" if hello.get("secondary") else "other"


def _ask(admin_url: str, command: str, value: object = 1) -> Mapping[str, Any] | None:
    """The answer of one server, or None."""
    from pymongo import MongoClient  # noqa: PLC0415 - of the extra that these servers are for
    from pymongo.errors import PyMongoError  # noqa: PLC0415 - likewise

    client: MongoClient[dict[str, Any]]
    with MongoClient(admin_url, serverSelectionTimeoutMS=500, connectTimeoutMS=2000, socketTimeoutMS=10_000) as client:
        try:
            return client.admin.command(command, value)
        except PyMongoError:
            return None
