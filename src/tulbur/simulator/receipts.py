"""VAT receipts (e-barimt) and subscriptions: the side services of QPay, with invented but well-formed data.

Source: QPay workbook, "ebarimt_create" and "ebarimt_cancel"; the fields of a subscription are those seen live.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal
from typing import TYPE_CHECKING, Any

from tulbur.simulator.wire import check_row, invoice_body, iso, two_decimals

if TYPE_CHECKING:
    from tulbur.simulator.ids import Ids
    from tulbur.simulator.state import Invoice, Payment

_VAT_SHARE = 11
_VAT_STEP = Decimal("0.0001")


def receipt(payment: Payment, receiver_type: str, receiver: str | None, ids: Ids, now: float) -> dict[str, Any]:
    """The receipt of one payment; VAT is an eleventh of the amount, cut after four decimals."""
    invoice, made = payment.invoice, iso(now)
    return {
        "id": ids.uuid(),
        "ebarimt_by": "QPAY",
        "g_wallet_id": ids.uuid(),
        "g_wallet_customer_id": ids.uuid(),
        "ebarimt_receiver_type": receiver_type,
        "ebarimt_receiver": receiver,
        "ebarimt_district_code": invoice.form.echo.get("district_code", "3505"),
        "ebarimt_bill_type": "1" if receiver_type == "CITIZEN" else "3",
        "g_merchant_id": invoice.merchant.merchant_id,
        "merchant_branch_code": invoice.form.echo.get("sender_branch_code", ""),
        "merchant_terminal_code": None,
        "merchant_staff_code": None,
        "merchant_register_no": "0000000",
        "g_payment_id": payment.id,
        "paid_by": payment.method,
        "object_type": "INVOICE",
        "object_id": invoice.id,
        "amount": two_decimals(payment.amount),
        "vat_amount": str((payment.amount / _VAT_SHARE).quantize(_VAT_STEP, ROUND_DOWN)),
        "city_tax_amount": "0.00",
        "ebarimt_qr_data": ids.digits(120),
        "ebarimt_lottery": f"HV {ids.digits(8)}" if receiver_type == "CITIZEN" else "",
        "note": None,
        "barimt_status": "REGISTERED",
        "barimt_status_date": made,
        "ebarimt_sent_email": None,
        "ebarimt_receiver_phone": "99**99**" if receiver_type == "CITIZEN" else None,
        "tax_type": "1",
        "merchant_tin": "00000000000",
        "ebarimt_receipt_id": ids.digits(33),
        "created_by": invoice.merchant.client_id,
        "created_date": made,
        "updated_by": invoice.merchant.client_id,
        "updated_date": made,
        "status": True,
    }


def cancelled(body: dict[str, Any], now: float) -> dict[str, Any]:
    """The receipt after its cancellation."""
    made = iso(now)
    return {**body, "barimt_status": "CANCELED", "barimt_status_date": made, "updated_date": made}


def cancel_body(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "barimt_items": [], "barimt_transactions": [], "barimt_histories": []}


def subscription(invoice: Invoice) -> dict[str, Any]:
    """The `subscription` of an invoice made with `allow_subscribe`."""
    echo, made = invoice.form.echo, iso(invoice.created_at)
    return {
        "id": invoice.subscription_id,
        "is_active": invoice.subscribed,
        "merchant_id": invoice.merchant.merchant_id,
        "g_invoice_id": invoice.id,
        "webhook": echo.get("subscription_webhook", ""),
        "start_date": made,
        "interval": echo.get("subscription_interval", "1M"),
        "last_interval_date": made,
        "next_payment_date": echo.get("next_payment_date"),
        "note": echo.get("note"),
        "created_by": invoice.merchant.client_id,
        "created_date": made,
        "updated_by": invoice.merchant.client_id,
        "updated_date": made,
        "status": True,
    }


def subscription_body(invoice: Invoice, payments: list[Payment]) -> dict[str, Any]:
    """`GET /v2/subscription/{id}`."""
    return {
        **subscription(invoice),
        "invoices": [invoice_body(invoice, payments)],
        "payments": [check_row(payment) for payment in payments],
    }
