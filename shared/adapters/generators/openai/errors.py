"""What the errors of OpenAI's client mean for an order.

OpenAI does not say that a request is free that its servers failed on (500): it counts as taken and failed,
so that nothing is bought elsewhere meanwhile. An overload (503) and a limit (429) are said before anything
is taken, also by a gateway that says when to come back. Whatever else a gateway in between says, a broken
connection, a timeout, and an answer that cannot be read leave the outcome unknown.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import openai
import structlog

from shared.adapters.generators.remote.http import (
    TRANSPORT_ERRORS,
    AnswerTooLarge,
    OperatorNeeded,
    shown,
    wait_told,
    was_not_sent,
)
from shared.ports.generator import (
    Busy,
    ContentRejected,
    Down,
    GenerationFailed,
    GeneratorError,
    OutcomeUnknown,
    RequestRefused,
    Retired,
)

REJECTED: Final = frozenset({"moderation_blocked", "content_policy_violation"})
UNPAID: Final = frozenset(
    {"insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached", "billing_not_active"}
)

# A parser, ours or the client's, met something that the interface does not promise.
_UNREADABLE: Final = (ValueError, TypeError, AttributeError, LookupError, RuntimeError)

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def openai_call(*, timeout_seconds: float) -> AsyncIterator[None]:
    """Around one paid call of the client: it ends in time, and raises nothing but what the port names."""
    try:
        async with asyncio.timeout(timeout_seconds):
            yield
    except GeneratorError:
        raise
    except (openai.OpenAIError, AnswerTooLarge, *TRANSPORT_ERRORS, *_UNREADABLE) as error:
        meaning = meaning_of(error)
        if isinstance(meaning, OperatorNeeded):
            _log.error("generator.operator_needed", what=meaning.what)
        else:
            _log.info("generator.call_failed", error=shown(repr(error)), meaning=type(meaning).__name__)
        raise meaning from error


def meaning_of(error: Exception) -> GeneratorError:
    """The port's error for whatever the client raised."""
    match error:
        case openai.APIStatusError():
            return meaning_of_answer(error.status_code, error.body, error.response.headers)
        case AnswerTooLarge():
            return GenerationFailed("the provider's answer is too large", retryable=False)
        case _ if was_not_sent(error) or was_not_sent(error.__cause__):
            return Down("the provider cannot be reached")
        case openai.APITimeoutError() | TimeoutError():
            return OutcomeUnknown("the provider did not answer in time")
        case openai.APIConnectionError():
            return OutcomeUnknown("the connection to the provider broke off")
        case _ if isinstance(error, TRANSPORT_ERRORS):
            return OutcomeUnknown("the connection to the provider broke off")
        case _:
            return OutcomeUnknown("the provider's answer cannot be read")


def meaning_of_answer(status: int, body: object, headers: Mapping[str, str]) -> GeneratorError:
    """The port's error for an answer with an error status; `body` is its inner `error`, if it has one."""
    said = _Said(body)
    if said.code in REJECTED:
        return ContentRejected(said.shown or "the content policy refused this", stage=said.stage)
    if status in (401, 402, 403) or said.is_about_money:
        return OperatorNeeded(f"{status} {said.code}: {said.shown}")
    match status:
        case 429:
            return Busy("the provider's rate limit is reached", retry_after=wait_told(headers))
        case 503 if (after := wait_told(headers)) is not None:
            return Busy("the provider is overloaded", retry_after=after)
        case 503 if not said.is_openais:
            # So does a gateway answer whose connection broke after it had passed the request on.
            return OutcomeUnknown("the provider failed")
        case 503:
            return Down("the provider is overloaded")
        case 500 if said.is_openais:
            return GenerationFailed("the provider failed", retryable=True)
        case 408 | 499:
            return OutcomeUnknown("the provider did not finish in time")
        case _ if status >= 500:
            return OutcomeUnknown("the provider failed")
        case _:
            return _refusal(status, said)


def _refusal(status: int, said: "_Said") -> GeneratorError:
    if status != 413 and not (status >= 400 and said.is_openais):
        # A redirect, a page of a proxy: no model has seen the request.
        return OperatorNeeded(f"an answer that is not OpenAI's, status {status}")
    if status == 410 or said.is_about_the_model:
        return Retired("the model is no longer available")
    if status == 404:
        return OperatorNeeded(f"404 {said.code}: {said.shown}")
    return RequestRefused(shown(f"the provider refused the request: {said.message}").rstrip(": "))


class _Said:
    """The inner body of an answer with an error status, whatever it is."""

    def __init__(self, body: object) -> None:
        self._error: Mapping[str, Any] = body if isinstance(body, dict) else {}

    @property
    def is_openais(self) -> bool:
        return bool(self.message) and "type" in self._error

    @property
    def message(self) -> str:
        return self._text("message")

    @property
    def shown(self) -> str:
        return shown(self.message)

    @property
    def code(self) -> str:
        return self._text("code")

    @property
    def is_about_money(self) -> bool:
        return self.code in UNPAID or self._text("type") in UNPAID

    @property
    def is_about_the_model(self) -> bool:
        return self.code.startswith("model_") or self._text("param") == "model"

    @property
    def stage(self) -> str:
        """Of a rejection, as the port calls it."""
        details = self._error.get("moderation_details")
        is_output = isinstance(details, dict) and details.get("moderation_stage") == "output"
        return "output" if is_output else "prompt"

    def _text(self, name: str) -> str:
        value = self._error.get(name)
        return value if isinstance(value, str) else ""
