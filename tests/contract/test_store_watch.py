"""The store's contract: whoever watches hears of every change, from whichever process it came."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from shared.domain.changes import Delete, Put, job_key
from shared.domain.ids import JobId
from shared.domain.job import Job
from shared.ports.store import Interest, Store
from tests.support import ADA, BOB, a_job, given

MINE = Interest(jobs=frozenset({a_job(1).id}))


async def progress(store: Store, number: int, progress: int) -> None:
    key = job_key(a_job(number).id)
    await store.change([key], lambda records: [Put(replace(records.need(key), progress=progress))])


async def heard(changes: AsyncIterator[Job], job: JobId, progress: int) -> list[Job]:
    """Everything that arrives up to the news that the job has come so far."""
    seen: list[Job] = []
    async with asyncio.timeout(5):
        while not seen or (seen[-1].id, seen[-1].progress) != (job, progress):
            seen.append(await anext(changes))
    return seen


async def test_a_change_of_a_job_arrives(store: Store) -> None:
    await given(store, a_job(1), a_job(2))
    async with store.watch(MINE) as changes:
        await progress(store, 2, 20)
        await progress(store, 1, 10)
        assert {job.id for job in await heard(changes, a_job(1).id, 10)} == {a_job(1).id}


async def test_a_change_from_another_process_arrives(store: Store, other_view: Store) -> None:
    await given(store, a_job(1))
    async with store.watch(MINE) as changes:
        await progress(other_view, 1, 10)
        await heard(changes, a_job(1).id, 10)


async def test_every_change_of_every_job_of_a_user_arrives_new_ones_too(store: Store) -> None:
    await given(store, a_job(1), a_job(2, user=BOB))
    async with store.watch(Interest(user_id=ADA)) as changes:
        await progress(store, 2, 99)
        await progress(store, 1, 10)
        await given(store, a_job(3, progress=30), a_job(4, user=BOB))
        seen = await heard(changes, a_job(3).id, 30)
        assert {job.id for job in seen} == {a_job(1).id, a_job(3).id}


async def test_interest_in_jobs_and_a_user_is_interest_in_either(store: Store) -> None:
    await given(store, a_job(1, user=BOB), a_job(2), a_job(3, user=BOB))
    async with store.watch(replace(MINE, user_id=ADA)) as changes:
        for number in (3, 1, 2):
            await progress(store, number, 10)
        seen = await heard(changes, a_job(2).id, 10)
        assert {job.id for job in seen} == {a_job(1).id, a_job(2).id}


async def test_nothing_falls_between_entering_loading_and_iterating(store: Store, other_view: Store) -> None:
    await given(store, a_job(1))

    async def work_on() -> None:
        for percent in range(1, 60):
            await progress(other_view, 1, percent)

    working = asyncio.create_task(work_on())
    for _ in range(5):
        async with store.watch(MINE) as changes:
            seen = (await store.load([job_key(a_job(1).id)])).need(job_key(a_job(1).id)).progress
            async with asyncio.timeout(5):
                while seen < 59:
                    seen = (await anext(changes)).progress
    await working


async def test_a_slow_reader_sees_the_latest_state_and_not_a_growing_queue(store: Store) -> None:
    await given(store, a_job(1), a_job(2))
    async with store.watch(Interest(user_id=ADA)) as changes:
        for percent in range(1, 51):
            await progress(store, 1, percent)
            await progress(store, 2, percent)
        assert len(await heard(changes, a_job(2).id, 50)) <= 4


async def test_a_change_of_a_job_that_a_slow_reader_has_not_come_to_arrives(store: Store) -> None:
    await given(store, a_job(1), a_job(2))
    async with store.watch(Interest(user_id=ADA)) as changes:
        await store.change(
            [job_key(a_job(n).id) for n in (1, 2)], lambda _: [Put(a_job(n, progress=10)) for n in (1, 2)]
        )
        async with asyncio.timeout(5):
            first = await anext(changes)
        slow = 3 - int(first.id[-1])
        await progress(store, slow, 50)
        async with asyncio.timeout(5):
            seen = [await anext(changes)]
            while seen[-1].progress != 50:
                seen.append(await anext(changes))
        assert seen[-1].id == a_job(slow).id


async def test_many_can_watch_the_same_job(store: Store) -> None:
    await given(store, a_job(1))
    async with store.watch(MINE) as first, store.watch(MINE) as second:
        await progress(store, 1, 10)
        await heard(first, a_job(1).id, 10)
        await heard(second, a_job(1).id, 10)


async def test_one_who_comes_after_everybody_left_hears_of_changes_as_well(store: Store) -> None:
    await given(store, a_job(1))
    for percent in range(1, 6):
        async with store.watch(MINE) as changes:
            await progress(store, 1, percent)
            await heard(changes, a_job(1).id, percent)


async def test_one_who_leaves_does_not_end_it_for_the_others(store: Store) -> None:
    await given(store, a_job(1))
    async with store.watch(MINE) as staying:
        async with store.watch(MINE):
            pass
        await progress(store, 1, 10)
        await heard(staying, a_job(1).id, 10)


async def test_giving_up_waiting_does_not_end_the_watch(store: Store) -> None:
    """An event stream waits a few seconds at a time, to send its heartbeat between."""
    await given(store, a_job(1))
    async with store.watch(MINE) as changes:
        for percent in (10, 20):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await anext(changes)
            await progress(store, 1, percent)
            await heard(changes, a_job(1).id, percent)


async def test_a_change_after_a_job_was_removed_arrives(store: Store) -> None:
    await given(store, a_job(1))
    async with store.watch(Interest(user_id=ADA)) as changes:
        await progress(store, 1, 10)
        await heard(changes, a_job(1).id, 10)
        await store.change([job_key(a_job(1).id)], lambda _: [Delete(job_key(a_job(1).id))])
        await given(store, a_job(2))
        await heard(changes, a_job(2).id, 0)


async def test_many_changes_in_one_go_all_arrive(store: Store, other_view: Store) -> None:
    jobs = [a_job(number) for number in range(1200)]
    async with store.watch(Interest(user_id=ADA)) as changes:
        for start in range(0, len(jobs), 400):
            await given(other_view, *jobs[start : start + 400])
        seen: set[str] = set()
        async with asyncio.timeout(10):
            while len(seen) < len(jobs):
                seen.add((await anext(changes)).id)
