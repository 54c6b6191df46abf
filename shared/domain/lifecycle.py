"""How a job moves: each function takes a job and gives the job after the move, or refuses.

Pure, and the only code that changes a job's status, lease, fence or `wake_at`. `moved` is the one door.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any, Final, assert_never

from shared.domain.errors import BrokenInvariant, IllegalMove, WrongState
from shared.domain.ids import ClaimToken
from shared.domain.job import PUBLISHABLE_KINDS, UNFINISHED, Job, Lease, Purchase, Status
from shared.domain.outcomes import (
    Cancelled,
    Done,
    End,
    Failed,
    Outcome,
    Park,
    Retry,
    cancelled,
    delivered,
    failed,
)
from shared.domain.policy import Policy

_ENDS: Final = frozenset({Status.DRAFT, Status.READY, Status.PARTIAL, Status.FAILED, Status.CANCELLED})

NEXT: Final[Mapping[Status, frozenset[Status]]] = {
    Status.QUEUED: frozenset({Status.QUEUED, Status.PROCESSING, Status.FAILED, Status.CANCELLED}),
    Status.PROCESSING: UNFINISHED | _ENDS,
    Status.DRAFT: frozenset({Status.DRAFT, Status.PUBLISHED}),
    Status.PUBLISHED: frozenset({Status.PUBLISHED, Status.DRAFT}),
    Status.READY: frozenset({Status.READY}),
    Status.PARTIAL: frozenset({Status.PARTIAL}),
    Status.FAILED: frozenset({Status.FAILED}),
    Status.CANCELLED: frozenset({Status.CANCELLED}),
}


def moved(job: Job, status: Status, **fields: Any) -> Job:
    """The job with another status and fields; raises `IllegalMove` or `BrokenInvariant` instead of lying."""
    if status not in NEXT[job.status]:
        raise IllegalMove(job.id, job.status, status)
    after: Job = replace(job, status=status, **fields)
    check(after)
    return after


def check(job: Job) -> None:
    """What is true of every job at rest: what is unfinished will be looked at, what is finished is let go."""
    if job.is_finished:
        sound = job.wake_at is None and job.lease is None and job.finished_at is not None
    else:
        sound = job.wake_at is not None and job.wake_at <= job.deadline_at and job.finished_at is None
    if not sound or not 0 <= job.refunded <= job.cost or not 0 <= job.progress <= 100:
        raise BrokenInvariant(f"{job.id} would be left unsound as {job.status}")


def woken(job: Job, at: datetime) -> datetime:
    """`at`, but never later than the deadline."""
    return min(at, job.deadline_at)


class Verdict(Enum):
    """What a worker that comes to a job may do."""

    FREE = auto()
    FINISHED = auto()
    HELD = auto()
    """Another worker's lease lives."""
    EARLY = auto()
    """Parked or backing off, and its time has not come."""
    OVERDUE = auto()
    CANCEL = auto()
    """Its owner wants it cancelled and nothing that must be waited for was bought."""
    EXHAUSTED = auto()
    """One dead worker too many."""
    UNKNOWN = auto()
    """A worker died between the intent and the reference of something too dear to buy twice."""


def verdict(job: Job, now: datetime, policy: Policy) -> Verdict:
    if job.is_finished:
        return Verdict.FINISHED
    if job.deadline_at <= now:
        return Verdict.OVERDUE
    if job.has_live_lease(now):
        return Verdict.HELD
    if job.not_before is not None and now < job.not_before - policy.early_tolerance:
        return Verdict.EARLY
    if job.purchase is not None and job.purchase.reference is None and not job.purchase.repeatable:
        return Verdict.UNKNOWN
    if job.cancel_requested and (job.purchase is None or job.purchase.reference is None):
        return Verdict.CANCEL
    if job.lease is not None and _is_last_attempt(job, policy):
        return Verdict.EXHAUSTED
    return Verdict.FREE


def _is_last_attempt(job: Job, policy: Policy) -> bool:
    """Internal jobs owe something to somebody (an erasure, a delivery): only their deadline ends them."""
    return not job.is_internal and job.attempts + 1 >= policy.max_attempts


def claimed(
    job: Job, token: ClaimToken, *, now: datetime, lease: timedelta, purchase: Purchase | None = None
) -> Job:
    """A worker takes the job; taking over an expired lease counts as an attempt.

    With a `purchase` the claim saves the intent as well, one write instead of two; one with a reference
    is kept whatever is passed.
    """
    return moved(
        job,
        Status.PROCESSING,
        fence=job.fence + 1,
        lease=Lease(token=token, until=now + lease),
        wake_at=woken(job, now + lease),
        not_before=None,
        sweeps=0,
        attempts=job.attempts + (job.lease is not None),
        started_at=job.started_at or now,
        purchase=job.purchase if job.purchase and job.purchase.reference else purchase or job.purchase,
    )


