"""The one module that knows both the ports and their adapters.

Adapters are imported where they are chosen, so that a process loads only what it uses.
"""

import os
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from shared.adapters.clock import SystemClock, system_noise
from shared.catalogue import BadCatalogue, load_catalogue
from shared.domain.catalogue import Catalogue
from shared.domain.errors import MediaUnavailable, StoreUnavailable
from shared.domain.policy import Policy
from shared.ports.auth import Authenticator, PushVerifier
from shared.ports.clock import Clock
from shared.ports.generator import Generator
from shared.ports.media import MediaStore
from shared.ports.queue import Queue
from shared.ports.store import Store
from shared.settings import BadSettings, Settings
from shared.usecases.app import App, WorkerApp
from shared.usecases.handlers import all_handlers
from shared.usecases.work import Work

if TYPE_CHECKING:
    from shared.adapters.media.local_disk import LocalDisk


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """What the gateway serves from."""

    app: App
    settings: Settings
    authenticator: Authenticator
    local_media: "LocalDisk | None"
    """Set where the gateway itself serves the media."""


@dataclass(frozen=True, kw_only=True)
class Worker:
    app: WorkerApp
    work: Work
    settings: Settings
    verifier: PushVerifier


@asynccontextmanager
async def open_gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """Open what the gateway needs; close it in reverse, whatever happens. Raises `BadSettings`."""
    async with AsyncExitStack() as stack:
        clock = SystemClock()
        store = await stack.enter_async_context(open_store(settings))
        app = App(
            store=store,
            queue=await stack.enter_async_context(open_queue(settings, clock)),
            catalogue=catalogue_of(settings),
            policy=policy_of(settings),
            clock=clock,
            noise=system_noise,
            signup_tokens=settings.tokens_at_signup,
        )
        yield Gateway(
            app=app,
            settings=settings,
            authenticator=authenticator_of(settings, store),
            local_media=local_disk_of(settings),
        )


@asynccontextmanager
async def open_operations(settings: Settings) -> AsyncIterator[App]:
    """What operators' commands need: the store, and no worker to send anything to. Raises `BadSettings`."""
    from shared.adapters.queues.none import NoQueue

    path = sqlite_path(settings)
    if path is not None and not path.exists():
        raise BadSettings(f"there is no store at {path}; is MEDIAFORGE_HOME or MEDIAFORGE_STORE right?")
    async with open_store(settings) as store:
        yield App(
            store=store,
            queue=NoQueue(),
            catalogue=catalogue_of(settings),
            policy=policy_of(settings),
            clock=SystemClock(),
            noise=system_noise,
            signup_tokens=settings.tokens_at_signup,
        )


@asynccontextmanager
async def open_worker(settings: Settings) -> AsyncIterator[Worker]:
    """Open what the worker needs; close it in reverse, whatever happens. Raises `BadSettings`."""
    from shared.adapters.auth.shared_secret import SharedSecret
    from shared.adapters.media.inspector import PillowInspector

    async with AsyncExitStack() as stack:
        clock = SystemClock()
        inspector = PillowInspector()
        stack.callback(inspector.close)
        catalogue = catalogue_of(settings)
        app = WorkerApp(
            store=await stack.enter_async_context(open_store(settings)),
            queue=await stack.enter_async_context(open_queue(settings, clock)),
            catalogue=catalogue,
            policy=policy_of(settings),
            clock=clock,
            noise=system_noise,
            signup_tokens=settings.tokens_at_signup,
            media=await open_media(settings),
            inspector=inspector,
            generators=await stack.enter_async_context(open_generators(settings, catalogue, clock)),
            stop_grace_seconds=settings.shutdown_grace_seconds,
        )
        yield Worker(
            app=app,
            work=Work(app, all_handlers(app)),
            settings=settings,
            verifier=SharedSecret(worker_secret(settings)),
        )


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[Store]:
    if settings.store_url.startswith("memory://"):
        from shared.adapters.memory import MemoryStore

        yield MemoryStore()
        return
    async with AsyncExitStack() as stack:
        try:
            store = await stack.enter_async_context(_database_of(settings))
            await store.check()
        except StoreUnavailable as error:
            raise BadSettings(f"MEDIAFORGE_STORE: {error.message}") from error
        yield store


