"""What a benchmark is made with: database, Valkey, a QPay and one `serve`, each a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from bench.contender import AMOUNT, FEW, Contender
from bench.databases import ENGINES
from bench.pgbench import Limit
from bench.processes import running
from proving.figures.services import API_KEY, QPAY_PASSWORD, SECRET_KEY, Service, migrated, serving
from testbed.servers import Server, Testbed


@dataclass(frozen=True, slots=True)
class QPay:
    """The process that answers for QPay."""

    service: Service

    @property
    def port(self) -> int:
        return self.service.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.service.port}"


@dataclass(frozen=True, slots=True)
class Stage:
    """`limit` and `textbook` are there on PostgreSQL alone, on the server that tulbur uses."""

    kind: str
    tulbur: Contender
    limit: Limit | None
    textbook: Contender | None


@contextlib.asynccontextmanager
async def standing(
    kind: str, testbed: Testbed, folder: Path, *, compared: bool = True, few: int = FEW
) -> AsyncIterator[Stage]:
    """All of it, on new databases of this kind, until the block ends; `serve` runs its worker, as is its default.

    What is not `compared` stands alone. `few` sessions are asked about over and over.

    Raises:
        Missing: the database, or Valkey, cannot be had here.
    """
    async with contextlib.AsyncExitStack() as stack:
        server = await asyncio.to_thread(_started, kind, testbed, stack)
        cache = await asyncio.to_thread(testbed.own, "valkey")
        stack.callback(cache.kill)
        bank = QPay(await stack.enter_async_context(running("bench.qpay", folder, {}, "/", str(AMOUNT))))
        used = {"valkey": cache.pid, "qpay": bank.service.process.pid} | ({kind: server.pid} if server else {})

        url = server.url() if server else f"sqlite:///{folder / 'bench.db'}"
        settings = {"DATABASE_URL": await asyncio.to_thread(migrated, url), "REDIS_URL": cache.url()}
        (service,) = await stack.enter_async_context(serving(folder, bank, [settings]))
        tulbur = Contender(service, bank, url, "tulbur", folder, {"serve": service.process.pid, **used}, few)
        if server is None or kind != "postgres" or not compared:
            yield Stage(kind, tulbur, None, None)
            return

        limit = Limit(server.url(), folder)
        await limit.prepare()
        url = server.url()
        plain = await stack.enter_async_context(running("bench.textbook", folder, _settings(url, bank), "/readyz"))
        textbook = Contender(plain, bank, url, "textbook", folder, {"textbook": plain.process.pid, **used}, few)
        yield Stage(kind, tulbur, limit, textbook)


def _started(kind: str, testbed: Testbed, stack: contextlib.AsyncExitStack) -> Server | None:
    if kind == "sqlite":
        return None
    server = testbed.server(ENGINES[kind])
    server.start()
    stack.callback(server.kill)
    return server


def _settings(url: str, bank: QPay) -> Mapping[str, str]:
    """Of the textbook's server: those that it needs of tulbur's."""
    return {
        "DATABASE_URL": url,
        "PUBLIC_URL": "http://127.0.0.1",
        "QPAY_BASE_URL": bank.url,
        "QPAY_USERNAME": "TEST_TEXTBOOK",
        "QPAY_PASSWORD": QPAY_PASSWORD,
        "QPAY_INVOICE_CODE": "TEST_INVOICE",
        "TULBUR_SECRET_KEYS": SECRET_KEY,
        "TULBUR_API_KEYS": f"shop:read+write:{sha256(API_KEY.encode()).hexdigest()}",
    }
