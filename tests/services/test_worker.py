"""The worker: reads pushes, lets verified callers in, and acknowledges exactly what is recorded."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import httpx
import pytest

from services.worker.main import MAX_PUSH_BYTES, create_app
from shared.adapters.auth.shared_secret import SharedSecret
from shared.domain.changes import Create, Records, job_key
from shared.domain.errors import BrokenInvariant
from shared.domain.ids import JobId, RequestId
from shared.domain.job import Job, Status
from shared.envelope import OTHER_ROUTE, ROUTES, enveloped
from shared.ports.generator import ContentRejected, Order, Running
from shared.ports.queue import Hint
from shared.ports.tracing import Trace
from shared.settings import Settings
from shared.usecases.app import WorkerApp
from shared.usecases.handlers import all_handlers
from shared.usecases.work import Work
from shared.wiring import Worker
from tests.services.conftest import FILM, FOX, Site, both_stores, error_of, log_lines, odd, submitted
from tests.support import NOON, EagerClock, World, a_job, make_world, until

SECRET: Final = "the-workers-secret"
PUSH_ROUTES: Final = [*ROUTES.values(), OTHER_ROUTE]
JOB: Final = JobId("job_00000000000000000000000001")


def worker_over(
    world: World, *, concurrency: int = 64, settings: dict[str, Any] | None = None, **parts: Any
) -> httpx.AsyncClient:
    """A caller with the right secret, of a worker around the world's use cases; `parts` of its app differ."""
    app: WorkerApp = replace(world.app, **parts)
    worker = Worker(
        app=app,
        work=Work(app, all_handlers(app)),
        settings=Settings(worker_concurrency=concurrency, **(settings or {})),
        verifier=SharedSecret(SECRET),
    )
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(worker), raise_app_exceptions=False),
        base_url="http://worker",
        headers={"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"},
    )


@pytest.fixture
async def worker(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    async with worker_over(site.world) as client:
        yield client


def push_for(job_id: str, *, kind: str = "image", request_id: str | None = None) -> bytes:
    hint = Hint(
        job_id=JobId(job_id), kind=kind, request_id=RequestId(request_id) if request_id is not None else None
    )
    return enveloped(hint, message_id="1", subscription="here", attempt=1)


async def standing(world: World, job_id: str = JOB) -> Job:
    return (await world.store.load([job_key(JobId(job_id))])).need(job_key(JobId(job_id)))


async def put(world: World, job: Job) -> Job:
    await world.store.change([], lambda _: [Create(job)])
    return job


# What is acknowledged.


@both_stores
async def test_a_push_lets_the_job_be_made_and_is_acknowledged(
    site: Site, ada: httpx.AsyncClient, worker: httpx.AsyncClient
) -> None:
    job = await submitted(ada)
    answer = await worker.post("/process-generation", content=push_for(job["id"]))
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await ada.get(f"/v1/jobs/{job['id']}")).json()["status"] == "draft"


@pytest.mark.parametrize("route", PUSH_ROUTES)
async def test_the_stored_kind_decides_whatever_route_and_message_say(
    site: Site, ada: httpx.AsyncClient, worker: httpx.AsyncClient, route: str
) -> None:
    job = await submitted(ada, FILM)
    site.world.generator.starts.append(lambda order: Running(reference="operation-1"))
    assert (await worker.post(route, content=push_for(job["id"], kind="image"))).status_code == 204
    assert site.world.generator.polled == ["operation-1"]
    assert (await ada.get(f"/v1/jobs/{job['id']}")).json()["media"][0]["type"] == "video/mp4"


async def test_pub_subs_own_envelope_is_understood(site: Site, worker: httpx.AsyncClient) -> None:
    """As Google's documentation shows it, with the fields that we do not need."""
    await put(site.world, a_job())
    push = {
        "message": {
            "data": base64.b64encode(
                json.dumps({"job_id": JOB, "kind": "image", "newer": 1}).encode()
            ).decode(),
            "messageId": "2070443601311540",
            "message_id": "2070443601311540",
            "orderingKey": "",
            "publishTime": "2026-11-22T12:00:00.7Z",
            "publish_time": "2026-11-22T12:00:00.7Z",
        },
        "subscription": "projects/p/subscriptions/s",
        "deliveryAttempt": 5,
    }
    assert (await worker.post("/process-generation", json=push)).status_code == 204
    assert (await standing(site.world)).status == Status.DRAFT


