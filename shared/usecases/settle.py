"""Ending a job from outside its worker: deadline, dead workers, unknown outcomes, cancelling."""

from collections.abc import Callable, Sequence

import structlog

from shared.domain.changes import AnyKey, Put, Records, Write, account_key, job_key
from shared.domain.errors import WrongState
from shared.domain.ids import JobId, UserId
from shared.domain.job import Job, JobError, Status
from shared.domain.lifecycle import Verdict, cancel_wanted, verdict
from shared.domain.outcomes import End, cancelled, failed
from shared.domain.settlement import settled
from shared.usecases.app import App
from shared.usecases.reading import get_job, visible

_log = structlog.get_logger(__name__)

TIMED_OUT = JobError(code="timed_out", message="it was not finished before its deadline", retryable=True)
EXHAUSTED = JobError(
    code="attempts_exhausted", message="the workers that took the job stopped unexpectedly", retryable=True
)
UNKNOWN = JobError(
    code="outcome_unknown",
    message="the connection broke off while the order was placed, so it is not known whether it was taken",
    retryable=True,
)


def forced_end(job: Job, judged: Verdict) -> End | None:
    """How a job must end that no worker may take any more."""
    match judged:
        case Verdict.OVERDUE:
            return failed(job, TIMED_OUT)
        case Verdict.EXHAUSTED:
            return failed(job, EXHAUSTED)
        case Verdict.UNKNOWN:
            return failed(job, UNKNOWN)
        case Verdict.CANCEL:
            return cancelled()
        case _:
            return None


async def settle_if_forced(app: App, job: Job) -> Job | None:
    """End the job if the clock or its history says so; returns it as it then stands."""
    now = app.clock.now()
    return await advance(app, job, lambda standing: forced_end(standing, verdict(standing, now, app.policy)))


async def cancel(app: App, job_id: JobId, user: UserId) -> Job:
    """Cancel now if nothing was bought, else note the wish; raises `NotFound` or `WrongState`."""
    job = await get_job(app, job_id, user)
    now = app.clock.now()
    cancel_wanted(job, now)  # refuses what has already ended
    after = visible(await advance(app, job, lambda standing: cancel_wanted(standing, now)), job_id, user)
    if after.is_finished and after.status is not Status.CANCELLED:
        raise WrongState(f"the job is already {after.status}")
    return after


async def advance(
    app: App, job: Job, move: Callable[[Job], Job | End | None], *, refunds: bool = True
) -> Job | None:
    """Move an unfinished job or settle it; every end of every job passes here. Returns what then stands.

    `move` may leave the job alone (`None`). Without `refunds` the account is not loaded: for ends that
    keep the whole debit.
    """
    keys: list[AnyKey] = [job_key(job.id)]
    if refunds:
        keys.append(account_key(job.account_id))
    now = app.clock.now()

    def decide(records: Records) -> Sequence[Write]:
        standing = records.find(job_key(job.id))
        if standing is None or standing.is_finished:
            return []
        after = move(standing)
        if isinstance(after, End):
            account = records.find(account_key(job.account_id)) if refunds else None
            return settled(standing, account, after, now=now)
        return [Put(after)] if after is not None and after != standing else []

    after = (await app.store.change(keys, decide)).find(job_key(job.id))
    if after is not None and after.finished_at == now:
        log_settled(after)
    return after


def log_settled(job: Job) -> None:
    """The one line that tells how a job and its money ended."""
    assert job.finished_at is not None
    _log.info(
        "job.settled",
        job_id=job.id,
        kind=job.kind,
        account_id=job.account_id,
        request_id=job.request_id,
        status=str(job.status),
        error=job.error.code if job.error else None,
        charged=job.cost - job.refunded,
        refunded=job.refunded,
        attempt=job.attempts + 1,
        fence=job.fence,
        seconds=round((job.finished_at - job.created_at).total_seconds(), 3),
    )
