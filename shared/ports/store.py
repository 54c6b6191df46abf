"""The store port: load, decide, write as one call, and the queries beside it.

The adapters differ in how they make a change atomic, never in what it means; `tests/contract` is this
contract as tests.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from shared.domain.changes import AnyKey, Decide, Records
from shared.domain.ids import AccountId, JobId, UserId
from shared.domain.job import Job, Status
from shared.domain.keys import ApiKey
from shared.domain.ledger import Entry

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Part of a list. `next` is where the following part begins, `None` at the end."""

    data: Sequence[T]
    next: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs: all that fit every field that is set.

    Lists of a user show what that user may see; without `user_id` everything is listed, deleted and
    internal jobs too.
    """

    user_id: UserId | None = None
    account_id: AccountId | None = None
    kinds: frozenset[str] = frozenset()
    statuses: frozenset[Status] = frozenset()


@dataclass(frozen=True, slots=True)
class Tally:
    jobs: int = 0
    tokens: int = 0
    """The sum of their costs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """One account's books: the balance as recorded, and the sum of its entries, as of one instant."""

    account_id: AccountId
    balance: int
    entries_total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Interest:
    """Whose changes a watcher wants: of some jobs, or of all jobs of a user."""

    jobs: frozenset[JobId] = field(default=frozenset())
    user_id: UserId | None = None

    def includes(self, job: Job) -> bool:
        return job.id in self.jobs or (self.user_id is not None and job.user_id == self.user_id)


class Store(Protocol):
    async def change(self, keys: Sequence[AnyKey], decide: Decide) -> Records:
        """Load the keyed records, write what `decide` returns, all of it or nothing; return what then stands.

        The result holds every loaded key and every written one. `decide` is pure and may run more than
        once: on a conflict, and after a commit whose result is unknown. Only records that it writes are
        guarded; one merely read may have changed meanwhile. What `decide` raises comes out unchanged
        and nothing is written. A `Create` of what exists is a conflict.

        Raises `Conflict` after the last try and `StoreUnavailable` when the store does not answer.
        """

    async def load(self, keys: Sequence[AnyKey]) -> Records:
        """The records as they stand, each by itself; nothing is guarded."""

    async def due(self, now: datetime, *, limit: int) -> Sequence[Job]:
        """Unfinished jobs whose `wake_at` has come, the longest due first.

        A job may be missing for a moment after a change, never for good.
        """

    async def next_wake(self) -> datetime | None:
        """The earliest `wake_at` of all, if any job is unfinished."""

    async def jobs(self, wanted: JobFilter, *, limit: int, after: str | None = None) -> Page[Job]:
        """Newest first. Touches about `limit` rows, however many there are. Raises `BadCursor`."""

    async def feed(self, *, limit: int, after: str | None = None) -> Page[Job]:
        """Published jobs, the latest published first. Raises `BadCursor`."""

    async def entries(self, account: AccountId, *, limit: int, after: str | None = None) -> Page[Entry]:
        """An account's ledger, newest first. Raises `BadCursor`."""

    async def entries_of(self, jobs: Sequence[JobId]) -> Sequence[Entry]:
        """Every entry that names one of these jobs (at most 500), in no order."""

    async def balances(self, *, limit: int, after: str | None = None) -> Page[Balance]:
        """Every account with the sum of its entries, for the audit. Raises `BadCursor`."""

    async def count(self, wanted: JobFilter) -> Tally:
        """How many jobs fit, and what they cost together. Cheap for an account's unfinished jobs."""

    async def api_keys(self) -> Sequence[ApiKey]:
        """All API keys, newest first."""

    def watch(self, interest: Interest) -> AbstractAsyncContextManager[AsyncIterator[Job]]:
        """The jobs of interest, each time one has changed, from entering the context on.

        So enter, load what stands, then iterate: nothing falls between. Changes in quick succession may
        arrive as one and one may arrive twice; the last one always arrives. A slow reader sees the
        latest state of each job, not a growing queue. Ends only with the context.
        """

    async def check(self) -> None:
        """Raise `StoreUnavailable` unless reads and writes work right now."""
