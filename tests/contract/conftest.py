"""The adapters that must keep the contracts: one fixture per port, whose parameters are its adapters."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import pytest

from shared.adapters.memory import MemoryStore
from shared.adapters.sql.sqlite import SqliteStore
from shared.ports.store import Store
from tests.contract.postgres_server import PostgresServer, a_postgres_server
from tests.emulators import a_project
from tests.providers.server import FakeProvider

if TYPE_CHECKING:
    from shared.adapters.generators.google.omni_video import OmniVideo
    from shared.adapters.generators.google.veo import Veo


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


# --- providers


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Where films lie until somebody takes them."""
    return tmp_path / "scratch"


@pytest.fixture(scope="module")
def quick_clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Without all the certificates of the world."""
    from tests.providers.films import few_certificates

    with few_certificates(tmp_path_factory.mktemp("certificates")):
        yield


@pytest.fixture
async def veo(provider: FakeProvider, scratch: Path) -> AsyncIterator["Veo"]:
    from tests.providers.veo import open_veo

    async with open_veo(provider, scratch) as veo:
        yield veo


@pytest.fixture
async def omni(provider: FakeProvider, scratch: Path) -> AsyncIterator["OmniVideo"]:
    from tests.providers.omni import open_omni

    async with open_omni(provider, scratch) as omni:
        yield omni
