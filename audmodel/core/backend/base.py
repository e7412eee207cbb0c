r"""The interface of all backends.

A backend is an ``audbackend.backend.Base`` that has some further methods:
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
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import AbstractContextManager
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
import datetime
import enum
import hashlib
import threading
from typing import ClassVar
from typing import NamedTuple
from typing import Protocol
from typing import TypeAlias

import audbackend


Buffer: TypeAlias = bytes | bytearray | memoryview

# Etag that stands for any object, and for none
ANY = "*"
# End of an object that comes with opening it.
# Holds the directory of most archives,
# and the whole of small ones.
TAIL = 256 * 1024


@dataclass(frozen=True)
class StoredObject:
    r"""Content of a small object.

    Args:
        data: the content
        tag: etag, which changes with the content
        is_damaged: whether the content is not what was stored

    """

    data: bytes
    tag: str
    is_damaged: bool = False


@dataclass(frozen=True)
class ObjectState:
    r"""State of an object, without its content.

    Args:
        tag: etag, which changes with each write,
            but on some storages only with the content
        time: when it was written, by the clock of the storage

    """

    tag: str
    time: datetime.datetime


@dataclass(frozen=True)
class Upload:
    r"""Unfinished write of an object.

    Args:
        path: path that the object would have
        id: identifies the upload
        time: when it was begun, by the clock of the storage
        is_dead: whether it is certain that its writer is gone

    """

    path: str
    id: str
    time: datetime.datetime
    is_dead: bool = False


class Copying(enum.Enum):
    r"""Which bytes of an object a storage copies into another one."""

    NOTHING = enum.auto()
    #: Bytes that are known to be right.
    #: The storage does not tell which bytes it has copied
    CERTAIN = enum.auto()
    #: Any bytes. The storage tells their digest
    ALL = enum.auto()


@dataclass(frozen=True)
class CopySource:
    r"""Object of which bytes are copied.

    Args:
        path: path of the object
        tag: etag of the object
        size: size of the object in bytes
        tail: the last bytes of the object

    """

    path: str
    tag: str
    size: int
    tail: bytes = field(repr=False)


class CopyableChunk(NamedTuple):
    r"""Bytes of an object that another object has as well.

    Args:
        data: the bytes
        offset: position of the first byte in the other object

    """

    data: bytes
    offset: int


Chunk: TypeAlias = Buffer | CopyableChunk


class Ranges(Protocol):
    r"""Byte ranges of one object."""

    def readinto(self, offset: int, view: memoryview) -> None:
        r"""Fill a buffer with the bytes from an offset on."""


class ObjectReader(abc.ABC):
    r"""Byte ranges of one object.

    All ranges are of the content
    that the object had when it was opened.

    Args:
        size: size of the object in bytes
        tail: the last bytes of the object
        tag: etag of the object, empty if it is not known

    """

    def __init__(self, size: int, tail: bytes, tag: str = "") -> None:
        self.size = size
        self.tag = tag
        self.tail = tail
        # Each thread counts what it receives, as a lock may be held during a fork
        self._received: dict[int, int] = {}
        self.arrived(len(tail))

    @property
    def received(self) -> int:
        r"""Bytes that came from the storage so far, those that came again included."""
        return sum(self._received.copy().values())

    def arrived(self, count: int) -> None:
        r"""Take note of bytes that came from the storage.

        Args:
            count: number of bytes

        """
        thread = threading.get_ident()
        self._received[thread] = self._received.get(thread, 0) + count

    def readinto(self, offset: int, view: memoryview) -> None:
        r"""Fill a buffer with the bytes from an offset on.

        May be called by several threads at once.

        Args:
            offset: position in the object in bytes
            view: buffer, filled as a whole

        Raises:
            RepositoryError: if the bytes cannot be read

        """
        if not self.copy_tail(offset, view):
            self._readinto(offset, view)

    @contextmanager
    def in_order(self, start: int, stop: int) -> Iterator[Ranges]:
        r"""Announce that bytes will be read one after the other.

        A storage may send them in one go.
        Any other ones can be read as well.

        Args:
            start: position of the first byte
            stop: position behind the last byte

        Yields:
            gives the bytes, to one thread

        """
        yield self

    def copy_tail(self, offset: int, view: memoryview) -> bool:
        r"""Fill a buffer from the tail of the object, if it holds the bytes.

        Args:
            offset: position in the object in bytes
            view: buffer, filled as a whole

        Returns:
            whether it was filled

        """
        tail = self.tail
        start = offset - (self.size - len(tail))
        if not tail or start < 0:
            return False
        view[:] = tail[start : start + len(view)]
        return True

    def end_reads(self) -> None:  # noqa: B027
        r"""Let reads in other threads fail."""

    def forget_tail(self) -> None:
        r"""Fetch the last bytes again, since they may have been damaged.

        No connection that is open now is used again.

        Raises:
            RepositoryError: if they cannot be read

        """
        tail = bytearray(len(self.tail))
        self._readinto(self.size - len(tail), memoryview(tail))
        self.tail = bytes(tail)

    @abc.abstractmethod
    def _readinto(self, offset: int, view: memoryview) -> None:
        r"""Fill a buffer with a range of the storage."""

    def read(self, offset: int, length: int) -> bytearray:
        r"""Bytes from an offset on.

        Args:
            offset: position in the object in bytes
            length: number of bytes

        Returns:
            the bytes

        Raises:
            RepositoryError: if the bytes cannot be read

        """
        data = bytearray(length)
        self.readinto(offset, memoryview(data))
        return data


class Writer(Protocol):
    r"""Conditional writes, and the methods that a test of them needs."""

    def read_object(self, path: str, limit: int) -> StoredObject | None:
        r"""Content of a small object."""

    def create_object(self, path: str, data: bytes) -> bool:
        r"""Create a small object if it is absent."""

    def replace_object(self, path: str, data: bytes, tag: str) -> bool:
        r"""Replace a small object if it is unchanged."""

    def tag_of(self, data: bytes) -> str:
        r"""Tag that a small object probably has."""

    def delete_object(self, path: str, tag: str) -> bool:
        r"""Delete an object if it is unchanged."""


class ObjectBackend(audbackend.backend.Base):  # type: ignore[misc]
    r"""Backend with the abilities that the registry uses.

    Paths start with ``'/'`` and are relative to the repository.
    If the storage says that an object is absent,
    a method returns a value.
    If it is not known whether there is one,
    a method raises an error.

    """

    #: Why concurrent writers may overwrite each other,
    #: empty if the storage has conditional writes
    weakness: ClassVar[str] = ""
    #: Whether the storage may copy bytes from one object into another
    has_copies: ClassVar[bool] = False
    #: Whether to write even without conditional writes
    unprotected = False
    #: Whether a write without a response may still be carried out later
    has_late_writes: ClassVar[bool] = True

    @property
    def conditional(self) -> Writer:
        r"""Conditional writes as the storage itself does them."""
        return self

    def open(self) -> None:
        r"""Establish a connection to the repository.

        Raises:
            RepositoryError: if the repository does not exist,
                or cannot be reached

        """
        # Each backend decides itself which requests it repeats
        self._open()
        self.opened = True

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

        Args:
            path: path of the object
            limit: largest size in bytes

        Returns:
            the object, or ``None`` if there is none

        Raises:
            RepositoryError: if the object cannot be read,
                or is larger than ``limit``

        """
        from audmodel.core.backend.errors import DamagedObjectError

        try:
            return self.read_object(path, limit)
        except DamagedObjectError as error:
            if error.stored is None:
                raise
            return error.stored

    @abc.abstractmethod
    def create_object(self, path: str, data: bytes) -> bool:
        r"""Create a small object if it is absent, as one step.

        Args:
            path: path of the object
            data: content

        Returns:
            ``False`` if the object existed before

        Raises:
            RepositoryError: if the object cannot be written

        """

    @abc.abstractmethod
    def replace_object(self, path: str, data: bytes, tag: str) -> bool:
        r"""Replace a small object if it is unchanged, as one step.

        Args:
            path: path of the object
            data: content
            tag: etag of the content that is to be replaced

        Returns:
            ``False`` if the object changed or vanished in the meantime

        Raises:
            RepositoryError: if the object cannot be written

        """

    @abc.abstractmethod
    def stat_object(self, path: str) -> ObjectState | None:
        r"""State of an object.

        Args:
            path: path of the object

        Returns:
            state, or ``None`` if there is no such object

        Raises:
            RepositoryError: if the storage does not tell

        """

    @abc.abstractmethod
    def delete_object(self, path: str, tag: str) -> bool:
        r"""Delete an object if it is unchanged.

        It is one step unless :attr:`deletes_blindly` says otherwise.

        Args:
            path: path of the object
            tag: etag that the object had when it was read, written or looked up,
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

    def tag_of(self, data: bytes) -> str:
        r"""Etag that a small object probably has.

        Args:
            data: content of the object

        Returns:
            etag

        """
        return hashlib.sha256(data).hexdigest()

    def may_be_same(self, tag: str, other: str) -> bool:
        r"""Whether two etags may be of the same object.

        They may come from two machines, or from before the storage was moved.

        Args:
            tag: etag of an object of any size
            other: etag of one at the same path

        Returns:
            ``False`` if it was stored anew in the meantime

        """
        return tag == other

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

    @abc.abstractmethod
    def write_object(
        self,
        path: str,
        chunks: Iterable[Buffer],
        *,
        tmp_root: str | None = None,
        num_workers: int = 1,
        before_commit: Callable[[], None] = lambda: None,
        replaces: str | None = ANY,
        new_tag: bool = False,
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
            new_tag: whether the same content may have been stored before,
                by a writer that is still about to delete it.
                If etags are made of the content, the object gets another one
                if possible

        Returns:
            etag of the object, or ``None`` if it was not written,
            since another object is there

        Raises:
            RepositoryError: if the object cannot be written
            WriteUncertainError: if it may be written later

        """

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

        Returns:
            etag of the object, or ``None`` if it was not written,
            since another object is there

        Raises:
            CopyError: if bytes cannot be copied, or are not those of a chunk
            RepositoryError: if the object cannot be written
            WriteUncertainError: if it may be written later

        """
        raise NotImplementedError  # copying() says so

    def write_requests(self, size: int) -> int:
        r"""Number of requests that it takes to write an object.

        Args:
            size: size of the object in bytes

        Returns:
            number of requests if nothing goes wrong

        """
        return 1

    def compose_requests(self, chunks: Iterable[Chunk]) -> tuple[int, int]:
        r"""What it takes to write an object with :meth:`compose_object`.

        Args:
            chunks: content, in order

        Returns:
            number of bytes to send,
            and number of requests if nothing goes wrong

        """
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

    def abort_upload(self, upload: Upload) -> None:
        r"""Remove the data of an unfinished write.

        Args:
            upload: upload that is not continued

        Raises:
            RepositoryError: if it cannot be removed

        """

    @abc.abstractmethod
    def object_url(self, path: str) -> str:
        r"""Location of an object.

        Args:
            path: path of the object

        Returns:
            URL, or path on the file system

        """
