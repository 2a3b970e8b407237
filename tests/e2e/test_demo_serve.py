"""What a newcomer does: start the demo, open the checkout page, press Pay on the bank page, see it turn to paid."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

pytestmark = pytest.mark.browser

CHROMIUM = os.environ.get("TULBUR_CHROMIUM") or "/usr/bin/chromium"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 800}


@pytest.fixture(scope="module")
def addresses() -> Iterator[dict[str, str]]:
    command = [sys.executable, "-m", "tulbur.cli", "demo", "--serve", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"there is no browser at {CHROMIUM}")
        pytest.skip(f"there is no browser at {CHROMIUM}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def _open(page: Page, addresses: dict[str, str]) -> dict[str, Any]:
    answer = page.request.post(
        f"{addresses['base_url']}/v1/sessions",
        headers={"Authorization": f"Bearer {addresses['api_key']}"},
        data={"user_id": "u1", "amount": "50000", "description": "Цай, 2 ширхэг"},
    )
    assert answer.status == 201, answer.text()
    session: dict[str, Any] = answer.json()
    return session


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_pay_on_the_bank_page_turns_the_checkout_page_to_paid(
    browser: Browser, addresses: dict[str, str], size: Any, tmp_path: Path
) -> None:
    with browser.new_context(viewport=size, locale="mn-MN", has_touch=size is PHONE) as context:
        checkout = context.new_page()
        session = _open(checkout, addresses)
        asked: list[str] = []
        checkout.on("request", lambda request: asked.append(request.url))
        checkout.goto(session["checkout_url"])
        expect(checkout.locator("body")).to_contain_text("50,000")
        checkout.screenshot(path=tmp_path / "waiting.png", full_page=True)
        if folder := os.environ.get("TULBUR_SCREENSHOTS"):
            checkout.screenshot(path=Path(folder) / f"waiting-{size['width']}.png", full_page=True)

        bank = context.new_page()
        bank.goto(f"{addresses['simulator_url']}/bank/{session['invoice']['id']}")
        if folder:
            bank.screenshot(path=Path(folder) / f"bank-{size['width']}.png", full_page=True)
        bank.get_by_role("button").first.click()
        expect(checkout.locator("body")).to_contain_text("Төлбөр төлөгдлөө", timeout=10_000)
        if folder:
            bank.screenshot(path=Path(folder) / f"bank-paid-{size['width']}.png", full_page=True)
            checkout.screenshot(path=Path(folder) / f"paid-{size['width']}.png", full_page=True)
        assert all(url.startswith((addresses["base_url"], "data:")) for url in asked), asked
        assert checkout.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_addresses_it_prints_all_answer(browser: Browser, addresses: dict[str, str]) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        for name in ("checkout_url", "bank_url", "docs_url", "simulator_url"):
            answer = page.request.get(addresses[name])
            assert answer.status == 200, (name, answer.status)
        assert page.request.get(f"{addresses['base_url']}/readyz").json()["status"] == "ready"
