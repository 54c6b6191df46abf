"""The served OpenAPI: what it says is pleasant, complete and true, and nothing that fits it breaks us."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import response_schema_conformance

from services.api_gateway.main import create_app
from services.api_gateway.schemas import GENERATE_EXAMPLES
from shared.adapters.auth.tokens import ApiKeys, DevTokens
from shared.settings import Settings
from shared.wiring import Gateway
from tests.services.conftest import ERROR_FIELDS, FILM, FOX, Json, Site, drafted, submitted
from tests.support import make_world

METHODS: Final = ("get", "put", "post", "delete")


@pytest.fixture
async def spec(nobody: httpx.AsyncClient) -> Json:
    answer = await nobody.get("/openapi.json")
    spec: Json = answer.json()
    return spec


def operations(spec: Json) -> Iterator[tuple[str, Json]]:
    for path, item in spec["paths"].items():
        for method in METHODS:
            if method in item:
                yield f"{method.upper()} {path}", item[method]


def schema_of(spec: Json, answer: Json) -> Json:
    schema: Json = answer["content"]["application/json"]["schema"]
    while "$ref" in schema:
        schema = spec["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


async def test_every_route_of_the_design_is_described(spec: Json) -> None:
    described = {name for name, _ in operations(spec)}
    assert described == {
        "POST /v1/generate",
        "POST /v1/quote",
        "GET /v1/jobs",
        "GET /v1/jobs/{job_id}",
        "DELETE /v1/jobs/{job_id}",
        "POST /v1/jobs/{job_id}/cancel",
        "POST /v1/jobs/{job_id}/publish",
        "POST /v1/jobs/{job_id}/unpublish",
        "POST /v1/jobs/{job_id}/retry",
        "GET /v1/feed",
        "GET /v1/catalogue",
        "GET /v1/balance",
        "GET /v1/ledger",
        "POST /v1/admin/grants",
        "POST /v1/admin/accounts",
        "PUT /v1/admin/accounts/{account}/members/{user}",
        "DELETE /v1/admin/accounts/{account}/members/{user}",
        "GET /v1/admin/jobs",
        "GET /v1/admin/stats",
        "GET /v1/admin/audit",
        "GET /health",
        "GET /ready",
    }


async def test_every_route_has_a_summary_in_words_of_ours_and_a_tag(spec: Json) -> None:
    for name, operation in operations(spec):
        summary = operation["summary"]
        assert 5 < len(summary) < 80, name
        # FastAPI's own is the name of the function, every word with a capital.
        assert summary != operation["operationId"].split("_v1_")[0].replace("_", " ").title(), name
        assert operation["tags"], name


async def test_every_error_that_is_described_has_the_one_shape(spec: Json) -> None:
    for name, operation in operations(spec):
        errors = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
        assert errors, name
        for status, answer in errors.items():
            error = schema_of(spec, answer)["properties"]["error"]
            shape = spec["components"]["schemas"][error["$ref"].rpartition("/")[2]]["properties"]
            assert shape.keys() - {"needed", "available"} == ERROR_FIELDS, f"{name} {status}"


async def test_every_answer_that_has_a_body_has_a_schema(spec: Json) -> None:
    free = {"GET /health", "GET /ready", "GET /v1/catalogue", "GET /v1/admin/stats", "GET /v1/admin/audit"}
    for name, operation in operations(spec):
        for status, answer in operation["responses"].items():
            if status.startswith("2") and status != "204" and name not in free:
                assert schema_of(spec, answer).get("properties"), f"{name} {status}"


async def test_every_field_that_is_asked_for_is_explained(spec: Json) -> None:
    for schema in ("ImageBody", "VideoBody"):
        for field, described in spec["components"]["schemas"][schema]["properties"].items():
            assert described.get("description") or described.get("examples") or "const" in described, field


async def test_routes_that_need_a_token_say_so(spec: Json) -> None:
    public = {"GET /v1/feed", "GET /v1/catalogue", "GET /health", "GET /ready"}
    assert {name for name, operation in operations(spec) if not operation.get("security")} == public


async def test_the_examples_are_accepted_as_they_stand(spec: Json, ada: httpx.AsyncClient) -> None:
    for route in ("/v1/generate", "/v1/quote"):
        content = spec["paths"][route]["post"]["requestBody"]["content"]["application/json"]
        assert content["examples"].keys() == GENERATE_EXAMPLES.keys()
        for example in content["examples"].values():
            assert example["summary"]
            answer = await ada.post(route, json=example["value"])
            assert answer.status_code == (202 if route == "/v1/generate" else 200)


async def test_jobs_answer_with_exactly_the_fields_that_are_described(
    spec: Json, site: Site, ada: httpx.AsyncClient
) -> None:
    schemas = spec["components"]["schemas"]
    site.world.generator.polls.clear()
    for job in (await submitted(ada, FILM), await drafted(site, ada, FOX)):
        assert job.keys() == schemas["JobAnswer"]["properties"].keys()
        assert job["billing"].keys() == schemas["Billing"]["properties"].keys()
        assert job["links"].keys() == schemas["Links"]["properties"].keys()
        for media in job["media"]:
            assert media.keys() == schemas["MediaAnswer"]["properties"].keys()


# Whatever fits the description, and what does not quite.


def an_app() -> FastAPI:
    world = make_world(signup_tokens=10**9)
    return create_app(
        Gateway(
            app=world.app,
            settings=Settings(home=Path("/nowhere")),
            authenticator=ApiKeys(world.store, DevTokens()),
            local_media=None,
        )
    )


schema = schemathesis.openapi.from_asgi("/openapi.json", an_app())


@schema.parametrize()
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_request_is_an_error_of_ours_and_answers_are_as_described(case: schemathesis.Case[Any]) -> None:
    answer = case.call(headers={"Authorization": "Bearer dev-admin"})
    if answer.status_code == 400 and answer.json()["error"]["param"] == "Idempotency-Key":
        case.headers.pop("Idempotency-Key")  # an odd key hides what the rest would have done
        answer = case.call(headers={"Authorization": "Bearer dev-admin"})
    assert answer.status_code < 500
    if answer.status_code >= 400:
        assert answer.json()["error"].keys() >= ERROR_FIELDS
    case.validate_response(answer, checks=[response_schema_conformance])
