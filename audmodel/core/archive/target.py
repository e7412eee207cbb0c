r"""The files that an archive is extracted to, or compared with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
import os
from typing import Protocol


class Files(Protocol):
    r"""Files that can be read, with ``'/'`` between folders in their names.

    All methods raise an :class:`OSError` if something cannot be done.
    """

    def open(self, name: str) -> int:
        r"""Open a regular file for reading, give its descriptor."""

    def status(self, name: str) -> os.stat_result:
        r"""Status of a file or a folder, or of a link itself, of this one if empty."""


class Target(Files, Protocol):
    r"""Folder that files can be written to."""

    def open_own(self, name: str, mode: int) -> int:
        r"""Open a file for writing, or make it, give its descriptor."""

    def opened(self, name: str) -> AbstractContextManager[Callable[[str, int], int]]:
        r"""Open several files of one folder for writing, by their names in it."""

    def make(self, name: str) -> None:
        r"""Make a folder, and those above it, unless they exist."""
