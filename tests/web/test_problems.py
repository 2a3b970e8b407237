"""Every error of the tree as a problem."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.web.api_world import assert_problem

from tulbur import errors
from tulbur.errors import Invalid, ProviderRefused, ProviderUnavailable, SessionExists, SettingsError, TulburError
from tulbur.web.problems import error_problem, sentence

CODES = {
    "bad_request": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "already_paid": 409,
    "idempotency_running": 409,
    "conflict": 409,
    "too_large": 413,
    "invalid": 422,
    "amount_mismatch": 422,
    "idempotency_mismatch": 422,
    "rate_limited": 429,
    "provider_unavailable": 502,
    "provider_refused": 502,
    "store_unavailable": 503,
}


def tree(kind: type[TulburError] = TulburError) -> Iterator[type[TulburError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


KINDS = [kind for kind in tree() if kind.__module__ == errors.__name__ and kind.http_status < 500]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_error_has_its_promised_status(kind: type[TulburError]) -> None:
    error = kind("s1") if kind is SessionExists else kind()
    assert CODES[error.code] == error.http_status
    assert_problem(error_problem(error), error.http_status, error.code)


def test_every_promised_code_has_an_error() -> None:
    assert {kind.code for kind in tree()} - {"error", "settings"} == set(CODES)


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (errors.StoreUnavailable(), 5),
        (errors.CommitUnknown(), 5),
        (errors.SourceUnavailable("the old shop's data did not answer within 1 s"), 5),
        (errors.RateLimited(), 10),
        (errors.Conflict(), None),
    ],
)
def test_who_may_come_again_is_told_when(error: TulburError, seconds: int | None) -> None:
    assert error_problem(error).headers.get("retry-after") == (None if seconds is None else str(seconds))


@pytest.mark.parametrize("error", [SettingsError("QPAY_PASSWORD=hunter2"), TulburError("hunter2")])
def test_what_is_not_the_callers_business_is_not_told(error: TulburError) -> None:
    response = error_problem(error)
    assert response.status_code == 500
    assert b"hunter2" not in bytes(response.body)


def test_only_what_is_known_is_told() -> None:
    unavailable = json.loads(bytes(error_problem(ProviderUnavailable()).body))
    assert set(unavailable) == {"type", "title", "status", "code", "detail"}
    refused = json.loads(bytes(error_problem(ProviderRefused("X", session_id="s1", fields={"a": "b"})).body))
    assert (refused["key"], refused["fields"], refused["session_id"]) == ("X", {"a": "b"}, "s1")
    wrong = json.loads(bytes(error_problem(Invalid(fields=[("a", "is wrong")])).body))
    assert wrong["errors"] == [{"field": "a", "message": "is wrong"}]


def test_a_message_becomes_a_sentence() -> None:
    assert sentence("there is none") == "There is none."
    assert sentence("Why?") == "Why?"
