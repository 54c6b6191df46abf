"""The queue port: ask some worker, soon and at least once, to look at a job."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from shared.domain.ids import JobId, RequestId
from shared.ports.tracing import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """ "Look at this job now." Losing one costs time, doubling one costs nothing."""

    job_id: JobId
    kind: str
    request_id: RequestId | None = None
    trace: Trace | None = None
    """The trace that the work belongs to."""
    not_before: datetime | None = None
    """Looking earlier would be in vain. Not part of the message: the job itself knows."""


class Queue(Protocol):
    @property
    def delays(self) -> bool:
        """Whether hints are held back until their `not_before`, so that it pays to publish early.

        Other queues deliver such a hint at once: the worker finds that it is early and does nothing.
        """

    async def publish(self, hints: Sequence[Hint]) -> None:
        """Hand over the hints; each reaches a worker at least once, in any order, unless it is lost.

        Returns when the queue has them. Raises `QueueUnavailable` when it does not take them all, within
        seconds; the caller goes on, for the sweep publishes again.
        """

    async def check(self) -> None:
        """Raise `QueueUnavailable` unless hints can be handed over right now."""
