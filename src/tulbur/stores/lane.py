"""One thread with one connection: work goes through it in the order in which it was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection

from tulbur.errors import StoreUnavailable

T = TypeVar("T")


class Lane:
    """Runs functions of its connection, which it opens when needed and again after it was dropped."""

    def __init__(self, name: str, connect: Callable[[], Connection], most_waiting: int) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=f"tulbur-{name}")
        self._connect = connect
        self._most_waiting = most_waiting
        self._waiting = 0
        self._closed = False
        self._connection: Connection | None = None

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in the thread; it is finished there even when whoever awaits it is cancelled.

        Raises:
            StoreUnavailable: too much work waits already, or the lane is closed.
        """
        if self._closed:
            raise StoreUnavailable("the store is stopped")
        if self._waiting >= self._most_waiting:
            raise StoreUnavailable("too many calls wait for the database; try again")
        return await self._submit(work)

    async def close(self) -> None:
        """Wait for the work under way, then close the connection and end the thread."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._submit(self.drop)
        finally:
            self._pool.shutdown(wait=False)

    def connection(self) -> Connection:
        """The connection; to be called in the thread only."""
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def ongoing(self) -> Connection | None:
        """The connection if it is open; to be called in the thread only."""
        return self._connection

    def drop(self) -> None:
        """Close the connection, whatever state it is in; to be called in the thread only."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def _submit(self, work: Callable[[], T]) -> T:
        self._waiting += 1
        done = asyncio.get_running_loop().run_in_executor(self._pool, work)
        done.add_done_callback(self._left)
        return await asyncio.shield(done)

    def _left(self, _: object) -> None:
        self._waiting -= 1
