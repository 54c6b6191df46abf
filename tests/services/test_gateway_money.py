"""Balances, ledgers, teams, grants, and the other things that admins do."""

import asyncio

import httpx
import pytest

from tests.services.conftest import FILM, FOX, Json, Site, both_stores, drafted, error_of, submitted

ENTRY_FIELDS = {"id", "account", "job_id", "tokens", "reason", "note", "created_at"}


async def balance_of(caller: httpx.AsyncClient, account: str | None = None) -> Json:
    answer = await caller.get("/v1/balance", params={"account": account} if account else None)
    assert answer.status_code == 200, answer.text
    balance: Json = answer.json()
    return balance


# Balance and ledger.


@both_stores
async def test_an_account_is_opened_with_its_signup_tokens_when_it_is_first_looked_at(
    site: Site, ada: httpx.AsyncClient
) -> None:
    for _ in range(2):
        assert await balance_of(ada) == {"account": "ada", "balance": 100, "held": 0}
    [signup] = (await ada.get("/v1/ledger")).json()["data"]
    assert signup == {
        "id": "ada:signup",
        "account": "ada",
        "job_id": None,
        "tokens": 100,
        "reason": "signup",
        "note": None,
        "created_at": "2026-11-22T12:00:00Z",
    }


async def test_an_account_first_looked_at_by_50_at_once_is_opened_once(ada: httpx.AsyncClient) -> None:
    balances = await asyncio.gather(*(balance_of(ada) for _ in range(50)))
    assert [balance["balance"] for balance in balances] == [100] * 50
    assert len((await ada.get("/v1/ledger")).json()["data"]) == 1


@both_stores
async def test_tokens_of_unfinished_jobs_are_held_and_can_not_be_spent(
    site: Site, ada: httpx.AsyncClient
) -> None:
    video, image = await submitted(ada, FILM), await submitted(ada)
    assert await balance_of(ada) == {"account": "ada", "balance": 89, "held": 11}
    await site.finish(image)
    assert await balance_of(ada) == {"account": "ada", "balance": 89, "held": 10}
    await ada.post(f"/v1/jobs/{video['id']}/cancel")
    assert await balance_of(ada) == {"account": "ada", "balance": 99, "held": 0}


