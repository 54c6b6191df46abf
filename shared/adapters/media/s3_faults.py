"""What S3, and the way to it, can answer instead of doing as asked; told in one line to an operator."""

from typing import Any, Final

from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ReadTimeoutError,
    SSLError,
)
from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]


class Fault(Exception):
    """One that we found ourselves; its text is the line."""


FAULTS: Final = (
    BotoCoreError,
    ClientError,
    ResponseParserError,
    Fault,
    OSError,
    TimeoutError,
    RecursionError,
)
"""All that a call can raise: of the library, of the file that is read, and of our own patience.

A redirect that says no place is followed by the library until Python ends it.
"""

NO_CREDENTIALS: Final = (
    "no credentials were found: give an access key id and its secret, or run where AWS provides a role"
)

# The first that fits.
_LINES: Final[tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...]] = (
    (NoCredentialsError, NO_CREDENTIALS),
    ((PartialCredentialsError, CredentialRetrievalError), "the credentials are not complete: {cause}"),
    (SSLError, "{place} cannot be trusted: {cause}"),
    ((ReadTimeoutError, ConnectTimeoutError, TimeoutError), "{place} did not answer in time"),
    (EndpointConnectionError, "{place} cannot be reached: {cause}"),
    (HTTPClientError, "the connection to {place} broke: {cause}"),
    (ResponseParserError, "the answer of {place} does not look like one of S3; is the endpoint right?"),
    (RecursionError, "{place} redirects without end; is the endpoint right?"),
    (ParamValidationError, "{bucket} cannot be the name of a bucket: {cause}"),
)

_MAY_NOT: Final = {
    "PutObject": "write",
    "CreateMultipartUpload": "write",
    "UploadPart": "write",
    "CompleteMultipartUpload": "write",
    "DeleteObject": "delete",
    "ListObjectsV2": "list objects",
}
_DENIED: Final = frozenset({"AccessDenied", "Forbidden", "AllAccessDisabled", "AccountProblem", "403"})
_UNKNOWN_KEY: Final = frozenset(
    {"InvalidAccessKeyId", "Unauthorized", "InvalidSecurity", "InvalidToken", "401"}
)
_WRONG_REGION: Final = frozenset(
    {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"}
    | {"InvalidRegion", "InvalidRegionName", "301"}
)
_LONGEST_ANSWER: Final = 200
"""How much of a service's own words is passed on."""


def code_of(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def told(error: BaseException, *, bucket: str, place: str) -> str:
    """The fault in one line; `place` is the endpoint, or a name for it."""
    if isinstance(error, ClientError):
        return _refusal(error, bucket, place)
    cause = _one_line(getattr(error, "kwargs", {}).get("error") or getattr(error, "strerror", None) or error)
    for types, line in _LINES:
        if isinstance(error, types):
            return line.format(bucket=bucket, place=place, cause=cause)
    return cause


def _refusal(error: ClientError, bucket: str, place: str) -> str:
    match code_of(error):
        case "NoSuchBucket":
            return f"there is no bucket {bucket} at {place}"
        case code if code in _UNKNOWN_KEY:
            return f"{place} does not know the access key id ({code})"
        case "SignatureDoesNotMatch":
            return (
                "the signature does not match: the secret access key is not that of the access key id, "
                f"or the region is wrong ({place})"
            )
        case code if code in _DENIED:
            doing = _MAY_NOT.get(error.operation_name, "do this")
            return f"the access key may not {doing} in bucket {bucket} at {place} ({code})"
        case code if code in _WRONG_REGION:
            return f"bucket {bucket} is in another region than the one that is set ({code})"
        case "RequestTimeTooSkewed":
            return "the clock of this machine is wrong (RequestTimeTooSkewed)"
        case code:
            answer: dict[str, Any] = error.response
            status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
            words = f"{code} {answer.get('Error', {}).get('Message', '')}".strip()
            return f"{place} refused: {status} {words}"[:_LONGEST_ANSWER].replace("\n", " ")


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:_LONGEST_ANSWER] or type(error).__name__
