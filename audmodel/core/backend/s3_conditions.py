r"""Writes under a condition, and what stores make of them."""

from __future__ import annotations

import enum
import re
import secrets
from typing import Any
import warnings

from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.errors import WriteUncertainError
from audmodel.core.backend.s3_requests import WRITE_ID
from audmodel.core.backend.s3_requests import Bucket
from audmodel.core.backend.s3_requests import put_arguments
from audmodel.core.backend.transfer import FailureError
from audmodel.core.backend.transfer import Kind


class _Support(enum.Enum):
    r"""What a store makes of the conditions of a write."""

    UNKNOWN = enum.auto()
    HONOURED = enum.auto()
    MISSING = enum.auto()


# By URL and bucket, as finding out takes a request
_known: dict[tuple[str, str], _Support] = {}
# Stores that are known to honour conditions, as they introduce themselves
_SERVERS = re.compile(r"AmazonS3|MinIO|SeaweedFS .*\b(4\.(1[89]|[2-9]\d)|[5-9]\.\d+)")


def forget() -> None:
    r"""Find out again what stores make of conditions."""
    _known.clear()


class ConditionalWrites:
    r"""Writes to a bucket that succeed only under a condition.

    Args:
        bucket: the bucket

    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._id = (bucket.endpoint.url, bucket.name)

    def create(self, path: str, data: bytes) -> bool:
        r"""Store an object if there is none.

        Args:
            path: path of the object
            data: content

        Returns:
            whether it was stored

        Raises:
            RepositoryError: if it cannot be stored
            WriteUncertainError: if nobody can tell whether it was

        """
        if self._support is not _Support.MISSING:
            try:
                created = self._put("create", path, data, IfNoneMatch="*")
            except FailureError as failure:
                self._warn(failure.reason)
            else:
                if created and self._support is _Support.UNKNOWN:
                    self._test(path, data)
                return created
        # Look first, then write: the best that is left
        if self._bucket.head(path) is not None:
            return False
        self._bucket.put(path, data)
        return True

    def replace(self, path: str, data: bytes, tag: str) -> bool:
        r"""Store an object if the one that is there has a tag.

        Args:
            path: path of the object
            data: content
            tag: tag of the object that is there

        Returns:
            whether it was stored

        Raises:
            RepositoryError: if it cannot be stored
            WriteUncertainError: if nobody can tell whether it was

        """
        if self._support is not _Support.MISSING:
            try:
                return self._put("replace", path, data, IfMatch=tag)
            except FailureError as failure:
                self._warn(failure.reason)
        answer = self._bucket.head(path)
        if answer is None or answer.get("ETag") != tag:
            return False
        self._bucket.put(path, data)
        return True

    def _put(self, action: str, path: str, data: bytes, **condition: str) -> bool:
        r"""Store an object under a condition, and be sure about the outcome.

        Every doubt is settled by looking whose write is there:
        an answer may be lost after the write was done,
        and a proxy may have sent the same write twice.

        Raises:
            FailureError: if the store refuses conditions
            RepositoryError: if the object cannot be stored
            WriteUncertainError: if nobody can tell whether it was

        """
        what = f"Could not {action} '{self._bucket.url(path)}'"
        write_id = secrets.token_hex(16)
        arguments = put_arguments(path, data, **{WRITE_ID: write_id})
        retry = self._bucket.retry()
        in_doubt = False
        while True:
            try:
                answer = self._bucket.send("put_object", **arguments, **condition)
            except FailureError as failure:
                refusal = failure
            else:
                self._recognise(answer)
                return True
            if refusal.kind is Kind.UNSUPPORTED:
                raise refusal
            in_doubt = in_doubt or refusal.kind is Kind.LOST
            if refusal.kind is not Kind.NOT_REACHED:
                outcome = self._outcome(
                    path, write_id, refusal, condition, in_doubt=in_doubt
                )
                if outcome is not None:
                    return outcome
            try:
                retry.pause(refusal.as_busy(Kind.CONFLICT), what)
            except RepositoryError as error:
                if not in_doubt:
                    raise
                # A write on its way may still arrive
                raise _uncertain(what, error) from error

    def _outcome(
        self,
        path: str,
        write_id: str,
        refusal: FailureError,
        condition: dict[str, str],
        *,
        in_doubt: bool,
    ) -> bool | None:
        r"""Whether a write was done, ``None`` if it may be sent again."""
        refused = refusal.kind in (Kind.ABSENT, Kind.CONDITION)
        if not refused and not refusal.as_busy(Kind.CONFLICT).is_transient:
            return None
        try:
            answer = self._bucket.head(path) or {}
        except RepositoryError as error:
            if refusal.kind is Kind.BUSY and not in_doubt:
                raise
            what = f"Could not find out about '{self._bucket.url(path)}'"
            raise _uncertain(what, error) from error
        if answer.get("Metadata", {}).get(WRITE_ID) == write_id:
            return True
        unchanged = answer.get("ETag") == condition.get("IfMatch")
        return None if unchanged and not refused else False

    # ------------------------------------------------------------ support

    @property
    def _support(self) -> _Support:
        return _known.get(self._id, _Support.UNKNOWN)

    def _recognise(self, answer: dict[str, Any]) -> None:
        headers = answer["ResponseMetadata"].get("HTTPHeaders", {})
        if _SERVERS.match(headers.get("server", "")):
            _known.setdefault(self._id, _Support.HONOURED)

    def _test(self, path: str, data: bytes) -> None:
        r"""Find out whether the store honours conditions.

        The object is ours and just came to be:
        storing it once more has to be refused,
        and does no harm if it is not.
        """
        arguments = put_arguments(path, data)
        try:
            self._bucket.call("store", path, "put_object", IfNoneMatch="*", **arguments)
        except FailureError:
            _known[self._id] = _Support.HONOURED
        else:
            self._warn("it ignores If-None-Match")

    def _warn(self, reason: str) -> None:
        _known[self._id] = _Support.MISSING
        warnings.warn(
            f"The storage at '{self._bucket.endpoint.url}' "
            f"has no conditional writes: {reason.rstrip('.')}. "
            "Let only one process at a time publish to "
            f"'{self._bucket.name}', or change its aliases and metadata.",
            stacklevel=2,
        )


def _uncertain(what: str, error: RepositoryError) -> WriteUncertainError:
    return WriteUncertainError(
        f"{what}: an answer was lost, and nobody can tell whether it was stored "
        f"({error}) Look at what is there before you try again.",
        error,
    )
