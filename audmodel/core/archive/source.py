r"""Interface of the storages that an archive is read from."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from audmodel.core.ranges import Buffer
from audmodel.core.ranges import Ranges


class Content(Ranges, Protocol):
    r"""Bytes of an archive, of which the last ones may be known."""

    size: int
    tail: bytes

    def read(self, offset: int, length: int) -> Buffer:
        r"""Bytes from an offset on."""


class Source(Content, Protocol):
    r"""What is read of an archive, wherever it is stored."""

    def read(self, offset: int, length: int) -> bytearray:
        r"""Bytes from an offset on."""

    def in_order(self, start: int, stop: int) -> AbstractContextManager[Ranges]:
        r"""Announce that bytes will be read in order."""

    def cancel_reads(self) -> None:
        r"""Cancel reads of other threads; they raise an error."""

    def forget_tail(self) -> None:
        r"""Fetch the last bytes again, and use new connections for all reads."""
