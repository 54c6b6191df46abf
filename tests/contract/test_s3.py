"""What is S3's own, beside the contract of its port: what the wire does to it, and what is left behind."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from shared.adapters.media.s3 import CACHE_CONTROL, PARTS_AT_ONCE, S3Media
from shared.adapters.media.s3_transport import Patience
from shared.domain.errors import MediaUnavailable
from shared.ports.media import media_key
from tests.contract.media_adapters import JOB, KEY, LARGE, OTHER_TOKEN, TOKEN
from tests.contract.s3_server import (
    KEY_ID,
    SECRET,
    Behaviour,
    S3Server,
    an_s3_server,
    drops,
    loses_the_answer,
    refuses,
    says,
    stalls,
    stalls_the_answer,
)
from tests.providers.server import FakeProvider, Reply

FILM_KEY: Final = media_key(JOB, TOKEN, 0, "video/mp4")
PART: Final = 100_000
FILM: Final = bytes(range(250)) * 1_000
"""Two parts and a half."""
BRISK: Final = Patience(
    connect_seconds=0.3,
    answer_seconds=0.7,
    bytes_per_second=1 << 24,
    attempts=2,
    check_seconds=5,
    save_seconds=10,
    delete_seconds=10,
    abort_seconds=3,
)
BROKEN: Final = refuses("500 Internal Server Error", "InternalError")
FULL: Final = refuses("503 Slow Down", "SlowDown")


# One client for all tests, which takes a third of a second to make; so they share its loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with an_s3_server() as server, pytest.MonkeyPatch.context() as library:
        library.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
        yield server


@pytest.fixture(scope="module")
def shared_bucket(server: S3Server) -> str:
    return server.a_bucket()


@pytest.fixture
def bucket(server: S3Server, shared_bucket: str) -> Iterator[str]:
    """Empty, on a server that behaves."""
    server.behave()
    server.clear(shared_bucket)
    server.behave()
    yield shared_bucket
    server.behave()


def opened(
    bucket: str,
    endpoint: str,
    *,
    key_id: str = KEY_ID,
    secret: str = SECRET,
    patience: Patience = BRISK,
) -> AbstractAsyncContextManager[S3Media]:
    return S3Media.open(
        bucket,
        endpoint=endpoint,
        region=None,
        access_key_id=key_id,
        secret_access_key=secret,
        patience=patience,
        part_bytes=PART,
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_media(server: S3Server, shared_bucket: str) -> AsyncIterator[S3Media]:
    async with opened(shared_bucket, server.address) as media:
        yield media


@pytest.fixture
def media(shared_media: S3Media, bucket: str) -> S3Media:
    return shared_media


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(FILM)
    return path


# What is stored, and how.


async def test_browsers_learn_its_type_and_may_keep_it_for_ever(
    media: S3Media, server: S3Server, bucket: str, film: Path
) -> None:
    await media.save(KEY, b"a picture", type_="image/png")
    await media.save(FILM_KEY, film, type_="video/mp4")
    for key, type_ in ((KEY, "image/png"), (FILM_KEY, "video/mp4")):
        stored = server.client.head_object(Bucket=bucket, Key=key)
        assert (stored["ContentType"], stored["CacheControl"]) == (type_, CACHE_CONTROL)


async def test_a_film_is_sent_in_parts_of_one_size_a_few_at_a_time(
    media: S3Media, server: S3Server, bucket: str, tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(LARGE)
    await media.save(FILM_KEY, film, type_="video/mp4")
    sizes = {int(part.query["partNumber"]): int(part.headers["content-length"]) for part in server.of("part")}
    assert [sizes[number] for number in sorted(sizes)][:-1] == [PART] * (len(sizes) - 1)
    assert sum(sizes.values()) == len(LARGE)
    assert 1 < server.most_at_once <= PARTS_AT_ONCE
    assert server.read(bucket, FILM_KEY) == LARGE


async def test_nothing_is_asked_of_a_service_that_only_aws_knows(
    media: S3Media, server: S3Server, film: Path
) -> None:
    """No trailers, no checksums of newer kinds, no bulk deletes, no waiting for a `100 Continue`."""
    await media.save(KEY, b"a picture", type_="image/png")
    await media.save(FILM_KEY, film, type_="video/mp4")
    await media.delete_prefix(f"{JOB}/")
    names = {name for asked in server.asked for name in asked.headers}
    assert not [name for name in names if "checksum" in name or name in ("expect", "content-encoding")]
    assert all("content-md5" in asked.headers for asked in server.of("put") + server.of("part"))
    assert {asked.what for asked in server.asked} == {"put", "begin", "part", "complete", "list", "delete"}


async def test_a_film_that_changes_while_it_is_stored_is_not_stored(
    media: S3Media, server: S3Server, bucket: str, film: Path
) -> None:
    def cut(server: S3Server, environ: dict[str, object], start: Callable[..., object]) -> list[bytes]:
        film.write_bytes(FILM[:1000])
        return BROKEN(server, environ, start)  # type: ignore[return-value]

    server.script("part", cut)
    with pytest.raises(MediaUnavailable, match="cannot store"):
        await media.save(FILM_KEY, film, type_="video/mp4")
    assert server.keys(bucket) == set()


async def test_a_service_that_knows_no_conditions_is_used_without_them(server: S3Server, bucket: str) -> None:
    server.script("put", refuses("501 Not Implemented", "NotImplemented"))
    other = media_key(JOB, OTHER_TOKEN, 0, "image/png")
    async with opened(bucket, server.address) as media:
        for key in (KEY, other):
            await media.save(key, b"a picture", type_="image/png")
    assert ["if-none-match" in put.headers for put in server.of("put")] == [True, False, False]
    assert server.keys(bucket) == {KEY, other}


# Deleting.


async def test_all_pages_of_a_long_listing_are_deleted_a_few_at_a_time(
    media: S3Media, server: S3Server, bucket: str
) -> None:
    for number in range(45):
        await media.save(media_key(JOB, TOKEN, number, "image/png"), b"x", type_="image/png")
    server.behave()
    server.page_size = 20
    await media.delete_prefix(f"{JOB}/")
    assert len(server.of("list")) == 3
    assert 1 < server.most_at_once <= 16
    server.page_size = None
    assert server.keys(bucket) == set()


async def test_what_lies_beside_the_prefix_stays(media: S3Media, server: S3Server, bucket: str) -> None:
    beside = {f"{JOB}x/kept", f"{JOB}", f"x{JOB}/kept", "kept"}
    for key in {KEY} | beside:
        server.client.put_object(Bucket=bucket, Key=key, Body=b"x")
    await media.delete_prefix(f"{JOB}/")
    assert server.keys(bucket) == beside


async def test_a_delete_that_fails_halfway_is_finished_by_the_next(
    media: S3Media, server: S3Server, bucket: str
) -> None:
    for number in range(5):
        await media.save(media_key(JOB, TOKEN, number, "image/png"), b"x", type_="image/png")
    server.script("delete", refuses("403 Forbidden", "AccessDenied"))
    with pytest.raises(MediaUnavailable, match="may not delete"):
        await media.delete_prefix(f"{JOB}/")
    assert server.keys(bucket) != set()
    await media.delete_prefix(f"{JOB}/")
    assert server.keys(bucket) == set()


# A wire that misbehaves.

PASSING: Final = {"broken": BROKEN, "full": FULL, "drops": drops, "stalls": stalls, "lost": loses_the_answer}


@pytest.mark.parametrize("trouble", PASSING)
@pytest.mark.parametrize("what", ["begin", "part", "complete"])
async def test_a_film_survives_what_passes(
    media: S3Media, server: S3Server, bucket: str, film: Path, what: str, trouble: str
) -> None:
    """A lost answer is no failure either: what the second try is told, the first one did."""
    server.script(what, PASSING[trouble])
    await media.save(FILM_KEY, film, type_="video/mp4")
    assert server.read(bucket, FILM_KEY) == FILM


@pytest.mark.parametrize("trouble", PASSING)
async def test_a_picture_survives_what_passes(
    media: S3Media, server: S3Server, bucket: str, trouble: str
) -> None:
    server.script("put", PASSING[trouble])
    await media.save(KEY, LARGE, type_="image/png")
    assert server.read(bucket, KEY) == LARGE
    assert len(server.of("put")) == 2


@pytest.mark.usefixtures("server")
async def test_a_service_that_stops_reading_is_not_waited_for() -> None:
    """More than the machine buffers, so that the writer itself is stuck."""
    lines: list[asyncio.StreamWriter] = []

    async def hear_little(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(writer)
        await reader.read(1000)

    listening = await asyncio.start_server(hear_little, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with opened("media", address, patience=replace(BRISK, bytes_per_second=1 << 26)) as media:
        with pytest.raises(MediaUnavailable, match="did not answer in time"):
            await media.save(KEY, bytes(16_000_000), type_="image/png")
    assert len(lines) == BRISK.attempts
    for line in lines:
        line.transport.abort()
    listening.close()
    await asyncio.sleep(0.05)  # the writers notice that their lines are broken


async def test_an_answer_lost_by_somebody_else_is_no_success_of_ours(
    media: S3Media, server: S3Server, bucket: str
) -> None:
    server.client.put_object(Bucket=bucket, Key=KEY, Body=b"somebody else's")
    server.script("put", BROKEN)
    with pytest.raises(MediaUnavailable, match="PreconditionFailed"):
        await media.save(KEY, b"ours", type_="image/png")
    assert server.read(bucket, KEY) == b"somebody else's"


LASTING: Final = {
    "broken": BROKEN,
    "drops": drops,
    "stalls": stalls,
    "denied": refuses("403 Forbidden", "AccessDenied"),
    "garbled": refuses("400 Bad Request", "BadDigest"),
    "not S3": says("200 OK", "<html>Sign in to the hotel's network</html>", type_="text/html"),
}


@pytest.mark.parametrize("trouble", LASTING)
@pytest.mark.parametrize("what", ["part", "complete"])
async def test_a_film_that_cannot_be_stored_leaves_nothing_to_pay_for(
    media: S3Media, server: S3Server, bucket: str, film: Path, what: str, trouble: str
) -> None:
    server.script(what, *[LASTING[trouble]] * 20)
    with pytest.raises(MediaUnavailable, match=f"cannot store {FILM_KEY}: "):
        await media.save(FILM_KEY, film, type_="video/mp4")
    server.released.set()
    assert server.unfinished(bucket) == []
    assert server.keys(bucket) == set()


@pytest.mark.parametrize("trouble", LASTING)
@pytest.mark.parametrize("what", ["put", "begin", "list"])
async def test_whatever_goes_wrong_is_unavailable_in_one_line(
    media: S3Media, server: S3Server, film: Path, what: str, trouble: str
) -> None:
    calls = {
        "put": lambda: media.save(KEY, b"x", type_="image/png"),
        "begin": lambda: media.save(FILM_KEY, film, type_="video/mp4"),
        "list": lambda: media.delete_prefix(f"{JOB}/"),
    }
    server.script(what, *[LASTING[trouble]] * 4)
    with pytest.raises(MediaUnavailable) as raised:
        await calls[what]()
    assert "\n" not in raised.value.message


# Cancellation.


async def cancelled(saving: asyncio.Task[None]) -> float:
    """How long it took to obey."""
    loop = asyncio.get_running_loop()
    asked = loop.time()
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving
    return loop.time() - asked


def saving(media: S3Media, film: Path) -> asyncio.Task[None]:
    return asyncio.create_task(media.save(FILM_KEY, film, type_="video/mp4"))


@pytest.mark.parametrize(
    ("what", "trouble"), [("part", stalls), ("begin", stalls_the_answer), ("complete", stalls)]
)
async def test_a_cancelled_film_leaves_nothing_to_pay_for(
    server: S3Server, bucket: str, film: Path, what: str, trouble: Behaviour
) -> None:
    """Not even when nobody has told us yet that it has begun."""
    async with opened(bucket, server.address, patience=Patience()) as media:
        server.script(what, trouble)
        task = saving(media, film)
        await asyncio.to_thread(server.reached.wait, 5)
        asyncio.get_running_loop().call_later(0.2, server.released.set)
        await cancelled(task)
        assert server.unfinished(bucket) == []
        assert server.keys(bucket) == set()


async def test_a_cancellation_is_obeyed_even_if_the_service_hangs(
    server: S3Server, bucket: str, film: Path
) -> None:
    async with opened(bucket, server.address, patience=Patience(abort_seconds=0.2)) as media:
        server.script("part", stalls, stalls, stalls)
        server.script("abort", stalls)
        task = saving(media, film)
        await asyncio.to_thread(server.reached.wait, 5)
        assert await cancelled(task) < 2


async def test_a_second_cancellation_does_not_stop_the_clearing_up(
    server: S3Server, bucket: str, film: Path
) -> None:
    async with opened(bucket, server.address, patience=Patience()) as media:
        server.script("begin", stalls_the_answer)
        task = saving(media, film)
        await asyncio.to_thread(server.reached.wait, 5)
        task.cancel()
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.1, server.released.set)
        await cancelled(task)
        assert server.unfinished(bucket) == []


async def test_a_whole_save_is_bounded_however_slow_the_service_is(
    server: S3Server, bucket: str, film: Path
) -> None:
    hurried = Patience(save_seconds=0.3, bytes_per_second=1 << 30, abort_seconds=1)
    async with opened(bucket, server.address, patience=hurried) as media:
        server.script("part", stalls)
        with pytest.raises(MediaUnavailable, match="did not answer in time"):
            await media.save(FILM_KEY, film, type_="video/mp4")
        assert server.unfinished(bucket) == []


# What operators meet first.


@pytest.mark.parametrize(
    ("status", "code", "line"),
    [
        ("403 Forbidden", "AccessDenied", "the access key may not write in bucket {bucket} at {place}"),
        ("403 Forbidden", "InvalidAccessKeyId", "{place} does not know the access key id"),
        ("401 Unauthorized", "Unauthorized", "{place} does not know the access key id"),
        (
            "403 Forbidden",
            "SignatureDoesNotMatch",
            "the signature does not match: the secret access key is not",
        ),
        (
            "400 Bad Request",
            "AuthorizationHeaderMalformed",
            "bucket {bucket} is in another region than the one",
        ),
        ("403 Forbidden", "RequestTimeTooSkewed", "the clock of this machine is wrong"),
        ("402 Payment Required", "Unpaid", "{place} refused: 402 Unpaid In its own words."),
    ],
)
async def test_the_check_says_what_the_service_refuses(
    media: S3Media, server: S3Server, bucket: str, status: str, code: str, line: str
) -> None:
    server.script("put", refuses(status, code))
    with pytest.raises(MediaUnavailable) as raised:
        await media.check()
    assert raised.value.message.startswith(line.format(bucket=bucket, place=server.address))


async def test_the_check_says_that_there_is_no_such_bucket(server: S3Server) -> None:
    async with opened("nobody-made-this", server.address) as media:
        with pytest.raises(MediaUnavailable) as raised:
            await media.check()
    assert raised.value.message == f"there is no bucket nobody-made-this at {server.address}"


@pytest.mark.parametrize(
    ("what", "doing"), [("put", "write"), ("list", "list objects"), ("delete", "delete")]
)
async def test_the_check_finds_a_key_that_may_do_only_some_of_it(
    media: S3Media, server: S3Server, what: str, doing: str
) -> None:
    server.script(what, refuses("403 Forbidden", "AccessDenied"))
    with pytest.raises(MediaUnavailable, match=f"^the access key may not {doing} in bucket"):
        await media.check()


async def test_the_check_says_that_nobody_is_there() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        async with opened("media", address) as media:
            with pytest.raises(
                MediaUnavailable, match=f"^{address} cannot be reached: .*Connect call failed"
            ):
                await media.check()


async def test_the_check_does_not_wait_for_a_service_that_says_nothing(
    media: S3Media, server: S3Server
) -> None:
    server.script("put", stalls, stalls)
    with pytest.raises(MediaUnavailable, match=f"^{server.address} did not answer in time$"):
        await media.check()


async def test_the_check_says_that_this_is_not_s3(media: S3Media, server: S3Server) -> None:
    for what in ("put", "list"):
        server.script(what, LASTING["not S3"])
        with pytest.raises(MediaUnavailable, match=r"does not look like one of S3.*; is the endpoint right"):
            await media.check()


async def test_the_check_says_that_it_is_sent_from_place_to_place() -> None:
    async with FakeProvider() as provider:
        provider.handler = lambda _: Reply(status=307)
        async with S3Media.open(
            "films", endpoint=provider.url, region="auto", access_key_id="K", secret_access_key="S"
        ) as media:
            with pytest.raises(MediaUnavailable, match="redirects without end"):
                await media.check()


async def test_the_check_says_that_a_connection_cannot_be_trusted(server: S3Server) -> None:
    address = server.address.replace("http:", "https:")
    async with opened("media", address) as media:
        with pytest.raises(MediaUnavailable, match=f"^{address} cannot be trusted: "):
            await media.check()


async def test_the_check_says_that_a_bucket_cannot_have_that_name(server: S3Server) -> None:
    async with opened("my bucket", server.address) as media:
        with pytest.raises(MediaUnavailable, match=r"^my bucket cannot be the name of a bucket: "):
            await media.check()


async def test_the_check_says_that_no_credentials_were_found(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _no_credentials(monkeypatch, tmp_path)
    async with opened("media", server.address, key_id="", secret="") as media:
        with pytest.raises(MediaUnavailable, match=r"^no credentials were found: "):
            await media.check()


async def test_without_keys_those_of_the_surroundings_are_taken(
    server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _no_credentials(monkeypatch, tmp_path)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDROLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the role")
    async with opened(bucket, server.address, key_id="", secret="") as media:
        await media.check()
    assert all("Credential=AKIDROLE/" in asked.headers["authorization"] for asked in server.of("put"))


def _no_credentials(env: pytest.MonkeyPatch, home: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        env.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        env.setenv(name, str(home / "none"))
    env.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.parametrize(
    ("key_id", "secret", "line"),
    [
        ("AKID", "", "the secret access key is missing: the two go together"),
        ("", "secret", "the access key id is missing: the two go together"),
    ],
)
async def test_half_a_pair_of_keys_is_refused_at_once(key_id: str, secret: str, line: str) -> None:
    with pytest.raises(MediaUnavailable, match=line):
        async with opened("media", "http://127.0.0.1:1", key_id=key_id, secret=secret):
            pytest.fail("it opened")


@pytest.mark.parametrize(
    "endpoint", ["localhost:9000", "ftp://host", "https://", "http://[::1", "http://a b"]
)
async def test_an_endpoint_that_is_no_address_is_refused_at_once(endpoint: str) -> None:
    with pytest.raises(MediaUnavailable, match="ndpoint"):
        async with opened("media", endpoint):
            pytest.fail("it opened")


async def test_once_closed_it_is_unavailable(server: S3Server, bucket: str) -> None:
    async with opened(bucket, server.address) as media:
        await media.check()
    with pytest.raises(MediaUnavailable):
        await media.save(KEY, b"x", type_="image/png")


# Memory.

GROWN = """
import asyncio, sys
from pathlib import Path
from shared.adapters.media.s3 import S3Media

def peak_kib():
    # Not getrusage, whose figure begins with that of the process that started us.
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1])

async def main(address, bucket, small, large, film):
    async with S3Media.open(
        bucket, endpoint=address, region=None, access_key_id="AKID", secret_access_key="secret"
    ) as media:
        await media.save(small, b"x" * 100_000, type_="image/png")
        before = peak_kib()
        await media.save(large, Path(film), type_="video/mp4")
        print(peak_kib() - before)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak of one process")
async def test_a_film_of_200_mb_adds_less_than_40_mb_of_memory(
    server: S3Server, bucket: str, tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    with film.open("wb") as file:
        file.truncate(200_000_000)
    command = [sys.executable, "-c", GROWN, server.address, bucket, KEY, FILM_KEY, str(film)]
    run = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
    assert server.client.head_object(Bucket=bucket, Key=FILM_KEY)["ContentLength"] == 200_000_000
    assert int(run.stdout) * 1024 < 40_000_000
