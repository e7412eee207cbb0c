r"""Store a large object in parts while it is made."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import hashlib
import itertools
import logging
import secrets
from typing import Any

from audmodel.core.backend.copies import Chunk
from audmodel.core.backend.copies import CopyableChunk
from audmodel.core.backend.copies import CopySource
from audmodel.core.backend.errors import CopyRefusedError
from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.errors import RepositoryUnreachableError
from audmodel.core.backend.errors import WriteUncertainError
from audmodel.core.backend.http.transfer import Kind
from audmodel.core.backend.http.transfer import RequestError
from audmodel.core.backend.http.transfer import uncertain
from audmodel.core.backend.objects import ANY
from audmodel.core.backend.objects import Write
from audmodel.core.backend.s3 import responses as s3_responses
from audmodel.core.backend.s3.multipart import abort
from audmodel.core.backend.s3.multipart import copy_part
from audmodel.core.backend.s3.multipart import uploads
from audmodel.core.backend.s3.parts import MIB
from audmodel.core.backend.s3.parts import PART_SIZE
from audmodel.core.backend.s3.parts import CopiedPart
from audmodel.core.backend.s3.parts import copied_parts
from audmodel.core.backend.s3.parts import parts_of
from audmodel.core.backend.s3.requests import CHECKSUM
from audmodel.core.backend.s3.requests import OWNER
from audmodel.core.backend.s3.requests import WRITE_ID
from audmodel.core.backend.s3.requests import Bucket
from audmodel.core.backend.s3.requests import body_arguments
from audmodel.core.backend.s3.requests import content_type
from audmodel.core.backend.s3.requests import key_of
from audmodel.core.backend.s3.requests import user
from audmodel.core.process.requests import finish
from audmodel.core.process.requests import prefetch_requests


logger = logging.getLogger("audmodel")

_QUOTE = '"'
# Version of all objects of a bucket that keeps no earlier ones any more
_NO_VERSIONS = "null"
# Objects up to this size get their checksum added once it is known
AMEND_SIZE = 1024 * MIB


def store(
    bucket: Bucket,
    path: str,
    chunks: Iterable[Chunk],
    put: Callable[[bytes], str | None],
    how: Write,
    *,
    checksum: str | None = None,
    is_alone: bool = False,
    source: CopySource | None = None,
    has_digests: bool = False,
) -> str | None:
    r"""Store an object of any size.

    Args:
        bucket: where to store it
        path: path of the object
        chunks: content, in order
        put: stores a small object, and returns its etag if it did
        how: what it may replace, and when it becomes visible
        checksum: MD5 of the content, if it is known
        is_alone: whether no other process can store it at the same time
        source: object that has the bytes of copyable chunks
        has_digests: whether etags of copied parts are digests of their bytes

    Returns:
        etag of the object, ``None`` if another one is there

    Raises:
        CopyError: if bytes of ``source`` cannot be copied
        RepositoryError: if it cannot be stored
        WriteUncertainError: if it may be stored later

    """
    smallest = PART_SIZE
    if how.new_etag:
        # Etags are made of the digests of parts
        smallest += secrets.randbelow(MIB)
    upload = _Upload(bucket, path, checksum, how, is_alone=is_alone)
    upload.source = source
    # A copy would have the etag of an object that was stored in one piece
    upload.may_amend = not how.new_etag
    parts = parts_of(upload.hashed(chunks), smallest, hashing=has_digests)
    with contextlib.closing(parts):
        head = list(itertools.islice(parts, 1)) or [b""]
        if len(head[0]) < PART_SIZE:
            # A part that is followed by a copied one may be as small
            head += itertools.islice(parts, 1)
        first = head[0]
        is_small = len(head) == 1 and len(first) < PART_SIZE and not how.new_etag
        if is_small and isinstance(first, bytes):
            how.before_commit()
            etag = put(first)
            how.sent(len(first))
            return etag
        return upload.run(itertools.chain(head, parts))


def copy(
    bucket: Bucket,
    path: str,
    source: CopySource,
    how: Write,
    *,
    checksum: str | None,
) -> str | None:
    r"""Let the storage copy an object.

    Args:
        bucket: where to store it
        path: path of the object
        source: object to copy, of more than 5 MiB
        how: what it may replace, and when it becomes visible
        checksum: MD5 of the content, if it is known

    Returns:
        etag of the object, ``None`` if another one is there

    Raises:
        CopyError: if it cannot be copied
        RepositoryError: if it cannot be stored
        WriteUncertainError: if it may be stored later

    """
    upload = _Upload(bucket, path, checksum, how, is_alone=True)
    upload.source = source
    upload.may_amend = False
    smallest = PART_SIZE + (secrets.randbelow(MIB) if how.new_etag else 0)
    return upload.run(copied_parts(source.size, smallest))


class _Upload:
    r"""Upload of one object in parts."""

    #: Whether the checksum may be added by a copy
    may_amend = True
    #: Object that has the bytes of copied parts
    source: CopySource | None = None

    def __init__(
        self,
        bucket: Bucket,
        path: str,
        checksum: str | None,
        how: Write,
        *,
        is_alone: bool,
    ) -> None:
        self._bucket = bucket
        self._path = path
        self._checksum = checksum
        self._how = how
        # Only a second fence: some storages let two uploads pass it
        self._condition = {} if how.replaces == ANY else {"IfMatch": how.replaces}
        if how.replaces is None:
            self._condition = {"IfNoneMatch": "*"}
        self._is_alone = is_alone
        self._ambiguous = False
        self._write_id = secrets.token_hex(16)
        self._upload = {"Key": key_of(path)}
        self._digest = hashlib.md5(usedforsecurity=False)
        self._size = 0

    def hashed(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        r"""Compute size and checksum of the content, and pass it on."""
        for chunk in chunks:
            data = chunk.data if isinstance(chunk, CopyableChunk) else chunk
            self._size += len(data)
            if self._wants_checksum:
                self._digest.update(data)
            yield chunk

    def run(self, parts: Iterator[bytes | CopiedPart]) -> str | None:
        r"""Send all parts, and return the etag, ``None`` if another object is there."""
        try:
            finish(self._begin)
            stored = prefetch_requests(
                self._store,
                enumerate(parts, start=1),
                num_workers=self._how.num_workers,
                ahead=self._how.num_workers + 1,
            )
            with contextlib.closing(stored):
                etags = list(stored)
            self._how.before_commit()
            complete = self._complete if self.source is None else self._compose
            etag = complete(etags)
        except BaseException:
            self._abort(self._upload.get("UploadId"))
            raise
        finally:
            self._abort_forgotten()
        if etag is None:
            self._abort(self._upload["UploadId"])
        elif self._wants_checksum:
            etag = self._amend(etag)
        return etag

    @property
    def _wants_checksum(self) -> bool:
        r"""Whether the checksum is not known, and will be added."""
        return self.may_amend and self._checksum is None and self._size <= AMEND_SIZE

    def _begin(self) -> None:
        metadata = {OWNER: user(), WRITE_ID: self._write_id}
        if self._checksum is not None:
            metadata[CHECKSUM] = self._checksum

        def attempt() -> str:
            try:
                response = self._bucket.send(
                    "create_multipart_upload",
                    ContentType=content_type(self._path),
                    Metadata=metadata,
                    **self._upload,
                )
            except RequestError as failure:
                self._ambiguous = self._ambiguous or failure.kind is Kind.AMBIGUOUS
                raise
            return str(response["UploadId"])

        upload = self._bucket.repeat("store", self._path, attempt, ())
        self._upload["UploadId"] = upload

    def _store(self, job: tuple[int, bytes | CopiedPart]) -> dict[str, Any]:
        number, part = job
        if isinstance(part, CopiedPart):
            assert self.source is not None
            etag = copy_part(
                self._bucket, self.source, part, PartNumber=number, **self._upload
            )
            self._how.copied(len(part))
            return {"PartNumber": number, "ETag": etag}
        response = self._bucket.require(
            "store",
            self._path,
            "upload_part",
            PartNumber=number,
            **body_arguments(part),
            **self._upload,
        )
        self._how.sent(len(part))
        return {"PartNumber": number, "ETag": response["ETag"]}

    def _compose(self, parts: list[dict[str, Any]]) -> str | None:
        r"""Make an object visible that has copied parts.

        Some storages refuse it then, as they want parts of one size.
        """
        try:
            return self._complete(parts)
        except (RepositoryUnreachableError, WriteUncertainError):
            raise
        except RepositoryError as error:
            raise CopyRefusedError(str(error), error) from error

    def _complete(self, parts: list[dict[str, Any]]) -> str | None:
        r"""Make the object visible.

        Returns:
            etag of the object, ``None`` if another one is there

        Raises:
            RepositoryError: if it cannot be made visible
            WriteUncertainError: if it may become visible later

        """
        what = f"Could not store '{self._bucket.url(self._path)}'"
        retry = self._bucket.retry()
        ambiguous = False
        while True:
            try:
                response = self._bucket.send(
                    "complete_multipart_upload",
                    MultipartUpload={"Parts": parts},
                    **self._upload,
                    **self._condition,
                )
                return self._stored(response)
            except RequestError as failure:
                refusal = failure
            ambiguous = ambiguous or refusal.kind is Kind.AMBIGUOUS
            is_gone = s3_responses.code_of(refusal.cause) == "NoSuchUpload"
            refused = bool(self._condition) and refusal.kind is Kind.CONDITION
            if is_gone or refused:
                # The response to an earlier attempt may have been lost
                found = self._bucket.head(self._path)
                if found is not None and self._is_ours(found):
                    return self._stored(found)
                if refused and (found is not None or "IfMatch" not in self._condition):
                    return None
                if refused:
                    # The object to replace is gone
                    self._condition = {"IfNoneMatch": "*"}
                    continue
            if self._condition and refusal.kind is Kind.UNSUPPORTED:
                self._condition = {}
                continue
            try:
                retry.pause(refusal.as_busy(Kind.CONFLICT), what)
            except RepositoryError as error:
                # An error that refers to itself by its traceback keeps all frames
                del refusal
                if not ambiguous:
                    raise
                return self._settle(what, error)

    def _settle(self, what: str, error: RepositoryError) -> str:
        r"""Find out whether a completion without response was done.

        An upload that was aborted is not completed later.

        Returns:
            etag of the object

        Raises:
            RepositoryError: if it is not stored
            WriteUncertainError: if it may be stored later

        """
        try:
            abort(self._bucket, self._path, self._upload["UploadId"])
            found = self._bucket.head(self._path)
        except RepositoryError as second:
            raise uncertain(what, second) from error
        if found is None or not self._is_ours(found):
            raise error
        return self._stored(found)

    def _stored(self, response: dict[str, Any]) -> str:
        r"""Etag of the object, which is visible."""
        if response.get("VersionId", _NO_VERSIONS) != _NO_VERSIONS:
            # The bucket would keep all bytes a second time, as an earlier version
            self.may_amend = False
        return str(response["ETag"])

    def _is_ours(self, found: dict[str, Any]) -> bool:
        return bool(found.get("Metadata", {}).get(WRITE_ID) == self._write_id)

    def _abort(self, upload: str | None) -> None:
        r"""Remove the parts after an error, and raise no other one."""
        if upload is None:
            return
        try:
            abort(self._bucket, self._path, upload)
        except RepositoryError as error:
            logger.warning("An object was not stored, but its parts remain. %s", error)

    def _abort_forgotten(self) -> None:
        r"""Remove uploads that the server began without our knowledge.

        Its response may have been lost.
        """
        if not self._is_alone or not self._ambiguous:
            return
        try:
            found = uploads(self._bucket, self._path)
        except RepositoryError as error:
            logger.warning("Parts of an unfinished upload may remain. %s", error)
            return
        for upload in found:
            known = self._upload.get("UploadId")
            if upload.path == self._path and upload.id != known:
                self._abort(upload.id)

    def _amend(self, etag: str) -> str:
        r"""Add the checksum, which was not known when the object was begun.

        Nothing here needs it,
        but ``audbackend`` compares it if it is asked to validate.
        It is done by a copy inside the storage,
        most of which only write the new metadata.

        Returns:
            etag of the object afterwards

        """
        try:
            response = self._bucket.send(
                "copy_object",
                CopySource={"Bucket": self._bucket.name, "Key": self._upload["Key"]},
                CopySourceIfMatch=etag,
                MetadataDirective="REPLACE",
                Metadata={CHECKSUM: self._digest.hexdigest(), OWNER: user()},
                ContentType=content_type(self._path),
                Key=self._upload["Key"],
            )
        except RequestError as failure:
            logger.info(
                "'%s' has no checksum in its metadata: %s",
                self._bucket.url(self._path),
                failure.reason,
            )
            return etag
        changed = str(response.get("CopyObjectResult", {}).get("ETag", etag))
        return f'"{changed.strip(_QUOTE)}"'
