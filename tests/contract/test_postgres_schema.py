"""PostgreSQL reads every list from an index, and its migrations make the schema that the statements speak."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, NullPool, Select, create_engine

from shared.adapters.sql import schema
from shared.adapters.sql.migrate import migrate_postgres
from shared.adapters.sql.postgres import DIALECT, PostgresStore
from shared.adapters.sql.statements import changed_between, rendered
from shared.domain.changes import Create, job_key
from shared.ports.store import JobFilter
from tests.contract.listed import LISTED
from tests.contract.postgres_server import PostgresServer
from tests.support import a_job

pytestmark = pytest.mark.external


# --- query plans

POPULATION = """
    INSERT INTO accounts SELECT 'user_' || n, '{}' FROM generate_series(1, 1000) n;
    INSERT INTO entries
        SELECT 'user_' || n % 100, 'entry_' || n, 'job_' || n, 1, n, '{}' FROM generate_series(1, 5000) n;
    INSERT INTO jobs
        SELECT 'job_' || n, 'user_' || n % 100, 'user_' || n % 100, (ARRAY['image', 'video'])[1 + n % 2],
            (ARRAY['queued', 'draft', 'published', 'failed'])[1 + n % 4], true, 1,
            CASE n % 4 WHEN 0 THEN n END, CASE n % 4 WHEN 2 THEN n END, n, repeat('x', 1500)
        FROM generate_series(1, 5000) n;
    ANALYZE;
"""


@pytest.fixture(scope="module")
def populated(postgres_server: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    """A database with enough in it that reading everything would be dear."""
    url = postgres_server.new_database("populated")
    migrate_postgres(lambda: psycopg.connect(url))
    with psycopg.connect(url, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute(POPULATION)
        yield connection


def steps_of(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from steps_of(part)


def postgres_name(index: str) -> str:
    table, is_key, _ = index.partition(" key")
    return f"{table}_pkey" if is_key else index


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        *(pytest.param(statement, index, id=name) for name, statement, index in LISTED),
        pytest.param(changed_between((2000, "j"), 5000, 500), "jobs_changed", id="changed_between"),
    ],
)
def test_every_list_reads_from_its_index_and_never_all_of_a_table(
    populated: psycopg.Connection[Any], statement: Select[Any], index: str
) -> None:
    """Nothing long is sorted either: an incremental sort orders only what is equal in the index."""
    sql, values = rendered(statement, DIALECT)
    [(answer,)] = populated.execute(f"EXPLAIN (FORMAT json) {sql}", values).fetchall()
    steps = list(steps_of(answer[0]["Plan"]))
    assert postgres_name(index) in {step.get("Index Name") for step in steps}, json.dumps(answer)
    assert {"Seq Scan", "Sort"} & {step["Node Type"] for step in steps} == set(), json.dumps(answer)


# --- migrations


def definitions(url: str) -> set[tuple[str, ...]]:
    """Every column and index as the database describes it, orders of comparison and conditions too."""
    with psycopg.connect(url) as connection:
        columns = connection.execute(
            "SELECT table_name, column_name, data_type, is_nullable, collation_name "
            "FROM information_schema.columns "
            "WHERE table_schema = 'public' AND table_name <> 'alembic_version'"
        ).fetchall()
        indexes = connection.execute(
            "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
        ).fetchall()
    return {*columns, *indexes}


def engine_of(url: str) -> Engine:
    return create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=NullPool)


def test_a_migrated_database_has_the_schema_that_the_statements_speak(
    postgres_server: PostgresServer,
) -> None:
    migrated, made = (postgres_server.new_database(name) for name in ("migrated", "made"))
    migrate_postgres(lambda: psycopg.connect(migrated))
    schema.metadata.create_all(engine_of(made))
    assert definitions(migrated) == definitions(made)

    with engine_of(migrated).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []


async def test_several_stores_may_open_a_new_database_at_once(postgres_server: PostgresServer) -> None:
    url = postgres_server.new_database("new")

    async def use(number: int) -> None:
        async with PostgresStore.open(url) as store:
            await store.change([], lambda _: [Create(a_job(number))])

    await asyncio.gather(*(use(number) for number in range(4)))
    async with PostgresStore.open(url) as store:
        assert (await store.count(JobFilter())).jobs == 4


async def test_a_database_that_a_newer_version_migrated_is_used_as_it_is(
    postgres_server: PostgresServer,
) -> None:
    url = postgres_server.new_database("newer")
    migrate_postgres(lambda: psycopg.connect(url))
    postgres_server.execute("UPDATE alembic_version SET version_num = '9999'", database="newer")
    postgres_server.execute("ALTER TABLE jobs ADD COLUMN colour text DEFAULT 'red'", database="newer")
    before = definitions(url)
    async with PostgresStore.open(url) as store:
        await store.change([], lambda _: [Create(a_job(1))])
        assert (await store.load([job_key(a_job(1).id)])).need(job_key(a_job(1).id)) == a_job(1)
    assert definitions(url) == before
