r"""Note the progress of a load for processes that wait for its lock."""

from __future__ import annotations

import dataclasses

from audmodel.core.cache.slot import Slot
from audmodel.core.operations.options import LoadOptions
from audmodel.core.progress.counters import Counter
from audmodel.core.progress.counters import Meter
from audmodel.core.progress.counters import Progress
from audmodel.core.progress.counters import StartProgress


def noted(options: LoadOptions, slot: Slot) -> LoadOptions:
    r"""Options of a load whose progress others see as well.

    Args:
        options: options of the load
        slot: place that is filled, whose lock is held

    """
    meter = Meter("", "B", [_Note(slot)])
    both = _BothMeters(options.start_progress, meter)
    return dataclasses.replace(options, start_progress=both)


class _Note:
    interval = 1.0

    def __init__(self, slot: Slot) -> None:
        self._slot = slot

    def show(self, state: Progress) -> None:
        self._slot.note_progress(state.done, state.total)

    def close(self, state: Progress | None) -> None:
        pass


class _BothMeters:
    def __init__(self, first: StartProgress, second: StartProgress) -> None:
        self._first = first
        self._second = second

    def __call__(self, total: int, /) -> Counter:
        return _BothCounters(self._first(total), self._second(total))

    def waiting(self, done: int, total: int, /) -> None:
        self._first.waiting(done, total)


class _BothCounters:
    def __init__(self, first: Counter, second: Counter) -> None:
        self._counters = first, second

    def __call__(self, count: int, /) -> None:
        for counter in self._counters:
            counter(count)

    def kept(self, count: int, /) -> None:
        for counter in self._counters:
            counter.kept(count)

    def copied(self, count: int, /) -> None:
        for counter in self._counters:
            counter.copied(count)

    def enlarge(self, count: int, /) -> None:
        for counter in self._counters:
            counter.enlarge(count)

    def restart(self, total: int, /) -> None:
        for counter in self._counters:
            counter.restart(total)

    def waiting(self, done: int, total: int, /) -> None:
        for counter in self._counters:
            counter.waiting(done, total)
