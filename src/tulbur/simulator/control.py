"""The control plane under `/_sim`: what payers, the bank and bad luck do. Never part of QPay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from tulbur.simulator.dispatch import BodyTooLargeError, read_body
from tulbur.simulator.errors import QPayError
from tulbur.simulator.faults import Faults
from tulbur.simulator.forms import money, number
from tulbur.simulator.http import JSON_TYPE, dumps, loads
from tulbur.simulator.state import DEFAULT_WALLET, InvoiceCancelledError, Money
from tulbur.simulator.wire import iso, two_decimals

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tulbur.simulator.runtime import Simulator
    from tulbur.simulator.state import Invoice, Payment

    Handler = Callable[[Simulator, Request, object], Awaitable[object]]

LISTED = 200


class ControlError(Exception):
    """An answer of the control plane that is an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class PayRequest(BaseModel):
    """The body of `pay`, every field optional."""

    model_config = ConfigDict(extra="forbid", strict=True)

    amount: object = None
    method: Literal["P2P", "CARD"] = "P2P"
    wallet: str | None = Field(default=None, max_length=100)
    currency: Literal["MNT", "USD", "CNY", "JPY", "RUB", "EUR"] = "MNT"
    callback: bool = True


def _json(status: int, body: object) -> Response:
    return Response(dumps(body), status_code=status, headers={"Content-Type": JSON_TYPE})


def _endpoint(simulator: Simulator, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            body = await read_body(request)
            return _json(200, await handler(simulator, request, loads(body) if body.strip() else {}))
        except ControlError as error:
            return _json(error.status, {"error": error.code, "message": str(error)})
        except ValidationError as error:
            return _json(422, {"error": "invalid", "message": problems(error)})
        except BodyTooLargeError:
            return _json(413, {"error": "too_large", "message": "the body is too large"})
        except (ValueError, TimeoutError) as error:
            return _json(400, {"error": "bad_request", "message": f"the body is not JSON: {error}"})
        except ClientDisconnect:
            return Response()

    return answer


def problems(error: ValidationError) -> str:
    """Every wrong key with what is wrong about it, on one line."""
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'body'}: {item['msg']}"
        for item in error.errors(include_url=False, include_input=False)
    )


def _invoice(simulator: Simulator, request: Request) -> Invoice:
    invoice = simulator.ledger.invoices.get(request.path_params["id"])
    if invoice is None:
        raise ControlError(404, "not_found", "there is no such invoice")
    return invoice


def _payment(simulator: Simulator, request: Request) -> Payment:
    payment = simulator.ledger.payments.get(request.path_params["id"])
    if payment is None:
        raise ControlError(404, "not_found", "there is no such payment")
    return payment


async def pay(simulator: Simulator, request: Request, body: object) -> object:
    """Any amount in any currency; answers after the callback, whatever came of it."""
    invoice = _invoice(simulator, request)
    wish = PayRequest.model_validate(body)
    amount = invoice.form.amount
    if wish.amount is not None:
        given = number(wish.amount)
        try:
            amount = money(given if given is not None else amount * 0)
        except QPayError as error:
            raise ControlError(422, "invalid", f"amount: {error.body['error']}") from error
    try:
        payment, answer = await simulator.pay(
            invoice,
            Money(amount, wish.method, wish.wallet or DEFAULT_WALLET, wish.currency),
            callback=wish.callback,
        )
    except InvoiceCancelledError:
        raise ControlError(409, "conflict", "the invoice is cancelled") from None
    except OverflowError as error:
        raise ControlError(409, "conflict", str(error)) from None
    told = None if answer is None else {"status": answer.status, "body": answer.body}
    return {"payment_id": payment.id, "callback": told}


async def refund(simulator: Simulator, request: Request, _body: object) -> object:
    """What a person does in the merchant portal: any method, the whole payment."""
    return _turn(_payment(simulator, request), "REFUNDED")


async def fail(simulator: Simulator, request: Request, _body: object) -> object:
    """The bank takes a payment back before it settles."""
    return _turn(_payment(simulator, request), "FAILED")


def _turn(payment: Payment, status: str) -> dict[str, Any]:
    if not payment.received:
        raise ControlError(409, "conflict", f"the payment is {payment.status}")
    payment.status = status
    return {"payment_id": payment.id, "payment_status": status}


async def put_faults(simulator: Simulator, _request: Request, body: object) -> object:
    """Replace all faults; `{}` clears them."""
    simulator.faults.set(Faults.model_validate_json(dumps(body)))
    return simulator.faults.current.model_dump(exclude_unset=True)


async def get_faults(simulator: Simulator, _request: Request, _body: object) -> object:
    """The faults in force, the replies each still has to spoil, and how often each has struck since the reset."""
    return {
        **simulator.faults.current.model_dump(exclude_unset=True),
        "replies_left": simulator.faults.remaining(),
        "fired": dict(simulator.faults.fired),
    }


async def requests(simulator: Simulator, _request: Request, _body: object) -> object:
    journal = simulator.journal
    return {"items": journal.requests.items(), "warnings": journal.warnings, "counts": dict(journal.counts)}


async def callbacks(simulator: Simulator, _request: Request, _body: object) -> object:
    return {"items": simulator.journal.callbacks.items()}


async def invoices(simulator: Simulator, _request: Request, _body: object) -> object:
    """The newest 200, newest first."""
    newest = [invoice for invoice, _ in zip(reversed(simulator.ledger.invoices.values()), range(LISTED), strict=False)]
    return {"items": [_summary(invoice) for invoice in newest], "count": len(simulator.ledger.invoices)}


def _summary(invoice: Invoice) -> dict[str, Any]:
    return {
        "invoice_id": invoice.id,
        "login": invoice.merchant.login,
        "invoice_code": invoice.form.invoice_code,
        "sender_invoice_no": invoice.form.sender_invoice_no,
        "amount": two_decimals(invoice.form.amount),
        "status": invoice.status(),
        "created_at": iso(invoice.created_at),
        "checks": invoice.checks.count,
        "payments": [
            {
                "payment_id": payment.id,
                "amount": two_decimals(payment.amount),
                "currency": payment.currency,
                "method": payment.method,
                "status": payment.status,
            }
            for payment in invoice.payments
        ],
    }


async def reset(simulator: Simulator, _request: Request, _body: object) -> object:
    simulator.reset()
    return {}


async def revoke(simulator: Simulator, _request: Request, _body: object) -> object:
    """Every token dies, as when somebody else logs in with the same login."""
    simulator.tokens.revoke()
    return {}


def routes(simulator: Simulator) -> list[Route]:
    table: list[tuple[str, str, Handler]] = [
        ("POST", "/_sim/invoices/{id}/pay", pay),
        ("POST", "/_sim/payments/{id}/refund", refund),
        ("POST", "/_sim/payments/{id}/fail", fail),
        ("PUT", "/_sim/faults", put_faults),
        ("GET", "/_sim/faults", get_faults),
        ("GET", "/_sim/requests", requests),
        ("GET", "/_sim/callbacks", callbacks),
        ("GET", "/_sim/invoices", invoices),
        ("POST", "/_sim/reset", reset),
        ("POST", "/_sim/tokens/revoke", revoke),
    ]
    return [Route(path, _endpoint(simulator, handler), methods=[method]) for method, path, handler in table]
