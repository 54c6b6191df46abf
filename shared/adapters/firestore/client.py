"""Firestore's API, with our patience: every call has an end, and every error becomes one that we name.

Not the library's `AsyncClient`: it hides what a commit's failure means, repeats what must not be repeated
blindly, and cannot listen.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import google.auth
import grpc.aio  # type: ignore[import-untyped]
from google.api_core.exceptions import (
    Aborted,
    AlreadyExists,
    Cancelled,
    FailedPrecondition,
    GoogleAPICallError,
    InvalidArgument,
    MethodNotImplemented,
    NotFound,
    ServerError,
)
from google.auth.exceptions import GoogleAuthError
from google.cloud.firestore_v1 import types
from google.cloud.firestore_v1.services.firestore import FirestoreAsyncClient
from google.cloud.firestore_v1.services.firestore.transports.grpc_asyncio import (
    FirestoreGrpcAsyncIOTransport,
)

from shared.adapters.firestore.values import from_fields, from_timestamp
from shared.domain.errors import BrokenInvariant, StoreUnavailable

READ_TIMEOUT_SECONDS: Final = 10
COMMIT_TIMEOUT_SECONDS: Final = 10
QUERY_TIMEOUT_SECONDS: Final = 30
OPEN_TIMEOUT_SECONDS: Final = 10
READ_TRIES: Final = 3
READ_PAUSE_SECONDS: Final = 0.1
"""Up to so long before the second try; twice as long before each further one."""

_EMULATOR: Final = "FIRESTORE_EMULATOR_HOST"
_SCOPES: Final = ("https://www.googleapis.com/auth/datastore",)
_CHANNEL: Final = [
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Firestore is one address: when it is back, we want to know soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]

# The plain classes of protobuf: the wrappers around them are several times slower.
_Commit: Final[Any] = types.CommitRequest.pb()
_Get: Final[Any] = types.BatchGetDocumentsRequest.pb()
_Query: Final[Any] = types.RunQueryRequest.pb()
_Aggregate: Final[Any] = types.RunAggregationQueryRequest.pb()


class Overtaken(Exception):
    """A precondition of a commit did not hold: nothing was written."""


class ResultUnknown(Exception):
    """A commit may have happened or not, or may yet."""


def pause_before(attempt: int, *, at_most_seconds: float = 1.0, first_seconds: float) -> float:
    """How long to wait before a further attempt, counted from 1: longer each time, and never in step."""
    doublings = min(attempt - 1, 30)  # who waits for hours would come to a number that no float holds
    longest: float = min(at_most_seconds, first_seconds * 2**doublings)
    return random.uniform(longest / 4, longest)  # noqa: S311


class Firestore:
    """One database. Bound to the event loop in which it was opened."""

    def __init__(self, database: str, api: FirestoreAsyncClient, *, emulated: bool) -> None:
        self.database = database
        self.api: Any = api
        self.is_emulated = emulated
        self._metadata = [("google-cloud-resource-prefix", database)]
        if emulated:
            self._metadata.append(("authorization", "Bearer owner"))
        self._is_closed = False
        self._ahead = timedelta()

    @classmethod
    @asynccontextmanager
    async def open(cls, project: str, *, database: str = "(default)") -> AsyncIterator["Firestore"]:
        """Raises `StoreUnavailable` if there are no credentials, or no such database that they open."""
        emulator = os.environ.get(_EMULATOR)
        channel = await _channel(emulator)
        api = FirestoreAsyncClient(transport=FirestoreGrpcAsyncIOTransport(channel=channel))
        firestore = cls(f"projects/{project}/databases/{database}", api, emulated=bool(emulator))
        try:
            await firestore._look()
            yield firestore
        finally:
            firestore._is_closed = True
            await channel.close()

    async def _look(self) -> None:
        """See that the database can be read, and what time it is there."""
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_SECONDS):
                [answer] = await self._read(f"{self.database}/documents/checks/open")
        except TimeoutError as error:
            raise StoreUnavailable("Firestore does not answer") from error
        self._ahead = from_timestamp(answer.read_time) - datetime.now(UTC)

    def now(self) -> datetime:
        """About what Firestore's clock says."""
        return datetime.now(UTC) + self._ahead

    async def get(self, names: Sequence[str]) -> Mapping[str, Any]:
        """Those of the documents that exist, by name, as of one instant; raises `StoreUnavailable`."""
        answers = await self._read(*names) if names else []
        return {answer.found.name: answer.found for answer in answers if answer.HasField("found")}

    async def _read(self, *names: str) -> Sequence[Any]:
        request = types.BatchGetDocumentsRequest.wrap(_Get(database=self.database, documents=names))
        answers = await self._ask(self.api.batch_get_documents, request, READ_TIMEOUT_SECONDS)
        return [types.BatchGetDocumentsResponse.pb(answer) for answer in answers]

    async def query(self, parent: str, query: Any) -> tuple[Sequence[Any], datetime]:
        """The documents that a structured query finds, and the instant as of which it looked."""
        request = types.RunQueryRequest.wrap(_Query(parent=parent, structured_query=query))
        answers = [
            types.RunQueryResponse.pb(answer)
            for answer in await self._ask(self.api.run_query, request, QUERY_TIMEOUT_SECONDS)
        ]
        read_at = max((from_timestamp(a.read_time) for a in answers), default=self.now())
        return [answer.document for answer in answers if answer.HasField("document")], read_at

    async def aggregate(
        self, parent: str, query: Any, *, read_at: datetime | None = None
    ) -> Mapping[str, Any]:
        """The figures of an aggregation by their aliases; `read_at` is an instant of the last hour."""
        request = types.RunAggregationQueryRequest.wrap(
            _Aggregate(parent=parent, structured_aggregation_query=query)
        )
        if read_at is not None:
            request.read_time = read_at
        answers = await self._ask(self.api.run_aggregation_query, request, QUERY_TIMEOUT_SECONDS)
        return from_fields(types.RunAggregationQueryResponse.pb(answers[-1]).result.aggregate_fields)

    async def commit(self, writes: Sequence[Any]) -> None:
        """Carry out all writes or none, once.

        Raises `Overtaken`, `ResultUnknown` and `StoreUnavailable`.
        """
        request = types.CommitRequest.wrap(_Commit(database=self.database, writes=writes))
        self._require_open()
        try:
            await self.api.commit(
                request, retry=None, timeout=COMMIT_TIMEOUT_SECONDS, metadata=self._metadata
            )
        except (Aborted, FailedPrecondition, AlreadyExists, NotFound) as error:
            raise Overtaken(in_one_line(error)) from error
        except InvalidArgument as error:
            raise BrokenInvariant(f"Firestore does not take it: {in_one_line(error)}") from error
        except (GoogleAPICallError, GoogleAuthError) as error:
            if may_pass(error):
                raise ResultUnknown(in_one_line(error)) from error
            raise self._unavailable(error) from error

    async def listen(self, requests: AsyncIterator[Any]) -> Any:
        """The answers to the targets that the requests add; raises what the library raises."""
        self._require_open()
        return await self.api.listen(requests, retry=None, timeout=None, metadata=self._metadata)

    async def _ask(self, call: Callable[..., Awaitable[Any]], request: Any, timeout: float) -> Sequence[Any]:
        """Everything that a reading call answers; asked again if it broke off."""
        attempt = 0
        while True:
            self._require_open()
            attempt += 1
            try:
                answers = await call(request, retry=None, timeout=timeout, metadata=self._metadata)
                return [answer async for answer in answers]
            except (GoogleAPICallError, GoogleAuthError) as error:
                if not may_pass(error) or attempt == READ_TRIES:
                    raise self._unavailable(error) from error
            await asyncio.sleep(pause_before(attempt, first_seconds=READ_PAUSE_SECONDS))

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        what = f"there is no {self.database}" if isinstance(error, NotFound) else "Firestore does not take it"
        if may_pass(error):
            what = "Firestore does not answer"
        return StoreUnavailable(f"{what}: {in_one_line(error)}")

    def _require_open(self) -> None:
        if self._is_closed:
            raise StoreUnavailable("the connection to Firestore was closed")


def may_pass(error: Exception) -> bool:
    """Whether it says nothing about the request: asked again, it may be answered."""
    return isinstance(error, ServerError | Cancelled | Aborted) and not isinstance(
        error, MethodNotImplemented
    )


def in_one_line(error: BaseException) -> str:
    text = error.message if isinstance(error, GoogleAPICallError) and error.message else str(error)
    if isinstance(error, GoogleAuthError) and error.args:
        text = str(error.args[0])  # the others are what a server answered, or what a broken file holds
    return " ".join(text.split())


async def _channel(emulator: str | None) -> grpc.aio.Channel:
    if emulator:
        return grpc.aio.insecure_channel(emulator, options=_CHANNEL)
    try:
        # It looks for files and asks a server about the machine that we run on.
        credentials, _ = await asyncio.to_thread(google.auth.default, scopes=_SCOPES)
    except (GoogleAuthError, OSError, ValueError, AttributeError) as error:
        raise StoreUnavailable(f"there are no credentials for Firestore: {in_one_line(error)}") from error
    return FirestoreGrpcAsyncIOTransport.create_channel(credentials=credentials, options=_CHANNEL)
