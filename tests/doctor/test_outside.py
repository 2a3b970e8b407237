"""QPay and the public address: each way in which they cannot be used is its own sentence."""

from __future__ import annotations

import base64
import datetime as dt
import ssl
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.doctor.world import SECRET, lines, mute, of, said, site

from tulbur.commands.demo import Demo
from tulbur.commands.doctor import Finding, provider
from tulbur.commands.doctor.address import public_url
from tulbur.settings import Required

pytestmark = pytest.mark.anyio


BASIC = "Basic " + base64.b64encode(b"TEST_MERCHANT:123456").decode()


def with_it(demo: Demo, **changes: Any) -> dict[str, Any]:
    return demo.settings.model_dump() | changes


async def login(demo: Demo, **changes: Any) -> Finding:
    return await of("qpay login", **with_it(demo, **changes))


async def fault(demo: Demo, **replies: Any) -> None:
    url = f"{demo.simulator_url}/_sim/faults"
    async with aiohttp.ClientSession() as http, http.put(url, json={"reply": replies}) as answer:
        assert answer.status == 200, await answer.text()


# --- QPay


async def test_a_wrong_password(demo: Demo) -> None:
    found = await login(demo, qpay_password=SECRET)
    assert (found.ok, "QPAY_PASSWORD" in found.remedy, "sandbox" in found.remedy) == (False, True, True)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://127.0.0.1:1", "nothing listens on 127.0.0.1:1 (connection refused)"),
        ("http://nowhere.invalid", "the name nowhere.invalid cannot be looked up"),
    ],
)
async def test_a_qpay_that_is_not_there(demo: Demo, url: str, sentence: str) -> None:
    found = await login(demo, qpay_base_url=url)
    assert (found.ok, sentence in found.detail, "QPAY_BASE_URL" in found.remedy) == (False, True, True)


async def test_a_qpay_that_never_says_a_word(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider, "TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(provider, "_TIMEOUTS", provider.Timeouts(token=0.5))
    async with mute() as port:
        found = await login(demo, qpay_base_url=f"http://127.0.0.1:{port}")
    assert (found.ok, "did not answer within 0.5 s" in found.detail) == (False, True)


async def test_a_page_that_is_not_qpay(demo: Demo) -> None:
    async with site(welcome) as port:
        found = await login(demo, qpay_base_url=f"http://127.0.0.1:{port}")
    assert (found.ok, "not JSON" in found.detail, "another program" in found.remedy) == (False, True, True)


async def welcome(_: web.Request) -> web.Response:
    return web.Response(text="<h1>Welcome to the café's network</h1>", content_type="text/html")


async def test_a_token_that_another_system_has_ended(demo: Demo) -> None:
    """QPay keeps one token alive for each login."""
    await demo.tulbur.open(user_id="u1", amount=1000)
    assert (await login(demo)).ok
    async with aiohttp.ClientSession() as other:
        answer = await other.post(f"{demo.simulator_url}/v2/auth/token", headers={"Authorization": BASIC})
        assert answer.status == 200
    found = await login(demo)
    assert (found.ok, "another system logs in with QPAY_USERNAME" in found.detail) == (False, True)
    assert "login of tulbur's own" in found.remedy
    assert (await login(demo)).ok


async def test_a_login_that_may_not_read_invoices_is_a_login(demo: Demo) -> None:
    await demo.tulbur.open(user_id="u1", amount=1000)
    refusal = {"status": 401, "body": {"error": "PERMISSION_DENIED", "message": "no"}}
    await fault(demo, invoice_get=refusal)
    found = await login(demo)
    assert found.ok, found


async def test_no_invoice_is_made(demo: Demo) -> None:
    await said(**with_it(demo))
    async with aiohttp.ClientSession() as http, http.get(f"{demo.simulator_url}/_sim/requests") as answer:
        asked = await answer.text()
    assert "auth/token" in asked
    assert '"POST","path":"/v2/invoice"' not in asked.replace(" ", "")


async def test_an_old_shop_whose_routes_are_on_may_share_the_login(demo: Demo) -> None:
    found = await said(**with_it(demo, seed_api="on", tulbur_jwt_secret="j" * 40))
    assert [one.detail for one in lines(found, "qpay login") if one.remedy] == [
        "SEED_API is on: an old shop on the same QPay login and tulbur would end each other's token"
    ]


async def test_a_clock_that_is_off(demo: Demo) -> None:
    async def an_hour_ago(_: web.Request) -> web.Response:
        return web.Response(headers={"Date": formatdate(time.time() - 3600, usegmt=True)})

    async with site(an_hour_ago) as port:
        found = await of("clock", **with_it(demo, qpay_base_url=f"http://127.0.0.1:{port}"))
    assert (found.ok, found.detail[:3], found.detail[5:]) == (False, "+36", " s from QPay's")
    assert "synchronise" in found.remedy


# --- the public address


def required(url: str, qpay: str = "http://127.0.0.1:1") -> Required:
    return Required(
        public_url=url,
        qpay_base_url=qpay,
        qpay_username="u",
        qpay_password="p",
        qpay_invoice_code="c",
        secret_keys=("k" * 40,),
    )


async def test_tulbur_itself_is_recognised(demo: Demo) -> None:
    found = await public_url(required(demo.base_url))
    assert (found.ok, found.remedy) == (True, "")


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://localhost:8080", "is this machine only"),
        ("https://127.0.0.1", "is this machine only"),
        ("https://10.1.2.3", "an address of a private network"),
        ("https://192.168.1.5:8443", "an address of a private network"),
        ("https://172.20.1.1", "an address of a private network"),
        ("https://100.64.0.9", "an address of a private network"),
        ("https://169.254.1.1", "an address of a private network"),
        ("https://[fd00::1]", "an address of a private network"),
        ("http://pay.shop.invalid", "is not https"),
        ("https://pay.shop.invalid", "the name pay.shop.invalid cannot be looked up"),
    ],
)
async def test_an_address_that_qpay_cannot_reach(url: str, sentence: str) -> None:
    found = await public_url(required(url, qpay="https://merchant.qpay.mn"))
    assert (found.ok, sentence in found.detail, "PUBLIC_URL" in found.remedy or "https" in found.remedy) == (
        False,
        True,
        True,
    )


