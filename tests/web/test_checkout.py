"""The payer's routes, asked in process."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import MutableMapping
from dataclasses import replace
from html import unescape
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from tests.web.checkout_world import (
    LATER,
    LINKS,
    NOON,
    Parts,
    answered,
    cancelled,
    client,
    expired,
    paid,
    underpaid,
    uninvoiced,
    waiting,
)

from tulbur.core import steps
from tulbur.core.session import SECOND, Link, Reason, Session
from tulbur.links import Links
from tulbur.web.assets import STATIC, asset
from tulbur.web.checkout import MOST_BODY_BYTES
from tulbur.web.live import LiveSessions
from tulbur.web.texts import EN, MN

pytestmark = pytest.mark.anyio

KEYS = {"status", "exceptions", "amount", "expires_at", "orders"}
HTML = {"accept": "text/html,application/xhtml+xml"}


@pytest.fixture
def parts() -> Parts:
    return Parts()


async def page(parts: Parts, session: Session, query: str = "", **headers: str) -> str:
    parts.payments.put(session)
    async with client(parts.app()) as http:
        answer = await http.get(parts.path(session, query), headers=headers)
    assert answer.status_code == 200
    return answer.text


def state(html: str) -> str:
    found = re.search(r'data-state="(\w+)"', html)
    assert found is not None
    return found[1]


def seen(html: str) -> str:
    """What a reader sees of a page: what is not hidden, as text (no hidden part of ours holds another `div`)."""
    visible = re.sub(r"<(div|p|section)\b[^>]* hidden>.*?</\1>", "", html.partition("</head>")[2], flags=re.DOTALL)
    return unescape(re.sub(r"[ \n]+", " ", re.sub(r"<[^>]+>", " ", visible)))


# --- the page --------------------------------------------------------------------------------------------------------


async def test_the_page_shows_what_is_paid_how_and_until_when(parts: Parts) -> None:
    html = await page(parts, waiting())
    text = seen(html)
    assert state(html) == "waiting"
    for shown in ("Номин дэлгүүр – захиалга 1042", "50,000\xa0₮", MN.waiting, "30 минут", MN.have_paid, "Хаан банк"):
        assert shown in text
    for hidden in (MN.paid, MN.expired, MN.cancelled, MN.underpaid, MN.uninvoiced):
        assert hidden not in text
    assert '<path fill="#fff" d="M0 0h' in html
    assert 'role="img" aria-label="Төлбөрийн QR код, 50,000\xa0₮"' in html


async def test_the_headers_let_nothing_foreign_in_and_no_address_out(parts: Parts) -> None:
    parts.payments.put(waiting())
    async with client(parts.app()) as http:
        answer = await http.get(parts.path(waiting()))
    assert answer.headers["content-security-policy"] == (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["vary"] == "Accept-Language"
    assert answer.headers["content-language"] == "mn"


async def test_the_page_is_light_and_asks_nothing_of_others(parts: Parts) -> None:
    html = await page(parts, waiting(return_url=None))
    without_qr = re.sub(r"<svg viewBox[^>]*><path fill=.*?</svg>", "", html, flags=re.DOTALL)
    assert len(without_qr) < len(html)
    files = sum((STATIC / name).stat().st_size for name in ("checkout.css", "checkout.js", "icon.svg"))
    assert len(without_qr.encode()) + files < 30_000
    assert "http://" not in html
    assert "https://" not in html
    assert "style=" not in html
    assert not re.search(r"<script(?![^>]* src=)|\son\w+=", html)


@pytest.mark.parametrize(
    ("session", "now", "shown", "texts"),
    [
        (uninvoiced(), NOON, "uninvoiced", [MN.uninvoiced, MN.try_again]),
        (underpaid(), NOON, "underpaid", [MN.underpaid, "30,000\xa0₮", "20,000\xa0₮", MN.have_paid]),
        (waiting(), LATER, "expired", [MN.expired, MN.expired_paid, MN.have_paid]),
        (expired(), LATER, "expired", [MN.expired, MN.expired_paid, MN.have_paid, MN.back_to_shop]),
        (steps.expired(underpaid(), LATER), LATER, "expired", [MN.expired, "30,000\xa0₮", MN.money_kept]),
        (cancelled(), NOON, "cancelled", [MN.cancelled, MN.cancelled_hint, MN.have_paid]),
        (paid(), NOON, "paid", [MN.paid, paid().orders[0].id, MN.back_to_shop]),
        (answered(waiting(), 50_000, 20_000), NOON, "paid", [MN.paid, MN.to_pay_back, "20,000\xa0₮"]),
        (answered(expired(), 50_000, now=LATER), LATER, "paid", [MN.paid]),
    ],
)
async def test_every_state_has_its_face(parts: Parts, session: Session, now: int, shown: str, texts: list[str]) -> None:
    parts.now = now
    html = await page(parts, session)
    assert state(html) == shown
    assert [text for text in texts if text not in seen(html)] == []
    payable = shown in ("waiting", "underpaid")
    assert ("<path fill=" in html, 'class="apps"' in html) == (payable, payable)


async def test_money_that_went_back_is_told(parts: Parts) -> None:
    refunded = answered(paid(), 50_000, status="REFUNDED", now=NOON + 60 * SECOND)
    html = await page(parts, refunded)
    assert MN.paid_back in seen(html)


async def test_without_a_script_the_page_renews_itself_until_it_is_paid(parts: Parts) -> None:
    refresh = re.compile(r'<noscript><meta http-equiv="refresh" content="(\d+); url=\./[\w-]+\?lang=mn"></noscript>')
    for session, seconds in ((waiting(), "10"), (uninvoiced(), "10"), (expired(), "30"), (cancelled(), "30")):
        found = refresh.search(await page(parts, session))
        assert found is not None
        assert found[1] == seconds
    assert "refresh" not in await page(parts, paid())


@pytest.mark.parametrize(
    ("query", "accept", "lang"),
    [
        ("", "", "mn"),
        ("", "en-US,en;q=0.9", "en"),
        ("", "de,fr;q=0.9", "mn"),
        ("", "en;q=0.5,mn;q=0.8", "mn"),
        ("", "en;q=0, *", "mn"),
        ("", "en;q=broken", "mn"),
        ("", "de, en-GB;q=0.7, mn;q=0.2", "en"),
        ("?lang=mn", "en", "mn"),
        ("?lang=en", "mn", "en"),
        ("?lang=xx", "en", "en"),
    ],
)
async def test_the_language_is_the_payers(parts: Parts, query: str, accept: str, lang: str) -> None:
    html = await page(parts, waiting(), query, **{"accept-language": accept})
    texts = {"mn": MN, "en": EN}[lang]
    assert f'<html lang="{lang}">' in html
    assert texts.waiting in seen(html)
    assert f'href="?lang={texts.other_lang}"' in html
    assert f"/check?lang={lang}" in html


async def test_apps_are_named_in_the_readers_language_banks_first(parts: Parts) -> None:
    text = seen(await page(parts, waiting()))
    assert text.index(MN.banks) < text.index("Хаан банк") < text.index(MN.wallets) < text.index("qPay хэтэвч")
    text = seen(await page(parts, waiting(), "?lang=en"))
    assert text.index("Khan bank") < text.index(EN.wallets) < text.index("qPay wallet")


async def test_links_are_the_ones_qpay_gave_and_logos_are_not_loaded(parts: Parts) -> None:
    html = await page(parts, waiting())
    hrefs = [unescape(href) for href in re.findall(r'<li><a href="([^"]*)">', html)]
    assert sorted(hrefs) == sorted(link.link for link in LINKS)
    assert "qpay.mn" not in html
    assert "<img" not in html


@pytest.mark.parametrize(
    "link",
    [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "java\tscript:alert(1)",
        " javascript:alert(1)",
        "data:text/html,x",
        "vbscript:x",
        "//evil.example",
        "no scheme",
        "",
    ],
)
async def test_a_link_that_would_run_something_is_left_out(parts: Parts, link: str) -> None:
    links = (Link("Bad bank", "Муу банк", "", link), Link("Good bank", "Сайн банк", "", "good://q?x=a b"))
    html = await page(parts, waiting(links=links))
    assert "Муу банк" not in html
    assert '<a href="good://q?x=a b">' in html


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://shop.mn/a?b=1&c=2", True),
        ("http://shop.mn", True),
        ("javascript:alert(1)", False),
        ("//shop.mn", False),
        ("https:\\\\shop.mn", False),
        ("https://", False),
        ("https://[", False),
        ("https://shop.mn/\n", False),
        ("shop://back", False),
    ],
)
async def test_only_a_web_address_leads_back_to_the_shop(parts: Parts, url: str, kept: bool) -> None:
    html = await page(parts, paid(return_url=url))
    assert (MN.back_to_shop in html) is kept
    assert (f'href="{url.replace("&", "&amp;")}"' in html) is kept


async def test_everything_is_escaped(parts: Parts) -> None:
    nasty = "\"><script>alert('x')</script>"
    html = await page(parts, waiting(description=nasty, links=(Link(nasty, nasty, nasty, f"app://{nasty}"),)))
    assert "<script>alert" not in html
    assert '">&lt;' not in html.replace('">&#34;', "")
    assert unescape(html).count(nasty) >= 3


async def test_a_text_too_long_for_a_qr_code_leaves_the_apps(parts: Parts) -> None:
    html = await page(parts, waiting(qr="9" * 8000, links=(Link("Bank", "Банк", "", "bank://q"),)))
    assert "bank://q" in html
    assert 'class="qr"' not in html


async def test_an_unnamed_order_still_has_a_heading(parts: Parts) -> None:
    assert MN.some_order in seen(await page(parts, waiting(description="")))


# --- who may ask -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", ["", "/status", "/events", "/check"])
async def test_a_wrong_token_is_not_found_before_anything_is_read(parts: Parts, more: str) -> None:
    parts.payments.put(waiting())
    async with client(parts.app()) as http:
        for token in ("x", "javascript:alert(1)", parts.path(waiting(id="S2")).rpartition("/")[2]):
            path = f"/pay/S1/{token}{more}"
            answer = await (http.post(path) if more == "/check" else http.get(path))
            assert answer.status_code == 404
            assert "javascript" not in answer.text
    assert parts.payments.reads == 0
    assert parts.payments.asked == []


async def test_a_wrong_address_gets_a_friendly_page(parts: Parts) -> None:
    async with client(parts.app()) as http:
        answer = await http.get("/pay/S1/wrong", headers={"accept-language": "en"})
    assert answer.status_code == 404
    assert EN.not_found in answer.text
    assert "content-security-policy" in answer.headers


async def test_a_session_that_is_gone_looks_like_a_wrong_address(parts: Parts) -> None:
    async with client(parts.app()) as http:
        gone = await http.get(parts.path(waiting()))
        wrong = await http.get("/pay/S1/wrong")
        assert (gone.status_code, gone.text) == (wrong.status_code, wrong.text)
        for more in ("/status", "/events"):
            answer = await http.get(parts.path(waiting(), more))
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert parts.live.streams == 0


async def test_a_rotated_key_still_opens_the_page(parts: Parts) -> None:
    path = parts.path(parts.payments.put(waiting()))
    parts.links = Links(
        "https://pay.example", ["a-newer-key-for-tests-0123456789abcdef", "a-key-only-for-tests-0123456789abcdef"]
    )
    async with client(parts.app()) as http:
        assert (await http.get(path)).status_code == 200


async def test_without_the_database_the_page_says_so_and_comes_back(parts: Parts) -> None:
    parts.payments.down = True
    async with client(parts.app()) as http:
        answer = await http.get(parts.path(waiting()))
        status = await http.get(parts.path(waiting(), "/status"))
    assert answer.status_code == status.status_code == 503
    assert answer.headers["retry-after"] == status.headers["retry-after"] == "5"
    assert '<meta http-equiv="refresh" content="10">' in answer.text
    assert MN.unavailable in answer.text
    assert status.headers["content-type"] == "application/problem+json"


# --- status and check ------------------------------------------------------------------------------------------------


async def test_status_is_small_exact_and_never_kept(parts: Parts) -> None:
    session = parts.payments.put(paid(expires_at=NOON + 1800 * SECOND + 250_000))
    async with client(parts.app()) as http:
        answer = await http.get(parts.path(session, "/status"))
    assert answer.json() == {
        "status": "PAID",
        "exceptions": [],
        "amount": "50000.00",
        "expires_at": "2026-09-21T14:43:20.250000Z",
        "orders": [session.orders[0].id],
    }
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/json"


async def test_i_have_paid_asks_qpay_for_the_payer(parts: Parts) -> None:
    path = parts.path(parts.payments.put(waiting()), "/check")
    parts.payments.found = paid()
    async with client(parts.app()) as http:
        answer = await http.post(path, headers={"accept": "application/json", "sec-fetch-site": "same-origin"})
    assert (answer.status_code, answer.json()["status"], set(answer.json())) == (200, "PAID", KEYS)
    assert parts.payments.asked == [("S1", Reason.PAYER)]


async def test_while_the_bank_does_not_answer_the_stored_state_is_given_as_accepted(parts: Parts) -> None:
    path = parts.path(parts.payments.put(waiting()), "/check")
    parts.payments.silent = True
    async with client(parts.app()) as http:
        answer = await http.post(path)
    assert (answer.status_code, answer.json()["status"], set(answer.json())) == (202, "PENDING", KEYS)


@pytest.mark.parametrize(
    ("silent", "asked", "note"),
    [(False, "pending", EN.not_yet), (True, "bank", EN.still_asking)],
    ids=["not yet", "no answer"],
)
async def test_a_plain_form_goes_back_to_the_page_with_the_answer(
    parts: Parts,
    silent: bool,
    asked: str,
    note: str,
) -> None:
    path = parts.path(parts.payments.put(waiting()))
    parts.payments.silent = silent
    async with client(parts.app()) as http:
        answer = await http.post(f"{path}/check?lang=en", headers=HTML, content=b"")
        assert answer.status_code == 303
        assert answer.headers["location"] == f"../{path.rpartition('/')[2]}?lang=en&asked={asked}"
        back = await http.get(str(answer.url.join(answer.headers["location"])))
    assert note in seen(back.text)
    assert EN.waiting in seen(back.text)


async def test_a_strange_language_is_not_carried_along(parts: Parts) -> None:
    path = parts.path(parts.payments.put(waiting()))
    async with client(parts.app()) as http:
        answer = await http.post(f"{path}/check?lang=%0d%0aX", headers=HTML)
    assert answer.headers["location"].endswith("?asked=pending")


async def test_another_site_may_not_ask(parts: Parts) -> None:
    path = parts.path(parts.payments.put(waiting()), "/check")
    async with client(parts.app()) as http:
        answer = await http.post(path, headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403
    assert parts.payments.asked == []


async def test_a_body_is_ignored_and_capped(parts: Parts) -> None:
    path = parts.path(parts.payments.put(waiting()), "/check")
    async with client(parts.app()) as http:
        assert (await http.post(path, content=b"x" * MOST_BODY_BYTES)).status_code == 200
        assert (await http.post(path, content=b"x" * (MOST_BODY_BYTES + 1))).status_code == 413
        assert (await http.get(path)).status_code == 405
    assert len(parts.payments.asked) == 1


# --- below a prefix --------------------------------------------------------------------------------------------------


async def test_every_link_works_below_a_prefix(parts: Parts) -> None:
    app = Starlette(routes=[Mount("/shop/pay-service", app=parts.app())])
    path = "/shop/pay-service" + parts.path(parts.payments.put(waiting()))
    async with client(app) as http:
        shown = await http.get(path)
        for link in re.findall(r'(?:href|src)="(\.\./[^"]+|\?[^"]+)"', shown.text):
            assert (await http.get(str(shown.url.join(unescape(link))))).status_code == 200
        action = re.findall(r'action="([^"]+)"', shown.text)[0]
        answer = await http.post(str(shown.url.join(action)), headers=HTML, follow_redirects=True)
    assert answer.status_code == 200
    assert answer.url.path == path


# --- static files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["checkout.css", "checkout.js", "icon.svg"])
async def test_a_file_is_kept_for_ever_under_the_name_of_its_content(parts: Parts, name: str) -> None:
    async with client(parts.app()) as http:
        named = await http.get(f"/{asset(name)}")
        other = await http.get(f"/static/{name}?v=old")
        bare = await http.get(f"/static/{name}")
    assert named.status_code == 200
    assert named.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert {other.headers["cache-control"], bare.headers["cache-control"]} == {"no-cache"}
    assert named.headers["x-content-type-options"] == "nosniff"


async def test_nothing_beside_the_static_files_is_served(parts: Parts) -> None:
    async with client(parts.app()) as http:
        for path in ("/static/..%2fcheckout.py", "/static/%2e%2e/texts.py", "/static/", "/static/none.css"):
            assert (await http.get(path)).status_code in (404, 405)


# --- events ----------------------------------------------------------------------------------------------------------


class Reader:
    """One client of a stream: what it was sent, until it goes away."""

    def __init__(self, app: Any, path: str, method: str = "GET") -> None:
        self.sent: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self._gone = asyncio.Event()
        self._asked = False
        self.blocked = False
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [],
        }
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self) -> MutableMapping[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        if self.blocked:
            raise OSError
        self.sent.put_nowait(message)

    async def head(self) -> tuple[int, dict[str, str]]:
        message = await self.sent.get()
        return message["status"], {name.decode(): value.decode() for name, value in message["headers"]}

    async def piece(self) -> str:
        message = await self.sent.get()
        return str(message["body"].decode())

    def leave(self) -> None:
        self._gone.set()


async def test_a_stream_sends_the_state_at_once_and_paid_at_last(parts: Parts) -> None:
    session = parts.payments.put(waiting())
    reader = Reader(parts.app(), parts.path(session, "/events"))
    status, headers = await reader.head()
    assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert headers["cache-control"] == "no-store"
    assert "content-length" not in headers
    assert await reader.piece() == "retry: 3000\n\n"
    assert '"status":"PENDING"' in await reader.piece()
    parts.live.changed(replace(paid(), version=9))
    event, _, data = (await reader.piece()).strip().partition("\n")
    assert event == "event: status"
    assert json.loads(data.removeprefix("data: "))["status"] == "PAID"
    assert await reader.sent.get() == {"type": "http.response.body", "body": b"", "more_body": False}
    await reader.task
    assert parts.live.streams == 0


async def test_a_reader_that_leaves_frees_everything(parts: Parts) -> None:
    reader = Reader(parts.app(), parts.path(parts.payments.put(waiting()), "/events"))
    await reader.head()
    assert parts.live.streams == 1
    reader.leave()
    await reader.task
    assert parts.live.streams == 0


async def test_a_broken_connection_frees_everything(parts: Parts) -> None:
    reader = Reader(parts.app(), parts.path(parts.payments.put(waiting()), "/events"))
    await reader.head()
    reader.blocked = True
    parts.live.changed(replace(paid(), version=9))
    await reader.task
    assert parts.live.streams == 0


async def test_a_shutdown_ends_a_stream_properly(parts: Parts) -> None:
    reader = Reader(parts.app(), parts.path(parts.payments.put(waiting()), "/events"))
    await reader.head()
    parts.live.close()
    await reader.task
    assert parts.live.streams == 0
    refused = Reader(parts.app(), parts.path(waiting(), "/events"))
    assert (await refused.head())[0] == 503
    await refused.task


async def test_one_stream_too_many_has_to_poll(parts: Parts) -> None:
    parts.live = LiveSessions(most_per_session=1)
    app = parts.app()
    path = parts.path(parts.payments.put(waiting()), "/events")
    first = Reader(app, path)
    await first.head()
    second = Reader(app, path)
    status, headers = await second.head()
    assert (status, headers["retry-after"]) == (503, "5")
    await second.task
    first.leave()
    await first.task


async def test_only_the_head_of_a_stream_opens_none(parts: Parts) -> None:
    reader = Reader(parts.app(), parts.path(parts.payments.put(waiting()), "/events"), "HEAD")
    assert (await reader.head())[0] == 200
    await reader.task
    assert parts.live.streams == 0
