"""QR texts and their pictures."""

import base64
import io
from decimal import Decimal

import zxingcpp
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tulbur.simulator import emv

# A text of QPay's sandbox, as public code samples show it.
SANDBOX = (
    "0002010102121531279404962794049600000000KKTQPAY52046010530349654031005802MN5912TESTMERCHANT"
    "6011Ulaanbaatar6244010712345670504test0721o81Dmyc23_t_GCJfKodog6304882E"
)


def fields(text: str) -> dict[str, str]:
    """Split tag, length and value; fails unless every character is accounted for."""
    found: dict[str, str] = {}
    while text:
        tag, length = text[:2], int(text[2:4])
        assert tag not in found
        assert len(text) >= 4 + length > 4
        found[tag], text = text[4 : 4 + length], text[4 + length :]
    return found


def content(amount: Decimal = Decimal(100), bill: str = "1234567", label: str = "test") -> emv.QrContent:
    return emv.QrContent(
        "279404962794049600000000KKTQPAY", "TESTMERCHANT", amount, bill, label, "o81Dmyc23_t_GCJfKodog"
    )


def test_the_checksum_of_the_standard_and_of_qpay() -> None:
    assert emv.crc16("123456789") == "29B1"
    assert emv.crc16(SANDBOX[:-4]) == SANDBOX[-4:]


def test_a_sandbox_text_is_rebuilt_exactly() -> None:
    assert emv.qr_text(content()) == SANDBOX


@given(
    amount=st.decimals("0.01", "9999999999.99", places=2),
    bill=st.text(max_size=60),
    label=st.text(max_size=300),
)
def test_every_text_is_well_formed(amount: Decimal, bill: str, label: str) -> None:
    text = emv.qr_text(content(amount, bill, label))
    assert emv.crc16(text[:-4]) == text[-4:]
    found = fields(text)
    assert list(found) == ["00", "01", "15", "52", "53", "54", "58", "59", "60", "62", "63"]
    assert (found["00"], found["01"], found["53"], found["58"]) == ("01", "12", "496", "MN")
    assert Decimal(found["54"]) == amount
    assert len(found["54"]) <= emv.AMOUNT_CHARACTERS
    inner = fields(found["62"])
    assert set(inner) <= {"01", "05", "07"}
    assert all(len(part) <= emv.PART_CHARACTERS for part in inner.values())


@settings(max_examples=25, deadline=None)
@given(
    amount=st.decimals("0.01", "9999999999.99", places=2),
    bill=st.text(st.characters(codec="ascii"), max_size=45),
    label=st.text(max_size=80),
)
def test_a_phone_reads_the_picture(amount: Decimal, bill: str, label: str) -> None:
    text = emv.qr_text(content(amount, bill, label))
    picture = emv.qr_image(text)
    assert not picture.startswith("data:")
    image = Image.open(io.BytesIO(base64.b64decode(picture, validate=True)))
    assert image.format == "PNG"
    found = zxingcpp.read_barcodes(image)
    assert [code.text for code in found] == [text]
