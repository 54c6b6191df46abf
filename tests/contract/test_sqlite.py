"""What SQLite adds to the store's contract: a file that outlives the process, and what can befall it."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from shared.adapters.sql import writer
from shared.adapters.sql.sqlite import SqliteStore, back_up
from shared.domain.changes import (
    Create,
    Decide,
    Delete,
    Put,
    Records,
    Write,
    account_key,
    job_key,
)
from shared.domain.errors import InsufficientTokens, NotFound, StoreUnavailable
from shared.domain.ids import AccountId, EntryId, JobId
from shared.domain.ledger import Entry, Reason, posted
from shared.ports.store import Interest, JobFilter
from tests.support import ADA, BOB, NOON, a_job, an_account, find, given, until

HERS, HIS = account_key(AccountId(ADA)), account_key(AccountId(BOB))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mediaforge.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore.open(path) as store:
        yield store


async def spend(store: SqliteStore, tokens: int, name: str) -> Records:
    entry = Entry(
        id=EntryId(name), account_id=AccountId(ADA), tokens=-tokens, reason=Reason.DEBIT, created_at=NOON
    )
    return await store.change([HERS], lambda records: [Put(posted(records.need(HERS), entry)), Create(entry)])


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def read(path: Path) -> bytes:
    return path.read_bytes()


def remove(path: Path) -> None:
    path.unlink()


class Held:
    """Keeps the writer busy with one decision, so that what is asked meanwhile goes into one batch."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._entered, self._released = threading.Event(), threading.Event()

    def _decide(self, _: Records) -> Sequence[Write]:
        self._entered.set()
        assert self._released.wait(10)
        return []

    async def __aenter__(self) -> None:
        self._change = asyncio.create_task(self._store.change([], self._decide))
        await until(self._entered.is_set)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0)  # what the body started gets into the writer's inbox
        self._released.set()
        await self._change


# --- the file


async def test_everything_is_there_when_the_file_is_opened_again(path: Path) -> None:
    async with SqliteStore.open(path) as store:
        await given(store, an_account(ADA), a_job(1), a_job(2))
        before = await store.load([HERS, job_key(a_job(1).id), job_key(a_job(2).id)])
    async with SqliteStore.open(path) as store:
        assert dict(await store.load(list(before))) == dict(before)
        assert len((await store.jobs(JobFilter(), limit=5)).data) == 2


async def test_what_was_answered_is_in_the_file_even_if_the_process_dies(
    store: SqliteStore, path: Path
) -> None:
    """Nobody closed anything: another connection sees it, and so would the next process."""
    await given(store, a_job(1))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT id FROM jobs").fetchall() == [(a_job(1).id,)]
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_several_stores_may_open_a_new_file_at_once(path: Path) -> None:
    async def use(number: int) -> None:
        async with SqliteStore.open(path) as store:
            await given(store, a_job(number))

    await asyncio.gather(*(use(number) for number in range(4)))
    async with SqliteStore.open(path) as store:
        assert (await store.count(JobFilter())).jobs == 4


@pytest.mark.parametrize("name", ["a/new/directory", "with space", "what?", "x#y", "50%20", "ö", "it's"])
async def test_a_directory_that_does_not_exist_is_made_whatever_its_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "store.db"
    async with SqliteStore.open(path) as store:
        await given(store, a_job(1))
    assert path.stat().st_size > 0
    async with SqliteStore.open(path) as store:
        assert await find(store, job_key(a_job(1).id)) == a_job(1)


async def test_a_relative_path_is_that_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with SqliteStore.open(Path("here.db")) as store:
        await given(store, a_job(1))
    assert (tmp_path / "here.db").stat().st_size > 0


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 4096])
async def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    write(path, content)
    with pytest.raises(StoreUnavailable, match=r"mediaforge\.db"):
        async with SqliteStore.open(path):
            pass
    assert read(path) == content


async def test_a_path_that_cannot_be_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "directory.db").mkdir()
    for path in (tmp_path / "file" / "store.db", tmp_path / "directory.db"):
        with pytest.raises(StoreUnavailable):
            async with SqliteStore.open(path):
                pass


async def test_a_file_removed_while_open_is_noticed_before_anything_is_lost(
    store: SqliteStore, path: Path
) -> None:
    await given(store, a_job(1))
    remove(path)
    with pytest.raises(StoreUnavailable):
        await given(store, a_job(2))
    with pytest.raises(StoreUnavailable):
        await store.check()


