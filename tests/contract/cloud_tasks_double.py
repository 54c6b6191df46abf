"""Cloud Tasks as a real gRPC server on this machine, which really sends HTTP, by a clock that a test moves.

It keeps what the documentation says of tasks, queues and retries; it knows no token bucket.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

import grpc  # type: ignore[import-untyped]
import httpx
from google.cloud.tasks_v2 import (
    CreateQueueRequest,
    CreateTaskRequest,
    GetQueueRequest,
    HttpMethod,
    Queue,
    Task,
    UpdateQueueRequest,
)
from google.iam.v1.iam_policy_pb2 import (  # type: ignore[import-untyped]
    TestIamPermissionsRequest,
    TestIamPermissionsResponse,
)

from tests.support import ManualClock

SERVICE: Final = "google.cloud.tasks.v2.CloudTasks"
Handler = Callable[[Any, Any], Awaitable[Any]]


class CloudTasksDouble:
    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._client = httpx.AsyncClient(trust_env=False, timeout=60)
        self._running: set[asyncio.Task[None]] = set()
        self._slots: dict[str, asyncio.Semaphore] = {}
        self.queues: dict[str, Queue] = {}
        self.asked: list[Task] = []
        """As they came, also those that were refused."""
        self.created: list[Task] = []
        self.gone: list[Task] = []
        """Tasks that were refused too often."""
        self.fails: list[grpc.StatusCode] = []
        """What the next calls for a new task are answered with, one each."""
        self.calls = 0
        """For a new task, also those that failed."""
        self.before_create: Callable[[], Awaitable[None]] | None = None
        self.knows_permissions = True
        self.granted = {"cloudtasks.tasks.create"}

    @classmethod
    @asynccontextmanager
    async def serving(
        cls, clock: ManualClock, at: str = "127.0.0.1:0"
    ) -> AsyncIterator[tuple["CloudTasksDouble", str]]:
        """The double, and the `host:port` of it."""
        double, server = cls(clock), grpc.aio.server()
        server.add_generic_rpc_handlers((double._handlers(),))
        port = server.add_insecure_port(at)
        await server.start()
        try:
            yield double, f"127.0.0.1:{port}"
        finally:
            await server.stop(None)
            for running in double._running:
                running.cancel()
            await asyncio.gather(*double._running, return_exceptions=True)
            await double._client.aclose()

    def _handlers(self) -> Any:
        def method(handler: Handler, request: Any, answer: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(
                handler, request_deserializer=request.deserialize, response_serializer=answer.serialize
            )

        test_iam = grpc.unary_unary_rpc_method_handler(
            self._test_iam_permissions,
            request_deserializer=TestIamPermissionsRequest.FromString,
            response_serializer=TestIamPermissionsResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "CreateTask": method(self._create_task, CreateTaskRequest, Task),
                "GetQueue": method(self._get_queue, GetQueueRequest, Queue),
                "CreateQueue": method(self._create_queue, CreateQueueRequest, Queue),
                "UpdateQueue": method(self._update_queue, UpdateQueueRequest, Queue),
                "TestIamPermissions": test_iam,
            },
        )

    async def _create_task(self, request: CreateTaskRequest, context: Any) -> Task:
        self.calls += 1
        if self.before_create is not None:
            await self.before_create()
        if self.fails:
            await context.abort(self.fails.pop(0), "as the test wants it")
        if request.parent not in self.queues:
            await context.abort(grpc.StatusCode.NOT_FOUND, "Queue does not exist.")
        self.asked.append(Task(request.task))
        task = Task(request.task)
        problem = self._problem(task)
        if problem:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, problem)
        task.name = task.name or f"{request.parent}/tasks/{len(self.created) + 1}"
        self.created.append(task)
        running = asyncio.create_task(self._dispatch(task, request.parent), name=task.name)
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        return task

    def _problem(self, task: Task) -> str:
        if task.http_request.http_method != HttpMethod.POST or not task.http_request.url:
            return "The task has no target."
        if not timedelta(seconds=15) <= task.dispatch_deadline <= timedelta(minutes=30):
            return "Task.dispatchDeadline must be between [15s, 30m]."
        if task.schedule_time and task.schedule_time > self._clock.now() + timedelta(days=30):
            return "Task.scheduleTime is too far in the future."
        return ""

    async def _dispatch(self, task: Task, queue_name: str) -> None:
        started = self._clock.now()
        if task.schedule_time:
            await self._clock.sleep((task.schedule_time - started).total_seconds())
        first, attempts = self._clock.now(), 0
        pause = self.queues[queue_name].retry_config.min_backoff
        while True:
            async with self._slots[queue_name]:
                accepted = await self._post(task, queue_name, attempts)
            attempts += 1
            if accepted:
                return
            retry = self.queues[queue_name].retry_config
            if attempts >= retry.max_attempts and self._clock.now() - first >= retry.max_retry_duration:
                self.gone.append(task)
                return
            await self._clock.sleep(pause.total_seconds())
            pause = min(pause * 2, retry.max_backoff)

    async def _post(self, task: Task, queue_name: str, retries: int) -> bool:
        request = task.http_request
        headers = {
            **request.headers,
            "User-Agent": "Google-Cloud-Tasks",
            "X-CloudTasks-QueueName": queue_name.rpartition("/")[2],
            "X-CloudTasks-TaskRetryCount": str(retries),
        }
        if "oidc_token" in request:
            claims = {"email": request.oidc_token.service_account_email, "aud": request.oidc_token.audience}
            token = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()
            headers["Authorization"] = f"Bearer unsigned.{token}."
        try:
            answer = await self._client.post(request.url, content=request.body, headers=headers)
        except httpx.HTTPError:
            return False
        return answer.is_success

    async def _get_queue(self, request: GetQueueRequest, context: Any) -> Queue:
        if request.name not in self.queues:
            await context.abort(grpc.StatusCode.NOT_FOUND, "Queue does not exist.")
        return self.queues[request.name]

    async def _create_queue(self, request: CreateQueueRequest, context: Any) -> Queue:
        if request.queue.name in self.queues:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, "Queue already exists")
        return self.put(request.queue)

    async def _update_queue(self, request: UpdateQueueRequest, context: Any) -> Queue:
        if set(request.update_mask.paths) != {"rate_limits", "retry_config"}:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "only rates and retries in this double")
        return self.put(request.queue)

    def put(self, queue: Queue) -> Queue:
        self.queues[queue.name] = queue
        self._slots[queue.name] = asyncio.Semaphore(queue.rate_limits.max_concurrent_dispatches)
        return queue

    async def _test_iam_permissions(self, request: Any, context: Any) -> Any:
        """Of a queue that does not exist nobody may do anything."""
        if not self.knows_permissions:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not here")
        granted = self.granted if request.resource in self.queues else set()
        return TestIamPermissionsResponse(permissions=sorted(granted & set(request.permissions)))
