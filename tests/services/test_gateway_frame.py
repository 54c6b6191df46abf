"""What every request gets: an id, limits, the one error shape, and honest answers when a part is down."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest

from services.api_gateway.routes import health
from services.errors import STATUS
from shared.domain.errors import BrokenInvariant, MediaForgeError, QueueUnavailable
from shared.ports.auth import Caller
from shared.wiring import Gateway
from tests.services.conftest import FOX, Site, error_of, log_lines, odd, submitted
from tests.support import until


def with_settings(gateway: Gateway, **settings: Any) -> Gateway:
    return replace(gateway, settings=gateway.settings.model_copy(update=settings))


# Request ids.


@pytest.mark.parametrize("request_id", ["abc", "a" * 128, "0a-B_c.d:e/f+g="])
async def test_a_sane_request_id_is_echoed_and_kept_with_the_job(
    site: Site, ada: httpx.AsyncClient, request_id: str
) -> None:
    answer = await ada.post("/v1/generate", json=FOX, headers={"X-Request-Id": request_id})
    assert answer.headers.get_list("X-Request-Id") == [request_id]
    assert [hint.request_id for hint in site.world.queue.hints] == [request_id]


@pytest.mark.parametrize("request_id", [b"", b"a" * 129, b"a b", b"a\nb: c", b"\xe9", b"<script>", b"\x00"])
async def test_an_insane_request_id_is_replaced(ada: httpx.AsyncClient, request_id: bytes) -> None:
    answer = await ada.get("/v1/nothing", headers=odd("X-Request-Id", request_id))
    made = error_of(answer, 404, "not_found")["request_id"]
    assert made.startswith("req_")
    assert made.encode() != request_id


async def test_every_request_without_an_id_gets_its_own(ada: httpx.AsyncClient) -> None:
    made = {(await ada.get("/health")).headers["X-Request-Id"] for _ in range(3)}
    assert len(made) == 3


async def test_every_answer_says_that_its_type_is_meant(nobody: httpx.AsyncClient) -> None:
    for path in ("/health", "/v1/nothing", "/", "/v1/jobs"):
        assert (await nobody.get(path)).headers["X-Content-Type-Options"] == "nosniff"


# Paths and methods.


@pytest.mark.parametrize(
    "path",
    [
        "/v1/nothing",
        "/nothing",
        "/v1",
        "/v2/jobs",
        "/%00",
        "/a%00b",
        "/" + "x" * 5_000,
        "/v1/jobs/a%2fb",
        "/v1/jobs/",
        "/v1/generate/",
    ],
)
async def test_a_path_that_leads_nowhere_is_not_found(ada: httpx.AsyncClient, path: str) -> None:
    for method in ("GET", "POST", "PUT", "DELETE", "PATCH"):
        error_of(await ada.request(method, path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/generate", "POST"),
        ("DELETE", "/v1/jobs", "GET"),
        ("PATCH", "/v1/jobs/job_00000000000000000000000001", "GET"),
        ("POST", "/v1/catalogue", "GET"),
        ("GET", "/v1/admin/grants", "POST"),
        ("POST", "/media/a", "GET"),
        ("BREW", "/v1/balance", "GET"),
        ("OPTIONS", "/v1/balance", "GET"),
    ],
)
async def test_a_method_that_a_path_does_not_know_is_not_allowed(
    ada: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    answer = await ada.request(method, path)
    error_of(answer, 405, "method_not_allowed")
    assert allowed in answer.headers["Allow"]


@pytest.mark.parametrize(
    "path",
    ["/../pyproject.toml", "/..%2f..%2fpyproject.toml", "/%2e%2e/%2e%2e/pyproject.toml", "//etc/passwd"],
)
async def test_no_trick_leads_out_of_the_consoles_folder(nobody: httpx.AsyncClient, path: str) -> None:
    error_of(await nobody.get(f"http://gateway{path}"), 404, "not_found")


async def test_the_console_is_a_page(nobody: httpx.AsyncClient) -> None:
    answer = await nobody.get("/")
    assert answer.headers["Content-Type"].startswith("text/html")


# Cross-origin calls.


async def test_a_browser_may_ask_before_it_posts_from_another_origin(nobody: httpx.AsyncClient) -> None:
    answer = await nobody.options(
        "/v1/generate",
        headers={
            "Origin": "https://app.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, content-type, idempotency-key, prefer",
        },
    )
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]


async def test_a_browser_may_read_answers_errors_and_the_headers_that_matter(
    ada: httpx.AsyncClient, nobody: httpx.AsyncClient
) -> None:
    origin = {"Origin": "https://app.example"}
    for answer in (
        await ada.get("/v1/balance", headers=origin),
        await nobody.get("/v1/balance", headers=origin),
    ):
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        exposed = answer.headers["Access-Control-Expose-Headers"]
        for name in ("Location", "X-Request-Id", "Idempotent-Replayed", "Retry-After"):
            assert name in exposed


async def test_where_origins_are_named_others_are_not_let_in(site: Site) -> None:
    gateway = with_settings(site.gateway, cors_origins="https://app.example, https://other.example")
    ada = await site.caller("ada", gateway=gateway)
    welcome = await ada.get("/v1/balance", headers={"Origin": "https://other.example"})
    stranger = await ada.get("/v1/balance", headers={"Origin": "https://evil.example"})
    assert welcome.headers["Access-Control-Allow-Origin"] == "https://other.example"
    assert "Access-Control-Allow-Origin" not in stranger.headers


# Limits.


async def test_a_body_over_the_limit_is_refused_by_what_it_says_of_itself(site: Site) -> None:
    ada = await site.caller("ada", gateway=with_settings(site.gateway, max_body_bytes=1_000))
    padded = FOX | {"metadata": {"note": "x" * 1_000}}
    error = error_of(await ada.post("/v1/generate", json=padded), 413, "too_large")
    assert "1000" in error["message"]
    await submitted(ada)


async def test_a_body_over_the_limit_that_does_not_say_so_is_refused_too(site: Site) -> None:
    ada = await site.caller("ada", gateway=with_settings(site.gateway, max_body_bytes=1_000))
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100:
            sent += 1
            yield b" " * 100

    answer = await ada.post("/v1/generate", content=endless(), headers={"Content-Type": "application/json"})
    error_of(answer, 413, "too_large")
    assert (await ada.get("/v1/jobs")).json()["data"] == []


async def test_the_default_limit_is_10_mb(ada: httpx.AsyncClient) -> None:
    body = b'{"kind": "image", "prompt": "' + b"x" * 10_000_000 + b'"}'
    answer = await ada.post("/v1/generate", content=body, headers={"Content-Type": "application/json"})
    error_of(answer, 413, "too_large")


async def test_a_full_gateway_asks_to_come_back_and_goes_on_when_there_is_room(site: Site) -> None:
    ada = await site.caller("ada", gateway=with_settings(site.gateway, max_requests=1))
    waiting = asyncio.create_task(ada.post("/v1/generate", json=FOX, headers={"Prefer": "wait=30"}))
    await until(lambda: bool(site.world.queue.hints))

    answer = await ada.post("/v1/generate", json=FOX)
    error_of(answer, 503, "unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    assert (await ada.get("/health")).status_code == 200

    await site.world.work.process(site.world.queue.hints[0].job_id)
    assert (await waiting).status_code == 200
    await submitted(ada)
    assert await site.balance() == 98


async def test_a_request_that_fails_leaves_its_place_free(site: Site) -> None:
    ada = await site.caller("ada", gateway=with_settings(site.gateway, max_requests=1))
    for _ in range(3):
        error_of(await ada.post("/v1/generate", json={}), 422, "invalid_request")
    await submitted(ada)


# Parts that do not answer.


@pytest.mark.parametrize(
    ("method", "path"),
    [
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
        ("GET", "/v1/feed"),
        ("POST", "/v1/admin/accounts"),
        ("GET", "/v1/admin/jobs"),
        ("GET", "/v1/admin/stats"),
        ("GET", "/v1/admin/audit"),
        ("PUT", "/v1/admin/accounts/rocket/members/ada"),
    ],
)
async def test_without_the_store_every_route_asks_to_come_back_in_words_of_its_own(
    site: Site, admin: httpx.AsyncClient, method: str, path: str
) -> None:
    site.health.is_down = True
    body = {"id": "rocket"} if path.endswith("accounts") else FOX
    answer = await admin.request(method, path, json=body if method == "POST" else None)
    error_of(answer, 503, "unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    assert "secret" not in answer.text
    assert "fire" not in answer.text


async def test_without_the_store_a_grant_and_an_api_key_ask_to_come_back(
    site: Site, admin: httpx.AsyncClient, nobody: httpx.AsyncClient
) -> None:
    site.health.is_down = True
    grant = {"account": "ada", "tokens": 5}
    error_of(await admin.post("/v1/admin/grants", json=grant), 503, "unavailable")
    key = {"Authorization": "Bearer mf_" + "0" * 64}
    error_of(await nobody.get("/v1/balance", headers=key), 503, "unavailable")


async def test_what_needs_no_store_is_answered_without_it(site: Site, nobody: httpx.AsyncClient) -> None:
    site.health.is_down = True
    assert (await nobody.get("/health")).json() == {"status": "ok"}
    assert (await nobody.get("/v1/catalogue")).status_code == 200


async def test_the_logs_say_what_the_answer_does_not(site: Site, ada: httpx.AsyncClient) -> None:
    site.health.is_down = True
    with log_lines() as lines:
        await ada.get("/v1/balance")
    assert [line["error"] for line in lines] == ["disk /secret/path/mediaforge.db is on fire"]


async def test_without_the_queue_a_job_is_still_taken_and_the_sweep_finds_it(
    site: Site, ada: httpx.AsyncClient
) -> None:
    site.world.queue.fails = QueueUnavailable("no more room")
    job = await submitted(ada)
    assert site.world.queue.hints == []

    site.world.queue.fails = None
    site.world.clock.advance(seconds=9)
    assert await site.sweep() == 0
    site.world.clock.advance(seconds=1)
    assert await site.sweep() == 1
    assert [hint.job_id for hint in site.world.queue.hints] == [job["id"]]
    await site.finish(job)
    assert (await ada.get(f"/v1/jobs/{job['id']}")).json()["status"] == "draft"


async def test_ready_names_the_part_that_does_not_answer(site: Site, nobody: httpx.AsyncClient) -> None:
    well = {"status": "ok", "parts": {"store": "ok", "queue": "ok"}}
    assert (await nobody.get("/ready")).json() == well

    site.health.is_down = True
    site.world.clock.advance(seconds=1)
    answer = await nobody.get("/ready")
    assert answer.status_code == 503
    assert answer.json() == {"status": "unavailable", "parts": {"store": "unavailable", "queue": "ok"}}
    assert answer.headers["Retry-After"] == "1"

    site.health.is_down = False
    site.world.queue.fails = QueueUnavailable("no more room")
    site.world.clock.advance(seconds=1)
    answer = await nobody.get("/ready")
    assert (answer.status_code, answer.json()["parts"]) == (503, {"store": "ok", "queue": "unavailable"})
    site.world.queue.fails = None
    site.world.clock.advance(seconds=1)
    assert (await nobody.get("/ready")).json() == well


async def test_many_who_ask_at_once_whether_it_is_ready_cost_one_look(
    site: Site, nobody: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    async def counted() -> None:
        nonlocal looks
        looks += 1

    monkeypatch.setattr(site.world.queue, "check", counted)
    site.world.clock.advance(seconds=1)
    await asyncio.gather(*(nobody.get("/ready") for _ in range(20)))
    assert looks == 1


async def test_who_waits_for_a_slow_look_is_answered_by_it(
    site: Site, nobody: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each of them looks in turn, and while a part hangs their number only grows."""
    looks = 0

    async def slow() -> None:
        nonlocal looks
        looks += 1
        await asyncio.sleep(0)  # for the others to come
        site.world.clock.advance(seconds=3)

    monkeypatch.setattr(site.world.queue, "check", slow)
    site.world.clock.advance(seconds=1)
    await asyncio.gather(*(nobody.get("/ready") for _ in range(20)))
    assert looks == 1


