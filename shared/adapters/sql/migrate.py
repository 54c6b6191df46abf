"""Bringing a database to the schema that this version speaks.

Migrations are Alembic's, in `migrations/versions`. Alembic is imported only when there is something to do.
"""

import fcntl
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, NullPool, create_engine, text

HEAD: Final = "0001"
"""The newest revision; a test holds it against the files."""


def migrate_sqlite(path: Path) -> None:
    """Make the file if there is none, and migrate it; several processes may do so at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.migrating").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (_revision(path) or "") >= HEAD:
            return  # a newer version may have been here: its schema still serves this one
        engine = create_engine(URL.create("sqlite", database=str(path)))
        try:
            with engine.connect() as connection:
                # Written into the file: every later connection finds it in WAL mode.
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
                connection.commit()
            with engine.begin() as connection:
                migrate(connection)
        finally:
            engine.dispose()


_LOCK: Final = 7_245_301_994
"""Anything that nobody else locks in the same database."""
_LOCK_TIMEOUT: Final = text("SET LOCAL lock_timeout = '60s'")
_REVISION_TABLE: Final = text("SELECT to_regclass('alembic_version') IS NOT NULL")
_REVISION: Final = text("SELECT version_num FROM alembic_version")


def migrate_postgres(connect: Callable[[], Any]) -> None:
    """Migrate the database behind new connections of psycopg; several processes may do so at once.

    One transaction and a lock that ends with it, so a pooler that shares sessions may stand between.
    """
    engine = create_engine(
        "postgresql+psycopg://", creator=connect, poolclass=NullPool, use_native_hstore=False
    )
    with engine.begin() as connection:
        connection.execute(_LOCK_TIMEOUT)
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        known = connection.scalar(_REVISION_TABLE)
        if ((connection.scalar(_REVISION) if known else None) or "") < HEAD:
            migrate(connection)


def migrate(connection: Connection) -> None:
    """Bring the schema behind an open connection to `HEAD`, in its transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)


def _revision(path: Path) -> str | None:
    if not path.exists():
        return None
    connection = sqlite3.connect(path)
    try:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return row[0] if row else None
    finally:
        connection.close()
