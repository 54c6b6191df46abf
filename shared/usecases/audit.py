"""The audit: what the books must say of every account and every job, held against what they say."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from shared.domain.changes import account_key, job_key
from shared.domain.ids import JobId, settlement_entry_id
from shared.domain.job import Job, Status
from shared.domain.ledger import Entry, Reason
from shared.ports.store import Balance, JobFilter
from shared.usecases.app import App

PAGE: Final = 500
OVERDUE_AFTER: Final = timedelta(minutes=2)
"""One sweep, and some."""


@dataclass(frozen=True, slots=True)
class Finding:
    subject: str
    problem: str


@dataclass(slots=True)
class AuditReport:
    accounts: int = 0
    jobs: int = 0
    findings: list[Finding] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)

    @property
    def is_clean(self) -> bool:
        return not self.findings


async def audit(app: App) -> AuditReport:
    """Check every account and job of a store that may be in use; what differs is looked at twice.

    Raises `StoreUnavailable` when it could not look.
    """
    report = AuditReport()
    await _audit_accounts(app, report)
    await _audit_jobs(app, report)
    return report


async def _audit_accounts(app: App, report: AuditReport) -> None:
    after: str | None = None
    while True:
        page = await app.store.balances(limit=PAGE, after=after)
        for balance in page.data:
            report.accounts += 1
            if balance.balance < 0:
                report.findings.append(
                    Finding(balance.account_id, f"the balance is negative: {balance.balance}")
                )
            if balance.balance != balance.entries_total and not await _settles_down(app, balance):
                report.findings.append(
                    Finding(
                        balance.account_id,
                        f"the balance is {balance.balance}, its entries add up to {balance.entries_total}",
                    )
                )
        after = page.next
        if after is None:
            return


async def _settles_down(app: App, seen: Balance) -> bool:
    """Whether an adapter that cannot read both at one instant merely read between two writes."""
    for _ in range(3):
        before = (await app.store.load([account_key(seen.account_id)])).need(account_key(seen.account_id))
        total, after = 0, None
        while True:
            page = await app.store.entries(seen.account_id, limit=PAGE, after=after)
            total += sum(entry.tokens for entry in page.data)
            after = page.next
            if after is None:
                break
        if before.balance == total:
            return True
    return False


async def _audit_jobs(app: App, report: AuditReport) -> None:
    after: str | None = None
    while True:
        page = await app.store.jobs(JobFilter(), limit=PAGE, after=after)
        suspects = await _suspects(app, page.data)
        if suspects:
            keys = [job_key(job.id) for job, _ in suspects]
            records = await app.store.load(keys)
            again = [job for job in map(records.find, keys) if job is not None]
            suspects = await _suspects(app, again)
        for job, problems in suspects:
            report.findings += [Finding(job.id, problem) for problem in problems]
        report.jobs += len(page.data)
        report.statuses.update(str(job.status) for job in page.data)
        after = page.next
        if after is None:
            return


async def _suspects(app: App, jobs: Sequence[Job]) -> list[tuple[Job, list[str]]]:
    entries: defaultdict[JobId | None, list[Entry]] = defaultdict(list)
    for entry in await app.store.entries_of([job.id for job in jobs]):
        entries[entry.job_id].append(entry)
    now = app.clock.now()
    judged = [(job, list(problems_of(job, entries[job.id], now))) for job in jobs]
    return [(job, problems) for job, problems in judged if problems]


def problems_of(job: Job, entries: Iterable[Entry], now: datetime) -> Iterable[str]:
    """What is wrong between a job and its entries, as sentences. Pure."""
    entries = list(entries)
    debits = [entry for entry in entries if entry.reason is Reason.DEBIT]
    refunds = [entry for entry in entries if entry.reason is Reason.REFUND]
    if job.debit_id is not None and [(entry.id, entry.tokens) for entry in debits] != [
        (job.debit_id, -job.cost)
    ]:
        yield f"it cost {job.cost} and has the debits {[entry.tokens for entry in debits]}"
    if job.debit_id is None and entries:
        yield "it has entries without a debit of its own"
    expected = [(settlement_entry_id(job.id), job.refunded)] if job.refunded else []
    if [(entry.id, entry.tokens) for entry in refunds] != expected:
        yield f"it says {job.refunded} refunded and has the refunds {[entry.tokens for entry in refunds]}"
    if any(entry.account_id != job.account_id for entry in entries):
        yield "its entries stand in another account"
    if job.status in (Status.FAILED, Status.CANCELLED) and job.refunded != job.cost:
        yield f"it ended {job.status} and was refunded {job.refunded} of {job.cost}"
    if job.is_finished != (job.wake_at is None):
        yield f"it is {job.status} with wake_at {job.wake_at}"
    if not job.is_finished and job.deadline_at + OVERDUE_AFTER < now:
        yield f"it is still {job.status}, past its deadline {job.deadline_at}"
