"""Never QPay itself, and never a traceback."""

import ast
import inspect
import socket
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tulbur.simulator import RefusedHostError, Simulator, create_simulator, serve
from tulbur.simulator.app import OPERATIONS
from tulbur.simulator.hosts import is_qpay_host

pytestmark = pytest.mark.anyio

Body = dict[str, Any]
Form = Callable[..., Body]
Make = Callable[..., Awaitable[Body]]


@pytest.mark.parametrize(
    ("host", "refused"),
    [
        ("qpay.mn", True),
        ("merchant.qpay.mn", True),
        ("MERCHANT-SANDBOX.QPAY.MN:443", True),
        ("s.qpay.mn.", True),
        ("notqpay.mn", False),
        ("qpay.mn.example.com", False),
        ("localhost:8765", False),
        ("[::1]:8765", False),
        ("", False),
        (None, False),
    ],
)
def test_hosts_of_qpay(host: str | None, *, refused: bool) -> None:
    assert is_qpay_host(host) is refused


def test_it_needs_nothing_else_of_tulbur() -> None:
    package = Path(inspect.getfile(create_simulator)).parent
    imported = {
        name
        for file in package.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        for name in _imports(node)
    }
    ours = {name for name in imported if name.split(".")[0] == "tulbur"}
    assert ours
    assert all(name.startswith("tulbur.simulator") for name in ours)


def _imports(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0
        return [node.module or ""]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


@pytest.mark.parametrize("host", ["merchant.qpay.mn", "qpay.mn"])
def test_it_does_not_start_as_qpay(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RefusedHostError, match=r"qpay\.mn"):
        serve(host, 0)
    with pytest.raises(RefusedHostError):
        create_simulator(public_url=f"https://{host}/v2")
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    with pytest.raises(RefusedHostError):
        serve("127.0.0.1", 0)


async def test_a_request_for_qpay_is_misdirected(client: httpx2.AsyncClient) -> None:
    response = await client.get("/", headers={"Host": "merchant.qpay.mn"})
    assert response.status_code == 421


BROKEN = [
    b"{",
    b"\xff\xfe",
    b"nul",
    b'{"amount": NaN}',
    b'{"amount": Infinity}',
    b'{"amount": 1e999999999999999999999}',
    b'{"amount": ' + b"9" * 5000 + b"}",
    b"[" * 50_000,
    b'{"a":' * 20_000,
    b'"\\ud800',
]


@pytest.mark.parametrize("content", BROKEN)
async def test_broken_json_is_a_400(client: httpx2.AsyncClient, content: bytes) -> None:
    for method, path, _, _ in OPERATIONS:
        response = await client.request(method, f"/v2/{path.format(id='none')}", content=content)
        assert response.status_code < 500, (path, response.text)
    response = await client.post("/v2/invoice", content=content)
    assert (response.status_code, response.json()["error"]) == (400, "SyntaxError")


async def test_a_body_that_is_too_large(client: httpx2.AsyncClient) -> None:
    response = await client.post("/v2/invoice", content=b" " * 200_000)
    assert response.status_code == 413


async def test_lone_surrogates_become_replacement_characters(client: httpx2.AsyncClient, form: Form) -> None:
    body = form(invoice_description="X").__repr__().replace("'X'", '"a\\ud800b"').replace("'", '"')
    made = await client.post("/v2/invoice", content=body.encode())
    assert made.status_code == 200
    shown = (await client.get(f"/v2/invoice/{made.json()['invoice_id']}")).json()
    assert shown["invoice_description"] == "a\ufffdb"
    assert (await client.get(f"/bank/{made.json()['invoice_id']}")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v2/nothing"), ("PUT", "/v2/invoice"), ("GET", "/v2/invoice"), ("POST", "/v2/<script>")],
)
async def test_unknown_routes_are_expresss_404(client: httpx2.AsyncClient, method: str, path: str) -> None:
    response = await client.request(method, path)
    assert response.status_code == 404
    assert f"Cannot {method} /v2/" in response.text
    assert "<script>" not in response.text


async def test_our_own_failure_is_a_busy_system(
    client: httpx2.AsyncClient, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulator, "tokens", None)
    response = await client.get("/v2/invoice/none")
    assert (response.status_code, response.json()["error"]) == (500, "SYSTEM_BUSY")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
FIELDS = [
    *("invoice_code", "sender_invoice_no", "amount", "callback_url", "lines", "transactions", "note"),
    *("allow_partial", "minimum_amount", "maximum_amount", "enable_expiry", "expiry_date"),
    *("sender_branch_data", "invoice_receiver_data", "object_type", "object_id", "offset", "start_date"),
    *("payment_id", "ebarimt_receiver_type"),
]
bodies = json_values | st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=12)


@pytest.fixture(scope="module")
def browser() -> TestClient:
    client = TestClient(create_simulator())
    token = client.post("/v2/auth/token", auth=("TEST_MERCHANT", "123456")).json()["access_token"]
    client.headers["Authorization"] = f"Bearer {token}"
    return client


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=bodies, data=st.data())
def test_no_body_breaks_it(browser: TestClient, body: object, data: st.DataObject) -> None:
    valid = {
        "invoice_code": "TEST_INVOICE",
        "sender_invoice_no": "1",
        "invoice_receiver_code": "terminal",
        "invoice_description": "test",
        "amount": 100,
        "callback_url": "http://127.0.0.1:9/",
    }
    merged = {**valid, **body} if isinstance(body, dict) and data.draw(st.booleans()) else body
    for path in ("invoice", "payment/check", "payment/list", "ebarimt_v3/create"):
        response = browser.post(f"/v2/{path}", json=merged)
        assert response.status_code < 500 or response.json()["error"] == "SYSTEM_BUSY", response.text
        if path == "invoice" and response.status_code == 200:
            assert browser.get(f"/v2/invoice/{response.json()['invoice_id']}").status_code == 200
            assert browser.get(f"/bank/{response.json()['invoice_id']}").status_code == 200
        elif path != "payment/list":
            assert response.status_code in {200, 400, 422}


async def test_it_runs_without_lifespan_and_closes_by_hand(
    app: Starlette, served: Callable[[Starlette], AbstractAsyncContextManager[str]], form: Form, silent: str
) -> None:
    basic = {"Authorization": aiohttp.encode_basic_auth("TEST_A", "123456")}
    async with served(app) as base, aiohttp.ClientSession(base) as session:
        async with session.post("/v2/auth/token", headers=basic) as response:
            headers = {"Authorization": f"Bearer {(await response.json())['access_token']}"}
        async with session.post("/v2/invoice", json=form(callback_url=silent), headers=headers) as response:
            invoice_id = (await response.json())["invoice_id"]
        with pytest.raises(TimeoutError):
            await session.post(f"/_sim/invoices/{invoice_id}/pay", timeout=aiohttp.ClientTimeout(total=0.2))
        simulator: Simulator = app.state.simulator
        assert len(simulator.callbacks._tasks) == 1
        await simulator.aclose()
        assert len(simulator.callbacks._tasks) == 0
