"""`python -m bench.textbook PORT`: the same laws, written as a textbook would; for comparison, and for nothing else.

FastAPI with pydantic models, an ORM session for each step, one query after the other, a pooled httpx client towards
QPay. It keeps what it says: the token of a callback is checked before any I/O, the hint is stored before QPay is asked,
no transaction is open meanwhile, orders are made once (a version on the session, unique keys), in one transaction with
the payment and the event, and SUCCESS follows the commit. It has no cache, worker, sweep, refund or exception: a server
with fewer duties, so that the comparison is not made easier for tulbur.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Annotated, Any, Final

import httpx
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field
from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, UniqueConstraint, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.orm.exc import StaleDataError

from tulbur.links import Links

POOL: Final = 20
OVERFLOW: Final = 10
QPAY_SECONDS: Final = 10.0
EXPIRY_SECONDS: Final = 1800
MOST_COMMITS: Final = 5


class Base(DeclarativeBase):
    pass


class SessionRow(Base):
    __tablename__ = "textbook_sessions"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[int] = mapped_column()
    status: Mapped[str] = mapped_column(String(16), index=True)
    user_id: Mapped[str] = mapped_column(String(255), index=True)
    idempotency_key: Mapped[str | None] = mapped_column(String(255), unique=True)
    amount: Mapped[int] = mapped_column(BigInteger)
    items: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    created_at: Mapped[float]
    expires_at: Mapped[float]
    next_check_at: Mapped[float | None] = mapped_column(index=True)
    paid_at: Mapped[float | None]

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - as SQLAlchemy wants it


class InvoiceRow(Base):
    __tablename__ = "textbook_invoices"

    session_id: Mapped[str] = mapped_column(ForeignKey("textbook_sessions.id"), primary_key=True)
    sender_invoice_no: Mapped[str] = mapped_column(String(64), unique=True)
    invoice_id: Mapped[str | None] = mapped_column(String(64), unique=True)
    state: Mapped[str] = mapped_column(String(16))
    qr_text: Mapped[str]
    qr_image: Mapped[str]
    short_url: Mapped[str]
    links: Mapped[list[dict[str, Any]]] = mapped_column(JSON)


class HintRow(Base):
    __tablename__ = "textbook_hints"

    session_id: Mapped[str] = mapped_column(ForeignKey("textbook_sessions.id"), primary_key=True)
    payment_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    at: Mapped[float]


class PaymentRow(Base):
    __tablename__ = "textbook_payments"

    payment_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    session_id: Mapped[str] = mapped_column(ForeignKey("textbook_sessions.id"), index=True)
    amount: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[str] = mapped_column(String(16))


class OrderRow(Base):
    __tablename__ = "textbook_orders"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    session_id: Mapped[str] = mapped_column(ForeignKey("textbook_sessions.id"))
    shop_id: Mapped[str] = mapped_column(String(255))
    total: Mapped[int] = mapped_column(BigInteger)
    items: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    created_at: Mapped[float]

    __table_args__ = (UniqueConstraint("session_id", "shop_id"),)


class EventRow(Base):
    __tablename__ = "textbook_events"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    session_id: Mapped[str] = mapped_column(ForeignKey("textbook_sessions.id"))
    type: Mapped[str] = mapped_column(String(64))
    at: Mapped[float]
    delivered: Mapped[bool] = mapped_column(default=False)

    __table_args__ = (Index("textbook_events_waiting", "delivered", "at"),)


class Item(BaseModel):
    shop_id: str
    product_id: str
    quantity: int = Field(gt=0)
    unit_price: int = Field(ge=0)


class Opening(BaseModel):
    user_id: str
    amount: int = Field(gt=0)
    items: list[Item]


class Invoice(BaseModel):
    id: str
    qr_text: str
    qr_image: str
    short_url: str
    links: list[dict[str, Any]]


class Opened(BaseModel):
    id: str
    status: str
    amount: int
    expires_at: float
    checkout_url: str
    invoice: Invoice


class Status(BaseModel):
    status: str
    amount: int
    expires_at: float
    orders: list[str]


class QPay:
    """One pooled client, and one token for all."""

    def __init__(self) -> None:
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=100)
        self._http = httpx.AsyncClient(base_url=os.environ["QPAY_BASE_URL"], timeout=QPAY_SECONDS, limits=limits)
        self._login = (os.environ["QPAY_USERNAME"], os.environ["QPAY_PASSWORD"])
        self._lock = asyncio.Lock()
        self._token = ""
        self._until = 0.0

    async def close(self) -> None:
        await self._http.aclose()

    async def post(self, path: str, body: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
        headers = {"Authorization": f"Bearer {await self._current()}"}
        answer = await self._http.post(path, json=body, headers=headers)
        answer.raise_for_status()
        return answer.json()

    async def _current(self) -> str:
        async with self._lock:
            if time.time() > self._until - 60:
                answer = await self._http.post("/v2/auth/token", auth=self._login)
                answer.raise_for_status()
                self._token, self._until = answer.json()["access_token"], float(answer.json()["expires_in"])
            return self._token


class Parts:
    """What the routes work with."""

    engine: AsyncEngine
    sessions: async_sessionmaker[AsyncSession]
    qpay: QPay
    links: Links
    key_digest: str


parts: Final = Parts()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    url = "postgresql+asyncpg" + os.environ["DATABASE_URL"].removeprefix("postgresql")
    parts.engine = create_async_engine(url, pool_size=POOL, max_overflow=OVERFLOW)
    parts.sessions = async_sessionmaker(parts.engine, expire_on_commit=False)
    parts.links = Links(os.environ["PUBLIC_URL"], [os.environ["TULBUR_SECRET_KEYS"]])
    parts.key_digest = os.environ["TULBUR_API_KEYS"].rpartition(":")[2]
    parts.qpay = QPay()
    async with parts.engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    await parts.qpay.close()
    await parts.engine.dispose()


app: Final = FastAPI(lifespan=lifespan)


async def database() -> AsyncIterator[AsyncSession]:
    async with parts.sessions() as session:
        yield session


Database = Annotated[AsyncSession, Depends(database)]


def shop(authorization: Annotated[str, Header()]) -> None:
    digest = sha256(authorization.removeprefix("Bearer ").encode()).hexdigest()
    if not secrets.compare_digest(digest, parts.key_digest):
        raise HTTPException(401)


@app.get("/readyz")
async def ready(database: Database) -> dict[str, str]:
    await database.execute(select(1))
    return {"status": "ready"}


@app.post("/v1/sessions", status_code=201, dependencies=[Depends(shop)])
async def open_session(
    opening: Opening, database: Database, idempotency_key: Annotated[str | None, Header()] = None
) -> Opened:
    if idempotency_key is not None:
        known = await database.scalar(select(SessionRow).where(SessionRow.idempotency_key == idempotency_key))
        if known is not None:
            return opened(known, await database.get_one(InvoiceRow, known.id))
    if opening.amount != sum(item.quantity * item.unit_price for item in opening.items):
        raise HTTPException(422, "the items do not add up to the amount")
    now = time.time()
    row = SessionRow(
        id=secrets.token_hex(16),
        status="PENDING",
        user_id=opening.user_id,
        idempotency_key=idempotency_key,
        amount=opening.amount,
        items=[item.model_dump() for item in opening.items],
        created_at=now,
        expires_at=now + EXPIRY_SECONDS,
        next_check_at=now + EXPIRY_SECONDS,
        paid_at=None,
    )
    database.add(row)
    await database.flush()
    invoice = InvoiceRow(
        session_id=row.id,
        sender_invoice_no=secrets.token_hex(16),
        invoice_id=None,
        state="creating",
        qr_text="",
        qr_image="",
        short_url="",
        links=[],
    )
    database.add(invoice)
    database.add(event(row.id, "session.opened", now))
    await database.commit()
    try:
        made = await parts.qpay.post(
            "/v2/invoice",
            {
                "invoice_code": os.environ["QPAY_INVOICE_CODE"],
                "sender_invoice_no": invoice.sender_invoice_no,
                "invoice_receiver_code": "terminal",
                "invoice_description": f"Session {row.id}",
                "amount": row.amount,
                "callback_url": parts.links.callback_url(row.id),
            },
        )
    except httpx.HTTPError as error:
        raise HTTPException(502, "QPay is unavailable") from error
    invoice.invoice_id, invoice.state = made["invoice_id"], "open"
    invoice.qr_text, invoice.qr_image = made["qr_text"], made["qr_image"]
    invoice.short_url, invoice.links = made["qPay_shortUrl"], made["urls"]
    database.add(event(row.id, "session.invoiced", time.time()))
    await database.commit()
    return opened(row, invoice)


@app.get("/callbacks/qpay/{session_id}/{token}", response_class=PlainTextResponse)
async def callback(session_id: str, token: str, qpay_payment_id: str) -> str:
    if not parts.links.is_callback_token(session_id, token):
        raise HTTPException(404)
    async with parts.sessions() as database:
        row = await database.get(SessionRow, session_id)
        if row is None:
            raise HTTPException(404)
        if row.status == "PAID":
            return "SUCCESS"
        if await database.get(HintRow, (session_id, qpay_payment_id)) is None:
            database.add(HintRow(session_id=session_id, payment_id=qpay_payment_id, at=time.time()))
        row.next_check_at = time.time() + 3
        invoice = await database.get_one(InvoiceRow, session_id)
        try:
            await database.commit()
        except (IntegrityError, StaleDataError):
            await database.rollback()  # another callback of this session keeps it
    try:
        answer = await parts.qpay.post("/v2/payment/check", {"object_type": "INVOICE", "object_id": invoice.invoice_id})
    except httpx.HTTPError:
        return "SUCCESS"  # the hint is durable
    for _ in range(MOST_COMMITS):
        if await settle(session_id, answer):
            return "SUCCESS"
    raise HTTPException(503, "the session is being changed too often")


async def settle(session_id: str, answer: dict[str, Any]) -> bool:
    """Make the orders of a paid session, once; False when somebody else changed it meanwhile."""
    paid = [row for row in answer["rows"] if row["payment_status"] == "PAID" and row["payment_currency"] == "MNT"]
    async with parts.sessions() as database:
        row = await database.get_one(SessionRow, session_id)
        if row.status == "PAID" or sum(int(float(one["payment_amount"])) for one in paid) < row.amount:
            return True
        now = time.time()
        row.status, row.paid_at, row.next_check_at = "PAID", now, None
        invoice = await database.get_one(InvoiceRow, session_id)
        invoice.state = "paid"
        for one in paid:
            amount = int(float(one["payment_amount"]))
            database.add(PaymentRow(payment_id=one["payment_id"], session_id=session_id, amount=amount, status="PAID"))
        for shop_id in dict.fromkeys(item["shop_id"] for item in row.items):
            items = [item for item in row.items if item["shop_id"] == shop_id]
            total = sum(item["quantity"] * item["unit_price"] for item in items)
            order = OrderRow(
                id=secrets.token_hex(16),
                session_id=session_id,
                shop_id=shop_id,
                total=total,
                items=items,
                created_at=now,
            )
            database.add(order)
            database.add(event(session_id, "order.created", now))
        database.add(event(session_id, "session.paid", now))
        try:
            await database.commit()
        except (IntegrityError, StaleDataError):
            await database.rollback()
            return False
        return True


@app.get("/pay/{session_id}/{token}/status")
async def status(session_id: str, token: str, database: Database) -> Status:
    if not parts.links.is_pay_token(session_id, token):
        raise HTTPException(404)
    row = await database.get(SessionRow, session_id)
    if row is None:
        raise HTTPException(404)
    orders = await database.scalars(select(OrderRow.id).where(OrderRow.session_id == session_id))
    return Status(status=row.status, amount=row.amount, expires_at=row.expires_at, orders=list(orders))


def event(session_id: str, kind: str, now: float) -> EventRow:
    return EventRow(id=secrets.token_hex(16), session_id=session_id, type=kind, at=now)


def opened(row: SessionRow, invoice: InvoiceRow) -> Opened:
    if invoice.invoice_id is None:
        raise HTTPException(502, "QPay has no invoice yet")
    return Opened(
        id=row.id,
        status=row.status,
        amount=row.amount,
        expires_at=row.expires_at,
        checkout_url=parts.links.checkout_url(row.id),
        invoice=Invoice(
            id=invoice.invoice_id,
            qr_text=invoice.qr_text,
            qr_image=invoice.qr_image,
            short_url=invoice.short_url,
            links=invoice.links,
        ),
    )


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
