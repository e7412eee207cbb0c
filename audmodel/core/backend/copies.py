r"""Bytes that a storage copies from one object into another one."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field
import enum
from typing import NamedTuple
from typing import TypeAlias

from audmodel.core.ranges import Buffer


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
        etag: etag of the object
        size: size of the object in bytes
        tail: the last bytes of the object
        bucket: bucket that holds it, the one that is written to if not given

    """

    path: str
    etag: str
    size: int
    tail: bytes = field(repr=False)
    bucket: str | None = None


class CopyableChunk(NamedTuple):
    r"""Bytes of an object that another object has as well.

    Args:
        data: the bytes
        offset: position of the first byte in the other object

    """

    data: bytes
    offset: int


Chunk: TypeAlias = Buffer | CopyableChunk
