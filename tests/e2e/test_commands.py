"""The commands as a person types them, in processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tulbur.commands.demo import Demo, running

pytestmark = pytest.mark.anyio

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("QPAY_", "TULBUR_", "DATABASE_"))}


async def tulbur(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "tulbur.cli", *arguments]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=CLEAN | dict(env or {}),
        cwd=cwd,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return subprocess.CompletedProcess(command, process.returncode or 0, out.decode(), err.decode())


@pytest.fixture
async def demo(tmp_path: Path) -> AsyncIterator[Demo]:
    async with running(data=tmp_path) as made:
        yield made


@pytest.fixture
def env(demo: Demo) -> dict[str, str]:
    s = demo.settings
    assert s.tulbur_secret_keys is not None
    return {
        "DATABASE_URL": s.database_url,
        "PUBLIC_URL": str(s.public_url),
        "QPAY_BASE_URL": str(s.qpay_base_url),
        "QPAY_USERNAME": str(s.qpay_username),
        "QPAY_PASSWORD": "123456",
        "QPAY_INVOICE_CODE": str(s.qpay_invoice_code),
        "TULBUR_SECRET_KEYS": s.tulbur_secret_keys.get_secret_value(),
        "TULBUR_API_KEYS": s.tulbur_api_keys.get_secret_value(),
    }


async def _pay(demo: Demo, invoice_id: str) -> None:
    url = f"{demo.simulator_url}/_sim/invoices/{invoice_id}/pay"
    async with aiohttp.ClientSession() as http, http.post(url, json={"callback": False}) as answer:
        assert answer.status == 200


async def test_the_demo_shows_one_order_set(tmp_path: Path) -> None:
    shown = await tulbur("demo", cwd=tmp_path)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "SUCCESS" in shown.stdout
    assert "one order set" in shown.stdout
    assert not shown.stderr
    assert not list(tmp_path.iterdir()), "a demo leaves nothing behind"


async def test_the_demo_ignores_the_environment(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=not-a-port\n")
    shown = await tulbur("demo", "--json", env={"DATABASE_URL": "mongodb://nowhere"}, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["ok"] is True


async def test_the_drill_runs_against_a_running_deployment(demo: Demo) -> None:
    shown = await tulbur(
        "drill", "--url", demo.base_url, "--api-key", demo.api_key, "--simulator", demo.simulator_url, "--json"
    )
    assert shown.returncode == 0, shown.stdout
    assert json.loads(shown.stdout)["loaded_from_database"] >= 1


async def test_the_drill_fails_where_the_job_is_not_done(demo: Demo) -> None:
    shown = await tulbur("drill", "--url", demo.base_url, "--api-key", "wrong", "--simulator", demo.simulator_url)
    assert shown.returncode == 1
    assert "401" in shown.stdout


@pytest.mark.parametrize("command", ["serve", "worker"])
async def test_missing_settings_name_themselves(command: str, tmp_path: Path) -> None:
    shown = await tulbur(command, cwd=tmp_path)
    assert shown.returncode == 2
    for name in ("PUBLIC_URL", "QPAY_BASE_URL", "QPAY_USERNAME", "QPAY_PASSWORD", "TULBUR_SECRET_KEYS"):
        assert f"tulbur: {name} is not set" in shown.stderr
    assert "Traceback" not in shown.stderr


async def test_a_wrong_setting_names_itself(tmp_path: Path) -> None:
    shown = await tulbur("stats", env={"PORT": "eighty"}, cwd=tmp_path)
    assert shown.returncode == 2
    assert shown.stderr.startswith("tulbur: PORT is wrong")


async def test_a_database_of_another_kind_is_refused_with_a_sentence(tmp_path: Path) -> None:
    shown = await tulbur("stats", env={"DATABASE_URL": "oracle://x"}, cwd=tmp_path)
    assert shown.returncode == 2
    assert "DATABASE_URL" in shown.stderr


async def test_a_key_is_shown_once_and_stored_as_a_hash() -> None:
    shown = await tulbur("keys", "new", "shop", "--scopes", "read+write", "--json")
    made = json.loads(shown.stdout)
    assert made["setting"] == f"shop:read+write:{sha256(made['key'].encode()).hexdigest()}"
    wrong = await tulbur("keys", "new", "shop", "--scopes", "everything")
    assert wrong.returncode == 2


async def test_migrate_up_status_down(tmp_path: Path) -> None:
    env = {"DATABASE_URL": f"sqlite:///{tmp_path / 'shop.db'}"}
    up = json.loads((await tulbur("migrate", "--json", env=env)).stdout)
    assert up["current"] == up["head"]
    assert json.loads((await tulbur("migrate", "status", "--json", env=env)).stdout) == up
    refused = await tulbur("migrate", "down", "--confirm", "other.db", env=env)
    assert refused.returncode == 2
    down = json.loads((await tulbur("migrate", "down", "--confirm", "shop.db", "--json", env=env)).stdout)
    assert down["current"] is None
    assert Path(down["backup"]).stat().st_size > 0


async def test_sessions_are_listed_shown_checked_and_cancelled(demo: Demo, env: dict[str, str]) -> None:
    first = await demo.tulbur.open(user_id="u1", amount="50000")
    second = await demo.tulbur.open(user_id="u2", amount="7000")
    listed = json.loads((await tulbur("sessions", "list", "--json", env=env)).stdout)
    assert {s["id"] for s in listed["items"]} == {first.id, second.id}
    assert first.invoice is not None
    await _pay(demo, first.invoice.id)
    checked = json.loads((await tulbur("sessions", "check", first.id, "--json", env=env)).stdout)
    assert (checked["status"], len(checked["orders"])) == ("PAID", 1)
    again = await tulbur("sessions", "cancel", first.id, env=env)
    assert again.returncode == 1
    assert "paid" in again.stderr
    cancelled = json.loads((await tulbur("sessions", "cancel", second.id, "--json", env=env)).stdout)
    assert cancelled["status"] == "CANCELLED"
    shown = await tulbur("sessions", "show", first.id, env=env)
    assert "PAID" in shown.stdout
    assert (await tulbur("sessions", "show", "nobody", env=env)).returncode == 1
    stats: dict[str, Any] = json.loads((await tulbur("stats", "--json", env=env)).stdout)
    assert stats["by_status"] == {"PENDING": 0, "PAID": 1, "EXPIRED": 0, "CANCELLED": 1}
    assert stats["orders"] == 1


async def test_the_doctor_finds_nothing_wrong_with_a_running_demo(env: dict[str, str]) -> None:
    shown = await tulbur("doctor", "--json", env=env)
    checks = {c["check"]: c for c in json.loads(shown.stdout)["checks"]}
    assert set(checks) == {
        *("settings", "api keys", "database", "schema", "durability"),
        *("cache", "spool", "webhook", "qpay login", "public url", "clock"),
    }
    assert [c for c in checks.values() if not c["ok"]] == []
    assert shown.returncode == 0


async def test_the_doctor_names_each_problem(env: dict[str, str], tmp_path: Path) -> None:
    sick = env | {
        "DATABASE_URL": f"sqlite:///{tmp_path / 'other.db'}",
        "QPAY_PASSWORD": "wrong",
        "PUBLIC_URL": "http://127.0.0.1:9",
        "TULBUR_API_KEYS": "",
        "TULBUR_SECRET_KEYS": "short",
    }
    shown = await tulbur("doctor", "--json", env=sick, cwd=tmp_path)
    assert shown.returncode == 1
    bad = {c["check"] for c in json.loads(shown.stdout)["checks"] if not c["ok"]}
    assert bad == {"settings", "api keys", "qpay login", "public url"}
    assert "wrong" not in shown.stdout.replace("are wrong", "")
    missing = await tulbur("doctor", cwd=tmp_path)
    assert missing.returncode == 1
    assert "PUBLIC_URL is not set" in missing.stdout


async def test_help_is_quick_to_import() -> None:
    shown = await tulbur("--help")
    assert shown.returncode == 0
    probe = "import sys, tulbur.cli; print([m for m in ('fastapi', 'aiohttp', 'sqlalchemy') if m in sys.modules])"
    loaded = await asyncio.to_thread(subprocess.check_output, [sys.executable, "-c", probe], text=True)
    assert loaded.strip() == "[]"


@pytest.mark.parametrize(
    ("command", "name"),
    [(["serve", "--port", "0"], "url"), (["worker"], "status"), (["simulator", "--port", "0"], "simulator_url")],
)
async def test_what_stays_up_says_so_as_json(
    command: list[str], name: str, env: dict[str, str], tmp_path: Path
) -> None:
    own = env | {"DATABASE_URL": f"sqlite:///{tmp_path / 'own.db'}"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tulbur.cli", *command, "--json"),
        env=CLEAN | own,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        told = json.loads(await process.stdout.readline())
        assert list(told) == [name]
        if name != "status":
            async with aiohttp.ClientSession() as http:
                while await _status(http, told[name]) is None:
                    await asyncio.sleep(0.05)
        process.terminate()
        await process.wait()


async def _status(http: aiohttp.ClientSession, url: str) -> int | None:
    try:
        async with http.get(url) as answer:
            return answer.status
    except aiohttp.ClientConnectionError:
        return None


async def test_looking_at_no_database_makes_none(tmp_path: Path) -> None:
    shown = await tulbur("stats", cwd=tmp_path)
    assert shown.returncode == 2
    assert "DATABASE_URL" in shown.stderr
    assert not list(tmp_path.iterdir())


async def test_a_policy_that_does_not_exist_is_refused(env: dict[str, str]) -> None:
    shown = await tulbur("doctor", env=env | {"LATE_PAYMENTS": "perhaps"})
    assert shown.returncode == 2
    assert "LATE_PAYMENTS is wrong" in shown.stderr


async def test_why_and_cleanup_answer_a_person_and_a_script(demo: Demo, env: dict[str, str]) -> None:
    session = await demo.tulbur.open(user_id="u1", amount="50000", description="tea")
    said = await tulbur("why", session.id, env=env)
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("PENDING: the payer has until ")
    assert "QPay made invoice" in said.stdout
    told = await tulbur("why", str(session.invoice.id if session.invoice else ""), "--json", env=env)
    found = json.loads(told.stdout)
    assert (found["kind"], found["session"]["id"], found["do"]) == ("invoice", session.id, [])
    unknown = await tulbur("why", "nothing", env=env)
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr.startswith("tulbur: nothing stored here has this id")
    dry = await tulbur("cleanup", "--dry-run", env=env)
    assert (dry.returncode, "what a run would do" in dry.stdout) == (0, True), dry.stderr
    done = json.loads((await tulbur("cleanup", "--json", env=env)).stdout)
    assert (done["ok"], done["paid"], done["late"], done["dry_run"]) == (True, 0, 0, False)


async def test_a_sweep_settles_and_prove_certifies(demo: Demo, env: dict[str, str], tmp_path: Path) -> None:
    session = await demo.tulbur.open(user_id="u", amount=100)
    assert session.invoice is not None
    await _pay(demo, session.invoice.id)
    now = datetime.now(UTC)
    window = ("--from", (now - timedelta(hours=1)).isoformat(), "--to", (now + timedelta(minutes=1)).isoformat())
    found = await tulbur("sweep", *window, "--json", env=env, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    (run,) = json.loads(found.stdout)["runs"]
    assert (run["settled"], run["seen"]) == (1, "all")
    again = await tulbur("sweep", *window, env=env, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "+08:00" in again.stdout
    day = now.astimezone(timezone(timedelta(hours=8))).date()
    proof = await tulbur("prove", "--day", day.isoformat(), "--json", env=env, cwd=tmp_path)
    told = json.loads(proof.stdout)
    assert proof.returncode == 1
    assert (told["trouble"], told["differences"]) == ("the day is not over", [])
    assert told["currencies"]["MNT"] | {"balances": True} == told["currencies"]["MNT"]
    past = await tulbur("prove", "--day", (day - timedelta(days=2)).isoformat(), env=env, cwd=tmp_path)
    assert past.returncode == 0, past.stdout
    restored = await tulbur(
        "recover", "--since", (now - timedelta(hours=1)).isoformat(), "--json", env=env, cwd=tmp_path
    )
    assert restored.returncode == 0, restored.stdout + restored.stderr
    assert json.loads(restored.stdout)["cache_emptied"]
    shown = await tulbur("recover", "--since", (now - timedelta(hours=1)).isoformat(), env=env, cwd=tmp_path)
    assert "/v1/events goes back to after=0\n" in shown.stdout
    assert "look at the bank's statement" in " ".join(shown.stdout.split())
    for wrong in (
        ("sweep", "--from", "x", "--to", "y"),
        ("sweep", "--from", "2999-01-01", "--to", "2999-01-02"),
        ("sweep", "--from", "0226-11-22", "--to", "2026-11-23"),
        ("recover", "--since", "2006-11-22"),
        ("prove", "--day", "9999-12-31"),
        ("prove", "--day", "2026-13-01"),
        ("recover", "--since", "no"),
    ):
        assert (await tulbur(*wrong, env=env, cwd=tmp_path)).returncode == 2
