"""How a step ends, how a job ends, and what each ending bills."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, assert_never

from shared.domain.job import Job, JobError, Kind, Media, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The result is stored: `delivered` of the `requested` items."""

    media: tuple[Media, ...] = ()
    thumbnail: Media | None = None
    delivered: int = 1
    requested: int = 1


@dataclass(frozen=True, slots=True)
class Failed:
    error: JobError


@dataclass(frozen=True, slots=True)
class Park:
    """Look again at `until`, holding no worker meanwhile; not an attempt."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again, not sooner than `after`; at the last attempt the job fails with `error`."""

    error: JobError
    after: timedelta = timedelta()
    resumes: bool = False
    """What was bought is still there: keep its reference and ask for it again."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    pass


Outcome = Done | Failed | Park | Retry | Cancelled


class Ending(StrEnum):
    DELIVERED = "delivered"
    PARTLY_DELIVERED = "partly_delivered"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DELIVERED_AFTER_CANCEL = "delivered_after_cancel"


class Billed(StrEnum):
    COST = "cost"
    SHARE = "share"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class BillingRule:
    ended: str
    billed: Billed
    text: str


BILLING: Final[Mapping[Ending, BillingRule]] = {
    Ending.DELIVERED: BillingRule("draft, published, ready", Billed.COST, "the quoted cost"),
    Ending.PARTLY_DELIVERED: BillingRule(
        "some of the requested images withheld or failed", Billed.SHARE, "the share that was delivered"
    ),
    Ending.FAILED: BillingRule(
        "content policy, invalid request, provider failure, deadline, unknown outcome",
        Billed.NOTHING,
        "nothing",
    ),
    Ending.CANCELLED: BillingRule("cancelled before anything was bought", Billed.NOTHING, "nothing"),
    Ending.DELIVERED_AFTER_CANCEL: BillingRule(
        "cancel came too late, the result arrived",
        Billed.COST,
        "the quoted cost, and the result is theirs",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Everything that the end of a job decides."""

    ending: Ending
    status: Status
    error: JobError | None = None
    media: tuple[Media, ...] = field(default=())
    thumbnail: Media | None = None
    delivered: int = 0
    requested: int = 1


def billed_tokens(cost: int, end: End) -> int:
    """What stays debited; a share is rounded down, in the user's favour."""
    billed = BILLING[end.ending].billed
    match billed:
        case Billed.COST:
            return cost
        case Billed.SHARE:
            return cost * end.delivered // end.requested
        case Billed.NOTHING:
            return 0
        case _:
            assert_never(billed)


def delivered(job: Job, done: Done) -> End:
    assert 1 <= done.delivered <= done.requested
    if done.delivered < done.requested:
        ending = Ending.PARTLY_DELIVERED
    elif job.cancel_requested:
        ending = Ending.DELIVERED_AFTER_CANCEL
    else:
        ending = Ending.DELIVERED
    return End(
        ending=ending,
        status=Status.DRAFT if job.kind in (Kind.IMAGE, Kind.VIDEO) else Status.READY,
        media=done.media,
        thumbnail=done.thumbnail,
        delivered=done.delivered,
        requested=done.requested,
    )


def cancelled() -> End:
    return End(ending=Ending.CANCELLED, status=Status.CANCELLED)


def failed(job: Job, error: JobError) -> End:
    """A job that fails after its owner asked to cancel it has done what they asked."""
    if job.cancel_requested:
        return cancelled()
    return End(ending=Ending.FAILED, status=Status.FAILED, error=error)
