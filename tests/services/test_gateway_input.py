"""Bad input: always a 4xx in the one shape, never an error of ours."""

import asyncio
import base64
import json

import httpx
import pytest

from tests.services.conftest import FILM, FOX, Json, Site, both_stores, drafted, error_of, odd, submitted

WRONG_BODIES: dict[str, tuple[Json, str | None]] = {
    "an unknown field": (FOX | {"nonsense": 1}, "nonsense"),
    "a field of the other kind": (FOX | {"seconds": 4}, "seconds"),
    "no kind": ({"prompt": "a fox"}, "kind"),
    "an unknown kind": (FOX | {"kind": "statue"}, "kind"),
    "an internal kind": (FOX | {"kind": "erasure"}, "kind"),
    "a kind that is null": (FOX | {"kind": None}, "kind"),
    "a kind that is a list": (FOX | {"kind": ["image"]}, "kind"),
    "a kind with half a surrogate pair": (FOX | {"kind": "\ud800"}, "kind"),
    "a kind with NUL": (FOX | {"kind": "image\0"}, "kind"),
    "no prompt": ({"kind": "image"}, "prompt"),
    "a prompt that is null": (FOX | {"prompt": None}, "prompt"),
    "a prompt that is a number": (FOX | {"prompt": 7}, "prompt"),
    "a prompt that is a list": (FOX | {"prompt": ["a fox"]}, "prompt"),
    "an empty prompt": (FOX | {"prompt": ""}, "prompt"),
    "a blank prompt": (FOX | {"prompt": " \n\t"}, "prompt"),
    "a prompt over the limit": (FOX | {"prompt": "x" * 4_001}, "prompt"),
    "a huge prompt": (FOX | {"prompt": "x" * 1_000_000}, "prompt"),
    "a prompt with NUL": (FOX | {"prompt": "a\0fox"}, "prompt"),
    "a prompt with half a surrogate pair": (FOX | {"prompt": "a \ud800 fox"}, "prompt"),
    "a blank negative prompt": (FOX | {"negative_prompt": " "}, "negative_prompt"),
    "a negative prompt over the limit": (FOX | {"negative_prompt": "x" * 4_001}, "negative_prompt"),
    "no images": (FOX | {"count": 0}, "count"),
    "fewer than no images": (FOX | {"count": -1}, "count"),
    "too many images": (FOX | {"count": 5}, "count"),
    "a count of 400 digits": (FOX | {"count": 10**399}, "count"),
    "a count that is a bool": (FOX | {"count": True}, "count"),
    "a count that is text": (FOX | {"count": "2"}, "count"),
    "a count that is a fraction": (FOX | {"count": 1.5}, "count"),
    "a count that is null": (FOX | {"count": None}, "count"),
    "a negative seed": (FOX | {"seed": -1}, "seed"),
    "a seed over 31 bits": (FOX | {"seed": 2**31}, "seed"),
    "a seed of 400 digits": (FOX | {"seed": 10**399}, "seed"),
    "a seed that is a bool": (FOX | {"seed": False}, "seed"),
    "a size nobody offers": (FOX | {"size": "7x7"}, "size"),
    "a size that is no size": (FOX | {"size": "large"}, "size"),
    "a size with half a surrogate pair": (FOX | {"size": "\udfff"}, "size"),
    "an aspect ratio nobody offers": (FOX | {"aspect_ratio": "100:1"}, "aspect_ratio"),
    "size and aspect ratio": (FOX | {"size": "1024x1024", "aspect_ratio": "1:1"}, "aspect_ratio"),
    "an unknown style": (FOX | {"style": "cubist"}, "style"),
    "a brand that is not there": (FOX | {"brand_id": "job_00000000000000000000000001"}, "brand_id"),
    "an unknown model": (FOX | {"model": "sora"}, "model"),
    "a model of the other kind": (FOX | {"model": "local-video"}, "model"),
    "an account that cannot be one": (FOX | {"account": "../bob"}, "account"),
    "an account with NUL": (FOX | {"account": "ada\0"}, "account"),
    "an account of 129 characters": (FOX | {"account": "a" * 129}, "account"),
    "a negative max_cost": (FOX | {"max_cost": -1}, "max_cost"),
    "a max_cost of 400 digits": (FOX | {"max_cost": 10**399}, "max_cost"),
    "metadata that is a list": (FOX | {"metadata": [1]}, "metadata"),
    "metadata that is null": (FOX | {"metadata": None}, "metadata"),
    "metadata with an integer of 400 digits": (FOX | {"metadata": {"n": 10**399}}, "metadata"),
    "metadata with an integer over 64 bits": (FOX | {"metadata": {"n": 2**63}}, "metadata"),
    "metadata with NUL": (FOX | {"metadata": {"note": "\0"}}, "metadata"),
    "metadata with a name that has NUL": (FOX | {"metadata": {"\0": 1}}, "metadata"),
    "metadata with half a surrogate pair": (FOX | {"metadata": {"note": ["\udcff"]}}, "metadata"),
    "metadata with half a surrogate pair in a name": (FOX | {"metadata": {"\udcff": 1}}, "metadata"),
    "metadata over its limit": (FOX | {"metadata": {"note": "x" * 4_096}}, "metadata"),
    "no seconds": (FILM | {"seconds": 0}, "seconds"),
    "fewer than no seconds": (FILM | {"seconds": -4}, "seconds"),
    "seconds nobody offers": (FILM | {"seconds": 3}, "seconds"),
    "seconds that are a fraction": (FILM | {"seconds": 4.5}, "seconds"),
    "an upload that is not there": (FILM | {"image": "upload_1"}, "image"),
    "a film in a size": (FILM | {"size": "1280x720"}, "size"),
}


