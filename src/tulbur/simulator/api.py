"""What each call of the QPay API does; every function takes a Call and returns the body of a 200.

Source: QPay workbook, one sheet per call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tulbur.simulator import banks, emv, receipts, wire
from tulbur.simulator.errors import invalid, refusal
from tulbur.simulator.forms import invoice_form

if TYPE_CHECKING:
    from tulbur.simulator.dispatch import Call
    from tulbur.simulator.state import Invoice, Payment

NOTE_CHARACTERS = 255
_CHECKED_OBJECTS = {"INVOICE", "QR", "ITEM"}
_LISTED_OBJECTS = {"INVOICE", "QR", "MERCHANT"}


def token(call: Call) -> dict[str, Any]:
    faults = call.simulator.faults.current.token
    return wire.token(call.simulator.tokens.log_in(call.authorization, faults, call.now))


def refresh(call: Call) -> dict[str, Any]:
    faults = call.simulator.faults.current.token
    return wire.token(call.simulator.tokens.refresh(call.authorization, faults, call.now))


def invoice_create(call: Call) -> dict[str, Any]:
    """A new invoice with its QR and its bank links; a number used before makes another invoice."""
    merchant, simulator = call.merchant(), call.simulator
    faults = simulator.faults.current.invoice
    form = invoice_form(call.json())
    invoice = simulator.ledger.add(merchant, form, call.now, unique=faults.reject_duplicates)
    page = simulator.page(invoice, call.base_url) if simulator.bank_links else None
    body = {
        "invoice_id": invoice.id,
        "qr_text": invoice.qr_text,
        "qr_image": "" if faults.empty_qr_image else emv.qr_image(invoice.qr_text),
        "qPay_shortUrl": page or f"https://sandbox-s.qpay.mn/{invoice.short_code}",
        "urls": banks.deep_links(invoice.qr_text, page),
    }
    return body if invoice.subscription_id is None else {**body, "subscription": receipts.subscription(invoice)}


def invoice_get(call: Call) -> dict[str, Any]:
    invoice = call.simulator.ledger.invoice(call.merchant(), call.path["id"])
    return wire.invoice_body(invoice, invoice.visible(call.now))


def invoice_cancel(call: Call) -> dict[str, Any]:
    call.simulator.ledger.cancel(call.merchant(), call.path["id"])
    return {}


def payment_get(call: Call) -> dict[str, Any]:
    return wire.payment_body(call.simulator.ledger.payment(call.merchant(), call.path["id"], call.now))


def payment_check(call: Call) -> dict[str, Any]:
    """The payments of one invoice; an id nobody knows is an invoice nobody paid."""
    merchant, fields = call.merchant(), call.fields()
    kind = fields.text("object_type", 45, required=True)
    object_id = fields.text("object_id", 255, required=True)
    page = fields.page()
    fields.finish()
    if kind not in _CHECKED_OBJECTS:
        raise refusal("INVALID_OBJECT_TYPE")
    invoice = call.simulator.ledger.invoices.get(object_id or "") if kind == "INVOICE" else None
    if invoice is None or invoice.merchant.login != merchant.login:
        return wire.check_body([], [])
    _count_check(call, invoice)
    payments = invoice.visible(call.now)
    return wire.check_body(payments, page.of(payments))


def _count_check(call: Call, invoice: Invoice) -> None:
    reason = invoice.checks.seen(call.now)
    if reason:
        call.simulator.journal.polling(invoice.id, invoice.checks.count, reason, call.now)


def payment_list(call: Call) -> dict[str, Any]:
    """Payments of an invoice code or of the whole merchant within a window of time, oldest first."""
    merchant, fields = call.merchant(), call.fields()
    kind = fields.text("object_type", 45, required=True)
    object_id = fields.text("object_id", 255, required=True)
    start, end = fields.moment("start_date"), fields.moment("end_date")
    page = fields.page(most=None)
    fields.finish()
    if kind not in _LISTED_OBJECTS:
        raise refusal("INVALID_OBJECT_TYPE")
    if kind == "MERCHANT" and object_id != merchant.merchant_id:
        raise refusal("PERMISSION_DENIED")
    # QPay's sandbox breaks down on big pages instead of refusing them.
    if page.limit > 100:
        raise refusal("SYSTEM_BUSY")
    filters = {name: fields.raw(f"merchant_{name}_code") for name in ("branch", "terminal", "staff")}
    rows = [
        payment
        for payment in call.simulator.ledger.of_merchant(merchant, call.now)
        if (kind == "MERCHANT" or (kind == "INVOICE" and payment.invoice.form.invoice_code == object_id))
        and (start is None or payment.paid_at >= start)
        # The window is told in whole seconds, and its last second belongs to it.
        and (end is None or payment.paid_at < end + 1)
        and _sent_by(payment, filters)
    ]
    return {"count": len(rows), "rows": [wire.list_row(payment) for payment in page.of(rows)]}


def _sent_by(payment: Payment, filters: dict[str, object]) -> bool:
    echo = payment.invoice.form.echo
    return all(not code or echo.get(f"sender_{name}_code") == code for name, code in filters.items())


def payment_give_back(call: Call) -> dict[str, Any]:
    """`payment/cancel` and `payment/refund`: the whole of a card payment, never a bank payment."""
    merchant, fields = call.merchant(), call.fields()
    fields.text("note", NOTE_CHARACTERS)
    fields.text("callback_url", NOTE_CHARACTERS)
    fields.finish()
    ledger = call.simulator.ledger
    ledger.give_back(ledger.payment(merchant, call.path["id"], call.now))
    return {}


def ebarimt_create(call: Call) -> dict[str, Any]:
    """The receipt of a paid payment; asking again gives the same receipt."""
    merchant, fields = call.merchant(), call.fields()
    payment_id = fields.text("payment_id", 45, required=True)
    receiver_type = fields.text("ebarimt_receiver_type", 45, required=True)
    receiver = fields.text("ebarimt_receiver", 100)
    fields.finish()
    if receiver_type not in {"CITIZEN", "COMPANY"}:
        raise invalid({"ebarimt_receiver_type": ("INVALID", "Invalid!")})
    simulator = call.simulator
    payment = simulator.ledger.payment(merchant, payment_id or "", call.now)
    if payment.status != "PAID":
        raise refusal("PAYMENT_NOT_PAID")
    known = simulator.ledger.receipts.get(payment.id)
    if known is None or known["barimt_status"] != "REGISTERED":
        known = receipts.receipt(payment, receiver_type, receiver, simulator.ids, call.now)
        simulator.ledger.receipts[payment.id] = known
    return known


def ebarimt_get(call: Call) -> dict[str, Any]:
    """A receipt by its payment's id or by its own."""
    return call.simulator.ledger.receipts[_receipt_key(call, "BARIMT_NOT_FOUND")]


