"""The shop hears of an order: a service of its own process, a shop on a real socket, and the commands beside them."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import standardwebhooks
from tests.e2e.test_commands import tulbur
from tests.e2e.test_serving import KEY, Service, _env, _open, _pay, serving
from tests.events.receiver import OTHER_SECRET, SECRET, Message, Receiver, receiving, status

from tulbur.commands.demo import Demo, running
from tulbur.stores.sqlite import SqliteStore
from tulbur.wiring import now

pytestmark = pytest.mark.anyio

PAGE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()


@pytest.fixture
async def qpay() -> AsyncIterator[Demo]:
    """A simulator; the service beside it is not used."""
    async with running() as demo:
        yield demo


@pytest.fixture
async def shop() -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made


def webhook(shop: Receiver, *secrets: str) -> dict[str, str]:
    return {
        "WEBHOOK_URL": f"{shop.url}?canary-of-the-address",
        "WEBHOOK_SECRET": ",".join(secrets or (SECRET,)),
        "WEBHOOK_ALLOW_PRIVATE": "on",
    }


async def told(shop: Receiver, type_: str, count: int = 1) -> list[Message]:
    """Wait until the shop has taken so many events of a type."""
    async with asyncio.timeout(60):
        while len(found := [m for m in shop.taken if m.document["type"] == type_]) < count:
            await asyncio.sleep(0.02)
    return found


async def events(http: aiohttp.ClientSession, service: Service) -> list[Any]:
    async with http.get(f"{service.url}/v1/events?limit=200", headers=KEY) as answer:
        assert answer.status == 200
        return list((await answer.json())["items"])


def example(language: str) -> str:
    [found] = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


async def test_an_order_arrives_as_documented(tmp_path: Path, qpay: Demo, shop: Receiver) -> None:
    async with serving(tmp_path, qpay, **webhook(shop)) as service, aiohttp.ClientSession() as http:
        session = await _open(http, service)
        # Reading the events numbers them, and takes none of them away from the shop.
        assert await events(http, service)
        await _pay(http, qpay, session["invoice"]["id"])
        [message] = await told(shop, "order.created")
        shown = await events(http, service)
        async with asyncio.timeout(60):
            while len(shop.taken) < len(shown):
                await asyncio.sleep(0.02)
        async with http.get(f"{service.url}/metrics") as answer:
            metrics = await answer.text()
        await service.stop()
        log = service.errors.read_text()
    assert message.document == {"type": "order.created", "timestamp": message.document["data"]["at"]} | {
        "data": next(one for one in shown if one["type"] == "order.created")
    }
    documented = json.loads(example("json"))
    assert message.document.keys() == documented.keys()
    assert message.document["data"].keys() == documented["data"].keys()
    assert message.document["data"]["data"].keys() == documented["data"]["data"].keys()
    assert [m.document["data"] for m in shop.taken] == shown, "everything, in order, once"
    standardwebhooks.Webhook(SECRET).verify(message.body, message.headers)
    assert f'tulbur_webhooks_total{{result="delivered"}} {len(shown)}.0' in metrics
    assert "Traceback" not in log
    assert "canary" not in log
    assert SECRET not in log


async def test_the_documents_examples_verify_it(tmp_path: Path, qpay: Demo, shop: Receiver) -> None:
    both = webhook(shop, OTHER_SECRET, SECRET)
    async with serving(tmp_path, qpay, **both) as service, aiohttp.ClientSession() as http:
        await _open(http, service)
        [message] = await told(shop, "session.opened")
    made: dict[str, Any] = {}
    exec(example("python"), made)  # noqa: S102 - our own page
    for secret in (SECRET, OTHER_SECRET):
        assert made["verified"](secret, message.headers, message.body) == message.document
    wrong = "whsec_" + "QUJD" * 8
    with pytest.raises(ValueError, match="not signed"):
        made["verified"](wrong, message.headers, message.body)
    with pytest.raises(ValueError, match="not signed"):
        made["verified"](SECRET, message.headers, message.body + b" ")
    old = message.headers | {"webhook-timestamp": str(int(time.time()) - 400)}
    with pytest.raises(ValueError, match="too old"):
        made["verified"](SECRET, old, message.body)
    if node := shutil.which("node"):
        assert await in_node(node, SECRET, message) == message.document
        assert await in_node(node, wrong, message) == "not signed with this secret"


async def in_node(node: str, secret: str, message: Message) -> Any:
    given = f"{json.dumps(secret)}, {json.dumps(message.headers)}, Buffer.from({json.dumps(message.body.decode())})"
    script = f"""{example("js")}