async def post(caller: httpx.AsyncClient, route: str, body: bytes) -> httpx.Response:
    return await caller.post(route, content=body, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize(("body", "param"), WRONG_BODIES.values(), ids=WRONG_BODIES.keys())
async def test_a_body_that_does_not_fit_is_refused_and_names_the_field(
    ada: httpx.AsyncClient, body: Json, param: str
) -> None:
    for route in ("/v1/generate", "/v1/quote"):
        answer = await post(ada, route, json.dumps(body).encode())
        error = error_of(answer, 422, "invalid_request")
        assert error["param"] == param


UNREADABLE: dict[str, bytes] = {
    "nothing that is JSON": b"a fox, please",
    "half an object": b'{"kind": "image"',
    "two objects": b"{} {}",
    "a comma too many": b'{"kind": "image", "prompt": "a fox",}',
    "bytes that are no UTF-8": b'{"kind": "image", "prompt": "\xff\xfe"}',
    "nesting 10,000 deep": b"[" * 10_000 + b"]" * 10_000,
    "metadata nested 10,000 deep": b'{"kind": "image", "prompt": "x", "metadata": {"a": %b}}'
    % (b"[" * 10_000 + b"]" * 10_000),
    "objects nested 10,000 deep": b'{"metadata":' * 10_000 + b"1" + b"}" * 10_000,
    "an integer of 5,000 digits": b'{"kind": "image", "prompt": "x", "seed": %b}' % (b"9" * 5_000),
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_a_body_that_cannot_be_read_is_refused(ada: httpx.AsyncClient, body: bytes) -> None:
    answer = await post(ada, "/v1/generate", body)
    error_of(answer, 400, "bad_request")


NO_ORDER: dict[str, bytes] = {
    "null": b"null",
    "an array": b"[]",
    "a string": b'"a fox"',
    "a number": b"1",
    "zero": b"0",
    "false": b"false",
    "an empty object": b"{}",
    "an array of orders": json.dumps([FOX]).encode(),
    "nothing": b"",
    "NaN as a seed": b'{"kind": "image", "prompt": "x", "seed": NaN}',
    "NaN in metadata": b'{"kind": "image", "prompt": "x", "metadata": {"a": [NaN]}}',
    "Infinity in metadata": b'{"kind": "image", "prompt": "x", "metadata": {"a": -Infinity}}',
    "a float beyond all floats": b'{"kind": "image", "prompt": "x", "metadata": {"a": 1e999}}',
    "a field with half a surrogate pair": b'{"kind": "image", "prompt": "x", "\\ud800": 1}',
    "a field with NUL": b'{"kind": "image", "prompt": "x", "\\u0000": 1}',
    "a field of a million characters": b'{"kind": "image", "prompt": "x", "%b": 1}' % (b"y" * 1_000_000),
    "a kind of a million characters": b'{"kind": "%b"}' % (b"y" * 1_000_000),
    "ten thousand unknown fields": json.dumps(FOX | {f"f{n}": n for n in range(10_000)}).encode(),
    "metadata nested 300 deep": b'{"kind": "image", "prompt": "x", "metadata": {"a": %b}}'
    % (b"[" * 300 + b"]" * 300),
    "metadata of objects 300 deep": b'{"kind": "image", "prompt": "x", "metadata": %b}'
    % (b'{"a":' * 300 + b"1" + b"}" * 300),
}


@pytest.mark.parametrize("body", NO_ORDER.values(), ids=NO_ORDER.keys())
async def test_json_that_is_no_order_is_refused_in_few_words(ada: httpx.AsyncClient, body: bytes) -> None:
    answer = await post(ada, "/v1/generate", body)
    error = error_of(answer, 422, "invalid_request")
    assert len(error["message"]) <= 300
    assert len(error["param"] or "") <= 300
    assert "Value error" not in error["message"]
    assert (await ada.get("/v1/jobs")).json()["data"] == []


@pytest.mark.parametrize("depth", [1, 50, 200, 250, 254, 255, 256, 400, 900, 990, 1_100])
@both_stores
async def test_metadata_is_either_refused_or_comes_back_as_it_was_however_deep(
    ada: httpx.AsyncClient, depth: int
) -> None:
    for nested in (b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth):
        body = b'{"kind": "image", "prompt": "x", "metadata": {"nested": %b}}' % nested
        answer = await post(ada, "/v1/generate", body)
        if answer.status_code == 202:
            job = await ada.get(f"/v1/jobs/{answer.json()['id']}")
            assert nested in job.content
        else:
            assert answer.status_code in (400, 422)
            error_of(answer, answer.status_code, answer.json()["error"]["code"])
        assert (await ada.get("/v1/jobs")).status_code == 200


@both_stores
async def test_metadata_of_every_kind_comes_back_as_it_was(ada: httpx.AsyncClient) -> None:
    metadata: Json = {
        "": "",
        "integers": [0, -1, 2**63 - 1, 1 - 2**63],
        "floats": [0.1, -1e-300, 1e308],
        "words": [
            "\U0001f98a",
            "e\u0301",
            "\u202e",
            "\x7f\x01",
            "null",
            "</script>",
            "'; DROP TABLE jobs; --",
        ],
        "others": [True, False, None, [], {}],
    }
    job = await submitted(ada, FOX | {"metadata": metadata})
    assert job["metadata"] == metadata
    assert (await ada.get(f"/v1/jobs/{job['id']}")).json()["metadata"] == metadata


@both_stores
@pytest.mark.parametrize(
    "prompt", ["\U0001f98a" * 4_000, "a\u0301\u202e\r\n\t", "'; DROP TABLE jobs; --", "\x01\x7f"]
)
async def test_a_prompt_may_be_any_text_up_to_the_limit(ada: httpx.AsyncClient, prompt: str) -> None:
    job = await submitted(ada, FOX | {"prompt": prompt})
    assert (await ada.get(f"/v1/jobs/{job['id']}")).json()["prompt"] == prompt


async def test_of_a_field_given_twice_the_last_one_counts(ada: httpx.AsyncClient) -> None:
    """As most JSON parsers have it; what was understood stands in the answer."""
    answer = await post(ada, "/v1/generate", b'{"kind": "image", "prompt": "a fox", "prompt": "a crow"}')
    assert (answer.status_code, answer.json()["prompt"]) == (202, "a crow")


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        b"",
        b"text/plain",
        b"application/x-www-form-urlencoded",
        b"multipart/form-data",
        b";;=\xff",
        b"json",
    ],
)
async def test_a_body_that_does_not_say_it_is_json_is_an_unsupported_type(
    ada: httpx.AsyncClient, content_type: bytes | None
) -> None:
    headers = [] if content_type is None else odd("Content-Type", content_type)
    answer = await ada.post("/v1/generate", content=json.dumps(FOX).encode(), headers=headers)
    error = error_of(answer, 415, "unsupported_media_type")
    assert "application/json" in error["message"]


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "APPLICATION/JSON"])
async def test_json_may_be_announced_with_a_charset(ada: httpx.AsyncClient, content_type: str) -> None:
    answer = await ada.post(
        "/v1/generate", content=json.dumps(FOX).encode(), headers={"Content-Type": content_type}
    )
    assert answer.status_code == 202


