"""One live token per login: shared through the store, renewed once, and never fetched when that would only hurt."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest
from tests.qpay.conftest import MakeClient
from tests.qpay.fakes import (
    BAD_GATEWAY,
    BAD_LOGIN,
    INVOICE_ID,
    NO_CREDENTIALS,
    NOW,
    PASSWORD,
    PERMISSION_DENIED,
    USERNAME,
    Clock,
    FakeQPay,
    Reply,
    TokenStore,
)

from tulbur.core.session import SECOND
from tulbur.errors import ProviderRefused, ProviderUnavailable, StoreUnavailable
from tulbur.ports import InvoiceRequest, StoredToken
from tulbur.qpay import QPay
from tulbur.qpay.token import LEASE_SECONDS, MOST_PAUSES, PAUSE_SECONDS, Tokens, login_key

pytestmark = pytest.mark.anyio

DAY = 86_400
REQUEST = InvoiceRequest(
    sender_invoice_no="TB1", receiver_code="terminal", description="x", amount=100, callback_url="https://example.mn"
)


# --- over HTTP


async def test_fifty_callers_share_one_login(client: QPay, qpay: FakeQPay) -> None:
    await asyncio.gather(*(client.check(INVOICE_ID) for _ in range(50)))
    assert qpay.logins == 1
    assert qpay.count("payment_check") == 50
    login = qpay.seen[0]
    assert login.text == ""
    assert login.authorization.startswith("Basic ")


async def test_two_processes_share_one_login(qpay: FakeQPay, make_client: MakeClient, store: TokenStore) -> None:
    clients = [await make_client(qpay.url) for _ in range(2)]
    await asyncio.gather(*(clients[n % 2].check(INVOICE_ID) for n in range(50)))
    assert qpay.logins == 1
    assert len(store.tokens) == 1


async def test_logins_of_other_names_and_hosts_are_kept_apart(qpay: FakeQPay, store: TokenStore) -> None:
    keys = {login_key("https://a", "u"), login_key("https://b", "u"), login_key("https://a", "v")}
    assert len(keys) == 3
    assert not any("a" in key and USERNAME in key for key in keys)


async def test_nothing_of_the_login_is_written_to_the_store(client: QPay, store: TokenStore) -> None:
    await client.login()
    for text in (*store.tokens, *store.leases):
        assert PASSWORD not in text
        assert USERNAME not in text
    assert all(name.startswith("qpay-login:") for name in store.leases)


async def test_a_stolen_token_is_replaced_once(client: QPay, qpay: FakeQPay) -> None:
    await client.login()
    qpay.steal()
    await asyncio.gather(*(client.check(INVOICE_ID) for _ in range(50)))
    assert qpay.logins == 2
    assert qpay.count("payment_check") == 100


async def test_the_token_another_process_fetched_is_used(qpay: FakeQPay, make_client: MakeClient) -> None:
    one, two = [await make_client(qpay.url) for _ in range(2)]
    await one.check(INVOICE_ID)
    await two.check(INVOICE_ID)
    qpay.steal()
    await one.check(INVOICE_ID)
    await two.check(INVOICE_ID)
    assert qpay.logins == 2


async def test_an_invoice_is_sent_again_once_after_a_refused_token(client: QPay, qpay: FakeQPay) -> None:
    await client.login()
    qpay.then("invoice_create", NO_CREDENTIALS)
    await client.create_invoice(REQUEST)
    first, second = [seen for seen in qpay.seen if seen.operation == "invoice_create"]
    assert first.text == second.text
    assert (first.authorization, second.authorization) == ("Bearer token-1", "Bearer token-2")


async def test_it_is_not_sent_a_third_time(client: QPay, qpay: FakeQPay) -> None:
    await client.login()
    misspelt = Reply(401, '{"error":"NO_CREDENDIALS","message":"Хандах эрхгүй байна. Нэвтрэнэ үү."}')
    qpay.then("invoice_create", misspelt, NO_CREDENTIALS)
    with pytest.raises(ProviderRefused) as refused:
        await client.create_invoice(REQUEST)
    assert (refused.value.key, refused.value.provider_status) == ("NO_CREDENTIALS", 401)
    assert qpay.count("invoice_create") == 2


async def test_a_missing_permission_is_no_fault_of_the_token(client: QPay, qpay: FakeQPay) -> None:
    await client.login()
    qpay.then("invoice_create", PERMISSION_DENIED)
    with pytest.raises(ProviderRefused) as refused:
        await client.create_invoice(REQUEST)
    assert refused.value.key == "PERMISSION_DENIED"
    assert (qpay.logins, qpay.count("invoice_create")) == (1, 1)


async def test_a_wrong_password_is_said_and_not_tried_again_soon(
    qpay: FakeQPay, make_client: MakeClient, clock: Clock
) -> None:
    client = await make_client(qpay.url, password="wrong-password")
    for _ in range(3):
        with pytest.raises(ProviderRefused, match="QPAY_USERNAME") as refused:
            await client.login()
        assert refused.value.key == "AUTHENTICATION_FAILED"
        assert "wrong-password" not in f"{refused.value!r}{vars(refused.value)}"
    with pytest.raises(ProviderRefused):
        await client.create_invoice(REQUEST)
    assert qpay.count("token") == 1
    clock.advance(31)
    qpay.always["token"] = BAD_LOGIN
    with pytest.raises(ProviderRefused):
        await client.login()
    assert qpay.count("token") == 2


async def test_waiting_callers_each_get_an_error_of_their_own(client: QPay, qpay: FakeQPay) -> None:
    for answer in (BAD_GATEWAY, BAD_LOGIN):
        qpay.always["token"] = answer
        told = await asyncio.gather(*(client.login() for _ in range(5)), return_exceptions=True)
        assert len({id(error) for error in told}) == 5
        assert len({str(error) for error in told}) == 1


@pytest.mark.parametrize(
    "answer", [BAD_GATEWAY, Reply(body=""), Reply(body="{}"), Reply(body='{"access_token":"a\\nb"}')]
)
async def test_a_login_that_is_not_answered_is_unknown(client: QPay, qpay: FakeQPay, answer: Reply) -> None:
    qpay.always["token"] = answer
    with pytest.raises(ProviderUnavailable):
        await client.login()


async def test_without_the_store_the_token_in_memory_serves(
    qpay: FakeQPay, make_client: MakeClient, store: TokenStore, clock: Clock
) -> None:
    client = await make_client(qpay.url)
    await client.login()
    store.down = True
    assert (await client.check(INVOICE_ID)).complete
    clock.advance(DAY - 30)
    assert (await client.check(INVOICE_ID)).complete
    qpay.steal()
    with pytest.raises(ProviderUnavailable, match="database"):
        await client.check(INVOICE_ID)
    stranger = await make_client(qpay.url)
    for _ in range(6):
        with pytest.raises(ProviderUnavailable, match="database"):
            await stranger.check(INVOICE_ID)
    with pytest.raises(ProviderUnavailable, match="database"):
        await stranger.login()
    assert qpay.logins == 1
    assert stranger.answering()


async def test_it_is_renewed_a_minute_early(client: QPay, qpay: FakeQPay, clock: Clock) -> None:
    await client.login()
    clock.advance(DAY - 61)
    await client.login()
    assert qpay.logins == 1
    clock.advance(2)
    await asyncio.gather(*(client.check(INVOICE_ID) for _ in range(10)))
    assert qpay.logins == 2


# --- alone


class Logins:
    """Stands for QPay's auth/token; waits until it is let go."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.count = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.error: Exception | None = None
        self.life_seconds = DAY

    async def __call__(self) -> StoredToken:
        self.count += 1
        number = self.count
        self.entered.set()
        await self.gate.wait()
        if self.error:
            raise self.error
        return StoredToken(f"t{number}", "r", self.clock() + self.life_seconds * SECOND)


