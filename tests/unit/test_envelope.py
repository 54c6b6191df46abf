"""The push envelope: what is written can be read, and what cannot be read is one error."""

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.ids import JobId, RequestId, erasure_id
from shared.domain.job import VISIBLE_KINDS, Kind
from shared.envelope import (
    OTHER_ROUTE,
    TOPIC_ROUTES,
    UnreadableMessage,
    attributes_of,
    data_of,
    enveloped,
    read_hint,
    route_for,
    topic_for,
)
from shared.ports.queue import Hint
from shared.ports.tracing import Trace

JOB = JobId("job_00000000000000000000000001")
SPAN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def pushed(hint: Hint) -> bytes:
    return enveloped(hint, message_id="m", subscription="s", attempt=1)


def with_attributes(**attributes: str) -> bytes:
    push = json.loads(pushed(Hint(job_id=JOB, kind="image")))
    push["message"]["attributes"] = attributes
    return json.dumps(push).encode()


@given(
    kind=texts,
    request_id=st.none() | texts,
    job_id=st.sampled_from([JOB, erasure_id(JOB)]),
    trace=st.sampled_from([None, Trace(SPAN), Trace(SPAN, "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")]),
)
def test_a_hint_is_read_as_it_was_written(
    kind: str, request_id: str | None, job_id: JobId, trace: Trace | None
) -> None:
    hint = Hint(
        job_id=job_id,
        kind=kind,
        request_id=RequestId(request_id) if request_id else None,
        trace=trace,
    )
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


def test_a_queue_that_cannot_count_deliveries_says_nothing_of_them() -> None:
    push = json.loads(enveloped(Hint(job_id=JOB, kind="image"), message_id="m", subscription="s"))
    assert push.keys() == {"message", "subscription"}


def test_a_message_published_in_its_parts_is_pushed_as_the_same_envelope() -> None:
    hint = Hint(job_id=JOB, kind="image", request_id=RequestId("r"), trace=Trace(SPAN, "a=b"))
    message = json.loads(pushed(hint))["message"]
    assert message["data"] == base64.b64encode(data_of(hint)).decode()
    assert message["attributes"] == attributes_of(hint)
    assert attributes_of(hint) == {"request_id": "r", "traceparent": SPAN, "tracestate": "a=b"}


def test_when_a_job_may_be_looked_at_is_the_jobs_own_knowledge_and_not_sent() -> None:
    early = Hint(job_id=JOB, kind="image", not_before=datetime(2026, 11, 22, tzinfo=UTC))
    assert read_hint(pushed(early)) == Hint(job_id=JOB, kind="image")


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "00",
        SPAN + "\n",
        SPAN + "-more",
        SPAN.upper(),
        f"ff{SPAN[2:]}",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
        SPAN.replace("-", "_"),
    ],
)
def test_a_trace_that_cannot_be_read_is_left_out_and_the_work_is_done(traceparent: str) -> None:
    hint = read_hint(with_attributes(traceparent=traceparent, tracestate="a=b", request_id="r"))
    assert hint == Hint(job_id=JOB, kind="image", request_id=RequestId("r"))


@pytest.mark.parametrize("tracestate", ["", "a=b\r\nX: y", "a=\u00e9", "a" * 513])
def test_what_is_no_trace_state_is_left_out_alone(tracestate: str) -> None:
    hint = read_hint(with_attributes(traceparent=SPAN, tracestate=tracestate))
    assert hint == Hint(job_id=JOB, kind="image", trace=Trace(SPAN))


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


def test_each_topic_is_pushed_into_the_route_of_its_kinds() -> None:
    kinds = {*VISIBLE_KINDS, Kind.ERASURE, "hologram"}
    assert {topic_for(kind): route_for(kind) for kind in kinds} == TOPIC_ROUTES
    assert set(TOPIC_ROUTES) == {
        "image-generation-jobs",
        "video-generation-jobs",
        "brand-training-jobs",
        "batch-jobs",
    }
