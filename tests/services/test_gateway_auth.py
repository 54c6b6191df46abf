"""Who is calling: dev tokens, API keys, and everybody who cannot say."""

from dataclasses import replace

import httpx
import pytest

from shared.adapters.auth.tokens import ApiKeys, NoTokens
from shared.domain.ids import UserId
from shared.usecases.keys import create_key, revoke_key
from tests.services.conftest import FOX, Site, both_stores, error_of, odd

USER_ROUTES = [
    ("POST", "/v1/generate"),
    ("POST", "/v1/quote"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs/job_00000000000000000000000001"),
    ("DELETE", "/v1/jobs/job_00000000000000000000000001"),
    ("POST", "/v1/jobs/job_00000000000000000000000001/cancel"),
    ("POST", "/v1/jobs/job_00000000000000000000000001/publish"),
    ("POST", "/v1/jobs/job_00000000000000000000000001/unpublish"),
    ("POST", "/v1/jobs/job_00000000000000000000000001/retry"),
    ("GET", "/v1/balance"),
    ("GET", "/v1/ledger"),
]


@pytest.mark.parametrize(("method", "route"), USER_ROUTES)
async def test_a_caller_without_a_token_is_told_to_bring_one(
    nobody: httpx.AsyncClient, method: str, route: str
) -> None:
    answer = await nobody.request(method, route, json=FOX if method == "POST" else None)
    error_of(answer, 401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"dev-ada",
        b"Basic ZGV2LWFkYTo=",
        b"Bearer ada",
        b"Bearer dev-",
        b"Bearer dev-ada bob",
        b"Bearer dev-../ada",
        b"Bearer dev-ad\xe9",
        b"Bearer DEV-ada",
        b"Bearer mf_",
        b"Bearer mf_\xff\xfe",
        b"Bearer mf_" + b"0" * 64,
        b"Bearer " + b"x" * 100_000,
        b"Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.",
        b"\x00",
    ],
)
async def test_odd_credentials_open_nothing(nobody: httpx.AsyncClient, header: bytes) -> None:
    answer = await nobody.get("/v1/jobs", headers=odd("Authorization", header))
    error = error_of(answer, 401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert len(error["message"]) < 200


async def test_the_scheme_may_be_written_small(nobody: httpx.AsyncClient) -> None:
    answer = await nobody.get("/v1/balance", headers={"Authorization": "bearer dev-ada"})
    assert answer.json()["account"] == "ada"


async def test_who_is_not_known_learns_nothing_about_the_body(nobody: httpx.AsyncClient) -> None:
    error_of(await nobody.post("/v1/generate", json={"kind": "nonsense"}), 401, "unauthenticated")


@both_stores
async def test_an_api_key_is_its_user_until_it_is_revoked(site: Site, nobody: httpx.AsyncClient) -> None:
    app = site.gateway.app
    key, secret = await create_key(app, user=UserId("carol"), name="phone", scopes=frozenset({"user"}))
    hers = {"Authorization": f"Bearer {secret}"}

    assert (await nobody.get("/v1/balance", headers=hers)).json()["account"] == "carol"
    error_of(await nobody.get("/v1/admin/stats", headers=hers), 403, "forbidden")
    await revoke_key(app, key.digest)
    error_of(await nobody.get("/v1/balance", headers=hers), 401, "unauthenticated")


async def test_an_api_key_with_the_scope_admin_opens_the_admins_routes(
    site: Site, nobody: httpx.AsyncClient
) -> None:
    scopes = frozenset({"user", "admin"})
    _, secret = await create_key(site.gateway.app, user=UserId("carol"), name="ops", scopes=scopes)
    answer = await nobody.get("/v1/admin/stats", headers={"Authorization": f"Bearer {secret}"})
    assert answer.status_code == 200


async def test_the_digest_of_a_key_is_not_the_key(site: Site, nobody: httpx.AsyncClient) -> None:
    key, _ = await create_key(site.gateway.app, user=UserId("carol"), name="x", scopes=frozenset({"user"}))
    for token in (key.digest, f"mf_{key.digest}"):
        answer = await nobody.get("/v1/jobs", headers={"Authorization": f"Bearer {token}"})
        error_of(answer, 401, "unauthenticated")


async def test_where_only_keys_count_dev_tokens_open_nothing(site: Site) -> None:
    gateway = replace(site.gateway, authenticator=ApiKeys(site.world.store, NoTokens()))
    ada = await site.caller("ada", gateway=gateway)
    error_of(await ada.get("/v1/balance"), 401, "unauthenticated")


async def test_everybody_may_see_what_is_public(nobody: httpx.AsyncClient) -> None:
    for path in ("/v1/feed", "/v1/catalogue", "/health", "/ready", "/openapi.json", "/"):
        assert (await nobody.get(path)).status_code == 200
