r"""Requests to a bucket, sent until they succeed or further attempts make no sense."""

from __future__ import annotations

import base64
from collections.abc import Iterator
import contextlib
from contextlib import contextmanager
import getpass
import hashlib
import mimetypes
from typing import Any

from audmodel.core.backend.http import credentials
from audmodel.core.backend.http.causes import translated
from audmodel.core.backend.http.store import ObjectResponse
from audmodel.core.backend.http.store import Store
from audmodel.core.backend.http.transfer import Kind
from audmodel.core.backend.http.transfer import RequestError
from audmodel.core.backend.s3 import client as s3_client
from audmodel.core.backend.s3 import private as s3_private
from audmodel.core.backend.s3 import responses as s3_responses
from audmodel.core.backend.s3.endpoint import Endpoint
from audmodel.core.process.requests import finish


# A field that a complete response holds.
# Without a length, a truncated response looks like an empty one
_REQUIRED = {
    "complete_multipart_upload": "ETag",
    "create_multipart_upload": "UploadId",
    "get_object": "ETag",
    "head_object": "ETag",
    "list_multipart_uploads": "IsTruncated",
    "list_objects_v2": "IsTruncated",
    "put_object": "ETag",
    "upload_part": "ETag",
    "upload_part_copy": "CopyPartResult",
}

# Those that say how an object is encrypted
_STORING = {"copy_object", "create_multipart_upload", "put_object"}

# One of many, of which none is visible yet
_PARTS = {"upload_part", "upload_part_copy"}

# Names of metadata of objects
CHECKSUM = "checksum"
OWNER = "owner"
WRITE_ID = "write-id"


