"""The adapters that must keep the media port's contract, and keys and prefixes that are not ours."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final, Protocol

import pytest

from shared.adapters.media.local_disk import LocalDisk
from shared.domain.ids import ClaimToken, JobId
from shared.ports.media import MediaStore, media_key
from tests.contract.s3_server import KEY_ID, SECRET, S3Server
from tests.support import MemoryMedia

JOB, OTHER_JOB = JobId("job_00000000000000000000000001"), JobId("job_00000000000000000000000002")
TOKEN, OTHER_TOKEN = ClaimToken("0" * 32), ClaimToken("f" * 32)
KEY: Final = media_key(JOB, TOKEN, 0, "image/png")
LARGE: Final = bytes(range(256)) * 10_000

BAD_KEYS: Final = [
    "",
    "0.png",
    f"{JOB}/0.png",
    f"{JOB}/{TOKEN}/0",
    f"{JOB}/{TOKEN}/0.html",
    f"{JOB}/{TOKEN}/0.png\n",
    f"{JOB}/{TOKEN}/../0.png",
    f"../{JOB}/{TOKEN}/0.png",
    f"/{JOB}/{TOKEN}/0.png",
    f"{JOB}/{OTHER_TOKEN.upper()}/0.png",
    f"{JOB}/{TOKEN}/123456.png",
    f"{JOB}/{TOKEN}/\u0663.png",
    f"{JOB}/{TOKEN}/.5ca1ab1e",
]
BAD_PREFIXES: Final = [
    "",
    "/",
    "..",
    "../",
    f"{JOB}",
    f"{JOB}/..",
    f"{JOB}/../",
    "job_1/",
    f"{JOB}/{TOKEN}",
    f"{JOB}//",
    f"/{JOB}/",
    "*/",
]


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


class MediaAdapter(Protocol):
    @property
    def store(self) -> MediaStore: ...

    def keys(self) -> set[str]:
        """Everything that is stored, half-written files too."""

    def read(self, key: str) -> bytes: ...


class InMemory:
    def __init__(self) -> None:
        self.store = MemoryMedia()

    def keys(self) -> set[str]:
        return set(self.store.objects)

    def read(self, key: str) -> bytes:
        return self.store.objects[key]


class OnDisk:
    def __init__(self, home: Path) -> None:
        self._root = home / "media"
        self.store = LocalDisk(self._root)

    def keys(self) -> set[str]:
        return files(self._root)

    def read(self, key: str) -> bytes:
        return (self._root / key).read_bytes()


class InBucket:
    def __init__(self, store: MediaStore, server: S3Server, bucket: str) -> None:
        self.store = store
        self._server = server
        self._bucket = bucket

    def keys(self) -> set[str]:
        return self._server.keys(self._bucket)

    def read(self, key: str) -> bytes:
        return self._server.read(self._bucket, key)


@asynccontextmanager
async def in_memory(request: pytest.FixtureRequest) -> AsyncIterator[MediaAdapter]:
    yield InMemory()


@asynccontextmanager
async def on_disk(request: pytest.FixtureRequest) -> AsyncIterator[MediaAdapter]:
    yield OnDisk(request.getfixturevalue("tmp_path"))


@asynccontextmanager
async def in_bucket(request: pytest.FixtureRequest) -> AsyncIterator[MediaAdapter]:
    """Tests share one server; each has a bucket of its own."""
    from shared.adapters.media.s3 import S3Media

    server: S3Server = request.getfixturevalue("s3_server")
    bucket = server.a_bucket()
    async with S3Media.open(
        bucket, endpoint=server.address, region=None, access_key_id=KEY_ID, secret_access_key=SECRET
    ) as store:
        yield InBucket(store, server, bucket)


ADAPTERS: Final[dict[str, Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[MediaAdapter]]]] = {
    "memory": in_memory,
    "local_disk": on_disk,
    "s3": in_bucket,
}
REAL: Final = ("local_disk", "s3")
