r"""Sends requests for botocore, and limits responses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import threading
import time
from typing import Any

from audmodel.core.backend.http import connections
from audmodel.core.backend.http.transfer import Kind
from audmodel.core.backend.http.transfer import RequestError
from audmodel.core.backend.http.transfer import read_body
from audmodel.core.backend.s3 import private as s3_private


# Largest response that is no object, e.g. a thousand names
LARGEST_RESPONSE = 16 * 1024 * 1024
# Longer explanations of an error are not read
LARGEST_ERROR = 64 * 1024
# Seconds until credentials that were refused are looked for once more
_LOOK_AGAIN = 10.0


class Session:
    r"""Sends requests for botocore, and limits the length of responses.

    Args:
        session: session of botocore
        identity: hash of the credentials
        trust: trust in the connections

    """

    def __init__(
        self, session: Any, identity: int | None, trust: connections.Trust
    ) -> None:
        self.identity = identity
        self.trust = trust
        self._session = session
        self._local = threading.local()
        self._looked = -_LOOK_AGAIN

    def may_look_again(self) -> bool:
        r"""Whether it is time to look for other credentials."""
        now = time.monotonic()
        if now - self._looked < _LOOK_AGAIN:
            return False
        self._looked = now
        return True

    @contextmanager
    def closing_on_error(self) -> Iterator[None]:
        r"""Close the body of a response if its request fails.

        Otherwise the reader of the body closes it.
        """
        self._local.body = None
        try:
            yield
        except BaseException:
            if self._local.body is not None:
                self._local.body.close()
            raise
        finally:
            self._local.body = None

    def send(self, request: Any) -> Any:
        r"""Send a request, and read a response of limited length."""
        from botocore.exceptions import ResponseStreamingError

        streams = s3_private.leave_body(request)
        try:
            response = self._session.send(request)
        finally:
            # Tracebacks with variables would show its signature
            del request
        if not streams or response.status_code >= 300:
            limit = LARGEST_ERROR if response.status_code >= 300 else LARGEST_RESPONSE
            body = read_body(response.raw, limit)
            if body is None:
                response.raw.close()
                if response.status_code < 300:
                    raise ResponseStreamingError(error="The response is too long.")
                # The empty body that takes its place has another length
                response.headers.pop("Content-Length", None)
            # The status says enough about an error
            s3_private.set_body(response, body or b"")
        else:
            self._local.body = response.raw
        return response

    def close(self) -> None:
        r"""Close all connections."""
        self._session.close()


def check_length(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    r"""Refuse a truncated response, which botocore would accept."""
    from botocore.exceptions import ResponseStreamingError

    body = response_dict.get("body")
    length = response_dict.get("headers", {}).get("content-length", "")
    if (
        isinstance(body, bytes)
        and length.isdecimal()
        and len(body) != int(length)
        and not operation_model.name.startswith("Head")
    ):
        raise ResponseStreamingError(error="The response was truncated.")


def leave_circle(response: tuple[Any, Any] | None, **_: Any) -> None:
    r"""Do not request the region of a bucket again and again.

    botocore does so if the response is a redirect,
    e.g. to the login page of a gateway.
    """
    if response is not None:
        status, headers = response[0].status_code, response[0].headers
        if 300 <= status < 400 and "x-amz-bucket-region" not in headers:
            raise RequestError(
                Kind.OTHER,
                f"the server responded with {status}, a redirect that is not followed.",
            )
