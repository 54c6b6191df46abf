"""The queries of the store's port, over whatever carries the statements out."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select

from shared.adapters.cursors import encode_cursor
from shared.adapters.instants import instant
from shared.adapters.sql import statements
from shared.adapters.sql.rows import from_body, readable_jobs
from shared.domain.ids import AccountId, JobId
from shared.domain.job import Job
from shared.domain.keys import ApiKey
from shared.domain.ledger import Account, Entry
from shared.ports.store import Balance, JobFilter, Page, T, Tally


class Queries(ABC):
    @abstractmethod
    async def _rows(self, statement: Select[Any]) -> Sequence[Any]:
        """All rows, with their columns as attributes; raises `StoreUnavailable`."""

    async def due(self, now: datetime, *, limit: int) -> Sequence[Job]:
        rows = await self._rows(statements.due(now, limit))
        jobs = list(readable_jobs(rows))
        # Those that nobody here can read stay at the front: others must not wait behind them for ever.
        while len(jobs) < limit == len(rows):
            rows = await self._rows(statements.due(now, limit, (rows[-1].wake_at, rows[-1].id)))
            jobs += readable_jobs(rows)
        return jobs[:limit]

    async def next_wake(self) -> datetime | None:
        [(wake_at,)] = await self._rows(statements.NEXT_WAKE)
        return instant(wake_at) if wake_at is not None else None

    async def jobs(self, wanted: JobFilter, *, limit: int, after: str | None = None) -> Page[Job]:
        rows = await self._rows(statements.list_jobs(wanted, limit + 1, after))
        return _page(rows, limit, readable_jobs, lambda row: (row.id,))

    async def feed(self, *, limit: int, after: str | None = None) -> Page[Job]:
        rows = await self._rows(statements.feed(limit + 1, after))
        return _page(rows, limit, readable_jobs, lambda row: (row.published_at, row.id))

    async def entries(self, account: AccountId, *, limit: int, after: str | None = None) -> Page[Entry]:
        rows = await self._rows(statements.list_entries(account, limit + 1, after))
        return _page(rows, limit, _entries_in, lambda row: (row.created_at, row.id))

    async def entries_of(self, jobs: Sequence[JobId]) -> Sequence[Entry]:
        rows = await self._rows(statements.entries_of(jobs))
        return list(_entries_in(rows))

    async def balances(self, *, limit: int, after: str | None = None) -> Page[Balance]:
        rows = await self._rows(statements.balances(limit + 1, after))
        return _page(rows, limit, _balances_in, lambda row: (row.id,))

    async def count(self, wanted: JobFilter) -> Tally:
        [(jobs, tokens)] = await self._rows(statements.count_jobs(wanted))
        return Tally(jobs, int(tokens))

    async def api_keys(self) -> Sequence[ApiKey]:
        rows = await self._rows(statements.API_KEYS)
        return [from_body(ApiKey, row.body) for row in rows]


def _entries_in(rows: Iterable[Any]) -> Iterator[Entry]:
    return (from_body(Entry, row.body) for row in rows)


def _balances_in(rows: Iterable[Any]) -> Iterator[Balance]:
    for row in rows:
        account: Account = from_body(Account, row.body)
        # PostgreSQL's sum is a number of any length.
        yield Balance(account_id=account.id, balance=account.balance, entries_total=int(row.total))


def _page(
    rows: Sequence[Any],
    limit: int,
    records: Callable[[Iterable[Any]], Iterable[T]],
    place: Callable[[Any], tuple[str | int, ...]],
) -> Page[T]:
    """The rows were asked for with one more than the limit, which tells whether more follow."""
    part = rows[:limit]
    return Page(list(records(part)), encode_cursor(*place(part[-1])) if len(rows) > limit else None)
