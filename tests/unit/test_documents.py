"""A job as others read it: every public field, the bill, and nothing of the engine."""

from dataclasses import fields, replace
from datetime import timedelta
from typing import Any, Final

import pytest

from shared.documents import billing_document, feed_document, job_document
from shared.domain.ids import ClaimToken, RequestId
from shared.domain.job import Job, JobError, Lease, Media, Purchase, Status
from tests.support import NOON, a_job

TOKEN: Final = "f" * 32

BUSY: Final = a_job(
    status=Status.PROCESSING,
    progress=40,
    fence=3,
    lease=Lease(token=ClaimToken(TOKEN), until=NOON + timedelta(minutes=1)),
    purchase=Purchase(model="local-video", repeatable=False, intended_at=NOON, reference="operation-9"),
    request_id=RequestId("req-1"),
    started_at=NOON,
    metadata={"page": 7},
    attempts=2,
)
PICTURE: Final = Media(key="k/0.png", type="image/png", size=9, sha256="ab", width=64, height=48)
SMALL: Final = Media(key="k/1000.webp", type="image/webp", size=3, sha256="cd", width=8, height=6)


def url(key: str) -> str:
    return f"https://media/{key}"


def done(**more: Any) -> Job:
    job = a_job(
        status=Status.DRAFT, wake_at=None, finished_at=NOON, media=(PICTURE,), thumbnail=SMALL, progress=100
    )
    return replace(job, **more)


def test_every_field_of_a_job_has_been_decided_about() -> None:
    """A new field of the record is either shown or kept: this test asks which."""
    shown = job_document(BUSY, url).keys()
    kept = {"cost", "refunded", "debit_id", "thumbnail", "request_id", "deadline_at", "deleted_at", "wake_at",
            "not_before", "sweeps", "fence", "lease", "purchase"}  # fmt: skip
    assert {field.name for field in fields(Job)} - kept == shown - {
        "prompt",
        "thumbnail_url",
        "billing",
        "batch_id",
    }


def test_nothing_of_the_engine_is_shown() -> None:
    text = repr(job_document(BUSY, url))
    for secret in (TOKEN, "operation-9", "lease", "fence", "wake_at", "purchase"):
        assert secret not in text


def test_media_are_shown_by_their_urls() -> None:
    document = job_document(done(), url)
    assert document["media"] == [
        {
            "url": "https://media/k/0.png",
            "type": "image/png",
            "width": 64,
            "height": 48,
            "seconds": None,
            "size": 9,
            "sha256": "ab",
        }
    ]
    assert document["thumbnail_url"] == "https://media/k/1000.webp"
    assert job_document(BUSY, url)["thumbnail_url"] is None


def test_an_error_names_the_request_that_made_the_job() -> None:
    error = JobError(code="content_rejected", message="no", stage="prompt")
    failed = a_job(
        status=Status.FAILED, wake_at=None, finished_at=NOON, error=error, request_id=RequestId("req-1")
    )
    assert job_document(failed, url)["error"] == {
        "code": "content_rejected",
        "message": "no",
        "param": None,
        "retryable": False,
        "request_id": "req-1",
        "stage": "prompt",
    }
    assert job_document(BUSY, url)["error"] is None


def test_the_prompt_stands_beside_the_request_and_may_be_missing() -> None:
    assert job_document(BUSY, url)["prompt"] == BUSY.request["prompt"] == "a fox"
    assert job_document(replace(BUSY, request={"job_id": "job_1"}), url)["prompt"] is None


@pytest.mark.parametrize(
    ("job", "charged", "refunded", "state"),
    [
        (a_job(cost=4), 0, 0, "held"),
        (replace(BUSY, cost=4), 0, 0, "held"),
        (done(cost=4), 4, 0, "charged"),
        (done(cost=4, refunded=1), 3, 1, "partly_refunded"),
        (done(cost=4, refunded=4, status=Status.FAILED), 0, 4, "refunded"),
        (done(cost=0), 0, 0, "charged"),
    ],
)
def test_the_bill_says_what_was_charged_and_what_came_back(
    job: Job, charged: int, refunded: int, state: str
) -> None:
    assert billing_document(job) == {
        "cost": job.cost,
        "charged": charged,
        "refunded": refunded,
        "state": state,
    }


def test_the_feed_shows_the_work_and_not_its_maker() -> None:
    published = done(status=Status.PUBLISHED, published_at=NOON, metadata={"private": True})
    document = feed_document(published, url)
    assert document.keys() == {"id", "kind", "prompt", "media", "thumbnail_url", "published_at"}
    assert document["published_at"] == NOON
    assert "ada" not in repr(document)
