"""The store on PostgreSQL, for many machines; a pooler that shares sessions may stand between (Supabase).

So nothing outlives a transaction: no prepared statements, no `SET` but `SET LOCAL`, no `LISTEN`, no lock
of a session. Statements go out as plain text with their values quoted by the driver, which lets one
message carry many of them: a change costs two round trips.

A change locks the rows that it loads, in one order for everybody, decides, and writes. What does not
exist cannot be locked: of two that create it, the second finds it standing and decides again.
"""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import psycopg
import structlog
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import namedtuple_row
from psycopg_pool import AsyncConnectionPool
from sqlalchemy import Select, literal_column
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.elements import ColumnElement

from shared.adapters.keyed_locks import KeyedLocks
from shared.adapters.sql.migrate import migrate_postgres
from shared.adapters.sql.postgres_changes import Changes
from shared.adapters.sql.queries import Queries
from shared.adapters.sql.rows import TABLES, from_body, identity, to_row
from shared.adapters.sql.statements import PointStatements, Prepared, rendered
from shared.domain.changes import (
    AnyKey,
    Create,
    Decide,
    Delete,
    Record,
    Records,
    Write,
    job_key,
    require_sound,
    target_of,
)
from shared.domain.errors import Conflict, StoreUnavailable
from shared.domain.ids import JobId
from shared.domain.job import Job
from shared.domain.keys import ApiKey
from shared.domain.ledger import Account, Entry
from shared.ports.store import Interest, T

MAX_CONNECTIONS: Final = 10
"""Of one process; a database or its pooler takes about a hundred from everybody."""
MAX_WAITING: Final = 1_000
"""Who may wait for a connection; more are told at once that the store is unavailable."""
CONNECTION_TIMEOUT_SECONDS: Final = 5
"""How long to wait for a connection, a new one or a free one."""
ANSWER_TIMEOUT_SECONDS: Final = 15
"""How long the server may take for one transaction, waiting for locks included."""
CHANGE_TIMEOUT_SECONDS: Final = 60
"""For all tries of a change, waiting for others of this process included."""
LOST_TRIES: Final = 3
"""How often something is begun anew because its connection was lost."""
CONFLICT_TRIES: Final = 10
"""How often a change is decided anew because others were faster."""
CONFLICT_DELAY_SECONDS: Final = 0.01
"""Up to so long before the second try; twice as long before each further one."""

DIALECT: Final = PGDialect(paramstyle="format")  # type: ignore[no-untyped-call]

_BEGIN: Final = (
    "BEGIN ISOLATION LEVEL READ COMMITTED; "
    "SET LOCAL lock_timeout = '5s'; "
    "SET LOCAL idle_in_transaction_session_timeout = '10s'"  # a process that hangs lets its rows go
)
_COMMIT: Final = "COMMIT"
_CHANGED: Final[ColumnElement[Any]] = literal_column("pg_current_xact_id()::text::bigint")
"""A job's place among the changes: the transaction that wrote it. See `postgres_changes`."""
_CONNECTION: Final[dict[str, Any]] = {
    "autocommit": True,
    "prepare_threshold": None,
    "connect_timeout": CONNECTION_TIMEOUT_SECONDS,
    "application_name": "mediaforge",
    "client_encoding": "utf8",
    "keepalives_idle": 30,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 1_000 * ANSWER_TIMEOUT_SECONDS,
}
_ORDER: Final = {Account: 0, ApiKey: 1, Job: 2, Entry: 3}
"""The order of locking. Accounts first: who waits, waits there, and then reads all that came before."""

_Connection = psycopg.AsyncConnection[Any]
_Batch = list[tuple[Prepared, dict[str, Any]]]
_log = structlog.get_logger(__name__)


class _Overtaken(Exception):
    """Somebody else changed what the decision was about; what stands now is to be decided on."""


class _Lost(Exception):
    """The connection broke; a commit that was under way may have happened or not."""


