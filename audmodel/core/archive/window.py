r"""Read small pieces of a file without a system call for each."""

from __future__ import annotations

import os

from audmodel.core.archive import format
from audmodel.core.archive.input import InputFile
from audmodel.core.archive.source import Content


_LENGTH = 64 * format.KIB


class Window(Content):
    r"""Content of a file that goes into an archive.

    Raises:
        FileChangedError: if the file is not the one that was scanned
        OSError: if it cannot be opened

    """

    def __init__(self, file: InputFile) -> None:
        self.size = file.size
        self.tail = b""
        self._fd = file.open()
        self._offset = 0
        self._data = b""

    def close(self) -> None:
        r"""Close the file."""
        os.close(self._fd)

    def read(self, offset: int, length: int, *, may_end: bool = False) -> bytes:
        r"""Bytes from an offset on.

        Args:
            offset: position of the first byte
            length: number of bytes
            may_end: whether there may be fewer because the file ends

        Raises:
            ValueError: if they are not in the file

        """
        start = offset - self._offset
        if not 0 <= start <= start + length <= len(self._data):
            if not 0 <= offset <= offset + length <= self.size and not may_end:
                raise ValueError("the bytes are not in the file")
            self._data = os.pread(self._fd, max(length, _LENGTH), offset)
            self._offset, start = offset, 0
        data = self._data[start : start + length]
        if len(data) < length and not may_end:
            raise ValueError("the file ends too early")
        return data

    def readinto(self, offset: int, view: memoryview) -> None:
        r"""Fill a buffer with the bytes from an offset on."""
        view[:] = self.read(offset, len(view))
