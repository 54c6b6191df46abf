"""What it costs to store media in a bucket, measured against moto's server in a process of its own.

`python -m bench.media`: milliseconds per small object, one after the other and 32 at once; the memory and
time that a film of 200 MB takes; microseconds per presigned link.
"""

import asyncio
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import boto3  # type: ignore[import-untyped]

from shared.adapters.clock import SystemClock
from shared.adapters.media.presigned import SignatureV4
from shared.adapters.media.s3 import S3Media
from shared.domain.ids import ClaimToken, JobId
from shared.ports.media import media_key

KEY_ID: Final = "AKIDEXAMPLE"
SECRET: Final = "secret"  # noqa: S105 - the double looks at no signature
BUCKET: Final = "media"
JOB: Final = JobId("job_00000000000000000000000001")
PICTURE: Final = bytes(100_000)
PUTS: Final = 200
AT_ONCE: Final = 32
FILM_BYTES: Final = 200_000_000
LINKS: Final = 20_000
START_SECONDS: Final = 20


def key(number: int) -> str:
    return media_key(JOB, ClaimToken(uuid.uuid4().hex), number, "image/png")


@contextmanager
def a_server() -> Iterator[str]:
    """Its address; it is gone afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def wait_for(port: int) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return


def peak_mb() -> float:
    """Of this process, ever; Linux only."""
    status = Path("/proc/self/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e6


async def main() -> None:
    with a_server() as address, tempfile.TemporaryDirectory() as folder:
        service = boto3.client(
            "s3",
            endpoint_url=address,
            region_name="us-east-1",
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
        )
        service.create_bucket(Bucket=BUCKET)
        async with S3Media.open(
            BUCKET, endpoint=address, region=None, access_key_id=KEY_ID, secret_access_key=SECRET
        ) as media:
            await media.check()
            await pictures(media)
            await film(media, Path(folder))
    links()


async def pictures(media: S3Media) -> None:
    started = time.perf_counter()
    for number in range(PUTS):
        await media.save(key(number), PICTURE, type_="image/png")
    print(f"small objects, one by one: {(time.perf_counter() - started) / PUTS * 1000:.1f} ms each")

    numbers = iter(range(PUTS))

    async def keep_saving() -> None:
        for number in numbers:
            await media.save(key(number), PICTURE, type_="image/png")

    started = time.perf_counter()
    await asyncio.gather(*(keep_saving() for _ in range(AT_ONCE)))
    seconds = time.perf_counter() - started
    print(f"small objects, {AT_ONCE} at once: {seconds / PUTS * 1000:.1f} ms each, {PUTS / seconds:.0f}/s")


async def film(media: S3Media, folder: Path) -> None:
    path = folder / "film.mp4"
    with path.open("wb") as file:
        file.truncate(FILM_BYTES)
    before, started = peak_mb(), time.perf_counter()
    await media.save(media_key(JOB, ClaimToken("0" * 32), 0, "video/mp4"), path, type_="video/mp4")
    seconds = time.perf_counter() - started
    print(f"a film of {FILM_BYTES / 1e6:.0f} MB: {seconds:.1f} s, {peak_mb() - before:.1f} MB more memory")


def links() -> None:
    presigner = SignatureV4(
        BUCKET,
        endpoint="https://account.r2.cloudflarestorage.com",
        region="auto",
        access_key_id=KEY_ID,
        secret_access_key=SECRET,
        expires_seconds=900,
        clock=SystemClock(),
    )
    one = key(0)
    started = time.perf_counter()
    for _ in range(LINKS):
        presigner.link(one)
    print(f"a presigned link: {(time.perf_counter() - started) / LINKS * 1e6:.1f} µs")


if __name__ == "__main__":
    asyncio.run(main())
