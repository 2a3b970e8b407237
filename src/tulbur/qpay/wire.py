"""QPay's JSON <-> core: what is sent, and what an answer means. Pure.

Keys QPay does not document are ignored, keys it leaves out are missing without harm where harm can be avoided, statuses
are open texts. A payment row that cannot be read is no payment: the page says that it is not complete.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from tulbur.core.money import Mongo, is_whole_tugrik
from tulbur.core.session import SECOND, Link, Micros
from tulbur.core.settling import InvoiceSeen, SeenPayment
from tulbur.core.steps import InvoiceMade
from tulbur.errors import Invalid
from tulbur.ports import InvoiceRequest, StoredToken
from tulbur.qpay.reading import (
    Unreadable,
    amount,
    compact,
    identity,
    local_text,
    mapping,
    moment,
    text,
    uncut,
    whole,
    word,
)

PAGE_ROWS: Final = 100
"""The most rows QPay puts on one page."""

NO_CREDENTIALS: Final = "NO_CREDENTIALS"
VALIDATION_ERROR: Final = "VALIDATION_ERROR"
"""Our key for the refusal of single fields, which QPay answers without one; the name of the class in its workbook."""

_SPELLINGS: Final = {"NO_CREDENDIALS": NO_CREDENTIALS, "INVOICE_ALREADY_CANCELLED": "INVOICE_ALREADY_CANCELED"}
_MOST_FIELDS: Final = 20
_MOST_LINKS: Final = 100
_LONGEST_CODE: Final = 45
_LONGEST_TEXT: Final = 255
_LONGEST_IMAGE: Final = 200_000
_EPOCH_FROM: Final = 1_000_000_000
_SHORTEST_LIFE_SECONDS: Final = 120
_LONGEST_LIFE_SECONDS: Final = 2 * 86_400
_USUAL_LIFE_SECONDS: Final = 3_600
_TOKEN: Final = re.compile(r"[!-~]{1,8192}")
# The QR text inside holds the merchant's name, spaces and all.
_APP_LINK: Final = re.compile(
    r"(?!(?:javascript|vbscript|data|file):)[a-z][a-z0-9+.-]*://[^\x00-\x1f\x7f]+", re.IGNORECASE
)
_WEB_LINK: Final = re.compile(r"https?://\S+", re.IGNORECASE)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/=]+")


# --- the token -----------------------------------------------------------------------------------------------------


def token(document: object, now: Micros) -> StoredToken:
    """QPay workbook, auth_token: `expires_in` is seconds since the epoch, in spite of its name; durations are read too.

    The JWT's own `exp` lies decades ahead and is never used. A life is taken as two minutes at least, so that a wrong
    clock on either side does not make every call log in, and as two days at most.

    Raises:
        Unreadable: there is no access token.
    """
    answer = mapping(document)
    access = word(answer.get("access_token"), 8192)
    if not _TOKEN.fullmatch(access):
        raise Unreadable("the answer holds no token")
    expires_in = whole(answer.get("expires_in"))
    if expires_in is None:
        expires_at = now + _USUAL_LIFE_SECONDS * SECOND
    elif expires_in > _EPOCH_FROM:
        expires_at = expires_in * SECOND
    else:
        expires_at = now + expires_in * SECOND
    earliest, latest = now + _SHORTEST_LIFE_SECONDS * SECOND, now + _LONGEST_LIFE_SECONDS * SECOND
    return StoredToken(access, text(answer.get("refresh_token"), 8192), min(max(expires_at, earliest), latest))


# --- invoices ------------------------------------------------------------------------------------------------------


def invoice_body(invoice_code: str, request: InvoiceRequest) -> dict[str, object]:
    """The simple form of QPay workbook, invoice_create; the amount as whole tugrik.

    Raises:
        Invalid: a value QPay would refuse for its length, or an amount that is not whole tugrik above zero.
    """
    for name, value, longest in (
        ("sender_invoice_no", request.sender_invoice_no, _LONGEST_CODE),
        ("invoice_receiver_code", request.receiver_code, _LONGEST_CODE),
        ("callback_url", request.callback_url, _LONGEST_TEXT),
    ):
        if not 1 <= len(value) <= longest:
            raise Invalid(f"{name} has 1 to {longest} characters, not {len(value)}")
    if request.amount <= 0 or not is_whole_tugrik(request.amount):
        raise Invalid("an invoice asks for whole tugrik above zero")
    return {
        "invoice_code": invoice_code,
        "sender_invoice_no": request.sender_invoice_no,
        "invoice_receiver_code": request.receiver_code,
        "invoice_description": description(request.description) or request.sender_invoice_no,
        "amount": request.amount // 100,
        "callback_url": request.callback_url,
    }


def description(given: str) -> str:
    """A description as QPay takes it: letters, digits, spaces and `.,-`, at most 255 characters."""
    # Beyond U+FFFF one character counts as two for QPay, and none of them is Mongolian or English.
    kept = (
        char if char in ".,-" or (unicodedata.category(char)[0] in "LMN" and char <= "\uffff") else " "
        for char in unicodedata.normalize("NFC", given[: 4 * _LONGEST_TEXT])
    )
    return " ".join("".join(kept).split())[:_LONGEST_TEXT].rstrip()


def invoice_made(document: object) -> InvoiceMade:
    """QPay workbook, invoice_create, the answer: without an id nothing is known, anything else may be missing.

    Raises:
        Unreadable: there is no invoice id.
    """
    answer = mapping(document)
    image = uncut(answer.get("qr_image"), _LONGEST_IMAGE).rpartition("base64,")[2]
    short_url = uncut(answer.get("qPay_shortUrl"), 500)
    rows = answer.get("urls", answer.get("qPay_deeplink"))
    return InvoiceMade(
        id=identity(answer.get("invoice_id")),
        qr_text=uncut(answer.get("qr_text"), 2_000),
        qr_image=image if _BASE64.fullmatch(image) else "",
        short_url=short_url if _WEB_LINK.fullmatch(short_url) else "",
        links=tuple(_links(rows[:_MOST_LINKS])) if isinstance(rows, list) else (),
    )


def _links(rows: list[object]) -> list[Link]:
    links = []
    for row in rows:
        if not isinstance(row, dict):
            continue
        link, logo = uncut(row.get("link"), 4_000), uncut(row.get("logo"), 500)
        # These become the targets of buttons on a page, so a scheme that runs code is never let through.
        if _APP_LINK.fullmatch(link):
            logo = logo if _WEB_LINK.fullmatch(logo) else ""
            links.append(Link(text(row.get("name"), 100), text(row.get("description"), 200), logo, link))
    return links


def invoice_seen(document: object, invoice_id: str) -> InvoiceSeen:
    """The answer of GET invoice/{id}, whose amounts are numbers in some answers and texts in others.

    Raises:
        Unreadable: about another invoice, or without a status or a readable total.
    """
    answer = mapping(document)
    status = word(answer.get("invoice_status"), 32)
    if identity(answer.get("invoice_id", invoice_id)) != invoice_id:
        raise Unreadable("the answer is not about this invoice")
    number = text(answer.get("sender_invoice_no"), 100)
    total: Mongo = amount(answer.get("total_amount"))
    calls = uncut(answer.get("callback_url"), 255)
    return InvoiceSeen(id=invoice_id, status=status, sender_invoice_no=number, amount=total, callback_url=calls)


# --- payments ------------------------------------------------------------------------------------------------------


def check_body(invoice_id: str, page: int) -> dict[str, object]:
    """QPay workbook, payment_check; pages count from 1."""
    return {
        "object_type": "INVOICE",
        "object_id": invoice_id,
        "offset": {"page_number": page, "page_limit": PAGE_ROWS},
    }


def list_body(invoice_code: str, start: Micros, end: Micros, page: int, rows: int) -> dict[str, object]:
    """QPay workbook, payment_list: the payments on all invoices of one invoice code, local time in Ulaanbaatar."""
    return {
        "object_type": "INVOICE",
        "object_id": invoice_code,
        "start_date": local_text(start),
        "end_date": local_text(end),
        "offset": {"page_number": page, "page_limit": rows},
    }


@dataclass(frozen=True, slots=True)
class Page:
    """One page of payments; `rows` counts the unreadable ones too, `count` is QPay's own, None when it said none."""

    payments: tuple[SeenPayment, ...]
    rows: int
    count: int | None

    @property
    def readable(self) -> bool:
        return len(self.payments) == self.rows

    def agrees(self, seen: int) -> bool:
        """Whether QPay's count fits; it may be that of all pages, of which `seen` rows came so far, or of this one."""
        return self.count in (seen, self.rows)


