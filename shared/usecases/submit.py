"""Submit: debit, job and entry in one change, then a hint to the queue."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from shared.domain.changes import AnyKey, Create, Put, Records, Write, account_key, entry_key, job_key
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
from shared.ports.tracing import current_trace
from shared.usecases.app import App
from shared.usecases.fingerprint import fingerprint
from shared.usecases.reading import visible

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """Who asks for an order, who pays, and how a repetition is recognised."""

    order: Callable[[], Order]
    """Prices the request; pure, and asked only if the key is new. May raise `InvalidRequest`."""
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
    slip = _Slip(app, submission)
    keys: list[AnyKey] = [account_key(slip.account_id), entry_key(slip.account_id, slip.debit_id)]

    def decide(records: Records) -> Sequence[Write]:
        account, signup = records.find(account_key(slip.account_id)), None
        if account is None and slip.account_id == own_account(submission.user_id):
            account, signup = opened(submission.user_id, signup_tokens=app.signup_tokens, now=slip.now)
        account = require_member(account, slip.account_id, submission.user_id)
        standing = records.find(entry_key(slip.account_id, slip.debit_id))
        if standing is not None:
            if standing.request_hash != slip.request_hash:
                raise IdempotencyConflict
            return []
        # Only a new key is priced: what was accepted once stays accepted, whatever the catalogue says now.
        job = slip.job(_priced(submission))
        debit = slip.debit(job)
        paid = posted(account, debit)
        opening = [Put(paid)] if signup is None else [Create(paid), Create(signup)]
        return [*opening, Create(debit), Create(job)]

    records = await app.store.change(keys, decide)
    debit = records.need(entry_key(slip.account_id, slip.debit_id))
    if debit.job_id != slip.job_id:
        return Submitted(await _job_behind(app, debit, submission.user_id), is_replay=True)
    # After a commit of unknown result the job is there, but was not part of the last decision.
    written = records.get(job_key(slip.job_id))
    job = written if isinstance(written, Job) else await _job_behind(app, debit, submission.user_id)
    _log.info("job.submitted", job_id=job.id, kind=job.kind, account_id=job.account_id, cost=job.cost)
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
    job = (await app.store.load([job_key(job_id)])).find(job_key(job_id))
    if job is None or job.user_id != user:
        raise NotFound(f"there is no job {job_id}")

    def again() -> Order:
        if not visible(job, job_id, user).is_finished:
            raise WrongState(f"the job is still {job.status}")
        return repeated(app.catalogue, job)

    submission = Submission(
        order=again,
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
    trace = current_trace()
    hints = [
        Hint(job_id=job.id, kind=job.kind, request_id=job.request_id, trace=trace, not_before=job.not_before)
        for job in jobs
    ]
    try:
        await app.queue.publish(hints)
    except QueueUnavailable as error:
        _log.warning("queue.publish_failed", jobs=len(jobs), error=error.message)


def _priced(submission: Submission) -> Order:
    order = submission.order()
    if submission.max_cost is not None and order.cost > submission.max_cost:
        raise MaxCostExceeded(cost_tokens=order.cost, max_cost_tokens=submission.max_cost)
    return order


class _Slip:
    """What is drawn once per submit, so that deciding again decides the same."""

    def __init__(self, app: App, submission: Submission) -> None:
        self.now = app.clock.now()
        self.job_id = new_job_id(self.now, app.noise(NOISE_BYTES))
        self.account_id = submission.account_id or own_account(submission.user_id)
        key = submission.idempotency_key
        self.debit_id = debit_entry_id(self.job_id) if key is None else keyed_entry_id(self.account_id, key)
        self.request_hash = fingerprint(submission.user_id, submission.request_hash)
        self._app = app
        self._submission = submission

    def job(self, order: Order) -> Job:
        job = Job(
            id=self.job_id,
            kind=order.kind,
            status=Status.QUEUED,
            account_id=self.account_id,
            user_id=self._submission.user_id,
            request=order.request,
            model=order.model,
            metadata=self._submission.metadata,
            request_id=self._submission.request_id,
            cost=order.cost,
            debit_id=self.debit_id,
            created_at=self.now,
            deadline_at=self.now + self._app.catalogue.kinds[order.kind].deadline,
            wake_at=self.now + self._app.policy.publish_grace,
        )
        check(job)
        return job

    def debit(self, job: Job) -> Entry:
        return Entry(
            id=self.debit_id,
            account_id=self.account_id,
            tokens=-job.cost,
            reason=Reason.DEBIT,
            created_at=self.now,
            job_id=job.id,
            request_hash=self.request_hash,
        )


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
