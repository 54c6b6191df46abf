"""Submit: debit, job and entry in one change, then a hint to the queue."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from shared.domain.changes import Create, Put, Records, Write, account_key, entry_key, job_key
from shared.domain.errors import IdempotencyConflict, MaxCostExceeded, NotFound, QueueUnavailable, WrongState
from shared.domain.ids import (
    NOISE_BYTES,
    AccountId,
    JobId,
    RequestId,
    UserId,
    debit_entry_id,
    keyed_entry_id,
    new_job_id,
)
from shared.domain.job import Job, Status
from shared.domain.ledger import Account, Entry, Reason, opened, own_account, posted, require_member
from shared.domain.lifecycle import check
from shared.domain.orders import Order, repeated
from shared.ports.queue import Hint
from shared.usecases.app import App
from shared.usecases.fingerprint import fingerprint
from shared.usecases.reading import get_job

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """Who asks for an order, who pays, and how a repetition is recognised."""

    order: Order
    user_id: UserId
    request_hash: str
    """Of the body as it was sent; the same key with another hash is a conflict."""
    account_id: AccountId | None = None
    idempotency_key: str | None = None
    max_cost: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    request_id: RequestId | None = None


@dataclass(frozen=True, slots=True)
class Submitted:
    job: Job
    is_replay: bool


async def submit(app: App, submission: Submission) -> Submitted:
    """Queue the order and take its tokens; once per idempotency key, however often it is called.

    Raises `InsufficientTokens`, `MaxCostExceeded`, `Forbidden`, `IdempotencyConflict` and `NotFound` (the
    job behind the key was deleted); none of them has written anything. After `StoreUnavailable` it is
    not known whether the job stands: whoever sends the same key again finds out without paying twice.
    """
    if submission.max_cost is not None and submission.order.cost > submission.max_cost:
        raise MaxCostExceeded(cost_tokens=submission.order.cost, max_cost_tokens=submission.max_cost)
    account_id = submission.account_id or own_account(submission.user_id)
    job, debit = _drawn_up(app, submission, account_id)
    debit_key = entry_key(account_id, debit.id)

    def decide(records: Records) -> Sequence[Write]:
        standing = records.find(debit_key)
        if standing is not None:
            if standing.request_hash != debit.request_hash:
                raise IdempotencyConflict
            return []
        account = records.find(account_key(account_id))
        if account is None and account_id == own_account(submission.user_id):
            account, signup = opened(submission.user_id, signup_tokens=app.signup_tokens, now=job.created_at)
            return [Create(posted(account, debit)), Create(signup), Create(debit), Create(job)]
        account = require_member(account, account_id, submission.user_id)
        return [Put(posted(account, debit)), Create(debit), Create(job)]

    records = await app.store.change([account_key(account_id), debit_key], decide)
    debited = records.need(debit_key)
    if debited.job_id != job.id:
        return Submitted(await _job_behind(app, debited, submission.user_id), is_replay=True)
    _log.info("job.submitted", job_id=job.id, kind=job.kind, account_id=account_id, cost=job.cost)
    await publish(app, [job])
    return Submitted(job, is_replay=False)


async def retry(
    app: App,
    job_id: JobId,
    *,
    user: UserId,
    request_hash: str,
    idempotency_key: str | None = None,
    request_id: RequestId | None = None,
) -> Submitted:
    """A new job with a finished job's request, newly debited; raises as `submit` does, and `WrongState`."""
    job = await get_job(app, job_id, user)
    if not job.is_finished:
        raise WrongState(f"the job is still {job.status}")
    submission = Submission(
        order=repeated(app.catalogue, job),
        user_id=user,
        request_hash=request_hash,
        account_id=job.account_id,
        idempotency_key=idempotency_key,
        metadata=job.metadata,
        request_id=request_id,
    )
    return await submit(app, submission)


async def publish(app: App, jobs: Sequence[Job]) -> None:
    """Hint that these jobs can be worked on; the sweep makes up for hints that get lost."""
    try:
        await app.queue.publish(
            [Hint(job_id=job.id, kind=job.kind, request_id=job.request_id) for job in jobs]
        )
    except QueueUnavailable as error:
        _log.warning("queue.publish_failed", jobs=len(jobs), error=error.message)


def _drawn_up(app: App, submission: Submission, account_id: AccountId) -> tuple[Job, Entry]:
    """The job and its debit, as they will stand if the account can pay."""
    now, order = app.clock.now(), submission.order
    job_id = new_job_id(now, app.noise(NOISE_BYTES))
    key = submission.idempotency_key
    debit = Entry(
        id=keyed_entry_id(account_id, key) if key is not None else debit_entry_id(job_id),
        account_id=account_id,
        tokens=-order.cost,
        reason=Reason.DEBIT,
        created_at=now,
        job_id=job_id,
        request_hash=fingerprint(submission.user_id, submission.request_hash),
    )
    job = Job(
        id=job_id,
        kind=order.kind,
        status=Status.QUEUED,
        account_id=account_id,
        user_id=submission.user_id,
        request=order.request,
        model=order.model,
        metadata=submission.metadata,
        request_id=submission.request_id,
        cost=order.cost,
        debit_id=debit.id,
        created_at=now,
        deadline_at=now + app.catalogue.kinds[order.kind].deadline,
        wake_at=now + app.policy.publish_grace,
    )
    check(job)
    return job, debit


async def _job_behind(app: App, debit: Entry, user: UserId) -> Job:
    """The job that an earlier request with the same key made."""
    if debit.job_id is None:
        raise IdempotencyConflict
    job = (await app.store.load([job_key(debit.job_id)])).find(job_key(debit.job_id))
    if job is None or not job.is_visible or job.user_id != user:
        raise NotFound("the job that this Idempotency-Key made was deleted")
    return job


async def afford(app: App, user: UserId, account_id: AccountId | None, cost: int) -> tuple[Account, bool]:
    """The paying account as it stands (or would be opened), and whether it can pay; nothing is written."""
    wanted = account_id or own_account(user)
    account = (await app.store.load([account_key(wanted)])).find(account_key(wanted))
    if account is None and wanted == own_account(user):
        account, _ = opened(user, signup_tokens=app.signup_tokens, now=app.clock.now())
    account = require_member(account, wanted, user)
    return account, account.balance >= cost
