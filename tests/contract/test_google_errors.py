"""What Google's errors mean, by whether the call was paid for; the same table for every one of its models."""

import asyncio
from datetime import timedelta
from typing import Any

import anyio
import httpx2
import pytest
from google.auth import exceptions as auth
from google.genai import errors

from shared.adapters.generators.google.errors import Call, google_call, meaning_of, meaning_of_answer
from shared.adapters.generators.remote.http import LONGEST_WAIT, AnswerTooLarge, OperatorNeeded, shown
from shared.ports.generator import (
    Busy,
    Down,
    GenerationFailed,
    GeneratorError,
    OutcomeUnknown,
    RequestRefused,
    Retired,
)
from tests.providers.gemini import API_KEY_INVALID, error_body, retry_info

PAGE = {"message": "<html>", "status": ""}
"""What the client makes of a body that is not JSON."""


@pytest.mark.parametrize(
    ("status", "body", "paid", "free"),
    [
        (400, error_body(400, "INVALID_ARGUMENT"), RequestRefused, GenerationFailed),
        (400, error_body(400, "FAILED_PRECONDITION"), OperatorNeeded, OperatorNeeded),
        (400, error_body(400, "INVALID_ARGUMENT", "m", API_KEY_INVALID), OperatorNeeded, OperatorNeeded),
        (400, error_body(400, "OUT_OF_RANGE"), RequestRefused, GenerationFailed),
        (400, PAGE, OperatorNeeded, OperatorNeeded),
        (401, error_body(401, "UNAUTHENTICATED"), OperatorNeeded, OperatorNeeded),
        (402, error_body(402, "RESOURCE_EXHAUSTED"), OperatorNeeded, OperatorNeeded),
        (403, error_body(403, "PERMISSION_DENIED"), OperatorNeeded, OperatorNeeded),
        (404, error_body(404, "NOT_FOUND"), Retired, GenerationFailed),
        (404, PAGE, OperatorNeeded, GenerationFailed),
        (408, PAGE, OutcomeUnknown, Down),
        (410, error_body(410, "GONE"), Retired, GenerationFailed),
        (413, PAGE, RequestRefused, GenerationFailed),
        (429, error_body(429, "RESOURCE_EXHAUSTED"), Busy, Busy),
        (429, PAGE, Busy, Busy),
        (499, error_body(499, "CANCELLED"), OutcomeUnknown, Down),
        (500, error_body(500, "INTERNAL"), Down, Down),
        (500, PAGE, OutcomeUnknown, Down),
        (501, error_body(501, "UNIMPLEMENTED"), Down, Down),
        (502, PAGE, OutcomeUnknown, Down),
        (503, error_body(503, "UNAVAILABLE"), Down, Down),
        (503, PAGE, OutcomeUnknown, Down),
        (206, PAGE, OutcomeUnknown, Down),
        (504, error_body(504, "DEADLINE_EXCEEDED"), OutcomeUnknown, Down),
        (302, PAGE, OperatorNeeded, OperatorNeeded),
    ],
)
def test_an_answer_with_an_error_status(
    status: int, body: Any, paid: type[GeneratorError], free: type[GeneratorError]
) -> None:
    assert type(meaning_of_answer(status, body, {}, Call.PAID)) is paid
    assert type(meaning_of_answer(status, body, {}, Call.FREE)) is free


@pytest.mark.parametrize(
    ("error", "paid", "free"),
    [
        (httpx2.ConnectError("refused"), Down, Down),
        (httpx2.ConnectTimeout("no answer"), Down, Down),
        (httpx2.PoolTimeout("full"), Down, Down),
        (httpx2.InvalidURL("a model's name"), Down, Down),
        (httpx2.ReadTimeout("silence"), OutcomeUnknown, Down),
        (httpx2.WriteTimeout("silence"), OutcomeUnknown, Down),
        (httpx2.ReadError("reset"), OutcomeUnknown, Down),
        (httpx2.WriteError("reset"), OutcomeUnknown, Down),
        (httpx2.RemoteProtocolError("gone"), OutcomeUnknown, Down),
        (httpx2.DecodingError("not gzip"), OutcomeUnknown, Down),
        (anyio.EndOfStream(), OutcomeUnknown, Down),
        (ConnectionResetError(), OutcomeUnknown, Down),
        (TimeoutError(), OutcomeUnknown, Down),
        (AnswerTooLarge("large"), GenerationFailed, GenerationFailed),
        (errors.UnknownApiResponseError("not JSON"), OutcomeUnknown, Down),
        (auth.RefreshError("invalid_grant"), OperatorNeeded, OperatorNeeded),  # type: ignore[no-untyped-call]
        (auth.TransportError("no route"), Down, Down),  # type: ignore[no-untyped-call]
        (RuntimeError("Could not resolve API token"), OutcomeUnknown, Down),
    ],
)
async def test_a_call_that_has_no_answer(
    error: Exception, paid: type[GeneratorError], free: type[GeneratorError]
) -> None:
    for call, meant in ((Call.PAID, paid), (Call.FREE, free)):
        with pytest.raises(GeneratorError) as raised:
            async with google_call(call, timeout_seconds=5):
                raise error
        assert type(raised.value) is meant
        assert raised.value.__cause__ is error


