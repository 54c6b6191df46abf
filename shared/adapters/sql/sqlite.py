"""The store on one machine: an SQLite file that several processes may open."""

import asyncio
import contextvars
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import structlog
from sqlalchemy import Select, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from shared.adapters.sql import statements
from shared.adapters.sql.migrate import migrate_sqlite
from shared.adapters.sql.queries import Queries
from shared.adapters.sql.rows import TABLES, from_body, identity, readable_jobs
from shared.adapters.sql.statements import PointStatements
from shared.adapters.sql.writer import DIALECT, Writer, connect
from shared.adapters.watching import Watchers
from shared.domain.changes import AnyKey, Decide, Records
from shared.domain.errors import StoreUnavailable
from shared.domain.job import Job
from shared.ports.store import Interest, T

WATCH_INTERVAL_SECONDS: Final = 0.05
_WATCH_BATCH: Final = 500
_log = structlog.get_logger(__name__)


class SqliteStore(Queries):
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

    async def _rows(self, statement: Select[Any]) -> Sequence[Any]:
        return await self._reader.rows(statement)

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

    async def rows(self, statement: Select[Any]) -> Sequence[Any]:
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


def back_up(path: Path, copy: Path) -> None:
    """A consistent copy of a store that may be in use; SQLite reads it as of one instant."""
    with sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True) as source:
        with sqlite3.connect(copy) as target:
            source.backup(target)
        target.close()
    source.close()
