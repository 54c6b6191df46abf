"""Where `MEDIAFORGE_MEDIA` says that media are kept, and how users get at them."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shared.domain.errors import MediaUnavailable
from shared.ports.clock import Clock
from shared.ports.media import MediaStore, Presigner
from shared.settings import BadSettings, Settings
from shared.wiring.extras import needs_extra

if TYPE_CHECKING:
    from shared.adapters.media.local_disk import LocalDisk


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bucket:
    name: str
    endpoint: str | None
    region: str | None


@asynccontextmanager
async def open_media(settings: Settings) -> AsyncIterator[MediaStore]:
    """Media that can be written right now."""
    async with AsyncExitStack() as stack:
        try:
            media = await stack.enter_async_context(_media_of(settings))
            await media.check()
        except MediaUnavailable as error:
            raise BadSettings(f"MEDIAFORGE_MEDIA: {error.message}") from error
        yield media


def _media_of(settings: Settings) -> AbstractAsyncContextManager[MediaStore]:
    disk, bucket = local_disk_of(settings), _bucket_of(settings)
    if disk is not None:
        return nullcontext(disk)
    if bucket is not None:
        with needs_extra("MEDIAFORGE_MEDIA", "s3"):
            from shared.adapters.media.s3 import S3Media
        return S3Media.open(
            bucket.name,
            endpoint=bucket.endpoint,
            region=bucket.region,
            access_key_id=settings.s3_access_key_id,
            secret_access_key=settings.s3_secret_access_key.get_secret_value(),
        )
    raise _unknown(settings)


def _unknown(settings: Settings) -> BadSettings:
    return BadSettings(
        "MEDIAFORGE_MEDIA must be file:///absolute/folder, s3://bucket or r2://account/bucket "
        f"(it is {settings.media!r})"
    )


def local_disk_of(settings: Settings) -> "LocalDisk | None":
    if not settings.media_url.startswith("file:///"):
        return None
    from shared.adapters.media.local_disk import LocalDisk

    return LocalDisk(Path(settings.media_url.removeprefix("file://")))


def presigner_of(settings: Settings, clock: Clock) -> Presigner | None:
    """For a bucket that is not public: the gateway sends whoever asks for media to a signed link."""
    bucket = _bucket_of(settings)
    if bucket is None and not settings.media_url.startswith("file:///"):
        raise _unknown(settings)
    if bucket is None or settings.media_public_url:
        return None
    from shared.adapters.media.presigned import SignatureV4

    try:
        return SignatureV4(
            bucket.name,
            endpoint=bucket.endpoint,
            region=bucket.region or ("auto" if bucket.endpoint else "us-east-1"),
            access_key_id=settings.s3_access_key_id,
            secret_access_key=settings.s3_secret_access_key.get_secret_value(),
            expires_seconds=settings.signed_link_seconds,
            clock=clock,
        )
    except ValueError as error:
        raise BadSettings(
            f"MEDIAFORGE_S3_ACCESS_KEY_ID: {error}; or say with MEDIAFORGE_MEDIA_PUBLIC_URL where a public "
            "bucket is read"
        ) from error


def _bucket_of(settings: Settings) -> _Bucket | None:
    scheme, _, rest = settings.media_url.partition("://")
    region = settings.s3_region or None
    if scheme == "s3" and rest and "/" not in rest:
        return _Bucket(name=rest, endpoint=settings.s3_endpoint or None, region=region)
    account, _, name = rest.partition("/")
    if scheme == "r2" and account and name and "/" not in name:
        endpoint = settings.s3_endpoint or f"https://{account}.r2.cloudflarestorage.com"
        return _Bucket(name=name, endpoint=endpoint, region=region or "auto")
    return None
