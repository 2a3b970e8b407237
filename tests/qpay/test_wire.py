"""QPay's JSON read and written without a network: tokens, amounts, dates, error bodies, descriptions, texts."""

import contextlib
import json
import string
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.qpay.fakes import NOW

from tulbur.core.money import LARGEST, format_tugrik
from tulbur.core.session import SECOND
from tulbur.qpay import describe, wire
from tulbur.qpay.reading import Unreadable, amount, compact, loads, local_text, moment, text, whole
from tulbur.qpay.texts import is_known

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
MOST_LIFE = 2 * 86_400


def token_expiry(expires_in: object) -> int:
    answer = loads(json.dumps({"access_token": "a", "expires_in": expires_in}).encode())
    return (wire.token(answer, NOW).expires_at - NOW) // SECOND


def test_expires_in_is_seconds_since_the_epoch() -> None:
    assert token_expiry(NOW // SECOND + 86_400) == 86_400
    assert token_expiry(str(NOW // SECOND + 86_400)) == 86_400


def test_a_duration_is_read_too() -> None:
    assert token_expiry(3_600) == 3_600
    assert token_expiry("600") == 600


@pytest.mark.parametrize(("expires_in", "seconds"), [(1_000_000_001, 120), (1, 120), (0, 120), (10**17, MOST_LIFE)])
def test_lives_are_bounded(expires_in: int, seconds: int) -> None:
    assert token_expiry(expires_in) == seconds


@pytest.mark.parametrize("expires_in", [None, "tomorrow", [], -5, 1.5, float("nan")])
def test_a_life_that_is_not_told_is_an_hour(expires_in: object) -> None:
    assert token_expiry(expires_in) == 3_600


def test_the_dates_inside_the_token_are_not_used() -> None:
    jwt = "eyJhbGciOiJIUzI1NiJ9.eyJpYXQiOjE3Njk2NzAxMjUsImV4cCI6MzUzOTQyNjY1MH0.c2ln"
    answer = {"access_token": jwt, "refresh_token": "r", "expires_in": Decimal(NOW // SECOND + 86_400)}
    token = wire.token(answer, NOW)
    assert token.expires_at == NOW + 86_400 * SECOND
    assert jwt not in repr(token)


@pytest.mark.parametrize("answer", [None, [], {}, {"access_token": ""}, {"access_token": "a b"}, {"access_token": []}])
def test_no_token(answer: object) -> None:
    with pytest.raises(Unreadable):
        wire.token(answer, NOW)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            '{"error":"INVOICE_PAID","message":"Нэхэмжлэл төлөгдсөн"}',
            wire.Problem("INVOICE_PAID", "Нэхэмжлэл төлөгдсөн"),
        ),
        ('{"error":"SYSTEM_BUSY"}', wire.Problem("SYSTEM_BUSY")),
        ('{"error":"NO_CREDENDIALS"}', wire.Problem("NO_CREDENTIALS")),
        ('{"message":"Not Found"}', wire.Problem("", "Not Found")),
        (
            '{"error":{"object_id":{"type":"REQUIRED","message":"Required!"}},"message":{}}',
            wire.Problem("VALIDATION_ERROR", "object_id: Required!", {"object_id": "Required!"}),
        ),
        (
            '{"error":"X","message":{"a":{"type":"INVALID"},"lines":[{"b":1}],"c":"no"}}',
            wire.Problem(
                "VALIDATION_ERROR",
                'a: INVALID; lines: [{"b":1}]; c: no',
                {"a": "INVALID", "lines": '[{"b":1}]', "c": "no"},
            ),
        ),
        (
            '{"error":{"type":"MAX_LENGTH","message":"String max length (45)!"}}',
            wire.Problem("VALIDATION_ERROR", "String max length (45)!"),
        ),
        ('"text"', wire.Problem("")),
        ("[]", wire.Problem("")),
    ],
)
def test_error_bodies(body: str, expected: wire.Problem) -> None:
    assert wire.problem(loads(body.encode())) == expected


@given(JSON_VALUES)
def test_any_json_is_read_or_refused_by_name(value: object) -> None:
    document = loads(json.dumps(value).encode())
    told = wire.problem(document)
    assert len(told.fields) <= 20
    for read in (
        wire.page,
        wire.payment,
        wire.invoice_made,
        lambda answer: wire.invoice_seen(answer, "i"),
        lambda answer: wire.token(answer, NOW),
    ):
        with pytest.raises(Unreadable):
            read({"rows": None, "object": document})
        with pytest.raises(Unreadable):
            read(document)


@given(st.dictionaries(st.sampled_from(["payment_id", "payment_status", "payment_amount"]), JSON_VALUES), JSON_VALUES)
def test_any_row_is_a_payment_or_makes_the_page_incomplete(row: dict[str, object], other: object) -> None:
    page = wire.page(loads(json.dumps({"count": 2, "rows": [{"payment_currency": "MNT", **row}, other]}).encode()))
    assert page.rows == 2
    assert page.readable == (len(page.payments) == 2)
    assert all(seen.amount >= 0 and seen.id and seen.status for seen in page.payments)


@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_any_bytes_are_read_or_unreadable(body: bytes) -> None:
    with contextlib.suppress(Unreadable):
        compact(loads(body))


def test_an_unreadable_answer_does_not_travel_in_its_error() -> None:
    with pytest.raises(Unreadable) as unreadable:
        loads(b'{"access_token":"secret"')
    assert unreadable.value.__context__ is None


@given(st.integers(0, LARGEST))
def test_every_amount_is_read_exactly(mongo: int) -> None:
    written = format_tugrik(mongo)
    assert amount(written) == mongo
    assert amount(loads(written.encode())) == mongo


@given(st.decimals(allow_nan=True, allow_infinity=True))
def test_an_amount_is_exact_or_none(value: Decimal) -> None:
    try:
        mongo = amount(value)
    except Unreadable:
        return
    assert Decimal(mongo) == value * 100


@given(JSON_VALUES)
def test_the_raw_row_says_the_same(value: object) -> None:
    written = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if len(written.encode(errors="replace")) < 4_000:
        assert json.loads(compact(loads(json.dumps(value).encode()))) == json.loads(
            written.encode(errors="replace").decode()
        )


def test_what_nests_without_end_is_unreadable() -> None:
    with pytest.raises(Unreadable):
        loads(b'{"a":' * 200_000)
    deep: object = None
    for _ in range(100_000):
        deep = [deep]
    assert compact(deep) == ""


def test_a_key_twice_is_unreadable() -> None:
    with pytest.raises(Unreadable):
        loads(b'{"rows":[{"payment_status":"NEW","payment_status":"PAID"}]}')


def test_dates() -> None:
    utc = 1_773_717_611 * SECOND
    assert moment("2026-03-17T03:20:11.000Z") == utc
    assert moment("2026-03-17T03:20:11.250Z") == utc + 250_000
    assert moment("2026-03-17 11:20:11") == utc
    assert moment("2026-03-17T11:20:11+08:00") == utc
    assert moment("2026-03-17") == 1_773_676_800 * SECOND
    assert local_text(utc + 999_999) == "2026-03-17 11:20:11"
    for nonsense in (None, "", "0000-00-00 00:00:00", "tomorrow....", 1_773_717_611, "9" * 100, "2026-13-01"):
        assert moment(nonsense) is None


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("3", 3),
        (Decimal(3), 3),
        (Decimal("3.0"), 3),
        *(
            (none, None)
            for none in (True, None, "", "²", Decimal("3.5"), Decimal("1e300"), Decimal(-1), Decimal("NaN"))
        ),
    ],
)
def test_whole_numbers(value: object, number: int | None) -> None:
    assert whole(value) == number


