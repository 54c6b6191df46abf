"""The adapters that must keep the contracts: one fixture per port, whose parameters are its adapters."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final, Protocol

import pytest

from shared.adapters.memory import MemoryStore
from shared.adapters.sql.sqlite import SqliteStore
from shared.ports.store import Store


class StoreAdapter(Protocol):
    def open(self) -> AbstractAsyncContextManager[Store]:
        """Open the store; opened once more, it is the view that another process has of the same records."""


class Memory:
    def __init__(self, home: Path) -> None:
        self._store = MemoryStore()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Store]:
        yield self._store


class Sqlite:
    def __init__(self, home: Path) -> None:
        self._path = home / "mediaforge.db"

    def open(self) -> AbstractAsyncContextManager[Store]:
        return SqliteStore.open(self._path)


STORES: Final[dict[str, Callable[[Path], StoreAdapter]]] = {"memory": Memory, "sqlite": Sqlite}


@pytest.fixture(params=list(STORES))
def store_adapter(request: pytest.FixtureRequest, tmp_path: Path) -> StoreAdapter:
    return STORES[request.param](tmp_path)


@pytest.fixture
async def store(store_adapter: StoreAdapter) -> AsyncIterator[Store]:
    async with store_adapter.open() as store:
        yield store


@pytest.fixture
async def other_view(store: Store, store_adapter: StoreAdapter) -> AsyncIterator[Store]:
    """The same records, as another process sees them."""
    async with store_adapter.open() as other:
        yield other
