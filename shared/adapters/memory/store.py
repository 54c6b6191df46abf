"""The store in plain dicts: the reference for the others, and what unit tests use."""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime

from shared.adapters.cursors import decode_cursor, encode_cursor, instant_in
from shared.adapters.instants import microseconds
from shared.adapters.watching import Watchers
from shared.domain.changes import (
    AnyKey,
    Create,
    Decide,
    Delete,
    Record,
    Records,
    require_sound,
    target_of,
)
from shared.domain.errors import Conflict
from shared.domain.ids import AccountId, JobId
from shared.domain.job import Job
from shared.domain.keys import ApiKey
from shared.domain.ledger import Account, Entry
from shared.ports.store import Balance, Interest, JobFilter, Page, T, Tally


class MemoryStore:
    """Nothing here awaits between load and write, so one event loop makes every change atomic."""

    def __init__(self) -> None:
        self._records: dict[AnyKey, Record] = {}
        self._watchers = Watchers()

    async def change(self, keys: Sequence[AnyKey], decide: Decide) -> Records:
        loaded = Records({key: self._records.get(key) for key in keys})
        writes = decide(loaded)
        require_sound(loaded, writes)
        if any(isinstance(write, Create) and target_of(write) in self._records for write in writes):
            raise Conflict("another change created the same record")
        for write in writes:
            if isinstance(write, Delete):
                del self._records[write.key]
            else:
                self._records[target_of(write)] = write.record
        self._watchers.tell(
            w.record for w in writes if not isinstance(w, Delete) and isinstance(w.record, Job)
        )
        return await self.load([*keys, *(target_of(write) for write in writes)])

    async def load(self, keys: Sequence[AnyKey]) -> Records:
        return Records({key: self._records.get(key) for key in keys})

    async def due(self, now: datetime, *, limit: int) -> Sequence[Job]:
        waking = ((job.wake_at, job.id, job) for job in self._all(Job) if job.wake_at and job.wake_at <= now)
        return [job for _, _, job in sorted(waking, key=lambda row: row[:2])][:limit]

    async def next_wake(self) -> datetime | None:
        return min((job.wake_at for job in self._all(Job) if job.wake_at), default=None)

    async def jobs(self, wanted: JobFilter, *, limit: int, after: str | None = None) -> Page[Job]:
        before = decode_cursor(after, parts=1)[0] if after is not None else None
        fitting = (
            job for job in self._all(Job) if _fits(job, wanted) and (before is None or job.id < before)
        )
        return _page(
            sorted(fitting, key=lambda job: job.id, reverse=True), limit, lambda job: encode_cursor(job.id)
        )

    async def feed(self, *, limit: int, after: str | None = None) -> Page[Job]:
        def place(job: Job) -> tuple[int, str]:
            assert job.published_at is not None
            return microseconds(job.published_at), job.id

        shown = sorted((job for job in self._all(Job) if job.published_at), key=place, reverse=True)
        if after is not None:
            at, id_ = decode_cursor(after, parts=2)
            before = instant_in(at), id_
            shown = [job for job in shown if place(job) < before]
        return _page(shown, limit, lambda job: encode_cursor(*place(job)))

    async def entries(self, account: AccountId, *, limit: int, after: str | None = None) -> Page[Entry]:
        def place(entry: Entry) -> tuple[int, str]:
            return microseconds(entry.created_at), entry.id

        lines = [entry for entry in self._all(Entry) if entry.account_id == account]
        if after is not None:
            at, id_ = decode_cursor(after, parts=2)
            before = instant_in(at), id_
            lines = [entry for entry in lines if place(entry) < before]
        lines.sort(key=place, reverse=True)
        return _page(lines, limit, lambda entry: encode_cursor(*place(entry)))

    async def entries_of(self, jobs: Sequence[JobId]) -> Sequence[Entry]:
        wanted = set(jobs)
        return [entry for entry in self._all(Entry) if entry.job_id in wanted]

    async def balances(self, *, limit: int, after: str | None = None) -> Page[Balance]:
        since = decode_cursor(after, parts=1)[0] if after is not None else ""
        totals: dict[AccountId, int] = {}
        for entry in self._all(Entry):
            totals[entry.account_id] = totals.get(entry.account_id, 0) + entry.tokens
        books = [
            Balance(account_id=account.id, balance=account.balance, entries_total=totals.get(account.id, 0))
            for account in sorted(self._all(Account), key=lambda account: account.id)
            if account.id > since
        ]
        return _page(books, limit, lambda balance: encode_cursor(balance.account_id))

    async def count(self, wanted: JobFilter) -> Tally:
        costs = [job.cost for job in self._all(Job) if _fits(job, wanted)]
        return Tally(len(costs), sum(costs))

    async def api_keys(self) -> Sequence[ApiKey]:
        return sorted(self._all(ApiKey), key=lambda key: (key.created_at, key.digest), reverse=True)

    def watch(self, interest: Interest) -> AbstractAsyncContextManager[AsyncIterator[Job]]:
        return self._watchers.watch(interest)

    async def check(self) -> None:
        """Memory always answers."""

    def _all(self, type_: type[T]) -> Iterable[T]:
        return (record for record in self._records.values() if isinstance(record, type_))


def _fits(job: Job, wanted: JobFilter) -> bool:
    return (
        (wanted.user_id is None or (job.user_id == wanted.user_id and job.is_visible))
        and (wanted.account_id is None or job.account_id == wanted.account_id)
        and (not wanted.kinds or job.kind in wanted.kinds)
        and (not wanted.statuses or job.status in wanted.statuses)
    )


def _page(rows: Sequence[T], limit: int, place: Callable[[T], str]) -> Page[T]:
    part = rows[:limit]
    return Page(part, place(part[-1]) if len(rows) > limit else None)
