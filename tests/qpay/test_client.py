"""The client against a QPay over a real socket that answers as QPay's workbook and its sandbox do."""

import json
from dataclasses import replace
from decimal import Decimal

import pytest
from tests.qpay.conftest import MakeClient
from tests.qpay.fakes import (
    BAD_GATEWAY,
    CARD_ID,
    CARD_ROW,
    INVOICE_ID,
    LIST_ROW,
    NOW,
    P2P_ROW,
    PASSWORD,
    PAYMENT,
    PAYMENT_ID,
    PERMISSION_DENIED,
    QR,
    SEEN_INVOICE,
    SYSTEM_BUSY,
    UNPAID,
    USERNAME,
    FakeQPay,
    Reply,
    numbered,
    paid,
)

from tulbur.core.session import SECOND, Link
from tulbur.core.settling import InvoiceAnswer, InvoiceSeen
from tulbur.errors import Invalid, ProviderRefused, ProviderUnavailable, SettingsError
from tulbur.ports import Cancelling, InvoiceRequest
from tulbur.qpay import QPay

pytestmark = pytest.mark.anyio

REQUEST = InvoiceRequest(
    sender_invoice_no="TB00112233445566778899AABBCCDDEEFF01234567",
    receiver_code="terminal",
    description="Захиалга №12",
    amount=5_000_000,
    callback_url="https://shop.example.mn/callbacks/qpay/S-1/token",
)

REFUSED_FIELDS = (
    '{"error":{"sender_invoice_no":{"type":"MAX_LENGTH","message":"String max length (45)!"},'
    '"amount":{"type":"MIN_NUMBER","message":"Number min value [1]!"}},"message":{"amount":{}}}'
)


# --- invoices


