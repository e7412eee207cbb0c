r"""Requests to a bucket, sent until they succeed or further attempts make no sense."""

from __future__ import annotations

import base64
from collections.abc import Iterator
import contextlib
from contextlib import contextmanager
from dataclasses import dataclass
import getpass
import hashlib
import mimetypes
from typing import Any

from audmodel.core.backend import s3_answers
from audmodel.core.backend import s3_client
from audmodel.core.backend.transfer import FailureError
from audmodel.core.backend.transfer import Kind
from audmodel.core.backend.transfer import Retry
from audmodel.core.backend.transfer import Stream
from audmodel.core.backend.transfer import drain
from audmodel.core.backend.transfer import fill


# What answers hold if they arrive as a whole.
# Without a length, an answer that was cut off looks like an empty one
_REQUIRED = {
    "complete_multipart_upload": "ETag",
    "create_multipart_upload": "UploadId",
    "get_object": "ETag",
    "head_object": "ETag",
    "list_objects_v2": "IsTruncated",
    "put_object": "ETag",
    "upload_part": "ETag",
}

# Names of metadata of objects
CHECKSUM = "checksum"
OWNER = "owner"
WRITE_ID = "write-id"


@dataclass(frozen=True)
class Whole:
    r"""Answer to a request for an object, with its whole body.

    Args:
        answer: answer of boto3
        length: length of the body
        data: body, ``None`` if it is too long

    """

    answer: dict[str, Any]
    length: int
    data: bytes | None

    @property
    def tag(self) -> str:
        r"""What changes with the content of the object."""
        return str(self.answer["ETag"])