@both_stores
async def test_the_ledger_tells_every_movement_newest_first_and_adds_up_to_the_balance(
    site: Site, ada: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    job = await submitted(ada, FILM)
    site.world.clock.advance(seconds=1)
    await ada.post(f"/v1/jobs/{job['id']}/cancel")
    site.world.clock.advance(seconds=1)
    await admin.post("/v1/admin/grants", json={"account": "ada", "tokens": -7, "note": "a mistake"})

    entries = (await ada.get("/v1/ledger")).json()["data"]
    assert all(entry.keys() == ENTRY_FIELDS for entry in entries)
    told = [(entry["reason"], entry["tokens"], entry["job_id"]) for entry in entries]
    assert told[:2] == [("grant", -7, None), ("refund", 10, job["id"])]
    assert sorted(told[2:]) == [("debit", -10, job["id"]), ("signup", 100, None)]
    assert entries[0]["note"] == "a mistake"
    assert sum(entry["tokens"] for entry in entries) == (await balance_of(ada))["balance"] == 93


@both_stores
async def test_the_ledger_comes_in_pages_that_miss_nothing(site: Site, ada: httpx.AsyncClient) -> None:
    for _ in range(4):  # with the signup, several entries of one instant
        await submitted(ada)
    seen: list[str] = []
    params: dict[str, str | int] = {"limit": 2}
    for _ in range(3):
        page = (await ada.get("/v1/ledger", params=params)).json()
        seen += [entry["id"] for entry in page["data"]]
        params["after"] = page["next"] or ""
    assert (len(seen), len(set(seen)), page["has_more"]) == (5, 5, False)


# Teams.


async def make_team(admin: httpx.AsyncClient, *members: str, tokens: int = 50) -> str:
    answer = await admin.post("/v1/admin/accounts", json={"id": "rocket", "members": members})
    assert answer.status_code == 201, answer.text
    await admin.post("/v1/admin/grants", json={"account": "rocket", "tokens": tokens})
    return "rocket"


@both_stores
async def test_members_pay_from_the_teams_account_and_see_its_books(
    site: Site, ada: httpx.AsyncClient, bob: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    team = await make_team(admin, "ada", "bob")
    job = await submitted(ada, FILM | {"account": team})

    assert (job["account_id"], job["user_id"]) == (team, "ada")
    assert await balance_of(bob, team) == {"account": team, "balance": 40, "held": 10}
    assert (await balance_of(ada))["balance"] == 100
    entries = (await bob.get("/v1/ledger", params={"account": team})).json()["data"]
    assert [entry["job_id"] for entry in entries if entry["reason"] == "debit"] == [job["id"]]
    error_of(await bob.get(f"/v1/jobs/{job['id']}"), 404, "not_found")


@pytest.mark.parametrize("account", ["rocket", "ada", "nobody-has-this"])
async def test_an_account_one_does_not_belong_to_answers_the_same_whether_it_exists_or_not(
    ada: httpx.AsyncClient, bob: httpx.AsyncClient, admin: httpx.AsyncClient, account: str
) -> None:
    await make_team(admin, "ada")
    await submitted(ada)
    for answer in (
        await bob.get("/v1/balance", params={"account": account}),
        await bob.get("/v1/ledger", params={"account": account}),
        await bob.post("/v1/generate", json=FOX | {"account": account}),
        await bob.post("/v1/quote", json=FOX | {"account": account}),
    ):
        error = error_of(answer, 403, "forbidden")
        assert error["message"] == f"you are not a member of account {account}"
        assert error["param"] == "account"


async def test_who_leaves_the_team_pays_from_it_no_more(
    ada: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    team = await make_team(admin, "ada", "bob")
    answer = await admin.delete(f"/v1/admin/accounts/{team}/members/ada")
    assert (answer.status_code, answer.json()["members"]) == (200, ["bob"])
    error_of(await ada.post("/v1/generate", json=FOX | {"account": team}), 403, "forbidden")


async def test_a_retry_pays_from_the_account_that_paid_before_if_its_user_still_may(
    site: Site, ada: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    team = await make_team(admin, "ada")
    job = await drafted(site, ada, FOX | {"account": team})
    again = await ada.post(f"/v1/jobs/{job['id']}/retry")
    assert again.json()["account_id"] == team
    await admin.delete(f"/v1/admin/accounts/{team}/members/ada")
    error_of(await ada.post(f"/v1/jobs/{job['id']}/retry"), 403, "forbidden")


async def test_members_are_added_and_removed_as_often_as_one_likes(admin: httpx.AsyncClient) -> None:
    team = await make_team(admin)
    for _ in range(2):
        answer = await admin.put(f"/v1/admin/accounts/{team}/members/bob")
        assert (answer.status_code, answer.json()["members"]) == (200, ["bob"])
    for _ in range(2):
        answer = await admin.delete(f"/v1/admin/accounts/{team}/members/bob")
        assert (answer.status_code, answer.json()["members"]) == (200, [])


async def test_members_of_no_account_are_not_found_and_an_owner_stays(
    ada: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    error_of(await admin.put("/v1/admin/accounts/nothing/members/bob"), 404, "not_found")
    await submitted(ada)
    error_of(await admin.delete("/v1/admin/accounts/ada/members/ada"), 422, "invalid_request")


@pytest.mark.parametrize("path", ["a%00b/members/bob", "rocket/members/..", "rocket/members/" + "x" * 129])
async def test_members_and_accounts_have_names_that_can_be_stored(
    admin: httpx.AsyncClient, path: str
) -> None:
    answer = await admin.put(f"/v1/admin/accounts/{path}")
    assert answer.status_code in (404, 422)
    error_of(answer, answer.status_code, answer.json()["error"]["code"])


@both_stores
async def test_making_the_same_account_again_finds_it_and_another_one_is_a_conflict(
    admin: httpx.AsyncClient,
) -> None:
    body = {"id": "rocket", "name": "Team Rocket", "members": ["ada", "bob"]}
    first, again = [await admin.post("/v1/admin/accounts", json=body) for _ in range(2)]
    assert first.json() == again.json()
    assert first.json() == {
        "id": "rocket",
        "name": "Team Rocket",
        "balance": 0,
        "members": ["ada", "bob"],
        "created_at": "2026-11-22T12:00:00Z",
    }
    error_of(await admin.post("/v1/admin/accounts", json=body | {"members": []}), 409, "wrong_state")


async def test_an_account_without_a_given_id_is_made_once_per_key(admin: httpx.AsyncClient) -> None:
    keyed = [
        (await admin.post("/v1/admin/accounts", json={}, headers={"Idempotency-Key": "team-1"})).json()["id"]
        for _ in range(2)
    ]
    unkeyed = (await admin.post("/v1/admin/accounts", json={})).json()["id"]
    assert keyed[0] == keyed[1] != unkeyed
    other = await admin.post(
        "/v1/admin/accounts", json={"name": "Hounds"}, headers={"Idempotency-Key": "team-1"}
    )
    error_of(other, 409, "idempotency_conflict")


# Grants.


@both_stores
async def test_a_grant_answers_201_with_its_entry(site: Site, admin: httpx.AsyncClient) -> None:
    answer = await admin.post("/v1/admin/grants", json={"account": "ada", "tokens": 25, "note": "a gift"})
    assert answer.status_code == 201
    entry = answer.json()
    assert entry.keys() == ENTRY_FIELDS
    assert (entry["account"], entry["tokens"], entry["reason"], entry["note"]) == (
        "ada",
        25,
        "grant",
        "a gift",
    )
    assert await site.balance() == 125


async def test_tokens_can_be_taken_away_down_to_zero_and_no_further(
    site: Site, admin: httpx.AsyncClient
) -> None:
    assert (await admin.post("/v1/admin/grants", json={"account": "ada", "tokens": -100})).status_code == 201
    error = error_of(
        await admin.post("/v1/admin/grants", json={"account": "ada", "tokens": -1}),
        402,
        "insufficient_tokens",
    )
    assert (error["needed"], error["available"]) == (1, 0)
    assert await site.balance() == 0


@both_stores
async def test_a_grant_with_a_key_is_given_once(site: Site, admin: httpx.AsyncClient) -> None:
    body, key = {"account": "ada", "tokens": 25}, {"Idempotency-Key": "gift-1"}
    first = await admin.post("/v1/admin/grants", json=body, headers=key)
    site.world.clock.advance(seconds=1)
    again = await admin.post("/v1/admin/grants", json=body, headers=key)

    assert again.status_code == 201
    assert again.json() == first.json()
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert await site.balance() == 125
    other = await admin.post("/v1/admin/grants", json=body | {"tokens": 26}, headers=key)
    error_of(other, 409, "idempotency_conflict")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "account"),
        ({"account": "ada"}, "tokens"),
        ({"account": "ada", "tokens": 1.5}, "tokens"),
        ({"account": "ada", "tokens": True}, "tokens"),
        ({"account": "ada", "tokens": "5"}, "tokens"),
        ({"account": "ada", "tokens": 10**12 + 1}, "tokens"),
        ({"account": "ada", "tokens": 10**400}, "tokens"),
        ({"account": "a/b", "tokens": 5}, "account"),
        ({"account": "", "tokens": 5}, "account"),
        ({"account": "ada", "tokens": 5, "note": ""}, "note"),
        ({"account": "ada", "tokens": 5, "note": "x" * 101}, "note"),
        ({"account": "ada", "tokens": 5, "note": "\0"}, "note"),
        ({"account": "ada", "tokens": 5, "free": True}, "free"),
    ],
)
async def test_a_grant_that_makes_no_sense_is_refused(
    admin: httpx.AsyncClient, body: Json, param: str
) -> None:
    error = error_of(await admin.post("/v1/admin/grants", json=body), 422, "invalid_request")
    assert error["param"] == param


# Everybody's jobs, figures, the audit.


async def test_admins_list_everybodys_jobs_by_user_account_kind_and_status(
    site: Site, ada: httpx.AsyncClient, bob: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    hers, his = await submitted(ada), await submitted(bob, FILM)
    deleted = await drafted(site, bob)
    await bob.delete(f"/v1/jobs/{deleted['id']}")

    async def listed(**params: str) -> set[str]:
        answer = await admin.get("/v1/admin/jobs", params=params)
        assert answer.status_code == 200, answer.text
        return {job["id"] for job in answer.json()["data"]}

    erasure = f"{deleted['id']}:erasure"
    assert await listed() == {hers["id"], his["id"], deleted["id"], erasure}
    assert await listed(user="bob") == {his["id"]}
    assert await listed(account="ada") == {hers["id"]}
    assert await listed(kind="video,erasure") == {his["id"], erasure}
    assert await listed(kind="image", status="queued") == {hers["id"]}


async def test_figures_count_jobs_and_tokens_by_kind_and_status(
    site: Site, ada: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    await drafted(site, ada, FOX | {"count": 3})
    await submitted(ada, FILM)
    site.world.clock.advance(seconds=25)
    assert (await admin.get("/v1/admin/stats")).json() == {
        "kinds": {
            "image": {"draft": {"jobs": 1, "tokens": 3}},
            "video": {"queued": {"jobs": 1, "tokens": 10}},
        },
        "success_rate": 1.0,
        "sweep_lag_seconds": 15.0,
    }


@both_stores
async def test_the_audit_finds_nothing_in_honest_books(
    site: Site, ada: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    await drafted(site, ada)
    await submitted(ada, FILM)
    report = (await admin.get("/v1/admin/audit")).json()
    assert report == {
        "balanced": True,
        "accounts": 1,
        "jobs": 2,
        "statuses": {"draft": 1, "queued": 1},
        "findings": [],
    }


ADMIN_ROUTES = [
    ("POST", "/v1/admin/grants"),
    ("POST", "/v1/admin/accounts"),
    ("PUT", "/v1/admin/accounts/rocket/members/ada"),
    ("DELETE", "/v1/admin/accounts/rocket/members/ada"),
    ("GET", "/v1/admin/jobs"),
    ("GET", "/v1/admin/stats"),
    ("GET", "/v1/admin/audit"),
]


@pytest.mark.parametrize(("method", "route"), ADMIN_ROUTES)
async def test_users_are_no_admins(
    ada: httpx.AsyncClient, nobody: httpx.AsyncClient, method: str, route: str
) -> None:
    body = {"account": "ada", "tokens": 1_000_000} if method == "POST" else None
    error_of(await ada.request(method, route, json=body), 403, "forbidden")
    error_of(await nobody.request(method, route, json=body), 401, "unauthenticated")
    assert (await balance_of(ada))["balance"] == 100