LISTS = ["/v1/jobs", "/v1/ledger", "/v1/feed", "/v1/admin/jobs"]


@pytest.mark.parametrize(
    "limit", ["abc", "1e9", "0", "-1", "101", "1.5", "", "%00", "9" * 400, "9" * 5_000, "1&limit=abc", "0x10"]
)
async def test_a_limit_that_is_no_number_from_1_to_100_is_refused(
    admin: httpx.AsyncClient, limit: str
) -> None:
    for route in LISTS:
        error = error_of(await admin.get(f"{route}?limit={limit}"), 422, "invalid_request")
        assert error["param"] == "limit"
        assert len(error["message"]) <= 300


CURSORS = {
    "nothing": "",
    "NUL": "%00",
    "no base64": "!!!",
    "not UTF-8": "_____w",
    "bytes that are no text": "%ff%fe",
    "half a surrogate pair": "%ED%A0%80",
    "base64 of NUL": base64.urlsafe_b64encode(b"\0").decode(),
    "base64 of many lines": base64.urlsafe_b64encode(b"1\n2\n3\n4").decode(),
    "base64 of empty lines": base64.urlsafe_b64encode(b"\n\n\n").decode(),
    "an instant beyond all time": base64.urlsafe_b64encode(b"9" * 40 + b"\njob_1").decode(),
    "an instant in other digits": base64.urlsafe_b64encode("٣\njob_1".encode()).decode(),
    "a negative instant": base64.urlsafe_b64encode(b"-1\njob_1").decode(),
    "512 characters": "A" * 512,
}


