"""Veo on Vertex AI: a long operation, followed by its name."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import google.auth.credentials
import google.auth.transport.requests
import httpx2
import structlog
from google.genai import types
from google.genai.client import AsyncClient

from shared.adapters.generators.google.client import credentials_of_this_machine, open_google
from shared.adapters.generators.google.errors import Call, google_call
from shared.adapters.generators.google.fetched import FETCH_SECONDS, Fetched
from shared.adapters.generators.google.videos import (
    ASK_SECONDS,
    LARGEST_ANSWER_BYTES,
    LARGEST_VIDEO_BYTES,
    START_SECONDS,
    VIDEO,
    asking,
    aspect_ratio,
    buying,
    is_about_policy,
    resolution,
    video_request,
)
from shared.adapters.generators.remote.http import CannotOpen, checked_url, shown
from shared.ports.generator import (
    Artifact,
    ContentRejected,
    GenerationFailed,
    GeneratorError,
    Made,
    Order,
    OutcomeUnknown,
    Running,
)

POLL_AFTER: Final = timedelta(seconds=10)
STORAGE_URL: Final = "https://storage.googleapis.com"

_WORD: Final = r"(?!\.+/)[\w.:~-]{1,200}"
_REFERENCE: Final = re.compile(
    rf"projects/{_WORD}/locations/{_WORD}/publishers/{_WORD}/models/{_WORD}/operations/[\w-]{{1,200}}",
    re.ASCII,
)
_IN_STORAGE: Final = re.compile(r"gs://([a-z0-9][\w.-]{1,221})/(.{1,1024})", re.ASCII | re.DOTALL)

# Codes of google.rpc.Status, in an operation that has ended.
_INPUT: Final = frozenset({"3", "9"})
"""INVALID_ARGUMENT, FAILED_PRECONDITION"""
_ACCESS: Final = frozenset({"7", "16"})
"""PERMISSION_DENIED, UNAUTHENTICATED: about the operator's bucket or account, never about the prompt."""
_PASSING: Final = frozenset({"4", "8", "10", "13", "14"})
"""DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, ABORTED, INTERNAL, UNAVAILABLE"""


_log = structlog.get_logger(__name__)


