"""Work: claim a job, let its handler take one step, write down the outcome.

Whatever the store then knows is acknowledged; only what could not be recorded is raised, and the message
comes again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final

import structlog

from shared.domain.changes import Put, Records, Write, job_key
from shared.domain.errors import MediaUnavailable, StoreUnavailable
from shared.domain.ids import NOISE_BYTES, JobId, new_claim_token
from shared.domain.job import Job, JobError, Purchase
from shared.domain.lifecycle import Verdict, claimed, concluded, verdict
from shared.domain.outcomes import Done, End, Outcome, Park, Retry
from shared.ports.generator import GeneratorError
from shared.usecases.app import WorkerApp, chance
from shared.usecases.handlers.base import Handler
from shared.usecases.settle import advance, forced_end, settle_if_forced
from shared.usecases.submit import publish
from shared.usecases.turn import LeaseLost, Turn

RECORD_PAUSES_SECONDS: Final = (0.5, 1.0, 2.0)
"""Between offers of an outcome to a store that does not answer; what was made is dear."""

ABANDON_SECONDS: Final = 5
"""The sweep must not wait long for a provider to stop what nobody needs any more."""

UNEXPECTED: Final = JobError(
    code="provider_failed", message="something unexpected went wrong while it was made", retryable=True
)

_log = structlog.get_logger(__name__)


class Work:
    """The worker's one use case; `handlers` says what a step means for each kind."""

    def __init__(self, app: WorkerApp, handlers: dict[str, Handler]) -> None:
        self._app = app
        self._handlers = handlers

    async def process(self, job_id: JobId) -> None:
        """Look at a job now; may be called any number of times, by several workers at once.

        Raises `StoreUnavailable` when the look or its outcome could not be recorded.
        """
        turn = await self._claim(job_id)
        if turn is None:
            return
        try:
            outcome = await self._step(turn)
        except LeaseLost:
            await self._give_up(turn)
            return
        await self._conclude(turn, outcome)

    async def _claim(self, job_id: JobId) -> Turn | None:
        """Hold the job, or settle or leave it, as its state demands."""
        app, key = self._app, job_key(job_id)
        token = new_claim_token(app.noise(NOISE_BYTES))
        now = app.clock.now()

        def decide(records: Records) -> Sequence[Write]:
            job = records.find(key)
            if job is None or job.is_held_under(token) or verdict(job, now, app.policy) is not Verdict.FREE:
                return []
            return [Put(claimed(job, token, now=now, lease=self._lease_for(job), purchase=self._intent(job)))]

        job = (await app.store.change([key], decide)).find(key)
        if job is None:
            _log.info("job.gone", job_id=job_id)
            return None
        if job.is_held_under(token):
            self._log_claim(job)
            return Turn(app, job, token, self._lease_for(job))
        if forced_end(job, verdict(job, now, app.policy)) is not None:
            await self.end_if_forced(job)
        return None

    async def end_if_forced(self, job: Job) -> Job | None:
        """Settle a job that no worker may take, and tell the provider that nobody waits any more."""
        after = await settle_if_forced(self._app, job)
        handler = self._handlers.get(job.kind)
        if after is not None and after.is_finished and handler is not None:
            try:
                async with asyncio.timeout(ABANDON_SECONDS):
                    await handler.abandon(after)
            except (GeneratorError, TimeoutError) as error:
                _log.info("job.abandon_failed", job_id=job.id, error=str(error))
        return after

    def _lease_for(self, job: Job) -> timedelta:
        handler = self._handlers.get(job.kind)
        longest_call = handler.longest_call(job) if handler else timedelta()
        return max(self._app.policy.lease, longest_call + self._app.policy.lease_margin)

    def _intent(self, job: Job) -> Purchase | None:
        handler = self._handlers.get(job.kind)
        return handler.intent_at_claim(job, self._app.clock.now()) if handler else None

    async def _step(self, turn: Turn) -> Outcome:
        """One step of the job's handler, with the lease renewed beside it; raises `LeaseLost`.

        On a process that wants to end, a step gets a moment to come to its own end. Then it is broken
        off and the job parked; the next claim sees from the purchase how to go on.
        """
        handler = self._handlers.get(turn.job.kind)
        if handler is None:
            return Park(self._app.clock.now() + self._app.policy.unknown_kind_park)
        step = asyncio.create_task(handler.step(turn), name=f"step {turn.job.id}")
        renewals = asyncio.create_task(turn.keep_renewing(), name=f"renew {turn.job.id}")
        stopping = asyncio.create_task(self._app.stopping.wait(), name=f"stop {turn.job.id}")
        try:
            await asyncio.wait({step, renewals, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if stopping.done() and not step.done():
                await asyncio.wait({step}, timeout=self._app.stop_grace_seconds)
        finally:
            for task in (step, renewals, stopping):
                task.cancel()
            ended = await asyncio.gather(step, renewals, stopping, return_exceptions=True)
        if isinstance(ended[1], Exception):
            _log.error("job.renewal_broke", job_id=turn.job.id, exc_info=ended[1])
        if step.cancelled():
            if stopping.cancelled():
                raise LeaseLost
            return Park(self._app.clock.now())
        return _outcome_of(ended[0], turn)

    async def _conclude(self, turn: Turn, outcome: Outcome) -> None:
        """Write the outcome down, if the job is still held."""
        app, now, drawn = self._app, self._app.clock.now(), chance(self._app)

        def move(standing: Job) -> Job | End | None:
            if not standing.is_held_under(turn.token):
                return None
            return concluded(standing, outcome, now=now, chance=drawn, policy=app.policy)

        keeps_all = isinstance(outcome, Done) and outcome.delivered == outcome.requested
        after = await self._insist(lambda: advance(app, turn.job, move, refunds=not keeps_all))
        _log.info(
            "job.stepped", job_id=turn.job.id, outcome=type(outcome).__name__.lower(), fence=turn.job.fence
        )
        await self._drop_unused(turn, after)
        if after is not None and self._is_worth_a_hint(after):
            await publish(app, [after])

    def _is_worth_a_hint(self, job: Job) -> bool:
        """Whether a hint would find the job ready; if not, the sweep will see when its time has come."""
        if job.not_before is None:
            return False
        return self._app.queue.delays or job.not_before <= self._app.clock.now()

    async def _insist(self, record: Callable[[], Awaitable[Job | None]]) -> Job | None:
        """Offer what was made to the store more than once; raises `StoreUnavailable` in the end."""
        for pause in RECORD_PAUSES_SECONDS:
            try:
                return await record()
            except StoreUnavailable as error:
                _log.warning("job.record_failed", error=error.message, again_in_seconds=pause)
                await self._app.clock.sleep(pause)
        return await record()

    async def _give_up(self, turn: Turn) -> None:
        _log.warning("job.lease_lost", job_id=turn.job.id, fence=turn.job.fence)
        key = job_key(turn.job.id)
        await self._drop_unused(turn, (await self._app.store.load([key])).find(key))

    async def _drop_unused(self, turn: Turn, standing: Job | None) -> None:
        """Remove what this turn stored, if the job, which it cannot change any more, does not show it."""
        prefix = f"{turn.job.id}/{turn.token}/"
        if not turn.has_stored:
            return
        if standing is not None and any(media.key.startswith(prefix) for media in standing.media):
            return
        try:
            await self._app.media.delete_prefix(prefix)
        except MediaUnavailable as error:
            _log.warning("media.leftover", prefix=prefix, error=error.message)

    def _log_claim(self, job: Job) -> None:
        _log.info(
            "job.claimed",
            job_id=job.id,
            kind=job.kind,
            account_id=job.account_id,
            request_id=job.request_id,
            attempt=job.attempts + 1,
            fence=job.fence,
            seconds=round((self._app.clock.now() - job.created_at).total_seconds(), 3),
        )


def _outcome_of(ended: Outcome | BaseException, turn: Turn) -> Outcome:
    """What a step returned or raised; an error that nobody foresaw is tried again, but buys nothing again."""
    if not isinstance(ended, BaseException):
        return ended
    if isinstance(ended, LeaseLost | StoreUnavailable) or not isinstance(ended, Exception):
        raise ended
    _log.error("job.step_failed", job_id=turn.job.id, kind=turn.job.kind, exc_info=ended)
    return Retry(UNEXPECTED, resumes=True)
