"""The generator port: the model behind a job.

Errors tell the engine what it may do next; an adapter maps everything its provider can say to one of
them, and retries nothing by itself:

GeneratorError
├── ContentRejected     the provider's policy refused the prompt or held back the output
├── RequestRefused      the provider will never accept this request
├── TookNothing         certainly nothing was taken: another generator may be tried
│   ├── Busy            a quota or a rate limit, `retry_after` says until when
│   ├── Down            unreachable or answering with a server error before taking the order
│   └── Retired         the model does not exist any more
├── GenerationFailed    the order was taken and failed
└── OutcomeUnknown      the call broke off: the order may or may not have been taken
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from shared.domain.ids import JobId
from shared.domain.requests import ImageRequest, VideoRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class InputImage:
    """A picture to start from: an image's reference, or a video's first frame."""

    type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a generator is asked to make."""

    job_id: JobId
    model: str
    """The provider's own name of the model."""
    request: ImageRequest | VideoRequest
    images: tuple[InputImage, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """Something that was made. A `Path` is a temporary file which then belongs to the receiver."""

    type: str
    content: bytes | Path = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """One of several requested items that the provider kept back or failed to make."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A long operation has been taken; its `reference` is enough to ask about it, from anywhere."""

    reference: str
    progress: int = 0
    """0 to 99, as far as the provider tells."""
    poll_after: timedelta = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The operation has ended; as many items as were asked for, at least one of them an artifact."""

    items: Sequence[Artifact | Withheld]


class GeneratorError(Exception):
    """Base of what a generator may raise; the message may be shown to the job's owner."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ContentRejected(GeneratorError):
    def __init__(self, message: str, *, stage: str) -> None:
        super().__init__(message)
        self.stage = stage
        """`prompt` or `output`."""


class RequestRefused(GeneratorError):
    pass


class TookNothing(GeneratorError):
    pass


class Busy(TookNothing):
    def __init__(self, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Down(TookNothing):
    pass


class Retired(TookNothing):
    pass


class GenerationFailed(GeneratorError):
    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable
        """Whether the same order could succeed another time."""


class OutcomeUnknown(GeneratorError):
    pass


class Generator(Protocol):
    async def start(self, order: Order) -> Running | Made:
        """Buy: a call may cost money, so it is made once per saved intent; the adapter never repeats it.

        A quick model answers with what it made, a slow one with its operation's reference.
        Cancelling the call leaves it unknown whether the order was taken.
        """

    async def poll(self, order: Order, reference: str) -> Running | Made:
        """Ask about an operation; free, may be repeated, from any process.

        Raises `Busy` or `Down` when the provider cannot answer now (the operation goes on), and
        `GenerationFailed` or `ContentRejected` when the operation has ended without a result.
        """

    async def cancel(self, order: Order, reference: str) -> None:
        """Ask the provider to stop an operation, if it can; its result is not needed any more."""
