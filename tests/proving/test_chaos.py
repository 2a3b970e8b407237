"""A short storm on real servers; that a planted defect is caught in it; and that each check of the verdict can fail."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proving.chaos import books, judging
from proving.chaos.__main__ import main
from proving.chaos.books import Books
from proving.chaos.faults import OF_PAYERS, Fault
from proving.chaos.places import CLUSTERS, KINDS
from proving.chaos.run import run
from proving.chaos.stage import listed
from proving.chaos.storm import STRIKES, shortest
from proving.chaos.witness import Taken, Witness
from testbed.servers import Testbed
from tulbur.commands.demo import Demo, running

ROOT = Path(__file__).parent.parent.parent
PLANTED = ROOT / "tests" / "proving" / "planted_program.py"

SAMPLE = (Fault.DATABASE_KILLED, Fault.CACHE_FLUSHED, Fault.SERVE_KILLED, Fault.CALLBACK_LATE, Fault.PAYER_LATE)
"""On a loaded machine the storm waits for each of them, and takes longer."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.store("postgres")
@pytest.mark.store("valkey")
def test_servers_and_processes_that_are_killed_while_payments_flow(
    record_property: Callable[[str, object], None],
) -> None:
    chosen = [word for fault in SAMPLE for word in ("--fault", fault.name)]
    command = [sys.executable, "-m", "proving.chaos", "--database", "postgres", *chosen]
    seconds = ["--seconds", str(shortest(SAMPLE))]
    done = subprocess.run([*command, *seconds], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for line in done.stdout.splitlines()[-3:]:
        record_property("told", f"chaos, {line}")


@pytest.mark.anyio
@pytest.mark.store("valkey")
async def test_a_planted_defect_is_caught() -> None:
    """SUCCESS is said a minute before the callback is heard, and a `serve` is killed meanwhile."""
    testbed = Testbed()
    try:
        faults = (Fault.SERVE_KILLED, Fault.PAYER_LATE)
        program = (sys.executable, str(PLANTED), "success-too-soon")
        done = await run("sqlite", testbed, 3, 1, faults, program=program)
    finally:
        await asyncio.to_thread(testbed.close)
    shutil.rmtree(done.kept)
    assert any(broken.startswith("law 5: SUCCESS was answered") for broken in done.broken), done.broken


def test_a_storm_too_short_for_every_fault_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["chaos", "--database", "mongodb", "--seconds", "10"])
    assert main() == 2
    assert capsys.readouterr().err == "--seconds is at least 78: each fault that is listed needs its turn.\n"


@pytest.mark.parametrize("kind", [*KINDS, *CLUSTERS])
def test_whatever_is_listed_can_strike(kind: str) -> None:
    assert set(listed(kind)) <= {*STRIKES, *OF_PAYERS}


def test_every_fault_is_listed_somewhere() -> None:
    assert {fault for kind in (*KINDS, *CLUSTERS) for fault in listed(kind)} == set(Fault)


# --- the verdict, on a database that was doctored


@dataclass
class Case:
    """A database with one session paid, one paid twice, one never paid; and what everybody was told."""

    path: Path
    witness: Witness
    bank: list[Taken]
    pending: bytes
    """The paid session's document, as it was before the payment."""

    async def broken(self, *statements: str) -> list[str]:
        """What the verdict says after the database was changed by hand."""
        with closing(sqlite3.connect(self.path)) as database:
            for statement in statements:
                changed = database.execute(statement, {"pending": self.pending} if ":pending" in statement else {})
                assert changed.rowcount > 0, statement
            database.commit()
        found = await self.books()
        return [*judging.waits(found), *judging.verdict(found, self.witness, self.bank, ("a", "b"))]

    async def books(self) -> Books:
        return await books.read(f"sqlite:///{self.path}")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return asyncio.run(_made(tmp_path_factory.mktemp("made")))


@pytest.fixture
def case(made: Case, tmp_path: Path) -> Case:
    """A copy of one's own."""
    shutil.copy(made.path, tmp_path)
    return replace(made, path=tmp_path / made.path.name)


async def _made(folder: Path) -> Case:
    async with running(data=folder) as demo, aiohttp.ClientSession() as http:
        case = Case(folder / "demo.db", Witness(), [], b"")
        for number, payments in enumerate((1, 2, 0)):
            await _one(http, demo, case, number, payments)
        async with asyncio.timeout(60):
            while [*judging.waits(await case.books())]:
                await asyncio.sleep(0.1)
        async with http.get(f"{demo.simulator_url}/_sim/invoices") as answer:
            case.bank = [
                Taken(one["payment_id"], invoice["sender_invoice_no"], 1000_00, one["currency"], one["status"])
                for invoice in (await answer.json())["items"]
                for one in invoice["payments"]
            ]
    return case


async def _one(http: aiohttp.ClientSession, demo: Demo, case: Case, number: int, payments: int) -> None:
    items = [{"shop_id": shop, "product_id": "p", "quantity": 1, "unit_price": "500"} for shop in ("a", "b")]
    body = {"user_id": "u", "amount": "1000", "items": items, "expires_in": 600 if payments else 1}
    headers = {"Authorization": f"Bearer {demo.api_key}", "Idempotency-Key": f"k{number}"}
    async with http.post(f"{demo.base_url}/v1/sessions", json=body, headers=headers) as answer:
        session: dict[str, Any] = await answer.json()
        assert answer.status == 201, session
    case.witness.opened[f"k{number}"] = {session["id"]}
    if not number:
        case.pending = await _document(case, session["id"])
    for _ in range(payments):
        async with http.post(f"{demo.simulator_url}/_sim/invoices/{session['invoice']['id']}/pay", json={}) as answer:
            paid = await answer.json()
        assert paid["callback"]["body"] == "SUCCESS"
        case.witness.acknowledged[paid["payment_id"]] = session["id"]
        case.witness.told_paid.add(session["id"])


