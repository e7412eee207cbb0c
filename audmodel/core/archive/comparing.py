r"""Compare folders with the content of an archive, in parallel."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import contextlib
from dataclasses import dataclass
import stat
import threading
from typing import TypeAlias

from audmodel.core.archive import existing
from audmodel.core.archive import format
from audmodel.core.archive.deflate import PIECE
from audmodel.core.archive.target import Files
from audmodel.parallel import prefetch


_Job: TypeAlias = tuple[format.Member, format.Part | None]


@dataclass(frozen=True)
class Difference:
    r"""File that is not what an archive holds.

    Args:
        member: what the file should be
        problem: ``'missing'``, ``'kind'``, ``'size'``, ``'content'``,
            ``'unreadable'``, or ``'mode'``
        size: bytes that differ, or are missing

    """

    member: format.Member
    problem: str
    size: int


def right_files(
    folder: Files, members: Sequence[format.Member], num_workers: int
) -> set[str]:
    r"""Names of files in a folder with the same content as in an archive.

    Args:
        folder: the folder, which need not exist
        members: files that may be there
        num_workers: number of threads

    """
    try:
        folder.status("")
    except OSError:
        return set()
    files = [member for member in members if not member.is_folder]
    wrong = {
        found.member.name
        for found in differences(folder, files, num_workers)
        if found.problem != "mode"
    }
    return {member.name for member in files} - wrong


def differences(
    folder: Files,
    files: Sequence[format.Member],
    num_workers: int,
    progress: Callable[[int], None] = lambda count: None,
) -> list[Difference]:
    r"""Files in a folder that are missing, or not what an archive holds, in order."""
    found: dict[str, Difference] = {}
    jobs: list[_Job] = []
    for member in files:
        problem = _problem(folder, member)
        if problem is not None:
            found[member.name] = Difference(member, problem, member.size)
            progress(member.size)
        elif member.is_divided:
            jobs += [(member, part) for part in member.parts()]
        else:
            jobs.append((member, None))
    checks = prefetch(_Check(folder), jobs, num_workers=num_workers)
    with contextlib.closing(checks):
        for (member, part), problem in zip(jobs, checks, strict=True):
            size = member.size if part is None else part.uncompressed_size
            progress(size)
            if problem is not None:
                if member.name in found:
                    size += found[member.name].size
                found[member.name] = Difference(member, problem, size)
    for member in files:
        if member.name not in found and _lacks_mode(folder, member):
            found[member.name] = Difference(member, "mode", 0)
    return [found[member.name] for member in files if member.name in found]


def _lacks_mode(folder: Files, member: format.Member) -> bool:
    r"""Whether a file is not executable that should be.

    The other way round says nothing, as some file systems let all files be.
    """
    try:
        mode = folder.status(member.name).st_mode
    except OSError:
        return False
    return member.executable and not mode & stat.S_IXUSR


class _Check:
    r"""Read files, or parts of them, in buffers that are used again."""

    def __init__(self, folder: Files) -> None:
        self._folder = folder
        self._local = threading.local()

    def __call__(self, job: _Job) -> str | None:
        r"""Problem of the content of a file, ``None`` if it is right."""
        member, part = job
        try:
            if part is None:
                is_right = existing.is_right(self._folder, member, self._buffer(PIECE))
            else:
                crc = existing.part_crc(self._folder, member, part, self._buffer)
                is_right = crc is not None
            problem = "content"
        except OSError:
            is_right, problem = False, "unreadable"
        # It may have been removed since the folder was looked at
        return None if is_right else _problem(self._folder, member) or problem

    def _buffer(self, length: int) -> memoryview:
        if len(getattr(self._local, "buffer", b"")) < length:
            self._local.buffer = bytearray(length)
        return memoryview(self._local.buffer)[:length]


def _problem(folder: Files, member: format.Member) -> str | None:
    r"""Problem of a file that shows without reading it, ``None`` if there is none."""
    try:
        status = folder.status(member.name)
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except OSError:
        return "unreadable"
    if not stat.S_ISREG(status.st_mode):
        return "kind"
    return None if status.st_size == member.size else "size"
