"""What the engine asks of a handler: the code that advances jobs of one kind."""

from datetime import datetime, timedelta
from typing import Protocol

from shared.domain.job import Job, Purchase
from shared.domain.outcomes import Outcome
from shared.usecases.turn import Turn


class Handler(Protocol):
    async def step(self, turn: Turn) -> Outcome:
        """Advance the job until it ends or has to wait for long, and say how that went.

        May be cancelled at any await, and the job be stepped again elsewhere: whatever must not happen
        twice is noted through the turn first. May raise `LeaseLost` and `StoreUnavailable`; any other
        error counts as an attempt.
        """

    def intent_at_claim(self, job: Job, now: datetime) -> Purchase | None:
        """The intent to save together with the claim, where a step begins by buying something cheap."""

    def longest_call(self, job: Job) -> timedelta:
        """How long a call may take whose result must not become unknown; the lease outlives it."""

    async def abandon(self, job: Job) -> None:
        """The job was settled from outside: stop what runs for it elsewhere, if that is possible."""
