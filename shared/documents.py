"""A job as others read it: the API's Job, the same wherever it is shown."""

from collections.abc import Callable
from typing import Any

from shared.domain.job import Job, Media, Status

MediaUrl = Callable[[str], str]
"""From a media key to where it can be fetched."""


def job_document(job: Job, media_url: MediaUrl) -> dict[str, Any]:
    """Every public field of a job; instants stay `datetime`, for each encoder to write its own way."""
    return {
        "id": job.id,
        "kind": job.kind,
        "status": job.status,
        "progress": job.progress,
        "prompt": job.prompt,
        "request": dict(job.request),
        "model": job.model,
        "media": [media_document(media, media_url) for media in job.media],
        "thumbnail_url": media_url(job.thumbnail.key) if job.thumbnail else None,
        "error": _error_document(job),
        "billing": billing_document(job),
        "account_id": job.account_id,
        "user_id": job.user_id,
        "batch_id": None,
        "attempts": job.attempts,
        "cancel_requested": job.cancel_requested,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "published_at": job.published_at,
        "expires_at": job.expires_at,
        "metadata": dict(job.metadata),
    }


def feed_document(job: Job, media_url: MediaUrl) -> dict[str, Any]:
    """What everybody may see of a published job."""
    return {
        "id": job.id,
        "kind": job.kind,
        "prompt": job.prompt,
        "media": [media_document(media, media_url) for media in job.media],
        "thumbnail_url": media_url(job.thumbnail.key) if job.thumbnail else None,
        "published_at": job.published_at,
    }


def media_document(media: Media, media_url: MediaUrl) -> dict[str, Any]:
    return {
        "url": media_url(media.key),
        "type": media.type,
        "width": media.width,
        "height": media.height,
        "seconds": media.seconds,
        "size": media.size,
        "sha256": media.sha256,
    }


def billing_document(job: Job) -> dict[str, Any]:
    charged = job.cost - job.refunded if job.is_finished else 0
    if not job.is_finished:
        state = "held"
    elif job.status in (Status.FAILED, Status.CANCELLED):
        state = "refunded"
    else:
        state = "partly_refunded" if job.refunded else "charged"
    return {"cost": job.cost, "charged": charged, "refunded": job.refunded, "state": state}


def _error_document(job: Job) -> dict[str, Any] | None:
    if job.error is None:
        return None
    error = job.error
    return {
        "code": error.code,
        "message": error.message,
        "param": error.param,
        "retryable": error.retryable,
        "request_id": job.request_id,
        "stage": error.stage,
    }
