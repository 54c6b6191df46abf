"""SQLite reads every list from an index, and its migrations make the schema that the statements speak."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Select, create_engine
from sqlalchemy.engine import URL

from shared.adapters.sql import migrate, schema
from shared.adapters.sql.migrate import HEAD, migrate_sqlite
from shared.adapters.sql.sqlite import SqliteStore
from shared.adapters.sql.writer import DIALECT
from shared.domain.changes import (
    job_key,
)
from tests.contract.listed import LISTED, WALKS
from tests.support import a_job, find, given


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mediaforge.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore.open(path) as store:
        yield store


# --- query plans


def sqlite_name(index: str) -> str:
    table, is_key, _ = index.partition(" key")
    return f"sqlite_autoindex_{table}_1" if is_key else index


def plan(path: Path, statement: Select[Any]) -> list[tuple[int, str]]:
    """The steps that SQLite would take, each with the number of the part that it belongs to."""
    compiled = statement.compile(dialect=DIALECT, compile_kwargs={"render_postcompile": True})
    parameters = [compiled.params[name] for name in compiled.positiontup or ()]
    with closing(sqlite3.connect(path)) as connection:
        return [row[1::2] for row in connection.execute(f"EXPLAIN QUERY PLAN {compiled}", parameters)]


def reads_a_table(step: str) -> bool:
    return any(step.startswith((f"SCAN {name}", f"SEARCH {name}")) for name in schema.metadata.tables)


@pytest.mark.parametrize(("name", "statement", "index"), LISTED, ids=[name for name, *_ in LISTED])
async def test_every_list_reads_from_its_index_and_never_all_of_a_table(
    store: SqliteStore, name: str, statement: Select[Any], index: str
) -> None:
    """A scan may only follow an index from its start, for a limit ends it; nothing long is sorted."""
    steps = plan(store.path, statement)
    reads = [step for _, step in steps if reads_a_table(step)]
    assert any(f" {sqlite_name(index)}" in step for step in reads), steps
    assert all("INDEX" in step for step in reads), steps
    assert name in WALKS or not [step for step in reads if step.startswith("SCAN")], steps

    reading = {part for part, step in steps if reads_a_table(step)}
    sorts = [(part, step) for part, step in steps if "TEMP B-TREE" in step and "RIGHT PART" not in step]
    assert not [step for part, step in sorts if part in reading], steps


# --- migrations


def test_head_is_the_newest_migration() -> None:
    versions = Path(migrate.__file__).parent / "migrations" / "versions"
    assert max(path.name for path in versions.glob("[0-9]*.py")).split("_")[0] == HEAD


def test_a_migrated_database_has_the_schema_that_the_statements_speak(path: Path, tmp_path: Path) -> None:
    migrate_sqlite(path)
    engine = create_engine(URL.create("sqlite", database=str(path)))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []
    engine.dispose()

    made = tmp_path / "made.db"
    engine = create_engine(URL.create("sqlite", database=str(made)))
    schema.metadata.create_all(engine)
    engine.dispose()
    assert definitions(path) == definitions(made)


def definitions(path: Path) -> dict[str, str]:
    """What SQLite was told to make, partial indexes with their conditions; spelled the same way."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name <> 'alembic_version'"
        ).fetchall()
    return {name: " ".join(sql.split()) for name, sql in rows}


def test_migrating_again_changes_nothing(path: Path) -> None:
    migrate_sqlite(path)
    before = definitions(path)
    migrate_sqlite(path)
    assert definitions(path) == before


async def test_a_database_that_a_newer_version_migrated_is_used_as_it_is(path: Path) -> None:
    migrate_sqlite(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.execute("ALTER TABLE jobs ADD COLUMN colour TEXT DEFAULT 'red'")
    async with SqliteStore.open(path) as store:
        await given(store, a_job(1))
        assert await find(store, job_key(a_job(1).id)) == a_job(1)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]