@pytest.fixture
def logins(clock: Clock) -> Logins:
    return Logins(clock)


MakeTokens = Callable[[str], Tokens]


@pytest.fixture
def make(store: TokenStore, clock: Clock, logins: Logins) -> MakeTokens:
    def made(owner: str) -> Tokens:
        return Tokens("login", store=store, log_in=logins, clock=clock, sleep=clock.sleep, owner=owner)

    return made


async def later(work: Awaitable[str], logins: Logins) -> "asyncio.Task[str]":
    task = asyncio.ensure_future(work)
    await asyncio.wait_for(logins.entered.wait(), 1)
    return task


async def test_a_caller_that_gives_up_does_not_end_the_login(make: MakeTokens, logins: Logins) -> None:
    tokens = make("a")
    logins.gate.clear()
    first = await later(tokens.current(), logins)
    second = asyncio.create_task(tokens.current())
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    logins.gate.set()
    assert await second == "t1"
    assert logins.count == 1


async def test_a_login_nobody_waits_for_any_more_may_fail(make: MakeTokens, logins: Logins, store: TokenStore) -> None:
    tokens = make("a")
    logins.gate.clear()
    logins.error = ProviderUnavailable("gone")
    only = await later(tokens.current(), logins)
    only.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await only
    logins.gate.set()
    await asyncio.sleep(0.01)
    logins.error = None
    assert await tokens.current() == "t2"