async def test_nothing_listens_there() -> None:
    found = await public_url(required("http://127.0.0.1:1"))
    assert (found.ok, "nothing listens on" in found.detail, "tulbur serve" in found.remedy) == (False, True, True)


Answer = tuple[int, str, dict[str, str]]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ((200, "<h1>nginx</h1>", {}), "answers, but it is another program"),
        ((301, "", {"Location": "https://www.shop.invalid/?token=secret"}), "redirects to https://www.shop.invalid"),
        ((302, "", {"Location": "/login"}), "redirects"),
        ((401, "", {}), "a proxy lets nobody in"),
        ((403, "", {}), "a proxy lets nobody in"),
        ((502, "", {}), "its proxy does not reach tulbur"),
        ((404, "", {}), "/healthz answers 404"),
    ],
)
async def test_something_else_answers_there(answer: Answer, sentence: str) -> None:
    async def other(_: web.Request) -> web.Response:
        return web.Response(status=answer[0], text=answer[1], headers=answer[2])

    async with site(other) as port:
        found = await public_url(required(f"http://127.0.0.1:{port}"))
    assert (found.ok, sentence in found.detail) == (False, True), found
    assert "secret" not in found.detail
    assert found.remedy


@pytest.mark.parametrize(("status", "text"), [(403, "Forbidden"), (200, "<form>log in</form>"), (404, "<h1>404</h1>")])
async def test_callbacks_that_do_not_come_through(status: int, text: str) -> None:
    async def proxy(request: web.Request) -> web.Response:
        if request.path == "/healthz":
            return web.Response(text="ok")
        return web.Response(status=status, text=text, content_type="text/html")

    async with site(proxy) as port:
        found = await public_url(required(f"http://127.0.0.1:{port}"))
    assert (found.ok, "QPay's callbacks do not come through" in found.detail) == (False, True)
    assert f"answers {status}" in found.detail


def certificate(folder: Path, days: int) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=30))
        .not_valid_after(now + dt.timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


@pytest.mark.parametrize(("days", "why"), [(30, "self-signed certificate"), (-1, "certificate")])
async def test_a_certificate_that_nobody_accepts(tmp_path: Path, days: int, why: str) -> None:
    async with site(welcome, certificate(tmp_path, days)) as port:
        found = await public_url(required(f"https://127.0.0.1:{port}"))
    assert (found.ok, "is not valid" in found.detail, why in found.detail) == (False, True, True), found
    assert "public authority" in found.remedy


async def test_no_tls_at_all() -> None:
    async with site(welcome) as port:
        found = await public_url(required(f"https://127.0.0.1:{port}"))
    assert (found.ok, "speaks no TLS" in found.detail) == (False, True), found
