"""The local renderer as a generator: pictures at once, films as long operations that survive a restart."""

import asyncio
import os
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Self

from shared.adapters.generators.local_renderer.film import Interrupted, encode
from shared.adapters.generators.local_renderer.operations import (
    KEPT_FOR,
    Operation,
    Operations,
    count_order,
    new_reference,
    remove_old,
    set_age,
)
from shared.adapters.generators.local_renderer.picture import draw_png
from shared.adapters.generators.local_renderer.reading import words_of
from shared.domain.requests import ImageRequest, VideoRequest
from shared.ports.clock import Clock, Noise
from shared.ports.generator import (
    Artifact,
    ContentRejected,
    Down,
    GenerationFailed,
    Made,
    Order,
    RequestRefused,
    Running,
)

BLOCKED_WORDS: Final = frozenset(
    {"nsfw", "gore", "gory", "gorily", "porn", "nude", "beheading", "mutilation"}
)
SMALLEST_SIDE: Final = 16
LARGEST_SIDE: Final = 4096
LONGEST_SECONDS: Final = 60
SHORTEST_OPERATION_SECONDS: Final = 0.1
LONGEST_POLL_SECONDS: Final = 0.5
PRUNE_EVERY: Final = timedelta(hours=1)


class LocalRenderer:
    """Draws and films in threads of its own. What it knows about films is on the disk.

    Like a provider it refuses a blocked prompt before it takes the order: no line in the operations file,
    no operation. Everything that it does take is counted there first, also what fails later.
    A video's first frame (`image`) only influences the drawing by its id; the renderer sees no media.
    """

    def __init__(
        self,
        home: Path,
        *,
        clock: Clock,
        noise: Noise,
        latency_seconds: float = 0,
        failure_rate: float = 0,
        operations_file: Path | None = None,
    ) -> None:
        self._films = home / "tmp"
        self._operations = Operations(home)
        self._clock = clock
        self._noise = noise
        self._latency_seconds = latency_seconds
        self._failure_rate = failure_rate
        self._operations_file = operations_file
        self._threads = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="local-renderer")
        self._closing = threading.Event()
        self._pruned_at: datetime | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Break off films, let pictures finish, end the threads."""
        self._closing.set()
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)

    async def start(self, order: Order) -> Running | Made:
        _refuse(order.request)
        reference = new_reference(self._noise(16))
        if isinstance(order.request, ImageRequest):
            await self._take(order, reference, "image")
            return await self._pictures(order.request)
        await self._take(order, reference, "video")
        return await self._start_film(order, order.request, reference)

    async def poll(self, order: Order, reference: str) -> Running | Made:
        try:
            operation = await asyncio.to_thread(self._operations.find, reference)
        except OSError as error:
            raise Down("the local renderer cannot read its operations") from error
        if operation is None:
            raise GenerationFailed("the local renderer does not know this operation", retryable=False)
        now = self._clock.now()
        if operation.progress(now) < 100:
            return self._running(operation, now)
        if operation.fails:
            raise GenerationFailed("the local renderer failed, as it was told to", retryable=True)
        return Made(items=[Artifact(type="video/mp4", content=await self._film(operation))])

    async def cancel(self, order: Order, reference: str) -> None:
        await asyncio.to_thread(self._operations.remove, reference)

    async def _take(self, order: Order, reference: str, kind: str) -> None:
        """Count the order; from here on it has been taken."""
        if self._operations_file is None:
            return
        try:
            await asyncio.to_thread(count_order, self._operations_file, order.job_id, reference, kind)
        except OSError as error:
            raise Down("the local renderer cannot write its operations file") from error

    async def _pictures(self, request: ImageRequest) -> Made:
        await self._clock.sleep(self._latency_seconds)
        if self._draws_failure():
            raise GenerationFailed("the local renderer failed, as it was told to", retryable=True)
        loop = asyncio.get_running_loop()
        pictures = await asyncio.gather(
            *(
                loop.run_in_executor(self._threads, draw_png, request, variation)
                for variation in range(request.count)
            )
        )
        return Made(items=[Artifact(type="image/png", content=picture) for picture in pictures])

    async def _start_film(self, order: Order, request: VideoRequest, reference: str) -> Running:
        now = self._clock.now()
        operation = Operation(
            id=reference,
            job_id=order.job_id,
            request=request,
            started_at=now,
            seconds=max(self._latency_seconds, SHORTEST_OPERATION_SECONDS),
            fails=self._draws_failure(),
        )
        try:
            await asyncio.to_thread(self._operations.save, operation)
            if self._pruned_at is None or now - self._pruned_at >= PRUNE_EVERY:
                self._pruned_at = now
                await asyncio.to_thread(self._prune, now)
        except OSError as error:
            raise GenerationFailed(
                "the local renderer cannot write its operations", retryable=True
            ) from error
        return self._running(operation, now)

    def _running(self, operation: Operation, now: datetime) -> Running:
        wait_seconds = min(LONGEST_POLL_SECONDS, max(0.02, operation.remaining_seconds(now)))
        return Running(
            reference=operation.id,
            progress=operation.progress(now),
            poll_after=timedelta(seconds=wait_seconds),
        )

    async def _film(self, operation: Operation) -> Path:
        unwanted = threading.Event()

        def wanted() -> bool:
            return not (unwanted.is_set() or self._closing.is_set())

        work = asyncio.get_running_loop().run_in_executor(self._threads, self._shoot, operation, wanted)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # Nobody will take the file: the thread removes it, also if it was just about to deliver it.
            unwanted.set()
            work.add_done_callback(_discard)
            raise
        except Interrupted as error:
            raise Down("the local renderer is shutting down") from error
        except OSError as error:
            raise Down("the local renderer cannot write the film") from error

    def _shoot(self, operation: Operation, wanted: Callable[[], bool]) -> Path:
        self._films.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self._films, prefix="film_", suffix=".mp4")
        os.close(handle)
        path = Path(name)
        try:
            encode(operation.request, path, wanted=wanted)
            set_age(path, self._clock.now())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path

    def _prune(self, now: datetime) -> None:
        self._operations.prune(now)
        remove_old(self._films, ("film_*.mp4",), now - KEPT_FOR)

    def _draws_failure(self) -> bool:
        return int.from_bytes(self._noise(8)) / 2**64 < self._failure_rate


def _refuse(request: ImageRequest | VideoRequest) -> None:
    """Raise for what a provider would not take."""
    if words_of(request.prompt) & BLOCKED_WORDS:
        raise ContentRejected("the prompt was refused by the content policy", stage="prompt")
    if not all(SMALLEST_SIDE <= side <= LARGEST_SIDE for side in (request.width, request.height)):
        raise RequestRefused(f"each side must have {SMALLEST_SIDE} to {LARGEST_SIDE} pixels")
    if isinstance(request, VideoRequest) and not 1 <= request.seconds <= LONGEST_SECONDS:
        raise RequestRefused(f"a film lasts 1 to {LONGEST_SECONDS} seconds")


def _discard(work: asyncio.Future[Path]) -> None:
    if not work.cancelled() and work.exception() is None:
        work.result().unlink(missing_ok=True)
