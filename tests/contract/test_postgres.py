"""What PostgreSQL adds to the store's contract: connections that break, and others who hold what we want."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import psycopg
import pytest

from shared.adapters.sql import postgres
from shared.adapters.sql.postgres import LOST_TRIES, PostgresStore
from shared.domain.changes import (
    AnyKey,
    Create,
    Delete,
    Put,
    Record,
    Records,
    Write,
    account_key,
    entry_key,
    job_key,
)
from shared.domain.errors import Conflict, StoreUnavailable
from shared.domain.ids import AccountId, EntryId, JobId
from shared.domain.job import Job
from shared.domain.ledger import Entry, Reason, posted
from shared.ports.store import Interest, JobFilter
from tests.contract.postgres_server import PostgresServer
from tests.contract.wire import Wire, a_wire
from tests.support import ADA, BOB, NOON, a_job, an_account

pytestmark = pytest.mark.external

HERS, HIS = account_key(AccountId(ADA)), account_key(AccountId(BOB))
DEBIT = Entry(id=EntryId("debit"), account_id=AccountId(ADA), tokens=-1, reason=Reason.DEBIT, created_at=NOON)
ITS_KEY = entry_key(DEBIT.account_id, DEBIT.id)


@pytest.fixture
def url(postgres_server: PostgresServer) -> str:
    return postgres_server.empty_database()


@pytest.fixture
async def store(url: str) -> AsyncIterator[PostgresStore]:
    async with PostgresStore.open(url) as store:
        yield store


@pytest.fixture
async def wire(postgres_server: PostgresServer, url: str) -> AsyncIterator[Wire]:
    async with a_wire(postgres_server) as wire:
        yield wire


@pytest.fixture
async def somebody(url: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """Another client of the database, in a transaction of its own."""
    async with await psycopg.AsyncConnection.connect(url) as somebody:
        yield somebody


async def given(store: PostgresStore, *records: Record) -> None:
    await store.change([], lambda _: [Create(record) for record in records])


async def find(store: PostgresStore, key: AnyKey) -> Record | None:
    return (await store.load([key]))[key]


def debiting(records: Records) -> Sequence[Write]:
    if records.find(ITS_KEY) is not None:
        return []
    return [Put(posted(records.need(HERS), DEBIT)), Create(DEBIT)]


async def locks_waited_for(url: str, count: int) -> None:
    """Return once so many wait for somebody's locks."""
    async with asyncio.timeout(10), await psycopg.AsyncConnection.connect(url, autocommit=True) as looking:
        waiting = -1
        while waiting < count:
            [(waiting,)] = await (
                await looking.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            ).fetchall()


# --- connections that break


@pytest.mark.parametrize("cuts", [["before"], ["after"], ["after", "before"]])
async def test_a_commit_of_unknown_result_is_decided_again_and_counts_once(
    wire: Wire, cuts: list[Any]
) -> None:
    async with PostgresStore.open(wire.url) as store:
        await given(store, an_account(ADA, balance=5))
        wire.cuts = cuts
        after = await store.change([HERS, ITS_KEY], debiting)
        assert wire.cuts == []
        assert (after.need(HERS).balance, after.need(ITS_KEY)) == (4, DEBIT)
        assert (await store.load([HERS])).need(HERS).balance == 4


async def test_a_connection_that_breaks_every_time_is_unavailable_and_works_again_afterwards(
    wire: Wire,
) -> None:
    async with PostgresStore.open(wire.url) as store:
        await given(store, an_account(ADA, balance=5))
        wire.cuts = ["before"] * LOST_TRIES
        with pytest.raises(StoreUnavailable):
            await store.change([HERS, ITS_KEY], debiting)
        assert wire.cuts == []
        assert (await store.load([HERS])).need(HERS).balance == 5
        assert (await store.change([HERS, ITS_KEY], debiting)).need(HERS).balance == 4


async def test_connections_that_broke_while_nobody_used_them_are_not_noticed(
    store: PostgresStore, postgres_server: PostgresServer
) -> None:
    await asyncio.gather(*(given(store, a_job(number)) for number in range(20)))
    for number in (21, 22):
        postgres_server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mediaforge'"
        )
        assert (await store.count(JobFilter())).jobs == number - 1
        await given(store, a_job(number))


