r"""Find out which bytes a storage copies from one object into another.

Some storages do not copy ranges, and a few have copied wrong bytes.
So some bytes are copied once into an object of their own, which is read.
An etag that is the MD5 of the bytes shows later what was copied.

"""

from __future__ import annotations

import contextlib
import logging

from audmodel.core.backend import conditions
from audmodel.core.backend.copies import Copying
from audmodel.core.backend.copies import CopySource
from audmodel.core.backend.errors import CopyRefusedError
from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.errors import WrongCopyError
from audmodel.core.backend.objects import ANY
from audmodel.core.backend.s3 import verdicts
from audmodel.core.backend.s3.conditions import ConditionalWrites
from audmodel.core.backend.s3.multipart import abort
from audmodel.core.backend.s3.multipart import copy_part
from audmodel.core.backend.s3.parts import CopiedPart
from audmodel.core.backend.s3.requests import Bucket
from audmodel.core.backend.s3.requests import key_of
from audmodel.core.backend.s3.requests import md5
from audmodel.core.process.shared import Shared


logger = logging.getLogger("audmodel")

# By URL and bucket, as finding out takes some requests
_known: Shared[Copying] = Shared(most=1000, inherited=True)


def of(bucket: Bucket, source: CopySource, *, is_dry: bool = False) -> Copying:
    r"""Which bytes the storage copies, from memory or by a test.

    Args:
        bucket: where the objects are
        source: object whose last bytes are copied for the test
        is_dry: whether nothing may be stored for a test

    Returns:
        what it copies, :attr:`Copying.NOTHING` if it cannot be found out now

    """
    found = known(bucket)
    if found is not None:
        return found
    if is_dry:
        return Copying.CERTAIN  # as most storages do
    try:
        return test(bucket, source)
    except RepositoryError as error:
        logger.info("Nothing is copied: %s", error)
        return Copying.NOTHING


def known(bucket: Bucket) -> Copying | None:
    r"""Which bytes the storage was found to copy, ``None`` if that is not known."""
    key = _key(bucket)
    found = _known.peek(key)
    if found is None:
        name = verdicts.recall_copying(*key, bucket.server)
        if name is not None and name in Copying.__members__:
            found = _known.get(key, lambda: Copying[name])
    return found


def refused(bucket: Bucket, source: CopySource) -> None:
    r"""Note that the storage has refused to copy, if the source is still there."""
    with contextlib.suppress(RepositoryError):
        found = bucket.head(source.path)
        if found is not None and found["ETag"] == source.etag:
            _remember(bucket, Copying.NOTHING)


def _remember(bucket: Bucket, copying: Copying) -> None:
    _known.put(_key(bucket), copying)
    verdicts.remember_copying(copying.name, *_key(bucket), bucket.server)


def _key(bucket: Bucket) -> tuple[str, str]:
    return bucket.endpoint.url, bucket.name


def test(bucket: Bucket, source: CopySource) -> Copying:
    r"""Copy some bytes, read them, and remember the result.

    Returns:
        which bytes the storage copies

    Raises:
        CopyRefusedError: if it copies none
        WrongCopyError: if it copies wrong ones
        RepositoryError: if a request fails

    """
    try:
        found = _test(bucket, source)
    except CopyRefusedError:
        refused(bucket, source)
        raise
    _remember(bucket, found)
    return found


def _test(bucket: Bucket, source: CopySource) -> Copying:
    path = conditions.new_path()
    # Bytes in the middle of what the storage keeps as one piece
    data = source.tail[1:-1]
    start = source.size - len(source.tail) + 1
    etag = _store_copy(bucket, path, source, CopiedPart(start, start + len(data), None))
    try:
        stored = bucket.read("read", path, len(data))
    finally:
        ConditionalWrites(bucket).delete_object(path, ANY)
    if stored is None or stored.data != data:
        raise WrongCopyError(
            f"The storage at '{bucket.endpoint.url}' "
            "has copied other bytes than it was asked for."
        )
    return Copying.ALL if etag == f'"{md5(data)}"' else Copying.CERTAIN


def _store_copy(bucket: Bucket, path: str, source: CopySource, part: CopiedPart) -> str:
    r"""Store an object that is a copied part, and return the etag of the part."""
    key = key_of(path)
    begun = bucket.require("store", path, "create_multipart_upload", Key=key)
    upload = {"Key": key, "UploadId": begun["UploadId"]}
    try:
        etag = copy_part(bucket, source, part, PartNumber=1, **upload)
        parts = [{"PartNumber": 1, "ETag": etag}]
        bucket.require(
            "store",
            path,
            "complete_multipart_upload",
            MultipartUpload={"Parts": parts},
            **upload,
        )
    except BaseException:
        # It does not hide the error that it follows
        with contextlib.suppress(RepositoryError):
            abort(bucket, path, upload["UploadId"])
        raise
    return etag
