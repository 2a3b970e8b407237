"""Settings as people get them wrong: one sentence that names the variable and says what to do, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from tulbur.errors import SettingsError
from tulbur.settings import IsolatedSettings, Settings, sqlite_path

GOOD = {
    "public_url": "https://pay.shop.mn",
    "qpay_base_url": "https://merchant.qpay.mn",
    "qpay_username": "SHOP",
    "qpay_password": "123456",
    "qpay_invoice_code": "SHOP_INVOICE",
    "tulbur_secret_keys": "k" * 32,
}

WRONG_ADDRESSES = [
    "http://[::1",
    "http://[bad]",
    "http://shop.mn:99999",
    "http://shop.mn:abc",
    "https://user:canary@shop.mn",
    "http:// shop.mn",
    "http://a b",
    "http://төлбөр.mn",
    "http://shop.mn\\x",
    "https://shop.mn/'x",
    "ftp://shop.mn",
    "shop.mn",
    "https://",
    "https://shop.mn?a=b",
    "https://shop.mn#a",
]


def test_good_settings_are_taken() -> None:
    assert IsolatedSettings(**GOOD).required().public_url == "https://pay.shop.mn"
    local = IsolatedSettings(
        **GOOD | {"public_url": "http://[::1]:8080/pay/", "qpay_base_url": "http://127.0.0.1:8765"}
    )
    assert local.required().public_url == "http://[::1]:8080/pay"


@pytest.mark.parametrize("name", ["public_url", "qpay_base_url"])
@pytest.mark.parametrize("address", WRONG_ADDRESSES)
def test_a_wrong_address_is_one_sentence(name: str, address: str) -> None:
    with pytest.raises(SettingsError, match=name.upper()) as refused:
        IsolatedSettings(**GOOD | {name: address}).required()
    assert "canary" not in refused.value.message
    assert "\n" not in refused.value.message


@pytest.mark.parametrize("name", [*GOOD])
def test_blank_is_missing(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name.upper()} is not set"):
        IsolatedSettings(**GOOD | {name: "  "}).required()


def test_a_wrong_choice_is_told_as_it_must_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "chatty")
    with pytest.raises(SettingsError, match=r"LOG_LEVEL is wrong: .*'DEBUG', 'INFO'"):
        Settings.from_env()
    monkeypatch.setenv("LOG_LEVEL", "info")
    assert Settings.from_env().log_level == "INFO"


@pytest.mark.parametrize("secrets", ["nowhere", "a-file"])
def test_secrets_that_are_not_there_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, secrets: str) -> None:
    (tmp_path / "a-file").touch()
    monkeypatch.setenv("TULBUR_SECRETS_DIR", str(tmp_path / secrets))
    with pytest.raises(SettingsError, match="TULBUR_SECRETS_DIR"):
        Settings.from_env()


def test_a_database_address_takes_no_options() -> None:
    with pytest.raises(SettingsError, match="DATABASE_URL"):
        sqlite_path("sqlite:///shop.db?mode=ro")


WEBHOOK = {"webhook_url": "https://shop.mn/events?token=canary", "webhook_secret": "whsec_" + "QUJD" * 10}


def test_where_events_go() -> None:
    assert IsolatedSettings().webhook() is None
    assert IsolatedSettings(webhook_secret=WEBHOOK["webhook_secret"]).webhook() is None
    given = IsolatedSettings(**WEBHOOK).webhook()
    assert given is not None
    assert (given.url, given.keys, given.allow_private) == (WEBHOOK["webhook_url"], (b"ABC" * 10,), False)
    assert "canary" not in repr(given)
    assert "ABC" not in repr(given)


def test_several_secrets_sign_while_they_change() -> None:
    two = f"{WEBHOOK['webhook_secret']} , whsec_{'REVG' * 8}"
    given = IsolatedSettings(**WEBHOOK | {"webhook_secret": two}).webhook()
    assert given is not None
    assert given.keys == (b"ABC" * 10, b"DEF" * 8)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"webhook_url": "http://shop.mn/canary"}, "WEBHOOK_URL is not https.*WEBHOOK_ALLOW_PRIVATE=on"),
        ({"webhook_url": "ftp://canary"}, "WEBHOOK_URL is not a plain http or https address"),
        ({"webhook_url": "https://user:canary@shop.mn"}, "WEBHOOK_URL is not a plain http or https address"),
        ({"webhook_secret": ""}, "WEBHOOK_SECRET is not set: .*whsec_"),
        ({"webhook_secret": "canary"}, "WEBHOOK_SECRET holds an entry that is no secret"),
        ({"webhook_secret": "whsec_canary"}, "WEBHOOK_SECRET holds an entry that is no secret"),
        ({"webhook_secret": "whsec_" + "QUJD" * 7}, "WEBHOOK_SECRET holds an entry that is no secret"),
        ({"webhook_secret": "whsec_" + "QUJD" * 22}, "WEBHOOK_SECRET holds an entry that is no secret"),
        ({"webhook_secret": "whsec_төлбөр"}, "WEBHOOK_SECRET holds an entry that is no secret"),
        ({"webhook_secret": ",".join(["whsec_" + "QUJD" * 8] * 11)}, "WEBHOOK_SECRET holds more than 10"),
    ],
)
def test_a_wrong_webhook_is_one_sentence(changes: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence) as refused:
        IsolatedSettings(**WEBHOOK | changes).webhook()
    assert "canary" not in refused.value.message
    assert "\n" not in refused.value.message


def test_a_private_shop_needs_no_tls() -> None:
    given = IsolatedSettings(**WEBHOOK | {"webhook_url": "http://10.0.0.5/e", "webhook_allow_private": "on"}).webhook()
    assert given is not None
    assert given.allow_private


def test_unpaid_sessions_are_kept_as_long_as_paid_ones() -> None:
    kept = IsolatedSettings(retention_days=30, late_days=30)
    assert (kept.retention_days, kept.late_days) == (30, 30)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"RETENTION_DAYS": "91"}, "LATE_DAYS is less than RETENTION_DAYS: unpaid sessions must be kept"),
        ({"LATE_DAYS": "29"}, "LATE_DAYS is less than RETENTION_DAYS"),
        ({"RETENTION_DAYS": "0"}, "RETENTION_DAYS is wrong: input should be greater than or equal to 1"),
        ({"LATE_DAYS": "3651"}, "LATE_DAYS is wrong"),
        ({"LATE_DAYS": "ever"}, "LATE_DAYS is wrong"),
    ],
)
def test_days_that_cannot_be_kept_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], said: str
) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=said) as refused:
        Settings.from_env()
    assert "\n" not in refused.value.message
