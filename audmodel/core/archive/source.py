r"""Interface of the storages that an archive is read from."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class Ranges(Protocol):
    r"""Byte ranges of an archive."""

    def readinto(self, offset: int, view: memoryview) -> None:
        r"""Fill a buffer with the bytes from an offset on."""


class Source(Protocol):
    r"""Bytes of an archive in any storage."""

    size: int
    tail: bytes

    def readinto(self, offset: int, view: memoryview) -> None:
        r"""Fill a buffer with the bytes from an offset on."""

    def read(self, offset: int, length: int) -> bytearray:
        r"""Bytes from an offset on."""

    def in_order(self, start: int, stop: int) -> AbstractContextManager[Ranges]:
        r"""Announce that bytes will be read in order."""

    def end_reads(self) -> None:
        r"""Cancel reads of other threads; they raise an error."""

    def forget_tail(self) -> None:
        r"""Fetch the last bytes again, and use new connections for all reads."""
