"""Which store `MEDIAFORGE_STORE` names."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

from shared.domain.errors import StoreUnavailable
from shared.ports.store import Store
from shared.settings import BadSettings, Settings
from shared.wiring.extras import needs_extra


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[Store]:
    if settings.store_url.startswith("memory://"):
        from shared.adapters.memory import MemoryStore

        yield MemoryStore()
        return
    async with AsyncExitStack() as stack:
        try:
            store = await stack.enter_async_context(_database_of(settings))
            await store.check()
        except StoreUnavailable as error:
            raise BadSettings(f"MEDIAFORGE_STORE: {error.message}") from error
        yield store


def _database_of(settings: Settings) -> AbstractAsyncContextManager[Store]:
    url, path = settings.store_url, sqlite_path(settings)
    if url.startswith("postgresql://"):
        with needs_extra("MEDIAFORGE_STORE", "postgres"):
            from shared.adapters.sql.postgres import PostgresStore
        return PostgresStore.open(url)
    if path is not None and url != "sqlite:///":
        from shared.adapters.sql.sqlite import SqliteStore

        return SqliteStore.open(path)
    # Not the whole of it: an address may hold a password.
    raise BadSettings(
        "MEDIAFORGE_STORE must be sqlite:///path, postgresql://user:password@host/database or memory:// "
        f"(its scheme is {url.partition(':')[0]!r})"
    )


def sqlite_path(settings: Settings) -> Path | None:
    """The store's file: `sqlite:///relative` or `sqlite:////absolute`."""
    prefix = "sqlite:///"
    return Path(settings.store_url.removeprefix(prefix)) if settings.store_url.startswith(prefix) else None