def page(document: object, invoice_id: str = "") -> Page:
    """The answer of payment_check (`invoice_id` given) or payment_list; unpaid is `{"count":0,"rows":[]}`.

    Raises:
        Unreadable: there are no rows, not even none.
    """
    answer = mapping(document)
    rows = answer.get("rows")
    if not isinstance(rows, list):
        raise Unreadable("the answer holds no rows")
    seen = (_row(row, invoice_id) for row in rows)
    return Page(tuple(found for found in seen if found), len(rows), whole(answer.get("count")))


def _row(row: object, invoice_id: str) -> SeenPayment | None:
    try:
        seen = payment(row)
    except Unreadable:
        return None
    foreign = bool(invoice_id and seen.invoice_id) and seen.invoice_id != invoice_id
    return None if foreign else seen


def payment(document: object) -> SeenPayment:
    """A row of payment_check or payment_list, or the answer of payment_get, which names some fields differently.

    The amount is what was paid; QPay's fee is taken from the merchant's share of it.

    Raises:
        Unreadable: without id, status, currency or a plain amount it is no payment.
    """
    row = mapping(document)
    invoice_id = row.get("object_id") if row.get("object_type", "INVOICE") == "INVOICE" else None
    kinds = (text(row.get(name), 20) for name in ("payment_type", "transaction_type", "paid_by"))
    return SeenPayment(
        id=identity(row.get("payment_id")),
        amount=amount(row.get("payment_amount")),
        currency=word(row.get("payment_currency"), 8),
        status=word(row.get("payment_status"), 32),
        invoice_id="" if invoice_id is None else identity(invoice_id),
        method=next(filter(None, kinds), ""),
        wallet=text(row.get("payment_wallet"), 100),
        paid_at=moment(row.get("payment_date")),
        raw=compact(row),
    )


# --- refusals ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Problem:
    """What QPay says is wrong; `key` is "" when it names none."""

    key: str
    message: str = ""
    fields: dict[str, str] = field(default_factory=dict)


def problem(document: object) -> Problem:
    """An error body: key and message, a key alone, or an object that says for each field what is wrong with it."""
    if not isinstance(document, dict):
        return Problem("")
    error, message = document.get("error"), document.get("message")
    for told in (error, message):
        if isinstance(told, dict):
            return _fields(told)
    key = text(error, 100)
    return Problem(_SPELLINGS.get(key, key), text(message, 500))


def _fields(told: dict[str, object]) -> Problem:
    if isinstance(told.get("type"), str):  # what is wrong, without the field
        return Problem(VALIDATION_ERROR, _said(told))
    fields = {text(name, 100): _said(said) for name, said in list(told.items())[:_MOST_FIELDS]}
    return Problem(VALIDATION_ERROR, "; ".join(f"{name}: {said}" for name, said in fields.items())[:500], fields)


def _said(said: object) -> str:
    if isinstance(said, dict):
        return text(said.get("message"), 200) or text(said.get("type"), 200) or text(compact(said), 200)
    return text(said, 200) if isinstance(said, str | Decimal) else text(compact(said), 200)
