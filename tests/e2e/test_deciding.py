"""What an operator types when money waits for him, and the library's methods behind it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from tests.e2e.test_commands import tulbur

from tulbur import Tulbur
from tulbur.commands.demo import Demo, demo_settings, running
from tulbur.core.rules import Rules
from tulbur.errors import Conflict, Invalid

pytestmark = pytest.mark.anyio


@pytest.fixture
async def demo(tmp_path: Path) -> AsyncIterator[Demo]:
    async with running(data=tmp_path) as made:
        yield made


@pytest.fixture
def env(demo: Demo) -> dict[str, str]:
    s = demo.settings
    assert s.tulbur_secret_keys is not None
    return {
        "DATABASE_URL": s.database_url,
        "PUBLIC_URL": str(s.public_url),
        "QPAY_BASE_URL": str(s.qpay_base_url),
        "QPAY_USERNAME": str(s.qpay_username),
        "QPAY_PASSWORD": "123456",
        "QPAY_INVOICE_CODE": str(s.qpay_invoice_code),
        "TULBUR_SECRET_KEYS": s.tulbur_secret_keys.get_secret_value(),
    }


async def paid(
    demo: Demo, amount: str = "50000", method: str = "P2P", asked: str = "50000", currency: str = "MNT"
) -> tuple[str, str]:
    """A session and the payment that reached it."""
    session = await demo.tulbur.open(user_id="u1", amount=asked)
    assert session.invoice is not None
    url = f"{demo.simulator_url}/_sim/invoices/{session.invoice.id}/pay"
    said = {"amount": amount, "method": method, "currency": currency}
    async with aiohttp.ClientSession() as http, http.post(url, json=said) as answer:
        payment_id = str((await answer.json())["payment_id"])
    return session.id, payment_id


async def test_an_operator_works_through_the_list(demo: Demo, env: dict[str, str]) -> None:
    assert "Nothing waits" in (await tulbur("payments", env=env)).stdout
    session_id, payment_id = await paid(demo, "60000")
    shown = await tulbur("payments", "--disposition", "refund_due", env=env)
    assert (shown.returncode, shown.stderr) == (0, "")
    for said in (payment_id, session_id, "10000.00", "tulbur payments close ID --reference"):
        assert said in shown.stdout
    asked = await tulbur("sessions", "refund", session_id, payment_id, "--by", "Болд", env=env)
    assert f"pay 10000.00 back, then: tulbur payments close {payment_id} --reference" in asked.stdout
    other = await tulbur("payments", "close", payment_id, "--reference", "KHAN-1", "--by", "Дорж", env=env)
    assert other.returncode == 1
    assert "Болд" in other.stderr
    closed = await tulbur("payments", "close", payment_id, "--reference", "KHAN-1", "--by", "Болд", env=env)
    assert (closed.returncode, closed.stdout) == (0, f"{payment_id} is closed with KHAN-1, by Болд.\n")
    again = await tulbur("payments", "close", payment_id, "--reference", "KHAN-1", "--by", "Болд", "--json", env=env)
    assert json.loads(again.stdout)["refunded"] == "10000.00"
    assert json.loads((await tulbur("payments", "--json", env=env)).stdout) == {"items": [], "next_cursor": None}
    told = await tulbur("sessions", "show", session_id, env=env)
    assert "10000.00 by person, done (Болд) reference KHAN-1" in told.stdout


async def test_short_money_is_accepted_and_a_card_goes_back(demo: Demo, env: dict[str, str]) -> None:
    session_id, _ = await paid(demo, "20000")
    listed = json.loads((await tulbur("payments", "--disposition", "held", "--json", env=env)).stdout)["items"]
    assert [(item["session_id"], item["held"]) for item in listed] == [(session_id, "20000.00")]
    done = await tulbur("sessions", "review", session_id, "accept", "--note", "a regular", "--json", env=env)
    assert (done.returncode, json.loads(done.stdout)["status"]) == (0, "PAID")
    again = await tulbur("sessions", "review", session_id, "accept", env=env)
    assert again.returncode == 1
    assert "has its orders" in again.stderr
    card_session, card = await paid(demo, method="CARD")
    gone = await tulbur("sessions", "refund", card_session, card, "--json", env=env)
    (payment,) = json.loads(gone.stdout)["payments"]
    assert (payment["status"], payment["refunds"][0]["state"]) == ("REFUNDED", "done")


async def test_what_is_to_be_paid_back_names_its_currency(demo: Demo, env: dict[str, str]) -> None:
    session_id, payment_id = await paid(demo, currency="USD")
    assert (await tulbur("sessions", "cancel", session_id, env=env)).returncode == 0
    asked = await tulbur("sessions", "refund", session_id, payment_id, "--by", "Болд", env=env)
    assert f"pay 50000.00 USD back, then: tulbur payments close {payment_id} --reference" in asked.stdout


@pytest.mark.parametrize(
    "typed",
    [
        ("payments", "--disposition", "everything"),
        ("payments", "--cursor", "x"),
        ("payments", "close", "1", "--reference", "a\nb"),
        ("payments", "close", "1"),
        ("sessions", "review", "s", "maybe"),
        ("sessions", "refund", "s", "p", "--amount", "lots"),
        ("sessions", "review", "s", "accept", "--by", ""),
    ],
)
async def test_what_makes_no_sense_is_a_matter_of_usage(typed: tuple[str, ...], env: dict[str, str]) -> None:
    shown = await tulbur(*typed, env=env)
    assert shown.returncode == 2
    assert "Traceback" not in shown.stderr


async def test_who_and_what_is_not_there_is_a_finding(env: dict[str, str]) -> None:
    for typed in (("assign", "1", "s"), ("close", "1", "--reference", "K")):
        shown = await tulbur("payments", *typed, env=env)
        assert (shown.returncode, shown.stderr.count("\n")) == (1, 1)


async def test_the_library_decides_as_the_shop_has_set(demo: Demo, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    own = demo_settings(tmp_path / "own", base_url="http://127.0.0.1:9", simulator_url=demo.simulator_url, api_key="k")
    async with Tulbur(own.model_copy(update={"late_payments": "review", "expired_invoices": "cancel"})) as t:
        assert t.payments.desk.rules == Rules(review_late=True, cancel_expired=True)
        session = await t.open(user_id="u1", amount=50_000)
        assert session.invoice is not None
        url = f"{demo.simulator_url}/_sim/invoices/{session.invoice.id}/pay"
        async with aiohttp.ClientSession() as http, http.post(url, json={"amount": 20_000, "callback": False}) as paid_:
            payment_id = (await paid_.json())["payment_id"]
        await t.check(session.id)
        (listed,) = (await t.waiting("held")).items
        assert (listed.id, listed.session_id, listed.held) == (payment_id, session.id, 20_000)
        with pytest.raises(Conflict, match="cancel it first"):
            await t.close(payment_id, reference="K-1")
        after = await t.review(session.id, "accept", note="a regular", by="bold")
        assert (after.status, len(after.orders)) == ("PAID", 1)
        with pytest.raises(Invalid):
            await t.refund(session.id, payment_id, amount="20000.01")
        with pytest.raises(Invalid):
            await t.review(session.id, "accept", by="two\nlines")
        back = await t.refund(session.id, payment_id, reference="K-1")
        assert back.payments[0].refunds[0].by
        assert back.refunded == 20_000
        with pytest.raises(Conflict):
            await t.assign(payment_id, (await t.open(user_id="u2", amount=1)).id)
