r"""Count what a call has done, and tell those who show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import threading
import time
from typing import Protocol


@dataclass(frozen=True)
class Progress:
    r"""How far a call is.

    Bytes are those of archives while something is fetched or sent,
    and those of files while files are compared or copied on the disk.

    Args:
        task: what is done, e.g. ``'Load 3e120e8d-1.0.0'``
        done: bytes that are done
        total: bytes of the whole task.
            It becomes exact when a model of a list is begun,
            shrinks by what compression saves while a model is published,
            and grows by what a repair has to fetch
        kept: those of ``done`` that were there before,
            such as those of a load that was interrupted
        copied: those of ``done`` that were neither fetched nor sent:
            a load copies parts from other models in the cache,
            and a storage may copy parts that it has
        unit: ``'B'``, or ``'records'`` if records are counted instead of bytes
        waiting: whether the call waits for another process,
            whose progress this is
        seconds: how long the call has been at it

    """

    task: str
    done: int
    total: int
    kept: int = 0
    copied: int = 0
    unit: str = "B"
    waiting: bool = False
    seconds: float = 0.0

    @property
    def transferred(self) -> int:
        r"""Bytes of ``done`` that were fetched, sent, or read."""
        return self.done - self.kept - self.copied

    @property
    def rate(self) -> float | None:
        r"""Bytes that are transferred in a second, ``None`` if it is not known."""
        if self.transferred <= 0 or self.seconds <= 0:
            return None
        return self.transferred / self.seconds

    @property
    def seconds_left(self) -> float | None:
        r"""Seconds that the rest takes at this rate, ``None`` if it is not known."""
        if self.done >= self.total:
            return 0.0
        return None if self.rate is None else (self.total - self.done) / self.rate


class View(Protocol):
    r"""What shows progress."""

    interval: float
    r"""Seconds between two calls of :meth:`show`."""

    def show(self, state: Progress) -> None:
        r"""Show how far a call is."""

    def close(self, state: Progress | None) -> None:
        r"""Show the last state, ``None`` if there is none or the call failed."""


class Counter(Protocol):
    r"""What is told of work that was done, by any thread."""

    def __call__(self, count: int, /) -> None:
        r"""Take note of bytes that were fetched, sent, or read."""

    def kept(self, count: int, /) -> None:
        r"""Take note of bytes that were there before."""

    def copied(self, count: int, /) -> None:
        r"""Take note of bytes that were copied instead."""

    def enlarge(self, count: int, /) -> None:
        r"""Take note of bytes that are to be done as well, or not any more."""

    def restart(self, total: int, /) -> None:
        r"""Forget what was done, and start again with this number of bytes."""

    def waiting(self, done: int, total: int, /) -> None:
        r"""Take note of the progress of another process that does this work."""


class StartProgress(Protocol):
    r"""What is told of the work that there is."""

    def __call__(self, total: int, /) -> Counter:
        r"""Begin work of a number of bytes."""

    def waiting(self, done: int, total: int, /) -> None:
        r"""Take note of the progress of another process that is waited for."""


class _Uncounted:
    r"""Progress that is not shown."""

    def __call__(self, count: int, /) -> None:
        pass

    kept = copied = enlarge = restart = __call__

    def waiting(self, done: int, total: int, /) -> None:
        pass


class _NoProgress:
    def __call__(self, total: int, /) -> Counter:
        return _Uncounted()

    def waiting(self, done: int, total: int, /) -> None:
        pass


no_progress: StartProgress = _NoProgress()


class Meter:
    r"""Count the work of a call, which may have several parts.

    Args:
        task: what is done
        unit: what is counted
        views: who shows it.
            None of them is called by two threads at once,
            and what they raise ends the call

    """

    def __init__(self, task: str, unit: str, views: Sequence[View]) -> None:
        self._task = task
        self._unit = unit
        self._views = views
        self._due = [0.0] * len(views)
        self._lock = threading.Lock()
        self._start: float | None = None
        self._sum = _Sum(0)
        self._is_waiting = False
        # What another process does, before there was work for this one
        self._awaited: _Counter | None = None

    def __call__(self, total: int, /) -> Counter:
        r"""Begin work of a number of bytes."""
        with self._lock:
            self._is_waiting = False
            if self._awaited is not None:
                self._awaited, self._sum, self._start = None, _Sum(0), None
            self._change(total=total)
        return _Counter(self, total)

    def waiting(self, done: int, total: int, /) -> None:
        r"""Show the progress of another process that is waited for."""
        if self._awaited is None:
            if self._sum.total:
                return  # work that was shown before is not hidden
            self._awaited = _Counter(self, 0)
        self._awaited.waiting(done, total)

    def wait(self, part: _Sum, done: int, total: int) -> None:
        r"""Show the progress of another process as that of a part."""
        with self._lock:
            # The rate is that of the other process since it was seen
            kept = min(part.kept if part.total == total else done, done)
            self._is_waiting = True
            self._replace(part, _Sum(total, min(done, total), kept))

    def add(
        self, part: _Sum, count: int = 0, *, kept: int = 0, copied: int = 0
    ) -> None:
        r"""Count what was done.

        Args:
            part: what was done of a part before.
                What is done once more, since it was damaged, does not count
            count: bytes that were transferred
            kept: bytes that were there before
            copied: bytes that were copied instead

        """
        with self._lock:
            room = part.total - part.done
            kept, copied = min(kept, room), min(copied, room)
            done = min(count + kept + copied, room)
            self._is_waiting = False
            part.add(done=done, kept=kept, copied=copied)
            self._change(done=done, kept=kept, copied=copied)

    def enlarge(self, part: _Sum, count: int) -> None:
        r"""Change the number of bytes of a part."""
        with self._lock:
            part.add(total=count)
            self._change(total=count)

    def restart(self, part: _Sum, total: int) -> None:
        r"""Forget what was done of a part."""
        with self._lock:
            self._is_waiting = False
            self._replace(part, _Sum(total))

    def close(self, *, succeeded: bool) -> None:
        r"""Let the views show the end."""
        with self._lock:
            if self._awaited is not None:
                # The other process has done all of it
                self._sum.done = self._sum.kept = self._sum.total
            begun = self._start is not None
            for view in self._views:
                view.close(self._state() if succeeded and begun else None)

    def _replace(self, part: _Sum, new: _Sum) -> None:
        change = {
            "total": new.total - part.total,
            "done": new.done - part.done,
            "kept": new.kept - part.kept,
            "copied": new.copied - part.copied,
        }
        part.add(**change)
        self._change(**change)

    def _change(self, **change: int) -> None:
        self._sum.add(**change)
        now = time.monotonic()
        if self._start is None:
            self._start = now
        for number, view in enumerate(self._views):
            if now >= self._due[number]:
                self._due[number] = now + view.interval
                view.show(self._state())

    def _state(self) -> Progress:
        total = self._sum
        start = time.monotonic() if self._start is None else self._start
        return Progress(
            self._task,
            total.done,
            total.total,
            total.kept,
            total.copied,
            self._unit,
            self._is_waiting,
            time.monotonic() - start,
        )


@dataclass
class _Sum:
    total: int
    done: int = 0
    kept: int = 0
    copied: int = 0

    def add(
        self, *, total: int = 0, done: int = 0, kept: int = 0, copied: int = 0
    ) -> None:
        self.total += total
        self.done += done
        self.kept += kept
        self.copied += copied


class _Counter:
    r"""Counter of one part of the work."""

    def __init__(self, meter: Meter, total: int) -> None:
        self._meter = meter
        self._sum = _Sum(total)

    def __call__(self, count: int, /) -> None:
        self._meter.add(self._sum, count)

    def kept(self, count: int, /) -> None:
        self._meter.add(self._sum, kept=count)

    def copied(self, count: int, /) -> None:
        self._meter.add(self._sum, copied=count)

    def enlarge(self, count: int, /) -> None:
        self._meter.enlarge(self._sum, count)

    def restart(self, total: int, /) -> None:
        self._meter.restart(self._sum, total)

    def waiting(self, done: int, total: int, /) -> None:
        self._meter.wait(self._sum, done, total)
