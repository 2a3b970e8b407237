"""The same evidence from MongoDB: a lease read back and removed, the primary's clock, weak spots."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import pymongo
from pymongo.errors import PyMongoError

from tulbur.stores.evidence import Evidence, Weakness
from tulbur.stores.mongo_documents import Document
from tulbur.stores.mongo_migrate import opened
from tulbur.stores.mongo_schema import LEASES

SECONDS: Final = 8.0

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def look(url: str, name: str, owner: str) -> Evidence:
    """Read the lease back over a client of its own, remove it, and look at the replica set's settings.

    Raises:
        SettingsError: DATABASE_URL is wrong.
        StoreUnavailable: the server does not answer, or refuses.
    """
    with pymongo.timeout(SECONDS), opened(url) as database:
        held = database[LEASES].find_one({"_id": name})
        database[LEASES].delete_one({"_id": name, "owner": owner})
        admin = database.client.admin
        now: datetime = admin.command("hello")["localTime"]
        clock = (now.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
        try:
            config: Document = admin.command("replSetGetConfig")["config"]
        except PyMongoError:  # a user that may not, or a router
            config = {}
        kept = held is not None and held["owner"] == owner
        return Evidence(kept, clock, tuple(weaknesses(url, config)))


def weaknesses(url: str, config: Document) -> Iterator[Weakness]:
    """By a replica set's configuration, and by options that our own overrule."""
    if config.get("writeConcernMajorityJournalDefault") is False:
        yield Weakness(
            "MongoDB acknowledges a majority's writes before they are in its journal "
            "(writeConcernMajorityJournalDefault is false): a power cut loses orders that were promised",
            "rs.reconfig() with writeConcernMajorityJournalDefault true",
        )
    given = {option.lower(): value for option, value in parse_qsl(urlsplit(url).query)}
    weak = given.keys() & {"w", "journal", "j", "readconcernlevel", "readpreference"}
    if weak - {"w"} or given.get("w", "majority") != "majority":
        detail = f"{', '.join(sorted(weak))} in DATABASE_URL has no effect: tulbur writes to a majority, always"
        yield Weakness(detail, "take it out, so that nobody relies on it", serious=False)
