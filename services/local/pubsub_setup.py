"""The topics and push subscriptions that the Pub/Sub queue needs, for tests and `make emulators`.

May be run again, also with other settings. The deployment makes the same things with `gcloud`.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from urllib.parse import urlencode

from google.api_core.exceptions import AlreadyExists
from google.pubsub_v1 import PublisherAsyncClient, SubscriberAsyncClient
from google.pubsub_v1.types import DeadLetterPolicy, PushConfig, RetryPolicy, Subscription, Topic

from shared.envelope import DEAD_LETTER_TOPIC, TOPIC_ROUTES

ACK_DEADLINE_SECONDS: Final = 600
MAX_DELIVERY_ATTEMPTS: Final = 5
KEPT_FOR: Final = timedelta(days=7)

_UPDATABLE: Final = ("ack_deadline_seconds", "push_config", "dead_letter_policy", "retry_policy")


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Between deliveries that the worker refuses."""

    least: timedelta = timedelta(seconds=10)
    most: timedelta = timedelta(seconds=600)


def subscription_for(topic: str) -> str:
    return f"{topic}-sub"


async def set_up(
    project: str,
    *,
    worker_url: str,
    backoff: Backoff | None = Backoff(),
    service_account: str = "",
    audience: str = "",
    token: str = "",
    others: Mapping[str, str] | None = None,
) -> None:
    """Create what is missing and bring up to date what is there.

    Without a `backoff` a refused message comes again as fast as Pub/Sub likes: at once, or after 1 s from
    the emulator, which takes 3 s with any. Pushes carry an OIDC token of `service_account` for `audience`
    (by default the worker's address) if there is one. The emulator never sends a token; for it, `token`
    goes into the address, as `?token=`. `others` are workers of their own, as topic to address.
    """
    async with PublisherAsyncClient() as publisher, SubscriberAsyncClient() as subscriber:
        dead_letters = f"projects/{project}/topics/{DEAD_LETTER_TOPIC}"
        await _create_topic(publisher, dead_letters)
        await _subscribe(
            subscriber,
            Subscription(
                name=f"projects/{project}/subscriptions/{subscription_for(DEAD_LETTER_TOPIC)}",
                topic=dead_letters,
                ack_deadline_seconds=ACK_DEADLINE_SECONDS,
                message_retention_duration=KEPT_FOR,
            ),
            updatable=("ack_deadline_seconds",),
        )
        for topic, route in TOPIC_ROUTES.items():
            await _create_topic(publisher, f"projects/{project}/topics/{topic}")
            address = (others or {}).get(topic, worker_url).rstrip("/")
            endpoint = f"{address}{route}" + (f"?{urlencode({'token': token})}" if token else "")
            push = PushConfig(push_endpoint=endpoint)
            if service_account:
                push.oidc_token = PushConfig.OidcToken(
                    service_account_email=service_account, audience=audience or address
                )
            subscription = Subscription(
                name=f"projects/{project}/subscriptions/{subscription_for(topic)}",
                topic=f"projects/{project}/topics/{topic}",
                ack_deadline_seconds=ACK_DEADLINE_SECONDS,
                push_config=push,
                dead_letter_policy=DeadLetterPolicy(
                    dead_letter_topic=dead_letters, max_delivery_attempts=MAX_DELIVERY_ATTEMPTS
                ),
                message_retention_duration=KEPT_FOR,
            )
            if backoff is not None:
                subscription.retry_policy = RetryPolicy(
                    minimum_backoff=backoff.least, maximum_backoff=backoff.most
                )
            await _subscribe(subscriber, subscription, updatable=_UPDATABLE)


async def _create_topic(publisher: PublisherAsyncClient, name: str) -> None:
    with suppress(AlreadyExists):
        await publisher.create_topic(Topic(name=name))


async def _subscribe(
    subscriber: SubscriberAsyncClient, wanted: Subscription, *, updatable: Sequence[str]
) -> None:
    try:
        await subscriber.create_subscription(wanted)
    except AlreadyExists:
        standing = await subscriber.get_subscription(subscription=wanted.name)
        if standing.topic == wanted.topic:
            await subscriber.update_subscription(
                {"subscription": wanted, "update_mask": {"paths": updatable}}
            )
        else:  # its topic was deleted, and one of the same name is another topic
            await subscriber.delete_subscription(subscription=wanted.name)
            await subscriber.create_subscription(wanted)
