"""Media as objects of a bucket: S3, Cloudflare R2, MinIO, Supabase Storage, Google Cloud Storage (HMAC keys).

Only what all of them can do is asked of them: objects are deleted one by one (the bulk request wants
checksums that they disagree about), and what arrives is compared by its MD5, which each of them knows.
"""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Final, TypeVar
from urllib.parse import urlsplit

import aioboto3  # type: ignore[import-untyped]
import structlog
from botocore.exceptions import ClientError  # type: ignore[import-untyped]

from shared.adapters.media.s3_faults import FAULTS, Fault, code_of, told
from shared.adapters.media.s3_transport import MAX_TRANSFERS, Body, Patience, Window, client_config, md5_of
from shared.domain.errors import MediaUnavailable
from shared.ports.media import is_media_key, is_media_prefix

PART_BYTES: Final = 8 << 20
"""The services take from 5 MiB; R2 wants all parts but the last of one size."""
MAX_PARTS: Final = 10_000
PARTS_AT_ONCE: Final = 4
DELETES_AT_ONCE: Final = 16
MAX_PAGES: Final = 1_000
"""Of a listing, each of up to a thousand keys; no job makes as many objects."""
CACHE_CONTROL: Final = "public, max-age=31536000, immutable"
"""A name never means other bytes."""

_MAYBE_OURS: Final = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "NoSuchUpload"})
"""What a service says to the second try of a request whose first succeeded, but whose answer was lost."""

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Upload:
    """One call of `save`; its mark, kept with the object, tells it from others that save the same key."""

    key: str
    type: str
    mark: str

    @property
    def headers(self) -> dict[str, Any]:
        return {"ContentType": self.type, "CacheControl": CACHE_CONTROL, "Metadata": {"save": self.mark}}


