r"""Measure how many workers a repository keeps busy.

Ranges of an archive are read by more and more workers,
until more of them do not help.
Each step takes a fraction of a second, and reads few MB for each worker.

"""

from collections.abc import Iterator
import contextlib
from dataclasses import dataclass
import random
import time

from audmodel.core import units
from audmodel.core.backend.reader import ObjectReader
from audmodel.core.operations.sampling import Sample
from audmodel.core.process.requests import prefetch_requests
from audmodel.core.repository.repository import Repository


_STEPS = (1, 2, 4, 8, 16)
# Seconds for each step, and for all of them
_STEP = 0.6
_ALL = 5.0
# Blocks that each worker reads in a step, and their size in bytes.
# Those of a load are as large. On a slow link a step would not end soon
_BLOCKS = 3
_LARGEST = 2 * 1024 * 1024
_SMALLEST = 32 * 1024
_GROWTH = 4
# Seconds after which a block is large enough
_BLOCK_SECONDS = 0.1
# Archives below this size say nothing about speed
LEAST = 2 * _LARGEST
# More workers that are not faster by this factor do not help
_FASTER = 1.15
# Steps in a row that have to be of no help before no more are tried
_MISSES = 2
# Share of the best speed that is good enough for fewer workers
_ENOUGH = 0.9


@dataclass(frozen=True)
class Measurement:
    r"""Speed of a repository with several numbers of workers.

    Args:
        repository: the repository
        uid: ID of the model whose archive was read
        speeds: bytes per second, by number of workers
        num_workers: number of workers that is recommended on this machine

    """

    __module__ = "audmodel"

    repository: Repository
    uid: str
    speeds: dict[int, float]
    num_workers: int

    def __str__(self) -> str:
        speeds = ", ".join(
            f"with {workers}: {units.size(speed)}/s"
            for workers, speed in self.speeds.items()
        )
        return f"{self.num_workers} is recommended. Speed {speeds}"


def measure(sample: Sample, repository: Repository, cores: int) -> Measurement:
    r"""Measure the speed of a repository.

    Args:
        sample: archive of :data:`LEAST` bytes or more
        repository: the repository that it is in
        cores: number of cores that decompress and verify

    Raises:
        RepositoryError: if the archive cannot be read

    """
    found = speeds(sample.reader)
    return Measurement(repository, str(sample.model), found, recommended(found, cores))


def speeds(reader: ObjectReader) -> dict[int, float]:
    r"""Bytes per second, by number of workers.

    Args:
        reader: bytes of an archive of :data:`LEAST` bytes or more

    Raises:
        RepositoryError: if they cannot be read

    """
    start = time.monotonic()
    block = _block_size(reader)
    found: dict[int, float] = {}
    misses = 0
    for workers in _STEPS:
        best = max(found.values(), default=0.0)
        found[workers] = _speed(reader, workers, block)
        misses = 0 if found[workers] > best * _FASTER else misses + 1
        # One step may be slow by chance
        if misses == _MISSES or time.monotonic() - start > _ALL:
            break
    return found


def _block_size(reader: ObjectReader) -> int:
    r"""Bytes of which the transfer takes longer than the wait for the first one."""
    size = _SMALLEST
    # It may open a connection
    reader.read(_offset(reader, size), size)
    while size < _LARGEST:
        start = time.monotonic()
        reader.read(_offset(reader, size), size)
        if time.monotonic() - start > _BLOCK_SECONDS:
            break
        size *= _GROWTH
    return size


def _offset(reader: ObjectReader, length: int) -> int:
    r"""Position of some bytes that were not read before, except by chance."""
    return random.randrange(reader.size - len(reader.tail) - length)  # noqa: S311


def recommended(speeds: dict[int, float], cores: int) -> int:
    r"""Fewest workers that are about as fast as more of them.

    Each core needs one to decompress and verify.

    Args:
        speeds: bytes per second, by number of workers
        cores: number of cores

    """
    best = max(speeds.values())
    fewest = min(n for n, speed in speeds.items() if speed >= best * _ENOUGH)
    return max(fewest, min(cores, _STEPS[-1]))


def _speed(reader: ObjectReader, workers: int, block: int) -> float:
    r"""Bytes per second while all workers are busy."""

    def offsets() -> Iterator[int]:
        end = time.monotonic() + _STEP
        for number in range((_BLOCKS + 1) * workers):
            if number >= 2 * workers and time.monotonic() > end:
                return
            yield _offset(reader, block)

    def read(offset: int) -> int:
        return len(reader.read(offset, block))

    start = time.monotonic()
    count = 0
    reading = prefetch_requests(read, offsets(), num_workers=workers, ahead=2 * workers)
    with contextlib.closing(reading) as lengths:
        for number, length in enumerate(lengths, start=1):
            count += length
            if number == workers:
                # Each worker has opened its connection by now
                start, count = time.monotonic(), 0
    return count / max(time.monotonic() - start, 1e-9)
