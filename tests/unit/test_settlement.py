"""A job and its money end together, whatever the ending."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.changes import Create, Put, Write
from shared.domain.errors import BrokenInvariant
from shared.domain.ids import ClaimToken
from shared.domain.job import FINISHED, Job, JobError, Lease, Status
from shared.domain.ledger import Account, Entry, Reason
from shared.domain.outcomes import BILLING, Billed, End, Ending, cancelled, failed
from shared.domain.settlement import settled
from tests.support import ADA, BOB, NOON, a_job, an_account

BROKE = JobError(code="provider_failed", message="it broke")


def a_held_job(cost: int = 4) -> Job:
    lease = Lease(token=ClaimToken("a" * 32), until=NOON)
    return a_job(1, status=Status.PROCESSING, cost=cost, lease=lease)


def parts(writes: list[Write]) -> tuple[Job, list[Entry], list[Account]]:
    records = [write.record for write in writes if isinstance(write, Put | Create)]
    [job] = [record for record in records if isinstance(record, Job)]
    return (
        job,
        [record for record in records if isinstance(record, Entry)],
        [record for record in records if isinstance(record, Account)],
    )


endings = st.sampled_from(list(Ending))
STATUS = {
    Ending.DELIVERED: Status.DRAFT,
    Ending.PARTLY_DELIVERED: Status.DRAFT,
    Ending.DELIVERED_AFTER_CANCEL: Status.DRAFT,
    Ending.FAILED: Status.FAILED,
    Ending.CANCELLED: Status.CANCELLED,
}


@given(endings, st.integers(0, 10**6), st.integers(1, 100), st.integers(1, 100), st.integers(0, 10**6))
def test_what_is_not_billed_is_refunded_to_the_token(
    ending: Ending, cost: int, one: int, other: int, balance: int
) -> None:
    end = End(ending=ending, status=STATUS[ending], delivered=min(one, other), requested=max(one, other))
    account = an_account(balance=balance)

    job, entries, accounts = parts(settled(a_held_job(cost), account, end, now=NOON))

    refund = sum(entry.tokens for entry in entries)
    assert job.refunded == refund
    assert 0 <= refund <= cost
    assert sum(a.balance for a in accounts) == (balance + refund if refund else 0)
    if BILLING[ending].billed is Billed.COST:
        assert refund == 0
    if BILLING[ending].billed is Billed.NOTHING:
        assert refund == cost
    if BILLING[ending].billed is Billed.SHARE:
        assert (cost - refund) * end.requested <= cost * end.delivered < (cost - refund + 1) * end.requested


def test_a_refund_is_one_entry_named_for_the_job() -> None:
    writes = settled(a_held_job(), an_account(balance=5), failed(a_held_job(), BROKE), now=NOON)
    job, entries, accounts = parts(writes)
    assert (job.status, job.error, job.refunded, job.finished_at) == (Status.FAILED, BROKE, 4, NOON)
    assert entries == [
        Entry(
            id=entries[0].id,
            account_id=accounts[0].id,
            tokens=4,
            reason=Reason.REFUND,
            created_at=NOON,
            job_id=job.id,
        )
    ]
    assert entries[0].id == f"{job.id}:settle"
    assert [account.balance for account in accounts] == [9]
    assert [type(write) for write in writes] == [Put, Create, Put]


def test_a_full_charge_writes_only_the_job() -> None:
    end = End(ending=Ending.DELIVERED, status=Status.DRAFT, delivered=1)
    writes = settled(a_held_job(), None, end, now=NOON)
    assert [type(write) for write in writes] == [Put]
    assert settled(a_held_job(), an_account(), end, now=NOON) == writes


def test_a_job_that_cost_nothing_ends_without_an_account() -> None:
    writes = settled(a_held_job(cost=0), None, cancelled(), now=NOON)
    assert [type(write) for write in writes] == [Put]


@pytest.mark.parametrize("status", sorted(FINISHED))
def test_what_has_ended_is_not_settled_again(status: Status) -> None:
    ended = replace(a_held_job(), status=status, wake_at=None, lease=None, finished_at=NOON)
    assert settled(ended, an_account(), cancelled(), now=NOON) == []


@pytest.mark.parametrize("account", [None, an_account(BOB)])
def test_a_refund_without_the_jobs_own_account_is_refused(account: Account | None) -> None:
    with pytest.raises(BrokenInvariant, match=ADA):
        settled(a_held_job(), account, cancelled(), now=NOON)
