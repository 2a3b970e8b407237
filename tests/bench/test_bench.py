"""A sample of the benchmark in each test run: effects are counted, and what was lost or answered wrongly fails it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bench import load, qpay
from bench.contender import Contender, EffectsMissing, Run
from bench.empty import Empty
from bench.load import Load, LoadFailed, Wanted
from bench.measuring import ROWS, Plan, run
from bench.page import page
from bench.processes import running
from bench.results import FIGURES, Cell, Results
from bench.stage import standing
from proving.figures.wire import request
from testbed.plugin import TestServers
from testbed.servers import Testbed
from tulbur.settings import sqlite_path

pytestmark = pytest.mark.anyio

SECONDS = 0.3
FEW = 20

LOSE = "CREATE TRIGGER lose AFTER INSERT ON tulbur_orders BEGIN DELETE FROM tulbur_orders WHERE id = NEW.id; END"


@pytest.fixture
def testbed(servers: TestServers) -> Iterator[Testbed]:
    servers.admin_url("valkey")  # skips where it cannot be had
    made = Testbed()
    yield made
    made.close()


@pytest.mark.usefixtures("wrk")
@pytest.mark.store("sqlite")
@pytest.mark.store("valkey")
async def test_every_row_is_measured_and_its_effects_are_there(testbed: Testbed) -> None:
    plan = Plan(["sqlite"], rounds=1, seconds=SECONDS, few=FEW)
    results = await run(plan, testbed, lambda _: None)
    assert results.failures == []
    assert {cell.row for cell in results.runs} == set(ROWS)
    assert all(runs[0].load.answered >= cell.at_once for cell, runs in results.runs.items())
    assert all(runs[0].cpu["serve"] > 0 for runs in results.runs.values())
    assert results.memory["sqlite", "serve"] > 0
    shown = page(results, commit="c", command="make bench", seconds=1)
    assert all(f"| sqlite   | {row}" in shown for row in ROWS)


@pytest.mark.usefixtures("wrk")
@pytest.mark.store("sqlite")
@pytest.mark.store("valkey")
async def test_an_order_that_was_acknowledged_and_lost_fails_the_run(testbed: Testbed, tmp_path: Path) -> None:
    async with standing("sqlite", testbed, tmp_path, few=FEW) as stage:
        tulbur: Contender = stage.tulbur
        tulbur.settled_seconds = 1
        with closing(sqlite3.connect(str(sqlite_path(tulbur.url)))) as other:
            other.execute(LOSE)
            other.commit()
        with pytest.raises(EffectsMissing, match="orders=0"):
            await tulbur.run("paid", 4, SECONDS)


@pytest.mark.usefixtures("wrk")
async def test_a_wrong_answer_fails_the_run(tmp_path: Path) -> None:
    requests = [request("GET", f"/{number}") for number in range(50)]
    async with running("bench.empty", tmp_path, {}, "/") as empty:
        with pytest.raises(LoadFailed, match="50 of 50 answers were wrong, the first: 200 SUCCESS"):
            await load.run(empty.port, requests, Wanted(200, "PAID"), tmp_path, at_once=4, seconds=30, once=True)
        with pytest.raises(LoadFailed, match="the first: 200 SUCCESS"):
            await load.run(empty.port, requests, Wanted(201, ""), tmp_path, at_once=4, seconds=30, once=True)


@pytest.mark.usefixtures("wrk")
@pytest.mark.parametrize("at_once", [1, 16])
async def test_each_request_is_sent_once(tmp_path: Path, at_once: int) -> None:
    requests = [request("GET", f"/{number}") for number in range(500)]
    seen: list[bytes] = []

    class Recording(Empty):
        def data_received(self, data: bytes) -> None:
            seen.append(data)
            super().data_received(data)

    server = await asyncio.get_running_loop().create_server(Recording, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        wanted = Wanted(200, "SUCCESS")
        done = await load.run(port, requests, wanted, tmp_path, at_once=at_once, seconds=30, once=True)
    assert sorted(seen) == sorted(requests)
    assert done.answered == 500
    assert 0 < done.seconds < 30
    assert 0 < done.p50_ms <= done.p99_ms


async def test_qpay_says_what_the_simulator_says() -> None:
    books = qpay.Books(await qpay.learned(1000), 1000)
    status, made = books.answer("POST", "/v2/invoice", b'{"amount": 1000}')
    _, other = books.answer("POST", "/v2/invoice", b'{"amount": 1000}')
    assert status == 200
    invoice_id = json.loads(made)["invoice_id"]
    assert json.loads(made).keys() >= {"invoice_id", "qr_text", "qr_image", "qPay_shortUrl", "urls"}
    asked = json.dumps({"object_id": invoice_id}).encode()
    assert json.loads(books.answer("POST", "/v2/payment/check", asked)[1])["rows"] == []
    payment_id = json.loads(books.answer("POST", f"/_sim/invoices/{invoice_id}/pay", b"{}")[1])["payment_id"]
    (row,) = json.loads(books.answer("POST", "/v2/payment/check", asked)[1])["rows"]
    assert (row["payment_id"], row["payment_status"]) == (payment_id, "PAID")
    asked = json.dumps({"object_id": json.loads(other)["invoice_id"]}).encode()
    assert json.loads(books.answer("POST", "/v2/payment/check", asked)[1])["rows"] == []
    assert books.answer("GET", "/v2/payment/1", b"")[0] == 501
    assert books.answer("POST", "/v2/invoice", b'{"amount": 1001}')[0] == 501


def _measured(rate: float, p99_ms: float) -> Run:
    return Run(Load(int(rate), 1.0, p99_ms / 2, p99_ms, 0.1), {"serve": 1.0, "qpay": 0.5, "wrk": 0.1})


@pytest.mark.parametrize(
    ("rate", "p99_ms", "reached"), [(250, 50, True), (249, 50, False), (250, 51, False)], ids=["both", "rate", "p99"]
)
def test_a_figure_is_reached_by_share_and_by_latency(rate: float, p99_ms: float, reached: bool) -> None:
    cell = Cell("postgres", "tulbur", "paid", 16)
    results = Results()
    results.limit[16].extend([900, 1000, 5000])
    results.runs[cell].extend([_measured(rate, p99_ms)] * 3)
    assert results.share(cell) == rate / 1000
    assert results.reached(cell) is reached


def test_figures_are_of_tulbur_on_postgresql_alone() -> None:
    for kind, server in (("sqlite", "tulbur"), ("postgres", "textbook")):
        assert all(Results().figure(Cell(kind, server, row, at_once)) is None for row, at_once in FIGURES)
