"""Gemini Omni video through the Interactions API: started in the background, followed by its id."""

import base64
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx2
from google.genai import errors, interactions

# Neither has a public name: what `interactions` raises is unlike what the rest of the client raises.
from google.genai._gaos.lib import compat_errors
from google.genai.client import AsyncClient

from shared.adapters.generators.google.client import open_google
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
from shared.adapters.generators.remote.http import checked_key, shown
from shared.domain.requests import VideoRequest
from shared.ports.generator import (
    Artifact,
    ContentRejected,
    GenerationFailed,
    GeneratorError,
    InputImage,
    Made,
    Order,
    OutcomeUnknown,
    Running,
)

POLL_AFTER: Final = timedelta(seconds=5)
API_URL: Final = "https://generativelanguage.googleapis.com"

_REFERENCE: Final = re.compile(r"(?!\.+$)[\w.~=-]{1,500}", re.ASCII)

# What Google's download links lead to; they carry their own permission.
_GOOGLES: Final = (".googleapis.com", ".googleusercontent.com")

_PASSING: Final = re.compile(
    r"internal|unavailable|overload|exhausted|quota|rate.?limit|deadline|timeout|timed out|try again",
    re.IGNORECASE,
)


class OmniVideo:
    """The reference is the interaction's id; any process with a key of the same project can follow it.

    The result is asked for as a link, and may come inside the answer all the same (the API's guide says
    that of asking again); both end in a file.
    """

    def __init__(
        self,
        client: AsyncClient,
        fetched: Fetched,
        *,
        api_key: str,
        api_url: str,
        start_seconds: float,
        ask_seconds: float,
    ) -> None:
        self._client = client
        self._fetched = fetched
        self._api_key = api_key
        self._api_url = httpx2.URL(api_url)
        self._start_seconds = start_seconds
        self._ask_seconds = ask_seconds

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        *,
        api_key: str,
        scratch: Path,
        base_url: str | None = None,
        start_seconds: float = START_SECONDS,
        ask_seconds: float = ASK_SECONDS,
        fetch_seconds: float = FETCH_SECONDS,
        largest_answer_bytes: int = LARGEST_ANSWER_BYTES,
        largest_video_bytes: int = LARGEST_VIDEO_BYTES,
    ) -> AsyncIterator["OmniVideo"]:
        """Raises `CannotOpen`."""
        async with (
            Fetched.open(scratch, largest_bytes=largest_video_bytes, seconds=fetch_seconds) as fetched,
            open_google(
                api_key=api_key,
                base_url=base_url,
                timeout_seconds=max(start_seconds, ask_seconds),
                largest_answer_bytes=largest_answer_bytes,
            ) as client,
        ):
            yield cls(
                client,
                fetched,
                api_key=checked_key(api_key),
                api_url=base_url or API_URL,
                start_seconds=start_seconds,
                ask_seconds=ask_seconds,
            )

    async def start(self, order: Order) -> Running | Made:
        request = video_request(order)
        first_frame = order.images[0] if order.images else None
        async with buying(timeout_seconds=self._start_seconds):
            with _as_elsewhere():
                interaction = _read(
                    await self._client.interactions.create(
                        model=order.model,
                        background=True,
                        input=_input(request, first_frame),
                        response_format={
                            "type": "video",
                            "delivery": "uri",
                            "aspect_ratio": aspect_ratio(request),
                            "duration": f"{request.seconds}s",
                            "resolution": resolution(request),
                        },
                        generation_config={
                            "seed": request.seed,
                            "video_config": {"task": "image_to_video" if first_frame else "text_to_video"},
                        },
                    )
                )
        if not _is_reference(interaction.id):
            raise OutcomeUnknown("the provider took the order and did not say under which name")
        assert interaction.id is not None
        # Whatever has become of it by now is told by the first poll, which can be repeated.
        return Running(reference=interaction.id, poll_after=POLL_AFTER)

    async def poll(self, order: Order, reference: str) -> Running | Made:
        if not _is_reference(reference):
            raise GenerationFailed("this is not the id of an interaction", retryable=False)
        async with asking(timeout_seconds=self._ask_seconds):
            with _as_elsewhere():
                interaction = _read(await self._client.interactions.get(reference))
        match interaction.status:
            case "completed":
                return Made(items=[await self._artifact(interaction)])
            case "failed":
                raise _failure(interaction)
            case "incomplete":
                raise GenerationFailed("the provider broke the video off", retryable=True)
            case "cancelled":
                raise GenerationFailed("the video was cancelled at the provider", retryable=False)
            case "budget_exceeded" | "requires_action":
                raise GenerationFailed(f"the provider stopped ({interaction.status})", retryable=False)
            case _:
                # Also what we do not know yet: the job's deadline is the end of it.
                return Running(reference=reference, poll_after=POLL_AFTER)

    async def cancel(self, order: Order, reference: str) -> None:
        """Nothing happens if it is not there or has ended."""
        if not _is_reference(reference):
            return
        with suppress(GenerationFailed):
            async with google_call(Call.FREE, timeout_seconds=self._ask_seconds):
                with _as_elsewhere():
                    await self._client.interactions.cancel(reference)

    async def _artifact(self, interaction: interactions.Interaction) -> Artifact:
        video = interaction.output_video
        if isinstance(video, interactions.VideoContent):
            type_ = video.mime_type if isinstance(video.mime_type, str) else VIDEO
            if isinstance(video.data, str) and video.data:
                return Artifact(type=type_, content=await self._fetched.decoded(video.data))
            if isinstance(video.uri, str) and video.uri:
                headers = partial(headers_for, api_url=self._api_url, api_key=self._api_key)
                return Artifact(type=type_, content=await self._fetched.downloaded(video.uri, headers))
        if interaction.output_text:
            # Models put a refusal in words.
            raise ContentRejected(shown(interaction.output_text), stage="output")
        raise GenerationFailed("the provider ended the interaction without a video", retryable=True)


