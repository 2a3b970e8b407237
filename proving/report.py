"""What many runs came to, as lines for a terminal and as a page for the documentation."""

from __future__ import annotations

import datetime as dt
import os
import platform
from collections.abc import Iterator

from proving.faults import Fault
from proving.many import Many
from proving.uses import Deed


def printed(done: Many) -> Iterator[str]:
    """The same facts as the page, for whoever waited."""
    yield from _counts(done)
    yield _rate(done)
    yield _verdict(done)
    for fault in done.silent:
        yield f"never struck, so nothing is shown of it: {fault}"


def page(done: Many) -> str:
    """A page of Markdown: machine, commit, counts and what they bound."""
    lines = [
        "# Schedules: results",
        "",
        "Written by `make simulate`; what is run and how to read it is in [proving.md](proving.md).",
        "",
        f"- {dt.datetime.now(dt.UTC):%Y-%m-%d}, commit `{done.commit}`",
        f"- {machine()}",
        f"- {_rate(done)}",
        f"- {_verdict(done)}",
        "",
        "| fault | struck |",
        "|---|---:|",
        *(f"| {fault} | {done.counts[fault]:,} |" for fault in Fault),
        "",
        "| deed | times |",
        "|---|---:|",
        *(f"| {deed} | {done.deeds[deed]:,} |" for deed in Deed),
        "",
        "| outcome of a session | times |",
        "|---|---:|",
        *(f"| {name} | {count:,} |" for name, count in done.outcomes.most_common()),
    ]
    return "\n".join(lines) + "\n"


def _counts(done: Many) -> Iterator[str]:
    for fault in Fault:
        yield f"{done.counts[fault]:>12,}  {fault}"
    for deed in Deed:
        yield f"{done.deeds[deed]:>12,}  {deed}"
    yield "sessions ended: " + ", ".join(f"{name} {count:,}" for name, count in done.outcomes.most_common())


def _rate(done: Many) -> str:
    budget = f" of a {done.budget:.0f} s budget" if done.budget else ""
    why = "the budget was used up" if done.budget and done.seconds >= done.budget else "it was stopped"
    rest = f" (asked for {done.asked:,}; {why})" if done.ran < done.asked else ""
    each = done.ran / max(done.seconds, 0.001) / done.cores
    return (
        f"{done.ran:,} seeds from {done.start} in {done.seconds:.0f} s{budget}{rest} on {done.cores} cores, "
        f"{each:.0f} seeds/s and core, {done.commits:,} commits"
    )


def _verdict(done: Many) -> str:
    if done.failed:
        seeds = ", ".join(map(str, sorted(done.failed)[:10]))
        return f"{len(done.failed):,} of {done.ran:,} runs broke a law; seeds {seeds}"
    return f"{done.ran:,} clean trials bound the failure rate at about 3/n = {done.bound:.1e}"


def machine() -> str:
    """What a page says of where it was made."""
    return f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
