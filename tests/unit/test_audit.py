"""The audit finds each kind of wrongness that is planted, and nothing where nothing is wrong."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shared.domain.changes import Create, Delete, Put, Record, account_key, entry_key, job_key
from shared.domain.ids import AccountId, EntryId, JobId, settlement_entry_id
from shared.domain.job import Job, Kind, Status
from shared.domain.ledger import Entry, Reason
from shared.ports.store import Balance, Page
from shared.usecases.audit import OVERDUE_AFTER, Finding, audit, problems_of
from shared.usecases.publication import delete
from shared.usecases.settle import cancel
from tests.support import ADA, BOB, NOON, UnsteadyStore, World, a_job, an_account, make_world

HERS = account_key(AccountId(ADA))


async def findings(world: World) -> list[tuple[str, str]]:
    return [(found.subject, found.problem) for found in (await audit(world.app)).findings]


async def plant(world: World, *records: Record) -> None:
    await world.store.change([], lambda _: [Create(record) for record in records])


async def alter(world: World, job: Job, **fields: Any) -> None:
    key = job_key(job.id)
    await world.store.change([key], lambda records: [Put(replace(records.need(key), **fields))])


async def a_busy_world() -> World:
    """One job of every fate."""
    world = make_world()
    done, cancelled, late, _ = [await world.submit(count=2) for _ in range(4)]
    await world.deliver(done)
    await cancel(world.app, cancelled.id, ADA)
    await delete(world.app, cancelled.id, ADA)
    await world.submit(user=BOB)
    world.clock.advance(minutes=10)
    await world.deliver(late)
    return world


async def test_sound_books_have_no_findings() -> None:
    world = await a_busy_world()
    report = await audit(world.app)
    assert report.findings == []
    assert report.is_clean
    assert (report.accounts, report.jobs) == (2, 6)
    assert report.statuses == {"draft": 1, "cancelled": 1, "failed": 1, "queued": 3}


async def test_an_empty_store_is_sound() -> None:
    report = await audit(make_world().app)
    assert (report.is_clean, report.accounts, report.jobs) == (True, 0, 0)


async def test_everything_is_looked_at_page_by_page() -> None:
    world = make_world()
    await plant(world, *(a_job(n, cost=0) for n in range(1203)))
    await plant(world, *(an_account(user=type(ADA)(f"u{n}"), balance=0) for n in range(501)))
    report = await audit(world.app)
    assert (report.jobs, report.accounts, report.is_clean) == (1203, 501, True)


async def test_a_balance_that_is_not_the_sum_of_its_entries_is_found() -> None:
    world = await a_busy_world()
    await world.store.change([HERS], lambda r: [Put(replace(r.need(HERS), balance=r.need(HERS).balance + 1))])
    [(subject, problem)] = await findings(world)
    assert subject == ADA
    assert "add up to" in problem


async def test_a_removed_entry_is_found() -> None:
    world = await a_busy_world()
    signup = entry_key(AccountId(ADA), EntryId("ada:signup"))
    await world.store.change([signup], lambda _: [Delete(signup)])
    [(subject, _)] = await findings(world)
    assert subject == ADA


async def test_a_negative_balance_is_found() -> None:
    world = make_world()
    debt = Entry(id=EntryId("e"), account_id=AccountId(ADA), tokens=-3, reason=Reason.GRANT, created_at=NOON)
    await plant(world, an_account(balance=-3), debt)
    assert await findings(world) == [(ADA, "the balance is negative: -3")]


class Moving(UnsteadyStore):
    """Reads an account's balance and the sum of its entries at two instants, as some stores must."""

    async def balances(self, *, limit: int, after: str | None = None) -> Page[Balance]:
        page = await super().balances(limit=limit, after=after)
        return Page(
            [replace(balance, entries_total=balance.entries_total + 1) for balance in page.data], page.next
        )


async def test_what_merely_moved_while_it_was_read_is_no_finding() -> None:
    world = make_world(store=Moving())
    for _ in range(3):
        await world.submit()
    assert await findings(world) == []


async def test_an_account_with_many_entries_is_added_up_to_the_last() -> None:
    world = make_world(store=Moving())
    lines = [
        Entry(id=EntryId(f"e{n}"), account_id=AccountId(ADA), tokens=1, reason=Reason.GRANT, created_at=NOON)
        for n in range(700)
    ]
    await plant(world, an_account(balance=700), *lines)
    assert await findings(world) == []


async def test_a_job_whose_wrongness_was_gone_at_the_second_look_is_no_finding() -> None:
    store = UnsteadyStore()
    world = make_world(store=store)
    job = await world.submit()
    await alter(world, job, wake_at=None)
    assert len(await findings(world)) == 1

    async def settle() -> None:
        await alter(world, job, wake_at=job.wake_at)

    store.before_load = settle
    assert await findings(world) == []
    assert store.before_load is None


