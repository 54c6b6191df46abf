"""The real worker app behind a real address, over a world that a test holds in its hands."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from services.worker.main import create_app
from shared.ports.auth import PushVerifier
from shared.ports.queue import Queue
from shared.settings import Settings
from shared.usecases.handlers import all_handlers
from shared.usecases.work import Work
from shared.wiring import Worker
from tests.contract.pushed import served
from tests.support import World


def worker_app(world: World, *, verifier: PushVerifier) -> Any:
    worker = Worker(app=world.app, work=world.work, settings=Settings(), verifier=verifier)
    return create_app(worker)


@asynccontextmanager
async def a_real_worker(world: World, *, verifier: PushVerifier) -> AsyncIterator[str]:
    """Its address."""
    async with served(worker_app(world, verifier=verifier)) as url:
        yield url


def publishing_to(queue: Queue, world: World) -> World:
    """The world, whose use cases publish to a real queue."""
    app = replace(world.app, queue=queue)
    return replace(world, app=app, work=Work(app, all_handlers(app)))
