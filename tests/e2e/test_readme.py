"""What the README shows is run."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import sys
from itertools import pairwise
from pathlib import Path

import aiohttp
import pytest

from tulbur.commands.demo import running

pytestmark = pytest.mark.anyio

README = (Path(__file__).parents[2] / "README.md").read_text()


def _block(language: str, holding: str) -> str:
    blocks = [
        text for name, text in re.findall(r"^```(\w*)\n(.*?)^```", README, re.DOTALL | re.MULTILINE) if name == language
    ]
    found = [block for block in blocks if holding in block]
    assert len(found) == 1
    return str(found[0])


async def test_the_python_example_opens_a_session(tmp_path: Path) -> None:
    async with running() as demo:
        env = {
            "DATABASE_URL": f"sqlite:///{tmp_path / 'shop.db'}",
            "PUBLIC_URL": demo.base_url,
            "QPAY_BASE_URL": demo.simulator_url,
            "QPAY_USERNAME": "TEST_README",
            "QPAY_PASSWORD": "123456",
            "QPAY_INVOICE_CODE": "TEST_INVOICE",
            "TULBUR_SECRET_KEYS": "only-for-the-readme-0123456789abcdef",
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-W",
            "error",
            "-c",
            _block("python", "t.open"),
            env=env,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    address, status = out.decode().split()
    assert address.startswith(f"{demo.base_url}/pay/")
    assert status == "PENDING"


async def test_the_http_example_is_taken_as_it_stands() -> None:
    words = shlex.split(_block("sh", "curl -X POST").replace("\\\n", " "))
    body = json.loads(words[words.index("-d") + 1])
    headers = dict(word.split(": ", 1) for before, word in pairwise(words) if before == "-H")
    async with running() as demo, aiohttp.ClientSession() as http:
        headers["Authorization"] = f"Bearer {demo.api_key}"
        url = words[words.index("POST") + 1].replace("https://pay.shop.mn", demo.base_url)
        async with http.post(url, json=body, headers=headers) as answer:
            assert answer.status == 201
            session = await answer.json()
        assert session["amount"] == "50000.00"
        assert session["invoice"]["qr_text"]
