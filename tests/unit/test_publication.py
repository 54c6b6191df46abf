"""Into the feed, out of it, and out of the world."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from shared.domain.changes import Delete, Put, job_key
from shared.domain.errors import NotFound, WrongState
from shared.domain.ids import JobId, UserId, erasure_id
from shared.domain.job import Job, Kind, Status
from shared.domain.ledger import Reason
from shared.ports.store import JobFilter
from shared.usecases.app import App
from shared.usecases.publication import delete, publish, unpublish
from tests.support import ADA, BOB, UnsteadyStore, World, make_world

Act = Callable[[App, JobId, UserId], Awaitable[Any]]


async def a_draft(world: World) -> Job:
    return await world.deliver(await world.submit())


async def feed(world: World) -> list[str]:
    return [job.id for job in (await world.store.feed(limit=10)).data]


async def gone(world: World, job: Job) -> bool:
    return (await world.store.load([job_key(job.id)])).find(job_key(job.id)) is None


async def test_a_draft_that_is_published_is_in_the_feed_until_it_is_unpublished() -> None:
    world = make_world()
    job = await a_draft(world)
    shown = await publish(world.app, job.id, ADA)
    assert (shown.status, await feed(world)) == (Status.PUBLISHED, [job.id])
    hidden = await unpublish(world.app, job.id, ADA)
    assert (hidden.status, hidden.published_at, await feed(world)) == (Status.DRAFT, None, [])
    assert set(world.media.objects) == {media.key for media in job.media} | {
        job.thumbnail.key if job.thumbnail else ""
    }


async def test_repeating_it_changes_nothing() -> None:
    world = make_world()
    job = await a_draft(world)
    assert await unpublish(world.app, job.id, ADA) == job
    first = await publish(world.app, job.id, ADA)
    world.clock.advance(minutes=1)
    assert await publish(world.app, job.id, ADA) == first


async def test_what_is_published_again_moves_to_the_top_of_the_feed() -> None:
    world = make_world()
    jobs = [await a_draft(world) for _ in range(2)]
    for job in [*jobs, jobs[0]]:
        world.clock.advance(seconds=1)
        await unpublish(world.app, job.id, ADA)
        await publish(world.app, job.id, ADA)
    assert await feed(world) == [jobs[0].id, jobs[1].id]


@pytest.mark.parametrize("act", [publish, unpublish, delete])
async def test_nobody_else_can_and_nobody_learns_that_it_exists(act: Act) -> None:
    world = make_world()
    job = await a_draft(world)
    with pytest.raises(NotFound):
        await act(world.app, job.id, BOB)
    assert await world.job(job) == job


@pytest.mark.parametrize("act", [publish, unpublish, delete])
async def test_a_job_that_is_not_finished_cannot(act: Act) -> None:
    world = make_world()
    job = await world.submit()
    with pytest.raises(WrongState):
        await act(world.app, job.id, ADA)
    assert await world.job(job) == job


async def test_a_job_that_failed_cannot_be_published_but_deleted() -> None:
    world = make_world()
    job = await world.submit()
    world.clock.advance(minutes=10)
    assert (await world.deliver(job)).status is Status.FAILED
    with pytest.raises(WrongState):
        await publish(world.app, job.id, ADA)
    await delete(world.app, job.id, ADA)
    with pytest.raises(NotFound):
        await publish(world.app, job.id, ADA)


async def test_a_deleted_job_is_gone_from_every_list_at_once() -> None:
    world = make_world()
    job = await a_draft(world)
    await publish(world.app, job.id, ADA)
    world.queue.hints.clear()

    await delete(world.app, job.id, ADA)

    assert await feed(world) == []
    assert (await world.store.jobs(JobFilter(user_id=ADA), limit=5)).data == []
    assert (await world.job(job)).deleted_at == world.clock.now()
    assert [(hint.job_id, hint.kind) for hint in world.queue.hints] == [(erasure_id(job.id), Kind.ERASURE)]
    for act in (publish, unpublish):
        with pytest.raises(NotFound):
            await act(world.app, job.id, ADA)


async def test_an_erasure_removes_the_objects_then_the_document_and_leaves_the_ledger() -> None:
    world = make_world()
    job, other = await a_draft(world), await a_draft(world)
    kept = {key for key in world.media.objects if key.startswith(other.id)}
    await delete(world.app, job.id, ADA)

    world.media.fails = True
    await world.work.process(erasure_id(job.id))
    assert not await gone(world, job), "the document names the objects as long as there may be any"
    waiting = (await world.store.load([job_key(erasure_id(job.id))])).need(job_key(erasure_id(job.id)))
    assert (waiting.status, waiting.attempts) == (Status.QUEUED, 0)

    world.media.fails = False
    world.clock.advance(minutes=1)
    await world.work.process(erasure_id(job.id))
    erasure = (await world.store.load([job_key(erasure_id(job.id))])).need(job_key(erasure_id(job.id)))
    assert erasure.status is Status.READY
    assert set(world.media.objects) == kept
    assert await gone(world, job)
    assert [e.tokens for e in await world.store.entries_of([job.id]) if e.reason is Reason.DEBIT] == [-1]
    assert await world.balance() == 98


async def test_a_delete_can_be_repeated_before_and_after_the_erasure() -> None:
    world = make_world()
    job = await a_draft(world)
    await delete(world.app, job.id, ADA)
    await delete(world.app, job.id, ADA)
    assert len(world.queue.hints) == 3, "the second time hints again, for the first hint may be lost"
    await world.work.process(erasure_id(job.id))
    world.queue.hints.clear()
    await delete(world.app, job.id, ADA)
    assert world.queue.hints == []
    assert (await world.store.count(JobFilter(kinds=frozenset({Kind.ERASURE})))).jobs == 1
    with pytest.raises(NotFound):
        await delete(world.app, job.id, BOB)


async def test_an_erasure_that_runs_again_does_no_harm() -> None:
    world = make_world()
    job = await a_draft(world)
    await delete(world.app, job.id, ADA)
    key = job_key(job.id)
    await world.store.change([key], lambda _: [Delete(key)])
    await world.work.process(erasure_id(job.id))
    assert world.media.objects == {}
    assert await gone(world, job)


async def test_an_erasure_never_removes_the_document_of_a_job_that_was_not_deleted() -> None:
    world = make_world()
    job = await a_draft(world)
    await delete(world.app, job.id, ADA)
    key = job_key(job.id)
    await world.store.change([key], lambda records: [Put(replace(records.need(key), deleted_at=None))])
    await world.work.process(erasure_id(job.id))
    assert not await gone(world, job)


async def test_an_erasure_cannot_be_seen_or_deleted_by_the_user() -> None:
    world = make_world()
    job = await a_draft(world)
    await delete(world.app, job.id, ADA)
    with pytest.raises(NotFound):
        await delete(world.app, erasure_id(job.id), ADA)


async def test_an_erasure_that_never_came_to_its_end_gives_up_at_its_deadline() -> None:
    world = make_world()
    job = await a_draft(world)
    await delete(world.app, job.id, ADA)
    world.clock.advance(days=31)
    await world.work.process(erasure_id(job.id))
    erasure = (await world.store.load([job_key(erasure_id(job.id))])).need(job_key(erasure_id(job.id)))
    assert (erasure.status, erasure.refunded) == (Status.FAILED, 0)


async def test_a_delete_whose_commit_was_unknown_makes_one_erasure() -> None:
    store = UnsteadyStore()
    store.decides_again = True
    world = make_world(store=store)
    job = await a_draft(world)
    assert (await publish(world.app, job.id, ADA)).status is Status.PUBLISHED
    await delete(world.app, job.id, ADA)
    await world.work.process(erasure_id(job.id))
    assert await gone(world, job)
