"""The queries of the store's port."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, Final

from shared.adapters.cursors import decode_cursor, encode_cursor, instant_in
from shared.adapters.firestore import statements
from shared.adapters.firestore.client import Firestore
from shared.adapters.firestore.documents import ENTRIES, JOBS, Documents, can_name
from shared.adapters.firestore.values import from_timestamp
from shared.adapters.instants import instant, microseconds
from shared.domain.errors import BadCursor
from shared.domain.ids import AccountId, JobId
from shared.domain.job import Job
from shared.domain.keys import ApiKey
from shared.domain.ledger import Account, Entry
from shared.ports.store import Balance, JobFilter, Page, T, Tally

DUE_LAG: Final = timedelta(minutes=10)
"""A job may yet be given a `wake_at` so long past: clocks differ, and a commit may take its time."""
LOOK_AT_ALL_EVERY: Final = timedelta(minutes=5)
SUMS_AT_ONCE: Final = 16


class Queries:
    def __init__(self, firestore: Firestore, documents: Documents, *, shards: int) -> None:
        self._firestore = firestore
        self._documents = documents
        self._shards = shards
        self._looked = Looked()

    async def due(self, now: datetime, *, limit: int) -> Sequence[Job]:
        since = self._looked.begin(now)
        found = await self._due(now, since, limit)
        self._looked.end(now, _at(found[0], "internal.wake_at") if found else None)
        jobs = list(self._documents.readable_jobs(found))
        # Those that nobody here can read stay at the front: others must not wait behind them for ever.
        while len(jobs) < limit == len(found):
            found = await self._due(now, since, limit, (_at(found[-1], "internal.wake_at"), found[-1].name))
            jobs += self._documents.readable_jobs(found)
        return jobs[:limit]

    async def _due(
        self, now: datetime, since: datetime | None, limit: int, after: tuple[datetime, str] | None = None
    ) -> list[Any]:
        found = await self._documents_of(
            statements.due(shard, now, since, limit, after) for shard in range(self._shards)
        )
        found.sort(key=lambda document: (_at(document, "internal.wake_at"), _id(document)))
        return found[:limit]

    async def next_wake(self) -> datetime | None:
        found = await self._documents_of(
            statements.next_wake(shard, self._looked.since) for shard in range(self._shards)
        )
        return min((_at(document, "internal.wake_at") for document in found), default=None)

    async def jobs(self, wanted: JobFilter, *, limit: int, after: str | None = None) -> Page[Job]:
        before = decode_cursor(after, parts=1)[0] if after is not None else None
        rows = await self._documents_of(statements.list_jobs(wanted, self._shards, limit + 1, before))
        rows.sort(key=_id, reverse=True)
        return _page(rows, limit, self._documents.readable_jobs, lambda row: (_id(row),))

    async def feed(self, *, limit: int, after: str | None = None) -> Page[Job]:
        place = _place_in(after, f"{self._documents.root}/{JOBS}")
        rows = await self._documents_of(
            statements.feed(shard, limit + 1, place) for shard in range(self._shards)
        )
        rows.sort(key=lambda row: (_at(row, "published_at"), _id(row)), reverse=True)
        return _page(
            rows,
            limit,
            self._documents.readable_jobs,
            lambda row: (microseconds(_at(row, "published_at")), _id(row)),
        )

    async def entries(self, account: AccountId, *, limit: int, after: str | None = None) -> Page[Entry]:
        parent = self._documents.account_name(account)
        place = _place_in(after, f"{parent}/{ENTRIES}")
        if not can_name(account):
            return Page([])
        rows, _ = await self._firestore.query(parent, statements.list_entries(limit + 1, place))
        return _page(
            rows, limit, self._entries_in, lambda row: (microseconds(_at(row, "created_at")), _id(row))
        )

    async def entries_of(self, jobs: Sequence[JobId]) -> Sequence[Entry]:
        found = await self._documents_of(statements.entries_of(list(dict.fromkeys(jobs)), self._shards))
        return list(self._entries_in(found))

    async def balances(self, *, limit: int, after: str | None = None) -> Page[Balance]:
        since = decode_cursor(after, parts=1)[0] if after is not None else None
        name = self._name_in(since) if since is not None else None
        rows, read_at = await self._firestore.query(
            self._documents.root, statements.list_accounts(limit + 1, name)
        )
        at_once = asyncio.Semaphore(SUMS_AT_ONCE)

        async def total(row: Any) -> int:
            async with at_once:
                figures = await self._firestore.aggregate(
                    row.name, statements.sum_of_entries(), read_at=read_at
                )
            return int(figures["tokens"] or 0)

        totals = await _gathered([total(row) for row in rows[:limit]])
        books = dict(zip((row.name for row in rows), totals, strict=False))

        def balances_in(part: Iterable[Any]) -> Iterable[Balance]:
            for row in part:
                account: Account = self._documents.read(Account, row)
                yield Balance(account_id=account.id, balance=account.balance, entries_total=books[row.name])

        return _page(rows, limit, balances_in, lambda row: (_id(row),))

    async def count(self, wanted: JobFilter) -> Tally:
        parts = await _gathered(
            [
                self._firestore.aggregate(self._documents.root, query)
                for query in statements.count_jobs(wanted, self._shards)
            ]
        )
        return Tally(sum(part["jobs"] for part in parts), sum(int(part["tokens"] or 0) for part in parts))

    async def api_keys(self) -> Sequence[ApiKey]:
        found = await self._documents_of([statements.list_api_keys()])
        return [self._documents.read(ApiKey, document) for document in found]

    async def _documents_of(self, queries: Iterable[Any]) -> list[Any]:
        found = await _gathered([self._firestore.query(self._documents.root, query) for query in queries])
        return list(chain.from_iterable(documents for documents, _ in found))

    def _entries_in(self, rows: Iterable[Any]) -> Iterable[Entry]:
        return (self._documents.read(Entry, row) for row in rows)

    def _name_in(self, account: str) -> str:
        return self._documents.account_name(_nameable(account))


class Looked:
    """How far the past is known to hold nothing due, so that it need not be walked through every time.

    Firestore keeps removed index entries for a while, and the oldest end of `wake_at` is where all
    entries are removed. Jobs that are moved there later than expected are found when all is looked at.
    """

    def __init__(self) -> None:
        self.since: datetime | None = None
        self._looked_at_all: datetime | None = None

    def begin(self, now: datetime) -> datetime | None:
        """Where to start looking; `None` is at the very beginning."""
        last = self._looked_at_all
        if last is None or not timedelta() <= now - last < LOOK_AT_ALL_EVERY:
            self._looked_at_all, self.since = now, None
        return self.since

    def end(self, now: datetime, earliest: datetime | None) -> None:
        """Nothing was found before `earliest`, or nothing at all up to now."""
        self.since = (earliest or now) - DUE_LAG


async def _gathered(calls: Sequence[Coroutine[Any, Any, T]]) -> Sequence[T]:
    """The results of calls that run beside each other; the first error ends them all."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    return [task.result() for task in tasks]


def _page(
    rows: Sequence[Any],
    limit: int,
    records: Callable[[Iterable[Any]], Iterable[T]],
    place: Callable[[Any], tuple[str | int, ...]],
) -> Page[T]:
    """The rows were asked for with one more than the limit, which tells whether more follow."""
    part = rows[:limit]
    return Page(list(records(part)), encode_cursor(*place(part[-1])) if len(rows) > limit else None)


def _place_in(after: str | None, collection: str) -> tuple[datetime, str] | None:
    if after is None:
        return None
    at, id_ = decode_cursor(after, parts=2)
    try:
        return instant(instant_in(at)), f"{collection}/{_nameable(id_)}"
    except OverflowError as error:
        raise BadCursor from error


def _nameable(id_: str) -> str:
    if not can_name(id_):
        raise BadCursor
    return id_


def _id(document: Any) -> str:
    id_: str = document.name.rpartition("/")[2]
    return id_


def _at(document: Any, path: str) -> datetime:
    *maps, last = path.split(".")
    fields = document.fields
    for name in maps:
        fields = fields[name].map_value.fields
    return from_timestamp(fields[last].timestamp_value)
