r"""What an archive is read from, wherever it is stored."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class Ranges(Protocol):
    r"""Byte ranges of an archive."""

    def readinto(self, offset: int, view: memoryview) -> None:
        r"""Fill a buffer with the bytes from an offset on."""


class Source(Protocol):
    r"""What is read of an archive, wherever it is stored."""

    size: int
    tail: bytes

    def readinto(self, offset: int, view: memoryview) -> None:
        r"""Fill a buffer with the bytes from an offset on."""

    def read(self, offset: int, length: int) -> bytearray:
        r"""Bytes from an offset on."""

    def in_order(self, start: int, stop: int) -> AbstractContextManager[Ranges]:
        r"""Announce that bytes will be read one after the other."""

    def end_reads(self) -> None:
        r"""Let reads that are under way in other threads end, with an error."""

    def forget_tail(self) -> None:
        r"""Fetch the last bytes again, and nothing on connections of now."""
