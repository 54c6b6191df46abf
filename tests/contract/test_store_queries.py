"""The store's contract: what its lists and sums show, and how they are walked."""

import base64
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Any, TypeVar

import pytest

from shared.domain.changes import Put, job_key
from shared.domain.errors import BadCursor
from shared.domain.ids import AccountId, EntryId, JobId, UserId
from shared.domain.job import UNFINISHED, Job, Kind, Status
from shared.domain.keys import ApiKey
from shared.domain.ledger import Entry, Reason
from shared.ports.store import Balance, JobFilter, Page, Store, Tally
from tests.support import ADA, BOB, NOON, a_job, an_account, given

T = TypeVar("T")
TEAM = AccountId("team")
SECOND = timedelta(seconds=1)


def standing(number: int, status: Status = Status.QUEUED, **fields: Any) -> Job:
    """A job as it stands in that status: unfinished ones will be looked at, finished ones are let go."""
    if status not in UNFINISHED:
        fields = {"wake_at": None, "finished_at": NOON} | fields
    return a_job(number, status=status, **fields)


def ids(jobs: Sequence[Job]) -> list[str]:
    return [job.id for job in jobs]


async def walk(part: Callable[[str | None], Awaitable[Page[T]]], *, limit: int) -> list[T]:
    """Everything a list shows, part by part; each part but the last must be full."""
    seen: list[T] = []
    after: str | None = None
    while True:
        page = await part(after)
        assert len(page.data) == limit if page.next is not None else len(page.data) <= limit
        seen += page.data
        after = page.next
        if after is None:
            return seen


# --- due, next_wake


async def test_due_are_the_jobs_whose_time_has_come_the_longest_due_first(store: Store) -> None:
    await given(
        store,
        a_job(1, wake_at=NOON - 1 * SECOND),
        a_job(2, wake_at=NOON),
        a_job(3, wake_at=NOON + timedelta(microseconds=1)),
        a_job(4, wake_at=NOON - 3 * SECOND, status=Status.PROCESSING),
        a_job(5, wake_at=NOON - 2 * SECOND, kind=Kind.ERASURE),
        a_job(6, wake_at=NOON - timedelta(microseconds=2_999_999), deleted_at=NOON),
    )
    assert ids(await store.due(NOON, limit=10)) == ids([a_job(n) for n in (4, 6, 5, 1, 2)])


async def test_due_gives_no_more_than_asked_for(store: Store) -> None:
    await given(store, *(a_job(n, wake_at=NOON - n * SECOND) for n in range(10)))
    assert ids(await store.due(NOON, limit=3)) == ids([a_job(n) for n in (9, 8, 7)])


async def test_a_finished_job_is_not_due_any_more(store: Store) -> None:
    await given(
        store, a_job(1), *(standing(2 + n, status) for n, status in enumerate(set(Status) - UNFINISHED))
    )
    assert ids(await store.due(NOON + timedelta(days=9), limit=10)) == [a_job(1).id]
    await store.change([job_key(a_job(1).id)], lambda _: [Put(standing(1, Status.FAILED))])
    assert await store.due(NOON + timedelta(days=9), limit=10) == []


async def test_a_job_that_was_pushed_is_due_later(store: Store) -> None:
    await given(store, a_job(1, wake_at=NOON), a_job(2, wake_at=NOON))
    await store.change([job_key(a_job(1).id)], lambda _: [Put(a_job(1, wake_at=NOON + SECOND))])
    assert ids(await store.due(NOON, limit=10)) == [a_job(2).id]
    assert ids(await store.due(NOON + SECOND, limit=10)) == [a_job(2).id, a_job(1).id]


async def test_due_gives_whole_jobs(store: Store) -> None:
    job = a_job(1, metadata={"a": ["ü"]}, fence=3)
    await given(store, job)
    assert list(await store.due(NOON + timedelta(days=1), limit=1)) == [job]


async def test_the_next_wake_is_the_earliest_of_all_unfinished_jobs(store: Store) -> None:
    assert await store.next_wake() is None
    await given(store, standing(1, Status.DRAFT))
    assert await store.next_wake() is None
    at = NOON + timedelta(microseconds=123_457)
    await given(store, a_job(2, wake_at=NOON + 9 * SECOND), a_job(3, wake_at=at))
    assert await store.next_wake() == at


# --- jobs, count

