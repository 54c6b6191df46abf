"""The queue of one machine: kept in this process, delivered over HTTP to the worker.

It may forget everything at any time, for hints can be lost. Each route to the worker is a lane with its
own deliveries in flight, so that long videos do not hold up images.
"""

import asyncio
import contextvars
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import httpx
import structlog

from shared.domain.errors import QueueUnavailable
from shared.domain.ids import JobId
from shared.envelope import enveloped, route_for
from shared.ports.clock import Clock
from shared.ports.queue import Hint

MAX_DELIVERY_ATTEMPTS: Final = 5
"""As a push subscription with a dead-letter topic; after that the sweep has to publish it again."""
DELIVERY_TIMEOUT_SECONDS: Final = 600.0
FIRST_BACKOFF_SECONDS: Final = 0.2
LONGEST_BACKOFF_SECONDS: Final = 10.0

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Lane:
    waiting: dict[JobId, Hint] = field(default_factory=dict)
    """In order of arrival; a second hint for a job that waits anyway adds nothing."""
    runners: set[asyncio.Task[None]] = field(default_factory=set)


class EmbeddedQueue:
    delays = False

    def __init__(
        self, client: httpx.AsyncClient, *, clock: Clock, max_in_flight: int, max_waiting: int
    ) -> None:
        self._client = client
        self._clock = clock
        self._max_in_flight = max_in_flight
        self._max_waiting = max_waiting
        self._lanes: dict[str, _Lane] = {}

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        worker_url: str,
        secret: str,
        *,
        clock: Clock,
        max_in_flight: int,
        max_waiting: int,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> AsyncIterator["EmbeddedQueue"]:
        """`max_in_flight` deliveries at once per lane; `max_waiting` hints in a lane before it is full."""
        async with httpx.AsyncClient(
            base_url=worker_url,
            headers={"Authorization": f"Bearer {secret}", "Content-Type": "application/json"},
            timeout=httpx.Timeout(DELIVERY_TIMEOUT_SECONDS, connect=5.0, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=max_in_flight),
            transport=transport,
            trust_env=False,
        ) as client:
            queue = cls(client, clock=clock, max_in_flight=max_in_flight, max_waiting=max_waiting)
            try:
                yield queue
            finally:
                await queue._stop()

    async def publish(self, hints: Sequence[Hint]) -> None:
        for hint in hints:
            route = route_for(hint.kind)
            lane = self._lanes.setdefault(route, _Lane())
            if hint.job_id not in lane.waiting and len(lane.waiting) >= self._max_waiting:
                raise QueueUnavailable(f"{len(lane.waiting)} hints wait for {route} already")
            lane.waiting[hint.job_id] = hint
            if len(lane.runners) < self._max_in_flight:
                # In a context of its own: what a request has bound for its logs is not about other hints.
                runner = asyncio.create_task(
                    self._run(route, lane), name=f"deliver {route}", context=contextvars.Context()
                )
                lane.runners.add(runner)
                runner.add_done_callback(lane.runners.discard)

    async def check(self) -> None:
        full = [route for route, lane in self._lanes.items() if len(lane.waiting) >= self._max_waiting]
        if full:
            raise QueueUnavailable(f"no more room for {', '.join(full)}")

    async def _run(self, route: str, lane: _Lane) -> None:
        while lane.waiting:
            await self._deliver(route, lane.waiting.pop(next(iter(lane.waiting))))

    async def _deliver(self, route: str, hint: Hint) -> None:
        message_id = str(uuid.uuid4())
        pause = FIRST_BACKOFF_SECONDS
        for attempt in range(1, MAX_DELIVERY_ATTEMPTS + 1):
            body = enveloped(hint, message_id=message_id, subscription=f"embedded{route}", attempt=attempt)
            problem, asked_for = await self._push(route, body)
            if problem is None:
                return
            _log.info("queue.refused", job_id=hint.job_id, attempt=attempt, problem=problem)
            await self._clock.sleep(max(pause, asked_for))
            pause = min(pause * 2, LONGEST_BACKOFF_SECONDS)
        _log.warning("queue.gave_up", job_id=hint.job_id, kind=hint.kind, attempts=MAX_DELIVERY_ATTEMPTS)

    async def _push(self, route: str, body: bytes) -> tuple[str | None, float]:
        """What went wrong, if anything, and how many seconds the worker asks to be left alone."""
        try:
            answer = await self._client.post(route, content=body)
        except httpx.HTTPError as error:
            return f"{type(error).__name__}: {error}", 0.0
        if answer.is_success:
            return None, 0.0
        retry_after = answer.headers.get("Retry-After", "")
        return f"HTTP {answer.status_code}", float(retry_after) if retry_after.isdecimal() else 0.0

    async def _stop(self) -> None:
        runners = [runner for lane in self._lanes.values() for runner in lane.runners]
        for runner in runners:
            runner.cancel()
        await asyncio.gather(*runners, return_exceptions=True)
