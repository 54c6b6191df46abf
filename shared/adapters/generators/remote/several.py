"""Several images of one order, from a provider that makes one per call."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any

from shared.ports.generator import (
    Artifact,
    Busy,
    ContentRejected,
    Down,
    GenerationFailed,
    GeneratorError,
    Made,
    OutcomeUnknown,
    RequestRefused,
    TookNothing,
    Withheld,
)


async def make_several(count: int, make: Callable[[int], Coroutine[Any, Any, Artifact]]) -> Made:
    """Make `count` items at once, numbered from 0. Cancelling this cancels every call."""

    async def made_or_error(number: int) -> Artifact | GeneratorError:
        try:
            return await make(number)
        except GeneratorError as error:
            return error

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(made_or_error(number)) for number in range(count)]
    return made_of([task.result() for task in tasks])


def made_of(results: Sequence[Artifact | GeneratorError]) -> Made:
    """What was made, in order; if there is nothing, raise the one error that says most.

    1. A verdict on the order itself: the same for every call, whatever became of the others.
    2. One unknown outcome makes the whole unknown: it may have been taken.
    3. What happened to something that was taken: held back by the policy before failed, for a failure
       invites to buy what is likely to be held back again.
    4. Only if nothing was taken by any call, the most hopeful: a quota opens, after the longest wait told.
    """
    errors = [result for result in results if isinstance(result, GeneratorError)]
    if len(errors) < len(results):
        return Made(
            items=[
                Withheld(reason=result.message) if isinstance(result, GeneratorError) else result
                for result in results
            ]
        )
    raise max(errors, key=_weight)


def _weight(error: GeneratorError) -> tuple[int, timedelta]:
    wait = timedelta(0)
    match error:
        case RequestRefused():
            rank = 8
        case ContentRejected(stage="prompt"):
            rank = 7
        case OutcomeUnknown():
            rank = 6
        case ContentRejected():
            rank = 5
        case GenerationFailed():
            rank = 4 if error.retryable else 3
        case Busy():
            rank, wait = 2, error.retry_after or wait
        case Down():
            rank = 1
        case TookNothing():
            rank = 0
        case _:
            rank = 6  # an error that this adapter does not know says nothing about what was taken
    return rank, wait
