"""Answers: documents with links, written once."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
from fastapi import Response

from shared.documents import feed_document, job_document
from shared.domain.catalogue import Catalogue
from shared.domain.job import INTERNAL_KINDS, Job
from shared.domain.ledger import Account, Entry
from shared.domain.outcomes import BILLING
from shared.ports.store import Page, T
from shared.wiring import Gateway

_encode: Final = msgspec.json.Encoder().encode


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(_encode(content), status, dict(headers or {}), "application/json")


def job_body(gateway: Gateway, job: Job) -> dict[str, Any]:
    here = job_path(gateway, job)
    links = {"self": here, "cancel": f"{here}/cancel", "events": f"{here}/events"}
    return job_document(job, media_url_of(gateway)) | {"links": links}


def job_path(gateway: Gateway, job: Job) -> str:
    return f"{gateway.settings.gateway_url}/v1/jobs/{job.id}"


def media_url_of(gateway: Gateway) -> Callable[[str], str]:
    base = gateway.settings.media_base_url
    return lambda key: f"{base}/{key}"


def feed_body(gateway: Gateway, job: Job) -> dict[str, Any]:
    return feed_document(job, media_url_of(gateway))


def page_body(page: Page[T], render: Callable[[T], Any]) -> dict[str, Any]:
    return {
        "data": [render(item) for item in page.data],
        "has_more": page.next is not None,
        "next": page.next,
    }


def entry_body(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "account": entry.account_id,
        "job_id": entry.job_id,
        "tokens": entry.tokens,
        "reason": entry.reason,
        "note": entry.note,
        "created_at": entry.created_at,
    }


def account_body(account: Account) -> dict[str, Any]:
    return {
        "id": account.id,
        "name": account.name,
        "balance": account.balance,
        "members": sorted(account.members),
        "created_at": account.created_at,
    }


def catalogue_body(catalogue: Catalogue) -> dict[str, Any]:
    """What users may know of the catalogue: everything but how we run it."""
    return {
        "kinds": {
            kind: {"models": rules.models, "deadline_seconds": rules.deadline_seconds}
            for kind, rules in catalogue.kinds.items()
            if kind not in INTERNAL_KINDS
        },
        "models": {
            name: {
                "label": model.label,
                "tokens": model.tokens,
                "per": model.per,
                "sizes": model.sizes,
                "seconds": model.seconds,
                "max_count": model.max_count,
                "retires_on": model.retires_on,
            }
            for name, model in catalogue.models.items()
        },
        "styles": {name: {"label": style.label} for name, style in catalogue.styles.items()},
        "billing": _billing_rows(),
    }


def _billing_rows() -> Iterable[dict[str, str]]:
    return [
        {"ending": ending, "how_it_ended": rule.ended, "billed": rule.billed, "text": rule.text}
        for ending, rule in BILLING.items()
    ]