def _database_of(settings: Settings) -> AbstractAsyncContextManager[Store]:
    url, path = settings.store_url, sqlite_path(settings)
    if url.startswith("postgresql://"):
        try:
            from shared.adapters.sql.postgres import PostgresStore
        except ModuleNotFoundError as error:
            raise BadSettings(
                f"MEDIAFORGE_STORE: there is no {error.name} here; pip install 'mediaforge[postgres]'"
            ) from error
        return PostgresStore.open(url)
    if path is not None and url != "sqlite:///":
        from shared.adapters.sql.sqlite import SqliteStore

        return SqliteStore.open(path)
    # Not the whole of it: an address may hold a password.
    raise BadSettings(
        "MEDIAFORGE_STORE must be sqlite:///path, postgresql://user:password@host/database or memory:// "
        f"(its scheme is {url.partition(':')[0]!r})"
    )


def sqlite_path(settings: Settings) -> Path | None:
    """The store's file: `sqlite:///relative` or `sqlite:////absolute`."""
    prefix = "sqlite:///"
    return Path(settings.store_url.removeprefix(prefix)) if settings.store_url.startswith(prefix) else None


@asynccontextmanager
async def open_queue(settings: Settings, clock: Clock) -> AsyncIterator[Queue]:
    if settings.queue != "embedded://":
        raise BadSettings(f"MEDIAFORGE_QUEUE must be embedded:// (it is {settings.queue!r})")
    from shared.adapters.queues.embedded import EmbeddedQueue

    async with EmbeddedQueue.open(
        settings.push_url,
        worker_secret(settings),
        clock=clock,
        max_in_flight=settings.queue_in_flight,
        max_waiting=settings.queue_waiting,
    ) as queue:
        yield queue


async def open_media(settings: Settings) -> MediaStore:
    disk = local_disk_of(settings)
    if disk is None:
        raise BadSettings(f"MEDIAFORGE_MEDIA must be file:///absolute/folder (it is {settings.media!r})")
    try:
        await disk.check()
    except MediaUnavailable as error:
        raise BadSettings(f"MEDIAFORGE_MEDIA: {error.message}") from error
    return disk


def local_disk_of(settings: Settings) -> "LocalDisk | None":
    if not settings.media_url.startswith("file:///"):
        return None
    from shared.adapters.media.local_disk import LocalDisk

    return LocalDisk(Path(settings.media_url.removeprefix("file://")))


@asynccontextmanager
async def open_generators(
    settings: Settings, catalogue: Catalogue, clock: Clock
) -> AsyncIterator[Mapping[str, Generator]]:
    """The generators that the catalogue names, by their names there."""
    async with AsyncExitStack() as stack:
        generators: dict[str, Generator] = {}
        for name in {model.generator for model in catalogue.models.values()}:
            if name != "local":
                raise BadSettings(f"MEDIAFORGE_CATALOGUE: there is no generator {name}")
            from shared.adapters.generators.local_renderer import LocalRenderer

            renderer = LocalRenderer(
                settings.home,
                clock=clock,
                noise=system_noise,
                latency_seconds=settings.local_latency_seconds,
                failure_rate=settings.local_failure_rate,
                operations_file=settings.local_operations,
            )
            generators[name] = await stack.enter_async_context(renderer)
        yield generators


def authenticator_of(settings: Settings, store: Store) -> Authenticator:
    from shared.adapters.auth.tokens import ApiKeys, DevTokens, NoTokens

    return ApiKeys(store, others=DevTokens() if settings.auth == "dev" else NoTokens())


def catalogue_of(settings: Settings) -> Catalogue:
    try:
        return load_catalogue(settings.catalogue)
    except BadCatalogue as error:
        raise BadSettings(f"MEDIAFORGE_CATALOGUE: {error}") from error


def policy_of(settings: Settings) -> Policy:
    return Policy(
        lease=timedelta(seconds=settings.lease_seconds),
        lease_margin=timedelta(seconds=settings.lease_margin_seconds),
        publish_grace=timedelta(seconds=settings.publish_grace_seconds),
        max_attempts=settings.max_attempts,
    )


def worker_secret(settings: Settings) -> str:
    """What the queue and the scheduler show to the worker; made once and kept where only its owner reads."""
    given = settings.worker_secret.get_secret_value()
    if given:
        return given
    path = settings.home / "worker-secret"
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".worker-secret-{secrets.token_hex(8)}")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
        try:
            os.link(temporary, path)  # whoever comes first makes it
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
        secret = path.read_text().strip()
    except OSError as error:
        raise BadSettings(
            f"MEDIAFORGE_HOME: cannot keep the worker's secret in {path}: {error.strerror}"
        ) from error
    if not secret:
        raise BadSettings(f"{path} is empty; remove it and start again")
    return secret
