"""The two languages say the same things."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from string import Formatter

import pytest

import tulbur.web
from tulbur.web.texts import EN, MN, TEXTS

TEMPLATES = Path(str(tulbur.web.__file__)).parent / "templates"
STAY_THE_SAME = {"lang", "other_lang", "other_name"}


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


@pytest.mark.parametrize("key", asdict(MN))
def test_both_languages_have_every_text_with_the_same_places(key: str) -> None:
    mongolian, english = asdict(MN)[key], asdict(EN)[key]
    assert mongolian.strip()
    assert english.strip()
    assert places(mongolian) == places(english)
    if key not in STAY_THE_SAME:
        assert re.search("[а-яөү]", mongolian)
        assert not re.search("[а-яөү]", english, re.IGNORECASE)


def test_each_language_leads_to_the_other() -> None:
    assert TEXTS[MN.other_lang] is EN
    assert TEXTS[EN.other_lang] is MN


def test_every_text_is_used_and_no_template_says_more() -> None:
    here = Path(str(tulbur.web.__file__)).parent
    sources = [*TEMPLATES.glob("checkout*.html"), here / "checkout.py", here / "checkout_view.py"]
    used = {name for path in sources for name in re.findall(r"\b(?:t|texts)\.(\w+)", path.read_text())}
    assert used == set(asdict(MN))


def test_the_templates_hold_no_words_of_their_own() -> None:
    for path in TEMPLATES.glob("checkout*.html"):
        assert not re.search("[а-яөү]", path.read_text(), re.IGNORECASE)