def renewed(job: Job, *, now: datetime, lease: timedelta, progress: int) -> Job:
    assert job.lease is not None
    return moved(
        job,
        Status.PROCESSING,
        lease=replace(job.lease, until=now + lease),
        wake_at=woken(job, now + lease),
        progress=max(job.progress, min(progress, 99)),
    )


def intended(job: Job, purchase: Purchase, *, now: datetime, lease: timedelta) -> Job:
    """The note that a paid call is about to start; renews the lease, which outlives the call."""
    return replace(renewed(job, now=now, lease=lease, progress=job.progress), purchase=purchase)


def referenced(job: Job, reference: str, *, now: datetime, lease: timedelta) -> Job:
    assert job.purchase is not None
    purchase = replace(job.purchase, reference=reference)
    return replace(renewed(job, now=now, lease=lease, progress=job.progress), purchase=purchase)


def refused(job: Job) -> Job:
    """The provider certainly took nothing: the job is not bought after all."""
    return replace(job, purchase=None)


def parked(job: Job, until: datetime) -> Job:
    return moved(
        job,
        Status.PROCESSING if job.is_bought else Status.QUEUED,
        lease=None,
        wake_at=woken(job, until),
        not_before=until,
    )


def retried(job: Job, at: datetime, *, resumes: bool = False) -> Job:
    return moved(
        job,
        Status.QUEUED,
        lease=None,
        attempts=job.attempts + 1,
        wake_at=woken(job, at),
        not_before=at,
        purchase=job.purchase if resumes else None,
        progress=job.progress if resumes else 0,
    )


def swept(job: Job, *, now: datetime, policy: Policy) -> Job:
    """Look again later, each time twice as late while nobody claims."""
    return moved(
        job, job.status, wake_at=woken(job, now + policy.sweep_push(job.sweeps)), sweeps=job.sweeps + 1
    )


def cancel_wanted(job: Job, now: datetime) -> Job | End:
    """Cancelled at once when nothing is bought and nobody works on it; else noted for the next step."""
    if job.is_finished:
        raise WrongState(f"the job is already {job.status}")
    if not job.is_bought and not job.has_live_lease(now):
        return cancelled()
    return replace(job, cancel_requested=True)


def published(job: Job, now: datetime) -> Job:
    _require_publishable(job)
    return moved(job, Status.PUBLISHED, published_at=job.published_at or now)


def unpublished(job: Job) -> Job:
    _require_publishable(job)
    return moved(job, Status.DRAFT, published_at=None)


def _require_publishable(job: Job) -> None:
    if job.kind not in PUBLISHABLE_KINDS or job.status not in (Status.DRAFT, Status.PUBLISHED):
        raise WrongState(
            f"only a finished image or video can be in the feed; this {job.kind} is {job.status}"
        )


def deleted(job: Job, now: datetime) -> Job:
    if not job.is_finished:
        raise WrongState(f"the job is still {job.status}; cancel it first")
    return replace(job, deleted_at=now, published_at=None)


def ended(job: Job, end: End, *, now: datetime, refunded: int) -> Job:
    """The job at its end; only `settlement.settled` calls this, with the money beside it."""
    return moved(
        job,
        end.status,
        wake_at=None,
        not_before=None,
        lease=None,
        # Whoever still works on it has lost: a settlement fences them out as a claim would.
        fence=job.fence + (job.lease is not None),
        finished_at=now,
        progress=100 if end.delivered else job.progress,
        media=end.media,
        thumbnail=end.thumbnail,
        error=end.error,
        refunded=refunded,
    )


def concluded(job: Job, outcome: Outcome, *, now: datetime, chance: float, policy: Policy) -> Job | End:
    """What an outcome makes of the job its worker holds: another step some time, or its end."""
    match outcome:
        case Done():
            return delivered(job, outcome)
        case Failed(error):
            return failed(job, error)
        case Cancelled():
            return cancelled()
        case Park(until):
            return cancelled() if job.cancel_requested and not job.is_bought else parked(job, until)
        case Retry(error, after, resumes):
            if job.cancel_requested or _is_last_attempt(job, policy):
                return failed(job, error)
            backoff = policy.backoff(job.attempts + 1, chance)
            return retried(job, now + max(after, backoff), resumes=resumes)
        case _:
            assert_never(outcome)
