"""The ledger alone: random postings and settlements, against balances kept by hand in a dict."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from shared.domain.changes import (
    AnyKey,
    Create,
    Put,
    Record,
    Records,
    Write,
    account_key,
    key_of,
    require_sound,
)
from shared.domain.errors import InsufficientTokens
from shared.domain.ids import AccountId, EntryId, JobId
from shared.domain.job import Job, JobError, Kind
from shared.domain.ledger import Entry, Reason, own_account, posted
from shared.domain.lifecycle import claimed
from shared.domain.outcomes import Done, End, cancelled, delivered, failed
from shared.domain.policy import Policy
from shared.domain.settlement import settled
from tests.properties.budgets import budget
from tests.support import ADA, BOB, NOON, a_job, an_account

BROKEN = JobError(code="provider_failed", message="it broke")


class LedgerHistory(RuleBasedStateMachine):
    """Entries are posted and jobs settled, some of them again and again; nobody else touches the records."""

    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.records: dict[AnyKey, Record] = {}
        self.balances: dict[AccountId, int] = {}
        self.bills: dict[JobId, int | None] = {}
        """What each job was charged; `None` while that is open."""
        self.made = 0

    @initialize(opening=st.tuples(st.integers(0, 50), st.integers(0, 50)))
    def open(self, opening: Sequence[int]) -> None:
        for user, balance in zip((ADA, BOB), opening, strict=True):
            account = an_account(user, balance=0)
            entry = self._entry(account.id, balance, Reason.SIGNUP)
            self._write([Create(posted(account, entry)), Create(entry)])
            self.balances[account.id] = balance
        self.granted = sum(opening)

    @rule(user=st.sampled_from([ADA, BOB]), tokens=st.integers(-30, 30))
    def grant(self, user: str, tokens: int) -> None:
        if self._post(AccountId(user), tokens, Reason.GRANT):
            self.granted += tokens

    @rule(
        target=jobs,
        user=st.sampled_from([ADA, BOB]),
        cost=st.integers(0, 25),
        kind=st.sampled_from([Kind.IMAGE, Kind.VIDEO, Kind.BRAND]),
        is_taken=st.booleans(),
        wants_cancel=st.booleans(),
    )
    def buy(self, user: str, cost: int, kind: str, is_taken: bool, wants_cancel: bool) -> Job | None:
        job = a_job(len(self.bills), cost=cost, kind=kind, cancel_requested=wants_cancel)
        job = replace(job, account_id=AccountId(user))
        if is_taken:
            job = claimed(job, "token", now=NOON, lease=Policy().lease)  # type: ignore[arg-type]
        if not self._post(job.account_id, -cost, Reason.DEBIT, job=job):
            return None
        self._write([Create(job)])
        self.bills[job.id] = None
        return job

    @rule(job=jobs, data=st.data(), repeats=st.integers(1, 3))
    def settle(self, job: Job | None, data: st.DataObject, repeats: int) -> None:
        """Every way to end, tried several times: the first one counts."""
        if job is None:
            return
        requested = data.draw(st.integers(1, 4))
        ends = [cancelled(), failed(job, BROKEN)]
        if job.lease is not None:
            ends += [
                delivered(job, Done(delivered=share, requested=requested))
                for share in range(1, requested + 1)
            ]
        for _ in range(repeats):
            self._settle(job, data.draw(st.sampled_from(ends)))

    def _settle(self, job: Job, end: End) -> None:
        standing, account = self.records[key_of(job)], self.records[account_key(job.account_id)]
        assert isinstance(standing, Job)
        self._write(settled(standing, account, end, now=NOON + timedelta(seconds=1)))  # type: ignore[arg-type]
        if self.bills[job.id] is None:
            share = end.delivered if end.status not in ("failed", "cancelled") else 0
            self.bills[job.id] = charged = job.cost * share // end.requested
            self.balances[job.account_id] += job.cost - charged

    @invariant()
    def every_balance_is_as_expected_and_the_sum_of_its_entries(self) -> None:
        for account_id, balance in self.balances.items():
            entries = [
                e for e in self.records.values() if isinstance(e, Entry) and e.account_id == account_id
            ]
            account = self.records[account_key(account_id)]
            assert account.balance == balance == sum(entry.tokens for entry in entries) >= 0  # type: ignore[union-attr]

    @invariant()
    def no_token_is_made_or_lost(self) -> None:
        jobs = [job for job in self.records.values() if isinstance(job, Job)]
        for job in jobs:
            billed = self.bills[job.id]
            assert job.is_finished == (billed is not None)
            assert billed is None or job.cost - job.refunded == billed
        kept = sum(job.cost - job.refunded for job in jobs)
        assert not self.balances or sum(self.balances.values()) + kept == self.granted

    def _post(self, account_id: AccountId, tokens: int, reason: Reason, job: Job | None = None) -> bool:
        account = self.records[account_key(account_id)]
        entry = self._entry(account_id, tokens, reason, job)
        if self.balances[account_id] + tokens < 0:
            with pytest.raises(InsufficientTokens) as refusal:
                posted(account, entry)  # type: ignore[arg-type]
            assert refusal.value.needed_tokens == -tokens > refusal.value.available_tokens
            return False
        self._write([Put(posted(account, entry)), Create(entry)])  # type: ignore[arg-type]
        self.balances[account_id] += tokens
        return True

    def _entry(self, account: AccountId, tokens: int, reason: Reason, job: Job | None = None) -> Entry:
        self.made += 1
        return Entry(
            id=EntryId(f"entry_{self.made}"),
            account_id=account,
            tokens=tokens,
            reason=reason,
            created_at=NOON,
            job_id=job.id if job else None,
        )

    def _write(self, writes: Sequence[Write]) -> None:
        require_sound(Records(dict(self.records)), writes)
        for write in writes:
            assert isinstance(write, Put | Create)
            self.records[key_of(write.record)] = write.record


TestLedgerHistory = LedgerHistory.TestCase
TestLedgerHistory.settings = budget(examples=100, steps=30)


@given(cost=st.integers(0, 10**6), requested=st.integers(1, 10_000), data=st.data())
@budget(examples=300)
def test_a_share_is_billed_in_the_users_favour_and_to_the_token(
    cost: int, requested: int, data: st.DataObject
) -> None:
    share = data.draw(st.integers(1, requested))
    job = claimed(a_job(cost=cost), "token", now=NOON, lease=Policy().lease)  # type: ignore[arg-type]
    account = replace(an_account(balance=0), id=own_account(ADA))

    writes = settled(job, account, delivered(job, Done(delivered=share, requested=requested)), now=NOON)

    after = writes[0].record if isinstance(writes[0], Put) else None
    assert isinstance(after, Job)
    charged = after.cost - after.refunded
    assert charged * requested <= cost * share < (charged + 1) * requested
    assert len(writes) == (3 if after.refunded else 1)