async def test_an_invoice_is_made(client: QPay, qpay: FakeQPay) -> None:
    made = await client.create_invoice(REQUEST)
    assert (made.id, made.qr_text, made.qr_image) == (INVOICE_ID, QR, "iVBORw0KGgo=")
    assert made.short_url == "https://s.qpay.mn/abc"
    assert made.links[1] == Link(
        "Khan bank", "Хаан банк", "https://qpay.mn/q/logo/khanbank.png", f"khanbank://q?qPay_QRcode={QR}"
    )
    assert qpay.bodies("invoice_create") == [
        {
            "invoice_code": "TEST_INVOICE",
            "sender_invoice_no": REQUEST.sender_invoice_no,
            "invoice_receiver_code": "terminal",
            "invoice_description": "Захиалга 12",
            "amount": 50_000,
            "callback_url": REQUEST.callback_url,
        }
    ]
    assert '"amount":50000,' in qpay.seen[-1].text


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": 150},
        {"amount": 0},
        {"amount": -100},
        {"sender_invoice_no": "x" * 46},
        {"sender_invoice_no": ""},
        {"receiver_code": "x" * 46},
        {"callback_url": "https://" + "x" * 250},
    ],
)
async def test_what_qpay_would_refuse_is_not_sent(client: QPay, qpay: FakeQPay, wrong: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        await client.create_invoice(replace(REQUEST, **wrong))
    assert qpay.seen == []


async def test_refused_fields_are_readable(client: QPay, qpay: FakeQPay) -> None:
    qpay.then("invoice_create", Reply(400, REFUSED_FIELDS))
    with pytest.raises(ProviderRefused) as refused:
        await client.create_invoice(REQUEST)
    assert refused.value.key == "VALIDATION_ERROR"
    assert refused.value.provider_status == 400
    assert refused.value.fields == {
        "sender_invoice_no": "String max length (45)!",
        "amount": "Number min value [1]!",
    }


@pytest.mark.parametrize(
    "lost",
    [
        BAD_GATEWAY,
        SYSTEM_BUSY,
        Reply(500, '{"error":"SYSTEM_BUSY"}'),
        Reply(429, '{"error":"TOO_MANY","message":"slow down"}'),
        Reply(403, "<html>nginx</html>"),
        Reply(400, "{}"),
        Reply(302, "", headers={"Location": "/v2/invoice"}),
        Reply(307, "{}", headers={"Location": "/v2/invoice"}),
        Reply(200, "<html>maintenance</html>"),
        Reply(200, ""),
        Reply(200, '{"invoice_id":"' + INVOICE_ID),
        Reply(200, "{}"),
        Reply(200, "[]"),
        Reply(200, '{"invoice_id":null,"qr_text":"x"}'),
        Reply(200, f'{{"invoice_id":"{INVOICE_ID}","invoice_id":"{INVOICE_ID}"}}'),
        Reply(200, '{"invoice_id":"../payment/1"}'),
        Reply(200, b'{"invoice_id":"\xff"}'),
        Reply(200, "[" * 100_000),
        Reply(200, '{"x":"' + "y" * (1024 * 1024) + '"}'),
    ],
)
async def test_a_lost_answer_is_unknown_and_nothing_is_repeated(client: QPay, qpay: FakeQPay, lost: Reply) -> None:
    qpay.then("invoice_create", lost)
    await client.login()
    with pytest.raises(ProviderUnavailable):
        await client.create_invoice(REQUEST)
    assert qpay.count("invoice_create") == 1


async def test_an_invoice_with_little_in_it(client: QPay, qpay: FakeQPay) -> None:
    row = '{"name":null,"link":"javascript:alert(1)//x"},{"link":"javascript://%0aalert(1)"},7,{"link":"toki://q"}'
    body = f'{{"invoice_id":{12345},"qr_image":"data:image/png;base64,AAAA","urls":[{row}],"qr_text":null}}'
    qpay.then("invoice_create", Reply(200, body))
    await client.login()
    made = await client.create_invoice(REQUEST)
    assert (made.id, made.qr_text, made.qr_image) == ("12345", "", "AAAA")
    assert made.links == (Link("", "", "", "toki://q"),)


async def test_an_invoice_is_seen(client: QPay, qpay: FakeQPay) -> None:
    expected = InvoiceSeen(id=INVOICE_ID, status="OPEN", sender_invoice_no="TB1", amount=10_000)
    assert await client.get_invoice(INVOICE_ID) == expected
    qpay.then("invoice_get", Reply(body=SEEN_INVOICE.replace('"100.00"', "100").replace("OPEN", "CANCELLED")))
    seen = await client.get_invoice(INVOICE_ID)
    assert seen == replace(expected, status="CANCELLED")


@pytest.mark.parametrize("status", [422, 404, 400])
async def test_no_such_invoice(client: QPay, qpay: FakeQPay, status: int) -> None:
    missing = Reply(status, '{"error":"INVOICE_NOTFOUND","message":"Нэхэмжлэл олдсонгүй"}')
    await client.login()
    qpay.then("invoice_get", missing)
    qpay.then("invoice_cancel", missing)
    assert await client.get_invoice(INVOICE_ID) is None
    assert await client.cancel_invoice(INVOICE_ID) is Cancelling.NOT_FOUND


async def test_a_missing_merchant_is_not_a_missing_invoice(client: QPay, qpay: FakeQPay) -> None:
    await client.login()
    refused = Reply(422, '{"error":"MERCHANT_NOTFOUND","message":"x"}')
    qpay.then("invoice_cancel", refused)
    qpay.then("invoice_get", Reply(404, "<html>Cannot GET /v2/invoice</html>"), Reply(404, '{"message":"Not Found"}'))
    with pytest.raises(ProviderRefused):
        await client.cancel_invoice(INVOICE_ID)
    with pytest.raises(ProviderUnavailable):
        await client.get_invoice(INVOICE_ID)
    assert await client.get_invoice(INVOICE_ID) is None


@pytest.mark.parametrize(
    "body",
    [
        SEEN_INVOICE.replace(INVOICE_ID, "another-invoice"),
        SEEN_INVOICE.replace('"100.00"', '"1e400"'),
        SEEN_INVOICE.replace('"OPEN"', "null"),
    ],
)
async def test_an_answer_about_something_else_is_none(client: QPay, qpay: FakeQPay, body: str) -> None:
    await client.login()
    qpay.then("invoice_get", Reply(body=body))
    with pytest.raises(ProviderUnavailable):
        await client.get_invoice(INVOICE_ID)


async def test_cancelling(client: QPay, qpay: FakeQPay) -> None:
    assert await client.cancel_invoice(INVOICE_ID) is Cancelling.CANCELLED
    assert (qpay.seen[-1].method, qpay.seen[-1].path) == ("DELETE", f"/v2/invoice/{INVOICE_ID}")
    qpay.then(
        "invoice_cancel",
        Reply(400, '{"error":"INVOICE_ALREADY_CANCELED","message":"Нэхэмжлэл цуцлагдсан байна"}'),
        Reply(400, '{"error":"INVOICE_PAID","message":"Нэхэмжлэл төлөгдсөн"}'),
        Reply(409, '{"error":"INVOICE_PAID"}'),
        Reply(200, "OK"),
    )
    assert await client.cancel_invoice(INVOICE_ID) is Cancelling.ALREADY
    assert await client.cancel_invoice(INVOICE_ID) is Cancelling.PAID
    assert await client.cancel_invoice(INVOICE_ID) is Cancelling.PAID
    with pytest.raises(ProviderUnavailable):
        await client.cancel_invoice(INVOICE_ID)


@pytest.mark.parametrize("strange", ["", "..", "../payment/1", "a/b", "a?b", "a b", "x" * 65, "a\x00", "ю"])
async def test_an_id_qpay_cannot_have_given_is_not_asked_about(client: QPay, qpay: FakeQPay, strange: str) -> None:
    assert await client.get_payment(strange) is None
    assert await client.get_invoice(strange) is None
    assert await client.cancel_invoice(strange) is Cancelling.NOT_FOUND
    assert qpay.seen == []


# --- payments


async def test_an_unpaid_invoice(client: QPay, qpay: FakeQPay) -> None:
    qpay.always["payment_check"] = Reply(body=UNPAID)
    assert await client.check(INVOICE_ID) == InvoiceAnswer(invoice_id=INVOICE_ID, payments=())
    assert qpay.bodies("payment_check") == [
        {"object_type": "INVOICE", "object_id": INVOICE_ID, "offset": {"page_number": 1, "page_limit": 100}}
    ]


async def test_a_paid_invoice(client: QPay, qpay: FakeQPay) -> None:
    qpay.always["payment_check"] = Reply(body=paid(P2P_ROW, CARD_ROW))
    answer = await client.check(INVOICE_ID)
    assert answer.complete
    bank, card = answer.payments
    assert (bank.id, bank.amount, bank.currency, bank.status) == (PAYMENT_ID, 10_000, "MNT", "PAID")
    assert (bank.method, bank.wallet, bank.invoice_id, bank.paid_at) == ("P2P", "Хаан банк апп", "", None)
    assert (card.id, card.method) == (CARD_ID, "CARD")
    assert json.loads(bank.raw) == json.loads(P2P_ROW)
    assert bank.raw == P2P_ROW


@pytest.mark.parametrize(
    ("written", "mongo"),
    [('"0.10"', 10), ("0.1", 10), ("100", 10_000), ("100.00", 10_000), ("1e2", 10_000), ('"99999.99"', 9_999_999)],
)
async def test_amounts_are_read_from_their_text(client: QPay, qpay: FakeQPay, written: str, mongo: int) -> None:
    row = P2P_ROW.replace('"payment_amount":"100.00"', f'"payment_amount":{written}')
    qpay.always["payment_check"] = Reply(body=paid(row))
    answer = await client.check(INVOICE_ID)
    assert [p.amount for p in answer.payments] == [mongo]
    assert json.loads(answer.payments[0].raw, parse_float=Decimal)["payment_amount"] in (
        Decimal(written.strip('"')),
        written.strip('"'),
    )


@pytest.mark.parametrize(
    "unreadable",
    [
        P2P_ROW.replace('"100.00"', amount)
        for amount in (
            *("NaN", "Infinity", "-Infinity", "1e400", "-0", "-1", "0.001", "null", "true", "[]", "1e9999999999999999"),
            *('"-0"', '"NaN"', '"-100.00"', '"0.001"', '"1,000.00"', '" 1"', '""', '"1e2"', '"١٠٠"', '"1_000"'),
            "1" + "0" * 5_000,
            "100.0000000000000000000000000000000000000001",
        )
    ]
    + [
        P2P_ROW.replace(f'"{PAYMENT_ID}"', "null"),
        P2P_ROW.replace(PAYMENT_ID, "a\\u0000b"),
        P2P_ROW.replace(PAYMENT_ID, "9" * 65),
        P2P_ROW.replace('"payment_status":"PAID",', ""),
        P2P_ROW.replace('"PAID"', '"PA\\u0000ID"'),
        P2P_ROW.replace('"payment_currency":"MNT",', ""),
        P2P_ROW.replace("{", '{"object_id":"another-invoice",', 1),
        "null",
        "7",
    ],
)
async def test_an_unreadable_row_is_no_payment(client: QPay, qpay: FakeQPay, unreadable: str) -> None:
    qpay.always["payment_check"] = Reply(body=paid(CARD_ROW, unreadable))
    answer = await client.check(INVOICE_ID)
    assert [p.id for p in answer.payments] == [CARD_ID]
    assert not answer.complete


async def test_unknown_statuses_and_fields_stay_as_they_are(client: QPay, qpay: FakeQPay) -> None:
    row = P2P_ROW.replace('"PAID"', '"ON_HOLD"').replace("{", '{"new":{"a":[1,2.50,null]},"x":NaN,', 1)
    qpay.always["payment_check"] = Reply(body=paid(row.replace(f'"{PAYMENT_ID}"', "493000000000001")))
    answer = await client.check(INVOICE_ID)
    assert [(p.id, p.status) for p in answer.payments] == [("493000000000001", "ON_HOLD")]
    assert answer.complete
    assert answer.payments[0].raw.startswith('{"new":{"a":[1,2.50,null]},"x":"NaN","payment_id":493000000000001,')


async def test_the_raw_row_is_capped(client: QPay, qpay: FakeQPay) -> None:
    qpay.always["payment_check"] = Reply(body=paid(P2P_ROW.replace("Хаан банк апп", "ю" * 5_000)))
    answer = await client.check(INVOICE_ID)
    assert 4_090 <= len(answer.payments[0].raw.encode()) <= 4_096
    assert len(answer.payments[0].wallet) == 100


@pytest.mark.parametrize("body", ["{}", "[]", '{"count":0}', '{"count":0,"rows":{}}', '{"rows":[],"rows":[]}'])
async def test_an_answer_without_rows_is_none(client: QPay, qpay: FakeQPay, body: str) -> None:
    qpay.always["payment_check"] = Reply(body=body)
    with pytest.raises(ProviderUnavailable):
        await client.check(INVOICE_ID)


@pytest.mark.parametrize("count", ["2", "0", "null", '"many"', "-1", "NaN"])
async def test_a_count_that_disagrees_leaves_the_answer_incomplete(client: QPay, qpay: FakeQPay, count: str) -> None:
    qpay.always["payment_check"] = Reply(body=paid(P2P_ROW).replace('"count":1', f'"count":{count}'))
    answer = await client.check(INVOICE_ID)
    assert len(answer.payments) == 1
    assert not answer.complete


async def test_further_pages_are_asked_for(client: QPay, qpay: FakeQPay) -> None:
    pages = [numbered(0, 100), numbered(100, 100), numbered(200, 50)]
    qpay.then("payment_check", *(Reply(body=paid(*rows, count=250)) for rows in pages))
    await client.login()
    answer = await client.check(INVOICE_ID)
    assert [int(p.id) for p in answer.payments] == list(range(250))
    assert answer.complete
    assert [body["offset"]["page_number"] for body in qpay.bodies("payment_check")] == [1, 2, 3]


async def test_a_full_last_page_needs_an_empty_one_behind_it(client: QPay, qpay: FakeQPay) -> None:
    qpay.then("payment_check", Reply(body=paid(*numbered(0, 100))), Reply(body=UNPAID))
    await client.login()
    answer = await client.check(INVOICE_ID)
    assert len(answer.payments) == 100
    assert answer.complete


async def test_ten_pages_are_enough(client: QPay, qpay: FakeQPay) -> None:
    qpay.always["payment_check"] = Reply(body=paid(*numbered(0, 100), count=5_000))
    answer = await client.check(INVOICE_ID)
    assert qpay.count("payment_check") == 10
    assert len(answer.payments) == 1_000
    assert not answer.complete


async def test_what_was_seen_survives_a_failing_page(client: QPay, qpay: FakeQPay) -> None:
    for lost in (BAD_GATEWAY, PERMISSION_DENIED, Reply(body="")):
        qpay.script["payment_check"].clear()
        qpay.then("payment_check", Reply(body=paid(*numbered(0, 100), count=150)), lost)
        await client.login()
        answer = await client.check(INVOICE_ID)
        assert len(answer.payments) == 100
        assert not answer.complete


async def test_a_payment_is_found_by_its_id(client: QPay, qpay: FakeQPay) -> None:
    seen = await client.get_payment(PAYMENT_ID)
    assert seen is not None
    assert (seen.id, seen.invoice_id, seen.amount, seen.method) == (PAYMENT_ID, INVOICE_ID, 10_000, "P2P")
    assert seen.paid_at == 1_773_717_611 * SECOND
    assert qpay.seen[-1].path == f"/v2/payment/{PAYMENT_ID}"


async def test_no_such_payment(client: QPay, qpay: FakeQPay) -> None:
    await client.login()
    qpay.then(
        "payment_get",
        Reply(422, '{"error":"PAYMENT_NOTFOUND","message":"Төлбөр олдсонгүй"}'),
        Reply(404, '{"message":"Not Found"}'),
        Reply(422, '{"error":"SOMETHING_NEW"}'),
    )
    for _ in range(3):
        assert await client.get_payment(PAYMENT_ID) is None


@pytest.mark.parametrize("body", [PAYMENT.replace(PAYMENT_ID, "1"), PAYMENT.replace('"100.00"', "NaN"), "{}"])
async def test_an_unreadable_payment_is_unknown(client: QPay, qpay: FakeQPay, body: str) -> None:
    qpay.always["payment_get"] = Reply(body=body)
    with pytest.raises(ProviderUnavailable):
        await client.get_payment(PAYMENT_ID)


# --- the list


async def test_a_window_is_listed(client: QPay, qpay: FakeQPay) -> None:
    start = 1_773_676_800 * SECOND  # 2026-03-16T16:00:00Z, midnight in Ulaanbaatar
    page = await client.list_payments(start, start + 86_400 * SECOND)
    assert (page.complete, page.more) == (True, False)
    (seen,) = page.payments
    assert (seen.id, seen.invoice_id, seen.method) == (PAYMENT_ID, INVOICE_ID, "P2P")
    assert seen.paid_at == 1_773_717_611 * SECOND
    assert qpay.bodies("payment_list") == [
        {
            "object_type": "INVOICE",
            "object_id": "TEST_INVOICE",
            "start_date": "2026-03-17 00:00:00",
            "end_date": "2026-03-18 00:00:00",
            "offset": {"page_number": 1, "page_limit": 100},
        }
    ]


async def test_a_busy_list_shrinks_its_page_and_stays_small(client: QPay, qpay: FakeQPay) -> None:
    rows = numbered(0, 100, LIST_ROW)
    halves = [Reply(body=paid(*rows[:50])), Reply(body=paid(*rows[50:]))]
    await client.login()
    qpay.then("payment_list", SYSTEM_BUSY, *halves, Reply(body=UNPAID))
    page = await client.list_payments(NOW, NOW + SECOND)
    assert [int(p.id) for p in page.payments] == list(range(100))
    assert (page.complete, page.more) == (True, True)
    page = await client.list_payments(NOW, NOW + SECOND, 2)
    assert (page.payments, page.complete, page.more) == ((), True, False)
    offsets = [body["offset"] for body in qpay.bodies("payment_list")]
    assert [(o["page_number"], o["page_limit"]) for o in offsets] == [(1, 100), (1, 50), (2, 50), (3, 50)]


async def test_a_list_that_stays_busy_is_given_up_and_holds_no_question_back(client: QPay, qpay: FakeQPay) -> None:
    qpay.always["payment_list"] = SYSTEM_BUSY
    for _ in range(3):
        with pytest.raises(ProviderUnavailable):
            await client.list_payments(NOW, NOW + SECOND)
    assert qpay.count("payment_list") == 5
    assert client.answering()
    assert (await client.check(INVOICE_ID)).complete


async def test_a_list_cut_off_says_so(client: QPay, qpay: FakeQPay) -> None:
    await client.login()
    qpay.then("payment_list", SYSTEM_BUSY, Reply(body=paid(*numbered(0, 50, LIST_ROW))), BAD_GATEWAY)
    page = await client.list_payments(NOW, NOW + SECOND)
    assert (len(page.payments), page.complete, page.more) == (50, False, True)
    qpay.then("payment_list", Reply(body=paid(LIST_ROW, "null")))
    page = await client.list_payments(NOW, NOW + SECOND)
    assert (len(page.payments), page.complete, page.more) == (1, False, False)


# --- around it


@pytest.mark.parametrize("ending", ["", "/", "/v2", "/v2/"])
async def test_the_address_may_end_as_it_likes(qpay: FakeQPay, make_client: MakeClient, ending: str) -> None:
    client = await make_client(qpay.url.rstrip("/") + ending)
    assert (await client.check(INVOICE_ID)).complete
    assert qpay.seen[0].path == "/v2/auth/token"


@pytest.mark.parametrize(
    "address", ["", "merchant.qpay.mn", "ftp://merchant.qpay.mn", "https://u:secret@host", "https://"]
)
async def test_an_address_must_be_one(make_client: MakeClient, address: str) -> None:
    with pytest.raises(SettingsError, match="QPAY_BASE_URL") as refused:
        await make_client(address)
    assert "secret" not in str(refused.value)


async def test_the_observer_hears_of_every_request(qpay: FakeQPay, make_client: MakeClient) -> None:
    heard: list[tuple[str, str, float]] = []
    client = await make_client(qpay.url, on_request=lambda *told: heard.append(told))
    await client.check(INVOICE_ID)
    qpay.then("payment_get", Reply(422, '{"error":"PAYMENT_NOTFOUND"}'), Reply(body="{}"))
    await client.get_payment(PAYMENT_ID)
    with pytest.raises(ProviderUnavailable):
        await client.get_payment(PAYMENT_ID)
    assert heard == [
        ("token", "ok", 0.0),
        ("payment_check", "ok", 0.0),
        ("payment_get", "refused", 0.0),
        ("payment_get", "unavailable", 0.0),
    ]


async def test_no_secret_leaves_in_an_error(client: QPay, qpay: FakeQPay) -> None:
    await client.login()
    echo = f'{{"error":"X {qpay.live}","message":"Bearer {qpay.live}"}}'
    named = f'{{"error":{{"Bearer {qpay.live}":{{"message":"{qpay.live}"}}}}}}'
    qpay.then("payment_check", Reply(400, echo), Reply(500, echo), Reply(400, named), Reply(200, f"<b>{qpay.live}"))
    for _ in range(4):
        with pytest.raises((ProviderRefused, ProviderUnavailable)) as failed:
            await client.check(INVOICE_ID)
        chain: list[BaseException] = [failed.value]
        while following := chain[-1].__cause__ or chain[-1].__context__:
            chain.append(following)
        told = "".join(f"{error!r} {vars(error)}" for error in chain)
        for secret in (qpay.live, PASSWORD, USERNAME, "Authorization"):
            assert secret not in told
    assert PASSWORD not in repr(vars(client))