async def test_a_push_for_a_job_that_was_deleted_is_acknowledged(worker: httpx.AsyncClient) -> None:
    assert (await worker.post("/process-generation", content=push_for(JOB))).status_code == 204


async def test_a_second_push_for_the_same_job_changes_nothing(
    site: Site, ada: httpx.AsyncClient, worker: httpx.AsyncClient
) -> None:
    job = await submitted(ada)
    for _ in range(3):
        answer = await worker.post("/process-generation", content=push_for(job["id"]))
        assert answer.status_code == 204
    assert len(site.world.generator.started) == 1


async def test_a_push_for_a_job_that_is_in_work_is_acknowledged_at_once(
    site: Site, ada: httpx.AsyncClient, worker: httpx.AsyncClient
) -> None:
    job = await submitted(ada)
    site.world.generator.gate = asyncio.Event()
    first = asyncio.create_task(worker.post("/process-generation", content=push_for(job["id"])))
    await until(lambda: bool(site.world.generator.started))
    assert (await worker.post("/process-generation", content=push_for(job["id"]))).status_code == 204

    site.world.generator.gate.set()
    assert (await first).status_code == 204
    assert len(site.world.generator.started) == 1


async def test_a_job_that_fails_is_acknowledged_for_the_store_knows(
    site: Site, ada: httpx.AsyncClient, worker: httpx.AsyncClient
) -> None:
    site.world.generator.starts.append(lambda order: ContentRejected("no", stage="prompt"))
    job = await submitted(ada)
    assert (await worker.post("/process-generation", content=push_for(job["id"]))).status_code == 204
    assert (await standing(site.world, job["id"])).status == Status.FAILED


@both_stores
async def test_a_job_of_an_unknown_kind_is_parked_for_a_newer_version(
    site: Site, worker: httpx.AsyncClient
) -> None:
    await put(site.world, a_job(kind="hologram"))
    assert (await worker.post(OTHER_ROUTE, content=push_for(JOB, kind="hologram"))).status_code == 204

    parked = await standing(site.world)
    assert (parked.status, parked.lease, parked.attempts) == (Status.QUEUED, None, 0)
    assert parked.wake_at == parked.not_before == NOON + timedelta(seconds=60)


async def test_an_internal_job_is_done_like_any_other(
    site: Site, ada: httpx.AsyncClient, worker: httpx.AsyncClient
) -> None:
    job = await submitted(ada)
    await site.finish(job)
    await ada.delete(f"/v1/jobs/{job['id']}")
    erasure = f"{job['id']}:erasure"
    assert (await worker.post(OTHER_ROUTE, content=push_for(erasure, kind="erasure"))).status_code == 204
    assert (await site.world.store.load([job_key(JobId(job["id"]))])).find(job_key(JobId(job["id"]))) is None
    assert (await standing(site.world, erasure)).status == Status.READY


# What cannot be read.


def around(data: str) -> bytes:
    return json.dumps({"message": {"data": data, "messageId": "1"}, "subscription": "s"}).encode()


def encoded(data: Any) -> bytes:
    return around(base64.b64encode(json.dumps(data).encode()).decode())


DEEP = b"[" * 10_000 + b"]" * 10_000

UNREADABLE: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"job_1",
    "half JSON": b'{"message": {',
    "no UTF-8": b'{"message": {"data": "\xff"}}',
    "NUL": b"\0",
    "null": b"null",
    "an array": b"[]",
    "no message": b"{}",
    "a message that is null": b'{"message": null}',
    "a message that is text": b'{"message": "job_1"}',
    "no data": b'{"message": {}}',
    "data that is null": b'{"message": {"data": null}}',
    "data that is an object": b'{"message": {"data": {"job_id": "job_1"}}}',
    "attributes that are a list": b'{"message": {"data": "", "attributes": []}}',
    "attributes that are numbers": b'{"message": {"data": "", "attributes": {"a": 1}}}',
    "no base64": around("job_1!"),
    "base64 with spaces": around("e30 ="),
    "base64 without its end": around("e3"),
    "base64 that is not ASCII": around("é"),
    "empty data": around(""),
    "data that is no JSON": around(base64.b64encode(b"job_1").decode()),
    "data that is no UTF-8": around(base64.b64encode(b'{"job_id": "\xff"}').decode()),
    "data that is null in base64": encoded(None),
    "data that is a list": encoded([JOB]),
    "no job": encoded({"kind": "image"}),
    "no kind": encoded({"job_id": JOB}),
    "a job that is a number": encoded({"job_id": 1, "kind": "image"}),
    "a kind that is a number": encoded({"job_id": JOB, "kind": 1}),
    "a job's id that is none": encoded({"job_id": "job_1", "kind": "image"}),
    "a job's id with NUL": encoded({"job_id": f"{JOB}\0", "kind": "image"}),
    "a job's id with a path": encoded({"job_id": "../../etc/passwd", "kind": "image"}),
    "a job's id with half a surrogate pair": encoded({"job_id": "\ud800", "kind": "image"}),
    "a huge job's id": encoded({"job_id": "job_" + "0" * 10_000, "kind": "image"}),
    "10,000 deep": DEEP,
    "a message 7,000 deep": b'{"message": ' * 7_000 + b"1" + b"}" * 7_000,
    "an unknown field 10,000 deep": b'{"message": {"data": "", "x": %b}}' % DEEP,
    "data 10,000 deep": around(base64.b64encode(DEEP).decode()),
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_a_message_that_cannot_be_read_is_refused_for_good(
    worker: httpx.AsyncClient, body: bytes
) -> None:
    answer = await worker.post("/process-generation", content=body)
    error = error_of(answer, 422, "invalid_request")
    assert error["message"].startswith("not a push of ours: ")


