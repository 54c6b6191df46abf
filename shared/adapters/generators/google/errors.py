"""What the errors of Google's clients mean for an order.

An answer with an error status took nothing: Google does not charge for requests that fail with a 4xx or a
500 (Gemini API, "Am I charged for failed requests?"). There are two exceptions, both of paid calls: a 504,
because what had been started may go on, and a server error that Google did not write, because whatever
stands between us and Google cannot know. These, a broken connection, a timeout, and an answer that cannot
be read leave the outcome unknown.

A free call (asking about an operation) is repeated anyway: it is `Down` for as long as it is not answered.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from enum import Enum, auto
from typing import Any, Final

import httpx2
import structlog
from google.auth.exceptions import GoogleAuthError
from google.auth.exceptions import TransportError as GoogleAuthTransportError
from google.genai import errors

from shared.adapters.generators.remote.http import (
    TRANSPORT_ERRORS,
    AnswerTooLarge,
    OperatorNeeded,
    bounded_wait,
    shown,
    wait_told,
    was_not_sent,
)
from shared.ports.generator import (
    Busy,
    Down,
    GenerationFailed,
    GeneratorError,
    OutcomeUnknown,
    RequestRefused,
    Retired,
)

# A parser, ours or the client's, met something that the interface does not promise.
_UNREADABLE: Final = (ValueError, TypeError, AttributeError, LookupError, RuntimeError)

_log = structlog.get_logger(__name__)


class Call(Enum):
    PAID = auto()
    FREE = auto()


@asynccontextmanager
async def google_call(call: Call, *, timeout_seconds: float) -> AsyncIterator[None]:
    """Around one call of the client: it ends in time, and raises nothing but what the port names."""
    try:
        async with asyncio.timeout(timeout_seconds):
            yield
    except GeneratorError:
        raise
    except (
        errors.APIError,
        GoogleAuthError,
        AnswerTooLarge,
        *TRANSPORT_ERRORS,
        *_UNREADABLE,
    ) as error:
        meaning = meaning_of(error, call)
        if isinstance(meaning, OperatorNeeded):
            _log.error("generator.operator_needed", what=meaning.what)
        else:
            _log.info("generator.call_failed", error=shown(repr(error)), meaning=type(meaning).__name__)
        raise meaning from error


def meaning_of(error: Exception, call: Call) -> GeneratorError:
    """The port's error for whatever the client raised."""
    match error:
        case errors.APIError():
            headers = getattr(error.response, "headers", None) or {}
            return meaning_of_answer(error.code, error.details, headers, call)
        case GoogleAuthTransportError():
            return Down("the provider cannot be reached")
        case GoogleAuthError():
            return OperatorNeeded(f"no access token: {shown(str(error))}")
        case _ if was_not_sent(error):
            return Down("the provider cannot be reached")
        case AnswerTooLarge():
            return GenerationFailed("the provider's answer is too large", retryable=False)
        case TimeoutError() | httpx2.TimeoutException():
            return _unclear("the provider did not answer in time", call)
        case _ if isinstance(error, TRANSPORT_ERRORS):
            return _unclear("the connection to the provider broke off", call)
        case _:
            return _unclear("the provider's answer cannot be read", call)


def meaning_of_answer(status: int, body: object, headers: Mapping[str, str], call: Call) -> GeneratorError:
    """The port's error for an answer with an error status, whichever client brought it."""
    said = _Said(body)
    match status:
        case 429:
            return Busy("the provider's quota is used up", retry_after=_wait(said, headers))
        case 401 | 402 | 403:
            return OperatorNeeded(said.to_operator(status))
        case 400 if said.is_about_access:
            return OperatorNeeded(said.to_operator(status))
        case _ if 200 <= status < 300:
            return _unclear("the provider's answer cannot be read", call)
        case 503 if (after := _wait(said, headers)) is not None:
            return Busy("the provider is overloaded", retry_after=after)
        case 503 if not said.is_googles:
            # So does a gateway answer whose connection broke after it had passed the request on.
            return _unclear("the provider failed", call)
        case 503:
            return Down("the provider is overloaded")
        case 504 | 408 | 499:
            return _unclear("the provider did not finish in time", call)
        case _ if status >= 500:
            failed = "the provider failed"
            return Down(failed) if said.is_googles else _unclear(failed, call)
        case _:
            return _refusal(status, said, call)


def _refusal(status: int, said: "_Said", call: Call) -> GeneratorError:
    is_gone = status in (404, 410)
    if is_gone and call is Call.FREE:
        return GenerationFailed("the provider does not know this operation any more", retryable=False)
    if status != 413 and not (status >= 400 and said.is_googles):
        # A redirect, a page of a proxy: no model has seen the request.
        return OperatorNeeded(f"an answer that is not Google's, status {status}")
    if is_gone:
        return Retired("the model is no longer available")
    refusal = shown(f"the provider refused the request: {said.message}").rstrip(": ")
    if call is Call.FREE:
        return GenerationFailed(refusal, retryable=False)
    return RequestRefused(refusal)


class _Said:
    """The body of an answer with an error status, whatever it is."""

    def __init__(self, body: object) -> None:
        error = body.get("error") if isinstance(body, dict) else None
        self._error: Mapping[str, Any] = error if isinstance(error, dict) else {}

    @property
    def is_googles(self) -> bool:
        return isinstance(self._error.get("status", self._error.get("code")), str | int)

    @property
    def message(self) -> str:
        message = self._error.get("message")
        return message if isinstance(message, str) else ""

    @property
    def is_about_access(self) -> bool:
        """A wrong key, a disabled bill, a country: answered with 400, and not the user's doing."""
        if self._error.get("status") == "FAILED_PRECONDITION":
            return True
        return any(str(reason).startswith("API_KEY_") for reason in self.values("ErrorInfo", "reason"))

    def values(self, type_: str, name: str) -> Iterator[Any]:
        """From the details of one type, `google.rpc.{type_}`."""
        details = self._error.get("details")
        for detail in details if isinstance(details, list) else ():
            if isinstance(detail, dict) and str(detail.get("@type", "")).endswith(f"google.rpc.{type_}"):
                yield detail.get(name)

    def to_operator(self, status: int) -> str:
        return f"{status} {self._error.get('status', '')}: {shown(self.message)}"


def _unclear(what: str, call: Call) -> GeneratorError:
    return OutcomeUnknown(what) if call is Call.PAID else Down(what)


def _wait(said: _Said, headers: Mapping[str, str]) -> timedelta | None:
    """`RetryInfo`, else the header."""
    for delay in said.values("RetryInfo", "retryDelay"):
        if isinstance(delay, str) and re.fullmatch(r"\d{1,9}(\.\d{1,9})?s", delay):
            return bounded_wait(float(delay[:-1]))
    return wait_told(headers)