async def test_a_file_replaced_while_open_is_noticed_before_anything_is_lost(
    store: SqliteStore, path: Path, tmp_path: Path
) -> None:
    await given(store, a_job(1))
    copy = tmp_path / "copy.db"
    back_up(path, copy)
    copy.replace(path)
    with pytest.raises(StoreUnavailable, match="replaced"):
        await given(store, a_job(2))
    async with SqliteStore.open(path) as reopened:
        assert await find(reopened, job_key(a_job(1).id)) == a_job(1)


async def test_a_store_that_was_closed_refuses_to_change_instead_of_waiting_for_ever(path: Path) -> None:
    async with SqliteStore.open(path) as store:
        await given(store, a_job(1))
    with pytest.raises(StoreUnavailable):
        async with asyncio.timeout(5):
            await given(store, a_job(2))


async def test_closing_waits_for_what_was_already_asked(path: Path) -> None:
    async with SqliteStore.open(path) as store:
        tasks = [asyncio.create_task(given(store, a_job(number))) for number in range(50)]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    async with SqliteStore.open(path) as store:
        assert (await store.count(JobFilter())).jobs == 50


# --- backups


async def test_a_backup_taken_while_writes_go_on_is_of_one_instant(
    store: SqliteStore, path: Path, tmp_path: Path
) -> None:
    await given(store, an_account(ADA, balance=100_000), an_account(BOB, balance=0))

    def moving(number: int) -> Decide:
        return lambda records: [
            Put(replace(records.need(HERS), balance=records.need(HERS).balance - 1)),
            Put(replace(records.need(HIS), balance=records.need(HIS).balance + 1)),
            Create(a_job(number)),
        ]

    transferred, copies = 0, list[Path]()

    async def transfer() -> None:
        """Tokens only ever move from one account to the other, together with a new job."""
        nonlocal transferred
        while len(copies) < 4:
            await store.change([HERS, HIS], moving(transferred))
            transferred += 1

    async def save(number: int) -> Path:
        before, copy = transferred, tmp_path / f"copy{number}.db"
        await until(lambda: transferred > before)
        await asyncio.to_thread(back_up, path, copy)
        return copy

    transfers = asyncio.create_task(transfer())
    for number in range(4):
        copies.append(await save(number))
    await transfers

    moved = []
    for copy in copies:
        async with SqliteStore.open(copy) as saved:
            hers, his = map((await saved.load([HERS, HIS])).need, (HERS, HIS))
            moved.append(his.balance)
            assert (hers.balance + his.balance, (await saved.count(JobFilter())).jobs) == (
                100_000,
                his.balance,
            )
        with closing(sqlite3.connect(copy)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert moved == sorted(set(moved)), "each copy is of a later instant"


def test_a_backup_of_nothing_says_so_and_makes_no_store(path: Path, tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        back_up(path, tmp_path / "copy.db")
    assert not path.exists()


# --- a disk that does not take it


async def test_a_database_that_stays_locked_is_unavailable_and_works_again_afterwards(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "BUSY_TIMEOUT_SECONDS", 0.05)
    async with SqliteStore.open(path) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match="locked"):
                await given(store, a_job(1))
            with pytest.raises(StoreUnavailable):
                await store.check()
            assert await find(store, job_key(a_job(1).id)) is None
            other.execute("ROLLBACK")
        await given(store, a_job(1))
        await store.check()
        assert await find(store, job_key(a_job(1).id)) == a_job(1)


async def test_a_full_disk_is_unavailable_and_takes_nothing_that_was_there(store: SqliteStore) -> None:
    await given(store, an_account(ADA, balance=5), a_job(1))
    connection = store._writer._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")

    def decide(records: Records) -> Sequence[Write]:
        return [
            Put(replace(records.need(HERS), balance=4)),
            Create(a_job(2, metadata={"large": "x" * 50_000})),
        ]

    with pytest.raises(StoreUnavailable, match="full"):
        await store.change([HERS], decide)
    assert await find(store, HERS) == an_account(ADA, balance=5)
    assert await find(store, job_key(a_job(1).id)) == a_job(1)
    assert await find(store, job_key(a_job(2).id)) is None

    connection.execute(f"PRAGMA max_page_count = {pages + 1000}")
    assert (await store.change([HERS], decide)).need(HERS).balance == 4


# --- batches


async def test_a_decision_that_raises_in_the_middle_of_a_batch_takes_nothing_with_it(
    store: SqliteStore,
) -> None:
    await given(store, an_account(ADA, balance=10))
    async with Held(store):
        spending = [asyncio.create_task(spend(store, tokens, f"e{tokens}")) for tokens in (3, 20, 4)]
    ends = await asyncio.gather(*spending, return_exceptions=True)

    assert [type(end) for end in ends] == [Records, InsufficientTokens, Records]
    assert (await store.load([HERS])).need(HERS).balance == 3
    assert [e.id for e in (await store.entries(AccountId(ADA), limit=5)).data] == ["e4", "e3"]


async def test_decisions_of_one_batch_see_what_those_before_them_decided(store: SqliteStore) -> None:
    await given(store, an_account(ADA, balance=10))
    async with Held(store):
        spending = [asyncio.create_task(spend(store, 1, f"e{n}")) for n in range(5)]
    balances = [(await spent).need(HERS).balance for spent in spending]
    assert balances == [9, 8, 7, 6, 5]


async def test_a_record_made_and_removed_in_one_batch_leaves_nothing(store: SqliteStore) -> None:
    key = job_key(a_job(1).id)
    async with Held(store):
        making = asyncio.create_task(given(store, a_job(1)))
        removing = asyncio.create_task(store.change([key], lambda _: [Delete(key)]))
    await asyncio.gather(making, removing)
    assert await find(store, key) is None


async def test_nobody_is_told_what_followed_from_something_that_was_never_committed(
    store: SqliteStore, path: Path
) -> None:
    """The first spends everything and cannot be written; that nothing was left for the second is not true."""
    await given(store, an_account(ADA, balance=10))
    with closing(sqlite3.connect(path)) as other:
        other.execute(
            "CREATE TRIGGER broken BEFORE INSERT ON entries WHEN NEW.id = 'broken' "
            "BEGIN SELECT RAISE(ABORT, 'the disk is broken'); END"
        )
    async with Held(store):
        spending = [asyncio.create_task(spend(store, 10, name)) for name in ("broken", "fine")]
    ends = await asyncio.gather(*spending, return_exceptions=True)

    assert [type(end) for end in ends] == [StoreUnavailable, StoreUnavailable]
    assert (await store.load([HERS])).need(HERS).balance == 10
    assert (await spend(store, 10, "fine")).need(HERS).balance == 0


async def test_what_cannot_be_loaded_is_the_error_of_whoever_asked(store: SqliteStore, path: Path) -> None:
    await given(store, a_job(1), a_job(2))
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE jobs SET body = '{' WHERE id = ?", [a_job(1).id])
    keys = [job_key(a_job(number).id) for number in (1, 2)]
    async with Held(store):
        changing = [asyncio.create_task(store.change([key], lambda _: [])) for key in keys]
    ends = await asyncio.gather(*changing, return_exceptions=True)
    assert isinstance(ends[0], Exception)
    assert isinstance(ends[1], Records)


async def test_a_missing_record_is_not_found_by_name(store: SqliteStore) -> None:
    with pytest.raises(NotFound, match="job_x"):
        (await store.load([job_key(JobId("job_x"))])).need(job_key(JobId("job_x")))


async def test_a_job_that_only_a_newer_version_can_read_hides_no_other(tmp_path: Path) -> None:
    path, second = tmp_path / "mediaforge.db", job_key(a_job(2).id)
    async with SqliteStore.open(path) as store:
        await given(store, a_job(1), a_job(2))
        with sqlite3.connect(path) as newer:
            newer.execute(
                "UPDATE jobs SET body = json_set(body, '$.status', 'new') WHERE id = ?", (a_job(1).id,)
            )
        newer.close()

        due = await store.due(NOON + timedelta(hours=1), limit=10)
        listed = await store.jobs(JobFilter(user_id=ADA), limit=10)
        async with store.watch(Interest(user_id=ADA)) as changes:
            await store.change([second], lambda records: [Put(replace(records.need(second), progress=7))])
            told = await anext(changes)

    assert [job.id for job in due] == [job.id for job in listed.data] == [a_job(2).id]
    assert (told.id, told.progress) == (a_job(2).id, 7)


async def test_many_jobs_that_only_a_newer_version_can_read_keep_none_from_being_due(tmp_path: Path) -> None:
    path = tmp_path / "mediaforge.db"
    async with SqliteStore.open(path) as store:
        await given(store, *(a_job(number) for number in range(12)))
        with closing(sqlite3.connect(path)) as newer, newer:
            newer.execute(
                "UPDATE jobs SET body = json_set(body, '$.status', 'new') WHERE id < ?", (a_job(9).id,)
            )
        later = NOON + timedelta(hours=1)
        two = await store.due(later, limit=2)
        five = await store.due(later, limit=5)
    assert [job.id for job in two] == [a_job(9).id, a_job(10).id]
    assert [job.id for job in five] == [a_job(number).id for number in (9, 10, 11)]