def headers_for(url: httpx2.URL, *, api_url: httpx2.URL, api_key: str) -> Mapping[str, str] | None:
    """The key goes to the API and to nobody else; None where no film can be."""
    if _origin(url) in (_origin(api_url), _origin(httpx2.URL(API_URL))):
        return {"x-goog-api-key": api_key}
    if url.scheme == "https" and url.host.endswith(_GOOGLES):
        return {}
    return None


def _input(request: VideoRequest, first_frame: InputImage | None) -> Any:
    if first_frame is None:
        return request.prompt
    image = base64.b64encode(first_frame.content).decode("ascii")
    return [
        {"type": "image", "data": image, "mime_type": first_frame.type},
        # Without this word the model itself decides what the image is for.
        {"type": "text", "text": f"<FIRST_FRAME> {request.prompt}"},
    ]


def _is_reference(id_: object) -> bool:
    return isinstance(id_, str) and _REFERENCE.fullmatch(id_) is not None


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _read(answer: object) -> interactions.Interaction:
    """The client hands on whatever JSON it was given."""
    if not isinstance(answer, interactions.Interaction):
        raise TypeError(f"an interaction was expected, not a {type(answer).__name__}")
    return answer


def _failure(interaction: interactions.Interaction) -> GeneratorError:
    told = interaction.errors if isinstance(interaction.errors, list) else []
    words = [f"{getattr(error, 'code', '') or ''} {getattr(error, 'message', '') or ''}" for error in told]
    message = shown("; ".join(words)) or "the provider failed"
    if is_about_policy(message):
        return ContentRejected(message, stage="output")
    return GenerationFailed(message, retryable=not told or _PASSING.search(message) is not None)


@contextmanager
def _as_elsewhere() -> Iterator[None]:
    """Raise what the rest of the client would have raised."""
    try:
        yield
    except compat_errors.APIConnectionError as error:
        if isinstance(error.__cause__, httpx2.HTTPError):
            raise error.__cause__ from error
        raise httpx2.NetworkError(error.message) from error
    except compat_errors.APIError as error:
        status = error.status_code or 0
        if 200 <= status < 300:
            raise ValueError("the answer is no interaction") from error
        # This API has errors of its own, `{code: "words", message}`, in which a bad key is a bad request.
        if status == 400 and "API key" in str(error.body):
            status = 401
        raise errors.APIError(status, error.body, getattr(error, "response", None)) from error
