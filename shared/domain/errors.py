"""What can go wrong, as callers are told it.

MediaForgeError
├── InvalidRequest          the body or a parameter does not fit, `param` says where
├── BadRequest              the request cannot be read
│   └── BadCursor           `after` was not made by us
├── Forbidden               the caller may not use this account or route
├── NotFound                there is no such thing, or it is somebody else's
├── WrongState              the job's status does not allow it
├── IdempotencyConflict     the key was used for something else
├── InsufficientTokens      the account cannot pay
├── MaxCostExceeded         it costs more than the caller allowed
├── Unauthenticated         we do not know who is calling
├── Overloaded              full right now; nothing was taken
├── Unavailable             a part we stand on does not answer
│   ├── StoreUnavailable    nothing is known to be written
│   │   └── Conflict        others kept changing the same records
│   ├── QueueUnavailable    the hint may be lost; the sweep makes up for it
│   ├── MediaUnavailable    the bytes were not stored
│   └── AuthUnavailable     whether a token is good cannot be known now; it may well be
└── BrokenInvariant         a bug: the books or a job would have become wrong, so nothing was written
    └── IllegalMove
"""

from typing import ClassVar

from shared.domain.ids import AccountId, JobId


class MediaForgeError(Exception):
    """Base of all errors that we raise on purpose."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class InvalidRequest(MediaForgeError):
    code = "invalid_request"


class BadRequest(MediaForgeError):
    code = "bad_request"


class BadCursor(BadRequest):
    def __init__(self) -> None:
        super().__init__("`after` is not a cursor of this list; pass back what `next` said", param="after")


class Forbidden(MediaForgeError):
    code = "forbidden"


class NotFound(MediaForgeError):
    code = "not_found"


class WrongState(MediaForgeError):
    code = "wrong_state"


class IdempotencyConflict(MediaForgeError):
    code = "idempotency_conflict"

    def __init__(self) -> None:
        super().__init__(
            "this Idempotency-Key was already used for another request; use a new key",
            param="Idempotency-Key",
        )


class InsufficientTokens(MediaForgeError):
    code = "insufficient_tokens"

    def __init__(self, account: AccountId, *, needed_tokens: int, available_tokens: int) -> None:
        super().__init__(f"account {account} needs {needed_tokens} tokens and has {available_tokens}")
        self.needed_tokens = needed_tokens
        self.available_tokens = available_tokens


class MaxCostExceeded(MediaForgeError):
    code = "max_cost_exceeded"

    def __init__(self, *, cost_tokens: int, max_cost_tokens: int) -> None:
        super().__init__(
            f"this costs {cost_tokens} tokens, more than max_cost {max_cost_tokens}", param="max_cost"
        )
        self.needed_tokens = cost_tokens


class Unauthenticated(MediaForgeError):
    code = "unauthenticated"


class Overloaded(MediaForgeError):
    code = "unavailable"
    retryable = True

    def __init__(self, message: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Unavailable(MediaForgeError):
    code = "unavailable"
    retryable = True


class StoreUnavailable(Unavailable):
    """Nothing is known to be written; a change of unknown result is decided again by whoever asks next."""


class Conflict(StoreUnavailable):
    """Others kept changing the same records until our tries were used up."""


class QueueUnavailable(Unavailable):
    pass


class MediaUnavailable(Unavailable):
    pass


class AuthUnavailable(Unavailable):
    """Not `Unauthenticated`: the caller must not throw a good token away."""


class BrokenInvariant(MediaForgeError):
    """A bug of ours. The change that would have broken a promise was not written."""


class IllegalMove(BrokenInvariant):
    def __init__(self, job: JobId, before: str, after: str) -> None:
        super().__init__(f"{job} cannot go from {before} to {after}")
