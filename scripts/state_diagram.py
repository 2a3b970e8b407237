#!/usr/bin/env python3
"""Prints the tables of states from the code; `--write` puts them into docs/states.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tulbur.core.session import MEANINGS, MOVES, ExceptionName, Status

PAGE = Path(__file__).parent.parent / "docs" / "states.md"
BEGIN = "<!-- from here on written by scripts/state_diagram.py -->"
END = "<!-- up to here -->"


def block() -> str:
    """The generated part of the page, markers included."""
    return "\n".join([BEGIN, "", *_diagram(), "", *_exceptions(), "", END])


def _diagram() -> list[str]:
    moves = [f"    {before} --> {after}: {cause}" for (before, after), cause in MOVES.items()]
    last = [status for status in Status if all(before is not status for before, _ in MOVES)]
    ends = [f"    {status} --> [*]" for status in last]
    return ["```mermaid", "stateDiagram-v2", f"    [*] --> {Status.PENDING}: opened", *moves, *ends, "```"]


def _exceptions() -> list[str]:
    rows = [f"| `{name}` | {MEANINGS[name]} |" for name in ExceptionName]
    return ["| exception | meaning |", "|---|---|", *rows]


def with_block(page: str) -> str:
    """The page with its generated part made anew.

    Raises:
        ValueError: the page does not hold the two markers.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} must hold the lines {BEGIN!r} and {END!r}")
    return f"{head}{block()}{tail}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="update docs/states.md")
    if parser.parse_args().write:
        PAGE.write_text(with_block(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        sys.stdout.write(block() + "\n")


if __name__ == "__main__":
    main()
