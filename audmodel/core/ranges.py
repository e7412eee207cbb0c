r"""What storages fill and archives read: buffers, by their position."""

from __future__ import annotations

from typing import Protocol
from typing import TypeAlias


Buffer: TypeAlias = bytes | bytearray | memoryview


class Ranges(Protocol):
    r"""Byte ranges of one object."""

    def readinto(self, offset: int, view: memoryview) -> None:
        r"""Fill a buffer with the bytes from an offset on."""