async def test_a_job_that_was_erased_at_the_second_look_is_no_finding() -> None:
    store = UnsteadyStore()
    world = make_world(store=store)
    await plant(world, a_job(1, cost=0, wake_at=None))
    key = job_key(a_job(1).id)

    async def erase() -> None:
        await store.change([key], lambda _: [Delete(key)])

    store.before_load = erase
    assert await findings(world) == []
    assert (await store.load([key])).find(key) is None


# --- what is wrong between a job and its entries

JOB = a_job(1, cost=4, debit_id=EntryId("d"))
DEBIT = Entry(
    id=EntryId("d"),
    account_id=AccountId(ADA),
    tokens=-4,
    reason=Reason.DEBIT,
    created_at=NOON,
    job_id=JOB.id,
)
REFUND = replace(DEBIT, id=settlement_entry_id(JOB.id), tokens=4, reason=Reason.REFUND)


def ended(status: Status, **fields: Any) -> Job:
    return replace(JOB, **{"status": status, "wake_at": None, "finished_at": NOON} | fields)


SOUND: dict[str, tuple[Job, list[Entry]]] = {
    "a queued job": (JOB, [DEBIT]),
    "a draft": (ended(Status.DRAFT), [DEBIT]),
    "a part": (ended(Status.DRAFT, refunded=1), [DEBIT, replace(REFUND, tokens=1)]),
    "a failure": (ended(Status.FAILED, refunded=4), [DEBIT, REFUND]),
    "an internal job": (a_job(2, kind=Kind.ERASURE, cost=0), []),
    "a job of a batch": (a_job(3, cost=0), []),
    "a job at its deadline": (replace(JOB, deadline_at=NOON - OVERDUE_AFTER), [DEBIT]),
}
WRONG: dict[str, tuple[Job, list[Entry], str]] = {
    "no debit": (JOB, [], "has the debits []"),
    "two debits": (JOB, [DEBIT, replace(DEBIT, id=EntryId("d2"))], "has the debits [-4, -4]"),
    "another debit": (JOB, [replace(DEBIT, id=EntryId("d2"))], "has the debits [-4]"),
    "a debit of another size": (JOB, [replace(DEBIT, tokens=-3)], "it cost 4"),
    "a refund that the job does not know": (
        JOB,
        [DEBIT, REFUND],
        "it says 0 refunded and has the refunds [4]",
    ),
    "a refund that is missing": (ended(Status.FAILED, refunded=4), [DEBIT], "it says 4 refunded"),
    "a refund of another size": (
        ended(Status.FAILED, refunded=4),
        [DEBIT, replace(REFUND, tokens=3)],
        "has the refunds [3]",
    ),
    "two refunds": (
        ended(Status.FAILED, refunded=4),
        [DEBIT, REFUND, replace(REFUND, id=EntryId("again"))],
        "has the refunds [4, 4]",
    ),
    "a refund under another name": (
        ended(Status.FAILED, refunded=4),
        [DEBIT, replace(REFUND, id=EntryId("again"))],
        "it says 4 refunded",
    ),
    "entries in another account": (
        JOB,
        [replace(DEBIT, account_id=AccountId(BOB))],
        "stand in another account",
    ),
    "entries without a debit of its own": (
        a_job(1, cost=0),
        [replace(DEBIT, reason=Reason.GRANT)],
        "without a debit of its own",
    ),
    "a failure that was not refunded": (
        ended(Status.FAILED),
        [DEBIT],
        "ended failed and was refunded 0 of 4",
    ),
    "a cancel that was refunded in part": (
        ended(Status.CANCELLED, refunded=1),
        [DEBIT, replace(REFUND, tokens=1)],
        "ended cancelled and was refunded 1 of 4",
    ),
    "nobody will look": (replace(JOB, wake_at=None), [DEBIT], "is queued with wake_at None"),
    "somebody will look at what has ended": (
        ended(Status.DRAFT, wake_at=NOON),
        [DEBIT],
        "is draft with wake_at",
    ),
    "past its deadline": (
        replace(JOB, deadline_at=NOON - OVERDUE_AFTER - timedelta(seconds=1)),
        [DEBIT],
        "still queued, past its deadline",
    ),
}


@pytest.mark.parametrize("what", SOUND)
def test_a_sound_job_has_no_problem(what: str) -> None:
    job, entries = SOUND[what]
    assert list(problems_of(job, entries, NOON)) == []


@pytest.mark.parametrize("what", WRONG)
def test_a_planted_wrongness_is_one_problem(what: str) -> None:
    job, entries, said = WRONG[what]
    [problem] = problems_of(job, entries, NOON)
    assert said in problem


@pytest.mark.parametrize("what", WRONG)
async def test_a_planted_wrongness_is_found_in_a_store(what: str) -> None:
    job, entries, said = WRONG[what]
    world = make_world()
    await plant(world, job, *entries)
    assert [found for found in await findings(world) if found[0] == job.id and said in found[1]]


async def test_a_wrong_job_among_many_is_the_one_that_is_named() -> None:
    world = await a_busy_world()
    job = await world.deliver(await world.submit())
    await alter(world, job, refunded=1)
    assert (await audit(world.app)).findings == [
        Finding(JobId(job.id), "it says 1 refunded and has the refunds []")
    ]
