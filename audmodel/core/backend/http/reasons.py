r"""Messages that say why a request failed, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
import json
import re
import socket
import ssl

from audmodel.core.backend.http import credentials
from audmodel.core.backend.http.transfer import Kind
from audmodel.core.backend.http.transfer import RequestError


FULL = "the storage is full, or its quota is used up. Make room, or ask for more."
TOO_LARGE = (
    "the server accepts no body of this size. Often a proxy limits it "
    "(client_max_body_size of nginx). Some servers say so when the storage is full."
)
# Explanations are shown up to this length
_LONGEST = 300
# Parts of an explanation that may be secret
_SECRET = re.compile(
    r"(?i)\b((?:x-amz-)?(?:signature|credential|security-token|token)|"
    r"api[-_]?key|password|secret)(\s*[=:]\s*)\S+"
)
_OTHER_HOST = re.compile("hostname '[^']*' doesn't match .*")
_CHECK_HOST = " Check the host, which has another certificate."
_OTHER_AUTHORITY = (
    " If your organisation has issued it, "
    "let REQUESTS_CA_BUNDLE name a file with the certificate of its authority."
)
_OTHER_TIME = " Check the clock of this machine. If it is right, renew the certificate."
# By number of the errors of X.509
_CERTIFICATES = {
    **dict.fromkeys((9, 10), _OTHER_TIME),
    **dict.fromkeys((18, 19, 20, 21), _OTHER_AUTHORITY),
    **dict.fromkeys((62, 64), _CHECK_HOST),
}
# Errors of OpenSSL for a response in plain text
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER")


def said(message: str, request: str = "") -> str:
    r"""Explanation of a server, for the end of a message.

    Args:
        message: explanation of the server
        request: ID that the server gave the request

    Returns:
        sentence with a space in front, empty if there is nothing to say

    """
    text = "".join(c if c.isprintable() else " " for c in message)
    text = " ".join(credentials.redact(text).split())
    text = _SECRET.sub(r"\1\2***", text)
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}…"
    request = request if re.fullmatch(r"[\w.:/+=-]{1,100}", request) else ""
    words = f" The server says: {text.rstrip('.')}." if text else ""
    return f"{words} The request ID is {request}." if request else words


def message_of(body: bytes) -> str:
    r"""Explanation in the body of a response, empty if there is none.

    Returns:
        message of JSON as Artifactory sends it, or title of a web page

    """
    text = body.decode("utf-8", "replace")
    title = re.search(r"<title>([^<]*)</title>", text, re.IGNORECASE)
    if title is not None:
        return title[1]
    try:
        data = json.loads(text)
        errors = data.get("errors", [data])
        found = errors[0].get("message", "")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""
    return found if isinstance(found, str) else ""


def not_reached(error: Exception, url: str, *, proxy: bool = False) -> RequestError:
    r"""Why a server was not reached.

    Args:
        error: error of the library that tried
        url: URL of the server
        proxy: whether it was the proxy that was not reached

    """
    causes = list(_chain(error))
    if proxy:
        reason = (
            "the proxy cannot be reached. Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY."
        )
    elif any(isinstance(cause, socket.gaierror) for cause in causes):
        reason = f"the host of '{url}' is not known. Check its name, and the network."
    elif any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        reason = (
            "the server cannot be reached: nothing listens there. "
            "Check the port, and whether the server runs."
        )
    else:
        reason = "the server cannot be reached."
    return RequestError(Kind.NOT_REACHED, reason, error)


def not_trusted(error: Exception) -> RequestError:
    r"""Why a connection cannot be used."""
    if any(word in str(error).upper().replace(" ", "_") for word in _NO_TLS):
        reason = (
            "the server does not use TLS. "
            "If this is intended, write http:// in front of the host."
        )
    else:
        reason = f"the TLS connection failed: {_certificate(error) or error}"
    return RequestError(Kind.OTHER, reason, error)


def _certificate(error: Exception) -> str:
    r"""What is wrong with a certificate, and what to do, empty if nothing is."""
    for cause in _chain(error):
        if isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_message:
            reason = cause.verify_message
            return _not_valid(reason, _CERTIFICATES.get(cause.verify_code, ""))
    # urllib3 compares the host itself for boto3
    match = _OTHER_HOST.search(str(error))
    return _not_valid(match[0], _CHECK_HOST) if match else ""


def _not_valid(reason: str, advice: str) -> str:
    return f"the certificate is not valid: {reason.rstrip('.')}.{advice}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    r"""An error, and those that led to it."""
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        current = waiting.pop()
        if not isinstance(current, BaseException) or any(current is e for e in seen):
            continue
        seen.append(current)
        yield current
        waiting += [current.__cause__, current.__context__, *current.args]
        waiting += [getattr(current, "reason", None)]
