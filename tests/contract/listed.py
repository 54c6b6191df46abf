"""Every list of the store as its statement, and the index that must answer it, on both databases."""

from typing import Any

from sqlalchemy import Select

from shared.adapters.cursors import encode_cursor
from shared.adapters.sql import statements
from shared.domain.ids import AccountId, JobId
from shared.domain.job import UNFINISHED, Kind, Status
from shared.ports.store import JobFilter
from tests.support import ADA, NOON

BY_ID, BY_TIME = encode_cursor("m"), encode_cursor(1_700_000_000_000_000, "m")
LISTED: list[tuple[str, Select[Any], str]] = [
    ("due", statements.due(NOON, 100), "jobs_due"),
    ("more that is due", statements.due(NOON, 100, (5, "job_1")), "jobs_due"),
    ("next_wake", statements.NEXT_WAKE, "jobs_due"),
    ("changed_since", statements.changed_since(5, 10), "jobs_changed"),
    ("last_changed", statements.LAST_CHANGED, "jobs_changed"),
    ("feed", statements.feed(10, None), "jobs_feed"),
    ("entries", statements.list_entries(AccountId(ADA), 10, None), "entries_of_account"),
    ("entries_of", statements.entries_of([JobId("a"), JobId("b")]), "entries_of_job"),
    (
        "what an account holds",
        statements.count_jobs(JobFilter(account_id=AccountId(ADA), statuses=UNFINISHED)),
        "jobs_held",
    ),
    (
        "what an account has queued",
        statements.count_jobs(JobFilter(account_id=AccountId(ADA), statuses=frozenset({Status.QUEUED}))),
        "jobs_held",
    ),
    ("all jobs", statements.list_jobs(JobFilter(), 10, None), "jobs key"),
    ("a user's jobs", statements.list_jobs(JobFilter(user_id=ADA), 10, None), "jobs_of_user"),
    (
        "a user's jobs paid by an account",
        statements.list_jobs(JobFilter(user_id=ADA, account_id=AccountId("team")), 10, None),
        "jobs_of_user",
    ),
    (
        "a user's jobs by kind",
        statements.list_jobs(JobFilter(user_id=ADA, kinds=frozenset({Kind.IMAGE})), 10, None),
        "jobs_of_user_by_status",
    ),
    (
        "a user's jobs by status",
        statements.list_jobs(JobFilter(user_id=ADA, statuses=frozenset({Status.FAILED})), 10, None),
        "jobs_of_user_by_status",
    ),
    ("balances", statements.balances(10, None), "accounts key"),
    ("more of all jobs", statements.list_jobs(JobFilter(), 10, BY_ID), "jobs key"),
    ("more of a user's jobs", statements.list_jobs(JobFilter(user_id=ADA), 10, BY_ID), "jobs_of_user"),
    (
        "more of a user's jobs by kind and status",
        statements.list_jobs(
            JobFilter(user_id=ADA, kinds=frozenset({Kind.IMAGE}), statuses=UNFINISHED), 10, BY_ID
        ),
        "jobs_of_user_by_status",
    ),
    ("more of the feed", statements.feed(10, BY_TIME), "jobs_feed"),
    ("more entries", statements.list_entries(AccountId(ADA), 10, BY_TIME), "entries_of_account"),
    ("more balances", statements.balances(10, BY_ID), "accounts key"),
]


WALKS = ("all jobs", "balances", "feed", "next_wake", "due", "more that is due")
"""These follow an index from its start: a limit ends them."""
