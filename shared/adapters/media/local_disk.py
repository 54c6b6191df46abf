"""Media as files of this machine; the gateway serves them."""

import asyncio
import errno
import os
import shutil
import uuid
from pathlib import Path

from shared.domain.errors import MediaUnavailable
from shared.ports.media import is_media_key, is_media_prefix


class LocalDisk:
    """A file is complete and on the disk before its name exists, and its name never means another file."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def save(self, key: str, content: bytes | Path, *, type_: str) -> None:
        if not is_media_key(key):
            raise ValueError(f"not a media key: {key}")
        try:
            await asyncio.to_thread(_save, self._root / key, content, self._root)
        except OSError as error:
            raise MediaUnavailable(f"cannot store {key}: {error.strerror or error}") from error

    async def delete_prefix(self, prefix: str) -> None:
        if not is_media_prefix(prefix):
            raise ValueError(f"not a prefix of media keys: {prefix}")
        try:
            await asyncio.to_thread(_remove, self._root / prefix)
        except OSError as error:
            raise MediaUnavailable(f"cannot remove {prefix}: {error.strerror or error}") from error

    async def check(self) -> None:
        try:
            await asyncio.to_thread(_try_writing, self._root)
        except OSError as error:
            raise MediaUnavailable(f"cannot write to {self._root}: {error.strerror or error}") from error

    def find(self, key: str) -> Path | None:
        """The file behind a key that came from outside, if it is one of ours."""
        path = self._root / key
        return path if is_media_key(key) and path.is_file() else None


def _save(path: Path, content: bytes | Path, root: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}")
    try:
        if isinstance(content, bytes):
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        else:
            _take(content, temporary)
        os.link(temporary, path)  # unlike a rename, this never replaces
    finally:
        temporary.unlink(missing_ok=True)
    for folder in (path.parent, path.parent.parent, root):
        _sync_folder(folder)


def _take(source: Path, target: Path) -> None:
    """Give the file a second name where that is possible, for a film need not be copied."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
            raise
        shutil.copyfile(source, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    if folder.parent.exists():
        _sync_folder(folder.parent)


def _try_writing(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    probe = root / f".probe-{uuid.uuid4().hex}"
    try:
        probe.write_bytes(b"probe")
    finally:
        probe.unlink(missing_ok=True)
