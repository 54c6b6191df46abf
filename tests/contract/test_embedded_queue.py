"""What is the embedded queue's own, beside the contract: pauses, attempts, lanes and their bounds."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import httpx
import pytest
import structlog

from shared.adapters.queues.embedded import MAX_DELIVERY_ATTEMPTS, EmbeddedQueue
from shared.domain.errors import QueueUnavailable
from shared.domain.job import Kind
from shared.ports.queue import Queue
from tests.contract.pushed import IMAGES, VIDEOS, Answer, PushedWorker, a_hint, hints, passing, rest
from tests.support import ManualClock


class Opened(Protocol):
    def __call__(
        self, worker: PushedWorker, clock: ManualClock, *, in_flight: int = 4, waiting: int = 100
    ) -> AbstractAsyncContextManager[Queue]: ...


def embedded(
    worker: PushedWorker, clock: ManualClock, *, in_flight: int = 4, waiting: int = 100
) -> AbstractAsyncContextManager[Queue]:
    return EmbeddedQueue.open(
        "http://worker",
        "the-secret",
        clock=clock,
        max_in_flight=in_flight,
        max_waiting=waiting,
        transport=httpx.ASGITransport(worker),
    )


@pytest.fixture
def opened() -> Opened:
    return embedded


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def worker() -> PushedWorker:
    return PushedWorker()


@pytest.fixture
async def queue(opened: Opened, worker: PushedWorker, clock: ManualClock) -> AsyncIterator[Queue]:
    async with opened(worker, clock) as queue:
        yield queue


async def test_a_push_shows_the_workers_secret(queue: Queue, worker: PushedWorker) -> None:
    await queue.publish([a_hint()])
    await rest()
    [(_, headers, _)] = worker.pushes
    assert headers["authorization"] == "Bearer the-secret"


@pytest.mark.parametrize(
    "refusal",
    [
        500,
        503,
        401,
        422,
        429,
        302,
        httpx.ConnectError("refused"),
        httpx.ReadError("reset"),
        httpx.ReadTimeout("slow"),
    ],
    ids=str,
)
async def test_a_push_that_was_not_acknowledged_comes_again(
    queue: Queue, worker: PushedWorker, clock: ManualClock, refusal: Answer
) -> None:
    worker.answers = [refusal, refusal]
    await queue.publish([a_hint()])
    for _ in range(3):
        await passing(clock, 10)
    assert worker.jobs == [a_hint().job_id] * 3

    await passing(clock, 3600)
    assert len(worker.pushes) == 3


async def test_repeated_pushes_of_a_hint_are_one_message_with_a_counter(
    queue: Queue, worker: PushedWorker, clock: ManualClock
) -> None:
    worker.answers = [503, 503]
    await queue.publish([a_hint()])
    for _ in range(2):
        await passing(clock, 10)
    pushes = [json.loads(body) for _, _, body in worker.pushes]
    assert [push["deliveryAttempt"] for push in pushes] == [1, 2, 3]
    assert len({push["message"]["messageId"] for push in pushes}) == 1


async def test_backoff_doubles_from_a_fifth_of_a_second(
    queue: Queue, worker: PushedWorker, clock: ManualClock
) -> None:
    worker.answers = [503] * 4
    await queue.publish([a_hint()])
    for number, pause in enumerate((0.2, 0.4, 0.8, 1.6), start=1):
        await passing(clock, pause - 0.01)
        assert len(worker.pushes) == number
        await passing(clock, 0.01)
        assert len(worker.pushes) == number + 1


async def test_a_worker_that_asks_for_time_gets_it(
    queue: Queue, worker: PushedWorker, clock: ManualClock
) -> None:
    worker.answers = [{"Retry-After": "30"}]
    await queue.publish([a_hint()])
    await passing(clock, 29.9)
    assert len(worker.pushes) == 1
    await passing(clock, 0.1)
    assert len(worker.pushes) == 2


@pytest.mark.parametrize("asked", ["soon", "", "-5", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT", "0"])
async def test_a_request_for_time_that_makes_no_sense_is_ignored(
    queue: Queue, worker: PushedWorker, clock: ManualClock, asked: str
) -> None:
    worker.answers = [{"Retry-After": asked}]
    await queue.publish([a_hint()])
    await passing(clock, 0.2)
    assert len(worker.pushes) == 2


async def test_after_five_refusals_it_gives_up_and_leaves_it_to_the_sweep(
    queue: Queue, worker: PushedWorker, clock: ManualClock
) -> None:
    worker.answers = [422] * 100
    await queue.publish([a_hint()])
    for _ in range(20):
        await passing(clock, 60)
    assert len(worker.pushes) == MAX_DELIVERY_ATTEMPTS == 5

    worker.answers = []
    await queue.publish([a_hint()])
    await rest()
    assert len(worker.pushes) == 6


async def test_no_more_pushes_are_in_flight_than_allowed(
    opened: Opened, worker: PushedWorker, clock: ManualClock
) -> None:
    gate = worker.gates[IMAGES] = asyncio.Event()
    async with opened(worker, clock, in_flight=3) as queue:
        await queue.publish(hints(range(10)))
        await rest()
        assert worker.in_flight == 3
        gate.set()
        await rest()
        assert sorted(worker.jobs) == [hint.job_id for hint in hints(range(10))]
    assert worker.most_in_flight == 3


async def test_stuck_videos_do_not_hold_up_images(
    opened: Opened, worker: PushedWorker, clock: ManualClock
) -> None:
    worker.gates[VIDEOS] = asyncio.Event()
    async with opened(worker, clock, in_flight=1, waiting=2) as queue:
        await queue.publish(hints([1], Kind.VIDEO))
        await rest()
        await queue.publish(hints([2, 3], Kind.VIDEO))
        with pytest.raises(QueueUnavailable, match=VIDEOS):
            await queue.publish(hints([4], Kind.VIDEO))

        await queue.publish(hints([5]))
        await rest()
        assert worker.jobs == [a_hint(1).job_id, a_hint(5).job_id]


async def test_a_full_queue_says_so_and_takes_hints_again_when_there_is_room(
    opened: Opened, worker: PushedWorker, clock: ManualClock
) -> None:
    gate = worker.gates[IMAGES] = asyncio.Event()
    async with opened(worker, clock, in_flight=1, waiting=2) as queue:
        await queue.publish(hints([1]))
        await rest()
        await queue.publish(hints([2, 3]))
        with pytest.raises(QueueUnavailable):
            await queue.publish(hints([4]))
        with pytest.raises(QueueUnavailable, match=IMAGES):
            await queue.check()

        gate.set()
        await rest()
        await queue.check()
        await queue.publish(hints([4]))
        await rest()
        assert worker.jobs == [hint.job_id for hint in hints([1, 2, 3, 4])]


async def test_a_second_hint_for_a_job_that_waits_adds_nothing_also_when_full(
    opened: Opened, worker: PushedWorker, clock: ManualClock
) -> None:
    gate = worker.gates[IMAGES] = asyncio.Event()
    async with opened(worker, clock, in_flight=1, waiting=1) as queue:
        await queue.publish(hints([1]))
        await rest()
        for _ in range(3):
            await queue.publish(hints([2]))
        gate.set()
        await rest()
    assert worker.jobs == [hint.job_id for hint in hints([1, 2])]


async def test_a_closed_queue_leaves_nothing_running(
    opened: Opened, worker: PushedWorker, clock: ManualClock
) -> None:
    worker.gates[IMAGES] = asyncio.Event()
    worker.answers = [503]
    before = asyncio.all_tasks()
    async with opened(worker, clock, in_flight=2) as queue:
        await queue.publish(hints(range(5)))
        await queue.publish(hints([7], Kind.VIDEO))
        await rest()
        assert asyncio.all_tasks() > before
    assert asyncio.all_tasks() == before
    assert worker.in_flight == 0


async def test_what_a_request_has_bound_for_its_logs_is_not_said_of_other_hints(
    worker: PushedWorker,
) -> None:
    bound: list[dict[str, Any]] = []

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        bound.append(dict(structlog.contextvars.get_contextvars()))
        await worker(scope, receive, send)

    async with EmbeddedQueue.open(
        "http://worker",
        "s",
        clock=ManualClock(),
        max_in_flight=1,
        max_waiting=9,
        transport=httpx.ASGITransport(watched),
    ) as queue:
        with structlog.contextvars.bound_contextvars(request_id="of another request"):
            await queue.publish([a_hint(1)])
        await queue.publish([a_hint(2)])
        await rest()
    assert bound == [{}, {}]
