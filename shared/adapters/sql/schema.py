"""The tables. A record is kept whole as JSON in `body`; the other columns are what queries need.

Every index serves one query, named above it; a job's partial indexes hold it only while the query could
want it, so finished and deleted jobs cost the sweep and the lists nothing.
"""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, MetaData, PrimaryKeyConstraint, Table, Text, text

metadata = MetaData()

NAME: Final = Text().with_variant(Text(collation="C"), "postgresql")
"""Compared byte by byte, as SQLite and Python do; a database's own order depends on its locale."""

jobs: Final = Table(
    "jobs",
    metadata,
    Column("id", NAME, primary_key=True),
    Column("account_id", NAME, nullable=False),
    Column("user_id", NAME, nullable=False),
    Column("kind", NAME, nullable=False),
    Column("status", NAME, nullable=False),
    Column("listed", Boolean, nullable=False),
    Column("cost", BigInteger, nullable=False),
    Column("wake_at", BigInteger),
    Column("published_at", BigInteger),
    Column("changed", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)

_UNFINISHED: Final = text("wake_at IS NOT NULL")
_LISTED: Final = text("listed")
_LISTED_SQLITE: Final = text(
    "listed = 1"
)  # as SQLAlchemy writes the condition there, or the index is not used
_PUBLISHED: Final = text("published_at IS NOT NULL")

# due, next_wake
Index("jobs_due", jobs.c.wake_at, sqlite_where=_UNFINISHED, postgresql_where=_UNFINISHED)
# count of an account's unfinished jobs: what it holds
Index("jobs_held", jobs.c.account_id, sqlite_where=_UNFINISHED, postgresql_where=_UNFINISHED)
# a user's list
Index("jobs_of_user", jobs.c.user_id, jobs.c.id, sqlite_where=_LISTED_SQLITE, postgresql_where=_LISTED)
# a user's list by kind and status
Index(
    "jobs_of_user_by_status",
    jobs.c.user_id,
    jobs.c.kind,
    jobs.c.status,
    jobs.c.id,
    sqlite_where=_LISTED_SQLITE,
    postgresql_where=_LISTED,
)
# feed
Index("jobs_feed", jobs.c.published_at, jobs.c.id, sqlite_where=_PUBLISHED, postgresql_where=_PUBLISHED)
# watch: `changed` counts up with every write of any job
Index("jobs_changed", jobs.c.changed)

accounts: Final = Table(
    "accounts",
    metadata,
    Column("id", NAME, primary_key=True),
    Column("body", Text, nullable=False),
)

entries: Final = Table(
    "entries",
    metadata,
    Column("account_id", NAME, nullable=False),
    Column("id", NAME, nullable=False),
    Column("job_id", NAME),
    Column("tokens", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    PrimaryKeyConstraint("account_id", "id"),
)
# an account's ledger
Index("entries_of_account", entries.c.account_id, entries.c.created_at, entries.c.id)
# the entries of a job, for the audit
Index("entries_of_job", entries.c.job_id)

api_keys: Final = Table(
    "api_keys",
    metadata,
    Column("digest", NAME, primary_key=True),
    Column("created_at", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)
