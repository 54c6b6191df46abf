"""What Firestore adds to the store's contract: commits of unknown result, versions, and what calls cost."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
from google.api_core import exceptions

from shared.adapters.firestore import FirestoreStore
from shared.adapters.firestore.store import CONFLICT_TRIES, LOST_TRIES
from shared.domain.changes import (
    AnyKey,
    Create,
    Delete,
    Put,
    Records,
    Write,
    account_key,
    api_key_key,
    entry_key,
    job_key,
)
from shared.domain.errors import BrokenInvariant, Conflict, StoreUnavailable
from shared.domain.ids import AccountId, EntryId, JobId
from shared.domain.job import Status
from shared.domain.ledger import posted
from shared.ports.store import Interest
from shared.usecases.audit import audit
from tests.contract.firestore_api import overtaken_by, refusal, tamper, unanswered, unsent
from tests.emulators import a_project
from tests.support import (
    ADA,
    BOB,
    a_job,
    an_account,
    an_entry,
    another_worker,
    find,
    given,
    make_world,
)

pytestmark = pytest.mark.external

HERS = account_key(AccountId(ADA))
DEBIT = an_entry("debit")
ITS_KEY = entry_key(DEBIT.account_id, DEBIT.id)
UNKNOWN_RESULTS = [
    refusal(exceptions.DeadlineExceeded, "too late"),
    refusal(exceptions.ServiceUnavailable, "socket closed"),
    refusal(exceptions.InternalServerError, "oops"),
    refusal(exceptions.Unknown, "stream removed"),
    refusal(exceptions.Cancelled, "by the transport"),
]
COLLISIONS = [
    refusal(exceptions.Aborted, "too much contention on these documents"),
    refusal(exceptions.FailedPrecondition, "the stored version does not match"),
    refusal(exceptions.AlreadyExists, "entity already exists"),
    refusal(exceptions.NotFound, "no document to update"),
]


def kind(error: Exception) -> str:
    return type(error).__name__


@pytest.fixture
def project(firestore_emulator: str) -> str:
    return a_project()


@pytest.fixture
async def store(project: str) -> AsyncIterator[FirestoreStore]:
    async with FirestoreStore.open(project, media_url=str) as store:
        yield store


@pytest.fixture
async def other(store: FirestoreStore, project: str) -> AsyncIterator[FirestoreStore]:
    """Another process."""
    async with FirestoreStore.open(project, media_url=str) as other:
        yield other


def debiting(records: Records) -> Sequence[Write]:
    """Take one token, once."""
    if records.find(ITS_KEY) is not None:
        return []
    return [Put(posted(records.need(HERS), DEBIT)), Create(DEBIT)]


# --- commits whose result is unknown


@pytest.mark.parametrize("error", UNKNOWN_RESULTS, ids=kind)
@pytest.mark.parametrize("mishap", [unsent, unanswered])
async def test_a_commit_of_unknown_result_is_looked_at_again_and_counts_once(
    store: FirestoreStore, mishap: object, error: exceptions.GoogleAPICallError
) -> None:
    await given(store, an_account(ADA, balance=5))
    tampered = tamper(store)
    tampered.mishaps = [mishap(error)]  # type: ignore[operator]

    after = await store.change([HERS, ITS_KEY], debiting)

    assert (after.need(HERS).balance, after.find(ITS_KEY)) == (4, DEBIT)
    assert (await store.load([HERS])).need(HERS).balance == 4
    assert tampered.commits == (2 if mishap is unsent else 1)


async def test_a_commit_that_is_carried_out_only_after_it_was_given_up_counts_once(
    store: FirestoreStore,
) -> None:
    """It was still under way when what stands was looked at: one of the two finds its version gone."""
    await given(store, an_account(ADA, balance=5))
    tampered = tamper(store)
    late: list[object] = []

    async def delayed(commit: object) -> None:
        late.append(commit)
        raise refusal(exceptions.DeadlineExceeded, "too late")

    tampered.mishaps = [delayed, overtaken_by(lambda: late.pop()())]  # type: ignore[operator]

    assert (await store.change([HERS, ITS_KEY], debiting)).need(HERS).balance == 4
    assert (await store.load([HERS])).need(HERS).balance == 4
    assert tampered.commits == 2


async def test_when_no_commit_is_ever_answered_the_store_is_unavailable(store: FirestoreStore) -> None:
    await given(store, an_account(ADA, balance=5))
    tampered = tamper(store)
    tampered.mishaps = [unsent(refusal(exceptions.ServiceUnavailable, "socket closed"))] * 9
    with pytest.raises(StoreUnavailable, match="socket closed") as raised:
        await store.change([HERS, ITS_KEY], debiting)
    assert not isinstance(raised.value, Conflict)
    assert tampered.commits == LOST_TRIES


@pytest.mark.parametrize(
    "error",
    [
        refusal(exceptions.PermissionDenied, "Missing or insufficient permissions."),
        refusal(exceptions.Unauthenticated, "invalid\ncredentials"),
        refusal(exceptions.ResourceExhausted, "quota exceeded"),
        refusal(exceptions.MethodNotImplemented, "what is a commit?"),
    ],
    ids=kind,
)
async def test_what_is_refused_for_good_is_not_tried_again(
    store: FirestoreStore, error: exceptions.GoogleAPICallError
) -> None:
    await given(store, an_account(ADA, balance=5))
    tampered = tamper(store)
    tampered.mishaps = [unsent(error)] * 2
    with pytest.raises(StoreUnavailable) as raised:
        await store.change([HERS, ITS_KEY], debiting)
    assert " ".join(error.message.split()) in raised.value.message
    assert tampered.commits == 1


async def test_a_commit_that_firestore_cannot_read_is_our_mistake(store: FirestoreStore) -> None:
    tampered = tamper(store)
    tampered.mishaps = [unsent(refusal(exceptions.InvalidArgument, "field name __x__ is reserved"))]
    with pytest.raises(BrokenInvariant):
        await given(store, a_job(1))


async def test_a_read_that_broke_off_is_asked_again(store: FirestoreStore) -> None:
    await given(store, an_account(ADA, balance=5))
    tampered = tamper(store)
    tampered.refusals = [refusal(exceptions.ServiceUnavailable, "goaway")] * 2
    assert (await store.load([HERS])).need(HERS).balance == 5
    assert tampered.documents_read == 3


async def test_a_read_that_is_refused_is_not_asked_again(store: FirestoreStore) -> None:
    tampered = tamper(store)
    tampered.refusals = [refusal(exceptions.PermissionDenied, "Missing permissions.")] * 2
    with pytest.raises(StoreUnavailable, match="Missing permissions"):
        await store.load([HERS])
    assert tampered.documents_read == 1


# --- others who change the same


@pytest.mark.parametrize("error", COLLISIONS, ids=kind)
async def test_a_collision_is_decided_again(
    store: FirestoreStore, error: exceptions.GoogleAPICallError
) -> None:
    await given(store, an_account(ADA, balance=5))
    tamper(store).mishaps = [unsent(error)] * 3
    assert (await store.change([HERS, ITS_KEY], debiting)).need(HERS).balance == 4


async def test_what_another_process_changed_after_it_was_read_is_not_overwritten(
    store: FirestoreStore, other: FirestoreStore
) -> None:
    await given(store, an_account(ADA, balance=5))
    tamper(store).mishaps = [
        overtaken_by(
            lambda n=n: other.change(  # type: ignore[misc]
                [HERS], lambda r: [Put(posted(r.need(HERS), e := an_entry(f"e{n}", tokens=10))), Create(e)]
            )
        )
        for n in range(4)
    ]
    assert (await store.change([HERS, ITS_KEY], debiting)).need(HERS).balance == 44
    assert await find(other, HERS) == an_account(ADA, balance=44)


async def test_what_another_process_deleted_is_not_written_again(
    store: FirestoreStore, other: FirestoreStore
) -> None:
    key = job_key(a_job(1).id)
    await given(store, a_job(1))
    tamper(store).mishaps = [overtaken_by(lambda: other.change([key], lambda _: [Delete(key)]))]

    def progressing(records: Records) -> Sequence[Write]:
        job = records.find(key)
        return [Put(replace(job, progress=50))] if job is not None else []

    assert (await store.change([key], progressing)).find(key) is None


async def test_who_is_always_overtaken_gives_up_in_the_end(
    store: FirestoreStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.adapters.firestore.store.CONFLICT_PAUSE_SECONDS", 0)
    await given(store, an_account(ADA, balance=5))
    tampered = tamper(store)
    tampered.mishaps = [unsent(refusal(exceptions.Aborted, "contention"))] * 99
    with pytest.raises(Conflict):
        await store.change([HERS, ITS_KEY], debiting)
    assert tampered.commits == CONFLICT_TRIES


async def test_a_collision_with_what_nobody_looked_for_is_final_only_while_nothing_seen_has_changed(
    store: FirestoreStore, other: FirestoreStore
) -> None:
    def opening(records: Records) -> Sequence[Write]:
        return [] if records.find(HERS) is not None else [Create(an_account(ADA)), Create(DEBIT)]

    await given(other, DEBIT)
    tampered = tamper(store)
    with pytest.raises(Conflict, match="debit exists"):
        await store.change([HERS], opening)
    assert tampered.commits == 1

    tampered.mishaps = [overtaken_by(lambda: given(other, an_account(ADA, balance=7)))]
    assert (await store.change([HERS], opening)).need(HERS).balance == 7


async def test_changes_of_one_account_wait_for_each_other_inside_a_process(store: FirestoreStore) -> None:
    await given(store, an_account(ADA, balance=100), an_account(BOB, balance=100))
    his, decided, tampered = account_key(AccountId(BOB)), 0, tamper(store)

    def moving(records: Records) -> Sequence[Write]:
        nonlocal decided
        decided += 1
        hers, theirs = records.need(HERS), records.need(his)
        return [
            Put(replace(hers, balance=hers.balance - 1)),
            Put(replace(theirs, balance=theirs.balance + 1)),
        ]

    await asyncio.gather(*(store.change([HERS, his][:: 1 if n % 2 else -1], moving) for n in range(20)))

    assert [(await store.load([key])).need(key).balance for key in (HERS, his)] == [80, 120]
    assert decided == tampered.commits == 20
    assert len(store._locks) == 0


async def test_who_gives_up_waiting_for_an_account_leaves_it_to_the_others(store: FirestoreStore) -> None:
    await given(store, an_account(ADA, balance=5))
    holding, let_go = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        holding.set()
        await let_go.wait()

    tamper(store).mishaps = [overtaken_by(slow)]
    first = asyncio.create_task(store.change([HERS, ITS_KEY], debiting))
    await holding.wait()
    waiting = [asyncio.create_task(store.change([HERS, ITS_KEY], debiting)) for _ in range(3)]
    await asyncio.sleep(0)
    for task in waiting[:2]:
        task.cancel()
    let_go.set()

    ends = await asyncio.gather(first, *waiting, return_exceptions=True)
    assert [isinstance(end, Records) for end in ends] == [True, False, False, True]
    assert len(store._locks) == 0


# --- what it costs


async def test_fifty_submits_at_once_to_one_account_all_succeed(store: FirestoreStore) -> None:
    world = make_world(store=store)
    jobs = await asyncio.gather(*(world.submit(key=f"k{n}") for n in range(50)))
    assert len({job.id for job in jobs}) == 50
    assert await world.balance() == 50
    assert (await audit(world.app)).is_clean


async def test_fifty_submits_from_two_processes_at_once_all_succeed(
    store: FirestoreStore, other: FirestoreStore
) -> None:
    world = make_world(store=store)
    rival = another_worker(world, store=other)
    jobs = await asyncio.gather(*(one.submit(key=f"k{n}") for n in range(25) for one in (world, rival)))
    # Both submit each key: half of them find the other's job.
    assert len({job.id for job in jobs}) == 25
    more = await asyncio.gather(*(one.submit() for _ in range(25) for one in (world, rival)))
    assert len({job.id for job in more}) == 50
    assert await world.balance() == 25
    assert (await audit(world.app)).is_clean


async def test_an_image_costs_at_most_four_reads_and_five_writes(store: FirestoreStore) -> None:
    world = make_world(store=store)
    await world.submit()  # opens the account
    tampered = tamper(store)

    job = await world.submit(key="k")
    await world.work.process(job.id)

    assert (tampered.documents_read, tampered.documents_written) == (4, 5)
    assert (await world.job(job)).status is Status.DRAFT


async def test_a_change_that_decides_nothing_commits_nothing(store: FirestoreStore) -> None:
    tampered = tamper(store)
    await store.change([HERS, ITS_KEY], lambda _: [])
    assert (tampered.documents_read, tampered.commits) == (2, 0)


# --- names


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "__x__", "x" * 1501, "\ud800", "ü" * 751])
async def test_nothing_has_a_name_that_firestore_cannot_hold(store: FirestoreStore, name: str) -> None:
    account = AccountId(name)
    keys: list[AnyKey] = [
        account_key(account),
        job_key(JobId(name)),
        api_key_key(name),
        entry_key(account, EntryId("e")),
    ]
    await given(store, an_account(ADA))
    assert dict(await store.load([HERS, *keys])) == {HERS: an_account(ADA)} | dict.fromkeys(keys)
    assert (await store.entries(account, limit=5)).data == []
    with pytest.raises(BrokenInvariant):
        await given(store, replace(an_account(ADA), id=account))
    async with store.watch(Interest(jobs=frozenset({JobId(name)}))):
        pass
