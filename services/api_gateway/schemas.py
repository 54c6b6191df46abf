"""Bodies of requests and answers: the only place where the API's field names are declared.

Requests are parsed into these; answers are written by `render` and described here for the OpenAPI page.
"""

import math
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from shared.domain.ids import is_account_id

MAX_TOKENS: Final = 10**12
_MAX_INTEGER: Final = 2**63 - 1
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


def _storable(text: str) -> str:
    if _UNSTORABLE.search(text):
        raise ValueError("may not contain NUL or half of a surrogate pair")
    return text


def _spoken(text: str) -> str:
    if not text.strip():
        raise ValueError("may not be blank")
    return _storable(text)


def _account_id(text: str) -> str:
    if not is_account_id(text):
        raise ValueError("is not an account's id")
    return text


def _storable_json(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    for leaf in _leaves(value):
        if isinstance(leaf, str):
            _storable(leaf)
        elif isinstance(leaf, float) and not math.isfinite(leaf):
            raise ValueError("numbers must be finite")
        elif isinstance(leaf, int) and abs(leaf) > _MAX_INTEGER:
            raise ValueError("integers must fit into 64 bits")
    return value


def _leaves(value: JsonValue) -> Iterator[JsonValue]:
    pending: list[JsonValue] = [value]
    while pending:
        match pending.pop():
            case dict() as fields:
                pending += fields.keys()
                pending += fields.values()
            case list() as items:
                pending += items
            case leaf:
                yield leaf


Text = Annotated[str, Field(min_length=1), AfterValidator(_spoken)]
AccountIdText = Annotated[str, Field(max_length=128), AfterValidator(_account_id)]
Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_storable)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Metadata = Annotated[dict[str, JsonValue], AfterValidator(_storable_json)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Order(_Request):
    prompt: Text = Field(description="What to make.", examples=["a fox in the snow"])
    model: Name | None = Field(None, description="A model of the catalogue; the kind's first by default.")
    seed: Seed | None = Field(None, description="The same seed makes the same thing; drawn if left out.")
    account: AccountIdText | None = Field(None, description="Who pays; your own account by default.")
    metadata: Metadata = Field(default_factory=dict, description="Yours; comes back with the job.")
    max_cost: int | None = Field(None, ge=0, le=MAX_TOKENS, description="Refuse with 402 if it costs more.")


class ImageBody(_Order):
    kind: Literal["image"]
    negative_prompt: Text | None = Field(None, description="What to keep out.")
    size: Name | None = Field(None, description="`WIDTHxHEIGHT` of the catalogue.", examples=["1024x1024"])
    aspect_ratio: Name | None = Field(None, description="Instead of `size`.", examples=["16:9"])
    count: int = Field(1, ge=1, le=4, description="How many images.")
    style: Name | None = Field(None, description="A style of the catalogue.", examples=["watercolor"])
    brand_id: Name | None = Field(None, description="The job id of a brand of yours.")


class VideoBody(_Order):
    kind: Literal["video"]
    aspect_ratio: Name | None = Field(None, examples=["16:9"])
    seconds: int | None = Field(None, ge=1, le=600, description="A length of the catalogue.", examples=[4])
    image: Name | None = Field(None, description="The upload to begin with.")


GenerateBody = Annotated[ImageBody | VideoBody, Field(discriminator="kind")]

GENERATE_EXAMPLES: Final[dict[str, Any]] = {
    "image": {"summary": "An image", "value": {"kind": "image", "prompt": "a fox in the snow"}},
    "images": {
        "summary": "Four wide images in a style",
        "value": {
            "kind": "image",
            "prompt": "a lighthouse at dusk",
            "aspect_ratio": "16:9",
            "count": 4,
            "style": "watercolor",
            "seed": 7,
        },
    },
    "video": {
        "summary": "A video",
        "value": {"kind": "video", "prompt": "waves at night", "aspect_ratio": "16:9", "seconds": 4},
    },
}


class GrantBody(_Request):
    account: AccountIdText
    tokens: int = Field(ge=-MAX_TOKENS, le=MAX_TOKENS, description="May be negative.", examples=[500])
    note: Name | None = Field(None, description="Why.")


class AccountBody(_Request):
    id: AccountIdText | None = Field(None, description="Made if left out.", examples=["team-rocket"])
    name: Name | None = None
    members: list[AccountIdText] = Field(default_factory=list, max_length=1000, examples=[["ada", "bob"]])


# Answers.


class ErrorDetail(BaseModel):
    code: str = Field(examples=["insufficient_tokens"])
    message: str
    param: str | None = Field(None, description="The field or header that is wrong.")
    retryable: bool = Field(description="Whether the same request may succeed later.")
    request_id: str = Field(description="Tell us this one when you ask for help.")
    needed: int | None = Field(None, description="With `insufficient_tokens`.")
    available: int | None = Field(None, description="With `insufficient_tokens`.")


class ErrorAnswer(BaseModel):
    error: ErrorDetail


class JobErrorDetail(BaseModel):
    code: str = Field(examples=["content_rejected"])
    message: str
    param: str | None
    retryable: bool
    request_id: str | None
    stage: str | None = Field(None, description="With `content_rejected`: `prompt` or `output`.")


class MediaAnswer(BaseModel):
    url: str = Field(description="Needs no header; works until the job is deleted or expires.")
    type: str = Field(examples=["image/png"])
    width: int | None
    height: int | None
    seconds: float | None
    size: int = Field(description="Bytes.")
    sha256: str


class Billing(BaseModel):
    cost: int = Field(description="Debited at submit.")
    charged: int = Field(description="What stays debited; 0 while `held`.")
    refunded: int
    state: Literal["held", "charged", "refunded", "partly_refunded"]


class Links(BaseModel):
    self: str
    cancel: str
    events: str


class JobAnswer(BaseModel):
    """Accept fields and statuses that you do not know: more will come."""

    id: str = Field(examples=["job_01M81HQZ4N0GQ3V4B7T2V6W8XY"])
    kind: str = Field(examples=["image"])
    status: str = Field(examples=["draft"])
    progress: int = Field(ge=0, le=100)
    prompt: str | None
    request: dict[str, Any]
    model: str | None
    media: list[MediaAnswer]
    thumbnail_url: str | None
    error: JobErrorDetail | None
    billing: Billing
    account_id: str
    user_id: str
    batch_id: str | None
    attempts: int
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    published_at: datetime | None
    expires_at: datetime | None
    metadata: dict[str, Any]
    links: Links


class JobPage(BaseModel):
    data: list[JobAnswer]
    has_more: bool
    next: str | None = Field(description="Pass it back as `after`.")


class FeedItem(BaseModel):
    id: str
    kind: str
    prompt: str | None
    media: list[MediaAnswer]
    thumbnail_url: str | None
    published_at: datetime


class FeedPage(BaseModel):
    data: list[FeedItem]
    has_more: bool
    next: str | None


class QuoteAnswer(BaseModel):
    cost: int
    balance: int
    affordable: bool


class BalanceAnswer(BaseModel):
    account: str
    balance: int = Field(description="What can be spent now.")
    held: int = Field(description="Debited for unfinished jobs, and refunded if they fail.")


class EntryAnswer(BaseModel):
    id: str
    account: str
    job_id: str | None
    tokens: int = Field(description="Signed: a debit is negative.")
    reason: Literal["grant", "signup", "debit", "refund"]
    note: str | None
    created_at: datetime


class EntryPage(BaseModel):
    data: list[EntryAnswer]
    has_more: bool
    next: str | None


class AccountAnswer(BaseModel):
    id: str
    name: str | None
    balance: int
    members: list[str]
    created_at: datetime
