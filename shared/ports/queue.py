"""The queue port: ask some worker, soon and at least once, to look at a job."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.domain.ids import JobId, RequestId


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """ "Look at this job now." Losing one costs time, doubling one costs nothing."""

    job_id: JobId
    kind: str
    request_id: RequestId | None = None


class Queue(Protocol):
    async def publish(self, hints: Sequence[Hint]) -> None:
        """Hand over the hints; each reaches a worker at least once, in any order, unless it is lost.

        Returns when the queue has them. Raises `QueueUnavailable` when it does not take them; the
        caller goes on, for the sweep publishes again.
        """

    async def check(self) -> None:
        """Raise `QueueUnavailable` unless hints can be handed over right now."""
