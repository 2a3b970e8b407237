"""REDIS_URL chooses what keeps cached sessions, and what follows from that for several processes."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from tulbur.cache import MemoryBackend
from tulbur.cache.redis import RedisBackend
from tulbur.errors import SettingsError
from tulbur.settings import IsolatedSettings
from tulbur.wiring import Tulbur, open_cache_backend

REDIS = "redis://:very-secret@127.0.0.1:9/0"


def settings(**changes: Any) -> IsolatedSettings:
    complete = {
        "public_url": "http://127.0.0.1:9",
        "qpay_base_url": "http://127.0.0.1:9",
        "qpay_username": "TEST_X",
        "qpay_password": "123456",
        "qpay_invoice_code": "X",
        "tulbur_secret_keys": "k" * 40,
    }
    return IsolatedSettings.model_validate(complete | changes)


def test_without_a_url_it_is_this_process() -> None:
    backend, kind = open_cache_backend(settings())
    assert (type(backend), kind) == (MemoryBackend, "in-process")


@pytest.mark.parametrize(("url", "kind"), [(REDIS, "redis"), ("valkey://h?cluster=1", "redis cluster")])
def test_a_url_is_a_server(url: str, kind: str) -> None:
    backend, told = open_cache_backend(settings(redis_url=url))
    assert (type(backend), told) == (RedisBackend, kind)


@pytest.mark.parametrize(
    ("redis_url", "alone", "shared"),
    [(None, True, True), (None, False, False), (REDIS, True, True), (REDIS, False, True)],
)
def test_several_processes_cache_open_sessions_only_where_they_share_them(
    redis_url: str | None, alone: bool, shared: bool
) -> None:
    tulbur = Tulbur(settings(redis_url=redis_url), alone=alone)
    parts = tulbur.asgi.state.parts  # type: ignore[attr-defined]
    assert (tulbur.cache._final_only, parts.shared_cache_or_single) == (not shared, shared)


@pytest.mark.parametrize("url", ["http://u:very-secret@h", "redis://", "redis://h:very-secret/0"])
def test_a_url_that_cannot_be_read_is_one_sentence_without_its_secrets(url: str) -> None:
    with pytest.raises(SettingsError, match="REDIS_URL is not an address") as refused:
        open_cache_backend(settings(redis_url=url))
    assert "very-secret" not in str(refused.value)


def test_without_the_extra_it_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tulbur.cache.redis")
    monkeypatch.setitem(sys.modules, "redis", None)
    for name in [name for name in sys.modules if name.startswith("redis.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SettingsError, match=r"tulbur\[redis\]"):
        open_cache_backend(settings(redis_url=REDIS))


def test_no_password_is_shown() -> None:
    backend, _ = open_cache_backend(settings(redis_url=REDIS))
    assert "very-secret" not in repr(backend)
