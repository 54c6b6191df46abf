"""The queues that the Cloud Tasks queue needs, with their rates: for tests and for an emulator.

May be run again, also with other rates. The deployment makes the same things with `gcloud`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Final

from google.api_core.exceptions import AlreadyExists
from google.cloud.tasks_v2 import CloudTasksAsyncClient, Queue, RateLimits, RetryConfig

from shared.domain.job import Kind
from shared.envelope import TOPIC_ROUTES, TOPICS


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How fast one queue hands out tasks: the token bucket's rate, and how many are out at a time."""

    per_second: float
    at_once: int


OTHER_RATE: Final = Rate(per_second=20, at_once=10)
RATES: Final[Mapping[str, Rate]] = MappingProxyType(
    {TOPICS[Kind.IMAGE]: Rate(per_second=20, at_once=10), TOPICS[Kind.VIDEO]: Rate(per_second=10, at_once=5)}
)

MAX_ATTEMPTS: Final = 5
"""As a push subscription with a dead-letter topic; after that the sweep has to publish it again."""
RETRIED_FOR: Final = timedelta(seconds=60)
"""Cloud Tasks goes on until attempts and time are both spent. Five attempts take longer than this, so they
decide; with no limit of time it would go on for 31 days."""
LEAST_BACKOFF: Final = timedelta(seconds=10)
MOST_BACKOFF: Final = timedelta(seconds=600)
DOUBLINGS: Final = 6


async def set_up(
    client: CloudTasksAsyncClient, project: str, location: str, *, rates: Mapping[str, Rate] = RATES
) -> None:
    """Create what is missing and bring up to date what is there; queues not in `rates` get `OTHER_RATE`."""
    parent = f"projects/{project}/locations/{location}"
    for name in TOPIC_ROUTES:
        rate = rates.get(name, OTHER_RATE)
        queue = Queue(
            name=f"{parent}/queues/{name}",
            rate_limits=RateLimits(
                max_dispatches_per_second=rate.per_second, max_concurrent_dispatches=rate.at_once
            ),
            retry_config=RetryConfig(
                max_attempts=MAX_ATTEMPTS,
                max_retry_duration=RETRIED_FOR,
                min_backoff=LEAST_BACKOFF,
                max_backoff=MOST_BACKOFF,
                max_doublings=DOUBLINGS,
            ),
        )
        try:
            await client.create_queue(parent=parent, queue=queue)
        except AlreadyExists:
            await client.update_queue(
                {"queue": queue, "update_mask": {"paths": ["rate_limits", "retry_config"]}}
            )
