"""The one thread that writes to SQLite: many decisions, one transaction, one fsync.

While a commit waits for the disk, the next decisions queue up; they are then carried out together. Each
sees what the ones before it decided, and one that raises takes nothing with it.
"""

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
from sqlalchemy.dialects import sqlite

from shared.adapters.sql.rows import TABLES, from_body, identity, to_row
from shared.adapters.sql.statements import LAST_CHANGED, PointStatements, Prepared
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
from shared.domain.errors import Conflict, StoreUnavailable

MAX_BATCH: Final = 256
BUSY_TIMEOUT_SECONDS: Final = 5.0

DIALECT: Final = sqlite.dialect(paramstyle="qmark")
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Change:
    keys: Sequence[AnyKey]
    decide: Decide
    answer: "asyncio.Future[Records]"
    result: Records | None = None
    error: BaseException | None = None


class Writer:
    """Owns the writing connection. Made and closed on the event loop; the rest happens on its thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = path.stat().st_ino
        self._loop = asyncio.get_running_loop()
        self._inbox: queue.SimpleQueue[_Change | None] = queue.SimpleQueue()
        self._points = {type_: PointStatements(type_, DIALECT) for type_ in TABLES}
        self._last_changed = Prepared(LAST_CHANGED, DIALECT)
        self._connection = connect(path)
        self._thread = threading.Thread(target=self._run, name="sqlite-writer", daemon=True)
        self._thread.start()
        self._closed = False

    async def change(self, keys: Sequence[AnyKey], decide: Decide) -> Records:
        if self._closed:
            raise StoreUnavailable(f"{self._path} is closed")
        answer: asyncio.Future[Records] = self._loop.create_future()
        self._inbox.put(_Change(keys, decide, answer))
        return await answer

    async def close(self) -> None:
        self._closed = True
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join)
        self._connection.close()

    def _run(self) -> None:
        closing = False
        while not closing:
            batch: list[_Change] = []
            item = self._inbox.get()
            while item is not None:
                batch.append(item)
                if len(batch) == MAX_BATCH:
                    break
                try:
                    item = self._inbox.get_nowait()
                except queue.Empty:
                    break
            closing = item is None
            if batch:
                self._commit(batch)
                self._loop.call_soon_threadsafe(_answer, batch)

    def _commit(self, batch: Sequence[_Change]) -> None:
        """Carry the changes out together, or one by one if a record among them cannot be written."""
        try:
            self._try_commit(batch)
        except Exception as error:  # noqa: BLE001 - this thread must go on, whatever a caller handed in
            if len(batch) == 1:
                batch[0].error = error
                return
            for change in batch:
                change.error = None
                self._commit([change])

    def _try_commit(self, batch: Sequence[_Change]) -> None:
        cursor = self._connection.cursor()
        try:
            self._require_file()
            cursor.execute("BEGIN IMMEDIATE")
            transaction = _Transaction(cursor, self._points)
            for change in batch:
                _carry_out(change, transaction)
            transaction.flush(self._last_changed)
            cursor.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            _log.warning("store.commit_failed", error=str(error), changes=len(batch))
            for change in batch:  # those that raised too: perhaps over what another of the batch had decided
                change.error = StoreUnavailable(f"the store did not take it: {error}")
        finally:
            if self._connection.in_transaction:
                self._connection.rollback()
            cursor.close()

    def _require_file(self) -> None:
        """SQLite would go on writing to a file that somebody removed or replaced, and all would be lost."""
        if self._path.stat().st_ino != self._inode:
            raise OSError(f"{self._path} was replaced while it was open")


class _Transaction:
    """The records as the decisions so far have left them, over what the database holds."""

    def __init__(self, cursor: sqlite3.Cursor, points: dict[type[Any], PointStatements]) -> None:
        self._cursor = cursor
        self._points = points
        self._stored: dict[AnyKey, Record | None] = {}
        self._now: dict[AnyKey, Record | None] = {}

    def find(self, key: AnyKey) -> Record | None:
        if key not in self._now:
            statement = self._points[key.type].select
            row = self._cursor.execute(statement.sql, statement.parameters(identity(key))).fetchone()
            self._stored[key] = self._now[key] = from_body(key.type, row[0]) if row else None
        return self._now[key]

    def write(self, key: AnyKey, record: Record | None) -> None:
        self._now[key] = record

    def flush(self, last_changed: Prepared) -> None:
        """Write each record once, however many decisions changed it."""
        touched = [(key, record) for key, record in self._now.items() if record is not self._stored[key]]
        if not touched:
            return
        # Not just the last one plus one: that falls when its job is removed, and watchers are past it.
        changed = max(self._cursor.execute(last_changed.sql).fetchone()[0], time.time_ns() // 1000)
        for key, record in touched:
            points = self._points[key.type]
            if record is None:
                self._run(points.delete, identity(key))
                continue
            changed += 1
            row = to_row(record, changed=changed)
            if self._stored[key] is None:
                self._run(points.insert, row)
            else:
                self._run(points.update, row | identity(key))

    def _run(self, statement: Prepared, values: dict[str, Any]) -> None:
        self._cursor.execute(statement.sql, statement.parameters(values))


def _carry_out(change: _Change, transaction: _Transaction) -> None:
    """Let one decision see and change the transaction; if it raises, it has changed nothing."""
    try:
        loaded = Records({key: transaction.find(key) for key in change.keys})
        writes = change.decide(loaded)
        require_sound(loaded, writes)
        for write in writes:
            if isinstance(write, Create) and transaction.find(target_of(write)) is not None:
                raise Conflict(f"{target_of(write).id} exists already")  # noqa: TRY301
    except sqlite3.Error:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a decision raises belongs to its caller
        change.error = error
        return
    for write in writes:
        transaction.write(target_of(write), None if isinstance(write, Delete) else write.record)
    change.result = Records(
        {key: transaction.find(key) for key in [*change.keys, *(target_of(write) for write in writes)]}
    )


def _answer(batch: Sequence[_Change]) -> None:
    for change in batch:
        if change.answer.done():
            continue  # its caller was cancelled; what was written stands
        if change.error is not None:
            change.answer.set_exception(change.error)
        else:
            assert change.result is not None
            change.answer.set_result(change.result)


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection for one thread at a time, in autocommit: transactions are begun by hand."""
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode={'ro' if read_only else 'rw'}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=BUSY_TIMEOUT_SECONDS,
    )
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA cache_size = -65536")
    return connection
