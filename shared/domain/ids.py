"""The names of things. Ids are opaque to clients; a job's id sorts by the time it was made."""

import hashlib
import re
from datetime import datetime
from typing import Final, NewType

from ulid import ULID

JobId = NewType("JobId", str)
AccountId = NewType("AccountId", str)
UserId = NewType("UserId", str)
EntryId = NewType("EntryId", str)
ClaimToken = NewType("ClaimToken", str)
RequestId = NewType("RequestId", str)

NOISE_BYTES: Final = 16  # 128 random bits: what makes an id or a token hard to guess

_ACCOUNT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,127}")
_JOB_ID = re.compile(r"job_[0-9A-HJKMNP-TV-Z]{26}(:[a-z0-9_:.-]{1,64})?")


def sortable_id(prefix: str, at: datetime, noise: bytes) -> str:
    """`prefix_` and a ULID: 48 bits of milliseconds, then 80 of the given random bits."""
    milliseconds = int(at.timestamp() * 1000)
    return f"{prefix}_{ULID.from_bytes(milliseconds.to_bytes(6, 'big') + noise[:10])}"


def new_job_id(at: datetime, noise: bytes) -> JobId:
    return JobId(sortable_id("job", at, noise))


def new_claim_token(noise: bytes) -> ClaimToken:
    """128 bits in hexadecimal: they stand in media URLs, which need no other secret."""
    return ClaimToken(noise[:NOISE_BYTES].hex())


def is_job_id(text: str) -> bool:
    return _JOB_ID.fullmatch(text) is not None


def is_account_id(text: str) -> bool:
    """Whether `text` may name an account or a user, in every store and in a URL."""
    return _ACCOUNT_ID.fullmatch(text) is not None


def erasure_id(job: JobId) -> JobId:
    """The one erasure that a job can have."""
    return JobId(f"{job}:erasure")


def signup_entry_id(account: AccountId) -> EntryId:
    return EntryId(f"{account}:signup")


def settlement_entry_id(job: JobId) -> EntryId:
    """The one refund that a job can have."""
    return EntryId(f"{job}:settle")


def debit_entry_id(job: JobId) -> EntryId:
    """The debit of a job that was submitted without an idempotency key."""
    return EntryId(f"{job}:debit")


def keyed_entry_id(account: AccountId, idempotency_key: str) -> EntryId:
    """The entry that an idempotency key stands for, for ever."""
    digest = hashlib.sha256(f"{account}\0{idempotency_key}".encode()).hexdigest()
    return EntryId(f"key_{digest[:40]}")