def test_every_error_of_the_http_client_is_known() -> None:
    """A newer client's new error still becomes one of the port's."""

    def leaves(kind: type[Exception]) -> list[type[Exception]]:
        return [leaf for child in kind.__subclasses__() for leaf in leaves(child)] or [kind]

    kinds = leaves(httpx2.TransportError)
    assert len(kinds) >= 10
    for kind in kinds:
        assert type(meaning_of(kind("x"), Call.PAID)) in (Down, OutcomeUnknown)


@pytest.mark.parametrize(
    "body",
    [
        None,
        "text",
        [],
        {},
        {"error": None},
        {"error": "text"},
        {"error": []},
        {"error": {"details": 5, "message": 5, "status": 5}},
        {"error": {"details": [5, {"@type": 5}], "status": None}},
        {"error": {"details": [{"@type": "google.rpc.RetryInfo"}], "status": "X"}},
    ],
)
@pytest.mark.parametrize("status", [302, 400, 401, 404, 429, 500, 503])
def test_no_body_is_too_strange(body: object, status: int) -> None:
    for call in Call:
        assert isinstance(meaning_of_answer(status, body, {}, call), GeneratorError)


@pytest.mark.parametrize(
    ("delay", "header", "seconds"),
    [
        ("17s", None, 17),
        ("17.2s", None, 18),
        ("0s", None, 0),
        ("17s", "90", 17),
        (None, "90", 90),
        ("nonsense", "90", 90),
        ("-3s", None, None),
        ("1e9s", None, None),
        (None, "Wed, 21 Oct 2026 07:28:00 GMT", None),
        (None, None, None),
        ("999999999s", None, LONGEST_WAIT.total_seconds()),
    ],
)
def test_how_long_a_limit_lasts(delay: str | None, header: str | None, seconds: float | None) -> None:
    details = [retry_info(delay)] if delay is not None else []
    headers = {"retry-after": header} if header is not None else {}
    busy = meaning_of_answer(429, error_body(429, "RESOURCE_EXHAUSTED", "m", *details), headers, Call.PAID)
    assert isinstance(busy, Busy)
    assert busy.retry_after == (None if seconds is None else timedelta(seconds=seconds))


def test_what_the_operator_must_mend_is_named_to_them_and_not_to_users() -> None:
    needed = meaning_of_answer(403, error_body(403, "PERMISSION_DENIED", "enable it"), {}, Call.PAID)
    assert isinstance(needed, OperatorNeeded)
    assert needed.what == "403 PERMISSION_DENIED: enable it"
    assert needed.message == "the provider is not available"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("a\n\tb\x00 c", "a b c"),
        ("x" * 400, "x" * 299 + "…"),
        (
            "Publisher Model `projects/my-prod-7/locations/global` was not found",
            "Publisher Model `projects/…/locations/global` was not found",
        ),
        ("quota of project_number:123456 is out", "quota of project_number:… is out"),
        ("Project #9876 may not", "Project #… may not"),
        ("a@p.iam.gserviceaccount.com may not write gs://films/job 1.", "…@… may not write gs://… 1."),
        ("organization org-AbC123xyz, key sk-proj-12ab34", "organization org-…, key sk-…"),
        (
            "a project 3 people share, an organ-grinder @ home",
            "a project 3 people share, an organ-grinder @ home",
        ),
        ("", ""),
    ],
)
def test_a_providers_words_are_shown_as_one_short_line(words: str, line: str) -> None:
    assert shown(words) == line


@pytest.mark.parametrize(("call", "meant"), [(Call.PAID, OutcomeUnknown), (Call.FREE, Down)])
async def test_a_call_ends_in_time_even_if_something_arrives_all_the_while(
    call: Call, meant: type[GeneratorError]
) -> None:
    """The HTTP client's own limits are on silence, not on the whole call."""
    with pytest.raises(meant):
        async with google_call(call, timeout_seconds=0.01):
            await asyncio.Event().wait()


async def test_an_error_that_the_port_names_passes_through() -> None:
    with pytest.raises(Busy):
        async with google_call(Call.PAID, timeout_seconds=5):
            raise Busy("full")