class Veo:
    """The reference is the operation's full name, so any process with the same project can follow it.

    The result comes inside the answer, held in memory while it is read, or, with `output_gcs_uri`, as an
    object of the operator's bucket, which is streamed to a file and left where it is.
    """

    def __init__(
        self,
        client: AsyncClient,
        fetched: Fetched,
        credentials: google.auth.credentials.Credentials,
        *,
        output_gcs_uri: str | None,
        storage_url: str,
        start_seconds: float,
        ask_seconds: float,
    ) -> None:
        self._client = client
        self._fetched = fetched
        self._credentials = credentials
        self._output_gcs_uri = output_gcs_uri
        self._storage_url = storage_url
        self._start_seconds = start_seconds
        self._ask_seconds = ask_seconds
        self._refreshing = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        *,
        project: str,
        location: str,
        scratch: Path,
        credentials: google.auth.credentials.Credentials | None = None,
        output_gcs_uri: str | None = None,
        base_url: str | None = None,
        storage_url: str = STORAGE_URL,
        start_seconds: float = START_SECONDS,
        ask_seconds: float = ASK_SECONDS,
        fetch_seconds: float = FETCH_SECONDS,
        largest_answer_bytes: int = LARGEST_ANSWER_BYTES,
        largest_video_bytes: int = LARGEST_VIDEO_BYTES,
    ) -> AsyncIterator["Veo"]:
        """Without `credentials`, those of the machine are taken. Raises `CannotOpen`."""
        if not project:
            raise CannotOpen("a Google Cloud project is needed")
        if not location:
            raise CannotOpen("a Google Cloud location is needed, such as us-central1")
        if output_gcs_uri is not None and not output_gcs_uri.startswith("gs://"):
            raise CannotOpen("the folder for videos must begin with gs://")
        if credentials is None:
            credentials = await credentials_of_this_machine()
        async with (
            Fetched.open(scratch, largest_bytes=largest_video_bytes, seconds=fetch_seconds) as fetched,
            open_google(
                project=project,
                location=location,
                credentials=credentials,
                base_url=base_url,
                timeout_seconds=max(start_seconds, ask_seconds),
                largest_answer_bytes=largest_answer_bytes,
            ) as client,
        ):
            yield cls(
                client,
                fetched,
                credentials,
                output_gcs_uri=output_gcs_uri,
                storage_url=checked_url(storage_url).rstrip("/"),
                start_seconds=start_seconds,
                ask_seconds=ask_seconds,
            )

    async def start(self, order: Order) -> Running | Made:
        request = video_request(order)
        first_frame = order.images[0] if order.images else None
        source = types.GenerateVideosSource(
            prompt=request.prompt,
            image=types.Image(image_bytes=first_frame.content, mime_type=first_frame.type)
            if first_frame
            else None,
        )
        config = types.GenerateVideosConfig(
            number_of_videos=1,
            duration_seconds=request.seconds,
            aspect_ratio=aspect_ratio(request),
            resolution=resolution(request),
            seed=request.seed,
            output_gcs_uri=self._output_gcs_uri,
        )
        async with buying(timeout_seconds=self._start_seconds):
            operation = await self._client.models.generate_videos(
                model=order.model, source=source, config=config
            )
        if not _is_reference(operation.name):
            raise OutcomeUnknown("the provider took the order and did not say under which name")
        assert operation.name is not None
        return Running(reference=operation.name, poll_after=POLL_AFTER)

    async def poll(self, order: Order, reference: str) -> Running | Made:
        if not _is_reference(reference):
            raise GenerationFailed("this is not the name of an operation", retryable=False)
        async with asking(timeout_seconds=self._ask_seconds):
            operation = await self._client.operations.get(
                types.GenerateVideosOperation.model_validate({"name": reference})
            )
        if operation.error:
            raise _failure(operation.error)
        if not operation.done:
            return Running(reference=reference, progress=_progress(operation.metadata), poll_after=POLL_AFTER)
        return Made(items=[await self._artifact(_video(operation.response))])

    async def cancel(self, order: Order, reference: str) -> None:
        """Do nothing: what is documented for Veo's operations is to start and to fetch them, and its price
        is for videos that were made; the client has no cancel either (google-genai 3.4, `operations`).
        """

    async def _artifact(self, video: types.Video) -> Artifact:
        if video.video_bytes:
            path = await self._fetched.written(video.video_bytes)
        else:
            path = await self._fetched_from_storage(video.uri or "")
        return Artifact(type=video.mime_type or VIDEO, content=path)

    async def _fetched_from_storage(self, uri: str) -> Path:
        found = _IN_STORAGE.fullmatch(uri)
        if found is None:
            raise GenerationFailed("the video is in a place that is not the provider's", retryable=False)
        bucket, name = found.groups()
        address = httpx2.URL(f"{self._storage_url}/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media")
        async with google_call(Call.FREE, timeout_seconds=self._ask_seconds):
            headers = {"authorization": f"Bearer {await self._token()}"}
        return await self._fetched.downloaded(
            str(address), lambda url: headers if _origin(url) == _origin(address) else None
        )

    async def _token(self) -> str:
        async with self._refreshing:
            if not self._credentials.valid:
                request = google.auth.transport.requests.Request()
                await asyncio.to_thread(self._credentials.refresh, request)
        return str(self._credentials.token)


def _is_reference(name: str | None) -> bool:
    return name is not None and _REFERENCE.fullmatch(name) is not None


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _video(response: types.GenerateVideosResponse | None) -> types.Video:
    """The video of an operation that has ended without an error."""
    if response is not None:
        for made in response.generated_videos or ():
            if made.video and (made.video.video_bytes or made.video.uri):
                return made.video
        reasons = "; ".join(response.rai_media_filtered_reasons or ())
        if reasons or response.rai_media_filtered_count:
            raise ContentRejected(
                shown(reasons) or "the provider held the video back by its policy", stage="output"
            )
    raise GenerationFailed("the provider ended the operation without a video", retryable=True)


def _failure(error: Mapping[str, Any]) -> GeneratorError:
    """Of an operation's `error`: a google.rpc.Status as a dictionary."""
    code, message = str(error.get("code")), shown(str(error.get("message") or ""))
    if code in _ACCESS:
        _log.error("generator.operator_needed", what=f"an operation ended with code {code}: {message}")
        return GenerationFailed("the provider could not finish the video", retryable=False)
    if code in _INPUT and is_about_policy(message):
        return ContentRejected(message, stage="prompt")
    return GenerationFailed(message or f"the provider failed with code {code}", retryable=code in _PASSING)


def _progress(metadata: Mapping[str, Any] | None) -> int:
    """0 to 99; most operations tell nothing."""
    for name in ("progressPercent", "progressPercentage"):
        told = (metadata or {}).get(name)
        if isinstance(told, int):
            return max(0, min(99, told))
    return 0
