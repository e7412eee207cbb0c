r"""Conditional writes to a bucket, and tests whether they work."""

from __future__ import annotations

from collections.abc import Callable
import re
import secrets
from urllib.parse import urlsplit

from audmodel.core.backend import conditions
from audmodel.core.backend.errors import HiddenError
from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.errors import UnprotectedRepositoryError
from audmodel.core.backend.errors import WriteUncertainError
from audmodel.core.backend.http.transfer import Kind
from audmodel.core.backend.http.transfer import RequestError
from audmodel.core.backend.http.transfer import uncertain
from audmodel.core.backend.objects import ANY
from audmodel.core.backend.objects import ObjectState
from audmodel.core.backend.objects import StoredObject
from audmodel.core.backend.s3 import verdicts
from audmodel.core.backend.s3.requests import WRITE_ID
from audmodel.core.backend.s3.requests import Bucket
from audmodel.core.backend.s3.requests import key_of
from audmodel.core.backend.s3.requests import md5
from audmodel.core.backend.s3.requests import put_arguments
from audmodel.core.backend.s3.verdicts import Verdict
from audmodel.core.process.shared import Shared


_REFUSED = (Kind.ABSENT, Kind.CONDITION)
# How often a storage may refuse a condition that holds.
# Another process may have replaced the object, and restored it, in between
_REFUSALS = 4
_DELETE = "delete what is another one"
# By URL and bucket, as finding out takes many requests
_verdicts: Shared[Verdict] = Shared(most=1000, inherited=True)
# Storages that need no test. AmazonS3 and MinIO as server names do not suffice:
# other storages use them as well, and so did MinIO before it honoured conditions
_AWS = re.compile(r"[a-z0-9.-]+\.amazonaws\.com(\.cn)?")
_SERVERS = re.compile(r"SeaweedFS .*\b(4\.(1[89]|[2-9]\d)|[5-9]\.\d+)")
# Storages that compare etags before they delete. Others ignore the condition
_COMPARES_DELETES = re.compile(r"SeaweedFS .*\b(4\.(4[89]|[5-9]\d)|[5-9]\.\d+)")