async def _document(case: Case, session_id: str) -> bytes:
    with closing(sqlite3.connect(case.path)) as database:
        [found] = database.execute("SELECT document FROM tulbur_sessions WHERE id = ?", (session_id,)).fetchone()
    return bytes(found)


SECOND_SET = """
    INSERT INTO tulbur_orders SELECT id || 'x', session_id, shop_id || 'x', total, discount, shipping_amount,
    currency, created_at, items FROM tulbur_orders
"""
STRAY = "UPDATE tulbur_orders SET session_id = 'somebody' WHERE id = (SELECT min(id) FROM tulbur_orders)"
PAID_ONCE = "(SELECT session_id FROM tulbur_payments GROUP BY session_id HAVING count(*) = 1)"
PAID_TWICE = "(SELECT session_id FROM tulbur_payments GROUP BY session_id HAVING count(*) = 2)"


@pytest.mark.anyio
async def test_a_database_in_order_breaks_no_law(case: Case) -> None:
    assert not await case.broken()
    statuses = sorted(session.status.value for session in (await case.books()).sessions.values())
    assert statuses == ["EXPIRED", "PAID", "PAID"]
    assert len(case.bank) == len(case.witness.acknowledged) == 3


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("statement", "law"),
    [
        (f"DELETE FROM tulbur_payments WHERE session_id = {PAID_ONCE}", "law 5: SUCCESS was answered"),
        (f"UPDATE tulbur_payments SET session_id = NULL WHERE session_id = {PAID_ONCE}", "law 5: SUCCESS was answered"),
        (f"DELETE FROM tulbur_payments WHERE session_id = {PAID_TWICE} AND ordered = 0", "law 9: payment"),
        ("UPDATE tulbur_payments SET ordered = ordered - 100 WHERE ordered > 0", "do not add up"),
        ("UPDATE tulbur_payments SET amount = 1", "not as at QPay"),
        ("UPDATE tulbur_payments SET held = refund_due, refund_due = 0 WHERE refund_due > 0", "law 6: payment"),
        ("DELETE FROM tulbur_orders", "law 1: session"),
        ("DELETE FROM tulbur_orders WHERE shop_id = 'a'", "law 6: the orders of session"),
        (SECOND_SET, "law 1: session"),
        (
            "UPDATE tulbur_orders SET session_id = 'somebody' WHERE id = (SELECT min(id) FROM tulbur_orders)",
            "law 1: orders of session somebody",
        ),
        ("DELETE FROM tulbur_events WHERE no = 2", "there is a gap"),
        ("DELETE FROM tulbur_events WHERE type = 'order.created'", "law 6: session"),
        ("UPDATE tulbur_events SET no = NULL WHERE no = (SELECT max(no) FROM tulbur_events)", "has no number yet"),
        ("UPDATE tulbur_events SET type = 'session.paid' WHERE type = 'session.invoiced'", "times that it was paid"),
        ("DELETE FROM tulbur_sessions WHERE status = 'EXPIRED'", "was opened, and is not stored"),
        # What a store without its compare-and-set does: an older document is written over a newer one.
        (f"UPDATE tulbur_sessions SET document = :pending WHERE id = {PAID_ONCE}", "law 2: session"),
        (f"UPDATE tulbur_sessions SET document = :pending WHERE id = {PAID_ONCE}", "law 7: session"),
    ],
)
async def test_what_was_done_to_the_database_is_noticed(case: Case, statement: str, law: str) -> None:
    broken = await case.broken(statement)
    assert any(law in one for one in broken), broken


@pytest.mark.anyio
async def test_what_people_were_told_is_held_against_it(case: Case) -> None:
    found = await case.books()
    [expired] = [id_ for id_, session in found.sessions.items() if session.status == "EXPIRED"]
    one, *_ = case.witness.told_paid
    told = replace(case.witness, told_paid={expired}, opened={"k": {one, expired}})
    assert [broken[:5] for broken in judging.told(found, told)] == ["law 1", "law 7"]


@pytest.mark.anyio
async def test_what_qpay_took_is_held_against_it(case: Case) -> None:
    found = await case.books()
    first, *others = case.bank
    for bank, law in (
        (others, "law 3: payment"),
        ([replace(first, sender_invoice_no="nobody's"), *others], "which no session has"),
        ([replace(one, amount=1) for one in case.bank], "law 3: session"),
        ([replace(first, status="REFUNDED"), *others], "not as at QPay"),
    ):
        broken = [*judging.money(found, bank)]
        assert any(law in one for one in broken), broken


def test_a_log_is_searched_for_what_nobody_has_foreseen() -> None:
    foreseen = '{"event": "the database is away: a callback went to the spool", "level": "error"}'
    warning = '{"event": "worker waits", "level": "warning"}'
    error = '{"event": "a look failed", "level": "error", "exception": "…"}'
    log = f"{foreseen}\n{warning}\n{error}\nTraceback (most recent call last):"
    assert [*judging.complaints(log)] == [error, "Traceback (most recent call last):"]