KINDS = (Kind.IMAGE, Kind.VIDEO, Kind.BRAND, Kind.BATCH, Kind.ERASURE)
POPULATION = [
    standing(
        number,
        status,
        kind=kind,
        user=user,
        account_id=account,
        cost=number,
        deleted_at=NOON if number % 5 == 0 else None,
    )
    for number, (status, kind, (user, account)) in enumerate(
        product(Status, KINDS, [(ADA, AccountId(ADA)), (ADA, TEAM), (BOB, TEAM)]), start=1
    )
]
FILTERS = [
    JobFilter(user_id=user, account_id=account, kinds=kinds, statuses=statuses)
    for user, account, kinds, statuses in product(
        (None, ADA, UserId("nobody")),
        (None, TEAM),
        (
            frozenset[str](),
            frozenset({Kind.IMAGE}),
            frozenset({Kind.VIDEO, Kind.ERASURE}),
            frozenset({"unheard"}),
        ),
        (
            frozenset[Status](),
            frozenset({Status.QUEUED}),
            frozenset({Status.PROCESSING, Status.FAILED}),
            frozenset({Status.DRAFT, Status.FAILED}),
            UNFINISHED,
            frozenset(Status),
        ),
    )
]


def fits(job: Job, wanted: JobFilter) -> bool:
    if wanted.user_id is not None and (
        job.user_id != wanted.user_id or job.deleted_at is not None or job.kind == Kind.ERASURE
    ):
        return False
    return (
        wanted.account_id in (None, job.account_id)
        and job.kind in (wanted.kinds or {job.kind})
        and job.status in (wanted.statuses or {job.status})
    )


def fitting(wanted: JobFilter) -> list[Job]:
    return [job for job in reversed(POPULATION) if fits(job, wanted)]


async def test_jobs_lists_newest_first_what_fits_every_field_of_the_filter(store: Store) -> None:
    await given(store, *POPULATION)
    for wanted in FILTERS:
        page = await store.jobs(wanted, limit=500)
        assert (ids(page.data), page.next) == (ids(fitting(wanted)), None), wanted
    assert sum(bool(fitting(wanted)) for wanted in FILTERS) > len(FILTERS) / 3


async def test_count_says_how_many_jobs_fit_and_what_they_cost(store: Store) -> None:
    assert await store.count(JobFilter()) == Tally(0, 0)
    await given(store, *POPULATION)
    for wanted in FILTERS:
        jobs = fitting(wanted)
        assert await store.count(wanted) == Tally(len(jobs), sum(job.cost for job in jobs)), wanted


@pytest.mark.parametrize("limit", [1, 2, 7, 1000])
async def test_cursors_of_jobs_walk_everything_exactly_once(store: Store, limit: int) -> None:
    await given(store, *POPULATION)
    for wanted in FILTERS[:: 5 if limit > 1 else 11]:
        seen = await walk(lambda after, w=wanted: store.jobs(w, limit=limit, after=after), limit=limit)  # type: ignore[misc]
        assert ids(seen) == ids(fitting(wanted)), wanted


async def test_a_page_that_holds_everything_says_that_nothing_follows(store: Store) -> None:
    await given(store, *(a_job(n) for n in range(4)))
    assert (await store.jobs(JobFilter(), limit=4)).next is None
    assert (await store.jobs(JobFilter(), limit=3)).next is not None


async def test_a_walk_is_not_shaken_by_jobs_that_come_and_go_meanwhile(store: Store) -> None:
    await given(store, *(a_job(n) for n in range(10, 20)))
    first = await store.jobs(JobFilter(user_id=ADA), limit=5)
    await given(store, a_job(30))
    last_seen = job_key(JobId(first.data[-1].id))
    await store.change([last_seen], lambda r: [Put(replace(r.need(last_seen), deleted_at=NOON))])

    rest = await store.jobs(JobFilter(user_id=ADA), limit=9, after=first.next)
    assert ids(rest.data) == ids([a_job(n) for n in range(14, 9, -1)])


async def test_a_deleted_or_internal_job_is_hidden_from_its_user_and_shown_to_the_operator(
    store: Store,
) -> None:
    await given(store, a_job(1), a_job(2, kind=Kind.ERASURE), standing(3, Status.DRAFT, deleted_at=NOON))
    for statuses in (frozenset[Status](), frozenset(Status)):
        seen = await store.jobs(JobFilter(user_id=ADA, statuses=statuses), limit=10)
        assert ids(seen.data) == [a_job(1).id]
    assert len((await store.jobs(JobFilter(), limit=10)).data) == 3


async def test_a_job_leaves_and_enters_lists_as_it_moves(store: Store) -> None:
    drafts = JobFilter(user_id=ADA, kinds=frozenset({Kind.IMAGE}), statuses=frozenset({Status.DRAFT}))
    await given(store, a_job(1))
    assert (await store.jobs(drafts, limit=5)).data == []
    await store.change([job_key(a_job(1).id)], lambda _: [Put(standing(1, Status.DRAFT))])
    assert ids((await store.jobs(drafts, limit=5)).data) == [a_job(1).id]
    await store.change([job_key(a_job(1).id)], lambda _: [Put(standing(1, Status.PUBLISHED))])
    assert (await store.jobs(drafts, limit=5)).data == []


