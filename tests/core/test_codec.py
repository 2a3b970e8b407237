import json
from dataclasses import fields, replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.core.stories import seen, started

from tulbur.core.codec import FORMAT, UnreadableDocument, decode, encode
from tulbur.core.orders import Discount, Item, Order
from tulbur.core.session import (
    Asks,
    ExceptionName,
    Hint,
    HintState,
    Invoice,
    InvoiceState,
    Link,
    Look,
    Payment,
    Reason,
    Session,
    Status,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
WHOLE = st.integers(-(2**63), 2**63)
PLAIN = st.none() | st.booleans() | WHOLE | st.floats(allow_nan=False) | TEXT
JSON = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
OBJECTS = st.dictionaries(TEXT, JSON, max_size=3)
MAYBE = st.none() | WHOLE


def tuples(of: st.SearchStrategy[object], most: int = 2) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(of, max_size=most).map(tuple)


@st.composite
def invoices(draw: st.DrawFn) -> Invoice:
    qr_text = draw(st.sampled_from(["", "QR", "0002010102", "\x1a", "q\x1aq", '"'])) + draw(TEXT)
    pieces = st.sampled_from(["khanbank://q?qPay_QRcode=", "\x1a", "", "&x=1", qr_text, qr_text[:3]]) | TEXT
    links = st.builds(Link, name=TEXT, description=TEXT, logo=TEXT, link=st.lists(pieces, max_size=4).map("".join))
    return Invoice(
        number=draw(WHOLE),
        sender_invoice_no=draw(TEXT),
        created_at=draw(WHOLE),
        deadline=draw(WHOLE),
        state=draw(st.sampled_from(InvoiceState)),
        id=draw(st.none() | TEXT),
        qr_text=qr_text,
        qr_image=draw(TEXT),
        short_url=draw(TEXT),
        links=draw(tuples(links, 3)),
    )


ITEMS = st.builds(Item, shop_id=TEXT, product_id=TEXT, title=TEXT, quantity=WHOLE, unit_price=WHOLE, options=OBJECTS)
SESSIONS = st.builds(
    Session,
    id=TEXT,
    user_id=TEXT,
    amount=WHOLE,
    currency=TEXT,
    items=tuples(ITEMS),
    discount=st.none() | st.builds(Discount, code=TEXT, amount=WHOLE, product_id=st.none() | TEXT),
    shipping=OBJECTS,
    shipping_amount=WHOLE,
    metadata=OBJECTS,
    description=TEXT,
    return_url=st.none() | TEXT,
    scope=TEXT,
    idempotency_key=st.none() | TEXT,
    body_digest=TEXT,
    created_at=WHOLE,
    expires_at=WHOLE,
    cache_seconds=WHOLE,
    status=st.sampled_from(Status),
    exceptions=st.frozensets(st.sampled_from(ExceptionName)),
    attempts=tuples(invoices()),
    payments=tuples(
        st.builds(
            Payment,
            id=TEXT,
            invoice_id=TEXT,
            amount=WHOLE,
            currency=TEXT,
            status=TEXT,
            method=TEXT,
            wallet=TEXT,
            seen_at=WHOLE,
            paid_at=MAYBE,
            raw=TEXT,
            ordered=WHOLE,
            refund_due=WHOLE,
            refunded=WHOLE,
            held=WHOLE,
        )
    ),
    hints=tuples(st.builds(Hint, payment_id=TEXT, seen_at=WHOLE, state=st.sampled_from(HintState))),
    looks=tuples(st.builds(Look, reason=st.sampled_from(Reason), at=WHOLE, rung=WHOLE, tries=WHOLE)),
    asks=st.builds(
        Asks,
        day=WHOLE,
        counts=st.dictionaries(st.sampled_from(Reason), WHOLE, max_size=3),
        last_at=WHOLE,
        busy_until=WHOLE,
    ),
    orders=tuples(
        st.builds(
            Order,
            id=TEXT,
            shop_id=TEXT,
            total=WHOLE,
            discount=WHOLE,
            shipping_amount=WHOLE,
            currency=TEXT,
            items=tuples(ITEMS),
            created_at=WHOLE,
        )
    ),
    paid_at=MAYBE,
    cancelled_at=MAYBE,
    last_check_at=MAYBE,
    blanked_at=MAYBE,
    event_count=WHOLE,
)


def with_link(link: str, qr_text: str) -> Session:
    session = started().session
    (attempt,) = session.attempts
    links = (Link("Bank", "A bank", "https://bank.example/logo.png", link),)
    return replace(session, attempts=(replace(attempt, qr_text=qr_text, links=links),))


@given(SESSIONS, st.integers(0, 10**9))
@example(with_link("bank://q?qPay_QRcode=QR", "QR"), 1)
@example(with_link("bank://q?qPay_QRcode=", ""), 1)
@example(with_link("bank://\x1a", "QR"), 1)
@example(with_link("bank://\x1a", ""), 1)
@example(with_link("bank://aaa", "aa"), 1)
def test_a_session_reads_back_as_it_was(session: Session, version: int) -> None:
    document = encode(session)
    again = decode(document, version)
    assert again == replace(session, version=version, news=())
    assert encode(again) == document, "one session has one spelling"
    for field in fields(Session):
        assert type(getattr(again, field.name)) is type(getattr(session, field.name)) or field.name == "news"


def test_the_order_in_which_things_were_put_in_leaves_no_trace() -> None:
    one = replace(
        started().session,
        metadata={"a": 1, "b": {"x": 1, "y": 2}},
        exceptions=frozenset(ExceptionName),
        asks=Asks(counts={Reason.PAYER: 1, Reason.CALLBACK: 2}),
    )
    other = replace(
        one,
        metadata={"b": {"y": 2, "x": 1}, "a": 1},
        exceptions=frozenset(reversed(list(ExceptionName))),
        asks=Asks(counts={Reason.CALLBACK: 2, Reason.PAYER: 1}),
    )
    assert encode(one) == encode(other)


def test_version_and_news_are_not_in_the_document() -> None:
    session = started().session
    told = session.with_news("check.asked", session.created_at)
    assert encode(replace(session, version=9)) == encode(session)
    assert encode(replace(told, event_count=session.event_count)) == encode(session)


def test_the_qr_text_is_stored_once_however_many_banks_there_are() -> None:
    qr_text = "0002010102121531279404962794049600000000000000005204739953034965802MN"
    session = with_link(f"bank://q?qPay_QRcode={qr_text}", qr_text)
    assert encode(session).count(qr_text.encode()) == 1


def test_a_document_is_json_text_a_person_can_read() -> None:
    session = replace(started().session, description="Ногоон цай")
    values = json.loads(encode(session))
    assert (values["format"], values["id"], values["description"]) == (FORMAT, "S1", "Ногоон цай")
    assert "status" not in values, "what is as it was at first takes no room"


DOCUMENT = encode(started().hinted("p9").asked().answered(seen("p", 150)).session)


@pytest.mark.parametrize(
    "document",
    [
        *(b"", b"\x00", b"null", b"1", b'"text"', b"[]", b"[[]]", b"{}", b"nan", b"\xff\xfe", b"\xef\xbb\xbf{}"),
        *(b"[" * 100_000, b'{"a":' * 100_000, b"1" * 5000, b'{"format":1}', b'{"format":1,"id":1}'),
        *(DOCUMENT[:-1], DOCUMENT[1:], DOCUMENT + b"}", DOCUMENT * 2, DOCUMENT.decode().encode("utf-16")[:-1]),
        DOCUMENT.replace(b'"format":1', b'"format":2'),
        DOCUMENT.replace(b'"format":1', b'"format":null'),
        DOCUMENT.replace(b'"format":1,', b""),
        DOCUMENT.replace(b'"status":"PAID"', b'"status":"LOST"'),
        DOCUMENT.replace(b'"status":"PAID"', b'"status":["PAID"]'),
        DOCUMENT.replace(b'"attempts":[', b'"attempts":[1,'),
        DOCUMENT.replace(b'"attempts":[{', b'"attempts":[{"links":[1],'),
        DOCUMENT.replace(b'"attempts":[{', b'"attempts":[{"links":[[1,2,3,4]],'),
        DOCUMENT.replace(b'"attempts":[{', b'"attempts":[{"links":[["a"]],'),
        DOCUMENT.replace(b'"attempts":[{', b'"attempts":[{"links":7,'),
        DOCUMENT.replace(b'"exceptions":[', b'"exceptions":[[],'),
        DOCUMENT.replace(b'"exceptions":[', b'"exceptions":["surprised",'),
        DOCUMENT.replace(b'"payments":[', b'"payments":[null,'),
        DOCUMENT.replace(b'"payments":[', b'"payments":null,"looks":['),
        DOCUMENT.replace(b'"status":"PAID"', b'"status":null'),
        DOCUMENT.replace(b'"payments":[', b'"unheard_of":[],"payments":['),
        DOCUMENT.replace(b'"looks":[', b'"looks":{},"hints":['),
        DOCUMENT.replace(b'"asks":{', b'"asks":[],"x":{'),
    ],
)
def test_what_is_no_document_is_unreadable_and_nothing_worse(document: bytes) -> None:
    with pytest.raises(UnreadableDocument):
        decode(document, 1)


def decoded_or_unreadable(document: bytes) -> None:
    try:
        decode(document, 1)
    except UnreadableDocument:
        return


@given(st.binary(max_size=64) | TEXT.map(str.encode) | JSON.map(json.dumps).map(str.encode))
def test_no_bytes_do_worse_than_be_unreadable(document: bytes) -> None:
    decoded_or_unreadable(document)


@given(st.integers(0, len(DOCUMENT)), st.integers(0, 12), st.binary(max_size=6) | JSON.map(json.dumps).map(str.encode))
def test_no_damage_to_a_document_does_worse_than_make_it_unreadable(at: int, gone: int, put: bytes) -> None:
    decoded_or_unreadable(DOCUMENT[:at] + put + DOCUMENT[at + gone :])


@st.composite
def mistyped(draw: st.DrawFn) -> bytes:
    """A document with one value, somewhere in it, of any other type."""
    values = json.loads(DOCUMENT)
    place = values
    key: object = draw(st.sampled_from(sorted(values)))
    while isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
        place = place[key]
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
    place[key] = draw(JSON)
    return json.dumps(values).encode()


@given(mistyped())
def test_no_value_of_another_type_does_worse_than_be_unreadable(document: bytes) -> None:
    decoded_or_unreadable(document)
