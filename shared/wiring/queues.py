"""Which queue `MEDIAFORGE_QUEUE` names."""

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final

import structlog

from shared.domain.errors import QueueUnavailable
from shared.ports.clock import Clock
from shared.ports.queue import Queue
from shared.settings import BadSettings, Settings
from shared.wiring.extras import needs_extra
from shared.wiring.secret import worker_secret

TASKS_EMULATOR: Final = "CLOUD_TASKS_EMULATOR_HOST"
"""The `host:port` of an emulator of Cloud Tasks; the client knows no variable of its own."""

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_queue(settings: Settings, clock: Clock) -> AsyncIterator[Queue]:
    """Raises `BadSettings` for a queue that cannot be opened, or that will never take anything."""
    async with AsyncExitStack() as stack:
        try:
            queue = await stack.enter_async_context(_queue_of(settings, clock))
            await _look_at(queue)
        except QueueUnavailable as error:
            raise BadSettings(f"MEDIAFORGE_QUEUE: {error.message}") from error
        yield queue


async def _look_at(queue: Queue) -> None:
    try:
        await queue.check()
    except QueueUnavailable as error:
        if not queue.delays:
            raise
        # A queue of Cloud Tasks that was idle for a month answers for minutes as if it did not exist.
        _log.warning("queue.not_ready", error=error.message)


def _queue_of(settings: Settings, clock: Clock) -> AbstractAsyncContextManager[Queue]:
    scheme, _, rest = settings.queue.partition("://")
    project, _, location = rest.partition("/")
    if settings.queue == "embedded://":
        from shared.adapters.queues.embedded import EmbeddedQueue

        return EmbeddedQueue.open(
            settings.push_url,
            worker_secret(settings),
            clock=clock,
            max_in_flight=settings.queue_in_flight,
            max_waiting=settings.queue_waiting,
        )
    if scheme == "pubsub" and project and not location:
        with needs_extra("MEDIAFORGE_QUEUE", "pubsub"):
            from shared.adapters.queues.pubsub import PubSubQueue
        return PubSubQueue.open(project)
    if scheme == "cloudtasks" and project and location:
        return _cloud_tasks(settings, project, location, clock)
    raise BadSettings(
        "MEDIAFORGE_QUEUE must be embedded://, pubsub://project or cloudtasks://project/location "
        f"(it is {settings.queue!r})"
    )


def _cloud_tasks(
    settings: Settings, project: str, location: str, clock: Clock
) -> AbstractAsyncContextManager[Queue]:
    with needs_extra("MEDIAFORGE_QUEUE", "cloudtasks"):
        from shared.adapters.queues.cloud_tasks import CloudTasksQueue
    emulator = os.environ.get(TASKS_EMULATOR)
    return CloudTasksQueue.open(
        project,
        location,
        worker_url=settings.push_url,
        clock=clock,
        # The first of each: others are those of the scheduler.
        service_account=next(iter(settings.push_service_accounts), ""),
        audience=next(iter(settings.push_audiences), ""),
        secret=worker_secret(settings) if emulator else "",
        emulator=emulator,
    )
