"""The store's contract: what a change promises."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from shared.domain.changes import (
    AnyKey,
    Create,
    Decide,
    Delete,
    Put,
    Records,
    Write,
    account_key,
    entry_key,
    job_key,
)
from shared.domain.errors import BrokenInvariant, Conflict, InsufficientTokens, NotFound
from shared.domain.ids import AccountId, EntryId
from shared.domain.ledger import posted
from shared.ports.store import Store
from tests.support import ADA, BOB, a_job, an_account, an_entry, find, given

HERS = account_key(AccountId(ADA))
HIS = account_key(AccountId(BOB))


def debiting(name: str) -> Decide:
    """Take one token for `name`, once."""
    key = entry_key(AccountId(ADA), EntryId(name))

    def decide(records: Records) -> Sequence[Write]:
        if records.find(key) is not None:
            return []
        debit = an_entry(name)
        return [Put(posted(records.need(HERS), debit)), Create(debit)]

    return decide


async def debit(store: Store, name: str) -> Records:
    return await store.change([HERS, entry_key(AccountId(ADA), EntryId(name))], debiting(name))


async def test_a_change_writes_all_that_was_decided(store: Store) -> None:
    await given(store, an_account(ADA, balance=5), a_job(1))

    def decide(records: Records) -> Sequence[Write]:
        return [
            Put(replace(records.need(HERS), balance=4)),
            Create(an_entry("e1")),
            Delete(job_key(a_job(1).id)),
        ]

    await store.change([HERS, job_key(a_job(1).id)], decide)

    assert (await store.load([HERS])).need(HERS).balance == 4
    assert await find(store, entry_key(AccountId(ADA), EntryId("e1"))) == an_entry("e1")
    assert await find(store, job_key(a_job(1).id)) is None


async def test_a_change_returns_every_loaded_and_every_written_record_as_it_then_stands(store: Store) -> None:
    await given(store, an_account(ADA, balance=5), an_account(BOB), a_job(1))
    gone, missing, made = job_key(a_job(1).id), job_key(a_job(2).id), a_job(3)

    def decide(records: Records) -> Sequence[Write]:
        return [Put(replace(records.need(HERS), balance=4)), Delete(gone), Create(made)]

    after = await store.change([HERS, HIS, gone, missing], decide)

    assert dict(after) == {
        HERS: an_account(ADA, balance=4),
        HIS: an_account(BOB),
        gone: None,
        missing: None,
        job_key(made.id): made,
    }


async def test_a_decision_sees_the_keyed_records_and_nothing_for_those_that_are_not_there(
    store: Store,
) -> None:
    await given(store, an_account(ADA))
    seen: list[Records] = []

    def decide(records: Records) -> Sequence[Write]:
        seen.append(records)
        return []

    await store.change([HERS, HIS], decide)

    assert dict(seen[-1]) == {HERS: an_account(ADA), HIS: None}


async def test_a_change_that_decides_nothing_returns_what_it_loaded(store: Store) -> None:
    await given(store, an_account(ADA))
    assert dict(await store.change([HERS, HIS], lambda _: [])) == {HERS: an_account(ADA), HIS: None}
    assert dict(await store.change([], lambda _: [])) == {}


async def test_what_a_decision_raises_comes_out_unchanged_and_nothing_is_written(store: Store) -> None:
    await given(store, an_account(ADA, balance=0))
    raised: list[InsufficientTokens] = []

    def decide(records: Records) -> Sequence[Write]:
        raised.append(InsufficientTokens(AccountId(ADA), needed_tokens=3, available_tokens=0))
        raise raised[-1]

    with pytest.raises(InsufficientTokens) as caught:
        await store.change([HERS], decide)

    assert caught.value is raised[-1]
    assert await find(store, HERS) == an_account(ADA, balance=0)


async def test_an_error_that_nobody_foresaw_comes_out_of_a_decision_as_well(store: Store) -> None:
    with pytest.raises(ZeroDivisionError):
        await store.change([], lambda _: [Create(a_job(1 // 0))])
    await given(store, an_account(ADA))
    assert await find(store, HERS) == an_account(ADA)


async def test_creating_what_exists_is_a_conflict_and_nothing_is_written(store: Store) -> None:
    await given(store, an_account(ADA, balance=5), an_entry("e1", tokens=-7))

    def decide(records: Records) -> Sequence[Write]:
        return [Put(replace(records.need(HERS), balance=4)), Create(a_job(1)), Create(an_entry("e1"))]

    with pytest.raises(Conflict):
        await store.change([HERS], decide)

    assert await find(store, HERS) == an_account(ADA, balance=5)
    assert await find(store, job_key(a_job(1).id)) is None
    assert await find(store, entry_key(AccountId(ADA), EntryId("e1"))) == an_entry("e1", tokens=-7)


UNSOUND: dict[str, tuple[Sequence[AnyKey], Sequence[Write]]] = {
    "puts what was not loaded": ([], [Put(an_account(ADA, balance=1))]),
    "puts what was loaded and is not there": ([HIS], [Put(an_account(BOB))]),
    "deletes what was not loaded": ([], [Delete(HERS)]),
    "deletes what was loaded and is not there": ([HIS], [Delete(HIS)]),
    "creates what it saw standing": ([HERS], [Create(an_account(ADA, balance=1))]),
    "writes a record twice": ([HERS], [Put(an_account(ADA, balance=1)), Delete(HERS)]),
}


@pytest.mark.parametrize("what", UNSOUND)
async def test_an_unsound_decision_is_refused_whole(store: Store, what: str) -> None:
    await given(store, an_account(ADA, balance=5))
    keys, writes = UNSOUND[what]

    with pytest.raises(BrokenInvariant):
        await store.change(keys, lambda _: [Create(a_job(9)), *writes])

    assert await find(store, HERS) == an_account(ADA, balance=5)
    assert await find(store, HIS) is None
    assert await find(store, job_key(a_job(9).id)) is None


async def test_a_record_can_be_created_again_after_it_was_deleted(store: Store) -> None:
    await given(store, a_job(1))
    key = job_key(a_job(1).id)
    await store.change([key], lambda _: [Delete(key)])
    await store.change([key], lambda _: [Create(a_job(1, progress=50))])
    assert (await store.load([key])).need(key).progress == 50


async def test_entries_of_the_same_name_in_two_accounts_are_two_entries(store: Store) -> None:
    await given(store, an_entry("signup", account=ADA, tokens=1), an_entry("signup", account=BOB, tokens=2))
    keys = [entry_key(AccountId(user), EntryId("signup")) for user in (ADA, BOB)]
    assert [entry.tokens for entry in map((await store.load(keys)).need, keys)] == [1, 2]


async def test_loading_finds_each_record_by_itself(store: Store) -> None:
    await given(store, an_account(ADA), a_job(1))
    records = await store.load([HERS, HIS, job_key(a_job(1).id)])
    assert dict(records) == {HERS: an_account(ADA), HIS: None, job_key(a_job(1).id): a_job(1)}
    with pytest.raises(NotFound):
        records.need(HIS)
    assert dict(await store.load([])) == {}


async def test_of_two_hundred_debits_at_once_exactly_those_that_can_be_paid_succeed(store: Store) -> None:
    await given(store, an_account(ADA, balance=100))

    ends = await asyncio.gather(*(debit(store, f"d{n}") for n in range(200)), return_exceptions=True)

    assert sum(isinstance(end, Records) for end in ends) == 100
    assert sum(isinstance(end, InsufficientTokens) for end in ends) == 100
    assert (await store.load([HERS])).need(HERS).balance == 0
    assert len((await store.entries(AccountId(ADA), limit=300)).data) == 100


async def test_changes_of_one_record_through_two_views_all_count(store: Store, other_view: Store) -> None:
    await given(store, an_account(ADA, balance=100))

    await asyncio.gather(*(debit(view, f"{n} {id(view)}") for n in range(30) for view in (store, other_view)))

    expected = 40 if other_view is not store else 70  # one view decides each name once
    assert (await store.load([HERS])).need(HERS).balance == expected
    assert await find(other_view, HERS) == await find(store, HERS)


async def test_a_decision_that_recognises_its_success_can_be_repeated(store: Store) -> None:
    await given(store, an_account(ADA, balance=5))
    await asyncio.gather(*(debit(store, "once") for _ in range(10)))
    assert (await store.load([HERS])).need(HERS).balance == 4


async def test_of_many_that_create_the_same_record_one_does(store: Store, other_view: Store) -> None:
    ends = await asyncio.gather(
        *(given(view, a_job(1, progress=n)) for n in range(10) for view in (store, other_view)),
        return_exceptions=True,
    )
    assert sum(end is None for end in ends) == 1
    assert sum(isinstance(end, Conflict) for end in ends) == 19


async def test_of_many_that_make_a_record_and_one_that_they_did_not_look_for_one_does_and_all_count(
    store: Store, other_view: Store
) -> None:
    """An account is opened with its first entry, which nobody reads; everybody else finds it open."""

    def earning(name: str) -> Decide:
        def decide(records: Records) -> Sequence[Write]:
            hers = records.find(HERS)
            if hers is None:
                return [Create(an_account(ADA, balance=1)), Create(an_entry("first", tokens=1))]
            return [Put(replace(hers, balance=hers.balance + 1)), Create(an_entry(name, tokens=1))]

        return decide

    views = [store, other_view] * 5
    await asyncio.gather(*(view.change([HERS], earning(f"e{n}")) for n, view in enumerate(views)))

    entries = (await store.entries(AccountId(ADA), limit=20)).data
    assert (await store.load([HERS])).need(HERS).balance == len(entries) == len(views)
    assert "first" in {entry.id for entry in entries}


async def test_a_change_can_be_read_by_everybody_once_it_returned(store: Store, other_view: Store) -> None:
    for number in range(20):
        await given(store, a_job(number))
        assert await find(other_view, job_key(a_job(number).id)) == a_job(number)


async def test_a_change_whose_caller_went_away_is_written_whole_or_not_at_all(store: Store) -> None:
    await given(store, an_account(ADA, balance=100))
    tasks = [asyncio.create_task(debit(store, f"d{n}")) for n in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    last = (await debit(store, "last")).need(HERS)
    assert 100 - last.balance == len((await store.entries(AccountId(ADA), limit=300)).data)
    assert last.balance <= 89


async def test_checking_a_store_that_works_says_nothing(store: Store) -> None:
    await store.check()


@pytest.mark.parametrize(
    "value", [2**70, "\ud800", object()], ids=["a huge number", "half a character", "not JSON at all"]
)
async def test_a_record_that_cannot_be_kept_takes_nothing_with_it(store: Store, value: Any) -> None:
    """The store may refuse it or keep it, but everybody else goes on."""
    ends = await asyncio.wait_for(
        asyncio.gather(
            given(store, a_job(1)),
            given(store, a_job(2, metadata={"odd": value})),
            given(store, a_job(3)),
            return_exceptions=True,
        ),
        timeout=5,
    )
    assert [ends[0], ends[2]] == [None, None]
    await asyncio.wait_for(given(store, a_job(4)), timeout=5)
    for number in (1, 3, 4):
        assert await find(store, job_key(a_job(number).id)) == a_job(number)
