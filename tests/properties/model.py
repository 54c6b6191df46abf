"""An account kept by hand of what users asked for and were told, and what must follow from it.

Nothing here computes what a job should be from a job: prices, shares and deadlines are written down again,
and what the provider did is taken from the provider. What the store says is held against that.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from shared.domain.ids import AccountId, EntryId, JobId, UserId, erasure_id
from shared.domain.job import Job
from shared.domain.ledger import Entry, Reason
from shared.ports.store import Balance, JobFilter, Store
from tests.properties.faults import SIGNUP_TOKENS, Provider, Says, Start, Universe

PRICES: Final = {"sketch": 1, "studio": 3, "film": 10, "cinema": 20}
"""Per image, or per film of the one length on sale."""
DEADLINES: Final = {
    "image": timedelta(minutes=10),
    "video": timedelta(hours=1),
    "erasure": timedelta(days=30),
}
FINISHED: Final = ("draft", "published", "ready", "partial", "failed", "cancelled")
SKEW: Final = timedelta(seconds=3)
"""How far the clocks of processes are apart."""


@dataclass(frozen=True)
class Snapshot:
    """What the store's queries say at one instant."""

    now: datetime
    jobs: dict[JobId, Job]
    entries: Sequence[Entry]
    balances: Sequence[Balance]
    feed: Sequence[JobId]
    lists: dict[UserId, set[JobId]]
    """What each user sees."""
    objects: dict[str, bytes]

    def entries_of(self, job: JobId, reason: Reason) -> list[Entry]:
        return [entry for entry in self.entries if entry.job_id == job and entry.reason is reason]


async def look(universe: Universe, users: Iterable[UserId]) -> Snapshot:
    store: Store = universe.store
    balances = (await store.balances(limit=1000)).data
    entries: list[Entry] = []
    for balance in balances:
        entries += (await store.entries(balance.account_id, limit=10_000)).data
    return Snapshot(
        now=universe.clock.now(),
        jobs={job.id: job for job in (await store.jobs(JobFilter(), limit=1000)).data},
        entries=entries,
        balances=balances,
        feed=[job.id for job in (await store.feed(limit=1000)).data],
        lists={
            user: {job.id for job in (await store.jobs(JobFilter(user_id=user), limit=1000)).data}
            for user in users
        },
        objects=universe.media.objects,
    )


@dataclass(eq=False)
class Wish:
    """One submit, as its sender knows it."""

    number: int
    user: UserId
    account: AccountId
    kind: str
    model: str
    count: int
    key: str | None
    body: str
    job: JobId | None = None
    denied: bool = False
    """The sender was told that nothing was taken."""

    @property
    def cost(self) -> int:
        return PRICES[self.model] * self.count

    @property
    def request_id(self) -> str:
        return f"wish-{self.number}"


@dataclass(eq=False)
class Gift:
    """One grant, as its sender knows it; with a key it may be sent again."""

    number: int
    account: AccountId
    tokens: int
    key: str | None
    denied: bool = False
    """The sender was told that nothing was given, and never asked again."""

    @property
    def note(self) -> str:
        return f"gift-{self.number}"


@dataclass(eq=False)
class Sold:
    """One job, as its owner knows it."""

    wish: Wish
    bought_at: datetime
    cancel_asked: bool = False
    cancelled: bool = False
    """The owner was told so."""
    cancel_noted: bool = False
    """The owner was told that it is asked for."""
    delete_asked: bool = False
    deleted: bool = False
    publish_asked: bool = False
    was_worked_on: bool = False
    was_stopped: bool = False
    """A process that worked on it got into trouble or was stopped."""
    may_have_left: bool = False
    """One of these processes may have left media behind that nobody knows of."""
    end: tuple[str, int, tuple[str, ...]] | None = None
    """How it ended when that was first seen: status, refund, media. It stays so."""
    over_at: int | None = None
    """The provider's moment from which on no worker may come to buy it: it ended, or a cancel was noted."""


@dataclass
class Books:
    wishes: list[Wish] = field(default_factory=list)
    gifts: list[Gift] = field(default_factory=list)
    sold: dict[JobId, Sold] = field(default_factory=dict)
    keyed: dict[tuple[AccountId, str], Wish] = field(default_factory=dict)
    entries: dict[tuple[AccountId, EntryId], Entry] = field(default_factory=dict)
    media_was_down: bool = False

    def catch_up(self, seen: Snapshot) -> None:
        """Find what came of wishes whose senders were not told."""
        wishes = {wish.request_id: wish for wish in self.wishes}
        for job in seen.jobs.values():
            if job.id in self.sold or job.kind == "erasure":
                continue
            assert job.request_id in wishes, f"nobody asked for {job}"
            wish = wishes[job.request_id]
            assert wish.job is None, f"{wish} was sold twice"
            assert not wish.denied, f"{wish} was denied and sold"
            wish.job = job.id
            self.sold[job.id] = Sold(wish, bought_at=job.created_at)
            if wish.key is not None:
                assert (wish.account, wish.key) not in self.keyed, f"the key of {wish} was sold twice"
                self.keyed[wish.account, wish.key] = wish

    def gift(self, account: AccountId, tokens: int, key: str | None) -> Gift:
        """A new gift, or the one that was sent with this key before."""
        for gift in self.gifts:
            if key is not None and (gift.account, gift.tokens, gift.key) == (account, tokens, key):
                return gift
        self.gifts.append(Gift(len(self.gifts), account, tokens, key))
        return self.gifts[-1]

    def owned_by(self, user: UserId) -> list[JobId]:
        return [job for job, sold in self.sold.items() if sold.wish.user == user]