@both_stores
@pytest.mark.parametrize("cursor", CURSORS.values(), ids=CURSORS.keys())
async def test_a_cursor_that_we_did_not_make_is_refused(admin: httpx.AsyncClient, cursor: str) -> None:
    for route in LISTS:
        error = error_of(await admin.get(f"{route}?after={cursor}"), 400, "bad_request")
        assert error["param"] == "after"


@both_stores
async def test_a_cursor_of_another_list_is_refused(site: Site, ada: httpx.AsyncClient) -> None:
    for _ in range(2):
        job = await drafted(site, ada)
        await ada.post(f"/v1/jobs/{job['id']}/publish")
    of_jobs = (await ada.get("/v1/jobs?limit=1")).json()["next"]
    of_feed = (await ada.get("/v1/feed?limit=1")).json()["next"]
    assert of_jobs is not None
    assert of_feed is not None
    error_of(await ada.get(f"/v1/feed?after={of_jobs}"), 400, "bad_request")
    error_of(await ada.get(f"/v1/ledger?after={of_jobs}"), 400, "bad_request")
    error_of(await ada.get(f"/v1/jobs?after={of_feed}"), 400, "bad_request")


async def test_a_huge_cursor_is_refused(ada: httpx.AsyncClient) -> None:
    error = error_of(await ada.get("/v1/jobs?after=" + "A" * 50_000), 422, "invalid_request")
    assert error["param"] == "after"


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("status=done", "status"),
        ("status=", "status"),
        ("status=%00", "status"),
        ("status=draft,,ready", "status"),
        ("status=DRAFT", "status"),
        ("status=" + "draft," * 1_000, "status"),
        ("kind=statue", "kind"),
        ("kind=erasure", "kind"),
        ("kind=image&kind=", "kind"),
        ("view=all", "view"),
        ("view=", "view"),
        ("batch_id=" + "x" * 129, "batch_id"),
        ("view=drafts&view=all", "view"),
    ],
)
async def test_a_filter_that_makes_no_sense_is_refused(
    ada: httpx.AsyncClient, query: str, param: str
) -> None:
    error = error_of(await ada.get(f"/v1/jobs?{query}"), 422, "invalid_request")
    assert error["param"] == param


@pytest.mark.parametrize("query", ["unknown=1", "%00=1", "a[]=1&&&==", "&" * 1_000, "%zz", "limit=5&limit=6"])
async def test_queries_that_mean_nothing_are_let_pass(ada: httpx.AsyncClient, query: str) -> None:
    assert (await ada.get(f"/v1/jobs?{query}")).status_code == 200


@pytest.mark.parametrize("account", ["", "%00", "..", "a/b", "a" * 129, "%ED%A0%80", "ad%c3%a9"])
async def test_what_cannot_be_an_accounts_id_is_refused(ada: httpx.AsyncClient, account: str) -> None:
    for route in ("/v1/balance", "/v1/ledger"):
        error = error_of(await ada.get(f"{route}?account={account}"), 422, "invalid_request")
        assert error["param"] == "account"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Idempotency-Key", b"x" * 1_000_000),
        ("Prefer", b"wait=" + b"9" * 100_000),
        ("Prefer", b" " * 100_000 + b"wait=x"),
        ("Prefer", b"wait" + b" " * 100_000 + b"=x"),
        ("X-Request-Id", b"x" * 1_000_000),
        ("Accept", b"*" * 100_000),
        ("Content-Length", b"-1"),
        ("Content-Length", b"\xb2"),
        ("Content-Length", b"9" * 5_000),
        ("X-Anything", b"\xff" * 100_000),
        ("Origin", b"null\xff"),
    ],
)
async def test_huge_and_odd_headers_are_no_error_of_ours(
    ada: httpx.AsyncClient, name: str, value: bytes
) -> None:
    async with asyncio.timeout(5):
        headers = [*odd("Content-Type", b"application/json"), *odd(name, value)]
        answer = await ada.post("/v1/generate", content=json.dumps(FOX).encode(), headers=headers)
    assert answer.status_code in (202, 400, 413)
    if answer.status_code != 202:
        error_of(answer, answer.status_code, answer.json()["error"]["code"])
