"""The media port's contract, over every adapter; then what is the local disk's own."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

import pytest

from shared.adapters.media.local_disk import LocalDisk
from shared.domain.errors import MediaUnavailable
from shared.domain.ids import ClaimToken, JobId
from shared.ports.media import EXTENSIONS, MediaStore, is_media_key, media_key
from tests.support import MemoryMedia

JOB, OTHER_JOB = JobId("job_00000000000000000000000001"), JobId("job_00000000000000000000000002")
TOKEN, OTHER_TOKEN = ClaimToken("0" * 32), ClaimToken("f" * 32)
KEY: Final = media_key(JOB, TOKEN, 0, "image/png")
LARGE: Final = bytes(range(256)) * 10_000


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def folder(path: Path, mode: int = 0o700) -> Path:
    path.mkdir(mode)
    return path


def are_together(path: Path, other: Path) -> bool:
    """Whether they are on one file system."""
    return path.stat().st_dev == other.stat().st_dev


class MediaAdapter(Protocol):
    store: MediaStore

    def keys(self) -> set[str]:
        """Everything that is stored, half-written files too."""

    def read(self, key: str) -> bytes: ...


class InMemory:
    def __init__(self, home: Path) -> None:
        self._media = MemoryMedia()
        self.store: MediaStore = self._media

    def keys(self) -> set[str]:
        return set(self._media.objects)

    def read(self, key: str) -> bytes:
        return self._media.objects[key]


class OnDisk:
    def __init__(self, home: Path) -> None:
        self._root = home / "media"
        self.store: MediaStore = LocalDisk(self._root)

    def keys(self) -> set[str]:
        return files(self._root)

    def read(self, key: str) -> bytes:
        return (self._root / key).read_bytes()


ADAPTERS: Final[dict[str, Callable[[Path], MediaAdapter]]] = {"memory": InMemory, "local_disk": OnDisk}


@pytest.fixture(params=list(ADAPTERS))
def media(request: pytest.FixtureRequest, tmp_path: Path) -> MediaAdapter:
    return ADAPTERS[request.param](tmp_path)


# The contract.


@pytest.mark.parametrize("type_", EXTENSIONS)
async def test_what_is_saved_is_there_byte_for_byte(media: MediaAdapter, type_: str) -> None:
    key = media_key(JOB, TOKEN, 3, type_)
    await media.store.save(key, LARGE, type_=type_)
    assert media.keys() == {key}
    assert media.read(key) == LARGE


async def test_a_film_is_saved_from_its_file_which_its_owner_may_then_remove(
    media: MediaAdapter, tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(LARGE)
    key = media_key(JOB, TOKEN, 0, "video/mp4")
    await media.store.save(key, film, type_="video/mp4")
    film.unlink()
    assert media.read(key) == LARGE


async def test_nothing_that_is_saved_is_ever_replaced(media: MediaAdapter) -> None:
    await media.store.save(KEY, b"the first", type_="image/png")
    with suppress(MediaUnavailable, AssertionError):
        await media.store.save(KEY, b"another", type_="image/png")
    assert media.read(KEY) == b"the first"
    assert media.keys() == {KEY}


async def test_of_many_that_save_one_key_at_once_one_wins_whole(media: MediaAdapter) -> None:
    contents = [bytes([number]) * 50_000 for number in range(8)]
    saves = (media.store.save(KEY, content, type_="image/png") for content in contents)
    outcomes = await asyncio.gather(*saves, return_exceptions=True)
    assert [outcome for outcome in outcomes if outcome is None] == [None]
    assert media.read(KEY) in contents
    assert media.keys() == {KEY}


async def test_everything_under_a_jobs_prefix_is_deleted_and_nothing_else(media: MediaAdapter) -> None:
    hers = [media_key(JOB, token, number, "image/png") for token in (TOKEN, OTHER_TOKEN) for number in (0, 1)]
    his = media_key(OTHER_JOB, TOKEN, 0, "image/png")
    for key in (*hers, his):
        await media.store.save(key, b"a picture", type_="image/png")

    for _ in range(2):
        await media.store.delete_prefix(f"{JOB}/")
        assert media.keys() == {his}


async def test_what_one_claim_stored_is_deleted_by_its_prefix_alone(media: MediaAdapter) -> None:
    kept = media_key(JOB, OTHER_TOKEN, 0, "image/png")
    for key in (KEY, kept):
        await media.store.save(key, b"a picture", type_="image/png")
    await media.store.delete_prefix(f"{JOB}/{TOKEN}/")
    assert media.keys() == {kept}


@pytest.mark.parametrize("prefix", [f"{JOB}/", f"{JOB}/{TOKEN}/", f"{JOB}:erasure/{TOKEN}/"])
async def test_deleting_where_nothing_was_stored_is_no_error(media: MediaAdapter, prefix: str) -> None:
    """Internal jobs store nothing, and their turns are cleaned up after like any other."""
    await media.store.delete_prefix(prefix)
    assert media.keys() == set()


async def test_a_key_can_be_saved_again_after_it_was_deleted(media: MediaAdapter) -> None:
    for content in (b"once", b"again"):
        await media.store.save(KEY, content, type_="image/png")
        assert media.read(KEY) == content
        await media.store.delete_prefix(f"{JOB}/")


async def test_a_store_that_works_passes_its_check_and_keeps_nothing_of_it(media: MediaAdapter) -> None:
    for _ in range(2):
        await media.store.check()
    assert media.keys() == set()


def test_every_key_that_we_make_is_a_media_key() -> None:
    assert all(
        is_media_key(media_key(JOB, TOKEN, number, type_)) for type_ in EXTENSIONS for number in (0, 1003)
    )


# The local disk's own.


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "media"


@pytest.fixture
def disk(root: Path) -> LocalDisk:
    return LocalDisk(root)


BAD_KEYS = [
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


@pytest.mark.parametrize("key", BAD_KEYS)
async def test_only_media_keys_are_saved_and_found(disk: LocalDisk, root: Path, key: str) -> None:
    with pytest.raises(ValueError, match="not a media key"):
        await disk.save(key, b"x", type_="image/png")
    assert files(root) == set()
    assert disk.find(key) is None


@pytest.mark.parametrize(
    "prefix",
    [
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
    ],
)
async def test_only_a_jobs_or_a_claims_prefix_is_deleted(
    disk: LocalDisk, root: Path, tmp_path: Path, prefix: str
) -> None:
    await disk.save(KEY, b"x", type_="image/png")
    (tmp_path / "outside").write_bytes(b"y")
    with pytest.raises(ValueError, match="not a prefix"):
        await disk.delete_prefix(prefix)
    assert (root / KEY).exists()
    assert (tmp_path / "outside").exists()


async def test_a_link_out_of_the_folder_is_not_followed_when_deleting(
    disk: LocalDisk, root: Path, tmp_path: Path
) -> None:
    outside = folder(tmp_path / "outside")
    (outside / "kept").write_bytes(b"y")
    (folder(root) / JOB).symlink_to(outside)
    with suppress(MediaUnavailable):
        await disk.delete_prefix(f"{JOB}/")
    assert (outside / "kept").read_bytes() == b"y"


async def test_a_saved_file_is_found_by_its_key(disk: LocalDisk, root: Path) -> None:
    assert disk.find(KEY) is None
    await disk.save(KEY, b"x", type_="image/png")
    assert disk.find(KEY) == root / KEY


async def test_a_film_from_another_file_system_is_copied(disk: LocalDisk, root: Path, tmp_path: Path) -> None:
    memory = Path("/dev/shm")  # noqa: S108 - rarely the file system of tmp_path
    if not os.access(memory, os.W_OK) or are_together(memory, tmp_path):
        pytest.skip("there is no second file system to write to")
    film = memory / f"mediaforge-test-{os.getpid()}.mp4"
    film.write_bytes(LARGE)
    try:
        await disk.save(media_key(JOB, TOKEN, 0, "video/mp4"), film, type_="video/mp4")
    finally:
        film.unlink()
    assert (root / media_key(JOB, TOKEN, 0, "video/mp4")).read_bytes() == LARGE


async def test_a_film_that_is_not_there_is_not_stored(disk: LocalDisk, root: Path, tmp_path: Path) -> None:
    with pytest.raises(MediaUnavailable):
        await disk.save(KEY, tmp_path / "missing.mp4", type_="video/mp4")
    assert files(root) == set()


async def test_a_folder_that_cannot_be_one_is_unavailable_for_everything(tmp_path: Path) -> None:
    (tmp_path / "media").write_bytes(b"a file, where the folder should be")
    disk = LocalDisk(tmp_path / "media")
    with pytest.raises(MediaUnavailable, match="cannot write"):
        await disk.check()
    with pytest.raises(MediaUnavailable, match="cannot store"):
        await disk.save(KEY, b"x", type_="image/png")
    assert disk.find(KEY) is None


async def test_a_read_only_folder_is_unavailable(disk: LocalDisk, root: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    folder(root, mode=0o500)
    with pytest.raises(MediaUnavailable):
        await disk.check()
    with pytest.raises(MediaUnavailable):
        await disk.save(KEY, b"x", type_="image/png")


FULL = """
import asyncio, resource, sys
from pathlib import Path
from shared.adapters.media.local_disk import LocalDisk
from shared.domain.errors import MediaUnavailable

resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
disk = LocalDisk(Path(sys.argv[1]))
asyncio.run(disk.save(sys.argv[2], b"x" * 40_000, type_="image/png"))
try:
    asyncio.run(disk.save(sys.argv[3], b"x" * 60_000, type_="image/png"))
except MediaUnavailable as error:
    print(error.message)
"""


async def test_a_disk_that_is_full_halfway_leaves_nothing_that_looks_like_a_picture(root: Path) -> None:
    fits, too_large = KEY, media_key(OTHER_JOB, TOKEN, 0, "image/png")
    command = [sys.executable, "-c", FULL, str(root), fits, too_large]
    run = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
    assert run.stdout.startswith(f"cannot store {too_large}: ")
    assert files(root) == {fits}
