"""What the payer's page shows of a session: its state, sums, apps, QR code and language."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit
from zlib import crc32

import segno
from markupsafe import Markup

from tulbur.core.money import Mongo, format_tugrik
from tulbur.core.session import SECOND, ExceptionName, Link, Micros, Session, Status
from tulbur.web.texts import MN, TEXTS, Texts

MOST_APPS: Final = 60
"""Bank apps shown; QPay lists about two dozen."""

MOST_LANGUAGES: Final = 20
"""Entries of Accept-Language that are read."""

_HUES: Final = 8
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_RUNS_CODE: Final = frozenset({"javascript", "data", "vbscript", "blob", "file", "filesystem", "view-source", "about"})


class State(StrEnum):
    """The faces of the page; the script knows the same names."""

    WAITING = "waiting"
    UNDERPAID = "underpaid"
    UNINVOICED = "uninvoiced"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    PAID = "paid"
    HELD = "held"
    RETURNING = "returning"
    RETURNED = "returned"


@dataclass(frozen=True, slots=True)
class App:
    """A bank app as a tile: the initial stands in for a logo, which would be a request to a third party."""

    name: str
    initial: str
    hue: int
    link: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The page of one session at one moment; sums are text, "" where there is nothing to say."""

    state: State
    snapshot: str
    description: str
    amount: str
    received: str
    missing: str
    held: str
    to_pay_back: str
    refunded: str
    seconds_left: int
    time_left: str
    qr: Markup
    banks: tuple[App, ...]
    wallets: tuple[App, ...]
    orders: tuple[str, ...]
    return_url: str


