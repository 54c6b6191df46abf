"""Records as rows, and back."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
import structlog
from sqlalchemy import Table

from shared.adapters.instants import microseconds
from shared.adapters.sql import schema
from shared.domain.changes import AnyKey, Record
from shared.domain.job import Job
from shared.domain.keys import ApiKey
from shared.domain.ledger import Account, Entry

TABLES: Final[Mapping[type[Any], Table]] = {
    Job: schema.jobs,
    Account: schema.accounts,
    Entry: schema.entries,
    ApiKey: schema.api_keys,
}

_log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode
_decoders: Final = {type_: msgspec.json.Decoder(type_) for type_ in TABLES}


def identity(key: AnyKey) -> dict[str, str]:
    """The primary key's columns, as parameters of a statement (see `statements`)."""
    if key.type is Entry:
        return {"key_account_id": key.parent, "key_id": key.id}
    if key.type is ApiKey:
        return {"key_digest": key.id}
    return {"key_id": key.id}


def to_row(record: Record, *, changed: int) -> dict[str, Any]:
    """The columns of a record; `changed` is the place of a job's write among all writes of jobs."""
    body = _encode(record).decode()
    match record:
        case Job():
            return {
                "id": record.id,
                "account_id": record.account_id,
                "user_id": record.user_id,
                "kind": record.kind,
                "status": str(record.status),
                "listed": record.is_visible,
                "cost": record.cost,
                "wake_at": microseconds(record.wake_at) if record.wake_at else None,
                "published_at": microseconds(record.published_at) if record.published_at else None,
                "changed": changed,
                "body": body,
            }
        case Account():
            return {"id": record.id, "body": body}
        case Entry():
            return {
                "account_id": record.account_id,
                "id": record.id,
                "job_id": record.job_id,
                "tokens": record.tokens,
                "created_at": microseconds(record.created_at),
                "body": body,
            }
        case ApiKey():
            return {"digest": record.digest, "created_at": microseconds(record.created_at), "body": body}


def readable_jobs(rows: Iterable[Any]) -> Iterator[Job]:
    """The jobs of rows with a `body`, but for those that a newer version wrote in a way unknown to this one.

    One such row must not hide the others from the sweep, the lists and the watchers; the newer version
    looks after it.
    """
    for row in rows:
        try:
            yield from_body(Job, row.body)
        except msgspec.MsgspecError as error:
            _log.error("store.unreadable_job", error=str(error))


def from_body(type_: type[Any], body: str) -> Any:
    return _decoders[type_].decode(body)
