"""The bodies QPay answers with: names, order and types of every field.

Source: the JSON examples of the QPay workbook and bodies seen live. Rows of `payment/check` hold amounts as strings
with two decimals, `paid_amount` and the sums of an invoice are numbers, and a card's fields are named differently in
`payment/check` and `payment/{id}`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tulbur.simulator.faults import ShapeFaults
    from tulbur.simulator.state import Invoice, Payment
    from tulbur.simulator.tokens import Session

UNKNOWN_STATUS = "SIMULATOR_UNKNOWN"
_STATUS_FIELDS = {"payment_status", "invoice_status"}
_BANK = {"transaction_bank_code": "050000", "account_bank_code": "050000", "account_bank_name": "Хаан банк"}


def iso(seconds: float) -> str:
    """JavaScript's `toISOString`: UTC, milliseconds, Z."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def two_decimals(amount: Decimal) -> str:
    return f"{amount:.2f}"


def token(session: Session) -> dict[str, Any]:
    """Both expiries are the same absolute epoch second, and the policy is a string."""
    return {
        "token_type": "bearer",
        "refresh_expires_in": session.expires_at,
        "refresh_token": session.refresh_token,
        "access_token": session.access_token,
        "expires_in": session.expires_at,
        "scope": "get_token",
        "not-before-policy": "0",
        "session_state": "sandbox",
    }


def _made_line(invoice: Invoice) -> dict[str, Any]:
    return {
        "tax_product_code": None,
        "line_description": invoice.form.description,
        "line_quantity": "1.00",
        "line_unit_price": two_decimals(invoice.form.amount),
        "note": "",
        "discounts": [],
        "surcharges": [],
        "taxes": [],
    }


def invoice_body(invoice: Invoice, payments: Sequence[Payment]) -> dict[str, Any]:
    """`GET /v2/invoice/{id}`, as far as the given payments are known."""
    form, echo = invoice.form, invoice.form.echo
    created = iso(invoice.created_at)
    return {
        "invoice_id": invoice.id,
        "invoice_status": invoice.status(payments),
        "sender_invoice_no": form.sender_invoice_no,
        "sender_branch_code": echo.get("sender_branch_code", ""),
        "sender_branch_data": echo.get("sender_branch_data"),
        "sender_staff_code": echo.get("sender_staff_code", ""),
        "sender_staff_data": echo.get("sender_staff_data"),
        "sender_terminal_code": echo.get("sender_terminal_code"),
        "sender_terminal_data": echo.get("sender_terminal_data"),
        "invoice_description": form.description,
        "invoice_due_date": echo.get("invoice_due_date"),
        "enable_expiry": form.enable_expiry,
        # QPay answers the creation instant here even when nothing expires, and enforces nothing.
        "expiry_date": echo.get("expiry_date", created) if form.enable_expiry else created,
        "allow_partial": form.allow_partial,
        "minimum_amount": two_decimals(form.minimum_amount or Decimal(0)),
        "allow_exceed": form.allow_exceed,
        "maximum_amount": two_decimals(form.maximum_amount or Decimal(0)),
        "total_amount": two_decimals(form.amount),
        "gross_amount": form.amount,
        "tax_amount": 0,
        "surcharge_amount": 0,
        "discount_amount": 0,
        "callback_url": form.callback_url,
        "note": echo.get("note"),
        "lines": echo.get("lines") or [_made_line(invoice)],
        "transactions": echo.get("transactions") or [],
        "inputs": [],
        "payments": [check_row(payment) for payment in payments],
    }


def _bank_transaction(payment: Payment) -> dict[str, Any]:
    return {
        **_BANK,
        "account_number": "50*******",
        "status": "SUCCESS" if payment.status != "FAILED" else "FAILED",
        "amount": two_decimals(payment.amount - payment.fee),
        "currency": payment.currency,
        "settlement_status": "SETTLED",
    }


def _check_card(payment: Payment) -> dict[str, Any]:
    paid = iso(payment.paid_at)
    return {
        "card_type": "VISA",
        "is_cross_border": False,
        "amount": two_decimals(payment.amount),
        "currency": payment.currency,
        "date": paid,
        "status": "SUCCESS" if payment.status != "FAILED" else "FAILED",
        "settlement_status": "PENDING",
        "settlement_status_date": paid,
    }


