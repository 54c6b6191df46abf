"""The language of a decision: which records it needs, and what it wants written.

A *decide* function takes the records that were loaded and returns writes; a store carries out all of
them or none. It is pure and may be called again, so it must recognise that an earlier call of itself
already took effect.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, assert_never

from shared.domain.errors import BrokenInvariant, NotFound
from shared.domain.ids import AccountId, EntryId, JobId
from shared.domain.job import Job
from shared.domain.keys import ApiKey
from shared.domain.ledger import Account, Entry

Record = Job | Account | Entry | ApiKey
R = TypeVar("R", Job, Account, Entry, ApiKey)


@dataclass(frozen=True, slots=True)
class Key(Generic[R]):
    """Where a record lives: its type, its id, and for an entry the account that it belongs to."""

    type: type[R]
    id: str
    parent: str = ""


def job_key(job: JobId) -> Key[Job]:
    return Key(Job, job)


def account_key(account: AccountId) -> Key[Account]:
    return Key(Account, account)


def entry_key(account: AccountId, entry: EntryId) -> Key[Entry]:
    return Key(Entry, entry, account)


def api_key_key(digest: str) -> Key[ApiKey]:
    return Key(ApiKey, digest)


def key_of(record: Record) -> "AnyKey":
    match record:
        case Job():
            return job_key(record.id)
        case Account():
            return account_key(record.id)
        case Entry():
            return entry_key(record.account_id, record.id)
        case ApiKey():
            return api_key_key(record.digest)
        case _:
            assert_never(record)


AnyKey = Key[Job] | Key[Account] | Key[Entry] | Key[ApiKey]


@dataclass(frozen=True, slots=True)
class Put:
    """Replace a record that was among the loaded keys."""

    record: Record


@dataclass(frozen=True, slots=True)
class Create:
    """Write a record that must not exist yet; its key need not have been loaded."""

    record: Record


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a record that was among the loaded keys."""

    key: AnyKey


Write = Put | Create | Delete


class Records(Mapping[AnyKey, Record | None]):
    """The records of some keys as they stood together; `None` where there is none."""

    __slots__ = ("_found",)

    def __init__(self, found: Mapping[AnyKey, Record | None]) -> None:
        self._found = found

    def find(self, key: Key[R]) -> R | None:
        found = self._found[key]
        assert found is None or isinstance(found, key.type)
        return found

    def need(self, key: Key[R]) -> R:
        """The record, or `NotFound`."""
        found = self.find(key)
        if found is None:
            raise NotFound(f"there is no {key.type.__name__.lower()} {key.id}")
        return found

    def __getitem__(self, key: AnyKey) -> Record | None:
        return self._found[key]

    def __iter__(self) -> Iterator[AnyKey]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


Decide = Callable[[Records], Sequence[Write]]


def target_of(write: Write) -> AnyKey:
    return write.key if isinstance(write, Delete) else key_of(write.record)


def require_sound(records: Records, writes: Sequence[Write]) -> None:
    """Hold a decision to the contract before a store carries it out; every store calls this."""
    seen: set[AnyKey] = set()
    for write in writes:
        key = target_of(write)
        if key in seen:
            raise BrokenInvariant(f"a decision writes {key.id} twice")
        seen.add(key)
        loaded = key in records
        if isinstance(write, Create):
            if loaded and records[key] is not None:
                raise BrokenInvariant(f"a decision creates {key.id}, which it saw standing")
        elif not loaded or records[key] is None:
            raise BrokenInvariant(f"a decision replaces or removes {key.id}, which it did not see standing")
