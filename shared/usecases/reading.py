"""Finding a job for somebody: what is not theirs does not exist for them."""

import asyncio

from shared.domain.changes import job_key
from shared.domain.errors import NotFound
from shared.domain.ids import JobId, UserId
from shared.domain.job import Job
from shared.ports.store import Interest
from shared.usecases.app import App


def visible(job: Job | None, job_id: JobId, user: UserId) -> Job:
    if job is None or not job.is_visible or job.user_id != user:
        raise NotFound(f"there is no job {job_id}")
    return job


async def get_job(app: App, job_id: JobId, user: UserId) -> Job:
    """The user's own job; raises `NotFound`."""
    return visible((await app.store.load([job_key(job_id)])).find(job_key(job_id)), job_id, user)


async def wait_for_end(app: App, job: Job, seconds: float) -> Job:
    """The job once it is finished, or as it stands when the time is up or the process wants to end."""
    if job.is_finished or seconds <= 0:
        return job
    async with app.store.watch(Interest(jobs=frozenset({job.id}))) as changes:
        latest = (await app.store.load([job_key(job.id)])).find(job_key(job.id)) or job

        async def follow() -> None:
            nonlocal latest
            while not latest.is_finished:
                latest = await anext(changes)

        following = asyncio.create_task(follow(), name=f"wait {job.id}")
        stopping = asyncio.create_task(app.stopping.wait(), name=f"wait {job.id}, but not at the end")
        try:
            await asyncio.wait({following, stopping}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            following.cancel()
            stopping.cancel()
            await asyncio.gather(following, stopping, return_exceptions=True)
    return latest
