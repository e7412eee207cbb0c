r"""What the responses of an S3 storage mean."""

from __future__ import annotations

import re
from typing import Any

from audmodel.core.backend.http.reasons import FULL
from audmodel.core.backend.http.reasons import TOO_LARGE
from audmodel.core.backend.http.reasons import not_reached
from audmodel.core.backend.http.reasons import not_trusted
from audmodel.core.backend.http.reasons import said
from audmodel.core.backend.http.transfer import AMBIGUOUS_STATUS
from audmodel.core.backend.http.transfer import BUSY_STATUS
from audmodel.core.backend.http.transfer import Kind
from audmodel.core.backend.http.transfer import RequestError
from audmodel.core.backend.http.transfer import unsendable


# Codes that are about the credentials, and not about the object
_BAD_CREDENTIALS = {
    "ExpiredRequest",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "InvalidToken",
    "InvalidTokenId",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "Unauthorized",
    "UnrecognizedClientException",
}
BUSY = {
    # The data were damaged on their way
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
_FULL = {
    "InsufficientCapacity",
    "InsufficientStorage",
    "QuotaExceeded",
    "StorageQuotaExceeded",
    "XMinioAdminBucketQuotaExceeded",
    "XMinioStorageFull",
}
_LOCKED = {"ObjectLocked", "InvalidRetentionPeriod"}
_ELSEWHERE = {
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "PermanentRedirect",
    "TemporaryRedirect",
}
_MEANINGS = {
    "NoSuchBucket": (
        Kind.NO_REPOSITORY,
        "there is no such bucket. Create it, or correct name and host.",
    ),
    "RequestTimeTooSkewed": (
        Kind.DENIED,
        "the clock of this machine differs from that of the server. Set it.",
    ),
    "InvalidObjectState": (
        Kind.OTHER,
        "the object is archived. Restore it, and exclude models from archiving.",
    ),
    "NoSuchUpload": (
        Kind.OTHER,
        "the upload was aborted, by another client or by a rule of the bucket.",
    ),
    "EntityTooLarge": (Kind.OTHER, TOO_LARGE),
    **dict.fromkeys(_FULL, (Kind.OTHER, FULL)),
    **dict.fromkeys(
        _LOCKED, (Kind.DENIED, "the object is locked against changes and deletion.")
    ),
}
_KINDS = {
    401: Kind.DENIED,
    403: Kind.DENIED,
    409: Kind.CONFLICT,
    412: Kind.CONDITION,
    416: Kind.RANGE,
    501: Kind.UNSUPPORTED,
}
_READS = ("GetObject", "HeadObject")
_LISTS = ("ListObjectsV2",)
_WRITES = ("CopyObject", "CreateMultipartUpload", "PutObject")


def failure_of(error: Any) -> RequestError:
    r"""What a response other than success means."""
    metadata = error.response.get("ResponseMetadata", {})
    after = metadata.get("HTTPHeaders", {}).get("retry-after", "")
    kind, reason = _meaning(error)
    message = str(error.response.get("Error", {}).get("Message", ""))
    if message in (code_of(error), "Access Denied", "Access Denied."):
        message = ""
    request = str(metadata.get("RequestId", ""))
    return RequestError(
        kind,
        f"{reason}{said(message, request)}",
        error,
        float(after) if after.isdecimal() else 0.0,
    )


def _meaning(error: Any) -> tuple[Kind, str]:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = code_of(error)
    if code in _MEANINGS:
        return _MEANINGS[code]
    if code in _BAD_CREDENTIALS:
        return Kind.DENIED, (
            f"the server does not accept the credentials ({status} {code}). "
            "They are wrong, have expired, or belong to another storage."
        )
    if code in _ELSEWHERE or status == 301:
        return Kind.OTHER, _elsewhere(error)
    if code.startswith("KMS"):
        return Kind.OTHER, (
            f"objects cannot be encrypted or decrypted ({code}). "
            "Check the key, and sse_kms_key_id in the settings of the host."
        )
    if code == "AccessDenied":
        return _denied(error)
    kind = _kind(error.operation_name, status, code)
    if status == 507:
        return kind, FULL
    if status == 413:
        return kind, TOO_LARGE
    return kind, f"the server responded with {status} {code or 'without a reason'}."


def _kind(operation: str, status: int, code: str) -> Kind:
    if status == 404:
        # Only the storage itself knows that an object is absent, a proxy does not
        has_body = operation != "HeadObject"
        return Kind.OTHER if has_body and code != "NoSuchKey" else Kind.ABSENT
    if status in BUSY_STATUS or code in BUSY:
        return Kind.BUSY
    if status in AMBIGUOUS_STATUS:
        return Kind.AMBIGUOUS
    return _KINDS.get(status, Kind.OTHER)


def _denied(error: Any) -> tuple[Kind, str]:
    message = str(error.response.get("Error", {}).get("Message", ""))
    operation = error.operation_name
    reason = (
        "access is denied. Check the credentials for this host, and what they permit."
    )
    if operation in _READS:
        # AWS asks for this permission only if the object is missing
        if "perform: s3:ListBucket" in message:
            return Kind.ABSENT, "it is missing, and the bucket may not be listed."
        return Kind.HIDDEN, (
            "access is denied. Either the object is absent, or you may not read it: "
            "with the permission s3:ListBucket the storage would say which. "
            "Check the credentials for this host, and what they permit."
        )
    if operation in _LISTS:
        return Kind.HIDDEN, f"{reason} The permission s3:ListBucket is needed."
    if operation in _WRITES and "explicit deny" in message:
        reason += (
            " A policy forbids it, maybe since it requires encryption: "
            "see server_side_encryption in the documentation on authentication."
        )
    return Kind.DENIED, reason


def _elsewhere(error: Any) -> str:
    r"""The server named another region, which boto3 did not follow."""
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = str(
        error.response.get("Error", {}).get("Region")
        or headers.get("x-amz-bucket-region", "")
    )
    where = (
        f"in the region '{region}'" if re.fullmatch("[a-z0-9-]{1,40}", region) else ""
    )
    return (
        f"the bucket is {where or 'in another region'}. "
        "Set region in the settings of the host, or use the host of that region."
    )


def no_response(error: Exception, url: str = "") -> RequestError:
    r"""What it means that there was no response."""
    from botocore import exceptions

    if isinstance(error, exceptions.SSLError):
        return not_trusted(error)
    if isinstance(
        error,
        exceptions.ConnectTimeoutError
        | exceptions.EndpointConnectionError
        | exceptions.ProxyConnectionError,
    ):
        is_proxy = isinstance(error, exceptions.ProxyConnectionError)
        return not_reached(error, url, proxy=is_proxy)
    if isinstance(
        error,
        exceptions.CredentialRetrievalError
        | exceptions.NoAuthTokenError
        | exceptions.NoCredentialsError
        | exceptions.PartialCredentialsError
        | exceptions.SSOError
        | exceptions.TokenRetrievalError,
    ):
        return RequestError(
            Kind.DENIED,
            f"the credentials could not be loaded ({type(error).__name__}).",
            error,
        )
    if isinstance(error, exceptions.ValidationError | exceptions.ParamValidationError):
        return RequestError(Kind.OTHER, str(error), error)
    if isinstance(error, exceptions.HTTPClientError):
        inner = error.kwargs.get("error")
        if isinstance(inner, ValueError):
            return unsendable(inner)
    return RequestError(
        Kind.AMBIGUOUS, f"there was no response ({type(error).__name__}).", error
    )


def code_of(error: Exception | None) -> str:
    r"""Code of an error response, empty if there is none that looks like one."""
    response = getattr(error, "response", None) or {}
    code = str(response.get("Error", {}).get("Code", ""))
    return code if re.fullmatch("[A-Za-z][A-Za-z0-9._-]{0,63}", code) else ""


def is_about_credentials(failure: RequestError) -> bool:
    r"""Whether the credentials are refused, and not only this access."""
    if failure.kind is not Kind.DENIED:
        return False
    had_response = getattr(failure.cause, "response", None) is not None
    return not had_response or code_of(failure.cause) not in ("", "AccessDenied")
