"""The page of figures: a section for each, of which a run renews its own and leaves the others as they were."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from proving.figures.figure import Figure

HEAD: Final = """# Figures: results

Written by `make figures`; what is run and how to read it is in [proving.md](proving.md#figures). Each section was
written by its own run, on the commit and the machine it names.
"""


def printed(figure: Figure) -> str:
    """The same facts as the page, for whoever waited."""
    counts = (f"{count:>12,}  {fault}" for fault, count in _counts(figure))
    failures = (f"FAILED: {failure}" for failure in figure.failures)
    took = f"{figure.seconds:.0f} s"
    return "\n".join([f"{figure.name}: {figure.goal}", *counts, *figure.facts, *failures, figure.verdict, took])


def renew(path: Path, figures: Sequence[Figure], order: Sequence[str]) -> None:
    """Write the sections of these figures into the page; `order` is that of the sections."""
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    found = re.split(r"^## ", old, flags=re.MULTILINE)[1:]
    sections = {text.split("\n", 1)[0]: f"## {text.rstrip()}\n" for text in found}
    sections.update({figure.name: section(figure) for figure in figures})
    path.write_text("\n".join([HEAD, *(sections[name] for name in order if name in sections)]), encoding="utf-8")


def section(figure: Figure) -> str:
    """One figure as Markdown."""
    lines = [
        f"## {figure.name}",
        "",
        f"Goal: {figure.goal}.",
        "",
        f"- `{figure.command}`",
        f"- {dt.datetime.now(dt.UTC):%Y-%m-%d}, commit `{figure.commit}`, {figure.seconds:.0f} s",
        f"- {_machine()}",
        f"- {figure.verdict}",
        *(f"- FAILED: {failure}" for failure in figure.failures),
        *(f"- {fact}" for fact in figure.facts),
        "",
        "| what struck | times |",
        "|---|---:|",
        *(f"| {fault} | {count:,} |" for fault, count in _counts(figure)),
    ]
    return "\n".join(lines) + "\n"


def _counts(figure: Figure) -> list[tuple[str, int]]:
    return [(fault, figure.counts[fault]) for fault in figure.listed]


def _machine() -> str:
    load = os.getloadavg()[0]
    named = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    return f"{named}; load average at the end {load:.1f}"
