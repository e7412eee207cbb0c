r"""What the answers of an S3 storage mean."""

from __future__ import annotations

import re
from typing import Any

from audmodel.core.backend.transfer import BUSY_STATUS
from audmodel.core.backend.transfer import LOST_STATUS
from audmodel.core.backend.transfer import FailureError
from audmodel.core.backend.transfer import Kind
from audmodel.core.backend.transfer import unsendable


# Answers about credentials that have nothing to do with the object
_BAD_CREDENTIALS = {
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "UnrecognizedClientException",
}
BUSY = {
    # What arrived is not what was sent
    "BadDigest",
    "IncompleteBody",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
    "RequestTimeout",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "Throttling.User",
    "ThrottlingException",
    "TooManyRequests",
    "TooManyRequestsException",
}
_KINDS = {
    401: Kind.DENIED,
    403: Kind.DENIED,
    409: Kind.CONFLICT,
    412: Kind.CONDITION,
    416: Kind.RANGE,
    501: Kind.UNSUPPORTED,
}


def answered(error: Any) -> FailureError:
    r"""What an answer other than success means."""
    metadata = error.response.get("ResponseMetadata", {})
    status = metadata.get("HTTPStatusCode", 0)
    code = code_of(error)
    after = metadata.get("HTTPHeaders", {}).get("retry-after", "")
    retry_after = float(after) if after.isdecimal() else 0.0
    reason = f"the server answered {status} {code or 'without a reason'}."
    if code == "NoSuchBucket":
        kind = Kind.NO_REPOSITORY
        reason = "there is no such bucket. Create it, or correct name and host."
    elif status == 404:
        # Nobody but the storage itself knows that an object is absent
        has_body = error.operation_name != "HeadObject"
        kind = Kind.OTHER if has_body and code != "NoSuchKey" else Kind.ABSENT
    elif code == "RequestTimeTooSkewed":
        kind = Kind.DENIED
        reason = "the clock of this machine differs from that of the server. Set it."
    elif code in _BAD_CREDENTIALS:
        kind = Kind.DENIED
        reason = f"the server does not accept the credentials ({code})."
    elif status in BUSY_STATUS or code in BUSY:
        kind = Kind.BUSY
    elif status in LOST_STATUS:
        kind = Kind.LOST
    else:
        kind = _KINDS.get(status, Kind.OTHER)
    if kind is Kind.DENIED and code == "AccessDenied":
        reason = (
            "access is denied. Check the credentials for this host, "
            "and what they permit."
        )
    return FailureError(kind, reason, error, retry_after)


def unanswered(error: Exception) -> FailureError:
    r"""What it means that there was no answer."""
    from botocore import exceptions

    if isinstance(error, exceptions.SSLError):
        return FailureError(
            Kind.OTHER, f"the connection is not trustworthy: {error}", error
        )
    if isinstance(
        error,
        exceptions.ConnectTimeoutError
        | exceptions.EndpointConnectionError
        | exceptions.ProxyConnectionError,
    ):
        return FailureError(Kind.NOT_REACHED, "the server cannot be reached.", error)
    if isinstance(
        error,
        exceptions.CredentialRetrievalError
        | exceptions.NoAuthTokenError
        | exceptions.NoCredentialsError
        | exceptions.PartialCredentialsError
        | exceptions.SSOError
        | exceptions.TokenRetrievalError,
    ):
        return FailureError(
            Kind.DENIED,
            f"no credentials could be had ({type(error).__name__}).",
            error,
        )
    if isinstance(error, exceptions.ValidationError | exceptions.ParamValidationError):
        return FailureError(Kind.OTHER, str(error), error)
    if isinstance(error, exceptions.HTTPClientError):
        inner = error.kwargs.get("error")
        if isinstance(inner, ValueError):
            return unsendable(inner)
    return FailureError(
        Kind.LOST, f"there was no answer ({type(error).__name__}).", error
    )


def code_of(error: Exception | None) -> str:
    r"""Code of an answer, empty if there is none that looks like one."""
    response = getattr(error, "response", None) or {}
    code = str(response.get("Error", {}).get("Code", ""))
    return code if re.fullmatch("[A-Za-z][A-Za-z0-9._-]{0,63}", code) else ""


def is_about_credentials(failure: FailureError) -> bool:
    r"""Whether it is the credentials that are refused, and not the access."""
    if failure.kind is not Kind.DENIED:
        return False
    had_answer = getattr(failure.cause, "response", None) is not None
    return not had_answer or code_of(failure.cause) not in ("", "AccessDenied")