def view(session: Session, now: Micros, texts: Texts) -> View:
    state = state_of(session, now)
    shown = session.payable if state in (State.WAITING, State.UNDERPAID) else None
    apps = _apps(shown.links, texts.lang) if shown else ()
    received = session.sum("received") - session.sum("refunded")
    left = max(0, (session.expires_at - now) // SECOND)

    def money(amount: Mongo) -> str:
        return format_money(amount, session.currency) if amount > 0 else ""

    return View(
        state=state,
        snapshot=_snapshot(session),
        description=session.description,
        amount=money(session.amount),
        received=money(received),
        missing=money(session.amount - received),
        held=money(session.sum("held")),
        to_pay_back=money(_to_pay_back(session)),
        refunded=money(session.sum("refunded")),
        seconds_left=left,
        time_left=texts.minutes.format(n=left // 60) if left >= 60 else texts.less_than_minute,
        qr=qr_svg(shown.qr_text) if shown else Markup(),
        banks=tuple(app for app, is_bank in apps if is_bank),
        wallets=tuple(app for app, is_bank in apps if not is_bank),
        orders=tuple(order.id for order in session.orders),
        return_url=safe_return_url(session.return_url),
    )


def state_of(session: Session, now: Micros) -> State:
    """Which face to show. Past its deadline a session looks expired before the last question to QPay has made it so."""
    if session.status is Status.PAID:
        return State.RETURNED if _all_gone_back(session) else State.PAID
    if session.status in _FACES:
        return _closed_state(session)
    if now >= session.expires_at:
        return State.EXPIRED
    if session.payable is None:
        return State.UNINVOICED
    return State.UNDERPAID if ExceptionName.UNDERPAID in session.exceptions else State.WAITING


def _closed_state(session: Session) -> State:
    if session.sum("held"):
        return State.HELD
    if any(p.refund for p in session.payments):
        return State.RETURNING
    if _all_gone_back(session):
        return State.RETURNED
    return State.CANCELLED if session.status is Status.CANCELLED else State.EXPIRED


_FACES: Final = (Status.EXPIRED, Status.CANCELLED)
"""Where money that came all the same has a face of its own."""


def _all_gone_back(session: Session) -> bool:
    return 0 < session.sum("received") == session.sum("refunded")


def _to_pay_back(session: Session) -> Mongo:
    """What is due back, or was asked to be given back though it has paid for orders."""
    own = (p for p in session.payments if p.received and p.currency == session.currency)
    return sum(max(p.refund_due, p.refund.amount if p.refund else 0) for p in own)


def _money(session: Session) -> str:
    """What has become of money, in a word; the sums are in the page."""
    if session.status in _FACES and session.sum("held"):
        return "held"
    if session.status is not Status.PENDING and _to_pay_back(session):
        return "to_pay_back"
    return "paid_back" if session.sum("refunded") else ""


def status_json(session: Session) -> str:
    """The answer of `…/status`, which is also what a stream sends."""
    return json.dumps(
        {
            "status": session.status.value,
            "exceptions": sorted(name.value for name in session.exceptions),
            "amount": format_tugrik(session.amount),
            "expires_at": _rfc3339(session.expires_at),
            "orders": [order.id for order in session.orders],
            **({"money": word} if (word := _money(session)) else {}),
        },
        separators=(",", ":"),
    )


def _snapshot(session: Session) -> str:
    """What must be equal in a later status for this page to be still right."""
    words = [session.status.value, *sorted(name.value for name in session.exceptions), _money(session)]
    return " ".join(filter(None, words))


def _rfc3339(at: Micros) -> str:
    seconds, micros = divmod(at, SECOND)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros, tzinfo=None).isoformat() + "Z"


def format_money(amount: Mongo, currency: str) -> str:
    """Print möngö for a reader: 5000000 -> "50,000 ₮", with decimals only where there are some."""
    whole, rest = divmod(amount, 100)
    number = f"{whole:,}" + (f".{rest:02d}" if rest else "")
    return f"{number}\N{NO-BREAK SPACE}{'₮' if currency == 'MNT' else currency}"


# --- the apps --------------------------------------------------------------------------------------------------------


def _apps(links: Iterable[Link], lang: str) -> tuple[tuple[App, bool], ...]:
    """Each app with whether it is a bank's. QPay tells no kind, but every bank of its list says so in a name."""
    found = []
    for link in list(links)[:MOST_APPS]:
        mongolian, english = link.description.strip(), link.name.strip()
        name = (mongolian or english) if lang == MN.lang else (english or mongolian)
        if not name or not is_app_link(link.link):
            continue
        initial = next((c for c in name if c.isalnum()), "?").upper()
        is_bank = "bank" in english.casefold() or "банк" in mongolian.casefold()
        hue = crc32((english or name).encode()) % _HUES
        found.append((App(name, initial, hue, link.link), is_bank))
    return tuple(found)


def is_app_link(link: str) -> bool:
    """Whether a link may be opened: any scheme of an app or of the web, none that would run or read something here."""
    scheme = _SCHEME.match(link)
    return scheme is not None and scheme[1].casefold() not in _RUNS_CODE and not _CONTROL.search(link)


def safe_return_url(url: str | None) -> str:
    """The shop's address to go back to, or "" for anything but a plain http or https URL."""
    if not url or _CONTROL.search(url) or "\\" in url:
        return ""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return url if parts.scheme in ("http", "https") and parts.hostname else ""


@lru_cache(maxsize=512)
def qr_svg(qr_text: str) -> Markup:
    """The QR code as inline SVG on white with its quiet zone; nothing when the text does not fit into one."""
    try:
        code = segno.make(qr_text, micro=False, error="m")
    except ValueError:
        return Markup()
    # Segno prints numbers and our own constants only: the text itself is in the dots.
    return Markup(code.svg_inline(omitsize=True, border=4, dark="#000", light="#fff", svgclass=None, lineclass=None))  # noqa: S704


# --- the language ----------------------------------------------------------------------------------------------------


def pick_texts(asked: str | None, accept_language: str) -> Texts:
    """The language asked for in the address, else the browser's first that we have, else Mongolian."""
    if asked is not None and asked in TEXTS:
        return TEXTS[asked]
    best, best_quality = MN, 0.0
    for entry in accept_language.split(",")[:MOST_LANGUAGES]:
        tag, _, parameter = entry.partition(";")
        texts = TEXTS.get(tag.strip().casefold().partition("-")[0])
        quality = _quality(parameter)
        if texts is not None and quality > best_quality:
            best, best_quality = texts, quality
    return best


def _quality(parameter: str) -> float:
    match = re.fullmatch(r"\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*", parameter)
    if match is not None:
        return float(match[1])
    return 0.0 if parameter.strip() else 1.0
