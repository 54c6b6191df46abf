"""Records as documents, and back. Documents are an interface: frontends listen to them.

What the API shows stands in a document under the API's names; everything else that a record holds, and
what only queries need, in its map `internal`. A field of a record stands in one of the two, never in
both. A newer version may add fields: they survive what this one writes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final
from zlib import crc32

import msgspec
import structlog
from google.cloud.firestore_v1 import types

from shared.adapters.firestore.values import (
    Unholdable,
    from_fields,
    from_json,
    is_name,
    to_json,
    to_nearest,
    to_value,
)
from shared.documents import MediaUrl, feed_document, job_document
from shared.domain.changes import AnyKey, Record
from shared.domain.errors import BrokenInvariant, InvalidRequest, StoreUnavailable
from shared.domain.job import Job
from shared.domain.keys import ApiKey
from shared.domain.ledger import Account, Entry

MAX_BYTES: Final = 1_048_576
"""Of one document, its name included; Firestore refuses more."""
JOBS: Final = "jobs"
ACCOUNTS: Final = "accounts"
ENTRIES: Final = "entries"
FEED: Final = "feed"
API_KEYS: Final = "api_keys"

Document: Final[Any] = types.Document.pb()
_JOB_FIELDS: Final = tuple(field.name for field in fields(Job))
_ANYTHING: Final = ("request", "metadata")
"""Fields of a job that hold whatever somebody sent."""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Written:
    """A document to be written, and the paths of all the fields that this version knows of."""

    document: Any
    known: tuple[str, ...]


class Unreadable(StoreUnavailable):
    """A newer version wrote the document in a way unknown to this one, or somebody by hand."""


class Documents:
    def __init__(self, database: str, *, media_url: MediaUrl, shards: int) -> None:
        """`database` as in `projects/p/databases/(default)`."""
        self.root = f"{database}/documents"
        self._media_url = media_url
        self._shards = shards

    def name_of(self, key: AnyKey) -> str | None:
        """Where the record lies; `None` if Firestore holds no such names, so that it cannot exist."""
        if not can_name(key.id):
            return None
        if key.type is Entry:
            return f"{self.account_name(key.parent)}/{ENTRIES}/{key.id}" if can_name(key.parent) else None
        collection = {Job: JOBS, Account: ACCOUNTS, ApiKey: API_KEYS}[key.type]
        return f"{self.root}/{collection}/{key.id}"

    def account_name(self, account: str) -> str:
        return f"{self.root}/{ACCOUNTS}/{account}"

    def feed_name(self, job: Job) -> str:
        return f"{self.root}/{FEED}/{job.id}"

    def write(self, name: str, record: Record) -> Written:
        """Raises `InvalidRequest` for what is too large, `BrokenInvariant` for what is no record."""
        try:
            shown, internal = self._parts_of(record)
            known = tuple(shown)
            if internal:
                known += tuple(f"internal.{field}" for field in internal)
                shown["internal"] = {k: v for k, v in internal.items() if v is not None}
            return Written(_document(name, shown), known)
        except (TypeError, ValueError) as error:
            raise BrokenInvariant(f"{name.rpartition('/')[2]} cannot be kept: {error}") from error

    def feed_document(self, job: Job) -> Any:
        """What everybody may see of a published job."""
        return _document(self.feed_name(job), to_nearest(_plain(feed_document(job, self._media_url))))

    def _parts_of(self, record: Record) -> tuple[dict[str, Any], dict[str, Any]]:
        """The fields that everybody knows, and the internal ones."""
        match record:
            case Job():
                return self._parts_of_job(record)
            case Account():
                return _plain(record) | {"members": sorted(record.members)}, {}
            case Entry():
                shown = _plain(record)
                shown["account"] = shown.pop("account_id")
                hash_ = shown.pop("request_hash")
                return shown, {
                    "request_hash": hash_,
                    "shard": self.shard_of(record.job_id or record.account_id),
                }
            case ApiKey():
                return _plain(record) | {"scopes": sorted(record.scopes)}, {}

    def _parts_of_job(self, job: Job) -> tuple[dict[str, Any], dict[str, Any]]:
        shown, whole = _plain(job_document(job, self._media_url)), _plain(job)
        internal = {name: whole[name] for name in _JOB_FIELDS if name not in shown}
        internal["media_keys"] = [media.key for media in job.media]
        internal["shard"] = self.shard_of(job.id)
        internal["visible"] = job.is_visible
        exact = {}
        for name in _ANYTHING:
            try:
                to_value(whole[name], depth=1)
            except Unholdable:
                exact[name] = to_json(whole[name])
                shown[name] = to_nearest(whole[name], depth=1)
        if exact:
            shown["prompt"] = to_nearest(shown["prompt"])
        internal["exact"] = exact or None
        return shown, internal

    def shard_of(self, id_: str) -> int:
        """One of the ranges into which the indexes are cut, so that ids and times that only grow do not
        all meet at the end of one."""
        return crc32(id_.encode()) % self._shards

    def read(self, type_: type[Any], document: Any) -> Any:
        """The record in a document; raises `Unreadable`."""
        try:
            found = from_fields(document.fields)
            internal = found.pop("internal", {})
            known = {**internal, **found}
            if type_ is Entry:
                known["account_id"] = found["account"]
            if type_ is Job:
                _complete_job(known)
            return msgspec.convert(known, type_)
        except (msgspec.MsgspecError, LookupError, TypeError, ValueError) as error:
            raise Unreadable(f"{document.name} is not written as this version knows it: {error}") from error

    def readable_jobs(self, documents: Iterable[Any]) -> Iterator[Job]:
        """But for those that a newer version wrote in a way unknown to this one, which looks after them."""
        for document in documents:
            try:
                yield self.read(Job, document)
            except Unreadable as error:
                _log.error("store.unreadable_job", error=error.message)


def _complete_job(known: dict[str, Any]) -> None:
    """Put together again what stands in two places."""
    media = zip(known["media"], known["media_keys"], strict=True)
    known["media"] = [shown | {"key": key} for shown, key in media]
    for name, text in known.get("exact", {}).items():
        known[name] = from_json(text)


def can_name(id_: str) -> bool:
    """Whether a document can have that id."""
    return is_name(id_) and "/" not in id_ and id_ not in (".", "..")


def _plain(value: Any) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(value, builtin_types=(datetime,))
    return plain


def _document(name: str, content: dict[str, Any]) -> Any:
    document = Document(name=name)
    for field, value in content.items():
        document.fields[field].CopyFrom(to_value(value, depth=1))
    size = document.ByteSize()
    if size > MAX_BYTES:
        id_ = name.rpartition("/")[2]
        raise InvalidRequest(f"{id_} would take {size:,} bytes, more than the {MAX_BYTES:,} that can be kept")
    return document
