"""The one place where a job and its money end together."""

from datetime import datetime

from shared.domain.changes import Create, Put, Write
from shared.domain.errors import BrokenInvariant
from shared.domain.ids import settlement_entry_id
from shared.domain.job import Job
from shared.domain.ledger import Account, Entry, Reason, posted
from shared.domain.lifecycle import ended
from shared.domain.outcomes import End, billed_tokens


def settled(job: Job, account: Account | None, end: End, *, now: datetime) -> list[Write]:
    """End a job and give back what its ending does not bill; [] if somebody else already has.

    A full charge writes only the job, for the debit already stands; only then may `account` be missing.
    """
    if job.is_finished:
        return []
    refund = job.cost - billed_tokens(job.cost, end)
    after = ended(job, end, now=now, refunded=refund)
    if refund == 0:
        return [Put(after)]
    if account is None or account.id != job.account_id:
        raise BrokenInvariant(f"the refund of {job.id} needs account {job.account_id}")
    entry = Entry(
        id=settlement_entry_id(job.id),
        account_id=account.id,
        tokens=refund,
        reason=Reason.REFUND,
        created_at=now,
        job_id=job.id,
    )
    return [Put(after), Create(entry), Put(posted(account, entry))]
