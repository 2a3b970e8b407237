"""What the client's tests stand on: a clock, a store for tokens, and a small QPay with QPay's documented answers."""

import asyncio
import base64
import json
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tulbur.core.session import SECOND
from tulbur.errors import StoreUnavailable
from tulbur.ports import StoredToken

NOW = 1_788_800_000 * SECOND
USERNAME, PASSWORD = "TEST_MERCHANT", "123456-and-more"
JSON = "application/json; charset=utf-8"

INVOICE_ID = "0f0c1a9e-7c1e-4f8e-9d0a-0b4f4d2f8a11"
PAYMENT_ID = "049300000000001"
CARD_ID = "6b1f1f3e-64d6-4b7e-8d29-9c1a5b3f5a01"
QR = "0002010102121531279404962794049600000000000000152045734530349654031005802MN6304C0DE"

INVOICE = (
    (
        '{"invoice_id":"<invoice>","qr_text":"<qr>","qr_image":"iVBORw0KGgo=","qPay_shortUrl":"https://s.qpay.mn/abc",'
        '"urls":[{"name":"qPay wallet","description":"qPay хэтэвч","logo":"https://s3.qpay.mn/p/q.png",'
        '"link":"qpaywallet://q?qPay_QRcode=<qr>"},'
        '{"name":"Khan bank","description":"Хаан банк","logo":"https://qpay.mn/q/logo/khanbank.png",'
        '"link":"khanbank://q?qPay_QRcode=<qr>"}]}'
    )
    .replace("<invoice>", INVOICE_ID)
    .replace("<qr>", QR)
)

P2P_ROW = (
    '{"payment_id":"<payment>","payment_status":"PAID","payment_amount":"100.00","ebarimt_customer_no":null,'
    '"trx_fee":"1.00","payment_currency":"MNT","payment_wallet":"Хаан банк апп","payment_type":"P2P",'
    '"next_payment_date":null,"next_payment_datetime":null,"card_transactions":[],'
    '"p2p_transactions":[{"transaction_bank_code":"050000","account_bank_code":"050000",'
    '"account_bank_name":"Хаан банк","account_number":"50*******","status":"SUCCESS","amount":"99.00",'
    '"currency":"MNT","settlement_status":"SETTLED"}]}'
).replace("<payment>", PAYMENT_ID)

CARD_ROW = (
    '{"payment_id":"<payment>","payment_status":"PAID","payment_amount":"100.00","trx_fee":"1.00",'
    '"payment_currency":"MNT","payment_wallet":"0fc9b71c-cd87-4ffd-9cac-2279ebd9deb0","payment_type":"CARD",'
    '"next_payment_date":null,"card_transactions":[{"card_type":"VISA","is_cross_border":false,"amount":"100.00",'
    '"currency":"MNT","date":"2026-03-17T03:20:11.000Z","status":"SUCCESS","settlement_status":"PENDING",'
    '"settlement_status_date":"2026-03-17T03:20:11.000Z"}],"p2p_transactions":[]}'
).replace("<payment>", CARD_ID)

PAYMENT = (
    (
        '{"payment_id":"<payment>","payment_status":"PAID","payment_fee":"1.00","payment_amount":"100.00",'
        '"payment_currency":"MNT","payment_date":"2026-03-17T03:20:11.000Z","payment_wallet":"Хаан банк апп",'
        '"object_type":"INVOICE","object_id":"<invoice>","next_payment_date":null,"next_payment_datetime":null,'
        '"transaction_type":"P2P","card_transactions":[],"p2p_transactions":[]}'
    )
    .replace("<payment>", PAYMENT_ID)
    .replace("<invoice>", INVOICE_ID)
)

LIST_ROW = (
    (
        '{"payment_id":"<payment>","payment_date":"2026-03-17 11:20:11","payment_status":"PAID","payment_fee":"1.00",'
        '"payment_amount":"100.00","payment_currency":"MNT","payment_wallet":"Хаан банк апп","payment_name":"",'
        '"payment_description":"","qr_code":"","paid_by":"P2P","object_type":"INVOICE","object_id":"<invoice>"}'
    )
    .replace("<payment>", PAYMENT_ID)
    .replace("<invoice>", INVOICE_ID)
)

SEEN_INVOICE = (
    '{"invoice_id":"<invoice>","invoice_status":"OPEN","sender_invoice_no":"TB1","invoice_description":"x",'
    '"invoice_due_date":null,"enable_expiry":false,"expiry_date":"2026-03-17T03:20:11.000Z",'
    '"minimum_amount":"0.00","total_amount":"100.00","gross_amount":100,"tax_amount":0,"payments":[]}'
).replace("<invoice>", INVOICE_ID)

UNPAID = '{"count":0,"rows":[]}'


def paid(*rows: str, count: int | None = None) -> str:
    number = len(rows) if count is None else count
    return f'{{"count":{number},"paid_amount":{100 * len(rows)},"rows":[{",".join(rows)}]}}'


def numbered(first: int, rows: int, template: str = P2P_ROW) -> list[str]:
    return [template.replace(PAYMENT_ID, f"{n:015d}") for n in range(first, first + rows)]


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)

    async def sleep(self, seconds: float) -> None:
        """A pause of the given length on this clock, and of a moment in the world."""
        self.advance(seconds)
        await asyncio.sleep(0.001)