# --- feed


def shown(number: int, seconds: int, **fields: Any) -> Job:
    return standing(number, Status.PUBLISHED, published_at=NOON + seconds * SECOND, **fields)


async def test_the_feed_shows_published_jobs_of_everybody_the_latest_published_first(store: Store) -> None:
    await given(
        store,
        shown(1, 5),
        shown(2, 9, user=BOB),
        shown(3, 5),
        standing(4, Status.DRAFT),
        a_job(5),
        shown(6, -5, kind=Kind.VIDEO),
    )
    assert ids((await store.feed(limit=10)).data) == ids([a_job(n) for n in (2, 3, 1, 6)])


async def test_what_is_unpublished_leaves_the_feed(store: Store) -> None:
    await given(store, shown(1, 1), shown(2, 2))
    await store.change([job_key(a_job(2).id)], lambda _: [Put(standing(2, Status.DRAFT))])
    assert ids((await store.feed(limit=10)).data) == [a_job(1).id]


@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_cursors_of_the_feed_walk_everything_exactly_once(store: Store, limit: int) -> None:
    jobs = [shown(n, n // 3) for n in range(12)]  # three at each instant
    await given(store, *jobs)
    seen = await walk(lambda after: store.feed(limit=limit, after=after), limit=limit)
    assert ids(seen) == ids(jobs[::-1])


# --- entries, balances


def a_line(number: int, *, account: str = ADA, seconds: int = 0, **fields: Any) -> Entry:
    return Entry(
        id=EntryId(f"entry_{number:03d}"),
        account_id=AccountId(account),
        tokens=number,
        reason=Reason.GRANT,
        created_at=NOON + seconds * SECOND,
        **fields,
    )


async def test_entries_are_one_accounts_newest_first(store: Store) -> None:
    await given(
        store, a_line(1, seconds=5), a_line(2, seconds=1), a_line(3, seconds=5), a_line(4, account=BOB)
    )
    page = await store.entries(AccountId(ADA), limit=10)
    assert list(page.data) == [a_line(3, seconds=5), a_line(1, seconds=5), a_line(2, seconds=1)]
    assert (await store.entries(AccountId("nobody"), limit=10)).data == []


@pytest.mark.parametrize("limit", [1, 4, 100])
async def test_cursors_of_entries_walk_everything_exactly_once(store: Store, limit: int) -> None:
    lines = [a_line(n, seconds=n // 3) for n in range(12)]
    await given(store, *lines, *(a_line(n, account=BOB) for n in range(3)))
    seen = await walk(lambda after: store.entries(AccountId(ADA), limit=limit, after=after), limit=limit)
    assert seen == lines[::-1]


async def test_entries_of_finds_every_entry_that_names_one_of_the_jobs(store: Store) -> None:
    lines = [a_line(n, job_id=JobId(f"job_{n // 2}")) for n in range(10)]
    await given(store, *lines, a_line(20), a_line(1, account=BOB, job_id=JobId("job_1")))
    found = await store.entries_of([JobId("job_0"), JobId("job_1"), JobId("job_missing")])
    expected = [*lines[:4], a_line(1, account=BOB, job_id=JobId("job_1"))]
    assert sorted(found, key=repr) == sorted(expected, key=repr)
    assert await store.entries_of([]) == []


async def test_entries_of_takes_five_hundred_jobs(store: Store) -> None:
    await given(store, *(a_line(n, job_id=JobId(f"job_{n}")) for n in range(400)))
    assert len(await store.entries_of([JobId(f"job_{n}") for n in range(500)])) == 400


async def test_balances_holds_each_account_against_the_sum_of_its_entries(store: Store) -> None:
    await given(
        store,
        an_account(ADA, balance=3),
        an_account(BOB, balance=7),
        an_account(UserId("idle"), balance=0),
        a_line(5),
        replace(a_line(6), tokens=-2),
        a_line(8, account=BOB),
        a_line(9, account="nobody"),
    )
    assert list((await store.balances(limit=10)).data) == [
        Balance(account_id=AccountId(ADA), balance=3, entries_total=3),
        Balance(account_id=AccountId(BOB), balance=7, entries_total=8),
        Balance(account_id=AccountId("idle"), balance=0, entries_total=0),
    ]


@pytest.mark.parametrize("limit", [1, 5, 100])
async def test_cursors_of_balances_walk_everything_exactly_once(store: Store, limit: int) -> None:
    users = sorted(["ada", "Bob", "a", "a.b", "a-b", "z@x", "0", "team_1", "team_10", "team_2"])
    await given(store, *(an_account(UserId(user)) for user in users))
    seen = await walk(lambda after: store.balances(limit=limit, after=after), limit=limit)
    assert [balance.account_id for balance in seen] == users


# --- cursors


def packed(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


NASTY = [
    "",
    " ",
    "=",
    "====",
    "A",
    "AAAAA",
    "null",
    "é",
    "🦊",
    "\x00",
    "\ud800",
    "QQ==\n",
    "a b",
    "-1",
    "%00",
    "../..",
    "' OR 1=1 --",
    "Q" * 513,
    packed("A" * 400),
    "9" * 10_000,
    "_w",
    packed("\n"),
    packed("\n\n"),
    packed("a\nb\nc"),
    packed("\x00"),
    packed("\u202e"),
    packed("job_1\x07"),
]
NOT_AN_INSTANT = [
    packed(f"{instant}\njob_1")
    for instant in ("", "x", "-1", "+1", "1.5", "1e9", " 1", "1_0", "٣", "9" * 19, "0x1", "nan", "1\r")
]
Walk = Callable[[Store, str], Awaitable[Page[Any]]]
BY_ID: dict[str, Walk] = {
    "jobs": lambda store, after: store.jobs(JobFilter(), limit=1, after=after),
    "jobs of a user": lambda store, after: store.jobs(JobFilter(user_id=ADA), limit=1, after=after),
    "jobs by status": lambda store, after: store.jobs(
        JobFilter(user_id=ADA, statuses=UNFINISHED), limit=1, after=after
    ),
    "balances": lambda store, after: store.balances(limit=1, after=after),
}
BY_TIME: dict[str, Walk] = {
    "feed": lambda store, after: store.feed(limit=1, after=after),
    "entries": lambda store, after: store.entries(AccountId(ADA), limit=1, after=after),
}


@pytest.mark.parametrize("walked", BY_ID | BY_TIME)
async def test_what_is_not_a_cursor_is_refused(store: Store, walked: str) -> None:
    for nasty in NASTY:
        with pytest.raises(BadCursor):
            await (BY_ID | BY_TIME)[walked](store, nasty)


@pytest.mark.parametrize("walked", BY_TIME)
async def test_a_cursor_without_an_instant_is_refused(store: Store, walked: str) -> None:
    for nasty in [*NOT_AN_INSTANT, packed("job_1")]:
        with pytest.raises(BadCursor):
            await BY_TIME[walked](store, nasty)


async def test_a_cursor_of_another_kind_of_list_is_refused(store: Store) -> None:
    await given(store, *(shown(n, n) for n in range(3)), *(an_account(UserId(f"u{n}")) for n in range(3)))
    by_id, by_time = (await store.jobs(JobFilter(), limit=1)).next, (await store.feed(limit=1)).next
    assert by_id is not None
    assert by_time is not None
    for walk_ in BY_TIME.values():
        with pytest.raises(BadCursor):
            await walk_(store, by_id)
    for walk_ in BY_ID.values():
        with pytest.raises(BadCursor):
            await walk_(store, by_time)


async def test_a_made_up_place_in_a_list_finds_nothing_worse_than_an_empty_page(store: Store) -> None:
    await given(store, a_job(1))
    assert (await store.jobs(JobFilter(), limit=5, after=packed("!"))).data == []
    assert ids((await store.jobs(JobFilter(), limit=5, after=packed("~'; --"))).data) == [a_job(1).id]


# --- API keys


async def test_api_keys_are_listed_newest_first_revoked_ones_too(store: Store) -> None:
    def key(digest: str, seconds: int, **fields: Any) -> ApiKey:
        at = NOON + seconds * SECOND
        return ApiKey(
            digest=digest, name=digest, user_id=ADA, scopes=frozenset({"user"}), created_at=at, **fields
        )

    keys = [key("b", 1), key("a", 2, revoked_at=NOON), key("c", 1)]
    assert await store.api_keys() == []
    await given(store, *keys)
    assert [k.digest for k in await store.api_keys()] == ["a", "c", "b"]
    assert (await store.api_keys())[0] == keys[1]


async def test_a_kind_of_a_newer_version_is_in_no_list_of_a_user_and_in_everybodys(store: Store) -> None:
    newer = standing(1, Status.DRAFT, kind="hologram")
    await given(store, newer)

    for wanted in (JobFilter(user_id=ADA), JobFilter(user_id=ADA, statuses=frozenset({Status.DRAFT}))):
        assert (await store.jobs(wanted, limit=10)).data == []
    assert ids((await store.jobs(JobFilter(), limit=10)).data) == [newer.id]
