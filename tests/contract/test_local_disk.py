"""The local disk's own, beside the contract of its port."""

import asyncio
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from shared.adapters.media.local_disk import LocalDisk
from shared.domain.errors import MediaUnavailable
from shared.ports.media import media_key
from tests.contract.media_adapters import (
    BAD_KEYS,
    BAD_PREFIXES,
    JOB,
    KEY,
    LARGE,
    OTHER_JOB,
    TOKEN,
    files,
)


def folder(path: Path, mode: int = 0o700) -> Path:
    path.mkdir(mode)
    return path


def are_together(path: Path, other: Path) -> bool:
    """Whether they are on one file system."""
    return path.stat().st_dev == other.stat().st_dev


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "media"


@pytest.fixture
def disk(root: Path) -> LocalDisk:
    return LocalDisk(root)


@pytest.mark.parametrize("key", BAD_KEYS)
async def test_only_media_keys_are_found(disk: LocalDisk, key: str) -> None:
    await disk.save(KEY, b"x", type_="image/png")
    assert disk.find(KEY) is not None
    assert disk.find(key) is None


@pytest.mark.parametrize("prefix", BAD_PREFIXES)
async def test_no_prefix_leads_out_of_the_folder(disk: LocalDisk, tmp_path: Path, prefix: str) -> None:
    await disk.save(KEY, b"x", type_="image/png")
    (tmp_path / "outside").write_bytes(b"y")
    with pytest.raises(ValueError, match="not a prefix"):
        await disk.delete_prefix(prefix)
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


async def test_a_folder_that_cannot_be_one_is_unavailable_for_everything(tmp_path: Path) -> None:
    (tmp_path / "media").write_bytes(b"a file, where the folder should be")
    disk = LocalDisk(tmp_path / "media")
    with pytest.raises(MediaUnavailable, match="cannot write"):
        await disk.check()
    with pytest.raises(MediaUnavailable, match="cannot store"):
        await disk.save(KEY, b"x", type_="image/png")
    assert disk.find(KEY) is None


async def test_a_read_only_folder_is_unavailable(root: Path) -> None:
    # Root may write everywhere, but for what the kernel only shows.
    disk = LocalDisk(Path("/proc/media") if os.geteuid() == 0 else folder(root, mode=0o500))
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