class PostgresStore(Queries):
    def __init__(self, pool: AsyncConnectionPool[_Connection]) -> None:
        self._pool = pool
        self._points = {type_: PointStatements(type_, DIALECT, changed=_CHANGED) for type_ in TABLES}
        self._locks = KeyedLocks()
        self._changes = Changes(self._rows)

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator["PostgresStore"]:
        """Migrate the database, then open it. Raises `StoreUnavailable` if that is not possible."""
        _require_readable(url)
        try:
            # Not autocommit: a migration is one transaction.
            await asyncio.to_thread(
                migrate_postgres, lambda: psycopg.connect(url, **(_CONNECTION | {"autocommit": False}))
            )
        except (psycopg.Error, DBAPIError) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            raise StoreUnavailable(f"cannot open the database: {_in_one_line(cause)}") from error
        pool = AsyncConnectionPool(
            url,
            connection_class=_Connection,
            kwargs=_CONNECTION | {"cursor_factory": psycopg.AsyncClientCursor, "row_factory": namedtuple_row},
            min_size=1,
            max_size=MAX_CONNECTIONS,
            max_waiting=MAX_WAITING,
            timeout=CONNECTION_TIMEOUT_SECONDS,
            # Not minutes: its tries grow further apart, and whoever asks next begins anew.
            reconnect_timeout=CONNECTION_TIMEOUT_SECONDS,
            open=False,
            name="postgres",
        )
        async with pool:
            store = cls(pool)
            try:
                yield store
            finally:
                await store._changes.close()

    async def change(self, keys: Sequence[AnyKey], decide: Decide) -> Records:
        limit = asyncio.timeout(CHANGE_TIMEOUT_SECONDS)
        try:
            # Else those who want one account would wait for its row with a connection each.
            async with limit, self._locks.held(keys):
                return await self._change(sorted(set(keys), key=_place), decide)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise StoreUnavailable("the database does not answer") from error

    async def _change(self, ordered: Sequence[AnyKey], decide: Decide) -> Records:
        overtaken = lost = 0
        while True:
            try:
                async with self._connection() as connection:
                    return await self._try_change(connection, ordered, decide)
            except _Overtaken as error:
                overtaken += 1
                if overtaken == CONFLICT_TRIES:
                    raise Conflict("others kept changing the same records") from error
                await asyncio.sleep(random.uniform(0, CONFLICT_DELAY_SECONDS * 2**overtaken))  # noqa: S311
            except _Lost as error:
                lost += 1
                if lost == LOST_TRIES:
                    raise StoreUnavailable("the database broke off every answer") from error
                await self._pool.drain()  # not `check`: it waits for each, without end

    async def _try_change(self, connection: _Connection, keys: Sequence[AnyKey], decide: Decide) -> Records:
        loaded = Records(await self._lock(connection, keys))
        writes = decide(loaded)
        require_sound(loaded, writes)
        ordered = sorted(writes, key=lambda write: _place(target_of(write)))
        sql, values = _message(map(self._statement_of, ordered))
        try:
            # In one message: the rows are locked no longer than it takes.
            await connection.execute(f"{sql}; {_COMMIT}" if sql else _COMMIT, values)
        except errors.UniqueViolation as error:
            await connection.rollback()
            await self._require_decidable(connection, loaded, writes)
            raise _Overtaken from error
        written = {target_of(w): None if isinstance(w, Delete) else w.record for w in writes}
        return Records({**loaded, **written})

    async def _lock(self, connection: _Connection, keys: Sequence[AnyKey]) -> dict[AnyKey, Record | None]:
        """Begin a transaction in which the records of the keys stand as they were read."""
        locks: _Batch = [(self._points[key.type].lock, identity(key)) for key in keys if _can_exist(key)]
        records = await _read(connection, keys, locks, begin=True)
        found = [index for index, key in enumerate(keys) if records[key] is not None]
        # What was missing before we waited for a row may have been made by whoever held that row.
        doubtful = [key for key in keys[: found[-1] if found else 0] if records[key] is None]
        again = await _read(connection, doubtful, self._selects(doubtful))
        if any(record is not None for record in again.values()):
            raise _Overtaken
        return records

    async def _require_decidable(
        self, connection: _Connection, loaded: Records, writes: Sequence[Write]
    ) -> None:
        """Raise `Conflict` if nothing that the decision saw has changed: it would collide for ever."""
        missed = [key for key in loaded if loaded[key] is None]
        unseen = [target_of(w) for w in writes if isinstance(w, Create) and target_of(w) not in loaded]
        standing = await _read(connection, keys := [*missed, *unseen], self._selects(keys))
        colliding = [key for key in unseen if standing[key] is not None]
        if colliding and all(standing[key] is None for key in missed):
            raise Conflict(f"{colliding[0].id} exists already")

    def _statement_of(self, write: Write) -> tuple[Prepared, dict[str, Any]]:
        key = target_of(write)
        points = self._points[key.type]
        if isinstance(write, Delete):
            return points.delete, identity(key)
        row = to_row(write.record, changed=0)  # the statements compute it
        return (points.insert, row) if isinstance(write, Create) else (points.update, row | identity(key))

    async def load(self, keys: Sequence[AnyKey]) -> Records:
        async def read(connection: _Connection) -> Records:
            return Records(await _read(connection, keys, self._selects(keys)))

        return await self._ask(read)

    def _selects(self, keys: Sequence[AnyKey]) -> _Batch:
        return [(self._points[key.type].select, identity(key)) for key in keys if _can_exist(key)]

    async def _rows(self, statement: Select[Any]) -> Sequence[Any]:
        sql, values = rendered(statement, DIALECT)

        async def read(connection: _Connection) -> Sequence[Any]:
            return await (await connection.execute(sql, values)).fetchall()

        return await self._ask(read)

    def watch(self, interest: Interest) -> AbstractAsyncContextManager[AsyncIterator[Job]]:
        return self._changes.watch(interest)

    async def check(self) -> None:
        # Reads and locks as every change does; a database that only reads refuses the lock.
        await self.change([job_key(JobId("check"))], lambda _: [])

    async def _ask(self, read: Callable[[_Connection], Awaitable[T]]) -> T:
        for _ in range(LOST_TRIES):
            try:
                async with self._connection() as connection:
                    return await read(connection)
            except (_Lost, _Overtaken) as error:
                _log.info("store.read_again", error=str(error))
                await self._pool.drain()  # not `check`: it waits for each, without end
        raise StoreUnavailable("the database broke off every answer")

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[_Connection]:
        """A connection that nobody else uses; what the driver raises becomes what the port names."""
        limit = asyncio.timeout(CONNECTION_TIMEOUT_SECONDS + ANSWER_TIMEOUT_SECONDS)
        try:
            async with limit, self._pool.connection() as connection:
                try:
                    yield connection
                except psycopg.Error as error:
                    if connection.closed:
                        raise _Lost(_in_one_line(error)) from error
                    raise
        except (errors.SerializationFailure, errors.DeadlockDetected) as error:
            raise _Overtaken(_in_one_line(error)) from error
        except errors.LockNotAvailable as error:
            raise Conflict("others held the same records for too long") from error
        except psycopg.Error as error:
            raise StoreUnavailable(f"the database did not take it: {_in_one_line(error)}") from error
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise StoreUnavailable("the database does not answer") from error


