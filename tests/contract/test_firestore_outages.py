"""A Firestore that goes away and comes back, that cannot be opened, or that was closed."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from google.api_core import exceptions
from google.auth.exceptions import DefaultCredentialsError

from shared.adapters.firestore import FirestoreStore
from shared.domain.changes import Put, Records, Write, account_key
from shared.domain.errors import StoreUnavailable
from shared.domain.ids import AccountId
from shared.ports.store import Interest, JobFilter
from tests.contract.firestore_api import refusal
from tests.contract.firestore_line import Line
from tests.emulators import a_project
from tests.support import ADA, BOB, NOON, a_job, an_account, given, until

pytestmark = pytest.mark.external

HERS = account_key(AccountId(ADA))


def debiting(records: Records) -> Sequence[Write]:
    hers = records.need(HERS)
    return [Put(replace(hers, balance=hers.balance - 1))]


@pytest.fixture
def project(firestore_emulator: str) -> str:
    return a_project()


@pytest.fixture
async def line(firestore_emulator: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Line]:
    line = Line(firestore_emulator)
    await line.up()
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", line.address)
    yield line
    await line.down()


async def test_when_firestore_is_away_the_store_says_so_and_works_again_when_it_is_back(
    project: str, line: Line
) -> None:
    async with FirestoreStore.open(project, media_url=str) as store:
        await given(store, an_account(ADA, balance=5))
        async with store.watch(Interest(user_id=ADA)) as changes:
            await line.down()
            for asking in (
                store.load([HERS]),
                store.change([HERS], debiting),
                store.due(NOON, limit=1),
                store.count(JobFilter()),
                store.check(),
            ):
                with pytest.raises(StoreUnavailable):
                    await asking
            with pytest.raises(StoreUnavailable) as refused:
                async with FirestoreStore.open(project, media_url=str):
                    pass
            assert "\n" not in refused.value.message
            await line.up()
            async with asyncio.timeout(10):
                while True:
                    try:
                        await store.check()
                        break
                    except StoreUnavailable:
                        await asyncio.sleep(0.05)
                assert (await store.change([HERS], debiting)).need(HERS).balance < 5
                await given(store, a_job(1))
                assert await anext(changes) == a_job(1)


async def test_a_store_that_was_closed_refuses(project: str) -> None:
    async with FirestoreStore.open(project, media_url=str) as store:
        await given(store, a_job(1))
    with pytest.raises(StoreUnavailable):
        await given(store, a_job(2))
    with pytest.raises(StoreUnavailable):
        await store.due(NOON, limit=1)


async def test_closing_a_store_leaves_nothing_running(project: str) -> None:
    async with FirestoreStore.open(project, media_url=str):
        threads = threading.active_count()  # gRPC's own serve all that the process will ever open
    for _ in range(3):
        async with (
            FirestoreStore.open(project, media_url=str) as store,
            store.watch(Interest(user_id=ADA)),
            store.watch(Interest(user_id=BOB)),
        ):
            await store.load([HERS])
        await until(lambda: len(asyncio.all_tasks()) == 1)
    assert threading.active_count() == threads


async def test_without_credentials_it_cannot_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(**_: object) -> None:
        raise DefaultCredentialsError("Your default credentials were not found.\nTo set up ADC, see …")  # type: ignore[no-untyped-call]

    monkeypatch.delenv("FIRESTORE_EMULATOR_HOST", raising=False)
    monkeypatch.setattr("google.auth.default", nobody)
    with pytest.raises(StoreUnavailable, match="credentials") as refused:
        async with FirestoreStore.open("demo", media_url=str):
            pass
    assert "\n" not in refused.value.message


async def test_a_database_that_may_not_be_read_cannot_be_opened(
    project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (
        refusal(exceptions.PermissionDenied, "Missing or insufficient permissions."),
        refusal(exceptions.NotFound, f"The database (default) does not exist for project {project}"),
        refusal(exceptions.FailedPrecondition, "not available for a database in Datastore Mode"),
    ):

        async def refuse(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(
            "google.cloud.firestore_v1.services.firestore.FirestoreAsyncClient.batch_get_documents", refuse
        )
        with pytest.raises(StoreUnavailable, match=re.escape(error.message)) as refused:
            async with FirestoreStore.open(project, media_url=str):
                pass
        assert "\n" not in refused.value.message


@pytest.mark.parametrize("content", [None, "[1, 2]", '{"type": "service_account"}'])
async def test_credentials_that_cannot_be_read_are_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "key.json"
    path.mkdir() if content is None else path.write_text(content)
    monkeypatch.delenv("FIRESTORE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    with pytest.raises(StoreUnavailable, match="credentials") as refused:
        async with FirestoreStore.open("demo", media_url=str):
            pass
    assert "\n" not in refused.value.message
    assert "('" not in refused.value.message
