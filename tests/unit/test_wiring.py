"""Wiring: settings become parts, or one line about the setting that is wrong."""

import os
import stat
import sys
import threading
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from shared.adapters.auth.tokens import DevTokens
from shared.adapters.memory import MemoryStore
from shared.domain.errors import Unauthenticated
from shared.settings import BadSettings, Settings
from shared.wiring import open_gateway, open_worker
from shared.wiring.secret import worker_secret


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("MEDIAFORGE_") or name == "PORT"]:
        monkeypatch.delenv(name)


def own_threads() -> set[str]:
    """Threads that our parts have started, and not asyncio's own pool."""
    return {thread.name for thread in threading.enumerate() if not thread.name.startswith("asyncio")}


# What opens.


@pytest.mark.parametrize("store", ["", "memory://"])
async def test_gateway_and_worker_open_and_close_on_one_machine(tmp_path: Path, store: str) -> None:
    settings = Settings(home=tmp_path / "home", store=store)
    before = own_threads()
    async with open_gateway(settings) as gateway, open_worker(settings) as worker:
        for app in (gateway.app, worker.app):
            await app.store.check()
            await app.queue.check()
            assert app.signup_tokens == 100
        await worker.app.media.check()
        assert gateway.local_media is not None
        assert (await gateway.authenticator.authenticate("dev-ada")).user_id == "ada"
        await worker.verifier.verify(worker_secret(settings))
        assert worker.app.generators.keys() == {"local"}
    assert own_threads() == before


async def test_without_dev_tokens_only_keys_count(tmp_path: Path) -> None:
    async with open_gateway(Settings(home=tmp_path, store="memory://", auth="keys")) as gateway:
        with pytest.raises(Unauthenticated):
            await gateway.authenticator.authenticate("dev-ada")


async def test_memory_is_a_store_that_ends_with_the_process(tmp_path: Path) -> None:
    async with open_gateway(Settings(home=tmp_path, store="memory://")) as gateway:
        assert isinstance(gateway.app.store, MemoryStore)
    assert [file.name for file in tmp_path.iterdir()] == ["worker-secret"]  # noqa: ASYNC240


async def test_numbers_reach_the_parts_that_they_are_for(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path,
        store="memory://",
        lease_seconds=33,
        publish_grace_seconds=7,
        max_attempts=3,
        signup_tokens=5,
        shutdown_grace_seconds=2,
    )
    async with open_worker(settings) as worker:
        policy = worker.app.policy
        assert policy.lease.total_seconds() == 33
        assert policy.publish_grace.total_seconds() == 7
        assert policy.max_attempts == 3
        assert worker.app.signup_tokens == 5
        assert worker.app.stop_grace_seconds == 2


# What does not.


def opening(what: str, settings: Settings) -> AbstractAsyncContextManager[Any]:
    return open_gateway(settings) if what == "gateway" else open_worker(settings)


async def refusal(what: str, settings: Settings) -> str:
    """The one line that a process would print instead of starting."""
    with pytest.raises(BadSettings) as refused:
        async with opening(what, settings):
            pytest.fail("it opened")
    message = str(refused.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("what", ["gateway", "worker"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("store", "redis://localhost"),
        ("store", "sqlite://relative.db"),
        ("store", "sqlite:"),
        ("store", "mediaforge.db"),
        ("store", "sqlite:///"),
        ("queue", "rabbit://localhost"),
        ("queue", "embedded"),
        ("catalogue", "/nowhere/catalogue.toml"),
    ],
)
async def test_a_part_that_nobody_knows_is_named_by_its_variable(
    tmp_path: Path, what: str, name: str, value: str
) -> None:
    settings = Settings(**{"home": tmp_path, "store": "memory://", name: value})  # type: ignore[arg-type]
    assert (await refusal(what, settings)).startswith(f"MEDIAFORGE_{name.upper()}")


@pytest.mark.parametrize(
    "media", ["s3+nonsense://bucket", "file://relative", "/srv/media", "ftp://host/media"]
)
async def test_media_that_nobody_can_store_are_named(tmp_path: Path, media: str) -> None:
    settings = Settings(home=tmp_path, store="memory://", media=media)
    assert (await refusal("worker", settings)).startswith("MEDIAFORGE_MEDIA")


async def test_a_media_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"")
    settings = Settings(home=tmp_path, store="memory://", media=f"file://{tmp_path}/taken")
    message = await refusal("worker", settings)
    assert message.startswith("MEDIAFORGE_MEDIA: cannot write to ")
    assert f"{tmp_path}/taken" in message


