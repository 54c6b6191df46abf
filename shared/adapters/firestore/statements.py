"""Every query of the store, as Firestore wants it said.

Each needs the indexes of `infra/firestore.indexes.json`; the emulator does not tell, a test does.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from google.cloud.firestore_v1 import types

from shared.adapters.firestore.documents import ACCOUNTS, API_KEYS, ENTRIES, JOBS
from shared.adapters.firestore.values import to_value
from shared.domain.ids import JobId, UserId
from shared.domain.job import Status
from shared.ports.store import JobFilter

MAX_DISJUNCTIONS: Final = 30
"""How many values a query may look for, multiplied over all its `in` filters."""

_Query: Final[Any] = types.StructuredQuery.pb()
_Filter: Final[Any] = _Query.Filter
_Field: Final[Any] = _Query.FieldReference
_Order: Final[Any] = _Query.Order
_Aggregation: Final[Any] = types.StructuredAggregationQuery.pb()
_Operator: Final = types.StructuredQuery.FieldFilter.Operator
_Unary: Final = types.StructuredQuery.UnaryFilter.Operator
_Direction: Final = types.StructuredQuery.Direction
_Value: Final[Any] = types.Value.pb()


def due(
    shard: int, now: datetime, since: datetime | None, limit: int, after: tuple[datetime, str] | None = None
) -> Any:
    """`since` skips what is known to be past: index entries that were just removed are slow to walk over.

    `after` is the instant and the name of the document at which the part before ended.
    """
    waking = _compared("internal.wake_at", _Operator.LESS_THAN_OR_EQUAL, now)
    filters = [_in_shard(shard), *_woken_since(since), waking]
    return _query(JOBS, filters, _EARLIEST_FIRST, limit=limit, start=_place(after))


def next_wake(shard: int, since: datetime | None) -> Any:
    # Finished jobs have no such field, and an order leaves out what has not.
    return _query(JOBS, [_in_shard(shard), *_woken_since(since)], _EARLIEST_FIRST, limit=1)


def list_jobs(wanted: JobFilter, shards: int, limit: int, after: str | None) -> list[Any]:
    """Queries whose results together, newest first, are the list."""
    start = [to_value(after)] if after is not None else []
    return [
        _query(JOBS, filters, [("id", _Direction.DESCENDING)], limit=limit, start=start)
        for filters in _fitting(wanted, range(shards) if wanted.user_id is None else [None])
    ]


def count_jobs(wanted: JobFilter, shards: int) -> list[Any]:
    """Aggregations whose results add up."""
    # What an account holds is asked with every look at its balance: one query, however many shards.
    is_held = wanted.account_id is not None and wanted.user_id is None and not wanted.kinds
    return [
        _Aggregation(
            structured_query=_query(JOBS, filters),
            aggregations=[
                _Aggregation.Aggregation(alias="jobs", count=_Aggregation.Aggregation.Count()),
                _sum("tokens", "internal.cost"),
            ],
        )
        for filters in _fitting(wanted, [None] if is_held else range(shards))
    ]


def feed(shard: int, limit: int, after: tuple[datetime, str] | None) -> Any:
    """`after` is the instant and the name of the document at which the page before ended."""
    return _query(
        JOBS,
        [_in_shard(shard), _is_set("published_at")],
        [("published_at", _Direction.DESCENDING), ("__name__", _Direction.DESCENDING)],
        limit=limit,
        start=_place(after),
    )


def list_entries(limit: int, after: tuple[datetime, str] | None) -> Any:
    """Of the account that is the parent."""
    return _query(
        ENTRIES,
        [],
        [("created_at", _Direction.DESCENDING), ("__name__", _Direction.DESCENDING)],
        limit=limit,
        start=_place(after),
    )


def entries_of(jobs: Sequence[JobId], shards: int) -> list[Any]:
    parts = [jobs[at : at + MAX_DISJUNCTIONS] for at in range(0, len(jobs), MAX_DISJUNCTIONS)]
    return [
        _query(ENTRIES, [_in_shard(shard), _one_of("job_id", part)], of_all_accounts=True)
        for shard in range(shards)
        for part in parts
    ]


def list_accounts(limit: int, after: str | None) -> Any:
    """`after` is the name of a document."""
    start = [_Value(reference_value=after)] if after is not None else []
    return _query(ACCOUNTS, [], [("__name__", _Direction.ASCENDING)], limit=limit, start=start)


def sum_of_entries() -> Any:
    """Of the account that is the parent."""
    return _Aggregation(structured_query=_query(ENTRIES, []), aggregations=[_sum("tokens", "tokens")])


def list_api_keys() -> Any:
    newest_first = [("created_at", _Direction.DESCENDING), ("__name__", _Direction.DESCENDING)]
    return _query(API_KEYS, [], newest_first)


def changed_since(user: UserId, since: datetime) -> Any:
    """A user's jobs that were written since an instant; `Documents` has Firestore note when."""
    return _query(
        JOBS,
        [
            _equal("user_id", user),
            _compared("internal.changed_at", _Operator.GREATER_THAN_OR_EQUAL, since),
        ],
        [("internal.changed_at", _Direction.ASCENDING)],
    )


