"""The caller's jobs: lists, cancelling, the feed, deleting; and that nobody else can do any of it."""

import asyncio

import httpx
import pytest

from shared.domain.changes import Create
from shared.domain.ids import JobId
from shared.domain.job import Kind, Status
from shared.ports.generator import ContentRejected
from tests.services.conftest import FILM, FOX, Json, Site, both_stores, drafted, error_of, submitted
from tests.support import a_job, until

MISSING = "job_00000000000000000000000099"


async def ids(caller: httpx.AsyncClient, path: str, **params: str | int) -> list[str]:
    answer = await caller.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["data"]]


async def several(site: Site, caller: httpx.AsyncClient, count: int) -> list[str]:
    """Jobs a second apart, the newest first."""
    made = []
    for _ in range(count):
        site.world.clock.advance(seconds=1)
        made.append((await submitted(caller))["id"])
    return made[::-1]


# Lists.


@both_stores
async def test_a_list_goes_on_where_it_ended_and_never_shows_a_job_twice(
    site: Site, ada: httpx.AsyncClient
) -> None:
    newest_first = await several(site, ada, 5)

    first = (await ada.get("/v1/jobs", params={"limit": 2})).json()
    assert first.keys() == {"data", "has_more", "next"}
    assert [job["id"] for job in first["data"]] == newest_first[:2]
    assert first["has_more"] is True
    site.world.clock.advance(seconds=1)
    await submitted(ada)  # a newcomer changes nothing below
    second = (await ada.get("/v1/jobs", params={"limit": 2, "after": first["next"]})).json()
    assert [job["id"] for job in second["data"]] == newest_first[2:4]
    last = (await ada.get("/v1/jobs", params={"limit": 2, "after": second["next"]})).json()
    assert [job["id"] for job in last["data"]] == newest_first[4:]
    assert (last["has_more"], last["next"]) == (False, None)


async def test_a_list_that_just_fits_has_no_more(site: Site, ada: httpx.AsyncClient) -> None:
    await several(site, ada, 2)
    page = (await ada.get("/v1/jobs", params={"limit": 2})).json()
    assert (len(page["data"]), page["has_more"], page["next"]) == (2, False, None)


async def test_a_list_has_20_jobs_unless_asked_otherwise(site: Site, ada: httpx.AsyncClient) -> None:
    await several(site, ada, 21)
    assert len(await ids(ada, "/v1/jobs")) == 20
    assert len(await ids(ada, "/v1/jobs", limit=100)) == 21


@both_stores
async def test_lists_are_narrowed_by_kind_and_status(site: Site, ada: httpx.AsyncClient) -> None:
    image, video = await drafted(site, ada, FOX), await submitted(ada, FILM)

    assert await ids(ada, "/v1/jobs", kind="image") == [image["id"]]
    assert await ids(ada, "/v1/jobs", kind="video") == [video["id"]]
    assert await ids(ada, "/v1/jobs", kind="brand") == []
    assert await ids(ada, "/v1/jobs", status="draft") == [image["id"]]
    assert await ids(ada, "/v1/jobs", status="queued") == [video["id"]]
    assert set(await ids(ada, "/v1/jobs", status="queued,draft")) == {image["id"], video["id"]}
    assert await ids(ada, "/v1/jobs", kind="image", status="queued") == []
    assert await ids(ada, "/v1/jobs", batch_id=image["id"]) == []


@both_stores
async def test_the_view_of_drafts_holds_all_that_is_not_published_failures_included(
    site: Site, ada: httpx.AsyncClient
) -> None:
    draft, shown, film = await drafted(site, ada), await drafted(site, ada), await submitted(ada, FILM)
    await ada.post(f"/v1/jobs/{shown['id']}/publish")
    site.world.generator.starts.append(lambda order: ContentRejected("not that", stage="prompt"))
    failed = await submitted(ada)
    await site.finish(failed)

    assert set(await ids(ada, "/v1/jobs", view="drafts")) == {draft["id"], film["id"], failed["id"]}
    assert await ids(ada, "/v1/jobs", view="drafts", kind="video") == [film["id"]]
    assert await ids(ada, "/v1/jobs", view="drafts", status="failed") == [failed["id"]]
    assert await ids(ada, "/v1/jobs", view="drafts", status="published") == []
    assert await ids(ada, "/v1/jobs", view="drafts", kind="brand") == []


async def test_lists_show_only_ones_own_jobs(
    site: Site, ada: httpx.AsyncClient, bob: httpx.AsyncClient
) -> None:
    hers, his = await submitted(ada), await submitted(bob)
    assert await ids(ada, "/v1/jobs") == [hers["id"]]
    assert await ids(bob, "/v1/jobs") == [his["id"]]


# Cancelling.


