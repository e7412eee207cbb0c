r"""Read ranges of several files in parallel."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterable
import contextlib
import functools
import itertools
from typing import NamedTuple

import audmodel
from audmodel.errors import AudmodelError
from audmodel.parallel import prefetch


# Opens the file of a path with a number of workers
Open = Callable[[str, int], audmodel.OpenedFile]


class Range(NamedTuple):
    r"""Bytes of a file, between positions that count as those of slices."""

    path: str
    start: int | None
    end: int | None


def read_range(file: audmodel.OpenedFile, wanted: Range) -> bytes:
    r"""Bytes of a file that is open."""
    start, end, _ = slice(wanted.start, wanted.end).indices(file.size)
    file.seek(start)
    return file.read(max(0, end - start))


def read_ranges(
    ranges: Iterable[Range], opened: Open, num_workers: int
) -> Generator[tuple[Range, bytes | Exception], None, None]:
    r"""Ranges of files with their bytes, or the errors of those that cannot be read.

    Each worker reads neighbours, since they may lie in the same part of a file.

    Args:
        ranges: what to read, each range once
        opened: opens a file
        num_workers: number of workers

    """
    ordered = sorted(ranges, key=lambda wanted: (wanted.path, wanted.start or 0))
    length = max(1, -(-len(ordered) // num_workers))
    shares = [ordered[n : n + length] for n in range(0, len(ordered), length)]
    spare = num_workers // max(1, len(shares))
    read = functools.partial(_read_share, opened=opened, num_workers=spare)
    with contextlib.closing(prefetch(read, shares, num_workers=num_workers)) as done:
        for results in done:
            yield from results


def _read_share(
    share: Iterable[Range], opened: Open, num_workers: int
) -> list[tuple[Range, bytes | Exception]]:
    results: list[tuple[Range, bytes | Exception]] = []
    for path, group in itertools.groupby(share, lambda wanted: wanted.path):
        ranges = list(group)
        try:
            file = opened(path, num_workers)
        except (AudmodelError, OSError) as error:
            results += [(wanted, error) for wanted in ranges]
            continue
        with file:
            results += [(wanted, _bytes_or_error(file, wanted)) for wanted in ranges]
    return results


def _bytes_or_error(file: audmodel.OpenedFile, wanted: Range) -> bytes | Exception:
    try:
        return read_range(file, wanted)
    except (AudmodelError, OSError) as error:
        return error
