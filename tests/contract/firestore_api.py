"""The client's API object, as a test wants it: what passes is counted, and things happen to commits."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from google.api_core.exceptions import GoogleAPICallError
from google.cloud.firestore_v1 import types

from shared.adapters.firestore import FirestoreStore

Mishap = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""What becomes of a commit, which it may carry out."""


@dataclass
class TamperedApi:
    """Passes on everything; each of the next commits meets one mishap."""

    api: Any
    mishaps: list[Mishap] = field(default_factory=list)
    refusals: list[GoogleAPICallError] = field(default_factory=list)
    """Instead of the answers of the next reads."""
    commits: int = 0
    documents_read: int = 0
    documents_written: int = 0

    async def commit(self, request: Any, **options: Any) -> Any:
        self.commits += 1
        self.documents_written += len(request.writes)
        commit = partial(self.api.commit, request, **options)
        return await (self.mishaps.pop(0)(commit) if self.mishaps else commit())

    async def batch_get_documents(self, request: Any, **options: Any) -> Any:
        self.documents_read += len(request.documents)
        if self.refusals:
            raise self.refusals.pop(0)
        return await self.api.batch_get_documents(request, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.api, name)


def tamper(store: FirestoreStore) -> TamperedApi:
    tampered = TamperedApi(store._firestore.api)
    store._firestore.api = tampered
    return tampered


def refusal(code: type[GoogleAPICallError], message: str) -> GoogleAPICallError:
    return code(message)


def unsent(error: GoogleAPICallError) -> Mishap:
    """The error comes instead of the commit."""

    async def mishap(_: Callable[[], Awaitable[Any]]) -> Any:
        raise error

    return mishap


def unanswered(error: GoogleAPICallError) -> Mishap:
    """The error comes instead of the answer: the commit has happened."""

    async def mishap(commit: Callable[[], Awaitable[Any]]) -> Any:
        await commit()
        raise error

    return mishap


def overtaken_by(other: Callable[[], Awaitable[Any]]) -> Mishap:
    """Somebody else is faster."""

    async def mishap(commit: Callable[[], Awaitable[Any]]) -> Any:
        await other()
        return await commit()

    return mishap


class SilentApi:
    """Finds nothing, and remembers the queries."""

    def __init__(self) -> None:
        self.queries: list[Any] = []
        """Structured queries, and structured aggregations of them."""

    async def run_query(self, request: Any, **_: Any) -> AsyncIterator[Any]:
        self.queries.append(types.RunQueryRequest.pb(request).structured_query)
        return _answering()

    async def run_aggregation_query(self, request: Any, **_: Any) -> AsyncIterator[Any]:
        self.queries.append(types.RunAggregationQueryRequest.pb(request).structured_aggregation_query)
        figures = {alias: types.Value(integer_value=0) for alias in ("jobs", "tokens")}
        result = types.AggregationResult(aggregate_fields=figures)
        return _answering(types.RunAggregationQueryResponse(result=result))


async def _answering(*answers: Any) -> AsyncIterator[Any]:
    for answer in answers:
        yield answer
