"""Several images of one order: what the fates of the single calls make of the whole."""

import asyncio
from datetime import timedelta
from itertools import permutations

import pytest

from shared.adapters.generators.remote.several import made_of, make_several
from shared.ports.generator import (
    Artifact,
    Busy,
    ContentRejected,
    Down,
    GenerationFailed,
    GeneratorError,
    OutcomeUnknown,
    RequestRefused,
    Retired,
    TookNothing,
    Withheld,
)

PICTURE = Artifact(type="image/png", content=b"a picture")
PROMPT = ContentRejected("the prompt is blocked", stage="prompt")
OUTPUT = ContentRejected("the output is held back", stage="output")
REFUSED = RequestRefused("no such size")
UNKNOWN = OutcomeUnknown("it broke off")
FAILED = GenerationFailed("no image", retryable=True)
HOPELESS = GenerationFailed("too large", retryable=False)
BUSY = Busy("full")
BUSY_10 = Busy("full", retry_after=timedelta(seconds=10))
BUSY_60 = Busy("full", retry_after=timedelta(seconds=60))
DOWN = Down("down")
RETIRED = Retired("gone")

ALL_ERRORS = (PROMPT, OUTPUT, REFUSED, UNKNOWN, FAILED, HOPELESS, BUSY, BUSY_10, DOWN, RETIRED)


@pytest.mark.parametrize("error", ALL_ERRORS)
def test_one_image_makes_it_made_and_the_rest_withheld_in_order(error: GeneratorError) -> None:
    assert made_of([error, PICTURE, error]).items == [
        Withheld(reason=error.message),
        PICTURE,
        Withheld(reason=error.message),
    ]


@pytest.mark.parametrize(
    ("errors", "whole"),
    [
        # A verdict on the order is the same for every call.
        ([REFUSED, PROMPT, UNKNOWN, BUSY], REFUSED),
        ([PROMPT, UNKNOWN, OUTPUT], PROMPT),
        # What may have been taken must not be bought elsewhere.
        ([UNKNOWN, DOWN, RETIRED], UNKNOWN),
        ([UNKNOWN, FAILED], UNKNOWN),
        ([UNKNOWN, OUTPUT], UNKNOWN),
        # What was taken and brought nothing.
        ([OUTPUT, FAILED, BUSY], OUTPUT),
        ([FAILED, HOPELESS, BUSY], FAILED),
        ([HOPELESS, DOWN], HOPELESS),
        # Nothing was taken: what waiting may bring.
        ([BUSY, DOWN, RETIRED], BUSY),
        ([BUSY_10, BUSY_60, BUSY], BUSY_60),
        ([DOWN, RETIRED], DOWN),
        ([RETIRED, RETIRED], RETIRED),
    ],
)
def test_nothing_made_is_the_error_that_says_most(
    errors: list[GeneratorError], whole: GeneratorError
) -> None:
    for order in permutations(errors):
        with pytest.raises(type(whole)) as raised:
            made_of(order)
        assert raised.value is whole


def test_another_generator_may_be_tried_only_if_every_call_took_nothing() -> None:
    for first in ALL_ERRORS:
        for second in ALL_ERRORS:
            with pytest.raises(GeneratorError) as raised:
                made_of([first, second])
            took_nothing = isinstance(first, TookNothing) and isinstance(second, TookNothing)
            assert isinstance(raised.value, TookNothing) == took_nothing


async def test_a_bug_in_one_call_ends_the_others() -> None:
    ended = asyncio.Event()

    async def make(number: int) -> Artifact:
        if number == 0:
            raise ZeroDivisionError
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return PICTURE

    with pytest.raises(ExceptionGroup):
        await make_several(2, make)
    assert ended.is_set()
