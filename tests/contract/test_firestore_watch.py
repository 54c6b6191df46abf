"""What Firestore adds to watching: one stream for everybody, which may break."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from google.api_core.exceptions import ServiceUnavailable

from shared.adapters.firestore import FirestoreStore, streams, watching
from shared.adapters.firestore.watching import Listener
from shared.domain.changes import Put, job_key
from shared.domain.errors import StoreUnavailable
from shared.domain.ids import JobId
from shared.domain.job import Job
from shared.ports.store import Interest, Store
from tests.contract.firestore_line import Line
from tests.emulators import a_project
from tests.support import ADA, BOB, a_job, given, until

pytestmark = pytest.mark.external

HERS, FIRST = Interest(user_id=ADA), Interest(jobs=frozenset({a_job(1).id}))


@pytest.fixture
def project(firestore_emulator: str) -> str:
    return a_project()


@pytest.fixture
async def store(project: str) -> AsyncIterator[FirestoreStore]:
    async with FirestoreStore.open(project, media_url=str) as store:
        yield store


@pytest.fixture
async def line(firestore_emulator: str) -> AsyncIterator[Line]:
    line = Line(firestore_emulator)
    await line.up()
    yield line
    await line.down()


async def progress(store: Store, number: int, progress: int) -> None:
    key = job_key(a_job(number).id)
    await store.change([key], lambda records: [Put(replace(records.need(key), progress=progress))])


async def next_of(changes: AsyncIterator[Job]) -> tuple[str, int]:
    async with asyncio.timeout(10):
        job = await anext(changes)
    return job.id, job.progress


def targets(store: FirestoreStore) -> list[Any]:
    return [target.subject for target in store._listener._targets.values()]


async def test_the_same_interest_is_listened_to_once(store: FirestoreStore) -> None:
    async with store.watch(HERS), store.watch(FIRST), store.watch(replace(FIRST, user_id=ADA)):
        assert targets(store) == [ADA, FIRST.jobs]
        async with store.watch(HERS):
            assert targets(store) == [ADA, FIRST.jobs]
        async with store.watch(Interest(user_id=BOB)):
            assert targets(store) == [ADA, FIRST.jobs, BOB]
        assert targets(store) == [ADA, FIRST.jobs]
    assert targets(store) == []


async def test_two_hundred_can_watch_their_own_jobs_at_once(store: FirestoreStore) -> None:
    """More than a connection has streams; changes still get through."""
    await given(store, *(a_job(number) for number in range(200)))

    async def follow(number: int) -> tuple[str, int]:
        async with store.watch(Interest(jobs=frozenset({a_job(number).id}))) as changes:
            await progress(store, number, number % 90 + 1)
            return await next_of(changes)

    heard = await asyncio.gather(*map(follow, range(200)))
    assert heard == [(a_job(number).id, number % 90 + 1) for number in range(200)]


async def test_what_stood_before_is_not_told_as_a_change(store: FirestoreStore) -> None:
    await given(store, a_job(1), a_job(2))
    async with store.watch(HERS) as changes:
        await progress(store, 2, 10)
        assert await next_of(changes) == (a_job(2).id, 10)
        await progress(store, 2, 20)
        assert await next_of(changes) == (a_job(2).id, 20)


async def test_what_changed_while_the_stream_was_broken_arrives(
    store: FirestoreStore, project: str, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    await given(store, a_job(1), a_job(2), a_job(3))
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", line.address)
    async with (
        FirestoreStore.open(project, media_url=str) as far,
        far.watch(HERS) as all_of_hers,
        far.watch(FIRST) as first,
    ):
        await progress(store, 1, 10)
        assert await next_of(all_of_hers) == await next_of(first) == (a_job(1).id, 10)
        await line.down()
        await progress(store, 1, 20)
        await progress(store, 2, 20)
        await line.up()
        missed = {await next_of(all_of_hers), await next_of(all_of_hers)}
        assert missed == {(a_job(1).id, 20), (a_job(2).id, 20)}
        assert await next_of(first) == (a_job(1).id, 20)
        await progress(store, 3, 30)
        assert await next_of(all_of_hers) == (a_job(3).id, 30)


async def test_what_changed_early_in_a_long_outage_arrives(
    store: FirestoreStore, project: str, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it was, and however often the stream was opened in vain."""
    monkeypatch.setattr(streams, "LAG", timedelta(seconds=0.5))
    await given(store, a_job(1))
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", line.address)
    async with FirestoreStore.open(project, media_url=str) as far, far.watch(HERS) as hers:
        await progress(store, 1, 10)
        assert await next_of(hers) == (a_job(1).id, 10)
        await line.down()
        await progress(store, 1, 20)
        changed_at = store._firestore.now()
        await until(lambda: store._firestore.now() - changed_at > 2 * streams.LAG)
        await line.up()
        assert await next_of(hers) == (a_job(1).id, 20)