@pytest.mark.parametrize("what", ["gateway", "worker"])
async def test_a_store_that_cannot_be_opened_is_named(tmp_path: Path, what: str) -> None:
    (tmp_path / "taken").write_bytes(b"")
    settings = Settings(home=tmp_path, store=f"sqlite:///{tmp_path}/taken/mediaforge.db")
    assert (await refusal(what, settings)).startswith("MEDIAFORGE_STORE: ")


@pytest.mark.parametrize("what", ["gateway", "worker"])
async def test_a_file_that_is_no_database_is_named(tmp_path: Path, what: str) -> None:
    (tmp_path / "letter.db").write_bytes(b"Dear Sir or Madam, " * 500)
    settings = Settings(home=tmp_path, store=f"sqlite:///{tmp_path}/letter.db")
    assert (await refusal(what, settings)).startswith("MEDIAFORGE_STORE: ")


@pytest.mark.parametrize("what", ["gateway", "worker"])
async def test_a_home_that_cannot_be_one_is_named(tmp_path: Path, what: str) -> None:
    (tmp_path / "home").write_bytes(b"")
    settings = Settings(home=tmp_path / "home", store="memory://", media=f"file://{tmp_path}/media")
    assert (await refusal(what, settings)).startswith("MEDIAFORGE_HOME: ")


MARTIAN = """
[kinds.erasure]
deadline_seconds = 9
[models.m]
generator = "martian"
tokens = 1
per = "job"
start_timeout_seconds = 9
sizes = {"1:1" = "64x64"}
"""


@pytest.mark.parametrize(
    "text",
    [
        "not TOML",
        "",
        "[kinds.image]\nmodels = ['x']\ndeadline_seconds = 1\n",
        MARTIAN,
        "\x00",
    ],
    ids=["no TOML", "nothing", "half", "a generator nobody knows", "NUL"],
)
async def test_a_catalogue_that_cannot_be_used_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "catalogue.toml").write_text(text)
    settings = Settings(home=tmp_path, store="memory://", catalogue=tmp_path / "catalogue.toml")
    assert (await refusal("worker", settings)).startswith("MEDIAFORGE_CATALOGUE")


async def test_what_was_open_when_a_later_part_failed_is_closed(tmp_path: Path) -> None:
    before = own_threads()
    await refusal("worker", Settings(home=tmp_path, media="ftp://host"))
    assert own_threads() == before
    async with open_gateway(Settings(home=tmp_path)) as gateway:
        await gateway.app.store.check()
        assert own_threads() > before
    assert own_threads() == before


@pytest.mark.parametrize(
    "store",
    [
        "mysql://forge:xyzzy@host/db",
        "mysql:forge:xyzzy@host/db",
        "postgresql:forge:xyzzy@host/db",
        "postgresql://forge:xyzzy@/db?host=/nowhere",
        "postgresql://forge:xyzzy@[host/db",
    ],
)
async def test_a_password_in_a_stores_address_is_not_repeated(tmp_path: Path, store: str) -> None:
    message = await refusal("gateway", Settings(home=tmp_path, store=store))
    assert message.startswith("MEDIAFORGE_STORE")
    assert "xyzzy" not in message


async def test_what_postgresql_needs_is_named_where_it_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "shared.adapters.sql.postgres", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    message = await refusal("gateway", Settings(home=tmp_path, store="postgresql://forge@host/db"))
    assert message == "MEDIAFORGE_STORE: there is no psycopg here; pip install 'mediaforge[postgres]'"


# The worker's secret.


def test_the_workers_secret_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "new" / "home")
    secret = worker_secret(settings)
    assert len(secret) >= 32
    assert worker_secret(settings) == secret
    [file] = settings.home.iterdir()
    assert file.name == "worker-secret"
    assert file.read_text() == secret
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_secret_that_was_given_is_used_and_not_kept(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, worker_secret="xyzzy")
    assert worker_secret(settings) == "xyzzy"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("round_", range(20))
def test_all_who_make_the_secret_at_once_have_the_same_one(tmp_path: Path, round_: int) -> None:
    settings = Settings(home=tmp_path)
    start, secrets = threading.Barrier(8), []

    def make() -> None:
        start.wait()
        secrets.append(worker_secret(settings))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(secrets) == 8
    assert set(secrets) == {(tmp_path / "worker-secret").read_text()}
    assert [file.name for file in tmp_path.iterdir()] == ["worker-secret"]


def test_an_empty_secret_is_refused_rather_than_used(tmp_path: Path) -> None:
    (tmp_path / "worker-secret").write_text("\n")
    with pytest.raises(BadSettings, match="worker-secret is empty"):
        worker_secret(Settings(home=tmp_path))


async def test_dev_tokens_know_nothing_of_the_workers_secret(tmp_path: Path) -> None:
    with pytest.raises(Unauthenticated):
        await DevTokens().authenticate(worker_secret(Settings(home=tmp_path)))
