"""What stands in Firestore: frontends listen to it, and other versions write it."""

import math
from collections.abc import AsyncIterator
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from google.cloud.firestore import AsyncClient

from shared.adapters.firestore import FirestoreStore
from shared.adapters.firestore.documents import MAX_BYTES
from shared.adapters.firestore.values import from_value, to_value
from shared.documents import feed_document, job_document
from shared.domain.changes import Delete, Put, account_key, job_key
from shared.domain.errors import InvalidRequest, StoreUnavailable
from shared.domain.job import Job
from shared.ports.store import Interest, JobFilter
from tests.contract.firestore_api import tamper
from tests.contract.test_store_queries import ids, shown
from tests.contract.test_store_records import BARE_JOB, FULL_ACCOUNT, FULL_ENTRY, FULL_JOB, FULL_KEY, ODD
from tests.emulators import a_project
from tests.support import ADA, BOB, NOON, a_job, an_account, find, given

pytestmark = pytest.mark.external


def media_url(key: str) -> str:
    return f"https://media.example/{key}"


@pytest.fixture
def project(firestore_emulator: str) -> str:
    return a_project()


@pytest.fixture
async def store(project: str) -> AsyncIterator[FirestoreStore]:
    async with FirestoreStore.open(project, media_url=media_url) as store:
        yield store


@pytest.fixture
async def client(store: FirestoreStore, project: str) -> AsyncIterator[AsyncClient]:
    """As a frontend or an operator sees it: through the library itself."""
    client = AsyncClient(project=project)
    yield client
    await client._firestore_api.transport.close()


async def document(client: AsyncClient, path: str) -> dict[str, Any] | None:
    return (await client.document(path).get()).to_dict()


NATIVE = {"prompt": "a fox 🦊", "count": 2, "seed": 7.5, "tags": ["a", {"b": [None, True]}], "none": None}
JOB = replace(FULL_JOB, request=NATIVE, metadata={"order": 12})


async def test_a_jobs_document_is_what_the_api_shows_and_one_map_more(
    store: FirestoreStore, client: AsyncClient
) -> None:
    await given(store, JOB, BARE_JOB)
    for job in (JOB, BARE_JOB):
        found = await document(client, f"jobs/{job.id}")
        assert found is not None
        internal = found.pop("internal")
        assert found == job_document(job, media_url)
        assert isinstance(internal, dict)


async def test_instants_are_timestamps_to_the_microsecond(store: FirestoreStore, client: AsyncClient) -> None:
    await given(store, JOB)
    found = await document(client, f"jobs/{JOB.id}")
    assert found is not None
    assert isinstance(found["created_at"], datetime)
    assert found["created_at"] == ODD
    assert found["internal"]["wake_at"] == JOB.wake_at
    back = await find(store, job_key(JOB.id))
    assert isinstance(back, Job)
    assert type(back.created_at) is datetime


async def test_no_field_of_a_job_stands_in_two_places(store: FirestoreStore, client: AsyncClient) -> None:
    await given(store, JOB)
    found = await document(client, f"jobs/{JOB.id}")
    assert found is not None
    internal = found.pop("internal")
    assert found.keys() & internal.keys() == set()
    whole = {field.name for field in fields(Job)}
    assert whole <= found.keys() | internal.keys()
    assert internal.keys() - whole == {"media_keys", "shard", "visible", "changed_at"}


async def test_accounts_entries_and_keys_stand_under_the_names_of_the_api(
    store: FirestoreStore, client: AsyncClient
) -> None:
    await given(store, FULL_ACCOUNT, FULL_ENTRY, FULL_KEY)
    assert await document(client, f"accounts/{ADA}") == {
        "id": ADA,
        "name": FULL_ACCOUNT.name,
        "balance": FULL_ACCOUNT.balance,
        "members": [ADA, BOB],
        "created_at": ODD,
    }
    assert await document(client, f"accounts/{ADA}/entries/{FULL_ENTRY.id}") == {
        "id": FULL_ENTRY.id,
        "account": ADA,
        "job_id": FULL_ENTRY.job_id,
        "tokens": FULL_ENTRY.tokens,
        "reason": "debit",
        "note": FULL_ENTRY.note,
        "created_at": ODD,
        "internal": {"request_hash": "ff", "shard": 0},
    }
    key = await document(client, f"api_keys/{FULL_KEY.digest}")
    assert key is not None
    assert key["scopes"] == ["admin", "user"]


# --- the feed


async def test_the_feed_holds_what_is_published_as_everybody_may_see_it(
    store: FirestoreStore, client: AsyncClient
) -> None:
    job = replace(JOB, deleted_at=None)
    key = job_key(job.id)

    async def now(**fields: Any) -> dict[str, Any] | None:
        await store.change([key], lambda records: [Put(replace(records.need(key), **fields))])
        return await document(client, f"feed/{job.id}")

    await given(store, replace(job, published_at=None))
    assert await document(client, f"feed/{job.id}") is None
    assert await now(published_at=ODD) == feed_document(job, media_url)
    assert await now(progress=5) == feed_document(job, media_url)
    assert await now(media=()) == feed_document(replace(job, media=()), media_url)
    assert await now(published_at=None) is None
    assert await now(published_at=NOON) is not None
    await store.change([key], lambda _: [Delete(key)])
    assert await document(client, f"feed/{job.id}") is None


async def test_a_change_that_leaves_the_feed_as_it_is_does_not_write_it(store: FirestoreStore) -> None:
    key = job_key(JOB.id)
    await given(store, JOB)
    tampered = tamper(store)
    await store.change([key], lambda records: [Put(replace(records.need(key), progress=5))])
    assert tampered.documents_written == 1
    await store.change([key], lambda records: [Put(replace(records.need(key), thumbnail=None))])
    assert tampered.documents_written == 3


