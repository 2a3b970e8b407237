"""QPay's error keys: the status and the text that each is answered with.

Texts are the workbook's ("Error codes"); statuses are observed where somebody saw them, else inferred from the
class the workbook names (400 validation, 401 unauthorized, 409 unique, 422 not found, 500 internal).
"""

from __future__ import annotations

from typing import Any

MESSAGES: dict[str, tuple[int, str]] = {
    "AUTHENTICATION_FAILED": (401, "Нэвтрэх нэр, нууц үг буруу"),
    "NO_CREDENTIALS": (401, "NO_CREDENTIALS"),
    "PERMISSION_DENIED": (401, "Хандах эрх хүрэхгүй байна"),
    "INVALID_AMOUNT": (400, "Үнийн дүн буруу"),
    "INVALID_OBJECT_TYPE": (400, "object_type буруу"),
    "INVOICE_ALREADY_CANCELED": (400, "Нэхэмжлэл цуцлагдсан байна"),
    "INVOICE_NOTFOUND": (422, "Нэхэмжлэл олдсонгүй"),
    "INVOICE_PAID": (400, "Нэхэмжлэл төлөгдсөн"),
    "MAX_AMOUNT_ERR": (400, "Үнийн дүн хэт их байна"),
    "PAYMENT_ALREADY_CANCELED": (400, "Төлбөр цуцлагдсан байна"),
    "PAYMENT_NOT_PAID": (400, "Төлбөр төлөлт хийгдээгүй байна"),
    "PAYMENT_NOTFOUND": (422, "Төлбөр олдсонгүй"),
    "PAYMENT_SETTLED": (400, "PAYMENT_SETTLED"),
    "BARIMT_NOT_FOUND": (422, "BARIMT_NOT_FOUND"),
    "EBARIMT_NOT_REGISTERED": (422, "и-Баримт үүсээгүй байна."),
    "SYSTEM_BUSY": (500, "SYSTEM_BUSY"),
    "UNIQUE_ERROR": (409, "UNIQUE_ERROR"),
}


class QPayError(Exception):
    """An answer that is an error; it carries the status and the exact body."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(f"{status} {body.get('error')}")
        self.status = status
        self.body = body


def refusal(key: str, message: str | None = None) -> QPayError:
    """The error of a key, with its own text unless another is given."""
    status, text = MESSAGES[key]
    return QPayError(status, {"error": key, "message": message or text})


def invalid(fields: dict[str, tuple[str, str]]) -> QPayError:
    """A validation error: `error` and `message` are the same object, keyed by field."""
    problems = {field: {"type": kind, "message": text} for field, (kind, text) in fields.items()}
    return QPayError(400, {"error": problems, "message": problems})
