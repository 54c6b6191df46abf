"""Which store `MEDIAFORGE_STORE` names."""

import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from shared.domain.errors import StoreUnavailable
from shared.ports.store import Store
from shared.settings import BadSettings, Settings
from shared.wiring.extras import needs_extra

_PROJECT: Final = re.compile(r"([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")


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
    if url.startswith("firestore://"):
        return _firestore(settings, url.removeprefix("firestore://"))
    # Not the whole of it: an address may hold a password.
    raise BadSettings(
        "MEDIAFORGE_STORE must be sqlite:///path, postgresql://user:password@host/database, "
        f"firestore://project or memory:// (its scheme is {url.partition(':')[0]!r})"
    )


def _firestore(settings: Settings, place: str) -> AbstractAsyncContextManager[Store]:
    project, _, database = place.partition("/")
    if not _PROJECT.fullmatch(project) or "/" in database:
        raise BadSettings(f"MEDIAFORGE_STORE must be firestore://project (it is {settings.store!r})")
    with needs_extra("MEDIAFORGE_STORE", "firestore"):
        from shared.adapters.firestore import FirestoreStore
    base = settings.media_base_url
    return FirestoreStore.open(
        project,
        database=database or "(default)",
        shards=settings.firestore_shards,
        media_url=lambda key: f"{base}/{key}",
    )


def sqlite_path(settings: Settings) -> Path | None:
    """The store's file: `sqlite:///relative` or `sqlite:////absolute`."""
    prefix = "sqlite:///"
    return Path(settings.store_url.removeprefix(prefix)) if settings.store_url.startswith(prefix) else None
