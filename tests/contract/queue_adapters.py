"""The queues that must keep the contract, each with what it needs to deliver to a worker on this machine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Final, Protocol

import httpx
from google.cloud.tasks_v2 import CloudTasksAsyncClient

from services.local import cloud_tasks_setup, pubsub_setup
from shared.adapters.queues.cloud_tasks import CloudTasksQueue, client_of
from shared.adapters.queues.embedded import EmbeddedQueue
from shared.adapters.queues.pubsub import PubSubQueue
from shared.ports.queue import Queue
from tests.contract.cloud_tasks_double import CloudTasksDouble
from tests.contract.pushed import PushedWorker, rest, served
from tests.emulators import a_project
from tests.support import ManualClock

LOCATION: Final = "europe-west1"
ACCOUNT: Final = "push@demo-project.iam.gserviceaccount.com"


class QueueAdapter(Protocol):
    def open(
        self, worker: PushedWorker, clock: ManualClock, *, takes_hints: bool = True
    ) -> AbstractAsyncContextManager[Queue]:
        """Open the queue with everything behind it; or with nothing that would take a hint."""

    async def calm(self) -> None:
        """Wait long enough for whatever would still be pushed."""


class Embedded:
    def open(
        self, worker: PushedWorker, clock: ManualClock, *, takes_hints: bool = True
    ) -> AbstractAsyncContextManager[Queue]:
        return EmbeddedQueue.open(
            "http://worker",
            "the-secret",
            clock=clock,
            max_in_flight=4,
            max_waiting=100 if takes_hints else 0,
            transport=httpx.ASGITransport(worker),
        )

    async def calm(self) -> None:
        await rest()


class PubSub:
    def __init__(self, emulator: str) -> None:
        self.emulator = emulator

    @asynccontextmanager
    async def open(
        self, worker: PushedWorker, clock: ManualClock, *, takes_hints: bool = True
    ) -> AsyncIterator[Queue]:
        project = a_project()
        async with AsyncExitStack() as stack:
            url = await stack.enter_async_context(served(worker))
            if takes_hints:
                await pubsub_setup.set_up(project, worker_url=url, backoff=None)
            yield await stack.enter_async_context(PubSubQueue.open(project))

    async def calm(self) -> None:
        """The emulator has no clock to move: longer than it takes to push again."""
        await asyncio.sleep(1.3)


class CloudTasks:
    @asynccontextmanager
    async def open(
        self, worker: PushedWorker, clock: ManualClock, *, takes_hints: bool = True
    ) -> AsyncIterator[Queue]:
        async with served(worker) as url, CloudTasksDouble.serving(clock) as (_, address):
            if takes_hints:
                await queues_at(address)
            async with tasks_queue(address, clock, worker_url=url) as queue:
                yield queue

    async def calm(self) -> None:
        await asyncio.sleep(0.1)


@asynccontextmanager
async def tasks_queue(address: str, clock: ManualClock, **given: Any) -> AsyncIterator[CloudTasksQueue]:
    sender = {} if "secret" in given else {"service_account": ACCOUNT, "audience": "the-worker"}
    settings: dict[str, Any] = {"worker_url": "http://127.0.0.1:9"} | sender | given
    async with CloudTasksQueue.open(
        "demo-project", LOCATION, clock=clock, emulator=address, **settings
    ) as queue:
        yield queue


async def queues_at(address: str) -> None:
    client: CloudTasksAsyncClient
    async with client_of(address) as client:
        await cloud_tasks_setup.set_up(client, "demo-project", LOCATION)
