"""A public QPay client, not ours, works against the simulator over a real socket."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from decimal import Decimal

import aiohttp
import pytest
from qpay_client.v2 import AsyncQPayClient, QPayError, QPaySettings
from qpay_client.v2.enums import InvoiceStatus, ObjectType, PaymentStatus, TransactionType
from qpay_client.v2.schemas import (
    InvoiceCreateSimpleRequest,
    Offset,
    PaymentCheckRequest,
    PaymentRefundRequest,
)
from starlette.applications import Starlette

from tulbur.simulator import create_simulator

pytestmark = pytest.mark.anyio


def settings(base: str) -> QPaySettings:
    return QPaySettings(
        username="TEST_MERCHANT",
        password="123456",
        invoice_code="TEST_INVOICE",
        base_url=f"{base}/v2",
        client_retries=0,
        payment_check_retries=0,
    )


async def test_qpay_client_logs_in_and_creates_checks_gets_and_cancels(
    served: Callable[[Starlette], AbstractAsyncContextManager[str]],
) -> None:
    async with served(create_simulator()) as base, AsyncQPayClient(settings(base)) as client:
        wish = InvoiceCreateSimpleRequest(
            sender_invoice_no="order-1",
            invoice_receiver_code="terminal",
            invoice_description="Цай",
            amount=Decimal(1500),
            callback_url="http://127.0.0.1:9/hook",
        )
        invoice = await client.invoice_create(wish)
        assert len(invoice.urls) == 23
        shown = await client.invoice_get(invoice.invoice_id)
        assert (shown.invoice_status, shown.total_amount) == (InvoiceStatus.open, Decimal("1500.00"))

        question = PaymentCheckRequest(
            object_type=ObjectType.invoice,
            object_id=invoice.invoice_id,
            offset=Offset(page_number=1, page_limit=100),
        )
        unpaid = await client.payment_check(question)
        assert (unpaid.count, unpaid.paid_amount, unpaid.rows) == (0, None, [])

        async with (
            aiohttp.ClientSession(base) as payer,
            payer.post(f"/_sim/invoices/{invoice.invoice_id}/pay", json={"callback": False}) as response,
        ):
            payment_id = (await response.json())["payment_id"]

        paid = await client.payment_check(question)
        assert (paid.count, paid.paid_amount) == (1, Decimal(1500))
        row = paid.rows[0]
        assert (row.payment_id, row.payment_status, row.payment_type) == (
            payment_id,
            PaymentStatus.paid,
            TransactionType.p2p,
        )
        payment = await client.payment_get(payment_id)
        assert (payment.object_id, payment.payment_amount) == (invoice.invoice_id, Decimal(1500))
        closed = await client.invoice_get(invoice.invoice_id)
        assert (closed.invoice_status, len(closed.payments or [])) == (InvoiceStatus.closed, 1)

        with pytest.raises(QPayError, match="PAYMENT_SETTLED"):
            await client.payment_refund(payment_id, PaymentRefundRequest(note="x"))
        with pytest.raises(QPayError, match="INVOICE_PAID"):
            await client.invoice_cancel(invoice.invoice_id)

        other = await client.invoice_create(wish)
        assert await client.invoice_cancel(other.invoice_id) == 200
        with pytest.raises(QPayError, match="INVOICE_ALREADY_CANCELED"):
            await client.invoice_cancel(other.invoice_id)


async def test_qpay_client_logs_in_again_after_its_token_was_taken(
    served: Callable[[Starlette], AbstractAsyncContextManager[str]],
) -> None:
    async with (
        served(create_simulator()) as base,
        AsyncQPayClient(settings(base)) as first,
        AsyncQPayClient(settings(base)),
    ):
        with pytest.raises(QPayError, match="INVOICE_NOTFOUND"):
            await first.invoice_get("none")
