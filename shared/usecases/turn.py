"""A worker's turn at a job: the claim it holds, and what it may write while nobody else has claimed."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from shared.domain.changes import Put, Records, Write, job_key
from shared.domain.errors import StoreUnavailable
from shared.domain.ids import ClaimToken
from shared.domain.job import Job, Purchase
from shared.domain.lifecycle import intended, referenced, refused, renewed
from shared.usecases.app import WorkerApp

PROGRESS_INTERVAL: Final = timedelta(seconds=1)
"""Stores sustain about one write a second on one document."""

INSIST_EVERY: Final = timedelta(seconds=0.5)
RENEW_AGAIN_SECONDS: Final = 2
"""After a renewal that the store did not answer: the other half of the lease must not pass meanwhile."""

_log = structlog.get_logger(__name__)


class LeaseLost(Exception):
    """Somebody else claimed or settled the job: nothing that this worker still does may count."""


class Turn:
    """Held from the claim to the outcome; every write checks that the claim still stands."""

    def __init__(self, app: WorkerApp, job: Job, token: ClaimToken, lease: timedelta) -> None:
        self.app = app
        self.job = job
        self.token = token
        self.has_stored = False
        """Whether there may be media under this turn's token."""
        self.ends_at = app.clock.now() + app.policy.step_budget
        """Nothing that may last longer than that begins in this step."""
        self._lease = lease
        self._written_at = app.clock.now()
        self._writing = asyncio.Lock()

    @property
    def is_stopping(self) -> bool:
        """Whether the process wants to end: park instead of waiting on."""
        return self.app.stopping.is_set()

    async def renew(self, progress: int | None = None) -> None:
        """Keep the lease; raises `LeaseLost`. Says `progress` (0 to 99) to whoever watches."""
        await self._write(
            lambda job, now: renewed(
                job, now=now, lease=self._lease, progress=job.progress if progress is None else progress
            )
        )

    async def report(self, progress: int) -> None:
        """Tell the progress if the last write is a while ago; not worth failing for."""
        if progress > self.job.progress and self.app.clock.now() - self._written_at >= PROGRESS_INTERVAL:
            try:
                await self.renew(progress)
            except StoreUnavailable as error:
                _log.warning("job.progress_untold", job_id=self.job.id, error=error.message)

    async def intend(self, purchase: Purchase) -> None:
        """Note that a paid call is about to start; raises `LeaseLost`, and then it must not start."""
        await self._write(lambda job, now: intended(job, purchase, now=now, lease=self._lease))

    async def save_reference(self, reference: str) -> None:
        """From now on the operation is resumed, never started again.

        Insists: a reference that is lost is a paid result that is lost. A cancelled step still saves
        it, and a store that does not answer is asked until the lease ends.
        """
        # What must not be bought twice is bought: from here on nobody needs to wait long for a dead worker.
        lease = self.app.policy.lease

        async def save() -> None:
            await self._insist(lambda job, now: referenced(job, reference, now=now, lease=lease))
            self._lease = lease

        await uninterrupted(save())

    async def took_nothing(self) -> None:
        """The provider refused: the job is not bought. Insists, for a standing intent says it is."""
        await uninterrupted(self._insist(lambda job, _: refused(job)))

    async def _insist(self, move: Callable[[Job, datetime], Job]) -> None:
        assert self.job.lease is not None
        end = self.job.lease.until
        while True:
            try:
                await self._write(move)
                return  # noqa: TRY300
            except StoreUnavailable as error:
                if self.app.clock.now() + INSIST_EVERY >= end:
                    raise
                _log.warning("job.purchase_unsaved", job_id=self.job.id, error=error.message)
            await self.app.clock.sleep(INSIST_EVERY.total_seconds())

    async def pause(self, seconds: float) -> None:
        """Wait, but not on a process that wants to end."""
        sleep = asyncio.ensure_future(self.app.clock.sleep(seconds))
        stop = asyncio.ensure_future(self.app.stopping.wait())
        try:
            await asyncio.wait({sleep, stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            stop.cancel()

    async def keep_renewing(self) -> None:
        """Renew at half of the lease, until it is lost; a store that does not answer is asked again."""
        usual = pause = self.app.policy.lease.total_seconds() / 2  # the shortest that the lease becomes
        while True:
            await self.app.clock.sleep(pause)
            pause = usual
            if self.app.clock.now() - self._written_at < self._lease / 3:
                continue
            try:
                await self.renew()
            except LeaseLost:
                return
            except StoreUnavailable as error:
                _log.warning("job.renewal_failed", job_id=self.job.id, error=error.message)
                pause = RENEW_AGAIN_SECONDS

    async def _write(self, move: Callable[[Job, datetime], Job]) -> None:
        key = job_key(self.job.id)

        def decide(records: Records) -> Sequence[Write]:
            standing = records.find(key)
            if standing is None or not standing.is_held_under(self.token):
                return []
            return [Put(move(standing, now))]

        async with self._writing:
            now = self.app.clock.now()
            standing = (await self.app.store.change([key], decide)).find(key)
            if standing is None or not standing.is_held_under(self.token):
                raise LeaseLost
            self.job = standing
            self._written_at = now


async def uninterrupted(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` to its end, then pass on a cancellation that arrived meanwhile."""
    task, is_cancelled = asyncio.create_task(work), False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            is_cancelled = True
    task.result()
    if is_cancelled:
        raise asyncio.CancelledError
