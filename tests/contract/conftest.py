"""The adapters that must keep the contracts: one fixture per port, whose parameters are its adapters."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final, Protocol

import pytest

from shared.adapters.memory import MemoryStore
from shared.adapters.sql.sqlite import SqliteStore
from shared.ports.store import Store
from tests.contract.postgres_server import PostgresServer, a_postgres_server
from tests.emulators import a_project


class StoreAdapter(Protocol):
    def open(self) -> AbstractAsyncContextManager[Store]:
        """Open the store; opened once more, it is the view that another process has of the same records."""


class Memory:
    def __init__(self) -> None:
        self._store = MemoryStore()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Store]:
        yield self._store


class Sqlite:
    def __init__(self, home: Path) -> None:
        self._path = home / "mediaforge.db"

    def open(self) -> AbstractAsyncContextManager[Store]:
        return SqliteStore.open(self._path)


class Postgres:
    """Tests share one database, which each finds empty."""

    def __init__(self, server: PostgresServer) -> None:
        self._url = server.empty_database()

    def open(self) -> AbstractAsyncContextManager[Store]:
        from shared.adapters.sql.postgres import PostgresStore

        return PostgresStore.open(self._url)


class Firestore:
    """Every test has a project of its own."""

    def __init__(self) -> None:
        self._project = a_project()

    def open(self) -> AbstractAsyncContextManager[Store]:
        from shared.adapters.firestore import FirestoreStore

        return FirestoreStore.open(self._project, media_url="https://media.example/{}".format)


def _on_the_emulator(request: pytest.FixtureRequest) -> StoreAdapter:
    request.getfixturevalue("firestore_emulator")
    return Firestore()


STORES: Final[dict[str, Callable[[pytest.FixtureRequest], StoreAdapter]]] = {
    "memory": lambda _: Memory(),
    "sqlite": lambda request: Sqlite(request.getfixturevalue("tmp_path")),
    "postgres": lambda request: Postgres(request.getfixturevalue("postgres_server")),
    "firestore": _on_the_emulator,
}
EXTERNAL: Final = {"postgres", "firestore"}


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with a_postgres_server() as server:
        yield server


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.external] if name in EXTERNAL else []) for name in STORES]
)
def store_adapter(request: pytest.FixtureRequest) -> StoreAdapter:
    return STORES[request.param](request)


@pytest.fixture
async def store(store_adapter: StoreAdapter) -> AsyncIterator[Store]:
    async with store_adapter.open() as store:
        yield store


@pytest.fixture
async def other_view(store: Store, store_adapter: StoreAdapter) -> AsyncIterator[Store]:
    """The same records, as another process sees them."""
    async with store_adapter.open() as other:
        yield other
