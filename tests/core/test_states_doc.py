import os
import subprocess
import sys
from pathlib import Path

from tulbur.core.session import MEANINGS, MOVES, ExceptionName

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "states.md").read_text(encoding="utf-8")


def test_the_page_of_states_is_what_the_code_says() -> None:
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    shown = subprocess.run(
        [sys.executable, ROOT / "scripts" / "state_diagram.py"],
        env={**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert shown.stdout.strip() in PAGE, "run scripts/state_diagram.py --write"


def test_the_page_shows_every_move_and_every_exception() -> None:
    assert PAGE.count(" --> ") == len(MOVES) + 2
    assert all(f"    {before} --> {after}: {cause}\n" in PAGE for (before, after), cause in MOVES.items())
    assert all(f"| `{name}` |" in PAGE for name in ExceptionName)
    assert MEANINGS.keys() == set(ExceptionName)