_EARLIEST_FIRST: Final = [
    ("internal.wake_at", _Direction.ASCENDING),
    ("__name__", _Direction.ASCENDING),
]


def _fitting(wanted: JobFilter, shards: Sequence[int | None]) -> Iterator[list[Any]]:
    """The filters of the queries that together find each fitting job once."""
    owned = []
    if wanted.user_id is not None:
        owned += [_equal("user_id", wanted.user_id), _equal("internal.visible", True)]
    if wanted.account_id is not None:
        owned.append(_equal("account_id", wanted.account_id))
    statuses = sorted(wanted.statuses) if wanted.statuses != frozenset(Status) else []
    if statuses:
        owned.append(_one_of("status", statuses))
    kinds, at_once = sorted(wanted.kinds), MAX_DISJUNCTIONS // max(len(statuses), 1)
    parts = [kinds[at : at + at_once] for at in range(0, len(kinds), at_once)] or [[]]
    for shard in shards:
        for part in parts:
            yield (
                ([_in_shard(shard)] if shard is not None else [])
                + owned
                + ([_one_of("kind", part)] if part else [])
            )


def _query(
    collection: str,
    filters: Sequence[Any],
    order: Sequence[tuple[str, Any]] = (),
    *,
    limit: int | None = None,
    start: Sequence[Any] = (),
    of_all_accounts: bool = False,
) -> Any:
    query = _Query(
        from_=[_Query.CollectionSelector(collection_id=collection, all_descendants=of_all_accounts)],
        order_by=[_Order(field=_Field(field_path=path), direction=direction) for path, direction in order],
    )
    if len(filters) == 1:
        query.where.CopyFrom(filters[0])
    elif filters:
        query.where.composite_filter.op = types.StructuredQuery.CompositeFilter.Operator.AND
        query.where.composite_filter.filters.extend(filters)
    if limit is not None:
        query.limit.value = limit
    if start:
        query.start_at.values.extend(start)
        query.start_at.before = False
    return query


def _compared(path: str, operator: Any, value: Any) -> Any:
    field_filter = _Query.FieldFilter(field=_Field(field_path=path), op=operator, value=to_value(value))
    return _Filter(field_filter=field_filter)


def _equal(path: str, value: Any) -> Any:
    return _compared(path, _Operator.EQUAL, value)


def _one_of(path: str, values: Sequence[str]) -> Any:
    if len(values) == 1:
        return _equal(path, str(values[0]))
    return _compared(path, _Operator.IN, [str(value) for value in values])


def _is_set(path: str) -> Any:
    unary = _Query.UnaryFilter(field=_Field(field_path=path), op=_Unary.IS_NOT_NULL)
    return _Filter(unary_filter=unary)


def _in_shard(shard: int) -> Any:
    return _equal("internal.shard", shard)


def _woken_since(since: datetime | None) -> list[Any]:
    if since is None:
        return []
    return [_compared("internal.wake_at", _Operator.GREATER_THAN_OR_EQUAL, since)]


def _place(after: tuple[datetime, str] | None) -> list[Any]:
    return [to_value(after[0]), _Value(reference_value=after[1])] if after is not None else []


def _sum(alias: str, path: str) -> Any:
    summed = _Aggregation.Aggregation.Sum(field=_Field(field_path=path))
    return _Aggregation.Aggregation(alias=alias, sum=summed)