let result;
try {{ result = verified({given}); }}
catch (error) {{ result = error.message; }}
console.log(JSON.stringify(result));"""
    process = await asyncio.create_subprocess_exec(node, "-e", script, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    return json.loads(out)


async def test_what_a_killed_process_has_not_told_the_next_one_tells(
    tmp_path: Path, qpay: Demo, shop: Receiver
) -> None:
    shop.answer = status(500)
    async with aiohttp.ClientSession() as http:
        async with serving(tmp_path, qpay, **webhook(shop)) as service:
            await _open(http, service)
            async with asyncio.timeout(60):
                while not shop.messages:
                    await asyncio.sleep(0.02)
            await service.stop(signal.SIGKILL)
        shop.answer = status(200)
        port = int(service.url.rpartition(":")[2])
        async with serving(tmp_path, qpay, port=port, **webhook(shop)):
            # After five seconds, or at the end of the lease when the kill came before the failure was written down.
            async with asyncio.timeout(120):
                [message] = await told(shop, "session.opened")
    assert message.id == shop.messages[0].id


async def test_without_an_address_nobody_waits_for_delivery(tmp_path: Path, qpay: Demo) -> None:
    async with serving(tmp_path, qpay) as service, aiohttp.ClientSession() as http:
        await _open(http, service)
        assert await events(http, service)
        async with http.get(f"{service.url}/v1/stats", headers=KEY) as answer:
            found = await answer.json()
    assert (found["events_undelivered"], found["events_parked"]) == (0, 0)


async def test_a_wrong_setting_is_said_at_the_start(tmp_path: Path, qpay: Demo) -> None:
    env = _env(tmp_path, 8080, qpay.simulator_url) | {"WEBHOOK_URL": "http://shop.mn/canary", "WEBHOOK_SECRET": SECRET}
    for command in ("serve", "worker"):
        refused = await tulbur(command, env=env, cwd=tmp_path)
        assert refused.returncode == 2
        assert "WEBHOOK_URL is not https" in refused.stderr
        assert "canary" not in refused.stderr
        assert "Traceback" not in refused.stderr


# --- the commands


async def test_parked_events_are_listed_and_replayed(tmp_path: Path, qpay: Demo, shop: Receiver) -> None:
    env = {**_env(tmp_path, 8080, qpay.simulator_url), **webhook(shop)}
    async with serving(tmp_path, qpay) as service, aiohttp.ClientSession() as http:
        session = await _open(http, service)
        shown = await events(http, service)
    store = SqliteStore(tmp_path / "shop.db", now)
    await store.start()
    await store.replay_events(0, since=0, before=now() + 1, limit=200)
    [first] = await store.claim_events("w", 1, 60)
    await store.events_failed("w", [first.event.id], retry_at=None)
    await store.stop()

    listed = json.loads((await tulbur("events", "list", "--parked", "--json", env=env)).stdout)
    assert listed == {"items": [shown[0] | {"attempts": 1}], "next_cursor": None}
    every = json.loads((await tulbur("events", "list", "--limit", "1", "--json", env=env)).stdout)
    assert ([one["no"] for one in every["items"]], every["next_cursor"]) == ([1], "1")
    table = await tulbur("events", "list", "--parked", env=env)
    assert session["id"][:8] in table.stdout

    late = await tulbur("events", "replay", "--since", "2100-01-01T00:00:00Z", "--json", env=env)
    assert json.loads(late.stdout) == {"replayed": 0}
    again = await tulbur("events", "replay", "--since", "2020-01-01T00:00:00Z", "--parked-only", "--json", env=env)
    assert (again.returncode, json.loads(again.stdout)) == (0, {"replayed": 1})
    assert json.loads((await tulbur("events", "list", "--parked", "--json", env=env)).stdout)["items"] == []
    async with serving(tmp_path, qpay, **webhook(shop)):
        [message] = await told(shop, shown[0]["type"])
    assert message.document["data"] == shown[0]


@pytest.mark.parametrize(
    ("since", "settings", "sentence"),
    [
        ("yesterday", {"WEBHOOK_URL": "https://shop.mn", "WEBHOOK_SECRET": SECRET}, "--since must be a time such as"),
        ("2026-01-01T00:00:00Z", {}, "WEBHOOK_URL is not set: nobody would send them"),
    ],
)
async def test_a_replay_that_cannot_be(
    tmp_path: Path, qpay: Demo, since: str, settings: dict[str, str], sentence: str
) -> None:
    env = {**_env(tmp_path, 8080, qpay.simulator_url), **settings}
    assert (await tulbur("migrate", env=env)).returncode == 0
    refused = await tulbur("events", "replay", "--since", since, env=env)
    assert refused.returncode == 2
    assert sentence in refused.stderr