async def test_connections_that_hang_are_not_waited_for_when_another_broke(wire: Wire) -> None:
    async with PostgresStore.open(wire.url) as store:
        await given(store, an_account(ADA, balance=5))
        async with store._connection(), store._connection(), store._connection():
            pass
        wire.cuts, wire.a_cut_deafens = ["before"], True
        async with asyncio.timeout(10):
            after = await store.change([HERS, ITS_KEY], debiting)
        assert after.need(HERS).balance == 4


async def test_a_server_that_is_gone_is_unavailable_and_the_store_works_when_it_is_back(
    url: str, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "CONNECTION_TIMEOUT_SECONDS", 0.3)
    async with PostgresStore.open(url) as store:
        await given(store, an_account(ADA, balance=5))
        async with store.watch(Interest(user_id=ADA)) as changes:
            await asyncio.to_thread(postgres_server.stop)
            try:
                for asking in (store.load([HERS]), store.change([HERS, ITS_KEY], debiting), store.check()):
                    with pytest.raises(StoreUnavailable):
                        await asking
                with pytest.raises(StoreUnavailable):
                    async with PostgresStore.open(url):
                        pass
            finally:
                await asyncio.to_thread(postgres_server.start)
            assert (await store.change([HERS, ITS_KEY], debiting)).need(HERS).balance == 4
            await given(store, a_job(1))
            async with asyncio.timeout(5):
                assert await anext(changes) == a_job(1)


async def test_a_store_that_was_closed_refuses_instead_of_waiting_for_ever(url: str) -> None:
    async with PostgresStore.open(url) as store:
        await given(store, a_job(1))
    with pytest.raises(StoreUnavailable):
        await given(store, a_job(2))
    with pytest.raises(StoreUnavailable):
        await store.due(NOON, limit=1)


# --- a pooler that shares sessions