class Bucket(Store):
    r"""Bucket of an S3 storage."""

    def __init__(self, endpoint: Endpoint, name: str) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.name = name
        # How the server introduced itself last
        self.server = ""
        self._anonymous = False
        # The client that sent the last request
        self._client: Any = None

    def url(self, path: str) -> str:
        r"""Location of an object."""
        scheme, _, netloc = self.endpoint.url.partition("://")
        if self.endpoint.addressing_style == "virtual":
            return f"{scheme}://{self.name}.{netloc}{path}"
        return f"{scheme}://{netloc}/{self.name}{path}"

    def send(self, operation: str, **arguments: Any) -> dict[str, Any]:
        r"""Send a request once.

        A request that changes something is not cancelled before its response,
        unless it is one of many.

        Args:
            operation: name of a method of the client of botocore
            arguments: its arguments, without the bucket

        Raises:
            ConfigurationError: if the configuration of botocore cannot be used
            RequestError: if it fails

        """
        if operation in _STORING:
            arguments.update(self.endpoint.encryption)
        is_read = operation.startswith(("get_", "head_", "list_"))
        if not is_read and operation not in _PARTS:
            return finish(
                lambda: self._send(operation, arguments, anonymous=self._anonymous)
            )
        try:
            return self._send(operation, arguments, anonymous=self._anonymous)
        except RequestError as failure:
            # Public objects can be read even with credentials for another place
            if (
                self._anonymous
                or self.endpoint.keys is not None
                or not is_read
                or not s3_responses.is_about_credentials(failure)
            ):
                raise
            try:
                response = self._send(operation, arguments, anonymous=True)
            except RequestError as second:
                if second.kind is not Kind.ABSENT:
                    raise failure from None
                self._anonymous = True
                raise
            self._anonymous = True
            return response

    def _send(
        self, operation: str, arguments: dict[str, Any], *, anonymous: bool
    ) -> dict[str, Any]:
        client = s3_client.client(self.endpoint, anonymous=anonymous)
        try:
            return self._send_with(client, operation, arguments)
        except RequestError as failure:
            if anonymous or not s3_responses.is_about_credentials(failure):
                raise
            renewed = s3_client.renewed(self.endpoint, client)
            if renewed is None:
                raise
        # A request that is refused changes nothing
        return self._send_with(renewed, operation, arguments)

    def _send_with(
        self, client: Any, operation: str, arguments: dict[str, Any]
    ) -> dict[str, Any]:
        self._client = client
        with s3_client.closing_on_error(client):
            return self._response(client, operation, arguments)

    def distrust(self) -> None:  # noqa: D102
        if self._client is not None:
            s3_client.distrust(self._client)

    def _response(
        self, client: Any, operation: str, arguments: dict[str, Any]
    ) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError
        from botocore.exceptions import ClientError
        from botocore.parsers import ResponseParserError
        from urllib3.exceptions import HTTPError

        lost = (BotoCoreError, HTTPError, ResponseParserError)

        def meaning(error: Exception) -> RequestError:
            if isinstance(error, ClientError):
                self._arrived(error.response)
                failure = self._refused(client, error)
            elif isinstance(error, lost):
                failure = s3_responses.no_response(error, self.endpoint.url)
            elif isinstance(error, RequestError):
                # It comes from inside of botocore
                failure = RequestError(error.kind, error.reason)
            else:
                # A header holds something else than the number or date it should
                failure = RequestError(Kind.AMBIGUOUS, "the response is not valid.")
            return self.failed(failure)

        response: dict[str, Any] = translated(
            lambda: getattr(client, operation)(Bucket=self.name, **arguments),
            (ClientError, *lost, RequestError, ValueError),
            meaning,
        )
        self._arrived(response)
        if _REQUIRED.get(operation, "ResponseMetadata") not in response:
            raise RequestError(Kind.AMBIGUOUS, "the response is incomplete.")
        return response

    def _refused(self, client: Any, error: Any) -> RequestError:
        failure = s3_responses.failure_of(error)
        is_denied = failure.kind in (Kind.DENIED, Kind.HIDDEN)
        if is_denied and s3_client.is_anonymous(client):
            failure.reason = (
                f"access is denied, and no credentials for {self.endpoint.url} "
                f"were found. Looked in {credentials.minio_places()}."
            )
        return failure

    def _arrived(self, response: Any) -> None:
        headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        self.arrived(headers)
        self.server = str(headers.get("server", ""))

    def call(
        self, action: str, path: str, operation: str, **arguments: Any
    ) -> dict[str, Any]:
        r"""Send a request that may be repeated, as often as makes sense.

        Args:
            action: what it is for, in messages
            path: path of the object it is about
            operation: name of a method of the client of botocore
            arguments: its arguments, without the bucket

        Returns:
            response

        Raises:
            RequestError: if the object is absent, or not as expected
            RepositoryError: if the request fails

        """
        return self.repeat(
            action,
            path,
            lambda: self.send(operation, **arguments),
            (Kind.ABSENT, Kind.CONDITION, Kind.RANGE),
        )

    def require(
        self, action: str, path: str, operation: str, **arguments: Any
    ) -> dict[str, Any]:
        r"""Send a request like :meth:`call`, and take every failure for an error.

        Raises:
            RepositoryError: if the request fails

        """
        try:
            return self.call(action, path, operation, **arguments)
        except RequestError as failure:
            raise failure.error(f"Could not {action} '{self.url(path)}'") from failure

    @contextmanager
    def get(  # noqa: D102
        self, path: str, bytes_: str = "", etag: str = ""
    ) -> Iterator[ObjectResponse]:
        arguments = {"Key": key_of(path)}
        if bytes_:
            arguments["Range"] = bytes_
        if etag:
            arguments["IfMatch"] = etag
        found = self.send("get_object", **arguments)
        with contextlib.closing(found["Body"]) as body:
            metadata = found["ResponseMetadata"]
            yield ObjectResponse(
                metadata["HTTPStatusCode"],
                metadata["HTTPHeaders"],
                s3_private.stream(body),
            )

    def head(self, path: str) -> dict[str, Any] | None:
        r"""Headers and metadata of an object.

        Returns:
            response, ``None`` if there is no such object

        Raises:
            RepositoryError: if the request fails

        """
        try:
            return self.repeat(
                "look up",
                path,
                lambda: self.send("head_object", Key=key_of(path)),
                (Kind.ABSENT, Kind.DENIED, Kind.HIDDEN),
            )
        except RequestError as failure:
            if failure.kind is Kind.ABSENT:
                return None
            # A response without body does not say why
            if self.read("look up", path, 1, "bytes=0-0") is None:
                return None
            raise failure.error(f"Could not look up '{self.url(path)}'") from failure

    def put(self, path: str, data: bytes, checksum: str | None = None) -> None:
        r"""Store an object by one request.

        Args:
            path: path of the object
            data: content
            checksum: MD5 of the content, if it is known

        Raises:
            RepositoryError: if the request fails

        """
        arguments = put_arguments(path, data, checksum)
        what = f"Could not store '{self.url(path)}'"
        try:
            self.repeat(
                "store",
                path,
                lambda: self.send("put_object", **arguments),
                (Kind.ABSENT, Kind.CONDITION, Kind.RANGE),
                is_write=True,
            )
        except RequestError as failure:
            raise failure.error(what) from failure


def put_arguments(
    path: str, data: bytes, checksum: str | None = None, **metadata: str
) -> dict[str, Any]:
    r"""Arguments of a request that stores an object."""
    return {
        "Key": key_of(path),
        **body_arguments(data),
        "ContentType": content_type(path),
        "Metadata": {CHECKSUM: checksum or md5(data), OWNER: user(), **metadata},
    }


def body_arguments(data: bytes) -> dict[str, Any]:
    r"""Arguments of a request that sends content.

    With a checksum the storage refuses content that was damaged in transit.
    Buckets with object lock demand one, and all storages know this one.

    """
    digest = hashlib.md5(data, usedforsecurity=False).digest()
    return {"Body": data, "ContentMD5": base64.b64encode(digest).decode()}


def key_of(path: str) -> str:
    r"""Key of the object at a path."""
    return path.removeprefix("/")


def content_type(path: str) -> str:
    r"""Type of content that audbackend gives to an object."""
    return mimetypes.guess_type(path)[0] or "application/octet-stream"


def user() -> str:
    r"""Name of the user, as far as it fits into an HTTP header."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        return "unknown"  # as in a container without user database
    return name.encode("ascii", "replace").decode()


def md5(data: bytes) -> str:
    r"""Checksum that audbackend stores with an object."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
