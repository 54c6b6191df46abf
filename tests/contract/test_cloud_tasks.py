"""Cloud Tasks: what a task says, rates and retries, failures, and settings that cannot be."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import grpc  # type: ignore[import-untyped]
import pytest
from google.cloud.tasks_v2 import HttpMethod

from services.local import cloud_tasks_setup
from services.local.cloud_tasks_setup import Rate
from shared.adapters.queues.cloud_tasks import CREATES_AT_ONCE, CloudTasksQueue, client_of
from shared.domain.errors import QueueUnavailable
from shared.domain.job import Kind
from shared.envelope import TOPIC_ROUTES, read_hint
from shared.ports.tracing import Trace
from tests.contract.cloud_tasks_double import CloudTasksDouble
from tests.contract.pushed import PushedWorker, a_hint, hints, in_time, refusal_of, served
from tests.contract.queue_adapters import ACCOUNT, LOCATION, queues_at, tasks_queue
from tests.support import ManualClock

PARENT: Final = f"projects/demo-project/locations/{LOCATION}/queues"
SPAN: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def worker() -> PushedWorker:
    return PushedWorker()


@pytest.fixture
async def tasks(clock: ManualClock) -> AsyncIterator[tuple[CloudTasksDouble, str]]:
    async with CloudTasksDouble.serving(clock) as (double, address):
        await queues_at(address)
        yield double, address


@pytest.fixture
def double(tasks: tuple[CloudTasksDouble, str]) -> CloudTasksDouble:
    return tasks[0]


@pytest.fixture
async def queue(tasks: tuple[CloudTasksDouble, str], clock: ManualClock) -> AsyncIterator[CloudTasksQueue]:
    """Its worker does not listen."""
    async with tasks_queue(tasks[1], clock) as queue:
        yield queue


@pytest.fixture
async def hasty(tasks: tuple[CloudTasksDouble, str], clock: ManualClock) -> AsyncIterator[CloudTasksQueue]:
    """Gives up soon."""
    async with tasks_queue(tasks[1], clock, patience_seconds=0.4) as queue:
        yield queue


# What a task says.


async def test_a_task_is_the_same_push_as_pub_subs_to_the_same_route(
    queue: CloudTasksQueue, double: CloudTasksDouble
) -> None:
    hint = replace(a_hint(7, Kind.VIDEO, request_id="req-7"), trace=Trace(SPAN, "a=b"))
    await queue.publish([hint])
    [task] = double.asked
    request = task.http_request
    assert (request.http_method, request.url) == (HttpMethod.POST, "http://127.0.0.1:9/process-video")
    assert request.headers == {"Content-Type": "application/json"}
    assert read_hint(request.body) == hint
    push = json.loads(request.body)
    assert push["subscription"] == f"{PARENT}/video-generation-jobs"
    assert "deliveryAttempt" not in push, "a task is written once and sent many times"


async def test_a_task_lets_google_sign_for_the_service_account(
    queue: CloudTasksQueue, double: CloudTasksDouble
) -> None:
    await queue.publish([a_hint()])
    token = double.asked[0].http_request.oidc_token
    assert (token.service_account_email, token.audience) == (ACCOUNT, "the-worker")


async def test_without_an_audience_it_is_the_workers_address_and_not_each_routes(
    tasks: tuple[CloudTasksDouble, str], clock: ManualClock
) -> None:
    async with tasks_queue(tasks[1], clock, worker_url="http://127.0.0.1:9/", audience="") as queue:
        await queue.publish([a_hint()])
    request = tasks[0].asked[0].http_request
    assert (request.url, request.oidc_token.audience) == (
        "http://127.0.0.1:9/process-generation",
        "http://127.0.0.1:9",
    )


async def test_a_task_has_no_name_so_that_a_job_can_be_hinted_at_again_the_same_day(
    queue: CloudTasksQueue, double: CloudTasksDouble
) -> None:
    for _ in range(3):
        await queue.publish([a_hint()])
    assert [task.name for task in double.asked] == [""] * 3
    bodies = [json.loads(task.http_request.body) for task in double.asked]
    assert len({body["message"]["messageId"] for body in bodies}) == 3


async def test_a_task_may_take_as_long_as_a_push(queue: CloudTasksQueue, double: CloudTasksDouble) -> None:
    await queue.publish([a_hint()])
    assert double.asked[0].dispatch_deadline == timedelta(seconds=600)
    assert not double.asked[0].schedule_time


async def test_what_is_for_later_is_scheduled_as_far_ahead_as_cloud_tasks_takes(
    queue: CloudTasksQueue, double: CloudTasksDouble, clock: ManualClock
) -> None:
    soon, late = clock.now() + timedelta(seconds=90), clock.now() + timedelta(days=400)
    await queue.publish([replace(a_hint(1), not_before=soon)])
    await queue.publish([replace(a_hint(2), not_before=late)])
    assert double.asked[0].schedule_time == soon
    assert timedelta(days=29) < double.asked[1].schedule_time - clock.now() < timedelta(days=30)


# Rates and retries.


async def test_the_queues_have_the_rates_that_were_asked_for(
    tasks: tuple[CloudTasksDouble, str], double: CloudTasksDouble
) -> None:
    def rate(name: str) -> tuple[float, int]:
        limits = double.queues[f"{PARENT}/{name}"].rate_limits
        return limits.max_dispatches_per_second, limits.max_concurrent_dispatches

    assert set(double.queues) == {f"{PARENT}/{name}" for name in TOPIC_ROUTES}
    assert rate("image-generation-jobs") == (20, 10)
    assert rate("video-generation-jobs") == (10, 5)

    async with client_of(tasks[1]) as client:
        await cloud_tasks_setup.set_up(
            client, "demo-project", LOCATION, rates={"batch-jobs": Rate(per_second=0.5, at_once=1)}
        )
    assert rate("batch-jobs") == (0.5, 1)
    assert rate("image-generation-jobs") == rate("video-generation-jobs") == (20, 10)


async def test_no_more_videos_are_under_way_than_their_queue_lets(
    tasks: tuple[CloudTasksDouble, str], worker: PushedWorker, clock: ManualClock
) -> None:
    gate = worker.gates["/process-video"] = asyncio.Event()
    async with served(worker) as url, tasks_queue(tasks[1], clock, worker_url=url) as queue:
        await queue.publish(hints(range(12), Kind.VIDEO))
        await in_time(clock, lambda: worker.in_flight == 5)
        await asyncio.sleep(0.05)
        gate.set()
        await in_time(clock, lambda: len(worker.jobs) == 12)
    assert worker.most_in_flight == 5


async def test_a_task_that_is_always_refused_is_gone_after_five_attempts(
    tasks: tuple[CloudTasksDouble, str], worker: PushedWorker, clock: ManualClock
) -> None:
    """Attempts and time must both be spent: with a duration of its own it would go on for a month."""
    worker.answers = [422] * 1000
    async with served(worker) as url, tasks_queue(tasks[1], clock, worker_url=url) as queue:
        await queue.publish([a_hint()])
        await in_time(clock, lambda: bool(tasks[0].gone))
    assert len(worker.pushes) == 5


# Failures.


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.NOT_FOUND,
    ],
    ids=lambda code: code.name,
)
async def test_what_will_not_get_better_is_said_at_once(
    queue: CloudTasksQueue, double: CloudTasksDouble, code: grpc.StatusCode
) -> None:
    double.fails = [code]
    assert f"{PARENT}/image-generation-jobs" in await refusal_of(queue.publish([a_hint()]))
    assert double.calls == 1


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    ],
    ids=lambda code: code.name,
)
async def test_what_may_pass_is_tried_again(
    queue: CloudTasksQueue, double: CloudTasksDouble, code: grpc.StatusCode
) -> None:
    double.fails = [code]
    await queue.publish([a_hint()])
    assert (double.calls, len(double.created)) == (2, 1)


async def test_trying_again_ends_and_then_the_last_failure_is_told(
    hasty: CloudTasksQueue, double: CloudTasksDouble
) -> None:
    double.fails = [grpc.StatusCode.UNAVAILABLE] * 1000
    async with asyncio.timeout(4):
        assert "503" in await refusal_of(hasty.publish([a_hint()]))


async def test_a_queue_that_takes_nothing_is_not_asked_a_thousand_times(
    queue: CloudTasksQueue, double: CloudTasksDouble
) -> None:
    double.fails = [grpc.StatusCode.PERMISSION_DENIED] * 1000
    assert "no permission" in await refusal_of(queue.publish(hints(range(1000))))
    assert double.calls <= CREATES_AT_ONCE


async def test_one_task_that_is_not_taken_does_not_keep_the_others_back(
    queue: CloudTasksQueue, double: CloudTasksDouble
) -> None:
    double.fails = [grpc.StatusCode.INTERNAL, grpc.StatusCode.PERMISSION_DENIED]
    assert "no permission" in await refusal_of(queue.publish(hints(range(200))))
    assert len(double.created) == 199


async def test_one_queue_that_is_missing_does_not_keep_the_others_from_their_hints(
    queue: CloudTasksQueue, double: CloudTasksDouble
) -> None:
    del double.queues[f"{PARENT}/video-generation-jobs"]
    wanted = [*hints(range(5), Kind.VIDEO), *hints(range(5, 45)), *hints(range(45, 50), Kind.BATCH)]
    message = await refusal_of(queue.publish(wanted))
    assert message == f"queue {PARENT}/video-generation-jobs does not exist"
    assert {read_hint(task.http_request.body) for task in double.created} == set(wanted[5:])


async def test_publishing_is_bounded_however_much_there_is_and_however_slow_it_goes(
    tasks: tuple[CloudTasksDouble, str],
    double: CloudTasksDouble,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def slowly() -> None:
        await asyncio.sleep(0.1)

    monkeypatch.setattr("shared.adapters.queues.cloud_tasks.CALLS_OF_PATIENCE", 0.2)
    double.before_create = slowly
    async with tasks_queue(tasks[1], clock, patience_seconds=5) as queue, asyncio.timeout(4):
        assert "1000 tasks were not all taken" in await refusal_of(queue.publish(hints(range(1000))))
    assert 0 < len(double.created) < 1000


async def test_so_many_calls_are_under_way_and_no_more(
    queue: CloudTasksQueue, double: CloudTasksDouble
) -> None:
    gate = asyncio.Event()

    async def wait() -> None:
        await gate.wait()

    double.before_create = wait
    publishing = asyncio.create_task(queue.publish(hints(range(100))))
    await in_time(ManualClock(), lambda: double.calls == CREATES_AT_ONCE)
    await asyncio.sleep(0.05)
    assert double.calls == CREATES_AT_ONCE
    gate.set()
    await publishing
    assert len(double.created) == 100


async def test_a_cancelled_publish_is_cancelled(queue: CloudTasksQueue, double: CloudTasksDouble) -> None:
    gate = asyncio.Event()

    async def wait() -> None:
        await gate.wait()

    double.before_create = wait
    publishing = asyncio.create_task(queue.publish([a_hint()]))
    await in_time(ManualClock(), lambda: double.calls == 1)
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing
    gate.set()


async def test_a_cloud_tasks_that_goes_away_and_comes_back(clock: ManualClock) -> None:
    async with AsyncExitStack() as stack:
        async with CloudTasksDouble.serving(clock) as (before, address):
            await queues_at(address)
            queue = await stack.enter_async_context(tasks_queue(address, clock))
            await queue.publish([a_hint(1)])
        interrupted = asyncio.create_task(queue.publish([a_hint(2)]))
        await asyncio.sleep(0.2)
        after, _ = await stack.enter_async_context(CloudTasksDouble.serving(clock, address))
        for known in before.queues.values():
            after.put(known)
        await interrupted
        await queue.publish([a_hint(3)])
        assert [read_hint(task.http_request.body) for task in after.created] == [a_hint(2), a_hint(3)]


async def test_a_closed_queue_says_so(tasks: tuple[CloudTasksDouble, str], clock: ManualClock) -> None:
    async with tasks_queue(tasks[1], clock) as queue:
        pass
    assert "closed" in await refusal_of(queue.publish([a_hint()]))


@pytest.mark.parametrize("knows_permissions", [True, False])
async def test_the_check_names_the_queue_that_is_missing(
    queue: CloudTasksQueue, double: CloudTasksDouble, knows_permissions: bool
) -> None:
    double.knows_permissions = knows_permissions
    await queue.check()
    del double.queues[f"{PARENT}/brand-training-jobs"]
    message = await refusal_of(queue.check())
    assert message.startswith(f"queue {PARENT}/brand-training-jobs does not exist")


async def test_the_check_sees_that_we_may_not_add_tasks(
    queue: CloudTasksQueue, double: CloudTasksDouble
) -> None:
    double.granted = set()
    assert "lacks the permission cloudtasks.tasks.create" in await refusal_of(queue.check())


# Settings that cannot be.


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"project": ""}, "is not a project's id"),
        ({"project": "Demo"}, "is not a project's id"),
        ({"location": ""}, "is not a location"),
        ({"location": "europe"}, "is not a location"),
        ({"worker_url": "http://worker.example"}, "https://"),
        ({"worker_url": ""}, "https://"),
        ({"service_account": ""}, "service account"),
        ({"service_account": "", "secret": "s"}, "service account"),
    ],
    ids=str,
)
async def test_settings_that_cannot_be_are_refused_before_anything_is_asked(
    clock: ManualClock, wrong: dict[str, str], says: str
) -> None:
    settings = {
        "project": "demo-project",
        "location": LOCATION,
        "worker_url": "https://worker.example",
        "service_account": ACCOUNT,
    } | wrong
    project, location = settings.pop("project"), settings.pop("location")
    opening = CloudTasksQueue.open(project, location, clock=clock, **settings)  # type: ignore[arg-type]
    with pytest.raises(QueueUnavailable, match=says):
        async with opening:
            pass


async def test_credentials_that_cannot_be_read_are_said_at_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: ManualClock
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    opening = CloudTasksQueue.open(
        "demo-project", LOCATION, worker_url="https://w.example", clock=clock, service_account=ACCOUNT
    )
    with pytest.raises(QueueUnavailable, match=r"key\.json was not found"):
        async with opening:
            pass
