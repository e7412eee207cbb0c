r"""Repository in a bucket of an S3 compatible storage."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import datetime
from functools import partial
import hashlib
import itertools
import re
from typing import Any

from audmodel.core.backend.access import Access
from audmodel.core.backend.base import ObjectBackend
from audmodel.core.backend.copies import Chunk
from audmodel.core.backend.copies import Copying
from audmodel.core.backend.copies import CopySource
from audmodel.core.backend.errors import CopyRefusedError
from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.host import without_login
from audmodel.core.backend.http.backend import CHUNK
from audmodel.core.backend.http.backend import RemoteBackend
from audmodel.core.backend.http.store import ObjectResponse
from audmodel.core.backend.http.transfer import RequestError
from audmodel.core.backend.http.transfer import server_time
from audmodel.core.backend.objects import ANY
from audmodel.core.backend.objects import ObjectState
from audmodel.core.backend.objects import StoredObject
from audmodel.core.backend.objects import Upload
from audmodel.core.backend.objects import Write
from audmodel.core.backend.s3 import copying as s3_copying
from audmodel.core.backend.s3 import endpoint as s3_endpoint
from audmodel.core.backend.s3 import multipart
from audmodel.core.backend.s3 import reaching
from audmodel.core.backend.s3 import upload as s3_upload
from audmodel.core.backend.s3.conditions import ConditionalWrites
from audmodel.core.backend.s3.parts import PART_SIZE
from audmodel.core.backend.s3.parts import CopiedPart
from audmodel.core.backend.s3.parts import num_requests
from audmodel.core.backend.s3.parts import num_requests_of
from audmodel.core.backend.s3.parts import parts_of
from audmodel.core.backend.s3.requests import CHECKSUM
from audmodel.core.backend.s3.requests import OWNER
from audmodel.core.backend.s3.requests import Bucket
from audmodel.core.backend.s3.requests import key_of
from audmodel.core.backend.s3.requests import md5
from audmodel.core.errors import ConfigurationError
from audmodel.core.ranges import Buffer


_MD5 = re.compile("[0-9a-f]{32}")


class S3(RemoteBackend):
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

    has_copies = True

    def __init__(
        self,
        host: str,
        repository: str,
        *,
        authentication: tuple[str, str] | None = None,
        secure: bool | None = None,
    ) -> None:
        # The frames of an error hold no secret either
        host = without_login(host)
        # The base class would keep the secret as a public attribute
        super().__init__(host, repository, authentication=None)
        if "/" in repository:
            bucket, _, folder = repository.partition("/")
            raise ConfigurationError(
                f"A repository on S3 is a whole bucket, and {repository!r} is not one. "
                f"Use the bucket {bucket!r}, or one of its own for {folder!r}."
            )
        endpoint = s3_endpoint.endpoint(
            host, repository, keys=authentication, secure=secure
        )
        self._store: Bucket = Bucket(endpoint, repository)
        self._writes = ConditionalWrites(self._store)

    def _has_checksum(self, response: ObjectResponse) -> bool:
        expected = response.headers.get(f"x-amz-meta-{CHECKSUM}", "")
        return _MD5.fullmatch(expected) is not None

    def _checked(self, response: ObjectResponse, data: bytes) -> StoredObject:
        expected = response.headers.get(f"x-amz-meta-{CHECKSUM}", "")
        is_damaged = _MD5.fullmatch(expected) is not None and md5(data) != expected
        return StoredObject(data, response.etag, is_damaged)

    def create_object(self, path: str, data: bytes) -> bool:  # noqa: D102
        return self._writes.create(path, data, unprotected=self.unprotected)

    def replace_object(self, path: str, data: bytes, etag: str) -> bool:  # noqa: D102
        return self._writes.replace(path, data, etag, unprotected=self.unprotected)

    def stat_object(self, path: str) -> ObjectState | None:  # noqa: D102
        return self._writes.stat_object(path)

    def delete_object(self, path: str, etag: str) -> bool:  # noqa: D102
        return self._writes.delete_object(path, etag)

    @property
    def deletes_blindly(self) -> bool:  # noqa: D102
        return self._writes.deletes_blindly

    def now(self) -> datetime.datetime:  # noqa: D102
        response = self._store.require("look up", "/", "head_bucket")
        what = f"Could not get the time of '{self._store.endpoint.url}'"
        return server_time(response["ResponseMetadata"]["HTTPHeaders"], what)

    def etag_of(self, data: bytes) -> str:  # noqa: D102
        return self._writes.etag_of(data)

    def access(self) -> Access:  # noqa: D102
        return reaching.describe(self._store.endpoint, self.host)

    def known_conditions(self) -> str | None:  # noqa: D102
        verdict = self._writes.known()
        return None if verdict is None else verdict.wrong

    def known_copying(self) -> Copying | None:  # noqa: D102
        return s3_copying.known(self._store)

    def some_objects(self, folder: str, most: int) -> list[str]:  # noqa: D102
        entries = itertools.islice(self._list(folder, "Contents"), most)
        return [f"/{entry['Key']}" for entry in entries]

    @property
    def conditional(self) -> ConditionalWrites:  # noqa: D102
        return self._writes

    def object_sizes(self, folder: str) -> Mapping[str, int | None]:  # noqa: D102
        entries = self._list(folder, "Contents")
        return {f"/{entry['Key']}": entry.get("Size") for entry in entries}

    def _write_object(
        self, path: str, chunks: Iterable[Buffer], how: Write
    ) -> str | None:
        put = partial(self._put_small, path, how.replaces)
        return s3_upload.store(self._store, path, chunks, put, how, is_alone=True)

    def copying(  # noqa: D102
        self, source: CopySource, *, is_dry: bool = False
    ) -> Copying:
        return s3_copying.of(self._store, source, is_dry=is_dry)

    def test_copying(self, source: CopySource) -> Copying:  # noqa: D102
        return s3_copying.test(self._store, source)

    def _compose_object(
        self, path: str, chunks: Iterable[Chunk], source: CopySource, how: Write
    ) -> str | None:
        try:
            return s3_upload.store(
                self._store,
                path,
                chunks,
                partial(self._put_small, path, how.replaces),
                how,
                is_alone=True,
                source=source,
                has_digests=self.copying(source) is Copying.ALL,
            )
        except CopyRefusedError:
            s3_copying.refused(self._store, source)
            raise

    def _copy_object(
        self, path: str, source: CopySource, origin: ObjectBackend, how: Write
    ) -> str | None:
        if not (isinstance(origin, S3) and self._shares_server(origin)):
            raise CopyRefusedError("The buckets are not on one server.")
        if source.size < PART_SIZE:
            raise CopyRefusedError("Storages copy no parts of small objects.")
        source = dataclasses.replace(source, bucket=origin.repository)
        if self.copying(source) is Copying.NOTHING:
            raise CopyRefusedError(f"'{self._store.endpoint.url}' copies nothing.")
        checksum = origin.known_checksum(source.path)
        return s3_upload.copy(self._store, path, source, how, checksum=checksum)

    def known_checksum(self, path: str) -> str | None:
        r"""MD5 of an object, if it is stored beside it.

        Args:
            path: path of the object

        """
        found = self._store.head(path) or {}
        checksum = found.get("Metadata", {}).get(CHECKSUM)
        return checksum and str(checksum)

    def _shares_server(self, other: S3) -> bool:
        r"""Whether one request can name both buckets."""
        own, its = self._store.endpoint, other._store.endpoint
        return (own.url, own.keys) == (its.url, its.keys)

    def _put_small(self, path: str, replaces: str | None, data: bytes) -> str | None:
        r"""Store an object by one request, and return its etag if that was done."""
        if replaces == ANY:
            self._store.put(path, data)
            done = True
        elif replaces is None:
            done = self.create_object(path, data)
        else:
            done = self.replace_object(path, data, replaces) or (
                self.stat_object(path) is None and self.create_object(path, data)
            )
        return self.etag_of(data) if done else None

    def write_requests(self, size: int) -> int:  # noqa: D102
        return num_requests(size)

    def compose_requests(  # noqa: D102
        self, chunks: Iterable[Chunk]
    ) -> tuple[int, int]:
        sizes = [
            0 if isinstance(part, CopiedPart) else len(part)
            for part in parts_of(chunks)
        ]
        return sum(sizes), num_requests_of(len(sizes))

    def list_uploads(self, prefix: str) -> list[Upload]:  # noqa: D102
        return multipart.uploads(self._store, prefix)

    def abort_upload(self, upload: Upload) -> None:  # noqa: D102
        multipart.abort(self._store, upload.path, upload.id)

    def _list(self, folder: str, what: str, **arguments: Any) -> Iterator[Any]:
        token: dict[str, str] = {}
        while True:
            response = self._store.require(
                "list",
                folder,
                "list_objects_v2",
                Prefix=key_of(folder),
                **arguments,
                **token,
            )
            yield from response.get(what, [])
            following = response.get("NextContinuationToken")
            if not response.get("IsTruncated") or not following:
                return
            if token.get("ContinuationToken") == following:
                raise RepositoryError(
                    f"Could not list '{self.object_url(folder)}': "
                    "the server gives the same page again and again."
                )
            token = {"ContinuationToken": following}

    # ------------------------------------------------------------ audbackend

    def _head(self, path: str) -> dict[str, Any]:
        r"""Headers and metadata of an object that has to exist."""
        response = self._store.head(path)
        if response is None:
            raise self._missing(path)
        return response

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
        region = self._store.endpoint.region
        if region not in (None, "us-east-1"):
            arguments["CreateBucketConfiguration"] = {"LocationConstraint": region}
        try:
            self._store.send("create_bucket", **arguments)
        except RequestError as failure:
            what = f"Could not create the bucket '{self.repository}'"
            raise failure.error(what) from failure

    def _date(self, path: str) -> str:
        date: datetime.datetime = self._head(path)["LastModified"]
        return date.strftime("%Y-%m-%d")

    def _delete(self) -> None:
        for path in self.list_objects("/"):
            self._remove_file(path)
        self._store.require("delete", "/", "delete_bucket")

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
            chunks = iter(lambda: file.read(CHUNK), b"")

            def put(data: bytes) -> str:
                self._store.put(dst_path, data, checksum)
                return self.etag_of(data)

            s3_upload.store(
                self._store, dst_path, chunks, put, Write(), checksum=checksum
            )

    def _size(self, path: str) -> int:
        return int(self._head(path)["ContentLength"])
