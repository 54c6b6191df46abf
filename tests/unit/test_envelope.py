"""The push envelope: what is written can be read, and what cannot be read is one error."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.ids import JobId, RequestId, erasure_id
from shared.domain.job import VISIBLE_KINDS, Kind
from shared.envelope import OTHER_ROUTE, UnreadableMessage, enveloped, read_hint, route_for
from shared.ports.queue import Hint

JOB = JobId("job_00000000000000000000000001")
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def pushed(hint: Hint) -> bytes:
    return enveloped(hint, message_id="m", subscription="s", attempt=1)


@given(kind=texts, request_id=st.none() | texts, job_id=st.sampled_from([JOB, erasure_id(JOB)]))
def test_a_hint_is_read_as_it_was_written(kind: str, request_id: str | None, job_id: JobId) -> None:
    hint = Hint(job_id=job_id, kind=kind, request_id=RequestId(request_id) if request_id else None)
    assert read_hint(pushed(hint)) == hint


def test_the_envelope_is_the_one_that_pub_sub_documents() -> None:
    hint = Hint(job_id=JOB, kind=Kind.IMAGE, request_id=RequestId("r"))
    assert json.loads(enveloped(hint, message_id="m", subscription="s", attempt=3)) == {
        "message": {
            "data": base64.b64encode(b'{"job_id":"%b","kind":"image"}' % JOB.encode()).decode(),
            "messageId": "m",
            "attributes": {"request_id": "r"},
        },
        "subscription": "s",
        "deliveryAttempt": 3,
    }


def test_a_message_without_attributes_has_no_request_id() -> None:
    push = json.loads(pushed(Hint(job_id=JOB, kind="image")))
    assert push["message"]["attributes"] == {}
    del push["message"]["attributes"]
    assert read_hint(json.dumps(push).encode()).request_id is None


@given(st.binary(max_size=300))
def test_bytes_that_are_no_envelope_are_unreadable_and_nothing_else(body: bytes) -> None:
    with pytest.raises(UnreadableMessage):
        read_hint(body)


@given(st.binary(max_size=300) | texts.map(str.encode))
def test_data_that_names_no_job_is_unreadable_and_nothing_else(data: bytes) -> None:
    with pytest.raises(UnreadableMessage):
        read_hint(json.dumps({"message": {"data": base64.b64encode(data).decode()}}).encode())


@pytest.mark.parametrize(
    "job_id", ["", "1", "job_", f"{JOB} ", f"{JOB}\n", f"{JOB}:", f"{JOB}/..", JOB.upper()]
)
def test_what_is_no_jobs_id_is_unreadable(job_id: str) -> None:
    with pytest.raises(UnreadableMessage, match="not a job's id"):
        read_hint(pushed(Hint(job_id=JobId(job_id), kind="image")))


def test_images_videos_and_trainings_have_routes_of_their_own_and_all_else_shares_one() -> None:
    own = {kind: route_for(kind) for kind in (Kind.IMAGE, Kind.VIDEO, Kind.BRAND)}
    assert own == {
        "image": "/process-generation",
        "video": "/process-video",
        "brand": "/process-training",
    }
    others = {*VISIBLE_KINDS, Kind.ERASURE, "hologram"} - own.keys()
    assert {route_for(kind) for kind in others} == {OTHER_ROUTE} == {"/process-batch"}