async def test_a_stream_that_broke_a_thousand_times_in_a_row_is_opened_again(
    store: FirestoreStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LONGEST_PAUSE_SECONDS", 0)
    await given(store, a_job(1))
    async with store.watch(HERS) as hers:
        [stream] = store._listener._streams.values()
        broken, listen = 0, store._firestore.listen

        async def breaks(requests: Any) -> Any:
            nonlocal broken
            broken += 1
            if broken <= 1_100:
                raise ServiceUnavailable("not now")  # type: ignore[no-untyped-call]
            return await listen(requests)

        monkeypatch.setattr(store._firestore, "listen", breaks)
        monkeypatch.setattr(stream, "_hear", broken_off)
        await progress(store, 1, 10)
        await until(lambda: broken > 0)
        monkeypatch.delattr(stream, "_hear")
        assert await next_of(hers) == (a_job(1).id, 10)


def broken_off(_: object) -> None:
    raise ServiceUnavailable("broken off")  # type: ignore[no-untyped-call]


async def test_who_cannot_be_told_of_changes_learns_so(
    store: FirestoreStore, project: str, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", line.address)
    monkeypatch.setattr(watching, "ESTABLISH_TIMEOUT_SECONDS", 0.5)
    async with FirestoreStore.open(project, media_url=str) as far:
        await line.down()
        with pytest.raises(StoreUnavailable, match="does not tell of changes"):
            async with far.watch(HERS):
                pass
        assert targets(far) == []
        await line.up()


async def test_what_firestore_gives_up_is_asked_for_again_and_the_others_go_on(
    store: FirestoreStore,
) -> None:
    """As where an index is missing, or is being made."""
    store._listener._targets_per_stream = 2
    await given(store, a_job(1), a_job(2, user=BOB))
    async with store.watch(HERS) as hers, store.watch(Interest(user_id=BOB)) as his:
        [stream] = set(store._listener._streams.values())
        number = store._listener._targets[ADA].number
        stream._say(remove_target=number)  # Firestore answers as if it were its own idea
        await progress(store, 2, 10)
        assert await next_of(his) == (a_job(2).id, 10)
        await progress(store, 1, 10)
        assert await next_of(hers) == (a_job(1).id, 10)
        assert stream.targets.keys() == {1, 2}


async def test_several_can_share_a_stream_as_they_do_in_production(store: FirestoreStore) -> None:
    store._listener._targets_per_stream = 5
    await given(store, *(a_job(number) for number in range(12)))
    async with AsyncExitStack() as watching_:
        changes = [
            await watching_.enter_async_context(
                store.watch(Interest(jobs=frozenset({a_job(number).id, JobId(f"other_{number}")})))
            )
            for number in range(12)
        ]
        streams = list(dict.fromkeys(store._listener._streams.values()))
        assert [len(stream.targets) for stream in streams] == [5, 5, 2]
        for number in range(12):
            await progress(store, number, number + 1)
            assert await next_of(changes[number]) == (a_job(number).id, number + 1)
    assert store._listener._streams == {}


async def test_an_answer_that_makes_no_sense_does_not_end_the_watch(store: FirestoreStore) -> None:
    await given(store, a_job(1))
    async with store.watch(HERS) as changes:
        [stream] = store._listener._streams.values()

        def garbled(_: object) -> None:
            patch.undo()
            raise TypeError("what is this?")

        patch = pytest.MonkeyPatch()
        patch.setattr(stream, "_hear", garbled)
        for percent in (10, 20):
            await progress(store, 1, percent)
            assert await next_of(changes) == (a_job(1).id, percent)


async def test_only_what_changed_lately_is_read_for_who_watches_a_users_jobs(store: FirestoreStore) -> None:
    """A user may have many thousand jobs, and Firestore bills what a listener is told at first."""
    async with store.watch(HERS):
        [target] = store._listener._targets.values()
    assert target.since is not None
    age = store._firestore.now() - target.since
    assert timedelta(minutes=4) < age < timedelta(minutes=6)


async def test_a_change_is_told_once_however_often_firestore_repeats_it(store: FirestoreStore) -> None:
    """The emulator sends everything again after every change."""
    await given(store, a_job(1), a_job(2))
    async with store.watch(HERS) as changes:
        for percent in range(1, 11):
            await progress(store, 1, percent)
            assert await next_of(changes) == (a_job(1).id, percent)
        await progress(store, 2, 1)
        assert await next_of(changes) == (a_job(2).id, 1)


async def test_what_is_told_late_never_takes_a_job_back(
    store: FirestoreStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several streams may tell of one job, each in its own time."""
    await given(store, a_job(1))
    told: list[Any] = []
    tell = Listener._tell

    def noted(listener: Listener, document: Any, version: Any) -> None:
        told.append((document, version))
        tell(listener, document, version)

    monkeypatch.setattr(Listener, "_tell", noted)
    async with store.watch(HERS) as changes:
        for percent in (10, 20):
            await progress(store, 1, percent)
            assert await next_of(changes) == (a_job(1).id, percent)
        store._listener._tell(*told[0])
        await progress(store, 1, 30)
        assert await next_of(changes) == (a_job(1).id, 30)


async def test_a_name_that_firestore_cannot_hold_is_never_changed(store: FirestoreStore) -> None:
    await given(store, a_job(1))
    async with store.watch(Interest(jobs=frozenset({JobId("a/b"), a_job(1).id}))) as changes:
        await progress(store, 1, 10)
        assert await next_of(changes) == (a_job(1).id, 10)


async def test_who_comes_right_after_the_last_has_left_hears_of_changes(store: FirestoreStore) -> None:
    await given(store, a_job(1))
    for percent in range(1, 20):
        async with store.watch(HERS if percent % 2 else FIRST) as changes:
            await progress(store, 1, percent)
            assert await next_of(changes) == (a_job(1).id, percent)
    await until(lambda: not store._listener._ending)
