r"""Multipart uploads: copy a part, find uploads that were not completed, end them."""

from __future__ import annotations

from typing import Any

from audmodel.core.backend.copies import CopySource
from audmodel.core.backend.errors import CopyError
from audmodel.core.backend.errors import CopyRefusedError
from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.errors import RepositoryUnreachableError
from audmodel.core.backend.http.transfer import RequestError
from audmodel.core.backend.objects import Upload
from audmodel.core.backend.s3 import responses as s3_responses
from audmodel.core.backend.s3.parts import CopiedPart
from audmodel.core.backend.s3.requests import Bucket
from audmodel.core.backend.s3.requests import key_of


_QUOTE = '"'
# Attempts to remove parts, of which one may still be on its way
_ABORTS = 5


def copy_part(
    bucket: Bucket,
    source: CopySource,
    part: CopiedPart,
    **upload: Any,
) -> str:
    r"""Let the storage copy a part of an upload.

    Args:
        bucket: where both objects are
        source: object to copy from
        part: which bytes
        upload: key and ID of the upload, and number of the part

    Returns:
        etag of the part

    Raises:
        CopyError: if it is not copied, or another etag shows
            that it has other bytes

    """
    try:
        response = bucket.require(
            "copy",
            source.path,
            "upload_part_copy",
            CopySource={
                "Bucket": source.bucket or bucket.name,
                "Key": key_of(source.path),
            },
            CopySourceRange=f"bytes={part.start}-{part.stop - 1}",
            CopySourceIfMatch=source.etag,
            **upload,
        )
    except RepositoryUnreachableError as error:
        raise CopyError(str(error), error) from error
    except RepositoryError as error:
        raise CopyRefusedError(str(error), error) from error
    etag = str(response["CopyPartResult"].get("ETag", ""))
    if part.md5 is not None and etag.strip(_QUOTE) != part.md5:
        raise CopyError(
            f"Could not copy '{bucket.url(source.path)}': bytes {part.start} to "
            f"{part.stop - 1} are not what they should be, as their etag shows."
        )
    return etag


def uploads(bucket: Bucket, prefix: str) -> list[Upload]:
    r"""Multipart uploads that were begun and not completed.

    Raises:
        RepositoryError: if they cannot be listed

    """
    found = []
    marker: dict[str, str] = {}
    while True:
        response = bucket.require(
            "list",
            prefix,
            "list_multipart_uploads",
            Prefix=key_of(prefix),
            **marker,
        )
        found += [
            Upload(f"/{entry['Key']}", entry["UploadId"], entry["Initiated"])
            for entry in response.get("Uploads", [])
        ]
        following = {
            "KeyMarker": response.get("NextKeyMarker", ""),
            "UploadIdMarker": response.get("NextUploadIdMarker", ""),
        }
        # A server that gives the same page again ends the listing
        if not response.get("IsTruncated") or following == marker:
            return found
        marker = following


def abort(bucket: Bucket, path: str, upload: str) -> None:
    r"""Abort a multipart upload, and remove its parts.

    A part that is just being stored may remain,
    so this is repeated until none is left.

    Raises:
        RepositoryError: if they cannot be removed

    """
    arguments = {"Key": key_of(path), "UploadId": upload}
    what = f"Could not remove the parts of '{bucket.url(path)}'"
    for _ in range(_ABORTS):
        try:
            bucket.send("abort_multipart_upload", **arguments)
        except RequestError as failure:
            # It may be gone by now
            if s3_responses.code_of(failure.cause) == "NoSuchUpload":
                return
            raise failure.error(what) from failure
        try:
            parts = bucket.send("list_parts", **arguments).get("Parts")
        except RequestError:
            return  # the credentials may not permit it
        if not parts:
            return
    raise RepositoryError(f"{what}: the server does not delete them.")
