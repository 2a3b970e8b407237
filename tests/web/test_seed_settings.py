"""The settings of the old shop's routes: wrong values are one sentence, and doctor names every hole."""

from __future__ import annotations

from typing import Any

import pytest

from tulbur.commands.doctor import Finding, examine
from tulbur.errors import SettingsError
from tulbur.settings import IsolatedSettings, OldShop, Settings

ON = {"seed_api": "on"}
SECRET = "a-secret-of-more-than-thirty-two-characters"


def settings(**values: Any) -> Settings:
    return IsolatedSettings.model_validate(values)


def test_they_are_off_unless_turned_on() -> None:
    assert settings().old_shop() is None
    assert settings(seed_api="off", tulbur_jwt_secret=SECRET).old_shop() is None
    assert settings(**ON).old_shop() == OldShop()


def test_what_is_set_is_read() -> None:
    found = settings(
        **ON,
        seed_api_trusted_networks="10.0.0.0/8, 192.168.1.5,fd00::/8,",
        price_url="http://shop.internal/prices?key=1",
        seed_api_unverified_prices="on",
        tulbur_jwt_secret=SECRET,
    ).old_shop()
    assert found is not None
    assert [str(network) for network in found.networks] == ["10.0.0.0/8", "192.168.1.5/32", "fd00::/8"]
    assert (found.price_url, found.unverified_prices) == ("http://shop.internal/prices?key=1", True)
    assert (found.jwt_secret, found.jwks_url) == (SECRET, None)
    assert SECRET not in repr(found)


@pytest.mark.parametrize("on", [ON, {}])
@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"seed_api_trusted_networks": "10.0.0.0/33"}, "SEED_API_TRUSTED_NETWORKS"),
        ({"seed_api_trusted_networks": "10.0.0.5/8"}, "SEED_API_TRUSTED_NETWORKS"),
        ({"seed_api_trusted_networks": "gateway"}, "SEED_API_TRUSTED_NETWORKS"),
        ({"price_url": "shop.internal/prices"}, "PRICE_URL"),
        ({"price_url": "ftp://shop.internal/prices"}, "PRICE_URL"),
        ({"price_url": "http://[::1/prices"}, "PRICE_URL"),
        ({"price_url": "http://shop:99999/prices"}, "PRICE_URL"),
        ({"tulbur_jwks_url": "/jwks.json"}, "TULBUR_JWKS_URL"),
        ({"tulbur_jwks_url": "https://a.mn/jwks", "tulbur_jwt_secret": SECRET}, "TULBUR_JWT_SECRET"),
        ({"tulbur_jwt_secret": "-----BEGIN PUBLIC KEY-----\nMII\n-----END PUBLIC KEY-----"}, "TULBUR_JWT_SECRET"),
    ],
)
def test_a_wrong_value_is_one_sentence(on: dict[str, str], values: dict[str, str], name: str) -> None:
    with pytest.raises(SettingsError) as wrong:
        settings(**on, **values).old_shop()
    assert wrong.value.message.startswith(name)
    assert wrong.value.message.endswith(".")
    assert "\n" not in wrong.value.message
    assert SECRET not in wrong.value.message


@pytest.mark.parametrize("name", ["SEED_API", "SEED_API_UNVERIFIED_PRICES"])
def test_a_switch_is_off_or_on(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "yes")
    with pytest.raises(SettingsError, match=f"{name} is wrong"):
        Settings.from_env(_env_file=None)


def findings(**values: Any) -> list[Finding]:
    import asyncio  # noqa: PLC0415 - examine is a generator of a loop's own

    async def examined() -> list[Finding]:
        given = settings(**values, database_url="sqlite:////nowhere/at/all.db")
        return [finding async for finding in examine(given) if finding.check == "seed api"]

    return asyncio.run(examined())


def test_doctor_says_nothing_of_what_is_off() -> None:
    assert findings() == []


def test_doctor_is_content_where_nothing_is_open() -> None:
    [found] = findings(**ON, tulbur_jwt_secret=SECRET, price_url="http://shop.internal/prices")
    assert found == Finding("seed api", ok=True, detail="on")
    [found] = findings(**ON, tulbur_jwt_secret=SECRET)
    assert found.ok
    assert "refused" in found.detail


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"seed_api_unverified_prices": "on"}, "hole"),
        ({"tulbur_jwt_secret": ""}, "401"),
        ({"tulbur_jwt_secret": "short"}, "shorter"),
        ({"seed_api_trusted_networks": "0.0.0.0/0"}, "every address"),
        ({"seed_api_trusted_networks": "gateway"}, "SEED_API_TRUSTED_NETWORKS"),
    ],
)
def test_doctor_names_every_hole(values: dict[str, str], word: str) -> None:
    [found] = findings(**ON | {"tulbur_jwt_secret": SECRET} | values)
    assert not found.ok
    assert word in found.detail
    assert found.remedy