async def test_a_push_over_the_limit_is_refused_by_what_it_says_and_by_what_it_is(
    worker: httpx.AsyncClient,
) -> None:
    error_of(await worker.post("/process-generation", content=b" " * (MAX_PUSH_BYTES + 1)), 413, "too_large")

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b" " * (MAX_PUSH_BYTES // 10)

    error_of(await worker.post("/process-generation", content=parts()), 413, "too_large")


# Who may call.


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer wrong",
        b"Bearer the-workers-secre",
        b"Bearer the-workers-secret2",
        b"Bearer \xff\xfe",
        b"Basic the-workers-secret",
        b"the-workers-secret",
        b"Bearer dev-admin",
    ],
)
async def test_only_who_has_the_secret_may_call(site: Site, worker: httpx.AsyncClient, header: bytes) -> None:
    await put(site.world, a_job())
    del worker.headers["Authorization"]
    for route in (*PUSH_ROUTES, "/sweep"):
        answer = await worker.post(route, content=push_for(JOB), headers=odd("Authorization", header))
        error_of(answer, 401, "unauthenticated")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert (await standing(site.world)).status == Status.QUEUED


async def test_the_emulators_pushes_show_the_secret_in_their_address(
    site: Site, worker: httpx.AsyncClient
) -> None:
    await put(site.world, a_job())
    del worker.headers["Authorization"]
    for token in ("", "wrong", f"{SECRET}2"):
        answer = await worker.post("/process-generation", content=push_for(JOB), params={"token": token})
        error_of(answer, 401, "unauthenticated")
    answer = await worker.post("/process-generation", content=push_for(JOB), params={"token": SECRET})
    assert answer.status_code == 204


async def test_in_production_no_secret_stands_in_an_address(site: Site) -> None:
    async with worker_over(site.world, settings={"environment": "production", "auth": "keys"}) as worker:
        del worker.headers["Authorization"]
        answer = await worker.post("/process-generation", content=push_for(JOB), params={"token": SECRET})
        error_of(answer, 401, "unauthenticated")


SPAN: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_a_trace_goes_from_the_request_through_the_message_into_the_workers_logs(
    site: Site, ada: httpx.AsyncClient, worker: httpx.AsyncClient
) -> None:
    headers = {"traceparent": SPAN, "tracestate": "a=b"}
    job = (await ada.post("/v1/generate", json=FOX, headers=headers)).json()
    [hint] = site.world.queue.hints
    assert hint.trace == Trace(SPAN, "a=b")
    push = enveloped(hint, message_id="1", subscription="here", attempt=1)
    with log_lines() as lines:
        assert (await worker.post("/process-generation", content=push)).status_code == 204
    about = [line for line in lines if line.get("job_id") == job["id"]]
    assert about
    assert {line.get("trace_id") for line in about} == {"0af7651916cd43dd8448eb211c80319c"}


async def test_a_caller_without_any_header_learns_nothing(worker: httpx.AsyncClient) -> None:
    del worker.headers["Authorization"]
    for route in PUSH_ROUTES:
        error_of(await worker.post(route, content=b"garbage"), 401, "unauthenticated")
    for path in ("/openapi.json", "/docs", "/redoc", "/", "/v1/jobs"):
        error_of(await worker.get(path), 404, "not_found")