@both_stores
async def test_cancelling_before_anything_was_bought_refunds_at_once(
    site: Site, ada: httpx.AsyncClient
) -> None:
    job = await submitted(ada)
    answer = await ada.post(f"/v1/jobs/{job['id']}/cancel")

    assert answer.status_code == 200
    assert answer.json()["status"] == "cancelled"
    assert answer.json()["billing"] == {"cost": 1, "charged": 0, "refunded": 1, "state": "refunded"}
    assert await site.balance() == 100


@both_stores
async def test_cancelling_under_way_is_noted_and_told_honestly_when_it_came_too_late(
    site: Site, ada: httpx.AsyncClient
) -> None:
    job = await submitted(ada)
    site.world.generator.gate = asyncio.Event()
    working = asyncio.create_task(site.world.work.process(JobId(job["id"])))
    await until(lambda: bool(site.world.generator.started))

    answer = await ada.post(f"/v1/jobs/{job['id']}/cancel")
    assert answer.status_code == 202
    assert (answer.json()["status"], answer.json()["cancel_requested"]) == ("processing", True)

    site.world.generator.gate.set()
    await working
    after = (await ada.get(f"/v1/jobs/{job['id']}")).json()
    assert (after["status"], after["cancel_requested"]) == ("draft", True)
    assert after["billing"]["charged"] == 1
    assert await site.balance() == 99


@pytest.mark.parametrize("ending", ["draft", "cancelled"])
async def test_a_job_that_has_ended_cannot_be_cancelled(
    site: Site, ada: httpx.AsyncClient, ending: str
) -> None:
    job = await submitted(ada)
    if ending == "draft":
        await site.finish(job)
    else:
        await ada.post(f"/v1/jobs/{job['id']}/cancel")
    error = error_of(await ada.post(f"/v1/jobs/{job['id']}/cancel"), 409, "wrong_state")
    assert ending in error["message"]


# Into the feed and out of it.


@both_stores
async def test_a_published_job_stands_in_the_public_feed_without_its_owner(
    site: Site, ada: httpx.AsyncClient, nobody: httpx.AsyncClient
) -> None:
    job = await drafted(site, ada, FOX | {"metadata": {"private": True}})
    site.world.clock.advance(hours=1)
    answer = await ada.post(f"/v1/jobs/{job['id']}/publish")
    assert (answer.status_code, answer.json()["status"]) == (200, "published")

    feed = (await nobody.get("/v1/feed")).json()
    assert feed == {
        "data": [
            {
                "id": job["id"],
                "kind": "image",
                "prompt": "a fox",
                "media": job["media"],
                "thumbnail_url": job["thumbnail_url"],
                "published_at": "2026-11-22T13:00:00Z",
            }
        ],
        "has_more": False,
        "next": None,
    }


@both_stores
async def test_publishing_and_unpublishing_may_be_repeated_and_undone(
    site: Site, ada: httpx.AsyncClient, nobody: httpx.AsyncClient
) -> None:
    job = await drafted(site, ada)
    first = (await ada.post(f"/v1/jobs/{job['id']}/publish")).json()
    site.world.clock.advance(hours=1)
    assert (await ada.post(f"/v1/jobs/{job['id']}/publish")).json() == first

    for _ in range(2):
        answer = await ada.post(f"/v1/jobs/{job['id']}/unpublish")
        assert (answer.status_code, answer.json()["status"]) == (200, "draft")
    assert await ids(nobody, "/v1/feed") == []
    assert (await nobody.get(job["media"][0]["url"])).status_code == 200


@both_stores
async def test_the_feed_shows_the_latest_published_first_page_by_page(
    site: Site, ada: httpx.AsyncClient, bob: httpx.AsyncClient, nobody: httpx.AsyncClient
) -> None:
    jobs = [(caller, await drafted(site, caller)) for caller in (ada, bob, ada)]
    for caller, job in reversed(jobs):
        site.world.clock.advance(seconds=1)
        await caller.post(f"/v1/jobs/{job['id']}/publish")
    shown = [job["id"] for _, job in jobs]

    first = (await nobody.get("/v1/feed", params={"limit": 2})).json()
    assert ([item["id"] for item in first["data"]], first["has_more"]) == (shown[:2], True)
    assert await ids(nobody, "/v1/feed", limit=2, after=first["next"]) == shown[2:]


@pytest.mark.parametrize("move", ["publish", "unpublish"])
async def test_what_is_not_a_finished_image_or_video_cannot_be_in_the_feed(
    site: Site, ada: httpx.AsyncClient, move: str
) -> None:
    queued = await submitted(ada)
    error_of(await ada.post(f"/v1/jobs/{queued['id']}/{move}"), 409, "wrong_state")
    await ada.post(f"/v1/jobs/{queued['id']}/cancel")
    error_of(await ada.post(f"/v1/jobs/{queued['id']}/{move}"), 409, "wrong_state")


# Deleting.


