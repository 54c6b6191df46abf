"""The language of decisions: keys, records, and what makes a decision sound."""

import pytest

from shared.domain.changes import (
    AnyKey,
    Create,
    Delete,
    Put,
    Record,
    Records,
    Write,
    account_key,
    api_key_key,
    entry_key,
    job_key,
    key_of,
    require_sound,
    target_of,
)
from shared.domain.errors import BrokenInvariant, NotFound
from shared.domain.ids import AccountId, EntryId, JobId
from shared.domain.keys import ApiKey
from shared.domain.ledger import Entry, Reason
from tests.support import ADA, NOON, a_job, an_account

JOB = a_job(1)
ENTRY = Entry(id=EntryId("e"), account_id=AccountId(ADA), tokens=1, reason=Reason.GRANT, created_at=NOON)
API_KEY = ApiKey(digest="d", name="n", user_id=ADA, scopes=frozenset(), created_at=NOON)


@pytest.mark.parametrize(
    ("record", "key"),
    [
        (JOB, job_key(JOB.id)),
        (an_account(), account_key(AccountId(ADA))),
        (ENTRY, entry_key(AccountId(ADA), EntryId("e"))),
        (API_KEY, api_key_key("d")),
    ],
)
def test_every_record_has_a_key_and_every_write_a_target(record: Record, key: AnyKey) -> None:
    assert key_of(record) == key
    assert target_of(Put(record)) == target_of(Create(record)) == target_of(Delete(key)) == key


def test_records_of_one_id_and_different_types_are_different() -> None:
    keys: set[AnyKey] = {
        job_key(JobId("x")),
        account_key(AccountId("x")),
        entry_key(AccountId("a"), EntryId("x")),
        entry_key(AccountId("b"), EntryId("x")),
    }
    assert len(keys) == 4


def test_records_are_a_mapping_that_knows_what_was_asked_for() -> None:
    missing = job_key(JobId("job_x"))
    records = Records({job_key(JOB.id): JOB, missing: None})
    assert dict(records) == {job_key(JOB.id): JOB, missing: None}
    assert len(records) == 2
    assert records.find(job_key(JOB.id)) is JOB
    assert records.need(job_key(JOB.id)) is JOB
    assert records.find(missing) is None
    with pytest.raises(NotFound, match="no job job_x"):
        records.need(missing)
    with pytest.raises(KeyError):
        records.find(job_key(JobId("never asked for")))


STANDING, MISSING = job_key(JOB.id), job_key(a_job(2).id)
LOADED = Records({STANDING: JOB, MISSING: None})
SOUND: dict[str, list[Write]] = {
    "nothing": [],
    "replacing": [Put(JOB)],
    "removing": [Delete(STANDING)],
    "creating what was seen missing": [Create(a_job(2))],
    "creating what was not loaded": [Create(a_job(3))],
    "all of it": [Put(JOB), Create(a_job(2)), Create(a_job(3))],
}
UNSOUND: dict[str, list[Write]] = {
    "twice": [Put(JOB), Put(JOB)],
    "creating and removing": [Create(a_job(3)), Delete(job_key(a_job(3).id))],
    "creating what stands": [Create(JOB)],
    "replacing what is missing": [Put(a_job(2))],
    "replacing what was not loaded": [Put(a_job(3))],
    "removing what is missing": [Delete(MISSING)],
    "removing what was not loaded": [Delete(job_key(a_job(3).id))],
}


@pytest.mark.parametrize("what", SOUND)
def test_a_sound_decision_passes(what: str) -> None:
    require_sound(LOADED, SOUND[what])


@pytest.mark.parametrize("what", UNSOUND)
def test_an_unsound_decision_is_refused(what: str) -> None:
    with pytest.raises(BrokenInvariant):
        require_sound(LOADED, UNSOUND[what])
