"""A job: one thing to be made, and everything known about it.

The record in the store is the truth about a job; messages are only hints. This module says what a job
is; `lifecycle` says how it moves.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from shared.domain.ids import AccountId, ClaimToken, EntryId, JobId, RequestId, UserId


class Kind:
    """What a job makes. A plain string in the record: an older version must be able to park newer kinds."""

    IMAGE: Final = "image"
    VIDEO: Final = "video"
    BRAND: Final = "brand"
    BATCH: Final = "batch"
    ERASURE: Final = "erasure"


PUBLISHABLE_KINDS: Final = frozenset({Kind.IMAGE, Kind.VIDEO})
VISIBLE_KINDS: Final = frozenset({Kind.IMAGE, Kind.VIDEO, Kind.BRAND, Kind.BATCH})
INTERNAL_KINDS: Final = frozenset({Kind.ERASURE})


class Status(StrEnum):
    QUEUED = "queued"
    PROCESSING = "processing"
    DRAFT = "draft"
    PUBLISHED = "published"
    READY = "ready"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"


UNFINISHED: Final = frozenset({Status.QUEUED, Status.PROCESSING})
FINISHED: Final = frozenset(Status) - UNFINISHED


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """One object that a job made; its URL is its key behind the media store's public address."""

    key: str
    type: str
    size: int
    sha256: str
    width: int | None = None
    height: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobError:
    """Why a job failed, in words that its owner may read."""

    code: str
    message: str
    param: str | None = None
    retryable: bool = False
    stage: str | None = None
    """For `content_rejected`: `prompt` or `output`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A worker's hold on a job until an instant; whoever has the token may write."""

    token: ClaimToken
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """The intent to buy from a generator, saved before the paid call, and what became of it.

    A job with a purchase is *bought*. Without a reference the result of the call is unknown: another
    worker may buy again only if the purchase is `repeatable` (cheap).
    """

    model: str
    repeatable: bool
    intended_at: datetime
    generator: str = ""
    """Who was asked, and by which name of the model: an operation outlives its place in the catalogue."""
    provider_model: str = ""
    reference: str | None = None
    """The provider's name of the long operation; never started again once it is saved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    id: JobId
    kind: str
    status: Status
    account_id: AccountId
    user_id: UserId
    request: Mapping[str, Any] = field(default_factory=dict)
    """What was asked for, with every default resolved; a retry submits exactly this again."""
    model: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    request_id: RequestId | None = None

    cost: int = 0
    """Tokens debited at submit."""
    refunded: int = 0
    """Tokens given back at settlement."""
    debit_id: EntryId | None = None

    progress: int = 0
    media: tuple[Media, ...] = ()
    thumbnail: Media | None = None
    error: JobError | None = None
    attempts: int = 0
    """Attempts that ended without an outcome that ends the job: retries and dead workers."""
    cancel_requested: bool = False

    created_at: datetime
    deadline_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    published_at: datetime | None = None
    expires_at: datetime | None = None
    deleted_at: datetime | None = None

    wake_at: datetime | None = None
    """When somebody must look again; set exactly while the job is unfinished."""
    not_before: datetime | None = None
    """Parked or backing off: a message that comes earlier is ignored."""
    sweeps: int = 0
    """How often the sweep published it since somebody last claimed it."""
    fence: int = 0
    lease: Lease | None = None
    purchase: Purchase | None = None

    @property
    def is_finished(self) -> bool:
        return self.status in FINISHED

    @property
    def is_bought(self) -> bool:
        return self.purchase is not None

    @property
    def is_internal(self) -> bool:
        """Not for its owner's eyes; a kind that only a newer version knows counts as such."""
        return self.kind not in VISIBLE_KINDS

    @property
    def is_visible(self) -> bool:
        """Whether its owner can see it."""
        return self.deleted_at is None and not self.is_internal

    @property
    def prompt(self) -> str | None:
        prompt = self.request.get("prompt")
        return prompt if isinstance(prompt, str) else None

    def is_held_under(self, token: ClaimToken) -> bool:
        """Whether the worker with this token may still write: nobody claimed or settled after it."""
        return not self.is_finished and self.lease is not None and self.lease.token == token

    def has_live_lease(self, now: datetime) -> bool:
        return self.lease is not None and now < self.lease.until