def ebarimt_cancel(call: Call) -> dict[str, Any]:
    key = _receipt_key(call, "EBARIMT_NOT_REGISTERED")
    fields = call.fields()
    fields.text("note", NOTE_CHARACTERS)
    fields.finish()
    books = call.simulator.ledger.receipts
    if books[key]["barimt_status"] != "REGISTERED":
        raise refusal("EBARIMT_NOT_REGISTERED")
    books[key] = receipts.cancelled(books[key], call.now)
    return receipts.cancel_body(books[key])


def _receipt_key(call: Call, missing: str) -> str:
    merchant, wanted = call.merchant(), call.path["id"]
    ledger = call.simulator.ledger
    found = wanted if wanted in ledger.receipts else None
    if found is None:
        found = next((key for key, body in ledger.receipts.items() if body["id"] == wanted), None)
    if found is None or ledger.payments[found].invoice.merchant.login != merchant.login:
        raise refusal(missing)
    return found


def subscription_get(call: Call) -> dict[str, Any]:
    invoice = _subscribed(call)
    return receipts.subscription_body(invoice, invoice.visible(call.now))


def subscription_cancel(call: Call) -> dict[str, Any]:
    _subscribed(call).subscribed = False
    return {}


def _subscribed(call: Call) -> Invoice:
    merchant = call.merchant()
    invoice = call.simulator.ledger.subscriptions.get(call.path["id"])
    if invoice is None or invoice.merchant.login != merchant.login:
        raise refusal("INVOICE_NOTFOUND")
    return invoice