# --- anything that JSON can be

ODD_ONES: dict[str, Any] = {
    "a list in a list": {"a": [[1, 2], [[]]]},
    "an empty name": {"": 1, "b": 2},
    "a reserved name": {"__name__": 1, "__": 2, "____": 3},
    "a name too long": {"x" * 1501: 1},
    "a number too large": {"a": 2**63, "b": [-(2**64)]},
    "half a character": {"a": "\ud800", "\udc00": "b"},
    "deep maps": {"a": {}},
    "deep in lists": {"a": [{}]},
    "infinity": {"a": math.inf, "b": [-math.inf], "c": [[math.inf]]},
}
_deep: Any = "bottom"
for _ in range(40):
    _deep = {"d": _deep}
ODD_ONES["deep maps"] = {"a": _deep}
ODD_ONES["deep in lists"] = {"a": [{"b": [_deep]}]}


@pytest.mark.parametrize("what", ODD_ONES)
async def test_whatever_somebody_sent_comes_back_exactly(store: FirestoreStore, what: str) -> None:
    job = a_job(1, metadata=ODD_ONES[what], request=ODD_ONES[what] | {"prompt": "a \ud800 fox"})
    await given(store, job)
    assert await find(store, job_key(job.id)) == job
    plain = replace(job, metadata={"a": 1}, request={"prompt": "a fox"})
    await store.change([job_key(job.id)], lambda _: [Put(plain)])
    assert await find(store, job_key(job.id)) == plain


async def test_what_is_not_a_number_comes_back_as_such(store: FirestoreStore) -> None:
    await given(store, a_job(1, metadata={"a": math.nan, "b": [[math.nan]]}))
    job = await find(store, job_key(a_job(1).id))
    assert isinstance(job, Job)
    assert math.isnan(job.metadata["a"])
    assert math.isnan(job.metadata["b"][0][0])


async def test_what_firestore_cannot_hold_is_shown_as_far_as_it_goes(
    store: FirestoreStore, client: AsyncClient
) -> None:
    odd = {"": 1, "good": [1, [2, [3]]], "large": 2**70, "deep": {"__x__": 1, "y": 2}}
    await given(store, a_job(1, metadata=odd))
    found = await document(client, f"jobs/{a_job(1).id}")
    assert found is not None
    assert found["metadata"] == {"good": [1, "[2,[3]]"], "large": str(2**70), "deep": {"y": 2}}


@pytest.mark.parametrize(
    "value", [None, True, 0, -(2**63), 0.0, -0.0, "", "\x00", [], {}, [{}], {"a.b`c": [None]}, ODD]
)
def test_a_value_comes_back_as_it_went_in(value: Any) -> None:
    assert repr(from_value(to_value(value))) == repr(value)


async def test_a_document_that_would_be_too_large_is_refused_with_its_size(store: FirestoreStore) -> None:
    fits = a_job(1, metadata={"a": "x" * (MAX_BYTES - 4_000)})
    await given(store, fits)
    assert await find(store, job_key(fits.id)) == fits
    with pytest.raises(InvalidRequest, match=r"1,0\d\d,\d\d\d bytes"):
        await given(store, a_job(2), a_job(3, metadata={"a": "x" * MAX_BYTES}))
    assert await find(store, job_key(a_job(2).id)) is None


# --- other versions


async def test_fields_that_a_newer_version_added_survive(store: FirestoreStore, client: AsyncClient) -> None:
    await given(store, a_job(1), an_account(ADA, balance=5))
    job, account = client.document(f"jobs/{a_job(1).id}"), client.document(f"accounts/{ADA}")
    await job.update({"likes": 3, "internal.region": "mars"})
    await account.update({"colour": "red"})

    key, hers = job_key(a_job(1).id), account_key(an_account(ADA).id)
    await store.change(
        [key, hers],
        lambda r: [
            Put(replace(r.need(key), progress=50, lease=None)),
            Put(replace(r.need(hers), balance=4)),
        ],
    )

    found, hers_found = (await job.get()).to_dict() or {}, (await account.get()).to_dict() or {}
    assert (found["likes"], found["internal"]["region"], found["progress"]) == (3, "mars", 50)
    assert (hers_found["colour"], hers_found["balance"]) == ("red", 4)


@pytest.mark.parametrize(
    "change",
    [
        {"status": "evaporated"},
        {"media": [{"url": "https://…"}]},
        {"internal.lease": "mine"},
        {"internal": "gone"},
        {"internal.exact": {"request": "{"}},
        {"created_at": "yesterday"},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_a_job_that_this_version_cannot_read_hides_no_other(
    store: FirestoreStore, client: AsyncClient, change: dict[str, Any]
) -> None:
    odd, fine = shown(1, 1, user=ADA), shown(2, 2, user=ADA)
    await given(store, odd, fine, a_job(3), a_job(4))
    for number in (1, 4):
        await client.document(f"jobs/{a_job(number).id}").update(change)

    assert a_job(3).id in ids(await store.due(NOON + timedelta(days=1), limit=10))
    seen = ids((await store.jobs(JobFilter(), limit=10)).data)
    assert {a_job(3).id, fine.id} <= set(seen)
    assert fine.id in ids((await store.feed(limit=10)).data)
    with pytest.raises(StoreUnavailable, match=odd.id):
        await store.load([job_key(odd.id)])
    async with store.watch(Interest(user_id=ADA)) as changes:
        await client.document(f"jobs/{odd.id}").update({"likes": 1})
        await given(store, a_job(5))
        assert (await anext(changes)).id == a_job(5).id