async def test_health_needs_no_secret(worker: httpx.AsyncClient) -> None:
    del worker.headers["Authorization"]
    answer = await worker.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_the_routes_are_posted_to(worker: httpx.AsyncClient) -> None:
    for route in [*PUSH_ROUTES, "/sweep"]:
        error_of(await worker.get(route), 405, "method_not_allowed")


# What could not be recorded.


async def test_a_full_worker_asks_to_come_back_and_takes_more_when_there_is_room(site: Site) -> None:
    await put(site.world, a_job(1))
    other = await put(site.world, a_job(2))
    site.world.generator.gate = asyncio.Event()
    async with worker_over(site.world, concurrency=1) as worker:
        first = asyncio.create_task(worker.post("/process-generation", content=push_for(JOB)))
        await until(lambda: bool(site.world.generator.started))

        answer = await worker.post("/process-generation", content=push_for(other.id))
        error_of(answer, 503, "unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
        assert (await standing(site.world, other.id)).fence == 0
        assert (await worker.post("/sweep?seconds=0")).status_code == 200
        assert (await worker.get("/health")).status_code == 200

        site.world.generator.gate.set()
        assert (await first).status_code == 204
        assert (await worker.post("/process-generation", content=push_for(other.id))).status_code == 204


async def test_a_worker_that_is_about_to_stop_takes_nothing(site: Site) -> None:
    await put(site.world, a_job())
    stopping = asyncio.Event()
    async with worker_over(site.world, stopping=stopping) as worker:
        stopping.set()
        answer = await worker.post("/process-generation", content=push_for(JOB))
        error_of(answer, 503, "unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
        assert (await standing(site.world)).fence == 0


async def test_what_a_stopping_worker_holds_is_let_go_of_and_acknowledged(site: Site) -> None:
    await put(site.world, a_job())
    site.world.generator.gate, stopping = asyncio.Event(), asyncio.Event()
    async with worker_over(site.world, stopping=stopping, stop_grace_seconds=0) as worker:
        push = asyncio.create_task(worker.post("/process-generation", content=push_for(JOB)))
        await until(lambda: bool(site.world.generator.started))
        stopping.set()
        assert (await push).status_code == 204
    after = await standing(site.world)
    assert (after.lease, after.wake_at, after.attempts) == (None, NOON, 0)


async def test_without_the_store_a_push_and_a_sweep_ask_to_come_back(
    site: Site, worker: httpx.AsyncClient
) -> None:
    site.health.is_down = True
    for path in ("/process-generation", "/sweep?seconds=0"):
        answer = await worker.post(path, content=push_for(JOB))
        error_of(answer, 503, "unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
        assert "fire" not in answer.text


async def test_a_bug_is_a_500_in_the_one_shape_and_a_line_in_the_log(
    site: Site, worker: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(keys: Any, decide: Any) -> Records:
        raise BrokenInvariant("secret words")

    monkeypatch.setattr(site.health, "change", broken, raising=False)
    with log_lines() as lines:
        answer = await worker.post("/process-generation", content=push_for(JOB))
    error_of(answer, 500, "internal")
    assert "secret" not in answer.text
    assert [line["event"] for line in lines] == ["request.broken_invariant"]


# The sweep.


@both_stores
async def test_the_sweep_publishes_again_what_nobody_took(
    site: Site, ada: httpx.AsyncClient, worker: httpx.AsyncClient
) -> None:
    job = await submitted(ada)
    site.world.queue.hints.clear()  # the message is lost
    assert (await worker.post("/sweep?seconds=0")).json() == {"jobs": 0}

    site.world.clock.advance(seconds=10)
    assert (await worker.post("/sweep?seconds=0")).json() == {"jobs": 1}
    assert [hint.job_id for hint in site.world.queue.hints] == [job["id"]]
    assert (await worker.post("/sweep?seconds=0")).json() == {"jobs": 0}


@both_stores
async def test_the_sweep_ends_and_refunds_what_is_past_its_deadline(
    site: Site, ada: httpx.AsyncClient, worker: httpx.AsyncClient
) -> None:
    job = await submitted(ada)
    site.world.clock.advance(minutes=10)
    await worker.post("/sweep?seconds=0")
    after = (await ada.get(f"/v1/jobs/{job['id']}")).json()
    assert (after["status"], after["error"]["code"]) == ("failed", "timed_out")
    assert await site.balance() == 100


async def test_the_sweep_waits_for_what_is_due_soon_and_returns_when_nothing_is() -> None:
    clock = EagerClock()
    world = make_world(clock=clock)
    async with worker_over(world) as worker:
        assert (await worker.post("/sweep")).json() == {"jobs": 0}
        assert clock.now() == NOON

        await put(world, a_job())
        swept = (await worker.post("/sweep")).json()["jobs"]
        assert [hint.job_id for hint in world.queue.hints] == [JOB] * swept
        assert swept >= 1
        assert timedelta(seconds=10) <= clock.now() - NOON <= timedelta(seconds=50)


@pytest.mark.parametrize("seconds", ["-5", "0", "1000000", "9" * 300])
async def test_any_number_of_seconds_is_brought_into_bounds(worker: httpx.AsyncClient, seconds: str) -> None:
    assert (await worker.post(f"/sweep?seconds={seconds}")).json() == {"jobs": 0}


@pytest.mark.parametrize("seconds", ["soon", "", "1.5", "%00"])
async def test_other_seconds_are_refused(worker: httpx.AsyncClient, seconds: str) -> None:
    error_of(await worker.post(f"/sweep?seconds={seconds}"), 422, "invalid_request")


# Logs.


async def test_the_request_id_of_the_submit_stands_in_every_line_of_the_work(
    site: Site, ada: httpx.AsyncClient, worker: httpx.AsyncClient
) -> None:
    answer = await ada.post("/v1/generate", json=FOX, headers={"X-Request-Id": "req-of-ada"})
    [hint] = site.world.queue.hints
    with log_lines() as lines:
        push = push_for(answer.json()["id"], request_id=hint.request_id)
        pushed = await worker.post("/process-generation", content=push)

    assert pushed.status_code == 204
    assert {line["event"] for line in lines} >= {"job.claimed", "job.settled"}
    for line in lines:
        assert (line["request_id"], line["job_id"]) == ("req-of-ada", answer.json()["id"])


async def test_a_push_without_a_request_id_is_logged_under_its_own(
    site: Site, worker: httpx.AsyncClient
) -> None:
    await put(site.world, a_job())
    with log_lines() as lines:
        answer = await worker.post("/process-generation", content=push_for(JOB))
    stepped = [line for line in lines if line["event"] == "job.stepped"]
    assert [line["request_id"] for line in stepped] == [answer.headers["X-Request-Id"]]


async def test_one_line_for_the_claim_and_one_for_the_settlement_say_what_operators_ask(
    site: Site, ada: httpx.AsyncClient, worker: httpx.AsyncClient
) -> None:
    job = await submitted(ada, FOX | {"count": 3})
    site.world.clock.advance(seconds=2)
    with log_lines() as lines:
        await worker.post("/process-generation", content=push_for(job["id"]))

    [claimed] = [line for line in lines if line["event"] == "job.claimed"]
    [settled] = [line for line in lines if line["event"] == "job.settled"]
    for line in (claimed, settled):
        assert (line["job_id"], line["account_id"], line["attempt"]) == (job["id"], "ada", 1)
        assert line["seconds"] == 2
    assert claimed["fence"] == 1
    assert settled["fence"] > 1, "a settlement fences out whoever still works on the job"
    assert (settled["status"], settled["charged"], settled["refunded"]) == ("draft", 3, 0)


async def test_no_line_of_a_jobs_whole_life_holds_its_prompt(
    site: Site, ada: httpx.AsyncClient, worker: httpx.AsyncClient
) -> None:
    def refuses(order: Order) -> ContentRejected:
        return ContentRejected(f"not {order.request.prompt}", stage="prompt")

    secret = {"prompt": "XYZZY one", "metadata": {"note": "XYZZY two"}, "negative_prompt": "XYZZY three"}
    with log_lines() as lines:
        for ending in ("draft", "failed"):
            if ending == "failed":
                site.world.generator.starts.append(refuses)
            job = await submitted(ada, FOX | secret, key="XYZZY" if ending == "draft" else None)
            await worker.post("/process-generation", content=push_for(job["id"]))
            assert (await ada.get(f"/v1/jobs/{job['id']}")).json()["status"] == ending
            await ada.post(f"/v1/jobs/{job['id']}/publish")
            await ada.post(f"/v1/jobs/{job['id']}/retry")
            await ada.delete(f"/v1/jobs/{job['id']}")
            await worker.post(OTHER_ROUTE, content=push_for(f"{job['id']}:erasure", kind="erasure"))
        await ada.post("/v1/generate", json=FOX | secret | {"count": 9})
        site.world.clock.advance(days=31)
        await worker.post("/sweep?seconds=0")
    assert len(lines) > 10
    assert not [line for line in lines if "XYZZY" in repr(line)]
