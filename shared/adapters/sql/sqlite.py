"""The store on one machine: an SQLite file that several processes may open."""

import asyncio
import contextvars
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import structlog
from sqlalchemy import Executable, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from shared.adapters.cursors import encode_cursor
from shared.adapters.instants import instant
from shared.adapters.sql import statements
from shared.adapters.sql.migrate import migrate_sqlite
from shared.adapters.sql.rows import TABLES, from_body, identity, readable_jobs
from shared.adapters.sql.statements import PointStatements
from shared.adapters.sql.writer import DIALECT, Writer, connect
from shared.adapters.watching import Watchers
from shared.domain.changes import AnyKey, Decide, Records
from shared.domain.errors import StoreUnavailable
from shared.domain.ids import AccountId, JobId
from shared.domain.job import Job
from shared.domain.keys import ApiKey
from shared.domain.ledger import Account, Entry
from shared.ports.store import Balance, Interest, JobFilter, Page, T, Tally

WATCH_INTERVAL_SECONDS: Final = 0.05
_WATCH_BATCH: Final = 500
_log = structlog.get_logger(__name__)


class SqliteStore:
    """Writes go through the `Writer`; reads have a thread and a connection of their own, which WAL allows."""

    def __init__(self, path: Path, writer: Writer, reader: "_Reader") -> None:
        self.path = path
        self._writer = writer
        self._reader = reader
        self._watchers = Watchers()
        self._watching: asyncio.Task[None] | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator["SqliteStore"]:
        """Make or migrate the file, then open it. Raises `StoreUnavailable` if that is not possible."""
        try:
            await asyncio.to_thread(migrate_sqlite, path)
            reader = _Reader(path)
            writer = Writer(path)
        except (sqlite3.Error, DBAPIError, OSError) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            raise StoreUnavailable(f"cannot open {path}: {cause}") from error
        store = cls(path, writer, reader)
        try:
            yield store
        finally:
            if store._watching is not None:
                store._watching.cancel()
                with suppress(asyncio.CancelledError):
                    await store._watching
            await writer.close()
            await reader.close()

    async def change(self, keys: Sequence[AnyKey], decide: Decide) -> Records:
        return await self._writer.change(keys, decide)

    async def load(self, keys: Sequence[AnyKey]) -> Records:
        return await self._reader.records(keys)

    async def due(self, now: datetime, *, limit: int) -> Sequence[Job]:
        rows = await self._reader.rows(statements.due(now, limit))
        return list(readable_jobs(rows))

    async def next_wake(self) -> datetime | None:
        [(wake_at,)] = await self._reader.rows(statements.NEXT_WAKE)
        return instant(wake_at) if wake_at is not None else None

    async def jobs(self, wanted: JobFilter, *, limit: int, after: str | None = None) -> Page[Job]:
        rows = await self._reader.rows(statements.list_jobs(wanted, limit + 1, after))
        return _page(rows, limit, readable_jobs, lambda row: (row.id,))

    async def feed(self, *, limit: int, after: str | None = None) -> Page[Job]:
        rows = await self._reader.rows(statements.feed(limit + 1, after))
        return _page(rows, limit, readable_jobs, lambda row: (row.published_at, row.id))

    async def entries(self, account: AccountId, *, limit: int, after: str | None = None) -> Page[Entry]:
        rows = await self._reader.rows(statements.list_entries(account, limit + 1, after))
        return _page(rows, limit, _entries_in, lambda row: (row.created_at, row.id))

    async def entries_of(self, jobs: Sequence[JobId]) -> Sequence[Entry]:
        rows = await self._reader.rows(statements.entries_of(jobs))
        return list(_entries_in(rows))

    async def balances(self, *, limit: int, after: str | None = None) -> Page[Balance]:
        rows = await self._reader.rows(statements.balances(limit + 1, after))
        return _page(rows, limit, _balances_in, lambda row: (row.id,))

    async def count(self, wanted: JobFilter) -> Tally:
        [(jobs, tokens)] = await self._reader.rows(statements.count_jobs(wanted))
        return Tally(jobs, tokens)

    async def api_keys(self) -> Sequence[ApiKey]:
        rows = await self._reader.rows(statements.API_KEYS)
        return [from_body(ApiKey, row.body) for row in rows]

    @asynccontextmanager
    async def _watched(self, interest: Interest) -> AsyncIterator[AsyncIterator[Job]]:
        async with self._watchers.watch(interest) as changes:
            if self._watching is None:
                [(since,)] = await self._reader.rows(statements.LAST_CHANGED)
                if self._watching is None:
                    self._watching = asyncio.create_task(
                        self._watch(since), name="watch sqlite", context=contextvars.Context()
                    )
            yield changes

    def watch(self, interest: Interest) -> AbstractAsyncContextManager[AsyncIterator[Job]]:
        return self._watched(interest)

    async def _watch(self, since: int) -> None:
        """Tell the watchers what any process wrote; asking costs microseconds while nobody has written."""
        version = -1
        while self._watchers:
            try:
                latest = await self._reader.data_version()
                if latest != version:
                    rows = await self._reader.rows(statements.changed_since(since, _WATCH_BATCH))
                    self._watchers.tell(readable_jobs(rows))
                    since = rows[-1].changed if rows else since
                    version = latest if len(rows) < _WATCH_BATCH else -1
            except StoreUnavailable as error:
                _log.warning("store.watch_failed", error=str(error))
            await asyncio.sleep(WATCH_INTERVAL_SECONDS)
        self._watching = None

    async def check(self) -> None:
        await self._reader.rows(statements.NEXT_WAKE)
        await self._writer.change([], lambda _: [])


