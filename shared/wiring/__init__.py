"""The one package that knows both the ports and their adapters: settings become parts.

Adapters are imported where they are chosen, so that a process loads only what it uses.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.adapters.clock import SystemClock, system_noise
from shared.catalogue import BadCatalogue, load_catalogue
from shared.domain.catalogue import Catalogue
from shared.domain.policy import Policy
from shared.ports.auth import Authenticator, PushVerifier
from shared.ports.media import Presigner
from shared.settings import BadSettings, Settings
from shared.usecases.app import App, WorkerApp
from shared.usecases.handlers import all_handlers
from shared.usecases.work import Work
from shared.wiring.callers import open_authenticator, open_verifier
from shared.wiring.generators import open_generators
from shared.wiring.media import local_disk_of, open_media, presigner_of
from shared.wiring.queues import open_queue
from shared.wiring.stores import open_store, sqlite_path

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
    presigner: Presigner | None = None
    """Set where it sends those who ask for media to a bucket that is not public."""


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
            authenticator=await stack.enter_async_context(open_authenticator(settings, store, clock)),
            local_media=local_disk_of(settings),
            presigner=presigner_of(settings, clock),
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
            media=await stack.enter_async_context(open_media(settings)),
            inspector=inspector,
            generators=await stack.enter_async_context(open_generators(settings, catalogue, clock)),
            stop_grace_seconds=settings.shutdown_grace_seconds,
        )
        yield Worker(
            app=app,
            work=Work(app, all_handlers(app)),
            settings=settings,
            verifier=await stack.enter_async_context(open_verifier(settings, clock)),
        )


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
