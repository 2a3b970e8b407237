"""What people see of money that waits, and what they may do about it."""

from __future__ import annotations

from collections.abc import Mapping
from shlex import quote
from typing import Any, Final

from tulbur.commands.showing import one_line, out, print_session

NEXT: Final[Mapping[str, str]] = {
    "unmatched": "tulbur payments assign ID SESSION, or tulbur payments close ID --reference …",
    "held": "tulbur sessions review SESSION accept|refund; while it is PENDING, the payer may still pay the rest",
    "refund_due": "tulbur sessions refund SESSION ID; paid back by hand: tulbur payments close ID --reference …",
}
"""What can be done about each kind of money that waits."""


def print_payments(page: Mapping[str, Any]) -> None:
    """The list of work: what waits, how much of it, since when, and what to type."""
    if not page["items"]:
        out.print("Nothing waits for a decision.")
        return
    rows = [_COLUMNS, *(_row(p) for p in page["items"])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        # No frame: a terminal that is too narrow breaks lines, and ids stay whole to be copied.
        out.print(one_line("  ".join(map(str.ljust, row, widths)).rstrip()), markup=False)
    out.print()
    for kind in dict.fromkeys(p["disposition"] for p in page["items"]):
        out.print(f"{kind.replace('_', ' ')}: {NEXT[kind]}", markup=False)
    if page["next_cursor"]:
        out.print(f"There are more: --cursor {page['next_cursor']}", markup=False)


_COLUMNS: Final = ("waits as", "waiting", "of", "payment", "session", "method", "seen (UTC)")


def _row(p: Mapping[str, Any]) -> tuple[str, ...]:
    waiting = p["amount"] if p["disposition"] == "unmatched" else p[p["disposition"]]
    return (
        p["disposition"].replace("_", " "),
        _money(waiting, p["currency"]),
        _money(p["amount"], p["currency"]),
        p["id"],
        p["session_id"] or (f"? {p['hinted_session_id']}" if p["hinted_session_id"] else "-"),
        p["method"] or "-",
        p["seen_at"][:16].replace("T", " "),
    )


def _money(amount: str | None, currency: str) -> str:
    if amount is None:
        return "?"
    return amount if currency == "MNT" else f"{amount} {currency}"


def print_decided(session: Mapping[str, Any]) -> None:
    """A session after a decision, and what is left to do."""
    print_session(session)
    for p in session["payments"]:
        for step in _steps(session, p):
            out.print(one_line(f"next: {step}"), markup=False)


def _steps(session: Mapping[str, Any], p: Mapping[str, Any]) -> list[str]:
    open_ = next((r for r in p["refunds"] if r["state"] != "done"), None)
    if open_ is not None and (open_["way"], open_["state"]) == ("qpay", "requested"):
        return [f"nothing; QPay was asked to give {p['id']} back, and is looked at until it shows it"]
    if open_ is not None and open_["state"] == "unconfirmed":
        return [f"QPay does not show {p['id']} as given back: look there, then refund it again, or close it"]
    if open_ is not None or _is_positive(p["refund_due"]):
        amount = _money(open_["amount"] if open_ is not None else p["refund_due"], p["currency"])
        if open_ is not None and open_["state"] == "requested":
            return [f"pay {amount} back, then: tulbur payments close {p['id']} --reference …"]
        ask = f"tulbur sessions refund {quote(session['id'])} {p['id']}"
        return [f"{amount} is due back: {ask}; paid by hand: tulbur payments close {p['id']} --reference …"]
    if _is_positive(p["held"]) and session["status"] != "PENDING":
        return [f"tulbur sessions review {quote(session['id'])} accept|refund"]
    return []


def _is_positive(amount: str) -> bool:
    return amount.strip("0.") != ""


def print_closed(payment: Mapping[str, Any]) -> None:
    """A payment that somebody is done with."""
    out.print(f"{payment['id']} is closed with {payment['reference']}, by {payment['closed_by']}.", markup=False)
    if payment["session_id"] and _is_positive(payment["refund_due"]):
        out.print(f"still due back of it: {payment['refund_due']}", markup=False)
