"""`tulbur doctor` as a person types it; and what it says of settings and of the old shop's sessions."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.doctor.world import SECRET, lines, said

from tulbur.commands.demo import Demo
from tulbur.core.moving import OldSession, OldStatus, imported
from tulbur.core.session import SECOND
from tulbur.wiring import now

pytestmark = pytest.mark.anyio

HOUR = 3600 * SECOND
CLEAN = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}


async def doctor(*, env: Mapping[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "tulbur.cli", "doctor"]
    return await asyncio.to_thread(
        subprocess.run, command, env=CLEAN | env, cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )


async def test_one_line_each_and_no_trace(tmp_path: Path) -> None:
    sick = {
        "DATABASE_URL": f"postgresql://shop:{SECRET}@127.0.0.1:1/shop",
        "REDIS_URL": f"redis://:{SECRET}@127.0.0.1:1/0",
        "QPAY_BASE_URL": "http://127.0.0.1:1",
        "QPAY_USERNAME": "u",
        "QPAY_PASSWORD": SECRET,
        "QPAY_INVOICE_CODE": "c",
        "PUBLIC_URL": "http://127.0.0.1:1",
        "TULBUR_SECRET_KEYS": SECRET * 3,
        "WEBHOOK_URL": f"https://127.0.0.1:1/{SECRET}?{SECRET}",
        "WEBHOOK_SECRET": SECRET,
        "GROUP_COMMIT": "off",
    }
    shown = await doctor(env=sick, cwd=tmp_path)
    assert shown.returncode == 1
    assert shown.stderr == ""
    assert SECRET not in shown.stdout
    told = shown.stdout.splitlines()
    assert {line.split()[0] for line in told} == {"ok", "note", "problem"}
    assert all((" -> " in line) != line.startswith("ok ") for line in told)
    assert any("GROUP_COMMIT is set, but without effect in this release" in line for line in told)


async def test_what_has_an_effect_is_not_called_out(tmp_path: Path) -> None:
    found = await said(database_url=f"sqlite:///{tmp_path}/t.db", session_ttl_seconds=60)
    assert not [one for one in found if "without effect" in one.detail]
    found = await said(database_url=f"sqlite:///{tmp_path}/t.db", group_commit="off", webhook_url="")
    assert [one.detail for one in found if "without effect" in one.detail] == [
        "GROUP_COMMIT is set, but without effect in this release"
    ]


def old(number: int, ended: int, **changes: Any) -> OldSession:
    at = now()
    cart = [{"productId": "p1", "shopId": "a", "quantity": 1, "sale_price": 1000}]
    payload = {"userId": "u1", "cart": cart, "sellers": [], "totalAmount": 1000}
    made = OldSession(
        id=f"old-{number}",
        user_id="u1",
        amount=100_000,
        currency="MNT",
        payload=payload,
        status=OldStatus.PENDING,
        created_at=at - 3 * HOUR,
        updated_at=at - 3 * HOUR,
        expires_at=at + ended,
    )
    return replace(made, **changes)


async def test_sessions_of_the_old_shop_that_nobody_takes_over(demo: Demo) -> None:
    settings = demo.settings.model_dump()
    on = settings | {"seed_api": "on", "tulbur_jwt_secret": "j" * 40}
    assert not lines(await said(**settings), "old sessions")
    assert [one.ok for one in lines(await said(**on), "old sessions")] == [True]
    store = demo.tulbur.store
    await store.add(imported(old(1, -2 * HOUR), now()))
    await store.add(imported(old(2, -HOUR // 2), now()))  # its shop may be finishing it
    await store.add(imported(old(3, HOUR), now()))
    reviewed = imported(old(4, -2 * HOUR, amount=1), now())
    assert reviewed.claim
    assert reviewed.claim.review
    await store.add(reviewed)
    waiting, person = lines(await said(**on), "old sessions")
    assert (waiting.ok, waiting.detail) == (False, "1 session of the old shop waits to be taken over")
    assert waiting.remedy.endswith("tulbur import --take-over")
    assert (person.ok, person.detail) == (True, "sessions of the old shop that a person has to look at first: 1")
    await store.add(imported(old(5, -2 * HOUR), now()))
    assert lines(await said(**on), "old sessions")[0].detail == "2 sessions of the old shop wait to be taken over"