async def test_nothing_that_a_session_would_have_to_remember_is_ever_said(wire: Wire) -> None:
    async with PostgresStore.open(wire.url) as store:
        await given(store, an_account(ADA, balance=5), a_job(1))
        async with store.watch(Interest(user_id=ADA)) as changes:
            await store.change([job_key(a_job(1).id)], lambda _: [Put(a_job(1, progress=5))])
            await anext(changes)
        for _ in range(10):  # psycopg prepares what it sees five times
            await store.change([HERS], lambda r: [Put(replace(r.need(HERS), balance=1))])
            await store.jobs(JobFilter(user_id=ADA), limit=5)
            await store.load([HERS])
        with pytest.raises(ZeroDivisionError):
            await store.change([HERS], lambda _: [Create(a_job(1 // 0))])
        await store.change([job_key(a_job(1).id)], lambda _: [Delete(job_key(a_job(1).id))])
        await store.check()

    asked = wire.statements()
    assert len(asked) > 50
    remembered = re.compile(r"(^|; *)(SET (?!LOCAL )|PREPARE|LISTEN|DECLARE|SELECT pg_advisory_lock)")
    assert [statement for statement in asked if remembered.search(statement)] == []


async def test_a_change_takes_two_messages(wire: Wire) -> None:
    async with PostgresStore.open(wire.url) as store:
        await given(store, an_account(ADA, balance=5))
        before = Counter(wire.statements())
        await store.change([HERS, ITS_KEY], debiting)
        begun, ended = (Counter(wire.statements()) - before).elements()
    assert begun.startswith("BEGIN")
    assert begun.count("FOR UPDATE") == 2
    assert ended.endswith("COMMIT")


# --- others who hold what we want


async def test_records_that_somebody_holds_for_too_long_are_a_conflict(
    store: PostgresStore, somebody: psycopg.AsyncConnection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    await given(store, an_account(ADA, balance=5))
    monkeypatch.setattr(postgres, "_BEGIN", postgres._BEGIN.replace("'5s'", "'50ms'"))
    await somebody.execute("SELECT 1 FROM accounts FOR UPDATE")
    with pytest.raises(Conflict):
        await store.change([HERS, ITS_KEY], debiting)
    await somebody.rollback()
    assert (await store.change([HERS, ITS_KEY], debiting)).need(HERS).balance == 4


async def test_changes_that_name_the_same_records_in_other_orders_wait_for_each_other(
    store: PostgresStore,
) -> None:
    await given(store, an_account(ADA, balance=100), an_account(BOB, balance=100), a_job(1))
    keys: list[AnyKey] = [HERS, job_key(a_job(1).id), HIS]
    decided = 0

    def decide(records: Records) -> Sequence[Write]:
        nonlocal decided
        decided += 1
        return [
            Put(replace(records.need(HIS), balance=records.need(HIS).balance + 1)),
            Put(replace(records.need(HERS), balance=records.need(HERS).balance - 1)),
        ]

    await asyncio.gather(*(store.change(keys[:: 1 if n % 2 else -1], decide) for n in range(60)))
    hers, his = map((await store.load([HERS, HIS])).need, (HERS, HIS))
    assert (hers.balance, his.balance, decided) == (40, 160, 60)


async def test_what_was_made_by_whom_we_waited_for_is_seen_together_with_the_rest(
    store: PostgresStore, url: str, somebody: psycopg.AsyncConnection[Any]
) -> None:
    """The account is looked for first and missing; the job, which its maker holds, is read only after."""
    await given(store, a_job(1))
    await somebody.execute("SELECT 1 FROM jobs FOR UPDATE")
    seen: list[Records] = []

    def decide(records: Records) -> Sequence[Write]:
        seen.append(records)
        return []

    changing = asyncio.create_task(store.change([HERS, job_key(a_job(1).id)], decide))
    await locks_waited_for(url, 1)
    body = msgspec.json.encode(an_account(ADA, balance=7)).decode()
    await somebody.execute("INSERT INTO accounts VALUES (%s, %s)", (ADA, body))
    await somebody.commit()

    assert dict(await changing) == {HERS: an_account(ADA, balance=7), job_key(a_job(1).id): a_job(1)}
    assert len(seen) == 1


async def test_what_collides_because_something_seen_as_missing_was_made_is_decided_again(
    store: PostgresStore, url: str, somebody: psycopg.AsyncConnection[Any]
) -> None:
    """An account is opened together with an entry that nobody looks for."""

    def opening(records: Records) -> Sequence[Write]:
        return [] if records.find(HERS) is not None else [Create(an_account(ADA)), Create(DEBIT)]

    await given(store, DEBIT)
    with pytest.raises(Conflict, match="debit exists"):
        await store.change([HERS], opening)

    body = msgspec.json.encode(an_account(ADA)).decode()
    await somebody.execute("INSERT INTO accounts VALUES (%s, %s)", (ADA, body))
    changing = asyncio.create_task(store.change([HERS], opening))
    await locks_waited_for(url, 1)
    await somebody.commit()
    assert (await changing).need(HERS) == an_account(ADA)


async def test_a_change_that_is_given_up_lets_its_records_go(
    store: PostgresStore, url: str, somebody: psycopg.AsyncConnection[Any]
) -> None:
    await given(store, an_account(ADA, balance=5))
    await somebody.execute("SELECT 1 FROM accounts FOR UPDATE")
    changing = [asyncio.create_task(store.change([HERS, ITS_KEY], debiting)) for _ in range(5)]
    await locks_waited_for(url, 1)
    for task in changing:
        task.cancel()
    await asyncio.gather(*changing, return_exceptions=True)
    await somebody.execute("UPDATE accounts SET body = body")
    await somebody.commit()
    assert (await store.change([HERS, ITS_KEY], debiting)).need(HERS).balance == 4


async def test_many_who_wait_for_one_account_leave_connections_for_the_others(
    store: PostgresStore, url: str, somebody: psycopg.AsyncConnection[Any]
) -> None:
    await given(store, an_account(ADA, balance=50), an_account(BOB))
    await somebody.execute("SELECT 1 FROM accounts WHERE id = 'ada' FOR UPDATE")
    many = range(postgres.MAX_CONNECTIONS * 2)
    waiting = [asyncio.create_task(store.change([HERS, ITS_KEY], debiting)) for _ in many]
    await locks_waited_for(url, 1)
    await store.change([HIS], lambda records: [Put(replace(records.need(HIS), balance=7))])
    assert (await store.load([HIS])).need(HIS).balance == 7
    await somebody.commit()
    await asyncio.gather(*waiting)
    assert (await store.load([HERS])).need(HERS).balance == 49, "all of them were one and the same debit"


# --- watching


async def write_behind(somebody: psycopg.AsyncConnection[Any], job: Job) -> None:
    await somebody.execute(
        "UPDATE jobs SET changed = pg_current_xact_id()::text::bigint, body = %s WHERE id = %s",
        (msgspec.json.encode(job).decode(), job.id),
    )


async def test_a_change_that_is_committed_after_a_later_one_arrives_and_the_later_one_only_once(
    store: PostgresStore, somebody: psycopg.AsyncConnection[Any]
) -> None:
    await given(store, *(a_job(number) for number in range(1, 9)))
    seen: list[Job] = []
    async with store.watch(Interest(user_id=ADA)) as changes, asyncio.timeout(10):
        await write_behind(somebody, a_job(1, progress=10))
        for number in range(2, 6):
            await store.change([job_key(a_job(number).id)], lambda _, n=number: [Put(a_job(n, progress=n))])  # type: ignore[misc]
            seen.append(await anext(changes))
        await somebody.commit()
        seen.append(await anext(changes))
    assert seen == [*(a_job(number, progress=number) for number in range(2, 6)), a_job(1, progress=10)]


async def test_a_database_that_was_restored_from_another_is_watched_all_the_same(
    store: PostgresStore, postgres_server: PostgresServer
) -> None:
    """Its rows hold the transactions of the server that they come from, far ahead of this one's."""
    await given(store, a_job(1), a_job(2))
    postgres_server.execute("UPDATE jobs SET changed = 10 ^ 15", database="mediaforge")
    async with store.watch(Interest(user_id=ADA)) as changes, asyncio.timeout(5):
        for progress in (10, 20):
            await store.change([job_key(a_job(1).id)], lambda _, p=progress: [Put(a_job(1, progress=p))])  # type: ignore[misc]
            assert await anext(changes) == a_job(1, progress=progress)


# --- what cannot be opened, or only be read


async def test_a_database_that_only_reads_is_not_ready(postgres_server: PostgresServer) -> None:
    url = postgres_server.new_database("readonly")
    async with PostgresStore.open(url) as store:
        await given(store, a_job(1))
        postgres_server.execute("ALTER DATABASE readonly SET default_transaction_read_only = on")
        postgres_server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'readonly'"
        )
        assert await find(store, job_key(a_job(1).id)) == a_job(1)
        with pytest.raises(StoreUnavailable, match="read-only"):
            await store.check()


async def test_a_name_that_postgresql_cannot_hold_is_nobodys(store: PostgresStore) -> None:
    key = job_key(JobId("job_\0"))
    await given(store, an_account(ADA))
    assert dict(await store.load([HERS, key])) == {HERS: an_account(ADA), key: None}
    assert dict(await store.change([key, HERS], lambda _: [])) == {HERS: an_account(ADA), key: None}


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://ada:hunter2@127.0.0.1:1/mediaforge",
        "postgresql://ada:hunter2@127.0.0.1:port/mediaforge",
        "postgresql://ada:hunter2@[127.0.0.1/mediaforge",
        "postgresql://ada:hunter2@/mediaforge?nonsense=hunter2",
        "postgresql://ada:hunter2@/mediaforge?host=/nowhere",
        "postgresql://ada:hunter2%zz@127.0.0.1/mediaforge",
        "postgresql://ada:pa@hunter2@127.0.0.1/mediaforge",
        "postgresql://ada:hunter2/word@127.0.0.1/mediaforge",
    ],
)
async def test_an_address_that_does_not_open_is_refused_in_one_line_without_the_password(
    address: str,
) -> None:
    with pytest.raises(StoreUnavailable) as refused:
        async with PostgresStore.open(address):
            pass
    assert "hunter2" not in refused.value.message
    assert "\n" not in refused.value.message
