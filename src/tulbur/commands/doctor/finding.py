"""One line of what the doctor says: a check that is fine, one with a remark, or a problem and what to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One check; not `ok` is a problem. `remedy` says what to do; beside an `ok` it is advice."""

    check: str
    ok: bool
    detail: str
    remedy: str = ""


def fine(check: str, detail: str) -> Finding:
    return Finding(check, ok=True, detail=detail)


def remark(check: str, detail: str, remedy: str) -> Finding:
    """Nothing is broken, but whoever looks for a fault wants to know."""
    return Finding(check, ok=True, detail=detail, remedy=remedy)


def problem(check: str, detail: str, remedy: str) -> Finding:
    return Finding(check, ok=False, detail=detail, remedy=remedy)


def of_sentence(check: str, sentence: str, otherwise: str = "correct it") -> Finding:
    """An error of ours as a problem: it is written as `what is wrong: what to do`, or without a remedy."""
    detail, _, remedy = sentence.partition(": ")
    return problem(check, detail, remedy.rstrip(".") or otherwise)
