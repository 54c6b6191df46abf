"""The store's contract: a record comes back as it went in."""

from dataclasses import MISSING, Field, fields, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from shared.domain.changes import (
    Put,
    Record,
    account_key,
    api_key_key,
    job_key,
    key_of,
)
from shared.domain.ids import AccountId, ClaimToken, EntryId, JobId, RequestId, UserId
from shared.domain.job import Job, JobError, Kind, Lease, Media, Purchase, Status
from shared.domain.keys import ApiKey
from shared.domain.ledger import Account
from shared.ports.store import Store
from tests.support import ADA, BOB, NOON, an_account, an_entry, find, given

ODD = datetime(2026, 3, 29, 1, 59, 59, 999999, tzinfo=UTC)
ELSEWHERE = datetime(2026, 3, 29, 1, 0, 0, 1, tzinfo=timezone(timedelta(hours=5, minutes=45)))
UNICODE = "a fox 🦊 in «Łódź», \u202eback\u202c, \x00 nul, \u2028 line, e\u0301 'quotes\" \\ %s ?"
NESTED = {
    "": None,
    UNICODE: [1, -2.5, True, {"deep": [[], {}, [None]]}],
    "large": 2**63 - 1,
    "small": -(2**63),
    "exact": 0.1,
    "tiny": 5e-324,
}
PICTURE = Media(
    key="job_1/aa/0.mp4", type="video/mp4", size=2**40, sha256="ab" * 32, width=1, height=2, seconds=4.1
)
FULL_JOB = Job(
    id=JobId(f"job_{7:026d}"),
    kind="hologram",
    status=Status.PROCESSING,
    account_id=AccountId("team@example.com"),
    user_id=UserId("ada.l-1_x"),
    request={"prompt": UNICODE} | NESTED,
    model="local-image",
    metadata=NESTED,
    request_id=RequestId(UNICODE),
    cost=2**53 + 1,
    refunded=2**53,
    debit_id=EntryId("key_1"),
    progress=99,
    media=(PICTURE, replace(PICTURE, width=None, height=None, seconds=None)),
    thumbnail=PICTURE,
    error=JobError(code="content_rejected", message=UNICODE, param="prompt", retryable=True, stage="prompt"),
    attempts=4,
    cancel_requested=True,
    created_at=ODD,
    deadline_at=ELSEWHERE,
    started_at=ODD,
    finished_at=ODD,
    published_at=ODD,
    expires_at=ELSEWHERE,
    deleted_at=ODD,
    wake_at=ELSEWHERE,
    not_before=ODD,
    sweeps=3,
    fence=12,
    lease=Lease(token=ClaimToken("ab" * 16), until=ELSEWHERE),
    purchase=Purchase(model="m", repeatable=True, intended_at=ODD, reference=UNICODE),
)
BARE_JOB = Job(
    id=JobId(f"job_{8:026d}"),
    kind=Kind.ERASURE,
    status=Status.FAILED,
    account_id=AccountId(ADA),
    user_id=ADA,
    created_at=NOON,
    deadline_at=NOON,
)
FULL_ENTRY = an_entry(
    "full", tokens=-(2**62), job_id=JobId("job_1"), request_hash="ff", note=UNICODE, created_at=ODD
)
FULL_ACCOUNT = Account(
    id=AccountId(ADA), balance=2**62, members=frozenset({ADA, BOB}), created_at=ODD, name=UNICODE
)
FULL_KEY = ApiKey(
    digest="ab" * 32,
    name=UNICODE,
    user_id=ADA,
    scopes=frozenset({"user", "admin"}),
    created_at=ODD,
    revoked_at=ELSEWHERE,
)
RECORDS: dict[str, Record] = {
    "a full job": FULL_JOB,
    "a bare job": BARE_JOB,
    "a full entry": FULL_ENTRY,
    "a bare entry": an_entry("bare"),
    "a full account": FULL_ACCOUNT,
    "a bare account": Account(id=AccountId("t"), balance=0, members=frozenset(), created_at=NOON),
    "a full API key": FULL_KEY,
    "a bare API key": ApiKey(digest="00", name="", user_id=ADA, scopes=frozenset(), created_at=NOON),
}


@pytest.mark.parametrize("what", RECORDS)
async def test_a_record_comes_back_as_it_went_in(store: Store, other_view: Store, what: str) -> None:
    record = RECORDS[what]
    await given(store, record)
    assert await find(other_view, key_of(record)) == record
    assert (await store.change([key_of(record)], lambda _: []))[key_of(record)] == record


@pytest.mark.parametrize(
    "record", [FULL_JOB, FULL_ENTRY, FULL_ACCOUNT, FULL_KEY], ids=lambda r: type(r).__name__
)
def test_the_full_records_above_leave_no_field_at_its_default(record: Record) -> None:
    def default(field: Field[Any]) -> Any:
        return field.default_factory() if field.default_factory is not MISSING else field.default

    assert [field.name for field in fields(record) if getattr(record, field.name) == default(field)] == []


async def test_every_field_of_a_record_can_be_replaced(store: Store) -> None:
    key = job_key(FULL_JOB.id)
    await given(store, replace(BARE_JOB, id=FULL_JOB.id))
    await store.change([key], lambda _: [Put(FULL_JOB)])
    assert await find(store, key) == FULL_JOB
    await store.change([key], lambda _: [Put(replace(BARE_JOB, id=FULL_JOB.id))])
    assert await find(store, key) == replace(BARE_JOB, id=FULL_JOB.id)


@pytest.mark.parametrize(
    "user", ["ada lovelace", "ADA", "a" * 128, "ümlaut", "x'; DROP TABLE jobs; --", "%", "_"]
)
async def test_an_id_is_taken_literally(store: Store, user: str) -> None:
    await given(store, an_account(UserId(user), balance=1), an_account(ADA, balance=2))
    key = account_key(AccountId(user))
    assert (await store.load([key])).need(key).balance == 1


async def test_an_api_key_is_found_by_its_digest(store: Store) -> None:
    await given(store, FULL_KEY)
    assert (await store.load([api_key_key(FULL_KEY.digest)])).need(api_key_key(FULL_KEY.digest)) == FULL_KEY
