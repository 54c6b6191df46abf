"""Long operations that outlive the process: one small file for each, as a provider would keep them.

    home/operations/local_<32 hex digits>.json

Beside them the operations file, if one is wanted: a line for every order that was taken, so that a test
can tell whether something was bought twice.
"""

import contextlib
import os
import re
import tempfile
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from shared.domain.requests import VideoRequest

KEPT_FOR: Final = timedelta(days=2)

# References come back from outside and become file names.
_REFERENCE: Final = re.compile(r"local_[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    id: str
    job_id: str
    request: VideoRequest
    started_at: datetime
    seconds: float
    """How long it takes, whatever the renderer's latency is later."""
    fails: bool

    def progress(self, now: datetime) -> int:
        """0 to 100; a clock that went backwards is at the start."""
        elapsed = (now - self.started_at).total_seconds()
        if elapsed >= self.seconds:
            return 100
        return min(99, max(0, int(100 * elapsed / self.seconds)))

    def remaining_seconds(self, now: datetime) -> float:
        return max(0.0, self.seconds - (now - self.started_at).total_seconds())


class Operations:
    """The records under a home; every method blocks on the disk."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "operations"

    def save(self, operation: Operation) -> None:
        """Return once the record would survive a power cut."""
        self._folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=self._folder, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.encode(operation))
                file.flush()
                os.fsync(file.fileno())
            # Records age by the clock that is used everywhere else, not by the file system's.
            set_age(Path(temporary), operation.started_at)
            Path(temporary).replace(self._path(operation.id))
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        _sync_folder(self._folder)

    def find(self, reference: str) -> Operation | None:
        """The operation, unless the reference is not one of ours, is gone, or cannot be read any more."""
        if not _REFERENCE.fullmatch(reference):
            return None
        try:
            operation = msgspec.json.decode(self._path(reference).read_bytes(), type=Operation)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return operation if operation.id == reference else None

    def remove(self, reference: str) -> None:
        if _REFERENCE.fullmatch(reference):
            self._path(reference).unlink(missing_ok=True)

    def prune(self, now: datetime) -> None:
        """Remove what nobody will ask about any more, and what a crash left half written."""
        remove_old(self._folder, ("*.json", "*.part"), now - KEPT_FOR)

    def _path(self, reference: str) -> Path:
        return self._folder / f"{reference}.json"


def new_reference(noise: bytes) -> str:
    return f"local_{noise[:16].hex()}"


def count_order(operations_file: Path, job_id: str, operation_id: str, kind: str) -> None:
    """Append a line in one write, so that lines of several processes never mix."""
    operations_file.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(operations_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, f"{job_id} {operation_id} {kind}\n".encode())
    finally:
        os.close(handle)


def set_age(path: Path, made_at: datetime) -> None:
    os.utime(path, (made_at.timestamp(), made_at.timestamp()))


def remove_old(folder: Path, patterns: tuple[str, ...], before: datetime) -> None:
    for pattern in patterns:
        for path in folder.glob(pattern):
            # Another process may be removing the same file.
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < before.timestamp():
                    path.unlink()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