def test_texts_are_printable_and_bounded() -> None:
    assert text("a\x00b\u202ec\ud800d\n", 10) == "abcd"
    assert text("ю" * 1_000, 10) == "ю" * 10
    assert text(Decimal(49), 10) == "49"
    assert [text(other, 10) for other in (True, None, [], {})] == [""] * 4


@pytest.mark.parametrize(
    ("given_text", "sent"),
    [
        ("Захиалга №12", "Захиалга 12"),
        ("  a\tb\nc\x00d  ", "a b c d"),
        ("<script>alert('x')</script>", "script alert x script"),
        ("Өндөр үнэ, 1.5-2", "Өндөр үнэ, 1.5-2"),
        ("🎁 Gift", "Gift"),
        ("!!!", ""),
        ("x" * 300, "x" * 255),
        ("e\u0301", "\u00e9"),
    ],
)
def test_descriptions(given_text: str, sent: str) -> None:
    assert wire.description(given_text) == sent


@given(st.text())
def test_a_description_is_what_qpay_takes(given_text: str) -> None:
    sent = wire.description(given_text)
    assert len(sent) <= 255
    assert sent == sent.strip()
    assert not set(sent) & (set(string.punctuation) - set(".,-"))
    assert wire.description(sent) == sent


def test_error_keys_in_words() -> None:
    assert describe("INVOICE_PAID") == "Нэхэмжлэл төлөгдсөн"
    assert describe("INVOICE_PAID", "en") == "Invoice is paid!"
    assert describe("NO_CREDENDIALS", "en") == describe("NO_CREDENTIALS", "en") != "NO_CREDENTIALS"
    assert describe("SOMETHING_NEW") == "SOMETHING_NEW"
    assert is_known("SYSTEM_BUSY")
    assert not is_known("SOMETHING_NEW")
