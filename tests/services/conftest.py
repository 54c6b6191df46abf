"""Both services over ASGI, around a world that a test holds in its hands."""

import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import structlog
from fastapi import FastAPI
from structlog.testing import capture_logs

from services.api_gateway.main import create_app
from services.api_gateway.routes.health import Readiness
from shared.adapters.auth.tokens import ApiKeys, DevTokens
from shared.adapters.media.local_disk import LocalDisk
from shared.adapters.memory import MemoryStore
from shared.adapters.sql.sqlite import SqliteStore
from shared.domain.changes import account_key
from shared.domain.errors import StoreUnavailable
from shared.domain.ids import AccountId, JobId
from shared.domain.job import Job
from shared.ports.store import Interest, Store
from shared.settings import Settings
from shared.usecases.handlers import all_handlers
from shared.usecases.sweep import sweep
from shared.usecases.work import Work
from shared.wiring import Gateway
from tests.support import World, make_world

Json = dict[str, Any]

FOX: Final[Json] = {"kind": "image", "prompt": "a fox", "seed": 7}
FILM: Final[Json] = {"kind": "video", "prompt": "waves at night", "seed": 7}

both_stores = pytest.mark.parametrize("store", ["memory", "sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MEDIAFORGE_") or name == "PORT"]:
        monkeypatch.delenv(name)


@pytest.fixture
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Memory, unless a test asks for `both_stores`."""
    if getattr(request, "param", "memory") == "memory":
        yield MemoryStore()
        return
    async with SqliteStore.open(tmp_path / "mediaforge.db") as sqlite:
        yield sqlite


class Ailing:
    """A store that a test can take away."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.is_down = False
        self.cannot_watch = False

    def __getattr__(self, name: str) -> Any:
        if self.is_down:
            raise StoreUnavailable("disk /secret/path/mediaforge.db is on fire")
        return getattr(self._store, name)

    async def check(self) -> None:
        await self.__getattr__("check")()

    def watch(self, interest: Interest) -> AbstractAsyncContextManager[AsyncIterator[Job]]:
        if self.cannot_watch:
            raise StoreUnavailable("no more listeners")
        return self._store.watch(interest)


_USUAL: Final[list[FastAPI]] = []


def usual_app(gateway: Gateway) -> FastAPI:
    """The app with the usual settings. Built once: FastAPI takes longer for that than most tests take."""
    if not _USUAL:
        _USUAL.append(create_app(gateway))
    _USUAL[0].state.gateway = gateway
    _USUAL[0].state.readiness = Readiness(gateway.app)
    return _USUAL[0]


@dataclass(kw_only=True)
class Site:
    """A gateway, the world behind it, and callers of both."""

    world: World
    gateway: Gateway
    disk: LocalDisk
    health: Ailing
    stack: AsyncExitStack

    async def caller(self, user: str | None = "ada", *, gateway: Gateway | None = None) -> httpx.AsyncClient:
        """Somebody with a client of their own; nobody in particular without `user`."""
        app = create_app(gateway) if gateway else usual_app(self.gateway)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        client = httpx.AsyncClient(
            transport=transport,
            base_url="http://gateway",
            headers={"Authorization": f"Bearer dev-{user}"} if user else {},
        )
        return await self.stack.enter_async_context(client)

    async def finish(self, job: Json) -> None:
        """Let a worker look at the job."""
        await self.world.work.process(JobId(job["id"]))

    async def sweep(self) -> int:
        return await sweep(self.world.app, self.world.work)

    async def balance(self, account: str = "ada") -> int:
        key = account_key(AccountId(account))
        return (await self.world.store.load([key])).need(key).balance


@pytest.fixture
async def site(store: Store, tmp_path: Path) -> AsyncIterator[Site]:
    """User `ada` and everybody else begin with 100 tokens; jobs wait until a test delivers them."""
    health = Ailing(store)
    world = make_world(store=health)
    disk = LocalDisk(tmp_path / "media")
    app = replace(world.app, media=disk)
    world = replace(world, app=app, work=Work(app, all_handlers(app)))
    settings = Settings(home=tmp_path, public_url="http://gateway", max_requests=400)
    gateway = Gateway(
        app=app, settings=settings, authenticator=ApiKeys(health, DevTokens()), local_media=disk
    )
    async with AsyncExitStack() as stack:
        yield Site(world=world, gateway=gateway, disk=disk, health=health, stack=stack)


@pytest.fixture
async def ada(site: Site) -> httpx.AsyncClient:
    return await site.caller("ada")


@pytest.fixture
async def bob(site: Site) -> httpx.AsyncClient:
    return await site.caller("bob")


@pytest.fixture
async def admin(site: Site) -> httpx.AsyncClient:
    return await site.caller("admin")


@pytest.fixture
async def nobody(site: Site) -> httpx.AsyncClient:
    """A caller without a token."""
    return await site.caller(None)


ERROR_FIELDS: Final = {"code", "message", "param", "retryable", "request_id"}


def error_of(answer: httpx.Response, status: int, code: str) -> Json:
    """The one error of an answer, held to the one shape."""
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["Content-Type"] == "application/json"
    body = answer.json()
    assert body.keys() == {"error"}
    error: Json = body["error"]
    assert error["code"] == code
    assert error.keys() - {"needed", "available"} == ERROR_FIELDS
    assert error["message"]
    assert error["request_id"] == answer.headers["X-Request-Id"]
    assert error["retryable"] == (status == 503)
    assert "Traceback" not in answer.text
    return error


def odd(name: str, value: bytes) -> list[tuple[bytes, bytes]]:
    """A header that no decent client would send."""
    return [(name.encode(), value)]


async def submitted(caller: httpx.AsyncClient, body: Json = FOX, *, key: str | None = None) -> Json:
    headers = {"Idempotency-Key": key} if key else None
    answer = await caller.post("/v1/generate", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    job: Json = answer.json()
    return job


async def drafted(site: Site, caller: httpx.AsyncClient, body: Json = FOX) -> Json:
    """A job that has made its picture."""
    job = await submitted(caller, body)
    await site.finish(job)
    answer = await caller.get(f"/v1/jobs/{job['id']}")
    assert answer.json()["status"] == "draft"
    draft: Json = answer.json()
    return draft


@contextmanager
def log_lines() -> Iterator[list[Any]]:
    """What is logged meanwhile, with what is bound to the request, as dicts."""
    before = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG))
    try:
        with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
            yield lines
    finally:
        structlog.configure(wrapper_class=before)
