"""`python -m bench.qpay PORT`: the simulator's answers, word for word, for a tenth of its processor time.

The simulator itself is asked once, as this starts, for a token, an invoice, and the check of an unpaid and of a paid
one; from then on those bodies are sent, with the ids in them exchanged. It knows no other routes, faults or tokens.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import uuid
from collections.abc import Callable
from itertools import count
from typing import Any, Final, cast

import httpx2
import uvloop

from tulbur.simulator.app import create_simulator

LOGIN: Final = ("TEST_BENCH", "123456")

_HEAD: Final = re.compile(rb"(\w+) (\S+) HTTP/1\.1\r\n")
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_PAY: Final = re.compile(r"/_sim/invoices/([^/]+)/pay")


class Answers:
    """What the simulator says, with holes for the ids."""

    def __init__(self, token: str, invoice: str, unpaid: str, paid: str, ids: tuple[str, str]) -> None:
        invoice_id, payment_id = ids
        assert invoice_id in invoice
        assert payment_id in paid
        self.token = token
        self.unpaid = unpaid
        self._invoice, self._paid = invoice, paid
        self._invoice_id, self._payment_id = invoice_id, payment_id

    def invoice(self, invoice_id: str) -> str:
        return self._invoice.replace(self._invoice_id, invoice_id)

    def paid(self, invoice_id: str, payment_id: str) -> str:
        return self._paid.replace(self._invoice_id, invoice_id).replace(self._payment_id, payment_id)


async def learned(amount: int) -> Answers:
    """The answers about invoices of this amount, in tugrik."""
    app = create_simulator()
    body = {
        "invoice_code": "TEST_INVOICE",
        "sender_invoice_no": "bench",
        "invoice_receiver_code": "terminal",
        "invoice_description": "bench",
        "amount": amount,
        "callback_url": "http://127.0.0.1/",
    }
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://127.0.0.1") as http:
        token = (await http.post("/v2/auth/token", auth=LOGIN)).raise_for_status()
        http.headers["Authorization"] = f"Bearer {token.json()['access_token']}"
        invoice = (await http.post("/v2/invoice", json=body)).raise_for_status()
        invoice_id = str(invoice.json()["invoice_id"])
        asked = {"object_type": "INVOICE", "object_id": invoice_id, "offset": {"page_number": 1, "page_limit": 100}}
        unpaid = (await http.post("/v2/payment/check", json=asked)).raise_for_status()
        pay = (await http.post(f"/_sim/invoices/{invoice_id}/pay", json={"callback": False})).raise_for_status()
        paid = (await http.post("/v2/payment/check", json=asked)).raise_for_status()
    await app.state.simulator.aclose()
    ids = (invoice_id, str(pay.json()["payment_id"]))
    return Answers(token.text, invoice.text, unpaid.text, paid.text, ids)


class Books:
    """Which invoices there are, and what paid them ("" when nothing did)."""

    def __init__(self, answers: Answers, amount: int) -> None:
        self._answers, self._amount = answers, amount
        self._payments: dict[str, str] = {}
        self._numbers = count(1)

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, str]:
        """Status and body."""
        if (method, path) == ("POST", "/v2/payment/check"):
            invoice_id = json.loads(body)["object_id"]
            payment_id = self._payments.get(invoice_id, "")
            return 200, self._answers.paid(invoice_id, payment_id) if payment_id else self._answers.unpaid
        if (method, path) == ("POST", "/v2/invoice"):
            return self._invoiced(json.loads(body))
        if (method, path) == ("POST", "/v2/auth/token"):
            return 200, self._answers.token
        if (method, path) == ("GET", "/"):
            return 200, "{}"
        pay = _PAY.fullmatch(path)
        return self._paid(pay[1]) if pay else (501, '{"message": "the benchmark does not ask for this"}')

    def _invoiced(self, body: Any) -> tuple[int, str]:  # noqa: ANN401 - JSON
        if body["amount"] != self._amount:
            return 501, '{"message": "the benchmark has one amount"}'
        invoice_id = str(uuid.uuid4())
        self._payments[invoice_id] = ""
        return 200, self._answers.invoice(invoice_id)

    def _paid(self, invoice_id: str) -> tuple[int, str]:
        if invoice_id not in self._payments:
            return 404, "{}"
        payment_id = self._payments[invoice_id] = f"0493{next(self._numbers):011}"
        return 200, json.dumps({"payment_id": payment_id, "callback": None})


class Connection(asyncio.Protocol):
    """HTTP as far as the clients here speak it: requests one after the other, with a Content-Length."""

    def __init__(self, answer: Callable[[str, str, bytes], tuple[int, str]]) -> None:
        self._answer = answer
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[: end + 2]
            length = _LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._data) < whole:
                return
            line = _HEAD.match(head)
            assert line, head
            status, text = self._answer(line[1].decode(), line[2].decode(), self._data[end + 4 : whole])
            self._data = self._data[whole:]
            body = text.encode()
            self._transport.write(
                b"HTTP/1.1 %d \r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: %d\r\n\r\n%b"
                % (status, len(body), body)
            )


async def main() -> None:
    port, amount = int(sys.argv[1]), int(sys.argv[2])
    books = Books(await learned(amount), amount)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(books.answer), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