async def test_stopping_ends_a_login_and_gives_its_lease_up(
    make: MakeTokens, logins: Logins, store: TokenStore, clock: Clock
) -> None:
    tokens = make("a")
    logins.gate.clear()
    waiting = await later(tokens.current(), logins)
    await tokens.stop()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert store.leases["qpay-login:login"][1] <= clock()
    await tokens.stop()


async def test_the_loser_waits_for_the_winner(make: MakeTokens, logins: Logins) -> None:
    logins.gate.clear()
    winner = await later(make("a").current(), logins)
    loser = asyncio.create_task(make("b").current())
    await asyncio.sleep(0.005)
    logins.gate.set()
    assert await winner == await loser == "t1"
    assert logins.count == 1


async def test_a_token_in_the_store_needs_no_lease(make: MakeTokens, logins: Logins, store: TokenStore) -> None:
    await make("a").current()
    store.calls.clear()
    assert await make("b").current() == "t1"
    assert store.calls == ["token_get"]


async def test_a_winner_may_finish_just_before_the_lease_is_asked_for(
    make: MakeTokens, logins: Logins, store: TokenStore, clock: Clock
) -> None:
    first_look = store.token_get

    async def finished_meanwhile(login: str) -> StoredToken | None:
        found = await first_look(login)
        store.tokens.setdefault(login, StoredToken("theirs", "r", clock() + DAY * SECOND))
        return found

    store.token_get = finished_meanwhile
    assert await make("b").current() == "theirs"
    assert logins.count == 0


async def test_waiting_for_a_winner_ends(make: MakeTokens, logins: Logins, store: TokenStore, clock: Clock) -> None:
    store.leases["qpay-login:login"] = ("dead-but-renewed", clock() + 3_600 * SECOND)
    with pytest.raises(ProviderUnavailable, match="another process"):
        await make("b").current()
    assert clock() - NOW == int(MOST_PAUSES * PAUSE_SECONDS * SECOND)
    assert logins.count == 0


async def test_a_winner_that_died_is_replaced_when_its_lease_ends(
    make: MakeTokens, logins: Logins, store: TokenStore, clock: Clock
) -> None:
    store.leases["qpay-login:login"] = ("dead", clock() + 5 * SECOND)
    assert await make("b").current() == "t1"
    assert clock() - NOW < LEASE_SECONDS * SECOND


async def test_a_process_stopped_while_logging_in_does_not_bury_the_later_token(
    make: MakeTokens, logins: Logins, store: TokenStore, clock: Clock
) -> None:
    logins.gate.clear()
    logins.life_seconds = DAY - 60
    stopped = await later(make("a").current(), logins)
    clock.advance(LEASE_SECONDS + 1)
    later_one = StoredToken("later", "r", clock() + DAY * SECOND)
    store.tokens["login"] = later_one
    logins.gate.set()
    assert await stopped == "later"
    assert store.tokens["login"] == later_one


async def test_a_token_that_still_lives_is_used_when_the_renewal_fails(
    make: MakeTokens, logins: Logins, clock: Clock
) -> None:
    tokens = make("a")
    assert await tokens.current() == "t1"
    clock.advance(DAY - 30)
    logins.error = ProviderUnavailable("down")
    for _ in range(5):
        assert await tokens.current() == "t1"
    assert logins.count == 2
    clock.advance(11)
    assert await tokens.current() == "t1"
    assert logins.count == 3
    clock.advance(20)
    with pytest.raises(ProviderUnavailable):
        await tokens.current()


async def test_a_store_that_fails_after_the_login_costs_nothing(
    make: MakeTokens, logins: Logins, store: TokenStore
) -> None:
    logins.gate.clear()
    tokens = make("a")
    waiting = await later(tokens.current(), logins)
    store.down = True
    logins.gate.set()
    assert await waiting == "t1"
    assert await tokens.current() == "t1"
    with pytest.raises(StoreUnavailable):
        await make("b").current()


async def test_a_rejected_token_is_not_taken_from_the_store_again(
    make: MakeTokens, logins: Logins, store: TokenStore
) -> None:
    tokens = make("a")
    first = await tokens.current()
    second = await tokens.after_rejection(first)
    assert (first, second) == ("t1", "t2")
    assert await tokens.after_rejection(first) == "t2"
    assert logins.count == 2
    store.tokens["login"] = StoredToken("t1", "r", store.tokens["login"].expires_at)
    assert await tokens.after_rejection("t2") == "t3"


async def test_qpay_may_give_the_same_token_again(make: MakeTokens, logins: Logins, clock: Clock) -> None:
    tokens = make("a")
    await tokens.current()
    logins.count = 0
    assert await tokens.after_rejection("t1") == "t1"
    assert await tokens.current() == "t1"
    assert logins.count == 1
