"""Images from Gemini, through `generate_content`: one call makes one image.

A block is not an HTTP error here. The answer says in one of three ways that the policy held something back:
a block reason instead of candidates, a finish reason instead of an image, or words instead of an image.
"""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Self

import msgspec
from google.auth.credentials import Credentials
from google.genai import types
from google.genai.client import AsyncClient

from shared.adapters.generators.google.client import open_google
from shared.adapters.generators.google.errors import Call, google_call
from shared.adapters.generators.remote.http import decoded, shown
from shared.adapters.generators.remote.several import make_several
from shared.adapters.generators.remote.words import full_prompt
from shared.domain.requests import ImageRequest
from shared.ports.generator import (
    Artifact,
    ContentRejected,
    GenerationFailed,
    Made,
    Order,
    RequestRefused,
    Running,
)

TIMEOUT_SECONDS: Final = 240
LARGEST_IMAGE_BYTES: Final = 32 * 1024 * 1024
ANSWER_OVERHEAD_BYTES: Final = 1024 * 1024

RATIOS: Final = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
"""What a size is rounded to when no aspect ratio was asked for."""

BLOCKED: Final = frozenset(
    {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR"}
    | {"IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"}
)
"""Finish reasons by which the policy held back the output."""

ENDED: Final = frozenset({"", "FINISH_REASON_UNSPECIFIED", "STOP"})
"""Finish reasons by which the model said all that it wanted to say."""


class GeminiImages:
    """Several images are several calls at once, with the seeds that follow the order's."""

    def __init__(
        self,
        client: AsyncClient,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        safety_settings: tuple[types.SafetySetting, ...] = (),
    ) -> None:
        self._client = client
        self._timeout_seconds = timeout_seconds
        self._safety_settings = safety_settings

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        *,
        api_key: str | None = None,
        project: str | None = None,
        location: str | None = None,
        credentials: Credentials | None = None,
        base_url: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        largest_image_bytes: int = LARGEST_IMAGE_BYTES,
        safety_settings: tuple[types.SafetySetting, ...] = (),
    ) -> AsyncIterator[Self]:
        """With a key on the Gemini API, with a project on Vertex AI. Raises `CannotOpen`.

        `timeout_seconds`, of each call, must be less than the time that the engine gives a start.
        Without `safety_settings` the provider's defaults hold.
        """
        async with open_google(
            api_key=api_key,
            project=project,
            location=location,
            credentials=credentials,
            base_url=base_url,
            timeout_seconds=timeout_seconds,
            largest_answer_bytes=largest_image_bytes * 4 // 3 + ANSWER_OVERHEAD_BYTES,
        ) as client:
            yield cls(client, timeout_seconds=timeout_seconds, safety_settings=safety_settings)

    async def start(self, order: Order) -> Made:
        request = order.request
        if not isinstance(request, ImageRequest):
            raise RequestRefused("this model makes images, no videos")

        async def make(number: int) -> Artifact:
            return await self._make_one(order, request, request.seed + number)

        return await make_several(request.count, make)

    async def poll(self, order: Order, reference: str) -> Running | Made:
        raise GenerationFailed("this model has no operations to ask about", retryable=False)

    async def cancel(self, order: Order, reference: str) -> None:
        """There is nothing to cancel."""

    async def _make_one(self, order: Order, request: ImageRequest, seed: int) -> Artifact:
        parts = [types.Part.from_text(text=full_prompt(request))]
        parts += [types.Part.from_bytes(data=image.content, mime_type=image.type) for image in order.images]
        config = types.GenerateContentConfig(
            response_modalities=["TEXT", "IMAGE"],
            image_config=types.ImageConfig(aspect_ratio=_ratio(request), image_size=_image_size(request)),
            seed=seed % 2**31,
            safety_settings=list(self._safety_settings) or None,
            # The client makes no further call by itself: it would buy again.
            automatic_continuation=False,
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
            # The client's own view of an answer warns about reasons that are newer than the client.
            should_return_http_response=True,
        )
        async with google_call(Call.PAID, timeout_seconds=self._timeout_seconds):
            response = await self._client.models.generate_content(
                model=order.model, contents=[types.Content(role="user", parts=parts)], config=config
            )
            raw = response.sdk_http_response
            answer = msgspec.json.decode((raw and raw.body) or "{}", type=_Answer)
        return _image_in(answer)


class _Blob(msgspec.Struct, rename="camel"):
    data: str = ""
    mime_type: str = ""


class _Part(msgspec.Struct, rename="camel"):
    text: str | None = None
    inline_data: _Blob | None = None
    thought: bool | None = None


class _Content(msgspec.Struct, rename="camel"):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None

    @property
    def parts(self) -> list[_Part]:
        """Without the model's thoughts, which may hold sketches."""
        parts = (self.content and self.content.parts) or []
        return [part for part in parts if not part.thought]


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None
    block_reason_message: str | None = None


class _Answer(msgspec.Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None


def _image_in(answer: _Answer) -> Artifact:
    """The image, or what its absence means."""
    candidates = answer.candidates or []
    for candidate in candidates:
        for part in candidate.parts:
            if part.inline_data is not None and part.inline_data.data:
                content = decoded(part.inline_data.data)
                if content is None:
                    raise GenerationFailed("the image cannot be read", retryable=True)
                return Artifact(type=part.inline_data.mime_type, content=content)
    feedback = answer.prompt_feedback
    if feedback is not None and feedback.block_reason:
        said = feedback.block_reason_message or "the prompt was refused by the content policy"
        raise ContentRejected(shown(said), stage="prompt")
    for candidate in candidates:
        raise _absence(candidate)
    raise GenerationFailed("the provider made no image", retryable=True)


def _absence(candidate: _Candidate) -> ContentRejected | RequestRefused | GenerationFailed:
    reason = candidate.finish_reason or ""
    words = " ".join(part.text for part in candidate.parts if part.text and not part.text.isspace())
    if reason in BLOCKED:
        said = candidate.finish_message or "the image was held back by the content policy"
        return ContentRejected(shown(said), stage="output")
    if reason == "LANGUAGE":
        return RequestRefused("the model does not know the prompt's language")
    if reason in ENDED and words:
        return ContentRejected(shown(words), stage="output")
    return GenerationFailed("the provider made no image", retryable=True)


def _ratio(request: ImageRequest) -> str:
    if request.aspect_ratio:
        return request.aspect_ratio
    wanted = math.log(request.width / request.height)
    return min(RATIOS, key=lambda ratio: abs(_log_of(ratio) - wanted))


def _log_of(ratio: str) -> float:
    width, height = ratio.split(":")
    return math.log(int(width) / int(height))


def _image_size(request: ImageRequest) -> str | None:
    """The step nearest in pixels: `1K` is about 1024 x 1024, whatever the ratio.

    The smallest is every model's default, and older models do not know the field: it is left out.
    """
    side = math.sqrt(request.width * request.height)
    step = round(math.log2(max(side / 1024, 1)))
    return {0: None, 1: "2K"}.get(step, "4K")
