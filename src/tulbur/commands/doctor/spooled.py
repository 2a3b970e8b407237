"""What a doctor says of the spool: can it be written, does anything wait in it, was anything set aside."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tulbur.commands.doctor.finding import Finding
from tulbur.core.session import SECOND, Micros
from tulbur.settings import Settings
from tulbur.spool import MOST_FILES, files

CHECK: Final = "spool"

OLDEST_SECONDS: Final = 60
"""While the database answers, a callback waits less than this."""


def examine_spool(settings: Settings, now: Micros) -> Finding:
    """Nothing is made that was not there, but for a file to try with, which is taken away again."""
    folder = settings.spool_path()
    if folder is None:
        return Finding(CHECK, ok=True, detail="off: while the database is away callbacks are answered 503 (SPOOL_DIR)")
    if not folder.exists() and folder.parent.is_dir():
        return Finding(CHECK, ok=True, detail=f"{folder} is not there yet; tulbur serve makes it")
    try:
        files.probe(folder)
        state = files.look(folder)
    except OSError as error:
        remedy = "correct SPOOL_DIR, give the directory to the user that runs tulbur, and see that the disk has room"
        return Finding(CHECK, ok=False, detail=f"{folder} cannot be written ({error.strerror})", remedy=remedy)
    return _judged(folder, state, now)


def _judged(folder: Path, state: files.SpoolState, now: Micros) -> Finding:
    age = 0 if state.oldest_at is None else max(0, now - state.oldest_at) // SECOND
    waiting = f"{folder}: {state.waiting} waiting" + (f", the oldest for {age} s" if state.waiting else "")
    if state.set_aside:
        detail = f"{waiting}, {state.set_aside} set aside (*.bad): damaged, or sealed with a key that is not listed"
        remedy = "list their key in TULBUR_SECRET_KEYS and restart, or look at them and delete them"
        return Finding(CHECK, ok=False, detail=detail, remedy=remedy)
    if not state.private:
        return Finding(CHECK, ok=False, detail=f"{waiting}; others may read it", remedy=f"chmod 700 {folder}")
    if state.waiting >= MOST_FILES:
        return Finding(
            CHECK, ok=False, detail=f"{waiting}: full", remedy="bring the database back; callbacks are refused"
        )
    if age > OLDEST_SECONDS:
        remedy = "bring the database back and see that tulbur serve or tulbur worker runs with this SPOOL_DIR"
        return Finding(CHECK, ok=False, detail=waiting, remedy=remedy)
    return Finding(CHECK, ok=True, detail=waiting)
