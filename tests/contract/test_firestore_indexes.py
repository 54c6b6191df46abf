"""Every query has its index: Firestore refuses those without, and the emulator takes them all."""

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from google.cloud.firestore_v1 import types

from shared.adapters.cursors import encode_cursor
from shared.adapters.firestore import statements
from shared.adapters.firestore.client import Firestore
from shared.adapters.firestore.documents import Documents
from shared.adapters.firestore.queries import Queries
from shared.domain.changes import Record
from shared.domain.ids import AccountId, JobId
from shared.domain.job import Status
from shared.ports.store import JobFilter
from tests.contract.firestore_api import SilentApi
from tests.contract.test_store_queries import FILTERS
from tests.contract.test_store_records import FULL_ACCOUNT, FULL_ENTRY, FULL_JOB, FULL_KEY
from tests.support import ADA, NOON

DECLARED: Final = Path(__file__).parents[2] / "infra" / "firestore.indexes.json"
UP, DOWN = "ASCENDING", "DESCENDING"
Field = tuple[str, str]


@dataclass(frozen=True)
class Need:
    """What the indexes of a query have to offer."""

    collection: str
    scope: str
    equal: frozenset[str]
    """In any order, and spread over several indexes that end alike: Firestore merges them."""
    ordered: tuple[Field, ...]


@dataclass(frozen=True)
class Index:
    collection: str
    scope: str
    fields: tuple[Field, ...]

    def part_for(self, need: Need) -> frozenset[str]:
        """The equality filters that it answers, if it is of use for the need."""
        if (self.collection, self.scope) != (need.collection, need.scope):
            return frozenset()
        split = len(self.fields) - len(need.ordered)
        head = frozenset(path for path, _ in self.fields[:split])
        return head if self.fields[split:] == need.ordered and head <= need.equal else frozenset()


@cache
def declaration() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(DECLARED.read_text())
    return content


def declared() -> list[Index]:
    return [
        Index(
            index["collectionGroup"],
            index["queryScope"],
            tuple((field["fieldPath"], field["order"]) for field in index["fields"]),
        )
        for index in declaration()["indexes"]
    ]


def is_automatic(need: Need) -> bool:
    """Whether one of the indexes of single fields, made unless exempted, is enough."""
    paths = [path for path, _ in need.ordered if path != "__name__"] + sorted(need.equal)
    exempted = {
        (override["collectionGroup"], override["fieldPath"]) for override in declaration()["fieldOverrides"]
    }
    return (
        len(paths) <= 1
        and need.scope == "COLLECTION"
        and not any((need.collection, path.partition(".")[0]) in exempted for path in paths)
    )


def is_answered(need: Need, indexes: Sequence[Index]) -> bool:
    parts = [index.part_for(need) for index in indexes]
    return is_automatic(need) or (bool(need.equal) and frozenset[str]().union(*parts) == need.equal)


def need_of(query: Any, summed: Sequence[str] = ()) -> Need:
    """Read off the query as it goes over the wire."""
    [source] = query.from_
    equal, ranged = set[str](), dict[str, None]()
    for part in filters_of(query):
        if part.HasField("unary_filter"):
            ranged[part.unary_filter.field.field_path] = None
        elif part.field_filter.op in (_Operator.EQUAL, _Operator.IN):
            equal.add(part.field_filter.field.field_path)
        else:
            ranged[part.field_filter.field.field_path] = None
    ordered = [(order.field.field_path, _Direction(order.direction).name) for order in query.order_by]
    assert not ranged or (len(ranged) == 1 and ordered[:1] and ordered[0][0] in ranged), (
        "its order is left open"
    )
    if ordered and ordered[-1][0] == "__name__" and (len(ordered) == 1 or ordered[-1][1] == ordered[-2][1]):
        ordered.pop()  # every index ends with it, in the direction of the field before
    ordered += [(path, UP) for path in summed]
    scope = "COLLECTION_GROUP" if source.all_descendants else "COLLECTION"
    return Need(source.collection_id, scope, frozenset(equal), tuple(ordered))


_Operator: Final = types.StructuredQuery.FieldFilter.Operator
_Direction: Final = types.StructuredQuery.Direction


def filters_of(query: Any) -> Iterator[Any]:
    if query.where.HasField("composite_filter"):
        yield from query.where.composite_filter.filters
    elif query.HasField("where"):
        yield query.where


def query_in(asked: Any) -> Any:
    return asked.structured_query if "aggregations" in asked.DESCRIPTOR.fields_by_name else asked


def needs_of(asked: Any) -> Need:
    if "aggregations" not in asked.DESCRIPTOR.fields_by_name:
        return need_of(asked)
    summed = [part.sum.field.field_path for part in asked.aggregations if part.HasField("sum")]
    return need_of(asked.structured_query, summed)


