"""The first schema: jobs, accounts, entries, API keys."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_UNFINISHED = sa.text("wake_at IS NOT NULL")
_PUBLISHED = sa.text("published_at IS NOT NULL")
_LISTED = sa.text("listed")
_LISTED_SQLITE = sa.text("listed = 1")


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", _NAME, primary_key=True),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_table(
        "api_keys",
        sa.Column("digest", _NAME, primary_key=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_table(
        "entries",
        sa.Column("account_id", _NAME, nullable=False),
        sa.Column("id", _NAME, nullable=False),
        sa.Column("job_id", _NAME),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "id"),
    )
    op.create_index("entries_of_account", "entries", ["account_id", "created_at", "id"])
    op.create_index("entries_of_job", "entries", ["job_id"])
    op.create_table(
        "jobs",
        sa.Column("id", _NAME, primary_key=True),
        sa.Column("account_id", _NAME, nullable=False),
        sa.Column("user_id", _NAME, nullable=False),
        sa.Column("kind", _NAME, nullable=False),
        sa.Column("status", _NAME, nullable=False),
        sa.Column("listed", sa.Boolean, nullable=False),
        sa.Column("cost", sa.BigInteger, nullable=False),
        sa.Column("wake_at", sa.BigInteger),
        sa.Column("published_at", sa.BigInteger),
        sa.Column("changed", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("jobs_changed", "jobs", ["changed"])
    op.create_index("jobs_due", "jobs", ["wake_at"], sqlite_where=_UNFINISHED, postgresql_where=_UNFINISHED)
    op.create_index(
        "jobs_held", "jobs", ["account_id"], sqlite_where=_UNFINISHED, postgresql_where=_UNFINISHED
    )
    op.create_index(
        "jobs_feed", "jobs", ["published_at", "id"], sqlite_where=_PUBLISHED, postgresql_where=_PUBLISHED
    )
    op.create_index(
        "jobs_of_user", "jobs", ["user_id", "id"], sqlite_where=_LISTED_SQLITE, postgresql_where=_LISTED
    )
    op.create_index(
        "jobs_of_user_by_status",
        "jobs",
        ["user_id", "kind", "status", "id"],
        sqlite_where=_LISTED_SQLITE,
        postgresql_where=_LISTED,
    )