def check(books: Books, seen: Snapshot, provider: Provider) -> None:
    """Everything that is true at any time."""
    books.catch_up(seen)
    _check_ledger(books, seen)
    _check_conservation(books, seen)
    for job_id, sold in books.sold.items():
        _check_money_of(job_id, sold, seen)
        _check_starts(sold, provider.of(job_id))
        job = seen.jobs.get(job_id)
        if job is None:
            assert sold.delete_asked, f"{job_id} has vanished"
            continue
        _check_orphan(job)
        if job.status in FINISHED:
            sold.over_at = sold.over_at or provider.tick()
            _check_end(books, job, sold, seen, provider.of(job_id))
        else:
            assert sold.end is None, f"{job_id} had ended and is {job.status} again"
        assert job.deleted_at is not None or not sold.deleted, f"{job_id} is back"
    _check_erasures(books, seen)
    published = {job.id for job in seen.jobs.values() if job.status == "published" and job.deleted_at is None}
    assert set(seen.feed) == published, "the feed is not what is published"
    for user, listed in seen.lists.items():
        theirs = {
            job for job in books.owned_by(user) if job in seen.jobs and seen.jobs[job].deleted_at is None
        }
        assert listed == theirs, f"{user} sees {listed ^ theirs}"


def _check_ledger(books: Books, seen: Snapshot) -> None:
    """Promise 1."""
    totals: Counter[AccountId] = Counter()
    for entry in seen.entries:
        totals[entry.account_id] += entry.tokens
    for account in seen.balances:
        assert account.balance == totals[account.account_id] == account.entries_total, account
        assert account.balance >= 0, account
    standing = {(entry.account_id, entry.id): entry for entry in seen.entries}
    assert len(standing) == len(seen.entries)
    for place, entry in books.entries.items():
        assert standing.get(place) == entry, f"{entry} was changed or removed"
    books.entries = dict(standing)


def _check_conservation(books: Books, seen: Snapshot) -> None:
    """No token is made or lost: what is not in an account is held or charged."""
    gifts = {gift.note: gift for gift in books.gifts}
    given: Counter[str] = Counter()
    for entry in seen.entries:
        if entry.reason is Reason.GRANT:
            gift = gifts.get(entry.note or "")
            assert gift is not None, f"nobody gave {entry}"
            assert (gift.account, gift.tokens) == (entry.account_id, entry.tokens)
            assert not gift.denied, f"{gift} was denied and given"
            given[gift.note] += 1
    assert all(count == 1 for count in given.values()), f"given twice: {given}"
    users = [account for account in seen.balances if not account.account_id.startswith("team")]
    income = SIGNUP_TOKENS * len(users) + sum(gifts[note].tokens for note in given)
    kept = sum(sold.wish.cost - _given_back(sold, seen.jobs.get(job)) for job, sold in books.sold.items())
    assert sum(account.balance for account in seen.balances) + kept == income, "tokens were made or lost"


def _given_back(sold: Sold, job: Job | None) -> int:
    if job is not None:
        return job.refunded
    assert sold.end is not None
    return sold.end[1]


def _check_money_of(job_id: JobId, sold: Sold, seen: Snapshot) -> None:
    """Promises 2 and 3, by the entries that name the job."""
    debits = seen.entries_of(job_id, Reason.DEBIT)
    refunds = seen.entries_of(job_id, Reason.REFUND)
    assert [entry.tokens for entry in debits] == [-sold.wish.cost], f"{job_id} has the debits {debits}"
    assert len(refunds) <= 1, f"{job_id} has the refunds {refunds}"
    assert all(entry.account_id == sold.wish.account for entry in debits + refunds)
    back = sum(entry.tokens for entry in refunds)
    job = seen.jobs.get(job_id)
    if job is not None:
        assert (job.cost, job.refunded) == (sold.wish.cost, back), f"{job} against {refunds}"
        assert job.status in FINISHED or back == 0, f"{job_id} is refunded and not finished"
    if sold.end is not None:
        assert sold.end[1] == back, f"{job_id} ended with {sold.end} and has the refunds {refunds}"


def _check_orphan(job: Job) -> None:
    """Promise 4."""
    if job.status in FINISHED:
        assert job.wake_at is None, f"{job.id} is {job.status} and will be looked at"
        assert job.lease is None
    else:
        assert job.wake_at is not None, f"nobody will look at {job.id}"
        assert job.wake_at <= job.deadline_at, f"{job.id} will be looked at too late"


