import string
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulbur.links import Links

URL = "https://pay.example.mn"
ANY_TEXT = st.text(st.characters(), max_size=40)
ALPHANUMERIC = st.text(string.ascii_letters + string.digits, min_size=1, max_size=32)

HOSTILE = ["", " ", "\x00", "a", "=" * 27, "é" * 27, "төлбөр", "\ud800", "?" * 27, "../..", "%00", "a" * 10_000, "🔑"]


def token_of(url: str) -> str:
    return urlsplit(url).path.rsplit("/", 1)[1]


def links(*keys: str, url: str = URL) -> Links:
    return Links(url, keys or ("key-one",))


def test_the_tokens_in_our_addresses_verify() -> None:
    ours = links()
    callback, checkout = ours.callback_url("S1"), ours.checkout_url("S1")
    assert callback.startswith(f"{URL}/callbacks/qpay/S1/")
    assert checkout.startswith(f"{URL}/pay/S1/")
    assert ours.is_callback_token("S1", token_of(callback))
    assert ours.is_pay_token("S1", token_of(checkout))


def test_a_token_opens_nothing_else() -> None:
    ours = links()
    callback, pay = token_of(ours.callback_url("S1")), token_of(ours.checkout_url("S1"))
    assert not ours.is_pay_token("S1", callback)
    assert not ours.is_callback_token("S1", pay)
    for other in ["s1", "S1 ", "S11", "S", "", "S2", "S1\x00", "S1\ud800"]:
        assert not ours.is_callback_token(other, callback)
        assert not ours.is_pay_token(other, pay)


@pytest.mark.parametrize(
    "change",
    [str.lower, str.upper, str.swapcase, lambda t: t[:-1], lambda t: t + "=", lambda t: t + "\n", lambda t: " " + t],
)
def test_a_token_is_exact(change: object) -> None:
    ours = links()
    assert not ours.is_callback_token("S1", change(token_of(ours.callback_url("S1"))))


def test_keys_are_rotated_without_losing_addresses() -> None:
    old = token_of(links("old").callback_url("S1"))
    new = links("new", "old")
    assert new.is_callback_token("S1", old)
    assert token_of(new.callback_url("S1")) == token_of(links("new").callback_url("S1")), "the first key signs"
    assert not links("new").is_callback_token("S1", old)
    number = links("old").sender_invoice_no("abc")
    assert new.is_ours(number)
    assert not links("new").is_ours(number)


def test_there_is_no_token_without_a_key() -> None:
    with pytest.raises(ValueError, match="at least one secret key"):
        Links(URL, [])


@pytest.mark.parametrize("token", HOSTILE)
@pytest.mark.parametrize("session_id", ["S1", *HOSTILE])
def test_a_hostile_token_is_wrong_and_nothing_worse(session_id: str, token: str) -> None:
    ours = links()
    assert not ours.is_callback_token(session_id, token)
    assert not ours.is_pay_token(session_id, token)
    assert not ours.is_ours(token)
    assert not ours.is_ours("TB" + session_id + token)


@given(ANY_TEXT, ANY_TEXT)
def test_no_text_is_a_token_but_the_one(session_id: str, token: str) -> None:
    ours = links()
    assert not ours.is_callback_token(session_id, token)
    assert not ours.is_pay_token(session_id, token)
    assert not ours.is_ours(token)


@given(ANY_TEXT, ANY_TEXT)
def test_two_sessions_never_share_a_token(one: str, other: str) -> None:
    ours = links()
    assert ours.is_callback_token(other, ours._token("callback", one)) == (one == other)


def test_a_session_that_is_no_text_shares_no_token_with_one_that_is() -> None:
    ours = links()
    assert not ours.is_callback_token("S\ud800", token_of(ours.callback_url("S?")))


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_an_address_is_plain_ascii_and_leads_back_to_its_session(session_id: str) -> None:
    ours = links()
    for url in (ours.callback_url(session_id), ours.checkout_url(session_id)):
        assert url.isascii()
        parts = urlsplit(url)
        assert (parts.query, parts.fragment) == ("", "")
        *_, named, token = parts.path.split("/")
        assert unquote(named) == session_id
        assert set(token) <= set(string.ascii_letters + string.digits + "-_")


def test_a_callback_address_fits_into_qpays_field() -> None:
    public = "https://" + "a" * 49 + ".mn"
    assert len(public) == 60
    url = links(url=public).callback_url("f" * 32) + "?qpay_payment_id=" + "b" * 36
    assert len(url) < 255


def test_a_slash_after_the_public_url_makes_no_difference() -> None:
    assert links(url=URL + "/").callback_url("S1") == links().callback_url("S1")


def test_a_secret_is_not_in_an_address() -> None:
    secret = "correct-horse-battery"
    ours = links(secret)
    assert secret not in ours.callback_url("S1") + ours.checkout_url("S1") + ours.sender_invoice_no("S1")


@given(ALPHANUMERIC)
def test_an_invoice_number_shows_that_it_is_ours(unique: str) -> None:
    number = links().sender_invoice_no(unique)
    assert len(number) <= 45
    assert number.isascii()
    assert number.isalnum()
    assert links().is_ours(number)
    assert not links("other").is_ours(number)


@given(ALPHANUMERIC, st.integers(0, 41), st.sampled_from(string.ascii_letters + string.digits))
def test_a_number_changed_anywhere_is_foreign(unique: str, at: int, put: str) -> None:
    number = links().sender_invoice_no(unique)
    changed = number[:at] + put + number[at + 1 :]
    assert links().is_ours(changed) == (changed == number)


def test_numbers_that_only_look_like_ours_are_foreign() -> None:
    ours = links()
    number = ours.sender_invoice_no("abc")
    lookalikes = ["TB", "TB" + "0" * 8, "TB" + number, number.lower(), number + "0", number[2:], number[:-1], "ORDER1"]
    assert not any(ours.is_ours(other) for other in lookalikes)


def test_addresses_stay_the_same_from_release_to_release() -> None:
    ours = links()
    kept = [token_of(ours.callback_url("S1")), token_of(ours.checkout_url("S1")), ours.sender_invoice_no("abc")]
    assert kept == ["JdTHAGbwe0BZWI17WbIcuVvWYOV", "jFCaoqGwvtiMFyqd4yvtJzDF26s", "TBabc2664A961"]
