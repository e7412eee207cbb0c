r"""Repository in a bucket of an S3 compatible storage."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
from contextlib import contextmanager
import datetime
import hashlib
import re
from typing import Any

from audmodel.core.backend import s3_answers
from audmodel.core.backend import s3_client
from audmodel.core.backend import s3_upload
from audmodel.core.backend.base import TAIL
from audmodel.core.backend.base import Buffer
from audmodel.core.backend.base import ObjectBackend
from audmodel.core.backend.base import ObjectReader
from audmodel.core.backend.base import StoredObject
from audmodel.core.backend.base import Upload
from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.s3_answers import content_range
from audmodel.core.backend.s3_conditions import ConditionalWrites
from audmodel.core.backend.s3_requests import CHECKSUM
from audmodel.core.backend.s3_requests import OWNER
from audmodel.core.backend.s3_requests import Bucket
from audmodel.core.backend.s3_requests import key_of
from audmodel.core.backend.s3_requests import md5
from audmodel.core.backend.s3_requests import stream_of
from audmodel.core.backend.transfer import FailureError
from audmodel.core.backend.transfer import Kind
from audmodel.core.backend.transfer import drain
from audmodel.core.backend.transfer import fill
from audmodel.parallel import prefetch


_CHUNK = 4 * 1024 * 1024
_MD5 = re.compile("[0-9a-f]{32}")
_NO_RANGES = (
    "the server does not give byte ranges. A proxy on the way may be the reason."
)
_WRONG_RANGE = "the server gave other bytes than it was asked for."


class S3Reader(ObjectReader):
    r"""Byte ranges of an object in a bucket."""

    def __init__(
        self, bucket: Bucket, path: str, size: int, tail: bytes, tag: str
    ) -> None:
        super().__init__(size, tail)
        self._bucket = bucket
        self._path = path
        self._tag = tag

    def _readinto(self, offset: int, view: memoryview) -> None:
        what = f"Could not read '{self._bucket.url(self._path)}'"
        retry = self._bucket.retry()
        position = 0
        while position < len(view):
            rest = view[position:]
            first, last = offset + position, offset + len(view) - 1
            try:
                with self._bucket.get(
                    self._path, Range=f"bytes={first}-{last}", IfMatch=self._tag
                ) as answer:
                    self._check(answer, first, last)
                    position += fill(stream_of(answer), rest, retry)
                    if position < len(view):
                        raise FailureError(Kind.LOST, "the data ended early.")
                    drain(stream_of(answer))
            except FailureError as failure:
                if failure.kind is Kind.CONDITION:
                    raise RepositoryError(
                        f"{what}: it was replaced while it was read. Try again."
                    ) from failure
                retry.pause(failure, what)

    def _check(self, answer: dict[str, Any], first: int, last: int) -> None:
        r"""Make sure that the answer is about what was asked for."""
        if answer["ResponseMetadata"]["HTTPStatusCode"] != 206:
            raise FailureError(Kind.OTHER, _NO_RANGES)
        if (
            content_range(answer) != (first, last, self.size)
            or answer.get("ContentLength") != last - first + 1
            or answer.get("ETag") != self._tag
        ):
            raise FailureError(Kind.LOST, _WRONG_RANGE)


class S3(ObjectBackend):
    r"""Backend for S3 compatible storages.

    Args:
        host: host name, ``host:port`` or URL
        repository: name of the bucket
        authentication: access key and secret key,
            looked up in environment and configuration if not given
        secure: whether to use TLS,
            looked up in the configuration if not given,
            and on if it is not found there

    """

    def __init__(
        self,
        host: str,
        repository: str,
        *,
        authentication: tuple[str, str] | None = None,
        secure: bool | None = None,
    ) -> None:
        # The base class would keep the secret as a public attribute
        super().__init__(host, repository, authentication=None)
        endpoint = s3_client.endpoint(
            host, repository, keys=authentication, secure=secure
        )
        self._bucket = Bucket(endpoint, repository)
        self._writes = ConditionalWrites(self._bucket)

    def read_object(self, path: str, limit: int) -> StoredObject | None:  # noqa: D102
        what = f"Could not read '{self.object_url(path)}'"
        for _ in range(2):
            whole = self._bucket.read("read", path, limit)
            if whole is None:
                return None
            if whole.data is None:
                raise RepositoryError(
                    f"{what}: it has {whole.length} bytes, allowed are {limit}."
                )
            expected = whole.answer.get("Metadata", {}).get(CHECKSUM, "")
            if not _MD5.fullmatch(expected) or md5(whole.data) == expected:
                return StoredObject(whole.data, whole.tag)
            # It may have been damaged on its way
        raise RepositoryError(
            f"{what}: its content does not have the checksum it was stored with. "
            "It was damaged, or changed by another tool."
        )

    def create_object(self, path: str, data: bytes) -> bool:  # noqa: D102
        return self._writes.create(path, data, unprotected=self.unprotected)

    def replace_object(self, path: str, data: bytes, tag: str) -> bool:  # noqa: D102
        return self._writes.replace(path, data, tag, unprotected=self.unprotected)

    def delete_object(self, path: str) -> None:  # noqa: D102
        self._writes.delete_object(path)

    @property
    def conditional(self) -> ConditionalWrites:  # noqa: D102
        return self._writes

    def list_objects(self, folder: str) -> list[str]:  # noqa: D102
        return [f"/{entry['Key']}" for entry in self._list(folder, "Contents")]

    @contextmanager
    def open_object(  # noqa: D102
        self, path: str, *, tmp_root: str | None = None
    ) -> Iterator[ObjectReader | None]:
        yield self._open_reader(path)

    def write_object(  # noqa: D102
        self,
        path: str,
        chunks: Iterable[Buffer],
        *,
        tmp_root: str | None = None,
        num_workers: int = 1,
        before_commit: Callable[[], None] = lambda: None,
    ) -> None:
        s3_upload.store(
            self._bucket,
            path,
            chunks,
            num_workers=num_workers,
            before_commit=before_commit,
        )

    def list_uploads(self, prefix: str) -> list[Upload]:  # noqa: D102
        uploads = []
        marker: dict[str, str] = {}
        while True:
            answer = self._bucket.require(
                "list",
                prefix,
                "list_multipart_uploads",
                Prefix=key_of(prefix),
                **marker,
            )
            for entry in answer.get("Uploads", []):
                date = entry["Initiated"].astimezone(datetime.UTC).strftime("%Y-%m-%d")
                uploads.append(Upload(f"/{entry['Key']}", entry["UploadId"], date))
            following = {
                "KeyMarker": answer.get("NextKeyMarker", ""),
                "UploadIdMarker": answer.get("NextUploadIdMarker", ""),
            }
            # A server that gives the same page again ends the listing
            if not answer.get("IsTruncated") or following == marker:
                return uploads
            marker = following

    def abort_upload(self, upload: Upload) -> None:  # noqa: D102
        what = f"Could not remove the upload of '{self.object_url(upload.path)}'"
        try:
            self._bucket.send(
                "abort_multipart_upload", Key=key_of(upload.path), UploadId=upload.id
            )
        except FailureError as failure:
            # It may be gone by now
            if s3_answers.code_of(failure.cause) != "NoSuchUpload":
                raise failure.error(what) from failure

    def object_url(self, path: str) -> str:  # noqa: D102
        return self._bucket.url(path)

    def _open_reader(self, path: str) -> S3Reader | None:
        what = f"Could not open '{self.object_url(path)}'"
        try:
            whole = self._bucket.read("open", path, TAIL, Range=f"bytes=-{TAIL}")
        except FailureError:
            # There is no last byte of an empty object,
            # and some stores do not give less than they are asked for
            whole = self._bucket.read("open", path, TAIL)
        if whole is None:
            return None
        size = whole.length
        if whole.answer["ResponseMetadata"]["HTTPStatusCode"] == 206:
            first, last, size = content_range(whole.answer) or (-1, -1, -1)
            if (first, last, whole.length) != (
                max(0, size - TAIL),
                size - 1,
                min(TAIL, size),
            ):
                raise RepositoryError(f"{what}: {_WRONG_RANGE}")
        if whole.data is None:
            raise RepositoryError(f"{what}: {_NO_RANGES}")
        return S3Reader(self._bucket, path, size, whole.data, whole.tag)

    def _list(self, folder: str, what: str, **arguments: Any) -> Iterator[Any]:
        token: dict[str, str] = {}
        while True:
            answer = self._bucket.require(
                "list",
                folder,
                "list_objects_v2",
                Prefix=key_of(folder),
                **arguments,
                **token,
            )
            yield from answer.get(what, [])
            following = answer.get("NextContinuationToken")
            if not answer.get("IsTruncated") or not following:
                return
            if token.get("ContinuationToken") == following:
                raise RepositoryError(
                    f"Could not list '{self.object_url(folder)}': "
                    "the server gives the same page again and again."
                )
            token = {"ContinuationToken": following}

    # ------------------------------------------------------------ audbackend

    def _head(self, path: str) -> dict[str, Any]:
        r"""What the storage knows about an object that has to exist."""
        answer = self._bucket.head(path)
        if answer is None:
            raise FileNotFoundError(f"There is no object '{self.object_url(path)}'.")
        return answer

    def _existing(self, path: str) -> S3Reader:
        reader = self._open_reader(path)
        if reader is None:
            raise FileNotFoundError(f"There is no object '{self.object_url(path)}'.")
        return reader

    def _checksum(self, path: str) -> str:
        checksum = self._head(path).get("Metadata", {}).get(CHECKSUM)
        if checksum:
            return str(checksum)
        digest = hashlib.md5(usedforsecurity=False)
        for chunk in self._get_file_stream(path):
            digest.update(chunk)
        return digest.hexdigest()

    def _create(self) -> None:
        arguments: dict[str, Any] = {}
        region = self._bucket.endpoint.region
        if region not in (None, "us-east-1"):
            arguments["CreateBucketConfiguration"] = {"LocationConstraint": region}
        try:
            self._bucket.send("create_bucket", **arguments)
        except FailureError as failure:
            what = f"Could not create the bucket '{self.repository}'"
            raise failure.error(what) from failure

    def _date(self, path: str) -> str:
        date: datetime.datetime = self._head(path)["LastModified"]
        return date.strftime("%Y-%m-%d")

    def _delete(self) -> None:
        for path in self.list_objects("/"):
            self.delete_object(path)
        self._bucket.require("delete", "/", "delete_bucket")

    def _exists(self, path: str) -> bool:
        # Unlike HEAD, it tells a missing object from a missing bucket
        try:
            return self._bucket.read("look up", path, 1, Range="bytes=0-0") is not None
        except FailureError:
            return True  # it is empty

    def _get_file(
        self, src_path: str, dst_path: str, num_workers: int, verbose: bool
    ) -> None:
        reader = self._existing(src_path)

        def read(start: int) -> bytearray:
            return reader.read(start, min(_CHUNK, reader.size - start))

        chunks = prefetch(
            read, range(0, reader.size, _CHUNK), num_workers=max(1, num_workers)
        )
        with contextlib.closing(chunks), open(dst_path, "wb") as file:
            file.writelines(chunks)

    def _get_file_stream(self, src_path: str) -> Iterator[bytes]:
        reader = self._existing(src_path)
        for start in range(0, reader.size, _CHUNK):
            yield bytes(reader.read(start, min(_CHUNK, reader.size - start)))

    def _ls(self, path: str) -> list[str]:
        return self.list_objects(path)

    def _ls_dirs(self, path: str) -> list[str]:
        folders = self._list(path, "CommonPrefixes", Delimiter="/")
        names = [entry["Prefix"].rstrip("/").split("/")[-1] for entry in folders]
        if not names and path != "/" and not self.list_objects(path):
            raise FileNotFoundError(f"There is no folder '{self.object_url(path)}'.")
        return names

    def _owner(self, path: str) -> str:
        return str(self._head(path).get("Metadata", {}).get(OWNER, ""))

    def _put_file(
        self, src_path: str, dst_path: str, checksum: str, verbose: bool
    ) -> None:
        with open(src_path, "rb") as file:
            chunks = iter(lambda: file.read(_CHUNK), b"")
            s3_upload.store(self._bucket, dst_path, chunks, checksum=checksum)

    def _remove_file(self, path: str) -> None:
        self._head(path)
        self.delete_object(path)

    def _size(self, path: str) -> int:
        return int(self._head(path)["ContentLength"])
