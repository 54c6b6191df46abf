"""The queue on Google Cloud: Pub/Sub topics, whose subscriptions push to the worker.

The service account needs `roles/pubsub.publisher` on the topics and nothing else. Subscriptions, retries
and dead letters belong to the deployment. `PUBSUB_EMULATOR_HOST` is honoured by the client itself.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from google.pubsub_v1 import PublisherAsyncClient, PublishRequest, PubsubMessage

from shared.adapters.queues._google import (
    PATIENCE_SECONDS,
    all_of,
    by_topic,
    explained,
    limits,
    opening,
    require_permission,
    require_project,
)
from shared.envelope import TOPIC_ROUTES, attributes_of, data_of
from shared.ports.queue import Hint

MAX_MESSAGES: Final = 1000
"""In one request, by Pub/Sub's limit; that many of ours are far below its other one, 10 MB."""
MAY_PUBLISH: Final = "pubsub.topics.publish"


class PubSubQueue:
    """Publishes and waits for the answer, without the client's batching in the background.

    On Cloud Run a container has no CPU between requests, so a message that still waits in a batch when
    its request is answered may wait for ever.
    """

    delays = False

    def __init__(self, client: PublisherAsyncClient, project: str, *, patience_seconds: float) -> None:
        self._client = client
        self._project = project
        self._limits = limits(patience_seconds)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, project: str, *, patience_seconds: float = PATIENCE_SECONDS
    ) -> AsyncIterator["PubSubQueue"]:
        """Raises `QueueUnavailable` without credentials; whether there are topics, `check` finds out."""
        require_project(project)
        with opening("Pub/Sub"):
            client = PublisherAsyncClient()
        async with client:
            yield cls(client, project, patience_seconds=patience_seconds)

    async def publish(self, hints: Sequence[Hint]) -> None:
        await all_of(
            self._publish(topic, hints_of_topic[start : start + MAX_MESSAGES])
            for topic, hints_of_topic in by_topic(hints).items()
            for start in range(0, len(hints_of_topic), MAX_MESSAGES)
        )

    async def check(self) -> None:
        await all_of(self._check(topic) for topic in TOPIC_ROUTES)

    async def _publish(self, topic: str, hints: Sequence[Hint]) -> None:
        messages = [PubsubMessage(data=data_of(hint), attributes=attributes_of(hint)) for hint in hints]
        request = PublishRequest(topic=self._path(topic), messages=messages)
        with explained(f"topic {self._path(topic)}"):
            await self._client.publish(request, **self._limits)

    async def _check(self, topic: str) -> None:
        path = self._path(topic)
        look = partial(self._client.get_topic, topic=path)
        await require_permission(
            "topic", path, MAY_PUBLISH, client=self._client, look=look, calls=self._limits
        )

    def _path(self, topic: str) -> str:
        return f"projects/{self._project}/topics/{topic}"
