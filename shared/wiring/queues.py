"""Which queue `MEDIAFORGE_QUEUE` names."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.ports.clock import Clock
from shared.ports.queue import Queue
from shared.settings import BadSettings, Settings
from shared.wiring.secret import worker_secret


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
