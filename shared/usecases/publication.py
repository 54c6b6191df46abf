"""Into the feed and out of it, and out of the world: publish, unpublish, delete."""

from collections.abc import Callable, Sequence

from shared.domain.changes import Create, Put, Records, Write, job_key
from shared.domain.ids import JobId, UserId, erasure_id
from shared.domain.job import Job, Kind, Status
from shared.domain.lifecycle import deleted, published, unpublished
from shared.usecases.app import App
from shared.usecases.reading import visible
from shared.usecases.submit import publish as publish_hints


async def publish(app: App, job_id: JobId, user: UserId) -> Job:
    """Show a draft in the feed; repeating it changes nothing. Raises `NotFound` or `WrongState`."""
    now = app.clock.now()
    return await _change(app, job_id, user, lambda job: published(job, now))


async def unpublish(app: App, job_id: JobId, user: UserId) -> Job:
    """Take it out of the feed; links to its media go on working."""
    return await _change(app, job_id, user, unpublished)


async def delete(app: App, job_id: JobId, user: UserId) -> None:
    """Hide a finished job at once and have it erased; repeatable. Raises `NotFound` or `WrongState`."""
    key, erasure_key = job_key(job_id), job_key(erasure_id(job_id))
    now = app.clock.now()

    def decide(records: Records) -> Sequence[Write]:
        job, erasure = records.find(key), records.find(erasure_key)
        if erasure is not None and erasure.user_id == user:
            return []
        job = visible(job, job_id, user)
        return [Put(deleted(job, now)), Create(_erasure_of(app, job))]

    records = await app.store.change([key, erasure_key], decide)
    erasure = records.need(erasure_key)
    if not erasure.is_finished:
        await publish_hints(app, [erasure])


def _erasure_of(app: App, job: Job) -> Job:
    now = app.clock.now()
    return Job(
        id=erasure_id(job.id),
        kind=Kind.ERASURE,
        status=Status.QUEUED,
        account_id=job.account_id,
        user_id=job.user_id,
        request={"job_id": job.id},
        created_at=now,
        deadline_at=now + app.catalogue.kinds[Kind.ERASURE].deadline,
        wake_at=now + app.policy.publish_grace,
    )


async def _change(app: App, job_id: JobId, user: UserId, move: Callable[[Job], Job]) -> Job:
    key = job_key(job_id)

    def decide(records: Records) -> Sequence[Write]:
        job = visible(records.find(key), job_id, user)
        after = move(job)
        return [Put(after)] if after != job else []

    return (await app.store.change([key], decide)).need(key)