@both_stores
async def test_a_deleted_job_is_gone_at_once_from_everywhere_and_its_media_soon_after(
    site: Site, ada: httpx.AsyncClient, nobody: httpx.AsyncClient
) -> None:
    job = await drafted(site, ada)
    await ada.post(f"/v1/jobs/{job['id']}/publish")
    answer = await ada.delete(f"/v1/jobs/{job['id']}")
    assert (answer.status_code, answer.content) == (204, b"")

    error_of(await ada.get(f"/v1/jobs/{job['id']}"), 404, "not_found")
    assert await ids(ada, "/v1/jobs") == await ids(nobody, "/v1/feed") == []
    erasure = site.world.queue.hints[-1]
    assert (erasure.job_id, erasure.kind) == (f"{job['id']}:erasure", Kind.ERASURE)

    await site.world.work.process(erasure.job_id)
    error_of(await nobody.get(job["media"][0]["url"]), 404, "not_found")
    error_of(await nobody.get(job["thumbnail_url"]), 404, "not_found")
    entries = (await ada.get("/v1/ledger")).json()["data"]
    assert job["id"] in [entry["job_id"] for entry in entries]


@both_stores
async def test_deleting_may_be_repeated_also_after_the_erasure_and_only_by_the_owner(
    site: Site, ada: httpx.AsyncClient, bob: httpx.AsyncClient
) -> None:
    job = await drafted(site, ada)
    here = f"/v1/jobs/{job['id']}"
    assert (await ada.delete(here)).status_code == 204
    assert (await ada.delete(here)).status_code == 204
    error_of(await bob.delete(here), 404, "not_found")

    await site.world.work.process(JobId(f"{job['id']}:erasure"))
    assert (await ada.delete(here)).status_code == 204
    error_of(await bob.delete(here), 404, "not_found")


@pytest.mark.parametrize("route", ["cancel", "publish", "unpublish", "retry"])
async def test_nothing_can_be_done_with_a_deleted_job(site: Site, ada: httpx.AsyncClient, route: str) -> None:
    job = await drafted(site, ada)
    await ada.delete(f"/v1/jobs/{job['id']}")
    error_of(await ada.post(f"/v1/jobs/{job['id']}/{route}"), 404, "not_found")


async def test_a_job_under_way_cannot_be_deleted(ada: httpx.AsyncClient) -> None:
    job = await submitted(ada)
    error_of(await ada.delete(f"/v1/jobs/{job['id']}"), 409, "wrong_state")
    assert (await ada.get(f"/v1/jobs/{job['id']}")).status_code == 200


# Isolation.


@both_stores
@pytest.mark.parametrize(
    ("method", "route"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/cancel"),
        ("POST", "/publish"),
        ("POST", "/unpublish"),
        ("POST", "/retry"),
    ],
)
async def test_anothers_job_does_not_exist(
    site: Site, ada: httpx.AsyncClient, bob: httpx.AsyncClient, method: str, route: str
) -> None:
    job = await drafted(site, ada)
    theirs = error_of(await bob.request(method, f"/v1/jobs/{job['id']}{route}"), 404, "not_found")
    missing = error_of(await bob.request(method, f"/v1/jobs/{MISSING}{route}"), 404, "not_found")
    assert theirs["message"].replace(job["id"], "it") == missing["message"].replace(MISSING, "it")
    assert (await ada.get(f"/v1/jobs/{job['id']}")).json() == job


async def test_an_internal_job_does_not_exist_for_its_user_either(site: Site, ada: httpx.AsyncClient) -> None:
    job = await drafted(site, ada)
    await ada.delete(f"/v1/jobs/{job['id']}")
    erasure = f"/v1/jobs/{job['id']}:erasure"
    error_of(await ada.get(erasure), 404, "not_found")
    error_of(await ada.post(f"{erasure}/cancel"), 404, "not_found")
    error_of(await ada.delete(erasure), 404, "not_found")


@pytest.mark.parametrize(
    "job_id",
    ["1", "job_", "job_" + "0" * 25, "job_" + "i" * 26, "JOB_" + "0" * 26, "%00", "job_%ff", "x" * 5_000],
)
async def test_what_is_no_jobs_id_is_not_found(ada: httpx.AsyncClient, job_id: str) -> None:
    error = error_of(await ada.get(f"/v1/jobs/{job_id}"), 404, "not_found")
    assert len(error["message"]) < 200


async def test_jobs_of_newer_kinds_are_shown_to_admins_only_as_they_are(
    site: Site, admin: httpx.AsyncClient
) -> None:
    """An older version running beside a newer one must not break on what that made."""
    job = a_job(1, kind="hologram", status=Status.QUEUED)
    await site.world.store.change([], lambda records: [Create(job)])
    listed: list[Json] = (await admin.get("/v1/admin/jobs")).json()["data"]
    assert [item["kind"] for item in listed] == ["hologram"]
