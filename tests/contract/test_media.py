"""The media port's contract, over every adapter."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from shared.domain.errors import MediaUnavailable
from shared.ports.media import EXTENSIONS, is_media_key, media_key
from tests.contract.media_adapters import (
    ADAPTERS,
    BAD_KEYS,
    BAD_PREFIXES,
    JOB,
    KEY,
    LARGE,
    OTHER_JOB,
    OTHER_TOKEN,
    REAL,
    TOKEN,
    MediaAdapter,
)
from tests.contract.s3_server import S3Server, an_s3_server


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3Server]:
    with an_s3_server() as server:
        yield server


@pytest.fixture(params=list(ADAPTERS))
async def media(request: pytest.FixtureRequest) -> AsyncIterator[MediaAdapter]:
    async with ADAPTERS[request.param](request) as adapter:
        yield adapter


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


async def test_a_film_that_is_not_there_is_not_stored(media: MediaAdapter, tmp_path: Path) -> None:
    with pytest.raises((MediaUnavailable, FileNotFoundError)):
        await media.store.save(KEY, tmp_path / "missing.mp4", type_="video/mp4")
    assert media.keys() == set()


@pytest.mark.parametrize("media", REAL, indirect=True)
@pytest.mark.parametrize("key", BAD_KEYS)
async def test_only_media_keys_are_saved(media: MediaAdapter, key: str) -> None:
    with pytest.raises(ValueError, match="not a media key"):
        await media.store.save(key, b"x", type_="image/png")
    assert media.keys() == set()


@pytest.mark.parametrize("media", REAL, indirect=True)
@pytest.mark.parametrize("prefix", BAD_PREFIXES)
async def test_only_a_jobs_or_a_claims_prefix_is_deleted(media: MediaAdapter, prefix: str) -> None:
    await media.store.save(KEY, b"x", type_="image/png")
    with pytest.raises(ValueError, match="not a prefix"):
        await media.store.delete_prefix(prefix)
    assert media.keys() == {KEY}


def test_every_key_that_we_make_is_a_media_key() -> None:
    assert all(
        is_media_key(media_key(JOB, TOKEN, number, type_)) for type_ in EXTENSIONS for number in (0, 1003)
    )
