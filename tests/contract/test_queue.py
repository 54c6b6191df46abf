"""The queue port's contract, over every adapter that delivers by itself."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Final

import pytest

from shared.domain.errors import QueueUnavailable
from shared.domain.job import Kind
from shared.envelope import read_hint
from shared.ports.queue import Queue
from shared.ports.tracing import Trace
from tests.contract.pushed import IMAGES, OTHERS, VIDEOS, PushedWorker, a_hint, hints, in_time
from tests.contract.queue_adapters import CloudTasks, Embedded, PubSub, QueueAdapter
from tests.support import ManualClock

ADAPTERS: Final[dict[str, Callable[[pytest.FixtureRequest], QueueAdapter]]] = {
    "embedded": lambda _: Embedded(),
    "pubsub": lambda request: PubSub(request.getfixturevalue("pubsub_emulator")),
    "cloud_tasks": lambda _: CloudTasks(),
}
EXTERNAL: Final = {"pubsub"}

SPAN: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.external] if name in EXTERNAL else []) for name in ADAPTERS]
)
def adapter(request: pytest.FixtureRequest) -> QueueAdapter:
    return ADAPTERS[request.param](request)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def worker() -> PushedWorker:
    return PushedWorker()


@pytest.fixture
async def queue(adapter: QueueAdapter, worker: PushedWorker, clock: ManualClock) -> AsyncIterator[Queue]:
    async with adapter.open(worker, clock) as queue:
        yield queue


async def test_every_hint_reaches_a_worker(queue: Queue, worker: PushedWorker, clock: ManualClock) -> None:
    wanted = hints(range(50))
    await queue.publish(wanted[:20])
    await queue.publish(wanted[20:])
    await in_time(clock, lambda: set(worker.jobs) == {hint.job_id for hint in wanted})


async def test_publishing_nothing_does_nothing(
    queue: Queue, adapter: QueueAdapter, worker: PushedWorker
) -> None:
    await queue.publish([])
    await adapter.calm()
    assert worker.pushes == []


async def test_a_hint_arrives_as_it_was_published(
    queue: Queue, worker: PushedWorker, clock: ManualClock
) -> None:
    hint = replace(a_hint(7, Kind.VIDEO, request_id="req-7"), trace=Trace(SPAN, "rojo=00f067aa0ba902b7"))
    await queue.publish([hint])
    await in_time(clock, lambda: bool(worker.pushes))
    [(_, headers, body)] = worker.pushes
    assert read_hint(body) == hint
    assert headers["content-type"] == "application/json"


async def test_the_push_is_the_envelope_of_pub_sub(
    queue: Queue, worker: PushedWorker, clock: ManualClock
) -> None:
    await queue.publish([a_hint(7, request_id="req-7")])
    await in_time(clock, lambda: bool(worker.pushes))
    push = json.loads(worker.pushes[0][2])
    assert push["subscription"]
    assert push["message"]["messageId"]
    assert push["message"]["attributes"] == {"request_id": "req-7"}
    data = json.loads(base64.b64decode(push["message"]["data"]))
    assert data == {"job_id": a_hint(7).job_id, "kind": "image"}


async def test_each_kind_has_its_route(queue: Queue, worker: PushedWorker, clock: ManualClock) -> None:
    routes = {
        "image": IMAGES,
        "video": VIDEOS,
        "brand": "/process-training",
        "batch": OTHERS,
        "erasure": OTHERS,
        "hologram": OTHERS,
    }
    await queue.publish([a_hint(number, kind) for number, kind in enumerate(routes)])
    await in_time(clock, lambda: len(worker.pushes) >= len(routes))
    went = {read_hint(body).kind: path for path, _, body in worker.pushes}
    assert went == routes


async def test_a_push_that_was_not_acknowledged_comes_again_until_it_is(
    queue: Queue, adapter: QueueAdapter, worker: PushedWorker, clock: ManualClock
) -> None:
    worker.answers = [503, 422, 500]
    await queue.publish([a_hint()])
    await in_time(clock, lambda: len(worker.pushes) == 4)
    clock.advance(hours=1)
    await adapter.calm()
    assert worker.jobs == [a_hint().job_id] * 4


async def test_a_hint_published_while_its_job_is_being_pushed_is_pushed_too(
    queue: Queue, worker: PushedWorker, clock: ManualClock
) -> None:
    """The worker may have looked just before the change that the second hint is about."""
    gate = worker.gates[IMAGES] = asyncio.Event()
    await queue.publish([a_hint()])
    await in_time(clock, lambda: worker.in_flight == 1)
    await queue.publish([a_hint()])
    gate.set()
    await in_time(clock, lambda: worker.jobs == [a_hint().job_id] * 2)


async def test_stuck_videos_do_not_hold_up_images(
    queue: Queue, worker: PushedWorker, clock: ManualClock
) -> None:
    gate = worker.gates[VIDEOS] = asyncio.Event()
    await queue.publish(hints(range(30), Kind.VIDEO))
    await in_time(clock, lambda: worker.in_flight >= 2)
    await queue.publish(hints(range(30, 40)))
    images = {hint.job_id for hint in hints(range(30, 40))}
    await in_time(clock, lambda: images <= set(worker.jobs))
    gate.set()
    await in_time(clock, lambda: len(set(worker.jobs)) == 40)


async def test_many_publish_at_once(queue: Queue, worker: PushedWorker, clock: ManualClock) -> None:
    kinds = [Kind.IMAGE, Kind.VIDEO, Kind.BATCH]
    wanted = [a_hint(number, kinds[number % 3]) for number in range(30)]
    await asyncio.gather(*(queue.publish([hint]) for hint in wanted))
    await in_time(clock, lambda: set(worker.jobs) == {hint.job_id for hint in wanted})


async def test_a_hint_for_later_is_held_back_by_queues_that_can_and_comes_at_once_from_others(
    queue: Queue, adapter: QueueAdapter, worker: PushedWorker, clock: ManualClock
) -> None:
    early = replace(a_hint(), not_before=clock.now() + timedelta(minutes=5))
    await queue.publish([early])
    if queue.delays:
        clock.advance(minutes=4, seconds=59)
        await adapter.calm()
        assert worker.pushes == []
        clock.advance(seconds=1)
    await in_time(clock, lambda: worker.jobs == [early.job_id])


@pytest.mark.parametrize("ago", [timedelta(0), timedelta(days=1)])
async def test_a_hint_whose_time_has_come_is_delivered_at_once(
    queue: Queue, worker: PushedWorker, clock: ManualClock, ago: timedelta
) -> None:
    before = clock.now()
    await queue.publish([replace(a_hint(), not_before=before - ago)])
    async with asyncio.timeout(10):
        while not worker.pushes:  # noqa: ASYNC110 - not even the manual clock moves
            await asyncio.sleep(0.005)
    assert clock.now() == before


async def test_a_queue_that_works_passes_its_check(queue: Queue) -> None:
    await queue.check()


async def test_a_queue_that_cannot_take_hints_says_so_in_one_line(
    adapter: QueueAdapter, worker: PushedWorker, clock: ManualClock
) -> None:
    async with adapter.open(worker, clock, takes_hints=False) as queue:
        await queue.publish([])
        for call in (queue.publish([a_hint()]), queue.check()):
            with pytest.raises(QueueUnavailable) as refused:
                await call
            assert refused.value.message
            assert "\n" not in refused.value.message
    assert worker.pushes == []