class ConditionalWrites:
    r"""Writes to a bucket that succeed only under a condition."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def create(self, path: str, data: bytes, *, unprotected: bool = False) -> bool:
        r"""Store an object if there is none.

        Args:
            path: path of the object
            data: content
            unprotected: whether to write without condition
                if the storage has no conditional writes

        Raises:
            RepositoryError: if it cannot be stored
            UnprotectedRepositoryError: if the storage ignores the condition
            WriteUncertainError: if the outcome is unknown

        """
        done = self._attempt(unprotected, lambda: self.create_object(path, data))
        if done is not None:
            return done
        # Look first, then write: the best that is left
        if self._bucket.head(path) is not None:
            return False
        self._bucket.put(path, data)
        return True

    def replace(
        self, path: str, data: bytes, etag: str, *, unprotected: bool = False
    ) -> bool:
        r"""Store an object in place of one with an etag.

        See :meth:`create` for ``unprotected``, and for errors.
        """
        done = self._attempt(unprotected, lambda: self.replace_object(path, data, etag))
        if done is not None:
            return done
        response = self._bucket.head(path)
        if response is None or response.get("ETag") != etag:
            return False
        self._bucket.put(path, data)
        return True

    # ------------------------------------------------------------ the storage itself

    def create_object(self, path: str, data: bytes) -> bool:
        r"""Store an object if it is absent, with ``If-None-Match``."""
        return self._put("create", path, data, IfNoneMatch="*")

    def replace_object(self, path: str, data: bytes, etag: str) -> bool:
        r"""Replace an object if it is unchanged, with ``If-Match``."""
        return self._put("replace", path, data, IfMatch=etag)

    def read_object(self, path: str, limit: int) -> StoredObject | None:
        r"""Content of a small object."""
        whole = self._bucket.read("read", path, limit)
        if whole is None or whole.data is None:
            return None
        return StoredObject(whole.data, whole.response.etag)

    def etag_of(self, data: bytes) -> str:
        r"""Etag that a small object probably has."""
        return f'"{md5(data)}"'

    def stat_object(self, path: str) -> ObjectState | None:
        r"""State of an object."""
        found = self._bucket.head(path)
        if found is None:
            return None
        return ObjectState(
            str(found["ETag"]), found["LastModified"], found.get("ContentLength")
        )

    def delete_object(self, path: str, etag: str) -> bool:
        r"""Delete an object if it is unchanged, if the storage supports conditions."""

        def attempt() -> bool:
            if etag != ANY and self.deletes_blindly:
                # A later attempt may find the object of another process
                found = self.stat_object(path)
                if found is None or found.etag != etag:
                    return found is None
            self._bucket.send("delete_object", Key=key_of(path), **condition)
            return True

        condition = {} if etag == ANY else {"IfMatch": etag}

        try:
            expected = (Kind.ABSENT, Kind.CONDITION, Kind.UNSUPPORTED)
            return self._bucket.repeat("delete", path, attempt, expected)
        except RequestError as failure:
            found = self.stat_object(path)
            if found is None or found.etag != etag:
                return found is None
            if failure.kind is not Kind.UNSUPPORTED:
                what = f"Could not delete '{self._bucket.url(path)}'"
                raise failure.error(what) from failure
            return self.delete_object(path, ANY)

    @property
    def deletes_blindly(self) -> bool:
        r"""Whether the storage may delete an object with another etag."""
        verdict = _verdicts.peek(self._key)
        if verdict is not None and verdict.compares_deletes:
            return False
        return self._deletes_blindly_by_name()

    def _deletes_blindly_by_name(self) -> bool:
        return not (
            self._is_aws() or _COMPARES_DELETES.match(self._bucket.server) is not None
        )

    def _put(self, action: str, path: str, data: bytes, **condition: str) -> bool:
        r"""Store an object under a condition, and be sure about the outcome.

        If the outcome is unknown, the ``write-id`` of the object is read:
        a response may be lost after the write was done,
        and a proxy may have sent the same write twice.

        Raises:
            RepositoryError: if the object cannot be stored
            UnsupportedError: if the storage refuses conditions,
                also those that hold
            WriteUncertainError: if the outcome is unknown

        """
        what = f"Could not {action} '{self._bucket.url(path)}'"
        refusals = 0
        write_id = secrets.token_hex(16)
        arguments = put_arguments(path, data, **{WRITE_ID: write_id})
        ambiguous = False

        def attempt() -> bool:
            nonlocal refusals, ambiguous
            try:
                self._bucket.send("put_object", **arguments, **condition)
            except RequestError as refusal:
                if refusal.kind is Kind.UNSUPPORTED:
                    raise conditions.UnsupportedError(refusal.reason) from refusal
                ambiguous = ambiguous or refusal.kind is Kind.AMBIGUOUS
                if refusal.kind is not Kind.NOT_REACHED:
                    outcome = self._outcome(
                        path, write_id, refusal, condition, ambiguous=ambiguous
                    )
                    if outcome is not None:
                        return outcome
                refusals += refusal.kind in _REFUSED
                if refusals == _REFUSALS and not ambiguous:
                    reason = _holds(action, refusal)
                    raise conditions.UnsupportedError(reason) from refusal
                raise refusal.as_busy(Kind.CONFLICT, *_REFUSED) from refusal.cause
            return True

        try:
            return self._bucket.retry().run(attempt, what)
        except WriteUncertainError:
            raise
        except RepositoryError as error:
            if ambiguous:
                # A write on its way may still arrive
                raise uncertain(what, error) from error
            raise

    def _outcome(
        self,
        path: str,
        write_id: str,
        refusal: RequestError,
        condition: dict[str, str],
        *,
        ambiguous: bool,
    ) -> bool | None:
        r"""Whether a write was done, ``None`` if it may be sent again."""
        refused = refusal.kind in _REFUSED
        if not refused and not refusal.as_busy(Kind.CONFLICT).is_transient:
            return None
        try:
            response = self._bucket.head(path) or {}
        except RepositoryError as error:
            if isinstance(error, HiddenError) and refused and not ambiguous:
                return False
            if refusal.kind is Kind.BUSY and not ambiguous:
                raise
            what = f"Could not look up '{self._bucket.url(path)}'"
            raise uncertain(what, error) from error
        if response.get("Metadata", {}).get(WRITE_ID) == write_id:
            return True
        holds = response.get("ETag") == condition.get("IfMatch")
        return None if holds else False

    def known(self) -> Verdict | None:
        r"""What is known of the storage once it has responded, without a test."""
        if self._is_known_store():
            return Verdict("", compares_deletes=not self._deletes_blindly_by_name())
        found = _verdicts.peek(self._key)
        return found or verdicts.recall(*self._key, self._bucket.server)

    # ------------------------------------------------------------ support

    def _attempt(self, unprotected: bool, write: Callable[[], bool]) -> bool | None:
        r"""Write under a condition if the storage honours conditions.

        Returns:
            whether the write was done,
            ``None`` if the storage does not honour conditions,
            and ``unprotected`` allows it

        Raises:
            UnprotectedRepositoryError: if it does not, and this is not allowed

        """
        # Concurrent writers test it only once
        verdict = _verdicts.get(self._key, lambda: self._verdict(unprotected))
        if not verdict.wrong:
            try:
                return write()
            except conditions.UnsupportedError as error:
                # The name of the server promised more
                verdict = Verdict(str(error), compares_deletes=False)
                _verdicts.put(self._key, verdict)
        if not unprotected:
            raise UnprotectedRepositoryError(
                f"The storage at '{self._bucket.endpoint.url}' "
                f"has no conditional writes for '{self._bucket.name}' "
                f"({verdict.wrong}): "
                "concurrent publishers could overwrite each other. "
                "Nothing was stored. Use another storage. "
                "Or make sure that only one process at a time publishes there "
                "and changes aliases and metadata, and declare this by "
                "'unprotected: true' in the repository's entry of the "
                "configuration file, or by Repository(..., unprotected=True)."
            )
        return None

    def _is_known_store(self) -> bool:
        return self._is_aws() or _SERVERS.match(self._bucket.server) is not None

    def _is_aws(self) -> bool:
        url = urlsplit(self._bucket.endpoint.url)
        return url.scheme == "https" and _AWS.fullmatch(url.hostname or "") is not None

    def _verdict(self, unprotected: bool) -> Verdict:
        r"""What the storage does, by its name, an earlier process, or a test."""
        if self._is_known_store():
            return Verdict("", compares_deletes=not self._deletes_blindly_by_name())
        store = *self._key, self._bucket.server
        earlier = verdicts.recall(*store)
        # The address may belong to another server by now
        if earlier is not None and not earlier.wrong and self._refuses():
            return earlier
        # A fault may have been mended, which matters only without 'unprotected'
        if earlier is not None and earlier.wrong and unprotected:
            return earlier
        failed = {check.name: check.seen for check in self._test() if not check.ok}
        is_blind = failed.pop(_DELETE, None) is not None
        wrong = "; ".join(f"{name}: {seen}" for name, seen in failed.items())
        verdict = Verdict(wrong, not wrong and not is_blind)
        verdicts.remember(verdict, *store)
        return verdict

    @property
    def _key(self) -> tuple[str, str]:
        return self._bucket.endpoint.url, self._bucket.name

    def _test(self) -> list[conditions.Check]:
        return conditions.check(
            _Quick(self._bucket),
            racers=conditions.FEW_RACERS,
            replacers=conditions.FEW_REPLACERS,
            others=[self._delete_another],
        )

    def _delete_another(self) -> conditions.Check:
        if self._compares_deletes():
            return conditions.Check(_DELETE, True, "it was refused", "")
        return conditions.Check(_DELETE, False, "it was deleted", "")

    def _compares_deletes(self) -> bool:
        r"""Whether the storage refuses to delete an object with another etag."""
        path = conditions.new_path()
        self._bucket.put(path, b"kept")
        try:
            self._bucket.send("delete_object", Key=key_of(path), IfMatch='"0"')
        except RequestError as failure:
            return (
                failure.kind is Kind.CONDITION and self._bucket.head(path) is not None
            )
        finally:
            self.delete_object(path, ANY)
        return False

    def _refuses(self) -> bool:
        r"""Whether the storage refuses to replace a missing object."""
        path = conditions.new_path()
        try:
            if not _Quick(self._bucket).replace_object(path, b"again", '"0"'):
                return True
        except conditions.UnsupportedError:
            return False
        self.delete_object(path, ANY)
        return False


class _Quick(ConditionalWrites):
    r"""Writes that take one request each, for objects of tests.

    A refused write is not looked up.
    """

    def _put(self, action: str, path: str, data: bytes, **condition: str) -> bool:
        arguments = {**put_arguments(path, data), **condition}
        expected = (*_REFUSED, Kind.CONFLICT, Kind.UNSUPPORTED)
        try:
            self._bucket.repeat(
                action,
                path,
                lambda: self._bucket.send("put_object", **arguments),
                expected,
            )
        except RequestError as failure:
            if failure.kind is Kind.UNSUPPORTED:
                raise conditions.UnsupportedError(failure.reason) from failure
            return False
        return True


def _holds(action: str, refusal: RequestError) -> str:
    return (
        f"it refuses to {action} an object whose condition holds, "
        f"{_REFUSALS} times in a row: {refusal.reason} "
        "Some storages do so while versioning of the bucket is suspended, "
        "or behind a proxy that changes headers"
    )
