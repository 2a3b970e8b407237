"""The payer's page in a real browser: live, narrow, by itself, and without a script."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.web.checkout_world import (
    Parts,
    answered,
    cancelled,
    changed,
    expired,
    held,
    paid,
    paid_and_returned,
    returned,
    returning,
    underpaid,
    waiting,
)

from tulbur.core.session import Session
from tulbur.web.texts import EN, MN, Texts

pytestmark = pytest.mark.browser

PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 800}
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Server(uvicorn.Server):
    """A server of its own thread, which says when it listens."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(uvicorn.Config(parts.app(), port=0, lifespan="off", log_level="error", ws="none"))
        self.parts = parts
        self.ready = threading.Event()

    async def startup(self, *arguments: object, **options: object) -> None:
        await super().startup(*arguments, **options)  # type: ignore[arg-type]
        self.ready.set()

    async def shutdown(self, *arguments: object, **options: object) -> None:
        self.parts.live.close()
        await super().shutdown(*arguments, **options)  # type: ignore[arg-type]


class Site:
    """The routes behind a real socket; what a test changes, it changes in the server's own loop."""

    def __init__(self, server: Server) -> None:
        self.parts = server.parts
        self.origin = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        self._loop = server.servers[0].get_loop()

    def put(self, session: Session) -> str:
        """Lay a session on the shelf; the address of its page."""
        self.parts.payments.put(session)
        return self.origin + self.parts.path(session)

    def commit(self, session: Session) -> None:
        """As the event sink tells a won commit."""
        self.parts.payments.put(session)
        self._loop.call_soon_threadsafe(self.parts.live.changed, session)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = os.environ.get("TULBUR_CHROMIUM") or "/usr/bin/chromium"
    if not Path(path).exists():
        reason = f"no chromium at {path}; install it or name one with TULBUR_CHROMIUM"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def site() -> Iterator[Site]:
    server = Server(Parts())
    thread = threading.Thread(target=server.run)
    thread.start()
    assert server.ready.wait(10)
    yield Site(server)
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive(), "open streams must not keep a server from stopping"


@pytest.fixture
def phone(browser: Browser, site: Site) -> Iterator[Page]:
    """A phone's page that may ask nobody but us, and may not complain."""
    context = browser.new_context(viewport=PHONE, is_mobile=True, has_touch=True, locale="mn-MN")
    page = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    page.goto("about:blank")
    context.close()
    assert asked
    assert [url for url in asked if not url.startswith((site.origin + "/", "about:"))] == []
    assert complaints == []


def test_the_page_turns_to_paid_by_itself(site: Site, phone: Page) -> None:
    phone.goto(site.put(waiting()))
    expect(phone.get_by_text(MN.waiting, exact=True)).to_be_visible()
    site.commit(changed(paid()))
    expect(phone.locator(".headline.done")).to_be_visible()
    expect(phone.get_by_text(paid().orders[0].id)).to_be_visible()
    expect(phone.get_by_role("link", name=MN.back_to_shop)).to_have_attribute("href", str(paid().return_url))
    expect(phone).to_have_title(MN.paid)
    expect(phone.locator("#news")).to_have_text(MN.paid)
    for gone in (phone.locator(".apps").first, phone.locator(".qr"), phone.get_by_role("button")):
        expect(gone).to_be_hidden()


def test_without_a_stream_the_page_polls(site: Site, phone: Page) -> None:
    phone.clock.install()
    phone.add_init_script("delete window.EventSource")
    phone.goto(site.put(waiting()))
    site.parts.payments.put(changed(paid()))
    phone.clock.run_for(5_000)
    expect(phone.locator(".headline.done")).to_be_visible()


def test_what_the_status_cannot_tell_is_fetched_with_the_page(site: Site, phone: Page) -> None:
    phone.goto(site.put(waiting()))
    site.commit(changed(underpaid()))
    expect(phone.get_by_text("20,000 ₮")).to_be_visible()
    site.commit(changed(changed(answered(underpaid(), 30_000, 40_000))))
    expect(phone.locator(".headline.done")).to_be_visible()
    expect(phone.get_by_text(MN.to_pay_back)).to_be_visible()


@pytest.mark.parametrize("texts", [MN, EN], ids=lambda texts: texts.lang)
def test_late_money_is_followed_to_its_end_without_a_false_paid(site: Site, phone: Page, texts: Texts) -> None:
    phone.goto(site.put(expired()) + f"?lang={texts.lang}")
    stages = [(held(), texts.held), (returning(), texts.returning), (returned(), texts.returned)]
    for number, (session, headline) in enumerate(stages, 1):
        site.commit(changed(session, version=number + 9))
        expect(phone.locator(".headline:visible")).to_have_text(headline)
        expect(phone.get_by_text("50,000 ₮").locator("visible=true")).to_have_count(2)
        for other in (texts.paid, texts.paid_hint, texts.expired_unpaid, texts.have_paid):
            expect(phone.get_by_text(other, exact=True)).to_be_hidden()
        shown_on(phone, f"{texts.lang}-{headline}")