class Bucket:
    r"""Bucket of an S3 storage.

    Args:
        endpoint: how to reach it
        name: name of the bucket

    """

    def __init__(self, endpoint: s3_client.Endpoint, name: str) -> None:
        self.endpoint = endpoint
        self.name = name
        # How the server introduced itself last
        self.server = ""
        self._anonymous = False
        self._reached = False

    def url(self, path: str) -> str:
        r"""Location of an object."""
        scheme, _, netloc = self.endpoint.url.partition("://")
        if self.endpoint.addressing_style == "virtual":
            return f"{scheme}://{self.name}.{netloc}{path}"
        return f"{scheme}://{netloc}/{self.name}{path}"

    def retry(self) -> Retry:
        r"""Patience for one request."""
        return Retry(reached=self._reached)

    def send(self, operation: str, **arguments: Any) -> dict[str, Any]:
        r"""Send a request once.

        Args:
            operation: name of a method of the client of boto3
            arguments: its arguments, without the bucket

        Returns:
            answer

        Raises:
            ConfigurationError: if the configuration of boto3 cannot be used
            FailureError: if it fails

        """
        try:
            return self._send(operation, arguments, anonymous=self._anonymous)
        except FailureError as failure:
            # Credentials for another place do not keep anybody
            # from what is public
            if (
                self._anonymous
                or self.endpoint.keys is not None
                or not operation.startswith(("get_", "head_", "list_"))
                or not s3_answers.is_about_credentials(failure)
            ):
                raise
            try:
                answer = self._send(operation, arguments, anonymous=True)
            except FailureError as second:
                if second.kind is not Kind.ABSENT:
                    raise failure from None
                self._anonymous = True
                raise
            self._anonymous = True
            return answer

    def _send(
        self, operation: str, arguments: dict[str, Any], *, anonymous: bool
    ) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError
        from botocore.exceptions import ClientError
        from botocore.parsers import ResponseParserError
        from urllib3.exceptions import HTTPError

        client = s3_client.client(self.endpoint, anonymous=anonymous)
        try:
            answer: dict[str, Any] = getattr(client, operation)(
                Bucket=self.name, **arguments
            )
        except ClientError as error:
            self._answered(error.response)
            raise s3_answers.answered(error) from error
        except (BotoCoreError, HTTPError, ResponseParserError) as error:
            raise s3_answers.unanswered(error) from error
        self._answered(answer)
        if _REQUIRED.get(operation, "ResponseMetadata") not in answer:
            raise FailureError(Kind.LOST, "the answer is incomplete.")
        return answer

    def _answered(self, answer: Any) -> None:
        self._reached = True
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        self.server = str(headers.get("server", ""))

    def call(
        self, action: str, path: str, operation: str, **arguments: Any
    ) -> dict[str, Any]:
        r"""Send a request that may be repeated, as often as makes sense.

        Args:
            action: what it is for, in messages
            path: path of the object it is about
            operation: name of a method of the client of boto3
            arguments: its arguments, without the bucket

        Returns:
            answer

        Raises:
            FailureError: if the object is absent, or not as expected
            RepositoryError: if the request fails

        """
        what = f"Could not {action} '{self.url(path)}'"
        retry = self.retry()
        while True:
            try:
                return self.send(operation, **arguments)
            except FailureError as failure:
                if failure.kind in (Kind.ABSENT, Kind.CONDITION, Kind.RANGE):
                    raise
                retry.pause(failure, what)

    def require(
        self, action: str, path: str, operation: str, **arguments: Any
    ) -> dict[str, Any]:
        r"""Send a request to which no answer but success makes sense.

        Args:
            action: what it is for, in messages
            path: path of the object it is about
            operation: name of a method of the client of boto3
            arguments: its arguments, without the bucket

        Returns:
            answer

        Raises:
            RepositoryError: if the request fails

        """
        try:
            return self.call(action, path, operation, **arguments)
        except FailureError as failure:
            raise failure.error(f"Could not {action} '{self.url(path)}'") from failure

    @contextmanager
    def get(self, path: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        r"""Send one request for an object or a part of it.

        Args:
            path: path of the object
            arguments: arguments of the request

        Yields:
            answer, whose body is to be read and drained

        Raises:
            FailureError: if the request fails

        """
        answer = self.send("get_object", Key=key_of(path), **arguments)
        with contextlib.closing(answer["Body"]):
            yield answer

    def read(
        self, action: str, path: str, limit: int, **arguments: Any
    ) -> Whole | None:
        r"""Get an object, or a part of it.

        Args:
            action: what it is for, in messages
            path: path of the object
            limit: largest size in bytes that is read
            arguments: arguments of the request

        Returns:
            answer, ``None`` if there is no such object

        Raises:
            FailureError: if the object does not have the range that was asked for
            RepositoryError: if the request fails

        """
        what = f"Could not {action} '{self.url(path)}'"
        retry = self.retry()
        while True:
            try:
                with self.get(path, **arguments) as answer:
                    length = answer.get("ContentLength")
                    if length is None:
                        raise FailureError(
                            Kind.OTHER, "the server does not say how large it is."
                        )
                    if length > limit:
                        return Whole(answer, length, None)
                    data = bytearray(length)
                    if fill(stream_of(answer), memoryview(data), retry) < length:
                        raise FailureError(Kind.LOST, "the data ended early.")
                    drain(stream_of(answer))
                    return Whole(answer, length, bytes(data))
            except FailureError as failure:
                if failure.kind is Kind.ABSENT:
                    return None
                if failure.kind is Kind.RANGE:
                    raise
                retry.pause(failure, what)

    def head(self, path: str) -> dict[str, Any] | None:
        r"""What the storage knows about an object.

        Args:
            path: path of the object

        Returns:
            answer, ``None`` if there is no such object

        Raises:
            RepositoryError: if the request fails

        """
        try:
            return self.call("look up", path, "head_object", Key=key_of(path))
        except FailureError:
            return None

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
        self.require("store", path, "put_object", **arguments)


def put_arguments(
    path: str, data: bytes, checksum: str | None = None, **metadata: str
) -> dict[str, Any]:
    r"""Arguments of a request that stores an object.

    Args:
        path: path of the object
        data: content
        checksum: MD5 of the content, if it is known
        metadata: more metadata

    Returns:
        arguments

    """
    digest = hashlib.md5(data, usedforsecurity=False).digest()
    return {
        "Key": key_of(path),
        "Body": data,
        # The store refuses what was damaged on its way
        "ContentMD5": base64.b64encode(digest).decode(),
        "ContentType": content_type(path),
        "Metadata": {CHECKSUM: checksum or digest.hex(), OWNER: user(), **metadata},
    }


def stream_of(answer: dict[str, Any]) -> Stream:
    r"""Body of an answer."""
    # The stream of botocore waits for as many bytes as it is asked for,
    # for ever if they come one by one
    stream: Stream = answer["Body"]._raw_stream  # noqa: SLF001
    return stream


def key_of(path: str) -> str:
    r"""Key of the object at a path."""
    return path.removeprefix("/")


def content_type(path: str) -> str:
    r"""Type of content that audbackend gives to an object."""
    return mimetypes.guess_type(path)[0] or "application/octet-stream"


def user() -> str:
    r"""Name of the user, as far as it fits into a header."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        return "unknown"  # as in a container without user database
    return name.encode("ascii", "replace").decode()


def md5(data: bytes) -> str:
    r"""Checksum that audbackend stores with an object."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
