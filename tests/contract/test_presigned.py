"""Links to a private bucket: what the service takes, and what its own library would have made."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import boto3  # type: ignore[import-untyped]
import botocore.auth  # type: ignore[import-untyped]
import httpx
import pytest
from botocore.config import Config  # type: ignore[import-untyped]

from shared.adapters.media.presigned import LONGEST_SECONDS, SignatureV4
from shared.adapters.media.s3 import S3Media
from shared.ports.media import media_key
from tests.contract.media_adapters import BAD_KEYS, JOB, KEY, LARGE, TOKEN
from tests.contract.s3_server import KEY_ID, SECRET, S3Server, an_s3_server
from tests.support import ManualClock


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with an_s3_server() as server:
        yield server


def presigner(
    bucket: str = "media",
    endpoint: str | None = "https://account.r2.cloudflarestorage.com",
    *,
    region: str = "auto",
    expires_seconds: int = 900,
    clock: ManualClock | None = None,
) -> SignatureV4:
    return SignatureV4(
        bucket,
        endpoint=endpoint,
        region=region,
        access_key_id=KEY_ID,
        secret_access_key=SECRET,
        expires_seconds=expires_seconds,
        clock=clock or ManualClock(),
    )


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_link_leads_to_the_object(server: S3Server, method: Literal["GET", "HEAD"]) -> None:
    bucket = server.a_bucket()
    async with S3Media.open(
        bucket, endpoint=server.address, region=None, access_key_id=KEY_ID, secret_access_key=SECRET
    ) as media:
        await media.save(KEY, LARGE, type_="image/png")
    link = presigner(bucket, server.address).link(KEY, method=method)
    answer = await asyncio.to_thread(httpx.request, method, link)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.content == (LARGE if method == "GET" else b"")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("bucket", "endpoint", "region"),
    [
        ("media", "https://account.r2.cloudflarestorage.com", "auto"),
        ("media", "https://account.r2.cloudflarestorage.com/", "auto"),
        ("media", "http://127.0.0.1:9000", "us-east-1"),
        ("media", "https://minio.example:443", "us-east-1"),
        ("media.example.com", "https://storage.googleapis.com", "auto"),
        ("media", "https://project.storage.supabase.co/storage/v1/s3", "eu-central-1"),
        ("media", None, "eu-west-1"),
        ("media.example.com", None, "eu-west-1"),
    ],
)
def test_the_services_own_library_makes_the_very_same_link(
    monkeypatch: pytest.MonkeyPatch,
    bucket: str,
    endpoint: str | None,
    region: str,
    method: Literal["GET", "HEAD"],
) -> None:
    clock = ManualClock()
    _stop_time(monkeypatch, clock)
    style = "path" if endpoint or "." in bucket else "virtual"
    client = boto3.client(
        "s3",
        # By itself it would take AWS's oldest host, which sends us on to that of the region.
        endpoint_url=endpoint or f"https://s3.{region}.amazonaws.com",
        region_name=region,
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
        config=Config(signature_version="s3v4", s3={"addressing_style": style}),
    )
    theirs = client.generate_presigned_url(
        "get_object" if method == "GET" else "head_object",
        Params={"Bucket": bucket, "Key": KEY},
        ExpiresIn=900,
    )
    client.close()
    ours = presigner(bucket, endpoint, region=region, clock=clock).link(KEY, method=method)
    if endpoint and ":443" in endpoint:
        theirs = theirs.replace(":443", "")  # which it leaves out of what it signs, too
    assert ours == theirs


def _stop_time(monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> None:
    def now(**_: Any) -> Any:
        return clock.now().replace(tzinfo=None)

    monkeypatch.setattr(botocore.auth, "get_current_datetime", now)


def test_a_link_says_when_it_was_made_and_how_long_it_lasts() -> None:
    clock = ManualClock()
    signer = presigner(expires_seconds=1234, clock=clock)
    first = signer.link(KEY)
    clock.advance(seconds=60)
    second = signer.link(KEY)
    for link, at in ((first, -60), (second, 0)):
        query = parse_qs(urlsplit(link).query)
        assert query["X-Amz-Expires"] == ["1234"]
        made = ManualClock(clock.now())
        made.advance(seconds=at)
        assert query["X-Amz-Date"] == [made.now().strftime("%Y%m%dT%H%M%SZ")]
    assert first != second


def test_every_key_has_a_signature_of_its_own_which_does_not_tell_the_secret() -> None:
    signer = presigner()
    links = [signer.link(media_key(JOB, TOKEN, number, "image/png")) for number in range(3)]
    signatures = {parse_qs(urlsplit(link).query)["X-Amz-Signature"][0] for link in links}
    assert len(signatures) == 3
    assert not [link for link in links if SECRET in link]
    assert SECRET not in repr(signer)


@pytest.mark.parametrize("key", BAD_KEYS)
def test_nothing_but_media_is_signed(key: str) -> None:
    with pytest.raises(ValueError, match="not a media key"):
        presigner().link(key)


@pytest.mark.parametrize("seconds", [0, -1, LONGEST_SECONDS + 1])
def test_a_link_that_no_service_would_take_is_refused_at_once(seconds: int) -> None:
    with pytest.raises(ValueError, match="links may last"):
        presigner(expires_seconds=seconds)


@pytest.mark.parametrize("endpoint", ["localhost:9000", "ftp://host", "https://"])
def test_an_endpoint_that_is_no_address_is_refused_at_once(endpoint: str) -> None:
    with pytest.raises(ValueError, match="not the address of a service"):
        presigner(endpoint=endpoint)


def test_links_are_made_without_a_client_library() -> None:
    program = (
        "import sys; import shared.adapters.media.presigned;"
        "print(sorted({name.partition('.')[0] for name in sys.modules}"
        " & {'boto3', 'botocore', 'aiobotocore', 'aioboto3', 'aiohttp', 'urllib3', 'httpx'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
