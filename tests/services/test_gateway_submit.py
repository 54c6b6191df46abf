"""Submitting: one debit, one job, the documented answer; quotes, repeated keys, waiting, retries."""

import asyncio
from dataclasses import replace
from typing import Final

import httpx
import pytest

from services.api_gateway.schemas import GENERATE_EXAMPLES
from shared.domain.ids import JobId
from shared.domain.job import Kind
from shared.ports.generator import ContentRejected
from tests.services.conftest import (
    FILM,
    FOX,
    Json,
    Site,
    both_stores,
    drafted,
    error_of,
    odd,
    submitted,
)
from tests.support import until

JOB_FIELDS: Final = {
    "id", "kind", "status", "progress", "prompt", "request", "model", "media", "thumbnail_url", "error",
    "billing", "account_id", "user_id", "batch_id", "attempts", "cancel_requested", "created_at",
    "started_at", "finished_at", "published_at", "expires_at", "metadata", "links",
}  # fmt: skip


@both_stores
async def test_a_submit_answers_202_with_the_whole_job_and_where_to_follow_it(
    site: Site, ada: httpx.AsyncClient
) -> None:
    answer = await ada.post("/v1/generate", json=FOX | {"metadata": {"page": [1, {"a": None}]}})

    assert answer.status_code == 202
    job = answer.json()
    here = f"http://gateway/v1/jobs/{job['id']}"
    assert answer.headers["Location"] == here
    assert "Idempotent-Replayed" not in answer.headers
    assert job == {
        "id": job["id"],
        "kind": "image",
        "status": "queued",
        "progress": 0,
        "prompt": "a fox",
        "request": {
            "prompt": "a fox",
            "count": 1,
            "aspect_ratio": "1:1",
            "size": "1024x1024",
            "width": 1024,
            "height": 1024,
            "seed": 7,
        },
        "model": "local-image",
        "media": [],
        "thumbnail_url": None,
        "error": None,
        "billing": {"cost": 1, "charged": 0, "refunded": 0, "state": "held"},
        "account_id": "ada",
        "user_id": "ada",
        "batch_id": None,
        "attempts": 0,
        "cancel_requested": False,
        "created_at": "2026-11-22T12:00:00Z",
        "started_at": None,
        "finished_at": None,
        "published_at": None,
        "expires_at": None,
        "metadata": {"page": [1, {"a": None}]},
        "links": {"self": here, "cancel": f"{here}/cancel", "events": f"{here}/events"},
    }
    assert (await ada.get(f"/v1/jobs/{job['id']}")).json() == job
    assert await site.balance() == 99
    assert [hint.job_id for hint in site.world.queue.hints] == [job["id"]]


@both_stores
async def test_a_finished_job_shows_its_media_its_bill_and_nothing_of_the_engine(
    site: Site, ada: httpx.AsyncClient
) -> None:
    job = await drafted(site, ada, FOX | {"count": 2})

    assert job.keys() == JOB_FIELDS
    assert job["progress"] == 100
    assert job["billing"] == {"cost": 2, "charged": 2, "refunded": 0, "state": "charged"}
    assert job["started_at"] == job["finished_at"] == "2026-11-22T12:00:00Z"
    assert len(job["media"]) == 2
    for media in job["media"]:
        assert media.keys() == {"url", "type", "width", "height", "seconds", "size", "sha256"}
        assert media["url"].startswith(f"http://gateway/media/{job['id']}/")
        assert media["type"] == "image/png"
    assert job["thumbnail_url"].endswith(".webp") or job["thumbnail_url"].endswith(".png")


async def test_a_failed_job_says_why_in_the_one_shape_and_is_refunded(
    site: Site, ada: httpx.AsyncClient
) -> None:
    site.world.generator.starts.append(lambda order: ContentRejected("not that", stage="prompt"))
    job = (await ada.post("/v1/generate", json=FOX, headers={"X-Request-Id": "req-of-ada"})).json()
    await site.finish(job)

    after = (await ada.get(f"/v1/jobs/{job['id']}")).json()
    assert after["status"] == "failed"
    assert after["error"] == {
        "code": "content_rejected",
        "message": "not that",
        "param": None,
        "retryable": False,
        "request_id": "req-of-ada",
        "stage": "prompt",
    }
    assert after["billing"] == {"cost": 1, "charged": 0, "refunded": 1, "state": "refunded"}
    assert await site.balance() == 100