def _get_card(payment: Payment) -> dict[str, Any]:
    paid = iso(payment.paid_at)
    return {
        "card_merchant_code": "0000000000",
        "card_terminal_code": "00000000",
        "card_number": "400000******0002",
        "card_type": "VISA",
        "is_cross_border": False,
        "transaction_amount": two_decimals(payment.amount),
        "transaction_currency": payment.currency,
        "transaction_date": paid,
        "transaction_status": "SUCCESS" if payment.status != "FAILED" else "FAILED",
        "settlement_status": "PENDING",
        "settlement_status_date": paid,
    }


def check_row(payment: Payment) -> dict[str, Any]:
    """A row of `payment/check`; it names neither date nor invoice."""
    card = payment.method == "CARD"
    customer = {} if card else {"ebarimt_customer_no": None}
    return {
        "payment_id": payment.id,
        "payment_status": payment.status,
        "payment_amount": two_decimals(payment.amount),
        **customer,
        "trx_fee": two_decimals(payment.fee),
        "payment_currency": payment.currency,
        "payment_wallet": payment.wallet,
        "payment_type": payment.method,
        "next_payment_date": None,
        "next_payment_datetime": None,
        "card_transactions": [_check_card(payment)] if card else [],
        "p2p_transactions": [] if card else [_bank_transaction(payment)],
    }


def check_body(payments: Sequence[Payment], page: Sequence[Payment]) -> dict[str, Any]:
    """`payment/check`; without any payment there is no `paid_amount` at all."""
    if not payments:
        return {"count": 0, "rows": []}
    paid = sum((payment.amount for payment in payments if payment.received), Decimal(0))
    return {"count": len(payments), "paid_amount": paid, "rows": [check_row(payment) for payment in page]}


def payment_body(payment: Payment) -> dict[str, Any]:
    """`GET /v2/payment/{id}`, the only way from a callback back to the invoice."""
    card = payment.method == "CARD"
    return {
        "payment_id": payment.id,
        "payment_status": payment.status,
        "payment_fee": two_decimals(payment.fee),
        "payment_amount": two_decimals(payment.amount),
        "payment_currency": payment.currency,
        "payment_date": iso(payment.paid_at),
        "payment_wallet": payment.wallet,
        "object_type": "INVOICE",
        "object_id": payment.invoice.id,
        "next_payment_date": None,
        "next_payment_datetime": None,
        "transaction_type": payment.method,
        "card_transactions": [_get_card(payment)] if card else [],
        "p2p_transactions": [] if card else [{"id": payment.transaction_id, **_bank_transaction(payment)}],
    }


def list_row(payment: Payment) -> dict[str, Any]:
    """A row of `payment/list`; `object_id` is the invoice."""
    return {
        "payment_id": payment.id,
        "payment_date": iso(payment.paid_at),
        "payment_status": payment.status,
        "payment_fee": two_decimals(payment.fee),
        "payment_amount": two_decimals(payment.amount),
        "payment_currency": payment.currency,
        "payment_wallet": payment.wallet,
        "payment_name": "",
        "payment_description": payment.invoice.form.description,
        "qr_code": payment.invoice.qr_text,
        "paid_by": payment.method,
        "object_type": "INVOICE",
        "object_id": payment.invoice.id,
        "next_payment_date": None,
        "next_payment_datetime": None,
    }


def shaped(value: object, shape: ShapeFaults) -> object:
    """The same body with the oddities that are switched on, at every depth."""
    if isinstance(value, dict):
        body = {key: shaped(item, shape) for key, item in value.items()}
        if shape.unknown_status:
            body |= dict.fromkeys(_STATUS_FIELDS & body.keys(), UNKNOWN_STATUS)
        if shape.unknown_fields:
            body["simulator_unknown_field"] = {"list": [None, True, "өөр"], "object": {}}
        return body
    if isinstance(value, list):
        return [shaped(item, shape) for item in value]
    if shape.numbers_as_strings and isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return f"{value:f}" if isinstance(value, Decimal) else str(value)
    return value
