"""Every statement, once, for SQLite and PostgreSQL alike."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    Dialect,
    Executable,
    Select,
    Table,
    and_,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.sql.elements import ColumnElement

from shared.adapters.cursors import decode_cursor, instant_in
from shared.adapters.instants import microseconds
from shared.adapters.sql.rows import TABLES
from shared.adapters.sql.schema import accounts, api_keys, entries, jobs
from shared.domain.ids import AccountId, JobId
from shared.domain.job import UNFINISHED, VISIBLE_KINDS, Status
from shared.ports.store import JobFilter


def _identified(table: Table) -> ColumnElement[bool]:
    return and_(*(column == bindparam(f"key_{column.name}") for column in table.primary_key))


class Prepared:
    """A statement rendered once for a dialect, for a driver's cursor: the hot path pays for no rendering."""

    __slots__ = ("_names", "sql")

    def __init__(self, statement: Executable, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
        self.sql = str(compiled)
        self._names: Sequence[str] = compiled.positiontup or ()

    def parameters(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple([values[name] for name in self._names])


def rendered(statement: Select[Any], dialect: Dialect) -> tuple[str, tuple[Any, ...]]:
    """A statement and its parameters in the driver's order."""
    compiled = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
    return str(compiled), tuple([compiled.params[name] for name in compiled.positiontup or ()])


class PointStatements:
    """Reading and writing one record by its key, for one record type."""

    def __init__(
        self, type_: type[Any], dialect: Dialect, *, changed: ColumnElement[Any] | None = None
    ) -> None:
        """`changed` computes that column where the database does; otherwise it comes with the row."""
        table = TABLES[type_]
        values: dict[str, Any] = {column.name: bindparam(column.name) for column in table.columns}
        if changed is not None and "changed" in values:
            values["changed"] = changed
        found = select(table.c.body).where(_identified(table))
        self.select = Prepared(found, dialect)
        self.lock = Prepared(found.with_for_update(), dialect)
        """Reads the record and keeps everybody else from changing it until the transaction ends."""
        self.insert = Prepared(insert(table).values(values), dialect)
        self.update = Prepared(update(table).where(_identified(table)).values(values), dialect)
        self.delete = Prepared(delete(table).where(_identified(table)), dialect)


LAST_CHANGED: Final = select(func.coalesce(func.max(jobs.c.changed), literal_column("0")))


def changed_since(changed: int, limit: int) -> Select[Any]:
    return (
        select(jobs.c.changed, jobs.c.body)
        .where(jobs.c.changed > changed)
        .order_by(jobs.c.changed)
        .limit(limit)
    )


def changed_between(place: tuple[int, str], end: int, limit: int) -> Select[Any]:
    """What stands after a place in the order of changes; several jobs may have changed at one."""
    return (
        select(jobs.c.changed, jobs.c.id, jobs.c.body)
        .where(tuple_(jobs.c.changed, jobs.c.id) > place, jobs.c.changed < end)
        .order_by(jobs.c.changed, jobs.c.id)
        .limit(limit)
    )


def due(now: datetime, limit: int, after: tuple[int, str] | None = None) -> Select[Any]:
    """`after` is the instant and the id at which the part before ended."""
    waking = [jobs.c.wake_at.is_not(None), jobs.c.wake_at <= microseconds(now)]
    if after is not None:
        waking.append(tuple_(jobs.c.wake_at, jobs.c.id) > after)
    columns = jobs.c.body, jobs.c.wake_at, jobs.c.id
    return select(*columns).where(*waking).order_by(jobs.c.wake_at, jobs.c.id).limit(limit)


NEXT_WAKE: Final = select(func.min(jobs.c.wake_at)).where(jobs.c.wake_at.is_not(None))


def list_jobs(wanted: JobFilter, limit: int, after: str | None) -> Select[Any]:
    conditions = [jobs.c.id < decode_cursor(after, parts=1)[0]] if after is not None else []
    if wanted.user_id is not None and (wanted.kinds or wanted.statuses):
        return _list_by_status(wanted, conditions, limit)
    conditions += _conditions(wanted)
    return select(jobs.c.id, jobs.c.body).where(*conditions).order_by(jobs.c.id.desc()).limit(limit)


def _list_by_status(wanted: JobFilter, conditions: list[ColumnElement[bool]], limit: int) -> Select[Any]:
    """One short index range per kind and status, merged: a rare status costs no reading of the others."""
    owned = [jobs.c.listed, jobs.c.user_id == wanted.user_id, *conditions]
    if wanted.account_id is not None:
        owned.append(jobs.c.account_id == wanted.account_id)
    ranges = [
        select(jobs.c.id, jobs.c.body)
        .where(*owned, jobs.c.kind == kind, jobs.c.status == str(status))
        .order_by(jobs.c.id.desc())
        .limit(limit)
        .subquery()
        for kind in sorted(wanted.kinds or VISIBLE_KINDS)
        for status in sorted(wanted.statuses or Status)
    ]
    merged = union_all(*(select(part.c.id, part.c.body) for part in ranges)).subquery()
    return select(merged.c.id, merged.c.body).order_by(merged.c.id.desc()).limit(limit)


def _conditions(wanted: JobFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.user_id is not None:
        conditions += [jobs.c.listed, jobs.c.user_id == wanted.user_id]
    if wanted.account_id is not None:
        conditions.append(jobs.c.account_id == wanted.account_id)
    if wanted.kinds:
        conditions.append(jobs.c.kind.in_(sorted(wanted.kinds)))
    if wanted.statuses and wanted.statuses <= UNFINISHED:
        conditions.append(jobs.c.wake_at.is_not(None))  # lets the partial indexes answer
    if wanted.statuses and wanted.statuses != UNFINISHED:
        conditions.append(jobs.c.status.in_(sorted(wanted.statuses)))
    return conditions


def count_jobs(wanted: JobFilter) -> Select[Any]:
    return select(func.count(), func.coalesce(func.sum(jobs.c.cost), 0)).where(*_conditions(wanted))


def feed(limit: int, after: str | None) -> Select[Any]:
    shown: list[ColumnElement[bool]] = [jobs.c.published_at.is_not(None)]
    if after is not None:
        at, id_ = decode_cursor(after, parts=2)
        shown.append(tuple_(jobs.c.published_at, jobs.c.id) < (instant_in(at), id_))
    return (
        select(jobs.c.published_at, jobs.c.id, jobs.c.body)
        .where(*shown)
        .order_by(jobs.c.published_at.desc(), jobs.c.id.desc())
        .limit(limit)
    )


def list_entries(account: AccountId, limit: int, after: str | None) -> Select[Any]:
    wanted: list[ColumnElement[bool]] = [entries.c.account_id == account]
    if after is not None:
        at, id_ = decode_cursor(after, parts=2)
        wanted.append(tuple_(entries.c.created_at, entries.c.id) < (instant_in(at), id_))
    return (
        select(entries.c.created_at, entries.c.id, entries.c.body)
        .where(*wanted)
        .order_by(entries.c.created_at.desc(), entries.c.id.desc())
        .limit(limit)
    )


def entries_of(wanted: Sequence[JobId]) -> Select[Any]:
    return select(entries.c.body).where(entries.c.job_id.in_(wanted))


def balances(limit: int, after: str | None) -> Select[Any]:
    since = decode_cursor(after, parts=1)[0] if after is not None else ""
    total = (
        select(func.coalesce(func.sum(entries.c.tokens), 0))
        .where(entries.c.account_id == accounts.c.id)
        .scalar_subquery()
    )
    return (
        select(accounts.c.id, accounts.c.body, total.label("total"))
        .where(accounts.c.id > since)
        .order_by(accounts.c.id)
        .limit(limit)
    )


API_KEYS: Final = select(api_keys.c.body).order_by(api_keys.c.created_at.desc(), api_keys.c.digest.desc())