@pytest.mark.parametrize("name", GENERATE_EXAMPLES)
async def test_every_example_of_the_documentation_is_accepted(ada: httpx.AsyncClient, name: str) -> None:
    await submitted(ada, GENERATE_EXAMPLES[name]["value"])


@pytest.mark.parametrize(
    ("body", "cost"),
    [
        (FOX, 1),
        (FOX | {"count": 4}, 4),
        (FOX | {"style": "oil", "size": "768x1344"}, 1),
        (FILM, 10),
        (FILM | {"seconds": 8}, 10),
    ],
)
async def test_a_quote_is_what_the_submit_debits_and_writes_nothing(
    site: Site, ada: httpx.AsyncClient, body: Json, cost: int
) -> None:
    quote = await ada.post("/v1/quote", json=body)
    assert (quote.status_code, quote.json()) == (200, {"cost": cost, "balance": 100, "affordable": True})
    assert (await ada.get("/v1/jobs")).json()["data"] == []

    assert (await submitted(ada, body))["billing"]["cost"] == cost
    assert await site.balance() == 100 - cost


async def test_a_quote_of_something_too_dear_says_so_instead_of_failing(ada: httpx.AsyncClient) -> None:
    for _ in range(10):
        await submitted(ada, FILM)
    assert (await ada.post("/v1/quote", json=FOX)).json() == {"cost": 1, "balance": 0, "affordable": False}


async def test_a_quote_for_a_strangers_account_tells_nothing(
    bob: httpx.AsyncClient, ada: httpx.AsyncClient
) -> None:
    await submitted(ada)
    error_of(await bob.post("/v1/quote", json=FOX | {"account": "ada"}), 403, "forbidden")


async def test_what_costs_more_than_max_cost_is_refused_and_not_debited(
    ada: httpx.AsyncClient,
) -> None:
    answer = await ada.post("/v1/generate", json=FOX | {"count": 3, "max_cost": 2})
    assert error_of(answer, 402, "max_cost_exceeded")["param"] == "max_cost"
    await submitted(ada, FOX | {"count": 2, "max_cost": 2})
    assert (await ada.get("/v1/balance")).json()["balance"] == 98


@both_stores
async def test_200_submits_at_once_against_100_tokens_make_100_jobs_and_no_debt(
    site: Site, ada: httpx.AsyncClient
) -> None:
    answers = await asyncio.gather(*(ada.post("/v1/generate", json=FOX) for _ in range(200)))

    accepted = [answer.json() for answer in answers if answer.status_code == 202]
    refused = [answer for answer in answers if answer.status_code != 202]
    assert len(accepted) == len({job["id"] for job in accepted}) == 100
    for answer in refused:
        error = error_of(answer, 402, "insufficient_tokens")
        assert (error["needed"], error["available"]) == (1, 0)
    assert await site.balance() == 0
    assert len(site.world.queue.hints) == 100


# One key, one job.


@both_stores
async def test_the_same_key_and_body_answer_with_the_same_job_and_one_debit(
    site: Site, ada: httpx.AsyncClient
) -> None:
    first = await submitted(ada, key="order-1")
    site.world.clock.advance(days=400)
    reordered = dict(reversed(FOX.items()))
    again = await ada.post("/v1/generate", json=reordered, headers={"Idempotency-Key": "order-1"})

    assert again.status_code == 202
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Location"].endswith(first["id"])
    assert again.json() == first
    assert await site.balance() == 99
    assert len(site.world.queue.hints) == 1


async def test_a_repeated_key_shows_the_job_as_it_now_stands(site: Site, ada: httpx.AsyncClient) -> None:
    job = await submitted(ada, key="order-1")
    await site.finish(job)
    again = await ada.post("/v1/generate", json=FOX, headers={"Idempotency-Key": "order-1"})
    assert (again.status_code, again.json()["status"]) == (202, "draft")


