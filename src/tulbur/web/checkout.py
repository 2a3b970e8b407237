"""The payer's page: a checkout with QR and bank apps, its status, its live stream and "I have paid".

Whoever has the address is the payer; a wrong token is answered before anything is read. All links are relative, so the
application may be mounted below any prefix.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, Protocol, TypeAlias

import anyio
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Message, Receive, Scope, Send

from tulbur.core.session import Reason, Session
from tulbur.errors import Forbidden, NotFound, ProviderUnavailable, TooLarge, TulburError
from tulbur.links import Links
from tulbur.payments import Payments
from tulbur.ports import Clock
from tulbur.web.assets import asset, static_mount
from tulbur.web.checkout_view import State, pick_texts, status_json, view
from tulbur.web.live import LiveSessions, Stream, TooManyStreams
from tulbur.web.problems import error_problem
from tulbur.web.texts import TEXTS, Texts

MOST_BODY_BYTES: Final = 4096
"""Of a body that is not even looked at."""

RETRY_SECONDS: Final = 5
"""When a page may ask again after a 503."""

SEND_SECONDS: Final = 20
"""How long a reader of a stream may take nothing before it is given up."""

_CSP: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_QUIET: Final = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}
_PAGE: Final = {**_QUIET, "Content-Security-Policy": _CSP, "Vary": "Accept-Language"}

_templates: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


class CheckoutParts(Protocol):
    """What the payer's pages are made of."""

    @property
    def payments(self) -> Payments: ...

    @property
    def links(self) -> Links: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def live(self) -> LiveSessions: ...


def checkout_routes(parts: CheckoutParts) -> list[BaseRoute]:
    """The payer's page with what it asks for, and our own static files."""
    pages = _Checkout(parts)
    at = "/pay/{session_id}/{pay_token}"
    return [
        Route(at, pages.page, methods=["GET"]),
        Route(f"{at}/status", _problems(pages.status), methods=["GET"]),
        Route(f"{at}/events", _problems(pages.events), methods=["GET"]),
        Route(f"{at}/check", _problems(pages.check), methods=["POST"]),
        static_mount(),
    ]


class _Checkout:
    def __init__(self, parts: CheckoutParts) -> None:
        self._payments = parts.payments
        self._links = parts.links
        self._clock = parts.clock
        self._live = parts.live

    async def page(self, request: Request) -> Response:
        texts = pick_texts(request.query_params.get("lang"), request.headers.get("accept-language", ""))
        try:
            session = await self._payments.get(self._session_id(request))
        except NotFound:
            return _message(texts, 404, texts.not_found, texts.not_found_hint)
        except TulburError:
            return _message(texts, 503, texts.unavailable, texts.unavailable_hint)
        return self._page_of(session, request, texts)

    def _page_of(self, session: Session, request: Request, texts: Texts) -> Response:
        asked = request.query_params.get("asked")
        shown = view(session, self._clock(), texts)
        notes = {"pending": texts.not_yet, "bank": texts.still_asking}
        open_states = (State.WAITING, State.UNDERPAID, State.EXPIRED, State.CANCELLED)
        return _html(
            "checkout.html",
            texts,
            v=shown,
            here=f"./{request.path_params['pay_token']}",
            note=notes.get(asked or "", "") if shown.state in open_states else "",
            refresh_seconds=10 if shown.state in (State.WAITING, State.UNDERPAID, State.UNINVOICED) else 30,
        )

    async def status(self, request: Request) -> Response:
        return _status(await self._payments.get(self._session_id(request)))

    async def events(self, request: Request) -> Response:
        session_id = self._session_id(request)
        if request.method == "HEAD":
            return Response(headers=_QUIET, media_type="text/event-stream")
        try:
            stream = self._live.open(session_id, self._payments.get)
        except TooManyStreams:
            return Response(status_code=503, headers={**_QUIET, "Retry-After": str(RETRY_SECONDS)})
        try:
            # After opening, so that no change falls between the two.
            stream.saw(await self._payments.get(session_id))
        except BaseException:
            stream.close()
            raise
        return EventStream(stream)

    async def check(self, request: Request) -> Response:
        """The payer says "I have paid": ask QPay now, when that is allowed; the answer is the state after it."""
        session_id = self._session_id(request)
        if request.headers.get("sec-fetch-site") == "cross-site":
            raise Forbidden("another site may not ask for the payer")
        await _ignore_body(request)
        answering = True
        try:
            session = await self._payments.check(session_id, Reason.PAYER)
        except ProviderUnavailable:
            answering = False
            session = await self._payments.get(session_id)
        if "text/html" not in request.headers.get("accept", ""):
            return _status(session, 200 if answering else 202)
        lang = request.query_params.get("lang", "")
        language = f"lang={lang}&" if lang in TEXTS else ""
        back = f"../{request.path_params['pay_token']}?{language}asked={'pending' if answering else 'bank'}"
        return RedirectResponse(back, 303, headers=_QUIET)

    def _session_id(self, request: Request) -> str:
        """The session this address is of.

        Raises:
            NotFound: the token is not of this session; nothing was read.
        """
        session_id: str = request.path_params["session_id"]
        if not self._links.is_pay_token(session_id, request.path_params["pay_token"]):
            raise NotFound
        return session_id