def test_an_order_whose_money_went_back_is_not_called_paid(site: Site, phone: Page) -> None:
    phone.goto(site.put(paid_and_returned()))
    expect(phone.locator(".headline:visible")).to_have_text(MN.returned)
    expect(phone.get_by_text(MN.paid_hint)).to_be_hidden()


def shown_on(page: Page, name: str) -> None:
    """Keeps a picture for whoever wants to look."""
    folder = os.environ.get("TULBUR_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def test_a_cancelled_session_can_still_be_found_paid(site: Site, phone: Page) -> None:
    phone.goto(site.put(waiting()) + "?lang=en")
    site.commit(changed(cancelled()))
    expect(phone.get_by_text(EN.cancelled, exact=True).first).to_be_visible()
    expect(phone.locator(".qr")).to_be_hidden()
    site.parts.payments.found = changed(changed(paid()))
    phone.get_by_role("button", name=EN.have_paid).click()
    expect(phone.locator(".headline.done")).to_be_visible()


def test_time_runs_out_on_the_page_too(site: Site, phone: Page) -> None:
    phone.clock.install()
    phone.goto(site.put(waiting()))
    expect(phone.get_by_role("timer")).to_have_text("30:00")
    phone.clock.run_for(61_000)
    expect(phone.get_by_role("timer")).to_have_text("28:59")
    phone.clock.fast_forward(1_800_000)
    expect(phone.get_by_text(MN.expired, exact=True).first).to_be_visible()
    expect(phone.locator(".qr")).to_be_hidden()


@pytest.mark.parametrize(
    ("silent", "words"), [(False, MN.not_yet), (True, MN.still_asking)], ids=["not yet", "no answer"]
)
def test_i_have_paid_tells_what_the_bank_said(site: Site, phone: Page, silent: bool, words: str) -> None:
    site.parts.payments.silent = silent
    phone.goto(site.put(waiting()))
    button = phone.get_by_role("button", name=MN.have_paid)
    button.click()
    expect(phone.locator("#note")).to_have_text(words)
    expect(button).to_have_attribute("aria-disabled", "true")
    expect(button).to_be_focused()
    phone.keyboard.press("Enter")
    expect(phone.locator("#note")).to_have_text(MN.not_yet)
    assert len(site.parts.payments.asked) == 1


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP])
@pytest.mark.parametrize("lang", ["mn", "en"])
def test_nothing_is_too_wide_or_too_small_to_touch(
    site: Site, phone: Page, viewport: dict[str, int], lang: str
) -> None:
    phone.set_viewport_size(viewport)  # type: ignore[arg-type]
    for session in (waiting(description="Ш" * 255), underpaid(), paid(), cancelled(), held(), returning(), returned()):
        phone.goto(f"{site.put(session)}?lang={lang}")
        assert phone.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
        for box in phone.locator("a:visible, button:visible").evaluate_all(
            "all => all.map(e => e.getBoundingClientRect().height)"
        ):
            assert box >= 44


def test_the_phone_shows_apps_first_and_the_desktop_the_code(site: Site, phone: Page) -> None:
    phone.goto(site.put(waiting()))
    top = "e => e.getBoundingClientRect().top"
    assert phone.locator(".pick").evaluate(top) < phone.locator(".scan").evaluate(top)
    phone.set_viewport_size(DESKTOP)  # type: ignore[arg-type]
    assert phone.locator(".scan").evaluate(top) < phone.locator(".pick").evaluate(top)


def test_dark_keeps_the_code_on_white(site: Site, phone: Page) -> None:
    phone.emulate_media(color_scheme="dark", reduced_motion="reduce")
    phone.goto(site.put(waiting()))
    color = "e => getComputedStyle(e).backgroundColor"
    assert phone.locator(".qr").evaluate(color) == "rgb(255, 255, 255)"
    assert phone.locator("body").evaluate(color) == "rgb(13, 19, 26)"
    animation = "e => getComputedStyle(e, '::before').animationName"
    assert phone.locator(".live").evaluate(animation) == "none"


def test_it_works_without_a_script(site: Site, browser: Browser) -> None:
    context = browser.new_context(viewport=PHONE, java_script_enabled=False, locale="en-US")  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(site.put(waiting()))
    expect(page.get_by_text(EN.waiting, exact=True)).to_be_visible()
    expect(page.get_by_text("30 min")).to_be_visible()
    assert "http-equiv" in page.content()
    page.get_by_role("button", name=EN.have_paid).click()
    expect(page.get_by_text(EN.not_yet)).to_be_visible()
    site.parts.payments.found = paid()
    page.get_by_role("button", name=EN.have_paid).click()
    expect(page.locator(".headline.done")).to_be_visible()
    context.close()