class S3Media:
    """One client for as long as the process lives: connections are dear to open."""

    def __init__(self, client: Any, bucket: str, *, place: str, patience: Patience, part_bytes: int) -> None:
        self._client = client
        self._bucket = bucket
        self._place = place
        self._patience = patience
        self._part_bytes = part_bytes
        self._slots = asyncio.Semaphore(MAX_TRANSFERS)
        self._knows_conditions = True

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        bucket: str,
        *,
        endpoint: str | None,
        region: str | None,
        access_key_id: str,
        secret_access_key: str,
        patience: Patience = Patience(),  # noqa: B008 - immutable
        part_bytes: int = PART_BYTES,
    ) -> AsyncIterator["S3Media"]:
        """Connects to nothing yet; `check` does. Raises `MediaUnavailable` for what can never work.

        Without an endpoint it is AWS. Without keys, those are taken that AWS provides: a role's, a profile's.
        """
        if bool(access_key_id) != bool(secret_access_key):
            missing = "secret access key" if access_key_id else "access key id"
            raise MediaUnavailable(f"the {missing} is missing: the two go together")
        if endpoint and not _is_address(endpoint):
            raise MediaUnavailable(
                f"the endpoint must begin with https:// and name a host (it is {endpoint!r})"
            )
        place = endpoint or "AWS"
        async with AsyncExitStack() as stack:
            try:
                client = await stack.enter_async_context(
                    aioboto3.Session().client(
                        "s3",
                        endpoint_url=endpoint or None,
                        region_name=region or ("auto" if endpoint else None),
                        aws_access_key_id=access_key_id or None,
                        aws_secret_access_key=secret_access_key or None,
                        config=client_config(patience, path_style=bool(endpoint)),
                    )
                )
            except (*FAULTS, ValueError) as error:
                raise MediaUnavailable(told(error, bucket=bucket, place=place)) from error
            yield cls(client, bucket, place=place, patience=patience, part_bytes=part_bytes)

    async def save(self, key: str, content: bytes | Path, *, type_: str) -> None:
        if not is_media_key(key):
            raise ValueError(f"not a media key: {key}")
        upload = _Upload(key, type_, uuid.uuid4().hex)
        with self._translated(f"cannot store {key}"):
            if isinstance(content, bytes):
                await self._save_whole(upload, BytesIO(content), len(content))
                return
            with _opened(content) as file:
                size = os.fstat(file.fileno()).st_size
                if size < 2 * self._part_bytes:
                    await self._save_whole(upload, Window(file, 0, size), size)
                else:
                    await self._save_in_parts(upload, file, size)
                if os.fstat(file.fileno()).st_size != size:
                    raise Fault("the file changed while it was stored")

    async def delete_prefix(self, prefix: str) -> None:
        if not is_media_prefix(prefix):
            raise ValueError(f"not a prefix of media keys: {prefix}")
        with self._translated(f"cannot remove {prefix}"):
            async with asyncio.timeout(self._patience.delete_seconds):
                await self._remove(prefix)

    async def check(self) -> None:
        """Writes, lists and deletes, since a key may be allowed one of them and not the others."""
        prefix = f"probe/{uuid.uuid4().hex}/"
        with self._translated():
            async with asyncio.timeout(self._patience.check_seconds):
                probe = await self._client.put_object(
                    Bucket=self._bucket, Key=f"{prefix}probe", Body=b"probe"
                )
                _field(probe, "ETag")
                await self._remove(prefix)

    async def _save_whole(self, upload: _Upload, body: Body, size: int) -> None:
        async with asyncio.timeout(self._patience.save_seconds + self._patience.for_sending(size)):
            md5 = await asyncio.to_thread(md5_of, body)

            async def put(**condition: str) -> None:
                body.seek(0)
                answer = await self._client.put_object(
                    Bucket=self._bucket,
                    Key=upload.key,
                    Body=body,
                    ContentMD5=md5,
                    **upload.headers,
                    **condition,
                )
                _field(answer, "ETag")

            async with self._slots:
                await self._once(upload, put)

    async def _save_in_parts(self, upload: _Upload, file: IO[bytes], size: int) -> None:
        seconds = self._patience.save_seconds + self._patience.for_sending(size, connections=PARTS_AT_ONCE)
        async with asyncio.timeout(seconds):
            # A task of its own, for its answer is needed even by somebody who is cancelled meanwhile.
            begun = asyncio.create_task(self._begin(upload), name=f"begin {upload.key}")
            try:
                upload_id = await asyncio.shield(begun)
                parts = await self._send_parts(upload.key, upload_id, file, size)

                async def complete(**condition: str) -> None:
                    answer = await self._client.complete_multipart_upload(
                        Bucket=self._bucket,
                        Key=upload.key,
                        UploadId=upload_id,
                        MultipartUpload={"Parts": parts},
                        **condition,
                    )
                    _field(answer, "ETag")

                await self._once(upload, complete)
            except BaseException:
                await _uninterrupted(self._abort(upload.key, begun))
                raise

    async def _begin(self, upload: _Upload) -> str:
        begun = await self._client.create_multipart_upload(
            Bucket=self._bucket, Key=upload.key, **upload.headers
        )
        return _field(begun, "UploadId")

    async def _send_parts(
        self, key: str, upload_id: str, file: IO[bytes], size: int
    ) -> list[dict[str, object]]:
        part_bytes = max(self._part_bytes, -(-size // MAX_PARTS))
        sent: dict[int, str] = {}

        async def send(start: int) -> None:
            part = Window(file, start, min(part_bytes, size - start))
            number = start // part_bytes + 1
            async with self._slots:
                answer = await self._client.upload_part(
                    Bucket=self._bucket,
                    Key=key,
                    UploadId=upload_id,
                    PartNumber=number,
                    Body=part,
                    ContentMD5=await asyncio.to_thread(md5_of, part),
                )
            sent[number] = _field(answer, "ETag")

        await _at_once(PARTS_AT_ONCE, send, range(0, size, part_bytes))
        return [{"PartNumber": number, "ETag": etag} for number, etag in sorted(sent.items())]

    async def _abort(self, key: str, begun: asyncio.Task[str]) -> None:
        """Give the parts back, which would cost money for as long as nobody asks for them."""
        try:
            async with asyncio.timeout(self._patience.abort_seconds):
                try:
                    upload_id = await begun
                except FAULTS:
                    return  # nothing was begun
                await self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload_id)
        except FAULTS as error:
            if not (isinstance(error, ClientError) and code_of(error) == "NoSuchUpload"):
                _log.warning("media.parts_left", key=key, error=self._told(error))

    async def _once(self, upload: _Upload, write: Callable[..., Awaitable[None]]) -> None:
        """Write unless the key is taken; taken by an earlier try of this very call, it is written."""
        try:
            await self._under_condition(write)
        except ClientError as error:
            if code_of(error) in _MAYBE_OURS and await self._mark_of(upload.key) == upload.mark:
                return
            raise

    async def _under_condition(self, write: Callable[..., Awaitable[None]]) -> None:
        """The condition is a second lock: a claim's keys are its own. Services that know none of it ignore it
        (Google, Supabase) or say so; then we go on without it."""
        if self._knows_conditions:
            try:
                await write(IfNoneMatch="*")
            except ClientError as error:
                if code_of(error) != "NotImplemented":
                    raise
                self._knows_conditions = False
            else:
                return
        await write()

    async def _mark_of(self, key: str) -> str | None:
        try:
            found = await self._client.head_object(Bucket=self._bucket, Key=key)
        except ClientError:
            return None
        mark: str | None = found.get("Metadata", {}).get("save")
        return mark

    async def _remove(self, prefix: str) -> None:
        async def delete(key: str) -> None:
            async with self._slots:
                await self._client.delete_object(Bucket=self._bucket, Key=key)

        after: dict[str, str] = {}
        for _ in range(MAX_PAGES):
            page = await self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **after)
            _field(page, "Name")
            await _at_once(DELETES_AT_ONCE, delete, [entry["Key"] for entry in page.get("Contents", ())])
            if not page.get("IsTruncated"):
                return
            after = {"ContinuationToken": _field(page, "NextContinuationToken")}
        raise Fault("there are more objects than any job makes")

    @contextmanager
    def _translated(self, what: str = "") -> Iterator[None]:
        try:
            yield
        except FAULTS as error:
            raise MediaUnavailable(": ".join(filter(None, (what, self._told(error))))) from error

    def _told(self, error: BaseException) -> str:
        return told(error, bucket=self._bucket, place=self._place)


def _is_address(endpoint: str) -> bool:
    try:
        parts = urlsplit(endpoint)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False


def _field(answer: dict[str, Any], name: str) -> str:
    """What every S3 answers with; a proxy's page of HTML reads as an answer in which all is missing."""
    value = answer.get(name)
    if not value:
        raise Fault(f"the answer does not look like one of S3 (it has no {name}); is the endpoint right?")
    return str(value)


def _opened(path: Path) -> IO[bytes]:
    return path.open("rb", buffering=0)


async def _at_once(limit: int, work: Callable[[_T], Awaitable[None]], items: Iterable[_T]) -> None:
    """Do the work for every item, so many at a time; the first error stops it all."""
    left = iter(items)

    async def keep_working() -> None:
        for item in left:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(limit):
                group.create_task(keep_working())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors


async def _uninterrupted(work: Awaitable[None]) -> None:
    """Run `work` to its end, then pass on a cancellation that arrived meanwhile."""
    task, cancelled = asyncio.ensure_future(work), False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError
