"""Every sentence that docs/troubleshoot.md quotes is one that the code can say."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshoot.md").read_text()
SOURCES = ROOT / "src" / "tulbur"

ROWS = [row.strip("|").split(" | ") for row in PAGE.splitlines() if row.startswith("| ")]
QUOTED = sorted(
    {quote for row in ROWS if len(row) == 3 for quote in re.findall(r"`([^`]+)`", row[1])} - {"tulbur doctor"}
)


def sentences() -> Iterator[str]:
    """Every text in the code, with … for what is filled in."""
    for path in [*SOURCES.glob("commands/doctor/*.py"), *SOURCES.glob("stores/*.py"), *SOURCES.glob("qpay/*.py")]:
        yield from _texts(path)
    for name in ("settings.py", "wiring.py"):
        yield from _texts(SOURCES / name)


def _texts(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    # A docstring is not said.
    unsaid = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) in unsaid:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


SAID = [re.sub(r"…+(:…+)*", "…", text) for text in sentences()]


def test_there_are_sentences() -> None:
    assert len(QUOTED) > 60


@pytest.mark.parametrize("quote", QUOTED)
def test_it_is_what_the_code_says(quote: str) -> None:
    assert any(quote in text for text in SAID), quote


@pytest.mark.parametrize(
    "heading",
    [
        "DATABASE_URL not found",
        "Property 'qPayPaymentSession' does not exist",
        "Database connection errors during `db push`",
        "TypeScript errors after migration",
        "Sessions not persisting to database",
        "Count total sessions",
        "Monitor Status Distribution",
        "Session loaded from database",
        "test-qpay-db-fallback.sh",
    ],
)
def test_the_old_guide_is_covered(heading: str) -> None:
    assert heading in PAGE


def test_every_link_leads_somewhere() -> None:
    anchors = {
        re.sub(r"[^a-z -]", "", line[3:].lower()).replace(" ", "-") for line in PAGE.splitlines() if line[:3] == "## "
    }
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        assert target[1:] in anchors if target.startswith("#") else (ROOT / "docs" / target).is_file(), target
