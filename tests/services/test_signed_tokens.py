"""Firebase's users at the gateway and Google's pushes at the worker, over HTTP."""

from dataclasses import replace

import httpx
import pytest

from services.worker.main import create_app
from shared.adapters.auth.firebase import FirebaseTokens
from shared.adapters.auth.oidc import PushTokens
from shared.adapters.auth.tokens import ApiKeys
from shared.settings import Settings
from shared.wiring import Worker
from tests.services.conftest import Site, error_of
from tests.tokens import (
    AUDIENCE,
    DOWN,
    FIREBASE_CLAIMS,
    JWKS_URL,
    PROJECT,
    PUSH_CLAIMS,
    SERVICE_ACCOUNT,
    Issuer,
    signed,
    unsigned,
)


@pytest.fixture
def issuer() -> Issuer:
    return Issuer("one")


@pytest.fixture
async def gateway(site: Site, issuer: Issuer) -> httpx.AsyncClient:
    client = await site.stack.enter_async_context(issuer.client())
    firebase = await site.stack.enter_async_context(
        FirebaseTokens.open(PROJECT, clock=site.world.clock, keys_url=JWKS_URL, client=client)
    )
    door = ApiKeys(site.world.store, others=firebase)
    return await site.caller(None, gateway=replace(site.gateway, authenticator=door))


@pytest.fixture
async def worker(site: Site, issuer: Issuer) -> httpx.AsyncClient:
    client = await site.stack.enter_async_context(issuer.client())
    verifier = await site.stack.enter_async_context(
        PushTokens.open(
            [AUDIENCE], [SERVICE_ACCOUNT], clock=site.world.clock, keys_url=JWKS_URL, client=client
        )
    )
    app = create_app(Worker(app=site.world.app, work=site.world.work, settings=Settings(), verifier=verifier))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return await site.stack.enter_async_context(
        httpx.AsyncClient(transport=transport, base_url="http://worker")
    )


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_a_user_of_the_app_has_a_balance_at_the_gateway(gateway: httpx.AsyncClient) -> None:
    answer = await gateway.get("/v1/balance", headers=bearer(signed(FIREBASE_CLAIMS)))
    assert answer.json()["account"] == FIREBASE_CLAIMS["sub"]
    admins = await gateway.get("/v1/admin/stats", headers=bearer(signed(FIREBASE_CLAIMS)))
    error_of(admins, 403, "forbidden")


async def test_an_admin_of_the_app_is_one_of_the_gateway(gateway: httpx.AsyncClient) -> None:
    token = signed({**FIREBASE_CLAIMS, "admin": True})
    assert (await gateway.get("/v1/admin/stats", headers=bearer(token))).status_code == 200


async def test_who_made_a_token_of_their_own_is_told_to_bring_a_good_one(gateway: httpx.AsyncClient) -> None:
    for token in (unsigned(FIREBASE_CLAIMS), "dev-ada", "x" * 20_000):
        answer = await gateway.get("/v1/balance", headers=bearer(token))
        error_of(answer, 401, "unauthenticated")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_without_keys_the_gateway_asks_for_patience(gateway: httpx.AsyncClient, issuer: Issuer) -> None:
    issuer.answer = DOWN
    answer = await gateway.get("/v1/balance", headers=bearer(signed(FIREBASE_CLAIMS)))
    error = error_of(answer, 503, "unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    assert "issuer.test" not in error["message"]


async def test_the_queue_and_the_scheduler_reach_the_worker(worker: httpx.AsyncClient) -> None:
    answer = await worker.post("/sweep?seconds=0", headers=bearer(signed(PUSH_CLAIMS)))
    assert answer.json() == {"jobs": 0}


async def test_nobody_else_does(worker: httpx.AsyncClient) -> None:
    for token in (signed(FIREBASE_CLAIMS), unsigned(PUSH_CLAIMS), signed(PUSH_CLAIMS, kid="mine")):
        for route in ("/sweep", "/process-generation"):
            error_of(await worker.post(route, headers=bearer(token)), 401, "unauthenticated")


async def test_without_keys_the_worker_wants_the_push_again(
    worker: httpx.AsyncClient, issuer: Issuer
) -> None:
    issuer.answer = DOWN
    answer = await worker.post("/process-generation", headers=bearer(signed(PUSH_CLAIMS)))
    error_of(answer, 503, "unavailable")
    assert "Retry-After" in answer.headers
