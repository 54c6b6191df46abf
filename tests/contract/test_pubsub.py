"""Pub/Sub: what is sent, and what comes of failures, against a server that does as it is told."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

import grpc  # type: ignore[import-untyped]
import pytest

from shared.adapters.queues.pubsub import PubSubQueue
from shared.domain.errors import QueueUnavailable
from shared.domain.job import Kind
from shared.envelope import TOPIC_ROUTES
from shared.ports.queue import Hint
from shared.ports.tracing import Trace
from tests.contract.publisher_double import PublisherDouble
from tests.contract.pushed import a_hint, hints, in_time, refusal_of
from tests.support import ManualClock

SPAN: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
IN_VAIN: Final = [
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.DATA_LOSS,
]
PASSING: Final = [
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.CANCELLED,
]


def publishing(queue: PubSubQueue, *to_publish: Hint) -> "asyncio.Task[None]":
    return asyncio.create_task(queue.publish(to_publish or [a_hint()]))


@pytest.fixture
async def double(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PublisherDouble]:
    async with PublisherDouble.serving() as (double, address):
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", address)
        yield double


@pytest.fixture
async def queue(double: PublisherDouble) -> AsyncIterator[PubSubQueue]:
    async with PubSubQueue.open("demo-project") as queue:
        yield queue


@pytest.fixture
async def hasty(double: PublisherDouble) -> AsyncIterator[PubSubQueue]:
    """Gives up soon."""
    async with PubSubQueue.open("demo-project", patience_seconds=0.4) as queue:
        yield queue


async def test_a_hundred_hints_are_one_request_per_topic(queue: PubSubQueue, double: PublisherDouble) -> None:
    await queue.publish([*hints(range(60)), *hints(range(60, 100), Kind.VIDEO)])
    sent = {request.topic: len(request.messages) for request in double.requests}
    assert sent == {
        "projects/demo-project/topics/image-generation-jobs": 60,
        "projects/demo-project/topics/video-generation-jobs": 40,
    }
    assert len(double.requests) == 2


async def test_no_request_has_more_messages_than_pub_sub_takes(
    queue: PubSubQueue, double: PublisherDouble
) -> None:
    await queue.publish(hints(range(2_500)))
    assert sorted(len(request.messages) for request in double.requests) == [500, 1000, 1000]
    named = {
        json.loads(message.data)["job_id"] for request in double.requests for message in request.messages
    }
    assert named == {hint.job_id for hint in hints(range(2_500))}


async def test_publishing_ends_when_the_messages_are_taken_and_not_before(
    queue: PubSubQueue, double: PublisherDouble
) -> None:
    """On Cloud Run nothing runs between requests: what waits in the background may wait for ever."""
    double.gate = asyncio.Event()
    task = publishing(queue)
    await in_time(ManualClock(), lambda: bool(double.requests))
    assert not task.done()
    double.gate.set()
    await task


async def test_the_message_is_the_jobs_id_and_kind_and_carries_request_and_trace(
    queue: PubSubQueue, double: PublisherDouble
) -> None:
    hint = replace(a_hint(7, Kind.BATCH, request_id="req-7"), trace=Trace(SPAN, "a=b"))
    await queue.publish([hint])
    [request] = double.requests
    [message] = request.messages
    assert request.topic.endswith("/batch-jobs")
    assert json.loads(message.data) == {"job_id": hint.job_id, "kind": "batch"}
    assert message.attributes == {"request_id": "req-7", "traceparent": SPAN, "tracestate": "a=b"}


@pytest.mark.parametrize("code", IN_VAIN, ids=lambda code: code.name)
async def test_what_will_not_get_better_is_said_at_once(
    queue: PubSubQueue, double: PublisherDouble, code: grpc.StatusCode
) -> None:
    double.fails = [code]
    assert "topics/image-generation-jobs" in await refusal_of(publishing(queue))
    assert len(double.requests) == 1


@pytest.mark.parametrize("code", PASSING, ids=lambda code: code.name)
async def test_what_may_pass_is_tried_again(
    queue: PubSubQueue, double: PublisherDouble, code: grpc.StatusCode
) -> None:
    double.fails = [code]
    await publishing(queue)
    assert len(double.requests) == 2


async def test_trying_again_ends_and_then_the_last_failure_is_told(
    hasty: PubSubQueue, double: PublisherDouble
) -> None:
    double.fails = [grpc.StatusCode.UNAVAILABLE] * 1000
    async with asyncio.timeout(4):
        assert "503 as the test wants it" in await refusal_of(publishing(hasty))
    assert len(double.requests) > 1


async def test_a_server_that_does_not_answer_does_not_hold_up_the_caller(
    hasty: PubSubQueue, double: PublisherDouble
) -> None:
    double.gate = asyncio.Event()
    async with asyncio.timeout(4):
        assert "no answer" in await refusal_of(publishing(hasty))
    double.gate.set()


async def test_one_topic_that_fails_does_not_keep_the_others_from_their_hints(
    queue: PubSubQueue, double: PublisherDouble
) -> None:
    double.fails = [grpc.StatusCode.NOT_FOUND]
    message = await refusal_of(publishing(queue, a_hint(1), a_hint(2, Kind.VIDEO), a_hint(3, Kind.BATCH)))
    assert re.fullmatch(r"topic projects/demo-project/topics/[a-z-]+ does not exist", message)
    assert len(double.requests) == 3


async def test_the_check_asks_what_a_publisher_may_and_needs_no_more_permission(
    queue: PubSubQueue, double: PublisherDouble
) -> None:
    """The double knows nothing else to ask."""
    paths = [f"projects/demo-project/topics/{topic}" for topic in TOPIC_ROUTES]
    double.granted = {path: ["pubsub.topics.publish"] for path in paths}
    await queue.check()
    for path in paths:
        double.granted[path] = []
        message = await refusal_of(queue.check())
        lacking = "this service lacks the permission pubsub.topics.publish"
        assert message == f"topic {path} does not exist, or {lacking}"
        double.granted[path] = ["pubsub.topics.publish"]


async def test_a_check_that_gets_no_answer_fails(hasty: PubSubQueue, double: PublisherDouble) -> None:
    double.fails = [grpc.StatusCode.UNAVAILABLE] * 1000
    assert "503" in await refusal_of(hasty.check())


async def test_a_queue_needs_no_new_start_when_pub_sub_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async with AsyncExitStack() as stack:
        async with PublisherDouble.serving() as (_, address):
            monkeypatch.setenv("PUBSUB_EMULATOR_HOST", address)
            queue = await stack.enter_async_context(PubSubQueue.open("demo-project"))
            await queue.publish([a_hint(1)])
        interrupted = publishing(queue, a_hint(2))
        await asyncio.sleep(0.2)
        double, _ = await stack.enter_async_context(PublisherDouble.serving(address))
        await interrupted
        await queue.publish([a_hint(3)])
        assert len(double.requests) == 2


async def test_a_closed_queue_says_so(double: PublisherDouble) -> None:
    async with PubSubQueue.open("demo-project") as queue:
        pass
    assert "closed" in await refusal_of(publishing(queue))
    assert double.requests == []


async def test_a_cancelled_publish_is_cancelled(queue: PubSubQueue, double: PublisherDouble) -> None:
    double.gate = asyncio.Event()
    task = publishing(queue)
    await in_time(ManualClock(), lambda: bool(double.requests))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    double.gate.set()


@pytest.mark.parametrize("project", ["", "short", "My-Project", "my project", "my-project/topics", "proj\n"])
async def test_what_is_no_project_is_refused_before_anything_is_asked(project: str) -> None:
    with pytest.raises(QueueUnavailable, match="is not a project's id"):
        async with PubSubQueue.open(project):
            pass


@pytest.mark.parametrize(
    ("content", "says"), [(None, "was not found"), ("{", "not a valid json"), ("{}", "type")]
)
async def test_credentials_that_cannot_be_read_are_said_at_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None, says: str
) -> None:
    path = tmp_path / "key.json"
    if content is not None:
        path.write_text(content)
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    with pytest.raises(QueueUnavailable, match=says) as refused:
        async with PubSubQueue.open("demo-project"):
            pass
    assert "\n" not in refused.value.message


@pytest.mark.parametrize("content", [None, "[1, 2]"])
async def test_credentials_that_are_no_file_of_google_are_said_in_one_line_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    """A folder where a secret should be mounted, and a list where there should be an object."""
    path = tmp_path / "key.json"
    path.mkdir() if content is None else path.write_text(content)
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    with pytest.raises(QueueUnavailable, match="credentials") as refused:
        async with PubSubQueue.open("demo-project"):
            pass
    assert "\n" not in refused.value.message
