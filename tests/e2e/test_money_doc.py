"""docs/money.md names every way money can disagree, and only commands that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tulbur.cli import app
from tulbur.core.session import ExceptionName

PAGE = (Path(__file__).parent.parent.parent / "docs" / "money.md").read_text(encoding="utf-8")
ROWS = [line.split(" | ") for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| name")]
COMMANDS = sorted(set(re.findall(r"`tulbur ([^`]+)`", PAGE)))


def test_every_exception_has_its_row_and_its_end() -> None:
    assert [row[0].strip("| `") for row in ROWS] == [*(name.value for name in ExceptionName), "unmatched"]
    assert all(len(row) == 4 and all(cell.strip(" |") for cell in row) for row in ROWS)


@pytest.mark.parametrize("typed", COMMANDS)
def test_what_the_page_has_somebody_type_is_understood(typed: str) -> None:
    words = typed.split()
    command: Any = typer.main.get_command(app)
    path: list[str] = []
    while words and words[0] in getattr(command, "commands", {}):
        path.append(words.pop(0))
        command = command.commands[path[-1]]
    assert path, f"there is no command {typed}"
    if words:  # else it is only spoken of
        command.make_context(path[-1], words)