def _check_starts(sold: Sold, starts: Sequence[Start]) -> None:
    late = [start for start in starts if sold.over_at is not None and start.caller_began > sold.over_at]
    assert not late, f"{sold} was over and was bought: {late}"


def _check_end(books: Books, job: Job, sold: Sold, seen: Snapshot, starts: Sequence[Start]) -> None:
    media = tuple(item.key for item in job.media)
    status = "draft" if job.status == "published" else str(job.status)
    assert job.status != "published" or sold.publish_asked
    if job.deleted_at is None:
        shown = [*job.media, *([job.thumbnail] if job.thumbnail else [])]
        assert all(item.key in seen.objects for item in shown), f"{job.id} shows what is not stored"
    if sold.end is None:
        sold.end = (status, job.refunded, media)
        _check_verdict(books, job, sold, seen, starts)
    assert sold.end == (status, job.refunded, media), f"{job.id} ended as {sold.end} and is now {job}"
    assert not sold.cancelled or status == "cancelled", f"{job.id} was cancelled and is {status}"
    assert not sold.cancel_noted or status != "failed", f"{job.id} was to be cancelled and failed"


def _check_verdict(books: Books, job: Job, sold: Sold, seen: Snapshot, starts: Sequence[Start]) -> None:
    """That it ended as the provider and the user would have it, and was billed as published."""
    if job.status in ("failed", "cancelled"):
        assert job.refunded == sold.wish.cost, f"{job} is not refunded"
        assert job.media == ()
    if job.status == "cancelled":
        assert sold.cancel_asked, f"nobody cancelled {job.id}"
    elif job.status == "failed":
        assert job.error is not None
        assert job.error.code in set(_reasons(books, sold, seen.now, starts)), f"{starts} made {job}"
    else:
        _check_delivery(job, sold, seen, starts)


def _check_delivery(job: Job, sold: Sold, seen: Snapshot, starts: Sequence[Start]) -> None:
    assert job.status == "draft"
    for item in job.media:
        assert item.sha256 == hashlib.sha256(seen.objects[item.key]).hexdigest()
    contents = [seen.objects[item.key].rsplit(b"|", 3)[1:] for item in job.media]
    assert {JobId(content[0].decode()) for content in contents} == {job.id}, "it shows another job's media"
    [number] = {int(content[1]) for content in contents}
    assert len({content[2] for content in contents}) == len(contents), "it shows one artifact twice"
    [start] = [start for start in starts if start.number == number]
    assert len(contents) == start.usable, f"{start.usable} were made, {len(contents)} delivered"
    share = sold.wish.cost * len(contents) // sold.wish.count
    assert job.cost - job.refunded == share, f"{share} should have been billed for {job}"
    assert job.thumbnail is not None


def _reasons(books: Books, sold: Sold, now: datetime, starts: Sequence[Start]) -> Iterable[str]:
    """Every error code that something which happened to the job can explain."""
    said = {says for start in starts for says in start.said}
    if said & {Says.REJECTED}:
        yield "content_rejected"
    if said & {Says.REFUSED}:
        yield "invalid_request"
    if said & {Says.RETIRED}:
        yield "model_retired"
    if said & {Says.UNKNOWN, Says.TIMES_OUT} or sold.was_stopped or books.media_was_down:
        yield "outcome_unknown"
    if said & {Says.DOWN, Says.FAILED, Says.FAILED_RETRYABLY, Says.JUNK} or sold.was_stopped:
        yield "provider_failed"
    if sold.was_stopped or books.media_was_down:
        yield "storage_failed"
    if sold.was_stopped:
        yield "attempts_exhausted"
    if now + SKEW >= sold.bought_at + DEADLINES[sold.wish.kind]:
        yield "timed_out"


def _check_erasures(books: Books, seen: Snapshot) -> None:
    wanted = {erasure_id(job) for job, sold in books.sold.items() if sold.delete_asked}
    for job in seen.jobs.values():
        if job.kind == "erasure":
            assert job.id in wanted, f"nobody asked for {job}"
            assert (job.cost, job.refunded) == (0, 0)
            _check_orphan(job)


def check_swept(seen: Snapshot, began_at: datetime) -> None:
    """Promise 4, after a sweep that nothing hindered."""
    for job in seen.jobs.values():
        late = job.status not in FINISHED and job.created_at + DEADLINES[job.kind] <= began_at
        assert not late, f"{job} is unfinished past its deadline and a sweep"


def check_erased(books: Books, seen: Snapshot) -> None:
    """At the end nothing is left of what was deleted but its entries."""
    for job_id, sold in books.sold.items():
        if not sold.deleted:
            continue
        assert job_id not in seen.jobs, f"{job_id} was not erased"
        left = [key for key in seen.objects if key.startswith(f"{job_id}/")]
        assert not left or sold.may_have_left, f"{left} were not erased"
