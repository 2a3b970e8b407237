"""QPay's error keys in Mongolian and English, as QPay's workbook words them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Literal


@cache
def _texts() -> Mapping[str, Mapping[str, str]]:
    table = files("tulbur.qpay").joinpath("errors.tsv").read_text(encoding="utf-8")
    rows = csv.DictReader(table.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    return {row["key"]: {"mn": row["message_mn"], "en": row["message_en"]} for row in rows}


def is_known(key: str) -> bool:
    """Whether QPay has documented, or been seen to answer, this key."""
    return key in _texts()


def describe(key: str, lang: Literal["mn", "en"] = "mn") -> str:
    """What an error key means, for people; the key itself when QPay has not documented it."""
    found = _texts().get("NO_CREDENTIALS" if key == "NO_CREDENDIALS" else key)
    return found[lang] if found else key
