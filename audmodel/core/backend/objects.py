r"""What backends are asked for, and what they return."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import datetime
from typing import Protocol


# Etag that stands for any object, and for none
ANY = "*"


@dataclass(frozen=True)
class StoredObject:
    r"""Content of a small object.

    Args:
        data: the content
        etag: etag, which changes with the content
        is_damaged: whether the content is not what was stored

    """

    data: bytes
    etag: str
    is_damaged: bool = False


@dataclass(frozen=True)
class ObjectState:
    r"""State of an object, without its content.

    Args:
        etag: etag, which changes with each write,
            but on some storages only with the content
        time: when it was written, by the clock of the storage
        size: its size in bytes, ``None`` if the storage does not tell

    """

    etag: str
    time: datetime.datetime
    size: int | None = None


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


@dataclass(frozen=True)
class Write:
    r"""How an object is written, see :meth:`ObjectBackend.write_object`."""

    tmp_root: str | None = None
    num_workers: int = 1
    before_commit: Callable[[], None] = lambda: None
    replaces: str | None = ANY
    new_etag: bool = False
    sent: Callable[[int], object] = lambda count: None
    copied: Callable[[int], object] = lambda count: None


class Writer(Protocol):
    r"""Conditional writes, and the methods that a test of them needs."""

    def read_object(self, path: str, limit: int) -> StoredObject | None:
        r"""Content of a small object."""

    def create_object(self, path: str, data: bytes) -> bool:
        r"""Create a small object if it is absent."""

    def replace_object(self, path: str, data: bytes, etag: str) -> bool:
        r"""Replace a small object if it is unchanged."""

    def etag_of(self, data: bytes) -> str:
        r"""Etag that a small object probably has."""

    def delete_object(self, path: str, etag: str) -> bool:
        r"""Delete an object if it is unchanged."""
