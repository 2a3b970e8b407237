"""QR text in EMVCo's tag-length-value form, its checksum, and its picture."""

from __future__ import annotations

import base64
import binascii
import io
from dataclasses import dataclass
from decimal import Decimal

import segno

# EMVCo bounds the amount at 13 characters and the parts of the additional data at 25.
AMOUNT_CHARACTERS = 13
PART_CHARACTERS = 25
_MERCHANT_CATEGORY = "6010"
_CURRENCY_MNT = "496"
# Trying all eight masks costs five times as much, and every mask is readable.
_MASK = 4


@dataclass(frozen=True, slots=True)
class QrContent:
    """What one QR text says; `account` is 31 digits and `token` 21 characters."""

    account: str
    merchant: str
    amount: Decimal
    bill: str
    label: str
    token: str


def crc16(text: str) -> str:
    """CRC-16/CCITT-FALSE (polynomial 1021, start FFFF) as four upper-case hex digits."""
    return f"{binascii.crc_hqx(text.encode(), 0xFFFF):04X}"


def field(tag: str, value: str) -> str:
    """One field; an empty value is left out, since EMVCo knows no empty field."""
    return f"{tag}{len(value):02d}{value}" if value else ""


def plain(text: str) -> str:
    """At most 25 printable ASCII characters, so that characters and bytes count the same."""
    return "".join(character for character in text if " " <= character <= "~")[:PART_CHARACTERS].strip()


def amount_text(amount: Decimal) -> str:
    """Whole tugrik without decimals, anything else with two."""
    return f"{amount:.0f}" if amount == amount.to_integral_value() else f"{amount:.2f}"


def qr_text(content: QrContent) -> str:
    """The text of a dynamic merchant QR, with the tags and the order of QPay's own samples."""
    additional = field("01", plain(content.bill)) + field("05", plain(content.label)) + field("07", content.token)
    body = "".join(
        (
            field("00", "01"),
            field("01", "12"),
            field("15", content.account),
            field("52", _MERCHANT_CATEGORY),
            field("53", _CURRENCY_MNT),
            field("54", amount_text(content.amount)),
            field("58", "MN"),
            field("59", plain(content.merchant)),
            field("60", "Ulaanbaatar"),
            field("62", additional),
            "6304",
        )
    )
    return body + crc16(body)


def qr_image(text: str) -> str:
    """A PNG of the text in base64, without a `data:` prefix."""
    code = segno.make(text, error="m", micro=False, boost_error=False, mask=_MASK)
    png = io.BytesIO()
    code.save(png, kind="png", scale=6, border=4)
    return base64.b64encode(png.getvalue()).decode()
