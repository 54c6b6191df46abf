"""Erasure: remove what a deleted job made, then the job itself. Its ledger entries stay."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog

from shared.domain.changes import Delete, Records, Write, job_key
from shared.domain.errors import MediaUnavailable
from shared.domain.ids import JobId
from shared.domain.job import Job, Purchase
from shared.domain.outcomes import Done, Outcome, Park
from shared.usecases.app import WorkerApp
from shared.usecases.turn import Turn

TRY_AGAIN_AFTER: Final = timedelta(minutes=1)

_log = structlog.get_logger(__name__)


class Erasure:
    """May run any number of times; parks while the media store does not answer: it must not give up early."""

    def __init__(self, app: WorkerApp) -> None:
        self._app = app

    async def step(self, turn: Turn) -> Outcome:
        erased = JobId(turn.job.request["job_id"])
        try:
            await self._app.media.delete_prefix(f"{erased}/")
        except MediaUnavailable as error:
            _log.warning("erasure.put_off", job_id=erased, error=error.message)
            return Park(self._app.clock.now() + TRY_AGAIN_AFTER)

        def decide(records: Records) -> Sequence[Write]:
            job = records.find(job_key(erased))
            return [Delete(job_key(erased))] if job is not None and job.deleted_at is not None else []

        await self._app.store.change([job_key(erased)], decide)
        return Done()

    def intent_at_claim(self, job: Job, now: datetime) -> Purchase | None:
        return None

    def longest_call(self, job: Job) -> timedelta:
        return timedelta()

    async def abandon(self, job: Job) -> None:
        _log.error("erasure.abandoned", job_id=job.id, erased=job.request["job_id"])
