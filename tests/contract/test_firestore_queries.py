"""What Firestore adds to the store's queries: shards, and a past that is not walked through again."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from google.cloud.firestore_v1 import types

from shared.adapters.firestore import FirestoreStore
from shared.adapters.firestore.documents import Document, Documents
from shared.domain.changes import Create, Put, account_key, job_key
from shared.domain.ids import AccountId, JobId
from shared.domain.job import Status
from shared.domain.ledger import posted
from shared.ports.store import Balance, JobFilter
from tests.contract.test_store_queries import FILTERS, POPULATION, ids, shown, standing, walk
from tests.emulators import a_project
from tests.support import ADA, NOON, a_job, an_account, an_entry, given

pytestmark = pytest.mark.external


@pytest.fixture
def project(firestore_emulator: str) -> str:
    return a_project()


@pytest.fixture
async def store(project: str) -> AsyncIterator[FirestoreStore]:
    async with FirestoreStore.open(project, media_url=str) as store:
        yield store


# --- shards


async def test_a_store_with_shards_answers_as_one_without(project: str) -> None:
    published = [shown(n + 500, n // 3) for n in range(12)]
    entries = [an_entry(f"e{n:02d}", job_id=JobId(f"job_{n // 2}")) for n in range(70)]
    async with (
        FirestoreStore.open(project, media_url=str) as before,
        FirestoreStore.open(project, media_url=str, shards=3) as after,
    ):
        await given(before, *POPULATION[::2], *entries[::2], *published[::2])
        await given(after, *POPULATION[1::2], *entries[1::2], *published[1::2])
        everything = sorted([*POPULATION, *published], key=lambda job: job.id, reverse=True)

        assert ids((await after.jobs(JobFilter(), limit=500)).data) == ids(everything)
        assert ids((await after.feed(limit=50)).data) == ids(published[::-1])
        assert len(await after.entries_of([JobId(f"job_{n}") for n in range(35)])) == 70
        assert (await after.count(JobFilter())).jobs == len(everything)
        waking = sorted((j for j in everything if j.wake_at), key=lambda j: (j.wake_at, j.id))
        assert ids(await after.due(NOON + timedelta(days=1), limit=500)) == ids(waking)
        assert await after.next_wake() == waking[0].wake_at
        walked = await walk(lambda cursor: after.jobs(JobFilter(), limit=7, after=cursor), limit=7)
        assert ids(walked) == ids(everything)
        for wanted in FILTERS[::7]:
            theirs = await before.jobs(replace(wanted, user_id=ADA), limit=500)
            ours = await after.jobs(replace(wanted, user_id=ADA), limit=500)
            assert ids(ours.data) == ids(theirs.data)


def test_jobs_are_spread_over_all_shards() -> None:
    documents = Documents("d", media_url=str, shards=4)
    shards = [documents.shard_of(a_job(n).id) for n in range(400)]
    assert {shards.count(n) // 50 for n in range(4)} <= {1, 2}


# --- balances


async def test_a_balance_and_the_sum_of_its_entries_are_of_one_instant(store: FirestoreStore) -> None:
    hers, line = account_key(AccountId(ADA)), an_entry("first", tokens=5)
    await given(store, an_account(ADA, balance=5), line)
    aggregate = store._firestore.aggregate

    async def late(*asked: Any, **options: Any) -> Any:
        more = an_entry(f"more{len((await store.entries(line.account_id, limit=9)).data)}", tokens=1)
        await store.change([hers], lambda r: [Put(posted(r.need(hers), more)), Create(more)])
        return await aggregate(*asked, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store._firestore, "aggregate", late)
        seen = await store.balances(limit=5)
    assert list(seen.data) == [Balance(account_id=line.account_id, balance=5, entries_total=5)]
    assert (await store.balances(limit=5)).data[0].entries_total == 6


# --- due starts where nothing older is left


async def test_due_does_not_walk_again_through_what_is_long_past(store: FirestoreStore) -> None:
    day = timedelta(days=1)
    await given(store, a_job(1, wake_at=NOON))
    assert ids(await store.due(NOON, limit=5)) == [a_job(1).id]
    assert store._looked.since == NOON - timedelta(minutes=10)
    await store.change([job_key(a_job(1).id)], lambda _: [Put(standing(1, Status.FAILED))])
    assert await store.due(NOON + timedelta(minutes=1), limit=5) == []

    await given(store, a_job(2, wake_at=NOON - timedelta(minutes=8)), a_job(3, wake_at=NOON - day))
    soon, later = NOON + timedelta(minutes=2), NOON + timedelta(minutes=5)
    assert ids(await store.due(soon, limit=5)) == [a_job(2).id]  # a late commit, or a clock that is slow
    assert ids(await store.due(later, limit=5)) == [a_job(3).id, a_job(2).id]  # nothing is missed for good


async def test_due_after_a_clock_was_set_back_looks_at_everything(store: FirestoreStore) -> None:
    assert await store.due(NOON + timedelta(days=1), limit=5) == []
    await given(store, a_job(1, wake_at=NOON))
    assert ids(await store.due(NOON, limit=5)) == [a_job(1).id]


async def test_a_wake_that_lies_ahead_does_not_hide_what_will_be_due_before_it(store: FirestoreStore) -> None:
    await given(store, a_job(1, wake_at=NOON + timedelta(hours=1)))
    assert await store.due(NOON, limit=5) == []
    await given(store, a_job(2, wake_at=NOON + timedelta(seconds=10)))
    assert await store.next_wake() == NOON + timedelta(seconds=10)
    assert ids(await store.due(NOON + timedelta(seconds=10), limit=5)) == [a_job(2).id]


async def test_jobs_that_only_a_newer_version_can_read_keep_no_other_from_being_due(project: str) -> None:
    """They are the longest due for ever; more of them than a sweep asks for must not hide the rest."""
    async with FirestoreStore.open(project, media_url=str, shards=2) as store:
        await given(store, *(a_job(n) for n in range(12)))
        for n in range(9):
            name = store._documents.name_of(job_key(a_job(n).id))
            newer = types.Write.pb()(update=Document(name=name), update_mask={"field_paths": ["status"]})
            newer.update.fields["status"].string_value = "evaporated"
            await store._firestore.commit([newer])
        woken = a_job(0).wake_at
        assert woken is not None
        later = woken + timedelta(hours=1)
        assert ids(await store.due(later, limit=2)) == [a_job(9).id, a_job(10).id]
        assert ids(await store.due(later, limit=5)) == [a_job(n).id for n in (9, 10, 11)]
