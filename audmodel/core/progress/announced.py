r"""Work whose size is announced before it is begun."""

from __future__ import annotations

from audmodel.core.progress.counters import Counter
from audmodel.core.progress.counters import StartProgress


class Announced:
    r"""Progress of one of several tasks.

    Args:
        start_progress: progress of all tasks
        size: about how many bytes the task has

    """

    def __init__(self, start_progress: StartProgress, size: int) -> None:
        self._start_progress = start_progress
        self._size = size
        self._counter = start_progress(size)
        self._is_begun = False

    def __call__(self, total: int, /) -> Counter:
        r"""Begin the task, whose size is known by now."""
        if self._is_begun:
            return self._start_progress(total)
        self._is_begun = True
        self._counter.restart(total)
        return self._counter

    def waiting(self, done: int, total: int, /) -> None:
        r"""Take note of the progress of another process that does the task."""
        self._counter.waiting(done, total)

    def end(self) -> None:
        r"""Take note that the task is done, maybe by another process."""
        if not self._is_begun:
            self._counter.restart(self._size)
            self._counter.kept(self._size)