async def _read(
    connection: _Connection, keys: Sequence[AnyKey], batch: _Batch, *, begin: bool = False
) -> dict[AnyKey, Record | None]:
    """Carry the selects out in one message; `batch` holds one for each key that can exist, in order."""
    records: dict[AnyKey, Record | None] = dict.fromkeys(keys)
    sql, values = _message(batch)
    parts = [part for part in (_BEGIN if begin else "", sql) if part]
    if not parts:
        return records
    cursor = await connection.execute("; ".join(parts), values)
    for key in filter(_can_exist, keys):
        while cursor.description is None:  # BEGIN and its settings answer nothing
            cursor.nextset()
        row = await cursor.fetchone()
        records[key] = from_body(key.type, row.body) if row is not None else None
        cursor.nextset()
    return records


def _message(batch: Iterable[tuple[Prepared, dict[str, Any]]]) -> tuple[str, list[Any]]:
    texts, values = list[str](), list[Any]()
    for statement, its_values in batch:
        texts.append(statement.sql)
        values += statement.parameters(its_values)
    return "; ".join(texts), values


def _place(key: AnyKey) -> tuple[int, str, str]:
    return _ORDER[key.type], key.parent, key.id


def _can_exist(key: AnyKey) -> bool:
    """PostgreSQL's text holds every character but one, and refuses to be asked for it."""
    return "\0" not in key.id and "\0" not in key.parent


def _require_readable(url: str) -> None:
    try:
        parts = conninfo_to_dict(url)
        # An @ or / in a password ends it, and the rest of it is taken for a host or a port.
        is_readable = "@" not in f"{parts.get('host', '')}" and re.fullmatch(
            "[0-9,]*", f"{parts.get('port', '')}"
        )
    except psycopg.ProgrammingError:
        is_readable = None
    if not is_readable:
        # Not what the driver says: it may repeat the address, and with it a password.
        raise StoreUnavailable(
            "its address cannot be read; it looks like postgresql://user:password@host:5432/database, "
            "with %40 and the like for what is special in a password"
        ) from None


def _in_one_line(error: BaseException | None) -> str:
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
