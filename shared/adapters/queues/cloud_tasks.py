"""The queue on Google Cloud for those who want to control the rate of dispatch: Cloud Tasks.

A task is the same push to the same route of the worker as Pub/Sub would send. Rates and retries are set on
the queues, and so is the host of a worker of its own (`http_target.uri_override`). There is no dead-letter
queue: a task that is refused too often is gone, and the sweep publishes its job again.

The service account needs `roles/cloudtasks.enqueuer` on the queues, and `roles/iam.serviceAccountUser` on
the account that the tasks are sent as.
"""

import asyncio
import re
import uuid
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Final

from google.cloud.tasks_v2 import CloudTasksAsyncClient, HttpMethod, HttpRequest, OidcToken, Task
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport

from shared.adapters.queues._google import (
    PATIENCE_SECONDS,
    all_of,
    by_topic,
    explained,
    limits,
    opening,
    plain_channel,
    require_permission,
    require_project,
)
from shared.domain.errors import QueueUnavailable
from shared.envelope import TOPIC_ROUTES, enveloped
from shared.ports.clock import Clock
from shared.ports.queue import Hint

DISPATCH_DEADLINE: Final = timedelta(seconds=600)
"""Longer than Cloud Run lets a request take, as the acknowledgement deadline of a push is."""
LONGEST_DELAY: Final = timedelta(days=30) - timedelta(hours=1)
"""Cloud Tasks refuses a task for more than 30 days ahead, by its own clock."""
CREATES_AT_ONCE: Final = 32
"""Calls under way per queue: each task is a call of its own."""
CALLS_OF_PATIENCE: Final = 3
"""How much longer than one call all calls of a publish may be tried."""
MAY_CREATE: Final = "cloudtasks.tasks.create"

_LOCATION = re.compile(r"[a-z]+-[a-z]+[0-9]+")


class CloudTasksQueue:
    delays = True

    def __init__(
        self,
        client: CloudTasksAsyncClient,
        parent: str,
        request: HttpRequest,
        worker_url: str,
        *,
        clock: Clock,
        patience_seconds: float,
    ) -> None:
        self._client = client
        self._parent = parent
        self._request = request
        self._worker_url = worker_url
        self._clock = clock
        self._limits = limits(patience_seconds)
        self._publish_seconds = patience_seconds * CALLS_OF_PATIENCE

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        project: str,
        location: str,
        *,
        worker_url: str,
        clock: Clock,
        service_account: str = "",
        audience: str = "",
        secret: str = "",
        emulator: str | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> AsyncIterator["CloudTasksQueue"]:
        """Tasks show the worker an OIDC token of `service_account` for `audience`, by default its address.

        Without an account they show the `secret`, which fits an `emulator` (its `host:port`, spoken to in
        plain and without credentials). Raises `QueueUnavailable` for what cannot be, or without
        credentials; whether there are queues, `check` finds out.
        """
        require_project(project)
        if not _LOCATION.fullmatch(location):
            raise QueueUnavailable(f"{location!r} is not a location, such as europe-west1")
        worker_url = worker_url.rstrip("/")
        if not worker_url.startswith(("https://", "http://") if emulator else "https://"):
            raise QueueUnavailable(f"tasks need the worker's https:// address (it is {worker_url!r})")
        request = HttpRequest(http_method=HttpMethod.POST, headers={"Content-Type": "application/json"})
        if service_account:
            request.oidc_token = OidcToken(
                service_account_email=service_account, audience=audience or worker_url
            )
        elif secret and emulator:
            request.headers["Authorization"] = f"Bearer {secret}"
        else:
            raise QueueUnavailable("tasks need a service account, whose token they show to the worker")
        with opening("Cloud Tasks"):
            client = client_of(emulator)
        async with client:
            parent = f"projects/{project}/locations/{location}/queues"
            yield cls(client, parent, request, worker_url, clock=clock, patience_seconds=patience_seconds)

    async def publish(self, hints: Sequence[Hint]) -> None:
        try:
            async with asyncio.timeout(self._publish_seconds):
                await all_of(self._fill(queue, of_queue) for queue, of_queue in by_topic(hints).items())
        except TimeoutError as error:
            raise QueueUnavailable(
                f"{len(hints)} tasks were not all taken in {self._publish_seconds:g} s"
            ) from error

    async def check(self) -> None:
        await all_of(self._check(queue) for queue in TOPIC_ROUTES)

    async def _fill(self, queue: str, hints: Sequence[Hint]) -> None:
        waiting = deque(hints)

        async def run() -> None:
            """Ends with its first failure: a queue that takes nothing is asked once by each."""
            while waiting:
                await self._create(queue, waiting.popleft())

        await all_of(run() for _ in range(min(CREATES_AT_ONCE, len(hints))))

    async def _create(self, queue: str, hint: Hint) -> None:
        path = self._path(queue)
        with explained(f"queue {path}"):
            await self._client.create_task(parent=path, task=self._task(path, queue, hint), **self._limits)

    def _task(self, path: str, queue: str, hint: Hint) -> Task:
        """Without a name: Cloud Tasks would refuse the name of a job's last task for a day."""
        request = HttpRequest(self._request)
        request.url = f"{self._worker_url}{TOPIC_ROUTES[queue]}"
        request.body = enveloped(hint, message_id=str(uuid.uuid4()), subscription=path)
        task = Task(http_request=request, dispatch_deadline=DISPATCH_DEADLINE)
        now = self._clock.now()
        if hint.not_before is not None and hint.not_before > now:
            task.schedule_time = min(hint.not_before, now + LONGEST_DELAY)
        return task

    async def _check(self, queue: str) -> None:
        path = self._path(queue)
        look = partial(self._client.get_queue, name=path)
        await require_permission(
            "queue", path, MAY_CREATE, client=self._client, look=look, calls=self._limits
        )

    def _path(self, queue: str) -> str:
        return f"{self._parent}/{queue}"


def client_of(emulator: str | None) -> CloudTasksAsyncClient:
    """For Google with the credentials of this process, or for an emulator at `host:port`."""
    if emulator is None:
        return CloudTasksAsyncClient()
    transport = CloudTasksGrpcAsyncIOTransport(channel=plain_channel(emulator))
    return CloudTasksAsyncClient(transport=transport)
