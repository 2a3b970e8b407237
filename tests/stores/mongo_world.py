"""What tests of the MongoDB store share: databases that are ready, and a way to them that can be disturbed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

from pymongo import AsyncMongoClient
from tests.proxy import Proxy, proxied

from tulbur.stores.mongo import MongoStore
from tulbur.stores.mongo_link import database_name


def port_of(url: str) -> int:
    return int(urlsplit(url).port or 0)


@contextlib.asynccontextmanager
async def started(url: str, **options: Any) -> AsyncIterator[MongoStore]:
    store = MongoStore(url, **options)
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


@contextlib.asynccontextmanager
async def disturbed(url: str, *watched: bytes, **options: Any) -> AsyncIterator[tuple[MongoStore, Proxy]]:
    """A started store that reaches the database through a proxy."""
    async with proxied(port_of(url), *watched) as proxy:
        through = f"mongodb://127.0.0.1:{proxy.port}/{database_name(url)}?directConnection=true"
        async with started(through, **options) as store:
            yield store, proxy


@contextlib.asynccontextmanager
async def raw(url: str) -> AsyncIterator[Any]:
    """The database as anybody else may use it."""
    client: AsyncMongoClient[Any]
    async with AsyncMongoClient(url) as client:
        yield client.get_database(database_name(url))