BY_ID, BY_TIME = encode_cursor("m"), encode_cursor(1_700_000_000_000_000, "m")
ASKED: Final[list[Callable[[Queries], Awaitable[Any]]]] = [
    lambda store: store.due(NOON, limit=10),
    lambda store: store.next_wake(),
    lambda store: store.feed(limit=10),
    lambda store: store.feed(limit=10, after=BY_TIME),
    lambda store: store.entries(AccountId(ADA), limit=10),
    lambda store: store.entries(AccountId(ADA), limit=10, after=BY_TIME),
    lambda store: store.entries_of([JobId(f"job_{n}") for n in range(500)]),
    lambda store: store.balances(limit=10),
    lambda store: store.balances(limit=10, after=BY_ID),
    lambda store: store.api_keys(),
    *(lambda store, w=wanted: store.jobs(w, limit=10) for wanted in FILTERS),
    *(lambda store, w=wanted: store.jobs(w, limit=10, after=BY_ID) for wanted in FILTERS),
    *(lambda store, w=wanted: store.count(w) for wanted in FILTERS),
]


async def everything_asked(*, shards: int) -> list[Any]:
    """Every query that the port can bring about, but for those that walk on from what was found."""
    api = SilentApi()
    firestore = Firestore("projects/p/databases/(default)", api, emulated=True)  # type: ignore[arg-type]
    store = Queries(firestore, Documents(firestore.database, media_url=str, shards=shards), shards=shards)
    for ask in [*ASKED, *ASKED[:2]]:  # due and next_wake once more: they then start later
        await ask(store)
    return [*api.queries, statements.sum_of_entries(), statements.changed_since(ADA, NOON)]


@pytest.mark.parametrize("shards", [1, 3])
async def test_every_query_is_answered_by_declared_indexes(shards: int) -> None:
    asked = await everything_asked(shards=shards)
    assert len(asked) > len(ASKED)
    assert {need for need in map(needs_of, asked) if not is_answered(need, declared())} == set()


async def test_no_index_is_declared_that_no_query_needs() -> None:
    needs = set(map(needs_of, await everything_asked(shards=1)))
    idle = [
        index
        for index in declared()
        if all(is_answered(need, [other for other in declared() if other != index]) for need in needs)
    ]
    assert idle == []


async def test_no_query_looks_for_more_values_than_firestore_takes() -> None:
    for asked in await everything_asked(shards=1):
        at_once = 1
        for part in filters_of(query_in(asked)):
            at_once *= max(len(part.field_filter.value.array_value.values), 1)
        assert at_once <= 30


async def test_many_kinds_and_statuses_are_looked_for_in_parts_that_together_are_all() -> None:
    kinds = frozenset(f"kind{n:02d}" for n in range(40))
    statuses = frozenset({Status.DRAFT, Status.FAILED, Status.QUEUED, Status.CANCELLED})
    queries = statements.list_jobs(JobFilter(user_id=ADA, kinds=kinds, statuses=statuses), 1, 10, None)
    looked_for = [
        value.string_value
        for query in queries
        for part in filters_of(query)
        if part.field_filter.field.field_path == "kind"
        for value in part.field_filter.value.array_value.values
    ]
    assert sorted(looked_for) == sorted(kinds)
    assert len(queries) == 6


def test_what_only_grows_is_indexed_by_shard_first_or_within_one_owner() -> None:
    """The end of an index at which all writes meet takes 500 a second."""
    growing = {"id", "published_at", "internal.wake_at", "internal.changed_at", "job_id"}
    for index in declared():
        if index.fields[-1][0] in growing:
            assert index.fields[0][0] in {"internal.shard", "user_id", "account_id"}, index
    exempted = {(o["collectionGroup"], o["fieldPath"]) for o in declaration()["fieldOverrides"]}
    for field in ("id", "created_at", "started_at", "finished_at", "published_at", "expires_at", "internal"):
        assert ("jobs", field) in exempted


def test_what_is_exempted_from_indexes_stands_in_the_documents() -> None:
    documents = Documents("d", media_url=str, shards=1)
    records: dict[str, Record] = {
        "jobs": FULL_JOB,
        "accounts": FULL_ACCOUNT,
        "entries": FULL_ENTRY,
        "api_keys": FULL_KEY,
    }
    standing = {
        (collection, field)
        for collection, record in records.items()
        for field in documents.write(collection, record).document.fields
    } | {("feed", field) for field in documents.feed_document(FULL_JOB).fields}
    for override in declaration()["fieldOverrides"]:
        assert (override["collectionGroup"], override["fieldPath"]) in standing


async def test_a_query_without_its_index_would_be_noticed() -> None:
    """A test of the tests above."""
    need = Need("jobs", "COLLECTION", frozenset({"user_id"}), (("cost", DOWN),))
    assert not is_answered(need, declared())
    exempted = Need("jobs", "COLLECTION", frozenset(), (("created_at", DOWN),))
    assert not is_answered(exempted, declared())
