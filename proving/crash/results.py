"""A file of trials that ran, so that a table can be made in several sittings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

from proving.crash.table import Counted, Trial

DIRTY: Final = "-dirty"


class OtherVersion(Exception):
    """The file holds what ran at another commit, or the source is not what a commit says."""


class Results:
    """One line of JSON for each trial, under a first line that says of which commit and seed.

    Raises:
        OtherVersion: what is in the file shows nothing of this source.
    """

    def __init__(self, path: Path, commit: str, seed: int) -> None:
        if commit.endswith(DIRTY):
            raise OtherVersion("the source has changes that are not committed: what runs now could not be told later")
        head = {"commit": commit, "seed": seed}
        self._path = path
        if not path.exists() or not path.stat().st_size:
            path.write_text(json.dumps(head) + "\n", encoding="utf-8")
        with path.open(encoding="utf-8") as file:
            found = json.loads(file.readline())
        if found != head:
            raise OtherVersion(f"{path} is of {found}, this is {head}: name another file")
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def read(self) -> Iterator[Trial | Counted]:
        """What ran before; a line that was cut off when the process was killed is passed over."""
        with self._path.open(encoding="utf-8") as file:
            next(file)
            for line in file:
                try:
                    told = json.loads(line)
                except json.JSONDecodeError:
                    continue
                yield Counted(**told) if "points" in told else Trial(**told)

    def keep(self, told: Trial | Counted) -> None:
        self._file.write(json.dumps(asdict(told), ensure_ascii=False) + "\n")

    def close(self) -> None:
        self._file.close()
