"""Images from OpenAI: one call makes all of an order's images."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Literal, Self

import msgspec
import openai

from shared.adapters.generators.openai.errors import openai_call
from shared.adapters.generators.remote.http import checked_key, checked_url, decoded, open_http
from shared.adapters.generators.remote.words import full_prompt
from shared.domain.requests import ImageRequest
from shared.ports.generator import (
    Artifact,
    GenerationFailed,
    Made,
    Order,
    RequestRefused,
    Running,
    Withheld,
)

TIMEOUT_SECONDS: Final = 240
LARGEST_IMAGE_BYTES: Final = 32 * 1024 * 1024
MOST_IMAGES: Final = 10
"""What the interface takes in one call."""
ANSWER_OVERHEAD_BYTES: Final = 1024 * 1024

Quality = Literal["low", "medium", "high", "xhigh", "max"]
Moderation = Literal["low", "auto"]


class OpenAIImages:
    """The interface knows no seed: the same order makes other images the next time.

    References make it an edit, whose interface knows no `moderation` either.
    """

    def __init__(
        self,
        client: openai.AsyncOpenAI,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        largest_image_bytes: int = LARGEST_IMAGE_BYTES,
        quality: Quality | None = None,
        moderation: Moderation | None = None,
    ) -> None:
        self._client = client
        self._timeout_seconds = timeout_seconds
        self._largest_image_bytes = largest_image_bytes
        self._quality = quality if quality is not None else openai.omit
        self._moderation = moderation if moderation is not None else openai.omit

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        *,
        api_key: str,
        base_url: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        largest_image_bytes: int = LARGEST_IMAGE_BYTES,
        quality: Quality | None = None,
        moderation: Moderation | None = None,
    ) -> AsyncIterator[Self]:
        """Raises `CannotOpen`. `base_url` ends in the version, `https://api.openai.com/v1`.

        `timeout_seconds` must be less than the time that the engine gives a start.
        Without `quality` and `moderation` the provider's defaults hold.
        """
        if base_url is not None:
            checked_url(base_url)
        key = checked_key(api_key)
        largest_answer_bytes = MOST_IMAGES * largest_image_bytes * 4 // 3 + ANSWER_OVERHEAD_BYTES
        async with (
            open_http(timeout_seconds=timeout_seconds, largest_answer_bytes=largest_answer_bytes) as http,
            openai.AsyncOpenAI(
                api_key=key, base_url=base_url, timeout=timeout_seconds, max_retries=0, http_client=http
            ) as client,
        ):
            yield cls(
                client,
                timeout_seconds=timeout_seconds,
                largest_image_bytes=largest_image_bytes,
                quality=quality,
                moderation=moderation,
            )

    async def start(self, order: Order) -> Made:
        request = order.request
        if not isinstance(request, ImageRequest):
            raise RequestRefused("this model makes images, no videos")
        if request.count > MOST_IMAGES:
            raise RequestRefused(f"this model makes at most {MOST_IMAGES} images at once")
        async with openai_call(timeout_seconds=self._timeout_seconds):
            # The client would take a page of HTML for an answer.
            content = (
                await self._edit(order, request) if order.images else await self._generate(order, request)
            )
            answer = msgspec.json.decode(content, type=_Answer)
        return self._made(answer, request.count)

    async def poll(self, order: Order, reference: str) -> Running | Made:
        raise GenerationFailed("this model has no operations to ask about", retryable=False)

    async def cancel(self, order: Order, reference: str) -> None:
        """There is nothing to cancel."""

    async def _generate(self, order: Order, request: ImageRequest) -> bytes:
        response = await self._client.images.with_raw_response.generate(
            model=order.model,
            prompt=full_prompt(request),
            n=request.count,
            size=_size(request),
            quality=self._quality,
            moderation=self._moderation,
        )
        return response.content

    async def _edit(self, order: Order, request: ImageRequest) -> bytes:
        response = await self._client.images.with_raw_response.edit(
            model=order.model,
            prompt=full_prompt(request),
            image=[
                (f"reference-{number}", image.content, image.type)
                for number, image in enumerate(order.images, start=1)
            ],
            n=request.count,
            size=_size(request),
            quality=self._quality,
        )
        return response.content

    def _made(self, answer: "_Answer", count: int) -> Made:
        """As many items as were asked for; what is missing was not delivered."""
        type_ = f"image/{answer.output_format or 'png'}"
        items: list[Artifact | Withheld] = [self._item(image, type_) for image in (answer.data or [])[:count]]
        items += [Withheld(reason="the provider did not deliver it")] * (count - len(items))
        if not any(isinstance(item, Artifact) for item in items):
            raise GenerationFailed("the provider made no image", retryable=True)
        return Made(items=items)

    def _item(self, image: "_Image", type_: str) -> Artifact | Withheld:
        if not image.b64_json:
            return Withheld(reason="the provider did not deliver it")
        content = decoded(image.b64_json)
        if content is None:
            return Withheld(reason="the image cannot be read")
        if len(content) > self._largest_image_bytes:
            return Withheld(reason="the image is too large")
        return Artifact(type=type_, content=content)


class _Image(msgspec.Struct):
    b64_json: str | None = None


class _Answer(msgspec.Struct):
    data: list[_Image] | None = None
    output_format: str | None = None


def _size(request: ImageRequest) -> str:
    return f"{request.width}x{request.height}"