# What nobody foresaw.


class Broken:
    def __init__(self, error: Exception) -> None:
        self._error = error

    async def authenticate(self, token: str) -> Caller:
        raise self._error


@pytest.mark.parametrize("error", [RuntimeError("secret words"), BrokenInvariant("secret words")])
async def test_an_unforeseen_error_is_a_500_in_the_one_shape_that_tells_nothing(
    site: Site, error: Exception
) -> None:
    ada = await site.caller("ada", gateway=replace(site.gateway, authenticator=Broken(error)))
    headers = {"Origin": "https://app.example", "X-Request-Id": "req-of-ada"}
    with log_lines() as lines:
        answer = await ada.get("/v1/balance", headers=headers)

    assert error_of(answer, 500, "internal")["request_id"] == "req-of-ada"
    assert "secret" not in answer.text
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    [line] = [line for line in lines if line["log_level"] == "error"]
    assert line["exc_info"] is error


async def test_lost_time_is_bounded_when_a_part_hangs(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging:
        async def check(self) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(health, "CHECK_SECONDS", timedelta(milliseconds=10).total_seconds())
    app = replace(site.gateway.app, queue=Hanging())  # type: ignore[arg-type]
    nobody = await site.caller(None, gateway=replace(site.gateway, app=app))
    answer = await nobody.get("/ready")
    assert answer.json()["parts"] == {"store": "ok", "queue": "unavailable"}


def test_every_error_of_the_domain_has_a_status_of_its_own_or_of_its_base() -> None:
    leaves = [MediaForgeError]
    for error in leaves:
        leaves += error.__subclasses__()
    known = {error for error in leaves[1:] if error.__module__ == MediaForgeError.__module__}
    assert len(known) > 15
    for error in known:
        assert any(base in STATUS for base in error.__mro__), error
    assert set(STATUS) <= known
