"""Every curl of docs/seed-api.md is taken as it stands, and answered with the fields shown below it."""

from __future__ import annotations

import json
import re
import shlex
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from tulbur.commands.demo import running

pytestmark = pytest.mark.anyio

PAGE = (Path(__file__).parents[2] / "docs" / "seed-api.md").read_text()
EXAMPLES = re.findall(r"^```sh\n(curl .*?)^```\n.*?^```json\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
SECRET = "the-secret-the-old-shop-signs-its-tokens-with"
SESSION = "0d9f4c1e-cart-17"


def assert_alike(given: Any, shown: Any) -> None:
    """The same names all the way down; the same values where the page does not leave them out."""
    if isinstance(shown, dict):
        assert set(given) == set(shown)
        for name, value in shown.items():
            assert_alike(given[name], value)
    elif shown == "…":
        assert isinstance(given, str)
    elif shown == []:
        assert isinstance(given, list)
    else:
        assert given == shown


async def sent(http: aiohttp.ClientSession, command: str, values: dict[str, str]) -> Any:
    filled = re.sub(r"\$([A-Z]+)", lambda found: values[found[1]], command.replace("\\\n", " "))
    words = shlex.split(filled)
    options = [pair for pair in pairwise(words) if pair[0] in ("-H", "-d", "-X")]
    headers = dict(value.split(": ", 1) for name, value in options if name == "-H")
    body = next((value for name, value in options if name == "-d"), None)
    method = next((value for name, value in options if name == "-X"), "GET")
    url = next(word for word in words if word.startswith("http"))
    async with http.request(method, url, headers=headers, data=body) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def test_the_examples_are_taken_as_they_stand() -> None:
    token = jwt.encode({"alg": "HS256"}, {"id": "u1", "exp": int(time.time()) + 60}, OctKey.import_key(SECRET.encode()))
    settings = {
        "seed_api": "on",
        "seed_api_trusted_networks": "127.0.0.0/8",
        "seed_api_unverified_prices": "on",
        "tulbur_jwt_secret": SECRET,
    }
    assert len(EXAMPLES) == PAGE.count("\ncurl ") == 7
    async with running(changes=settings) as demo, aiohttp.ClientSession() as http:
        values = {
            "TULBUR": demo.base_url,
            "JWT": token,
            "SESSION": SESSION,
            "TOKEN": demo.tulbur.links.callback_url(SESSION).rpartition("/")[2],
        }
        for command, shown in EXAMPLES:
            answer = await sent(http, command, values)
            assert_alike(answer, json.loads(shown))
            if answer["sessionId"] == SESSION and "invoice" in answer:
                values["INVOICE"] = answer["invoice"]["invoiceId"]