@both_stores
@pytest.mark.parametrize(
    "other",
    [FOX | {"prompt": "a crow"}, FOX | {"count": 2}, FOX | {"metadata": {"a": 1}}, FILM],
    ids=["prompt", "count", "metadata", "kind"],
)
async def test_the_same_key_with_another_body_is_a_conflict_and_costs_nothing(
    site: Site, ada: httpx.AsyncClient, other: Json
) -> None:
    await submitted(ada, key="order-1")
    answer = await ada.post("/v1/generate", json=other, headers={"Idempotency-Key": "order-1"})
    error_of(answer, 409, "idempotency_conflict")
    assert await site.balance() == 99


@both_stores
async def test_50_submits_at_once_with_one_key_make_one_job_and_one_debit(
    site: Site, ada: httpx.AsyncClient
) -> None:
    answers = await asyncio.gather(
        *(ada.post("/v1/generate", json=FOX, headers={"Idempotency-Key": "order-1"}) for _ in range(50))
    )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("Idempotent-Replayed" in answer.headers for answer in answers) == 49
    assert await site.balance() == 99
    ledger = (await ada.get("/v1/ledger")).json()["data"]
    assert [entry["reason"] for entry in ledger].count("debit") == 1


async def test_a_key_belongs_to_its_account(ada: httpx.AsyncClient, bob: httpx.AsyncClient) -> None:
    hers = await submitted(ada, key="order-1")
    his = await submitted(bob, key="order-1")
    assert hers["id"] != his["id"]


@both_stores
async def test_the_key_of_a_deleted_job_answers_404_and_never_debits_again(
    site: Site, ada: httpx.AsyncClient
) -> None:
    job = await submitted(ada, key="order-1")
    await site.finish(job)
    await ada.delete(f"/v1/jobs/{job['id']}")
    error_of(
        await ada.post("/v1/generate", json=FOX, headers={"Idempotency-Key": "order-1"}), 404, "not_found"
    )

    site.world.clock.advance(minutes=1)
    await site.world.work.process(JobId(f"{job['id']}:erasure"))
    error_of(
        await ada.post("/v1/generate", json=FOX, headers={"Idempotency-Key": "order-1"}), 404, "not_found"
    )
    assert await site.balance() == 99


@pytest.mark.parametrize("key", ["k", "k" * 255, "a key with spaces", "~!@#$%^&*()"])
async def test_a_key_may_have_1_to_255_visible_characters(ada: httpx.AsyncClient, key: str) -> None:
    first = await submitted(ada, key=key)
    assert await submitted(ada, key=key) == first


@pytest.mark.parametrize("key", [b"", b"k" * 256, b"\xe9", b"a\tb", b"\x00", b"k" * 100_000])
async def test_other_keys_are_refused(site: Site, ada: httpx.AsyncClient, key: bytes) -> None:
    answer = await ada.post("/v1/generate", json=FOX, headers=odd("Idempotency-Key", key))
    assert error_of(answer, 400, "bad_request")["param"] == "Idempotency-Key"
    assert (await ada.get("/v1/jobs")).json()["data"] == []


