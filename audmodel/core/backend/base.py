r"""The interface of all backends.

A backend can
read and replace small objects atomically,
create an object only if it is absent,
read byte ranges,
and write an object while its content is still being made.
The rooms above use only this interface.

"""

from __future__ import annotations

import abc
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from contextlib import AbstractContextManager
import datetime
import hashlib
from typing import ClassVar

from audmodel.core.backend.access import Access
from audmodel.core.backend.copies import Chunk
from audmodel.core.backend.copies import CopyableChunk
from audmodel.core.backend.copies import Copying
from audmodel.core.backend.copies import CopySource
from audmodel.core.backend.errors import CopyRefusedError
from audmodel.core.backend.errors import DamagedObjectError
from audmodel.core.backend.objects import ANY
from audmodel.core.backend.objects import ObjectState
from audmodel.core.backend.objects import StoredObject
from audmodel.core.backend.objects import Upload
from audmodel.core.backend.objects import Write
from audmodel.core.backend.objects import Writer
from audmodel.core.backend.reader import ObjectReader
from audmodel.core.ranges import Buffer


class ObjectBackend(abc.ABC):
    r"""Backend with the abilities that the registry uses.

    Paths start with ``'/'`` and are relative to the repository.
    If the storage says that an object is absent,
    a method returns a value.
    If it is not known whether there is one,
    a method raises an error.

    """

    #: Why concurrent writers may overwrite each other,
    #: empty if the storage has conditional writes
    no_conditional_writes: ClassVar[str] = ""
    #: Whether the storage may copy bytes from one object into another
    has_copies: ClassVar[bool] = False
    #: Whether to write even without conditional writes
    unprotected = False
    #: Whether a write without a response may still be carried out later
    has_late_writes: ClassVar[bool] = True
    #: Whether it can read a range of an object without all of it
    has_ranges: ClassVar[bool] = True

    @property
    def conditional(self) -> Writer:
        r"""Conditional writes as the storage itself does them."""
        return self

    @abc.abstractmethod
    def read_object(self, path: str, limit: int) -> StoredObject | None:
        r"""Content of a small object.

        Args:
            path: path of the object
            limit: largest size in bytes

        Returns:
            the object, or ``None`` if there is none

        Raises:
            DamagedObjectError: if the content differs from what was stored
            RepositoryError: if the object cannot be read,
                or is larger than ``limit``

        """

    def read_damaged(self, path: str, limit: int) -> StoredObject | None:
        r"""Content of a small object that is to be replaced, damaged or not.

        Raises:
            RepositoryError: if the object cannot be read,
                or is larger than ``limit``

        """
        try:
            return self.read_object(path, limit)
        except DamagedObjectError as error:
            if error.stored is None:
                raise
            return error.stored

    @abc.abstractmethod
    def create_object(self, path: str, data: bytes) -> bool:
        r"""Create a small object if it is absent, as one step.

        Returns:
            ``False`` if the object existed before

        Raises:
            RepositoryError: if the object cannot be written

        """

    @abc.abstractmethod
    def replace_object(self, path: str, data: bytes, etag: str) -> bool:
        r"""Replace a small object if it is unchanged, as one step.

        Returns:
            ``False`` if the object changed or vanished in the meantime

        Raises:
            RepositoryError: if the object cannot be written

        """

    @abc.abstractmethod
    def stat_object(self, path: str) -> ObjectState | None:
        r"""State of an object.

        Returns:
            state, or ``None`` if there is no such object

        Raises:
            RepositoryError: if the storage does not tell

        """

    @abc.abstractmethod
    def delete_object(self, path: str, etag: str) -> bool:
        r"""Delete an object if it is unchanged.

        It is one step unless :attr:`deletes_blindly` says otherwise.

        Args:
            path: path of the object
            etag: etag that the object had when it was read, written or looked up,
                :data:`ANY` if no other object can be there

        Returns:
            ``False`` if another object is there, which is kept,
            ``True`` if none is there any more

        Raises:
            RepositoryError: if the object cannot be deleted

        """

    @property
    def deletes_blindly(self) -> bool:
        r"""Whether an object may be deleted that was replaced since it was checked.

        The storage compares nothing when it deletes,
        so that a write between check and deletion is lost.
        """
        return False

    @abc.abstractmethod
    def now(self) -> datetime.datetime:
        r"""Time by the clock that gives objects their times.

        Raises:
            RepositoryError: if the storage does not tell

        """

    @property
    def clock_ahead(self) -> float | None:
        r"""Seconds by which the clock of the storage is ahead of that of this machine.

        Nothing is sent or stored to find it out.
        It is ``None`` if it is not known yet.
        """
        return None

    def access(self) -> Access | None:
        r"""How the storage is reached, ``None`` if it is on no known kind of server.

        Raises:
            ConfigurationError: if the configuration cannot be used
            RepositoryError: if credentials cannot be retrieved

        """
        return None

    def known_conditions(self) -> str | None:
        r"""What is wrong with conditional writes, found out without a test.

        Returns:
            text, empty if nothing is wrong, ``None`` if it is not known.
            Some storages have to be asked for an object before

        """
        return self.no_conditional_writes or None

    def known_copying(self) -> Copying | None:
        r"""Which bytes the storage copies, ``None`` if it was not found out before."""
        return None

    def etag_of(self, data: bytes) -> str:
        r"""Etag that a small object probably has."""
        return hashlib.sha256(data).hexdigest()

    def may_be_same(self, etag: str, other: str) -> bool:
        r"""Whether two etags may be of the same object.

        They may come from two machines, or from before the storage was moved.

        Args:
            etag: etag of an object of any size
            other: etag of one at the same path

        Returns:
            ``False`` if it was stored anew in the meantime

        """
        return etag == other

    @abc.abstractmethod
    def list_objects(self, folder: str) -> list[str]:
        r"""Paths of all objects below a folder.

        Args:
            folder: path that ends with ``'/'``

        Returns:
            paths in any order, empty if there is no such folder

        Raises:
            RepositoryError: if the folder cannot be listed

        """

    def some_objects(self, folder: str, most: int) -> list[str]:
        r"""Paths of some objects below a folder, found out by few requests.

        Args:
            folder: path that ends with ``'/'``
            most: largest number of paths

        Raises:
            RepositoryError: if the folder cannot be listed

        """
        return self.list_objects(folder)[:most]

    @abc.abstractmethod
    def object_sizes(self, folder: str) -> Mapping[str, int | None]:
        r"""Sizes of all objects below a folder, found out like their paths.

        Args:
            folder: path that ends with ``'/'``

        Returns:
            sizes in bytes by path,
            ``None`` where a list of the storage does not tell them

        Raises:
            RepositoryError: if the folder cannot be listed

        """

    @abc.abstractmethod
    def open_object(
        self, path: str, *, tmp_root: str | None = None
    ) -> AbstractContextManager[ObjectReader | None]:
        r"""Open an object for reading byte ranges.

        Args:
            path: path of the object
            tmp_root: folder for temporary files,
                used for backends that can only fetch files

        Returns:
            context manager that gives a reader,
            or ``None`` if there is no such object

        Raises:
            RepositoryError: if the object cannot be opened

        """

    def write_object(
        self,
        path: str,
        chunks: Iterable[Buffer],
        *,
        tmp_root: str | None = None,
        num_workers: int = 1,
        before_commit: Callable[[], None] = lambda: None,
        replaces: str | None = ANY,
        new_etag: bool = False,
        sent: Callable[[int], object] = lambda count: None,
        copied: Callable[[int], object] = lambda count: None,
    ) -> str | None:
        r"""Write an object.

        The object becomes visible as a whole
        after the last chunk was taken,
        and not at all if ``chunks`` or the storage raise an error.

        Args:
            path: path of the object
            chunks: content, in order
            tmp_root: folder for temporary files, which exists,
                used for backends that can only store files
            num_workers: number of parallel uploads
            before_commit: called right before the object becomes visible.
                If it raises an error, the object is not written
            replaces: etag of the object that it may replace if there is one,
                ``None`` if there must be none, :data:`ANY` for any
            new_etag: whether the same content may have been stored before,
                by a writer that is still about to delete it.
                If etags are made of the content, the object gets another one
                if possible
            sent: called with the number of bytes that were sent, by any thread.
                Bytes that are sent again may count again
            copied: called with the number of bytes that the storage has,
                and need not be sent

        Returns:
            etag of the object, or ``None`` if it was not written,
            since another object is there

        Raises:
            RepositoryError: if the object cannot be written
            WriteUncertainError: if it may be written later

        """
        how = Write(
            tmp_root, num_workers, before_commit, replaces, new_etag, sent, copied
        )
        return self._write_object(path, chunks, how)

    @abc.abstractmethod
    def _write_object(
        self, path: str, chunks: Iterable[Buffer], how: Write
    ) -> str | None:
        r"""Do what :meth:`write_object` does."""

    def copying(self, source: CopySource, *, is_dry: bool = False) -> Copying:
        r"""Which bytes of an object :meth:`compose_object` can copy.

        Args:
            source: object to copy from
            is_dry: whether nothing may be stored to find it out

        Returns:
            which chunks may be copyable ones

        """
        return Copying.NOTHING

    def test_copying(self, source: CopySource) -> Copying:
        r"""Find out anew which bytes :meth:`compose_object` can copy.

        Args:
            source: object to copy from, of more than 5 MiB,
                since some storages do not copy ranges of smaller ones

        Returns:
            which chunks may be copyable ones

        Raises:
            CopyRefusedError: if the storage refuses
            WrongCopyError: if it copies other bytes
            RepositoryError: if a request fails

        """
        return self.copying(source)

    def compose_object(
        self,
        path: str,
        chunks: Iterable[Chunk],
        source: CopySource,
        *,
        num_workers: int = 1,
        before_commit: Callable[[], None] = lambda: None,
        replaces: str | None = ANY,
        sent: Callable[[int], object] = lambda count: None,
        copied: Callable[[int], object] = lambda count: None,
    ) -> str | None:
        r"""Write an object, and let the storage copy bytes of another one.

        See :meth:`write_object` for the other arguments.

        Args:
            path: path of the object
            chunks: content, in order
            source: object that has the bytes of copyable chunks
            num_workers: number of parallel uploads
            before_commit: called right before the object becomes visible
            replaces: etag of the object that it may replace
            sent: called with the number of bytes that were sent, by any thread.
                Bytes that are sent again may count again
            copied: called with the number of bytes that the storage copied

        Returns:
            etag of the object, or ``None`` if it was not written,
            since another object is there

        Raises:
            CopyError: if bytes cannot be copied, or are not those of a chunk
            RepositoryError: if the object cannot be written
            WriteUncertainError: if it may be written later

        """
        how = Write(
            None, num_workers, before_commit, replaces, sent=sent, copied=copied
        )
        return self._compose_object(path, chunks, source, how)

    def _compose_object(
        self, path: str, chunks: Iterable[Chunk], source: CopySource, how: Write
    ) -> str | None:
        r"""Do what :meth:`compose_object` does."""
        raise NotImplementedError  # copying() says so

    def copy_object(
        self,
        path: str,
        source: CopySource,
        origin: ObjectBackend,
        *,
        num_workers: int = 1,
        before_commit: Callable[[], None] = lambda: None,
        replaces: str | None = ANY,
        new_etag: bool = False,
        copied: Callable[[int], object] = lambda count: None,
    ) -> str | None:
        r"""Let the storage copy an object of another repository.

        See :meth:`write_object` for the other arguments.

        Args:
            path: path of the object
            source: object to copy
            origin: repository that holds it
            num_workers: number of parts that are copied at the same time
            before_commit: called right before the object becomes visible
            replaces: etag of the object that it may replace
            new_etag: whether the object gets another etag than before
            copied: called with the number of bytes that the storage copied

        Returns:
            etag of the object, or ``None`` if it was not written,
            since another object is there

        Raises:
            CopyError: if both are not on one storage, or it does not copy
            RepositoryError: if the object cannot be written
            WriteUncertainError: if it may be written later

        """
        how = Write(None, num_workers, before_commit, replaces, new_etag, copied=copied)
        return self._copy_object(path, source, origin, how)

    def _copy_object(
        self, path: str, source: CopySource, origin: ObjectBackend, how: Write
    ) -> str | None:
        r"""Do what :meth:`copy_object` does."""
        raise CopyRefusedError("The storage copies nothing from other repositories.")

    def write_requests(self, size: int) -> int:
        r"""Number of requests that it takes to write an object."""
        return 1

    def compose_requests(self, chunks: Iterable[Chunk]) -> tuple[int, int]:
        r"""Bytes and requests that :meth:`compose_object` sends for an object."""
        sent = (
            0 if isinstance(chunk, CopyableChunk) else len(chunk) for chunk in chunks
        )
        return sum(sent), 1

    def list_uploads(self, prefix: str) -> list[Upload]:
        r"""Uploads of objects that were begun and not completed.

        Args:
            prefix: what their paths begin with

        Returns:
            uploads, none if the storage does not keep their data

        Raises:
            RepositoryError: if they cannot be listed

        """
        return []

    def abort_upload(self, upload: Upload) -> None:  # noqa: B027
        r"""Remove the data of an unfinished write.

        Args:
            upload: upload that is not continued

        Raises:
            RepositoryError: if it cannot be removed

        """

    @abc.abstractmethod
    def object_url(self, path: str) -> str:
        r"""Location of an object: URL, or path on the file system."""

    def _has_etag(self, path: str, etag: str | None) -> bool:
        r"""Whether an object has an etag, or is absent if that is ``None``."""
        if etag == ANY:
            return True
        found = self.stat_object(path)
        return etag == (found.etag if found else None)

    def _may_write(self, path: str, replaces: str | None) -> bool:
        r"""Whether an object has an etag, or is absent."""
        return self._has_etag(path, replaces) or self.stat_object(path) is None
