"""What the queues on Google's APIs share: retries that end in seconds, and every failure as one line."""

import asyncio
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import grpc  # type: ignore[import-untyped]
from google.api_core import exceptions as api
from google.api_core.retry import AsyncRetry, if_exception_type
from google.auth.exceptions import GoogleAuthError

from shared.domain.errors import QueueUnavailable
from shared.envelope import topic_for
from shared.ports.queue import Hint

PATIENCE_SECONDS: Final = 4.0
"""How long a call is tried again: whoever publishes waits for it, and the sweep makes up for a failure."""
ATTEMPT_SECONDS: Final = 2.5
LONGEST_REASON: Final = 300

_WORTH_ANOTHER_TRY = if_exception_type(
    api.Aborted,
    api.Cancelled,
    api.DeadlineExceeded,
    api.InternalServerError,
    api.ResourceExhausted,
    api.ServiceUnavailable,
    api.Unknown,
)
_PROJECT = re.compile(r"([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")


def require_project(project: str) -> None:
    if not _PROJECT.fullmatch(project):
        raise QueueUnavailable(f"{project!r} is not a project's id")


def plain_channel(emulator: str) -> Any:
    """To an emulator at `host:port`: without TLS or credentials."""
    return grpc.aio.insecure_channel(emulator)


def limits(patience_seconds: float) -> Mapping[str, Any]:
    """The `retry` and `timeout` of a call. A call may take effect twice: for hints that is harmless."""
    retry = AsyncRetry(_WORTH_ANOTHER_TRY, initial=0.1, maximum=1.0, multiplier=2.0, timeout=patience_seconds)
    return {"retry": retry, "timeout": min(ATTEMPT_SECONDS, patience_seconds)}


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Whatever the client library raises becomes `QueueUnavailable`: `what`, and one line about it."""
    try:
        yield
    except api.NotFound as error:
        raise QueueUnavailable(f"{what} does not exist") from error
    except api.PermissionDenied as error:
        raise QueueUnavailable(f"{what}: no permission: {_line(error.message)}") from error
    except api.RetryError as error:
        raise QueueUnavailable(f"{what}: no answer: {_line(error.cause or error.message)}") from error
    except (api.GoogleAPIError, grpc.RpcError, grpc.aio.UsageError) as error:
        raise QueueUnavailable(f"{what}: {_line(error)}") from error
    except GoogleAuthError as error:
        # Its other arguments are what the server answered, or the whole of a broken file.
        raise QueueUnavailable(f"{what}: {_line(error.args[0] if error.args else error)}") from error


@contextmanager
def opening(what: str) -> Iterator[None]:
    """As `explained`, around the making of a client, which looks for a file with credentials."""
    try:
        with explained(what):
            yield
    except (OSError, ValueError, AttributeError) as error:  # a folder, not ours to read, or a JSON list
        raise QueueUnavailable(f"{what}: the credentials cannot be read: {_line(error)}") from error


async def require_permission(
    what: str,
    resource: str,
    permission: str,
    *,
    client: Any,
    look: Callable[..., Awaitable[Any]],
    calls: Mapping[str, Any],
) -> None:
    """Ask what we may do with it: that takes no permission, while looking at it would.

    Emulators do not know the question; there it is only looked at.
    """
    with explained(f"{what} {resource}"):
        try:
            answer = await client.test_iam_permissions(
                {"resource": resource, "permissions": [permission]}, **calls
            )
        except api.MethodNotImplemented:
            await look(**calls)
            return
    if permission not in answer.permissions:
        raise QueueUnavailable(
            f"{what} {resource} does not exist, or this service lacks the permission {permission}"
        )


def _line(reason: object) -> str:
    text = " ".join(str(reason).split())
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}…"


def by_topic(hints: Sequence[Hint]) -> Mapping[str, Sequence[Hint]]:
    sorted_out: dict[str, list[Hint]] = defaultdict(list)
    for hint in hints:
        sorted_out[topic_for(hint.kind)].append(hint)
    return sorted_out


async def all_of(calls: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Let every call come to its end, at once; then raise the first error there was."""
    for ended in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(ended, BaseException):
            raise ended
