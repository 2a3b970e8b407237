"""Logging in, and being logged out by somebody else."""

from types import SimpleNamespace

import httpx2
import pytest

from tulbur.simulator import Simulator

pytestmark = pytest.mark.anyio


async def log_in(client: httpx2.AsyncClient, login: str = "TEST_MERCHANT") -> dict[str, str]:
    response = await client.post("/v2/auth/token", auth=(login, "123456"))
    assert response.status_code == 200
    body: dict[str, str] = response.json()
    return body


async def works(client: httpx2.AsyncClient, token: str) -> bool:
    response = await client.get("/v2/invoice/none", headers={"Authorization": f"Bearer {token}"})
    assert response.status_code in {401, 422}
    return response.status_code == 422


async def refresh(client: httpx2.AsyncClient, token: str) -> httpx2.Response:
    return await client.post("/v2/auth/refresh", headers={"Authorization": f"Bearer {token}"})


async def test_a_second_login_kills_the_first_and_its_refresh_token(anonymous: httpx2.AsyncClient) -> None:
    first = await log_in(anonymous)
    second = await log_in(anonymous)
    assert not await works(anonymous, first["access_token"])
    assert (await refresh(anonymous, first["refresh_token"])).status_code == 401
    assert await works(anonymous, second["access_token"])


async def test_other_logins_are_not_disturbed(anonymous: httpx2.AsyncClient) -> None:
    first = await log_in(anonymous, "TEST_A")
    await log_in(anonymous, "TEST_B")
    assert await works(anonymous, first["access_token"])


async def test_several_tokens_live_side_by_side_when_told(anonymous: httpx2.AsyncClient) -> None:
    await anonymous.put("/_sim/faults", json={"token": {"single": False}})
    tokens = [await log_in(anonymous) for _ in range(3)]
    assert [await works(anonymous, token["access_token"]) for token in tokens] == [True] * 3


async def test_refreshing_rotates_the_pair(anonymous: httpx2.AsyncClient) -> None:
    first = await log_in(anonymous)
    second = (await refresh(anonymous, first["refresh_token"])).json()
    assert list(second) == list(first)
    assert {second["access_token"], second["refresh_token"]}.isdisjoint(first.values())
    assert not await works(anonymous, first["access_token"])
    assert await works(anonymous, second["access_token"])
    assert (await refresh(anonymous, first["refresh_token"])).status_code == 401
    assert (await refresh(anonymous, second["access_token"])).status_code == 401
    assert not await works(anonymous, second["refresh_token"])


async def test_both_tokens_end_together(anonymous: httpx2.AsyncClient, world: SimpleNamespace) -> None:
    token = await log_in(anonymous)
    world.now += 86_399
    assert await works(anonymous, token["access_token"])
    world.now += 1
    assert not await works(anonymous, token["access_token"])
    assert (await refresh(anonymous, token["refresh_token"])).status_code == 401


async def test_a_lifetime_of_ones_own(anonymous: httpx2.AsyncClient, world: SimpleNamespace) -> None:
    await anonymous.put("/_sim/faults", json={"token": {"lifetime_seconds": 5}})
    token = await log_in(anonymous)
    assert token["expires_in"] == int(world.now) + 5
    world.now += 5
    assert not await works(anonymous, token["access_token"])


async def test_the_control_plane_revokes(anonymous: httpx2.AsyncClient) -> None:
    token = await log_in(anonymous)
    await anonymous.post("/_sim/tokens/revoke")
    assert not await works(anonymous, token["access_token"])


async def test_a_reset_keeps_tokens(anonymous: httpx2.AsyncClient) -> None:
    token = await log_in(anonymous)
    await anonymous.post("/_sim/reset")
    assert await works(anonymous, token["access_token"])


@pytest.mark.parametrize(
    "header",
    [
        None,
        "Basic",
        "Basic !!!",
        "Basic /////w==",
        "Basic VEVTVF9NRVJDSEFOVA==",
        "Bearer VEVTVF9NRVJDSEFOVDoxMjM0NTY=",
    ],
)
async def test_a_broken_basic_header(anonymous: httpx2.AsyncClient, header: str | None) -> None:
    response = await anonymous.post("/v2/auth/token", headers={"Authorization": header} if header else {})
    assert (response.status_code, response.json()["error"]) == (401, "AUTHENTICATION_FAILED")


@pytest.mark.parametrize("login", ["MERCHANT", "test_merchant", "", "TEST_" + "x" * 41, "TEST_\n"])
async def test_only_test_logins_exist(anonymous: httpx2.AsyncClient, login: str) -> None:
    response = await anonymous.post("/v2/auth/token", auth=(login, "123456"))
    assert response.status_code == 401


async def test_sessions_of_a_login_are_bounded(anonymous: httpx2.AsyncClient, simulator: Simulator) -> None:
    await anonymous.put("/_sim/faults", json={"token": {"single": False}})
    for _ in range(120):
        await log_in(anonymous)
    assert len(simulator.tokens._by_access) == len(simulator.tokens._by_refresh) == 100


async def test_a_merchant_is_the_same_after_a_restart(simulator: Simulator) -> None:
    account = simulator.tokens._account("TEST_MERCHANT")
    again = Simulator().tokens._account("TEST_MERCHANT")
    assert account.merchant.merchant_id == again.merchant.merchant_id
    assert account.merchant.merchant_id != simulator.tokens._account("TEST_OTHER").merchant.merchant_id


async def test_a_refresh_token_serves_once_even_beside_others(anonymous: httpx2.AsyncClient) -> None:
    await anonymous.put("/_sim/faults", json={"token": {"single": False}})
    token = (await log_in(anonymous))["refresh_token"]
    assert [(await refresh(anonymous, token)).status_code for _ in range(2)] == [200, 401]
