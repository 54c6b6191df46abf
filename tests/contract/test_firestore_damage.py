"""Documents that an older or newer version wrote, or somebody by hand: read, or said to be unreadable."""

import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from google.cloud.firestore_v1 import types

from shared.adapters.firestore.documents import Documents, Unreadable
from shared.adapters.firestore.values import to_value
from shared.domain.changes import Record, key_of
from shared.domain.ids import ClaimToken, JobId, UserId
from shared.domain.job import Job, JobError, Lease, Media, Purchase, Status
from shared.domain.keys import ApiKey
from tests.support import NOON, a_job, an_account, an_entry

DATABASE = "projects/p/databases/(default)"
PICTURE = Media(key="k/0.png", type="image/png", size=5, sha256="s", width=1, height=2)
BUSY = a_job(
    1,
    status=Status.PROCESSING,
    purchase=Purchase(model="m", repeatable=False, intended_at=NOON, reference="op-1"),
    lease=Lease(token=ClaimToken("0" * 32), until=NOON + timedelta(seconds=45)),
    metadata={"deep": [{"er": [1, 2.5, None]}]},
)
DONE = a_job(
    2,
    status=Status.FAILED,
    media=(PICTURE, PICTURE),
    thumbnail=PICTURE,
    error=JobError(code="content_rejected", message="no", stage="prompt"),
    wake_at=None,
    finished_at=NOON,
)
KEY = ApiKey(
    name="laptop", digest="d" * 64, user_id=UserId("ada"), scopes=frozenset({"user"}), created_at=NOON
)
RECORDS: dict[str, Record] = {
    "a job at work": BUSY,
    "a finished job": DONE,
    "an account": an_account(),
    "an entry": an_entry("e", job_id=JobId("job_1")),
    "an API key": KEY,
}
ODD: tuple[Any, ...] = (
    None, True, -1, 2**62, 0.5, float("nan"), "", "x", "not a status", NOON, [], {}, [1], {"x": "y"}
)  # fmt: skip


@pytest.fixture
def documents() -> Documents:
    return Documents(DATABASE, media_url=lambda key: f"https://media/{key}", shards=1)


def written(documents: Documents, record: Record) -> Any:
    name = documents.name_of(key_of(record))
    assert name is not None
    return documents.write(name, record).document


def maps_of(fields: Any) -> list[Any]:
    """Every map of named values in a document, the outermost first."""
    found = [fields]
    for value in fields.values():
        if value.WhichOneof("value_type") == "map_value":
            found += maps_of(value.map_value.fields)
        for item in value.array_value.values:
            if item.WhichOneof("value_type") == "map_value":
                found += maps_of(item.map_value.fields)
    return found


def damage(document: Any, chance: random.Random) -> None:
    fields = chance.choice([found for found in maps_of(document.fields) if found])
    name = chance.choice(sorted(fields))
    match chance.randrange(3):
        case 0:
            del fields[name]
        case 1:
            fields[name].CopyFrom(to_value(chance.choice(ODD)))
        case _:
            fields[f"newer_{name}"].CopyFrom(to_value(chance.choice(ODD)))


@pytest.mark.parametrize("what", RECORDS)
def test_a_damaged_document_is_read_or_said_to_be_unreadable(documents: Documents, what: str) -> None:
    record, ends = RECORDS[what], {"read": 0, "unreadable": 0}
    whole = written(documents, record)
    for seed in range(400):
        chance = random.Random(seed)  # noqa: S311
        document = types.Document.pb()()
        document.CopyFrom(whole)
        for _ in range(chance.choice((1, 1, 2, 4))):
            damage(document, chance)
        try:
            read = documents.read(type(record), document)
        except Unreadable:
            ends["unreadable"] += 1
        else:
            assert type(read) is type(record)
            ends["read"] += 1
    assert min(ends.values()) > 20


@pytest.mark.parametrize("what", RECORDS)
def test_what_a_newer_version_added_is_passed_over(documents: Documents, what: str) -> None:
    document = written(documents, RECORDS[what])
    for fields in maps_of(document.fields):
        if fields is not document.fields["metadata"].map_value.fields:
            fields["something_newer"].CopyFrom(to_value({"a": [1]}))
    read = documents.read(type(RECORDS[what]), document)
    if isinstance(read, Job):
        read = replace(read, request=BUSY.request, metadata=RECORDS[what].metadata)  # type: ignore[union-attr]
    assert read == RECORDS[what]
