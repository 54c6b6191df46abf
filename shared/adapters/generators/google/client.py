"""The client of Google's models: the Gemini API with a key, or Vertex AI with credentials."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import google.auth
import google.auth.credentials
import google.auth.exceptions
from google import genai
from google.genai import types
from google.genai.client import AsyncClient

from shared.adapters.generators.remote.http import CannotOpen, checked_key, checked_url, open_http, tls

SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"


@asynccontextmanager
async def open_google(
    *,
    api_key: str | None = None,
    project: str | None = None,
    location: str | None = None,
    credentials: google.auth.credentials.Credentials | None = None,
    base_url: str | None = None,
    timeout_seconds: float,
    largest_answer_bytes: int,
) -> AsyncIterator[AsyncClient]:
    """Vertex AI if a project is named, else the Gemini API.

    Without `credentials`, Vertex AI takes those of the machine. Raises `CannotOpen`.
    """
    if base_url is not None:
        checked_url(base_url)
    async with open_http(timeout_seconds=timeout_seconds, largest_answer_bytes=largest_answer_bytes) as http:
        options = types.HttpOptions(
            base_url=base_url,
            timeout=round(timeout_seconds * 1000),
            # The engine owns retries. Over aiohttp, which it prefers to a client that it makes itself, the
            # client would without this send a POST again after a dropped connection, and so buy twice.
            retry_options=types.HttpRetryOptions(attempts=1),
            httpx_async_client=http,
            # The client makes two more, which are not used: they need not read the certificates again.
            client_args={"verify": tls()},
            async_client_args={"ssl": tls()},
        )
        if project is not None:
            client = genai.Client(
                vertexai=True,
                project=project,
                location=location or "global",
                credentials=credentials or await credentials_of_this_machine(),
                http_options=options,
            )
        else:
            if api_key is None:
                raise CannotOpen("an API key or a project is needed")
            client = genai.Client(vertexai=False, api_key=checked_key(api_key), http_options=options)
        try:
            yield client.aio
        finally:
            await client.aio.aclose()
            client.close()


async def credentials_of_this_machine() -> google.auth.credentials.Credentials:
    try:
        credentials, _ = await asyncio.to_thread(google.auth.default, scopes=[SCOPE])
    except google.auth.exceptions.GoogleAuthError as error:
        raise CannotOpen("no Google credentials were found on this machine") from error
    return credentials