async def test_the_key_of_a_grant_cannot_be_used_for_a_job(
    site: Site, ada: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    body = {"account": "ada", "tokens": 5}
    await admin.post("/v1/admin/grants", json=body, headers={"Idempotency-Key": "order-1"})
    answer = await ada.post("/v1/generate", json=FOX, headers={"Idempotency-Key": "order-1"})
    error_of(answer, 409, "idempotency_conflict")
    assert await site.balance() == 105


# Waiting for the end.


@both_stores
async def test_a_submit_that_waits_is_answered_200_when_the_job_ends_meanwhile(
    site: Site, ada: httpx.AsyncClient
) -> None:
    waiting = asyncio.create_task(ada.post("/v1/generate", json=FOX, headers={"Prefer": "wait=30"}))
    await until(lambda: bool(site.world.queue.hints))
    await site.world.work.process(site.world.queue.hints[0].job_id)

    answer = await waiting
    assert (answer.status_code, answer.json()["status"]) == (200, "draft")
    assert answer.headers["Location"].endswith(answer.json()["id"])


async def test_a_submit_that_waits_in_vain_is_answered_202_as_usual(ada: httpx.AsyncClient) -> None:
    answer = await ada.post("/v1/generate", json=FOX, headers={"Prefer": "wait=1"})
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")


@pytest.mark.parametrize(
    "prefer",
    ["wait", "wait=", "wait=-1", "wait=soon", "wait=1e9", "await=9", "wait=0", "respond-async", "wait=\xb2"],
)
async def test_a_preference_that_makes_no_sense_is_ignored(ada: httpx.AsyncClient, prefer: str) -> None:
    headers = odd("Prefer", prefer.encode("latin-1"))
    async with asyncio.timeout(0.9):
        answer = await ada.post("/v1/generate", json=FOX, headers=headers)
    assert answer.status_code == 202


async def test_a_preference_is_found_among_others(site: Site, ada: httpx.AsyncClient) -> None:
    first = await submitted(ada, key="order-1")
    await site.finish(first)
    headers = {"Prefer": 'handling=lenient, wait=5; foo="bar"', "Idempotency-Key": "order-1"}
    assert (await ada.post("/v1/generate", json=FOX, headers=headers)).status_code == 200


async def test_a_job_that_was_accepted_is_answered_202_though_waiting_for_it_is_impossible(
    site: Site, ada: httpx.AsyncClient
) -> None:
    """A 503 here would make a client without a key submit, and pay, again."""
    site.health.cannot_watch = True
    answer = await ada.post("/v1/generate", json=FOX, headers={"Prefer": "wait=5"})
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")


# The same once more.


@both_stores
async def test_a_retry_is_a_new_job_with_the_same_request_newly_debited(
    site: Site, ada: httpx.AsyncClient
) -> None:
    job = await drafted(site, ada, FOX | {"count": 2, "metadata": {"page": 7}})
    site.world.clock.advance(minutes=1)
    answer = await ada.post(f"/v1/jobs/{job['id']}/retry")

    assert answer.status_code == 202
    again = answer.json()
    assert again["id"] != job["id"]
    assert answer.headers["Location"].endswith(again["id"])
    assert again["status"] == "queued"
    same = ("kind", "request", "model", "metadata", "account_id")
    assert {name: again[name] for name in same} == {name: job[name] for name in same}
    assert await site.balance() == 96


async def test_a_retry_with_a_key_happens_once(site: Site, ada: httpx.AsyncClient) -> None:
    job = await drafted(site, ada)
    answers = [
        await ada.post(f"/v1/jobs/{job['id']}/retry", headers={"Idempotency-Key": "again"}) for _ in range(2)
    ]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert answers[1].headers["Idempotent-Replayed"] == "true"
    assert await site.balance() == 98


async def test_a_retry_of_another_job_under_the_same_key_is_a_conflict(
    site: Site, ada: httpx.AsyncClient
) -> None:
    first, second = await drafted(site, ada), await drafted(site, ada)
    key = {"Idempotency-Key": "again"}
    await ada.post(f"/v1/jobs/{first['id']}/retry", headers=key)
    error_of(await ada.post(f"/v1/jobs/{second['id']}/retry", headers=key), 409, "idempotency_conflict")


async def test_a_job_under_way_cannot_be_retried(ada: httpx.AsyncClient) -> None:
    job = await submitted(ada)
    error_of(await ada.post(f"/v1/jobs/{job['id']}/retry"), 409, "wrong_state")


async def test_a_retry_that_nobody_can_pay_is_refused(site: Site, ada: httpx.AsyncClient) -> None:
    job = await drafted(site, ada, FILM)
    for _ in range(9):
        await submitted(ada, FILM)
    error = error_of(await ada.post(f"/v1/jobs/{job['id']}/retry"), 402, "insufficient_tokens")
    assert (error["needed"], error["available"]) == (10, 0)


async def test_a_retry_of_a_model_that_is_gone_is_refused_before_it_costs_anything(
    site: Site, ada: httpx.AsyncClient
) -> None:
    job = await drafted(site, ada)
    kinds = dict(site.world.app.catalogue.kinds) | {
        Kind.IMAGE: replace(site.world.app.catalogue.kinds[Kind.IMAGE], models=())
    }
    app = replace(site.world.app, catalogue=replace(site.world.app.catalogue, kinds=kinds))
    later = await site.caller("ada", gateway=replace(site.gateway, app=app))
    error_of(await later.post(f"/v1/jobs/{job['id']}/retry"), 422, "invalid_request")
    assert await site.balance() == 99