class TokenStore:
    """The store's lease and token methods, in memory; yields at every call, as a database would."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.leases: dict[str, tuple[str, int]] = {}
        self.tokens: dict[str, StoredToken] = {}
        self.calls: list[str] = []
        self.down = False

    async def _called(self, name: str) -> None:
        self.calls.append(name)
        await asyncio.sleep(0)
        if self.down:
            raise StoreUnavailable

    async def lease(self, name: str, owner: str, seconds: float) -> bool:
        await self._called("lease")
        holder, until = self.leases.get(name, (owner, 0))
        if holder != owner and until > self.clock():
            return False
        self.leases[name] = (owner, self.clock() + int(seconds * SECOND))
        return True

    async def token_get(self, login: str) -> StoredToken | None:
        await self._called("token_get")
        return self.tokens.get(login)

    async def token_put(self, login: str, token: StoredToken) -> None:
        await self._called("token_put")
        self.tokens[login] = token


@dataclass
class Reply:
    status: int = 200
    body: str | bytes = "{}"
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Seen:
    operation: str
    method: str
    path: str
    authorization: str
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


Answer = Reply | Callable[[], Reply]

NO_CREDENTIALS = Reply(401, '{"error":"NO_CREDENTIALS","message":"NO_CREDENTIALS"}')
PERMISSION_DENIED = Reply(401, '{"error":"PERMISSION_DENIED","message":"Хандах эрх хүрэхгүй байна"}')
BAD_LOGIN = Reply(401, '{"error":"AUTHENTICATION_FAILED","message":"Нэвтрэх нэр, нууц үг буруу"}')
SYSTEM_BUSY = Reply(500, '{"error":"SYSTEM_BUSY","message":"SYSTEM_BUSY"}')
BAD_GATEWAY = Reply(502, "<html><body>502 Bad Gateway</body></html>", "text/html")


class FakeQPay:
    """One live token per login, QPay's answers, and a script of other answers per operation."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.logins = 0
        self.live = ""
        self.seen: list[Seen] = []
        self.url = ""
        self.always: dict[str, Answer] = {
            "invoice_create": Reply(body=INVOICE),
            "invoice_get": Reply(body=SEEN_INVOICE),
            "invoice_cancel": Reply(),
            "payment_check": Reply(body=paid(P2P_ROW)),
            "payment_get": Reply(body=PAYMENT),
            "payment_list": Reply(body=paid(LIST_ROW)),
        }
        self.script: dict[str, deque[Answer]] = defaultdict(deque)

    def then(self, operation: str, *answers: Answer) -> None:
        """What this operation answers next, before it goes on as always."""
        self.script[operation].extend(answers)

    def count(self, operation: str) -> int:
        return sum(seen.operation == operation for seen in self.seen)

    def bodies(self, operation: str) -> list[Any]:
        return [seen.json for seen in self.seen if seen.operation == operation]

    def steal(self) -> None:
        """Another system logs in with the same name: the token everybody holds is dead."""
        self.live = "stolen"

    def app(self) -> web.Application:
        app = web.Application()
        for method, path, operation in (
            ("POST", "/v2/auth/token", "token"),
            ("POST", "/v2/invoice", "invoice_create"),
            ("GET", "/v2/invoice/{id}", "invoice_get"),
            ("DELETE", "/v2/invoice/{id}", "invoice_cancel"),
            ("POST", "/v2/payment/check", "payment_check"),
            ("POST", "/v2/payment/list", "payment_list"),
            ("GET", "/v2/payment/{id}", "payment_get"),
        ):
            app.router.add_route(method, path, self._handler(operation))
        return app

    def _handler(self, operation: str) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.Response:
            authorization = request.headers.get("Authorization", "")
            text = await request.text()
            self.seen.append(Seen(operation, request.method, request.path_qs, authorization, text))
            reply = self._reply(operation, authorization)
            body = reply.body.encode() if isinstance(reply.body, str) else reply.body
            headers = {"Content-Type": reply.content_type, **reply.headers}
            return web.Response(status=reply.status, body=body, headers=headers)

        return handle

    def _reply(self, operation: str, authorization: str) -> Reply:
        if self.script[operation]:
            return _now(self.script[operation].popleft())
        if operation == "token":
            return _now(self.always["token"]) if "token" in self.always else self._token(authorization)
        if authorization != f"Bearer {self.live}":
            return NO_CREDENTIALS
        return _now(self.always[operation])

    def _token(self, authorization: str) -> Reply:
        expected = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
        if authorization != f"Basic {expected}":
            return BAD_LOGIN
        self.logins += 1
        self.live = f"token-{self.logins}"
        expires = self.clock() // SECOND + 86_400
        return Reply(
            body=f'{{"token_type":"bearer","refresh_expires_in":{expires},"refresh_token":"refresh-{self.logins}",'
            f'"access_token":"{self.live}","expires_in":{expires},"scope":"get_token","not-before-policy":"0",'
            '"session_state":"sandbox"}'
        )


def _now(answer: Answer) -> Reply:
    return answer() if callable(answer) else answer