class EventStream(Response):
    """Sends a stream until it ends, the reader is gone, or takes nothing any more."""

    media_type = "text/event-stream"

    def __init__(self, stream: Stream) -> None:
        super().__init__(headers={**_QUIET, "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - an ASGI application
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_cancel_when_gone, receive, group.cancel_scope)
                await self._send_all(send)
                group.cancel_scope.cancel()
        finally:
            self._stream.close()

    async def _send_all(self, send: Send) -> None:
        head: Message = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        taken = await _taken(send, head) and await _taken(send, _piece(b"retry: 3000\n\n"))
        while taken and (piece := await self._stream.next()) is not None:
            taken = await _taken(send, _piece(piece))
        if taken:
            await _taken(send, {"type": "http.response.body", "body": b"", "more_body": False})


def _piece(body: bytes) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": True}


async def _taken(send: Send, message: Message) -> bool:
    """Whether the reader took it in time."""
    with anyio.move_on_after(SEND_SECONDS) as patience:
        try:
            await send(message)
        except OSError:
            return False
    return not patience.cancelled_caught


async def _cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    # A GET has no body worth the name: whatever comes before the disconnect is read over.
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _ignore_body(request: Request) -> None:
    """Read over a body, so that the connection can be used again, but only so much of it.

    Raises:
        TooLarge: nobody sends that much to say "I have paid".
    """
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MOST_BODY_BYTES:
            raise TooLarge


def _problems(endpoint: Endpoint) -> Endpoint:
    """Answer an error of ours as a problem, whatever application the routes are part of."""

    async def answered(request: Request) -> Response:
        try:
            return await endpoint(request)
        except TulburError as error:
            return error_problem(error)

    return answered


def _status(session: Session, code: int = 200) -> Response:
    return Response(status_json(session), code, _QUIET, "application/json")


def _message(texts: Texts, code: int, title: str, text: str) -> Response:
    retry = {"Retry-After": str(RETRY_SECONDS)} if code == 503 else {}
    return _html("checkout_message.html", texts, code=code, headers=retry, title=title, text=text, again=code == 503)


def _html(
    template: str, texts: Texts, *, code: int = 200, headers: Mapping[str, str] | None = None, **values: object
) -> Response:
    page = _templates.get_template(template).render(t=texts, asset=_asset_of_page, **values)
    return HTMLResponse(page, code, {**_PAGE, "Content-Language": texts.lang, **(headers or {})})


def _asset_of_page(name: str) -> str:
    # A page's path is `/pay/{session_id}/{pay_token}`, below any prefix.
    return f"../../{asset(name)}"
