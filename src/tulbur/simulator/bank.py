"""The pages for people: a bank app that pays one invoice, and an index of what there is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import jinja2
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from tulbur.simulator.dispatch import BodyTooLargeError, read_body
from tulbur.simulator.emv import amount_text
from tulbur.simulator.errors import QPayError
from tulbur.simulator.forms import money, number
from tulbur.simulator.state import DEFAULT_WALLET, InvoiceCancelledError, Money, bank_problem

if TYPE_CHECKING:
    from decimal import Decimal

    from tulbur.simulator.runtime import Simulator
    from tulbur.simulator.state import Invoice

RECENT = 50
PROBLEMS = {
    "invalid": ("Дүнгээ шалгана уу.", "Check the amount."),
    "partial_forbidden": ("Энэ нэхэмжлэлийг хувааж төлөх боломжгүй.", "This invoice cannot be paid in parts."),
    "below_minimum": ("Дүн доод хэмжээнээс бага байна.", "The amount is below the minimum."),
    "exceed_forbidden": ("Нэхэмжилсэн дүнгээс илүү төлөх боломжгүй.", "You cannot pay more than was asked."),
    "above_maximum": ("Дүн дээд хэмжээнээс их байна.", "The amount is above the maximum."),
}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}
_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def grouped(amount: Decimal) -> str:
    """An amount as Mongolians write it: `50,000₮`."""
    whole = f"{amount:,.2f}"
    return whole.removesuffix(".00") + "₮"


def _page(template: str, code: int = 200, **values: object) -> Response:
    text = _TEMPLATES.get_template(template).render(grouped=grouped, **values)
    return HTMLResponse(text, status_code=code, headers=_HEADERS)


def _path(request: Request, invoice: Invoice) -> str:
    """Where the page of an invoice is, also when the simulator is mounted inside another application."""
    return f"{request.scope.get('root_path', '')}/bank/{invoice.id}"


def _bank_page(simulator: Simulator, request: Request, invoice: Invoice, problem: str | None = None) -> Response:
    form = invoice.form
    rest = form.amount - invoice.received
    calls = [item for item in simulator.journal.callbacks.items() if item["invoice_id"] == invoice.id]
    return _page(
        "bank.html",
        422 if problem else 200,
        invoice=invoice,
        path=_path(request, invoice),
        status=invoice.status(),
        rest=rest,
        amount=amount_text(rest),
        editable=form.allow_partial or form.allow_exceed,
        problem=PROBLEMS.get(problem or ""),
        call=calls[-1] if calls else None,
    )


def _invoice(simulator: Simulator, request: Request) -> Invoice | None:
    return simulator.ledger.invoices.get(request.path_params["id"])


async def _show(simulator: Simulator, request: Request) -> Response:
    invoice = _invoice(simulator, request)
    return _page("missing.html", 404) if invoice is None else _bank_page(simulator, request, invoice)


async def _pay(simulator: Simulator, request: Request) -> Response:
    """Pay as a careful bank app would: an open invoice, and only an amount it allows."""
    invoice = _invoice(simulator, request)
    if invoice is None:
        return _page("missing.html", 404)
    try:
        form = parse_qs((await read_body(request)).decode(errors="replace"), max_num_fields=10)
    except (BodyTooLargeError, TimeoutError, ValueError):
        return _bank_page(simulator, request, invoice, "invalid")
    except ClientDisconnect:
        return Response()
    if invoice.status() == "OPEN":
        amount = _amount(invoice, form)
        problem = "invalid" if amount is None else bank_problem(invoice, amount)
        if problem or amount is None:
            return _bank_page(simulator, request, invoice, problem)
        method = "CARD" if form.get("method") == ["CARD"] else "P2P"
        try:
            await simulator.pay(invoice, Money(amount, method, DEFAULT_WALLET))
        except (InvoiceCancelledError, OverflowError):
            return _bank_page(simulator, request, invoice)
    return RedirectResponse(_path(request, invoice), status_code=303)


def _amount(invoice: Invoice, form: dict[str, list[str]]) -> Decimal | None:
    text = form.get("amount", [""])[0].replace(",", "").strip()
    if not text:
        return invoice.form.amount - invoice.received
    given = number(text)
    try:
        return None if given is None else money(given)
    except QPayError:
        return None


async def _index(simulator: Simulator, request: Request) -> Response:
    ledger = simulator.ledger
    recent = [invoice for invoice, _ in zip(reversed(ledger.invoices.values()), range(RECENT), strict=False)]
    return _page(
        "index.html",
        invoices=recent,
        count=len(ledger.invoices),
        base=simulator.public_url or str(request.base_url).rstrip("/"),
        warnings=simulator.journal.warnings,
    )


def routes(simulator: Simulator) -> list[Route]:
    async def show(request: Request) -> Response:
        return await _show(simulator, request)

    async def pay(request: Request) -> Response:
        return await _pay(simulator, request)

    async def index(request: Request) -> Response:
        return await _index(simulator, request)

    return [
        Route("/", index, methods=["GET"]),
        Route("/bank/{id}", show, methods=["GET"]),
        Route("/bank/{id}/pay", pay, methods=["POST"]),
    ]