class _Reader:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = connect(path)
        self._connection.execute("PRAGMA query_only = ON")
        self._engine = create_engine(
            "sqlite://", creator=lambda: self._connection, poolclass=StaticPool, isolation_level="AUTOCOMMIT"
        )
        self._selects = {type_: PointStatements(type_, DIALECT).select for type_ in TABLES}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite-reader")

    async def rows(self, statement: Executable) -> Sequence[Any]:
        def read() -> Sequence[Any]:
            with self._engine.connect() as connection:
                return connection.execute(statement).all()

        return await self._on_thread(read)

    async def records(self, keys: Sequence[AnyKey]) -> Records:
        def read() -> Records:
            found = {}
            for key in keys:
                select = self._selects[key.type]
                row = self._connection.execute(select.sql, select.parameters(identity(key))).fetchone()
                found[key] = from_body(key.type, row[0]) if row else None
            return Records(found)

        return await self._on_thread(read)

    async def data_version(self) -> int:
        """Another number once any other connection, of any process, has committed."""

        def read() -> int:
            version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
            return version

        return await self._on_thread(read)

    async def _on_thread(self, read: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, read)
        except (sqlite3.Error, DBAPIError) as error:
            raise StoreUnavailable(f"{self._path} cannot be read: {error}") from error

    async def close(self) -> None:
        await asyncio.to_thread(self._thread.shutdown)
        self._engine.dispose()
        self._connection.close()


def _entries_in(rows: Iterable[Any]) -> Iterator[Entry]:
    return (from_body(Entry, row.body) for row in rows)


def _balances_in(rows: Iterable[Any]) -> Iterator[Balance]:
    for row in rows:
        account: Account = from_body(Account, row.body)
        yield Balance(account_id=account.id, balance=account.balance, entries_total=row.total)


def _page(
    rows: Sequence[Any],
    limit: int,
    records: Callable[[Iterable[Any]], Iterable[T]],
    place: Callable[[Any], tuple[str | int, ...]],
) -> Page[T]:
    """The rows were asked for with one more than the limit, which tells whether more follow."""
    part = rows[:limit]
    return Page(list(records(part)), encode_cursor(*place(part[-1])) if len(rows) > limit else None)


def back_up(path: Path, copy: Path) -> None:
    """A consistent copy of a store that may be in use; SQLite reads it as of one instant."""
    with sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True) as source:
        with sqlite3.connect(copy) as target:
            source.backup(target)
        target.close()
    source.close()
