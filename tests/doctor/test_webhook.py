"""What the doctor says of the shop's address for events; no event is ever sent to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.doctor.test_outside import certificate
from tests.doctor.world import SECRET, lines, of, site

from tulbur.commands.demo import Demo
from tulbur.commands.doctor import Finding
from tulbur.commands.doctor.webhook import examine_webhook
from tulbur.settings import IsolatedSettings
from tulbur.stores.memory import MemoryStore
from tulbur.wiring import now

pytestmark = pytest.mark.anyio

KEY = "whsec_" + "QUJD" * 10


async def examined(url: str, **changes: Any) -> list[Finding]:
    settings = IsolatedSettings.model_validate({"webhook_url": url, "webhook_secret": KEY, **changes})
    found = [finding async for finding in examine_webhook(settings, None, now())]
    assert SECRET not in repr(found)
    assert KEY not in repr(found)
    assert all(one.remedy for one in found if not one.ok)
    return found


async def seen(url: str, **changes: Any) -> Finding:
    [found] = await examined(f"{url}/{SECRET}?token={SECRET}", **changes)
    return found


async def taken(_: web.Request) -> web.Response:
    raise AssertionError("an event was sent")


async def test_off(demo: Demo) -> None:
    found = await of("webhook", **demo.settings.model_dump())
    assert (found.ok, "GET /v1/events" in found.detail) == (True, True)


async def test_a_shop_on_this_network(demo: Demo) -> None:
    async with site(taken) as port:
        url = f"http://127.0.0.1:{port}"
        allowed = await seen(url, webhook_allow_private="on", webhook_secret=f"{KEY},{KEY}")
        refused = await seen(url.replace("http:", "https:"))
    assert (allowed.ok, allowed.detail) == (True, "127.0.0.1 answers, 2 secrets")
    assert (refused.ok, refused.detail) == (
        False,
        "127.0.0.1 is an address of a private network: nothing is sent there",
    )
    assert "WEBHOOK_ALLOW_PRIVATE=on" in refused.remedy


@pytest.mark.parametrize("host", ["localhost", "10.0.0.1", "[fd00::1]", "169.254.169.254", "2130706433"])
async def test_private_addresses(host: str) -> None:
    found = await seen(f"https://{host}")
    assert (found.ok, "a private network" in found.detail) == (False, True)


@pytest.mark.parametrize(
    ("url", "changes", "sentence"),
    [
        ("http://shop.mn", {}, "WEBHOOK_URL is not https"),
        ("https://shop.mn", {"webhook_secret": ""}, "WEBHOOK_SECRET is not set"),
        ("https://shop.mn", {"webhook_secret": SECRET}, "WEBHOOK_SECRET holds an entry that is no secret"),
        ("https://nowhere.invalid", {}, "nowhere.invalid cannot be looked up"),
        ("http://127.0.0.1:1", {"webhook_allow_private": "on"}, "nothing listens on 127.0.0.1:1"),
    ],
)
async def test_what_is_wrong(url: str, changes: dict[str, str], sentence: str) -> None:
    found = await seen(url, **changes)
    assert (found.ok, sentence in found.detail) == (False, True), found


async def test_a_certificate_nobody_accepts(tmp_path: Path) -> None:
    async with site(taken, certificate(tmp_path, 30)) as port:
        found = await seen(f"https://127.0.0.1:{port}", webhook_allow_private="on")
    assert (found.ok, "the certificate of 127.0.0.1 is not valid" in found.detail) == (False, True)


async def test_no_tls_at_all() -> None:
    async with site(taken) as port:
        found = await seen(f"https://127.0.0.1:{port}", webhook_allow_private="on")
    assert (found.ok, "speaks no TLS" in found.detail) == (False, True)


async def test_parked_events_are_a_problem(demo: Demo) -> None:
    session = await demo.tulbur.open(user_id="u1", amount="50000")
    store = demo.tulbur.store
    # The demo has no shop to tell, so its worker numbers them as read by whoever reads them.
    while not (numbered := await store.events(0, 10)):
        await store.publish(10, deliver=False)
    await store.replay_events(0, since=0, before=now() + 1, limit=200)
    claimed = await store.claim_events("w", 1, 60)
    await store.events_failed("w", [claimed[0].event.id], retry_at=None)
    assert numbered[0].session_id == session.id
    settings = IsolatedSettings()
    found = lines([one async for one in examine_webhook(settings, store, now())], "webhook")
    assert [one.ok for one in found] == [True, False]
    assert found[1].detail == "parked, since the shop never took them: 1 events"
    assert "tulbur events replay" in found[1].remedy
    empty = MemoryStore(now)
    assert [one.ok async for one in examine_webhook(settings, empty, now())] == [True]
