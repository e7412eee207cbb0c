r"""Bars, lines and functions that show progress."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import sys
from typing import Any
from typing import Protocol
from typing import TypeAlias

from audmodel.core import units
from audmodel.core.progress.counters import Progress


class ProgressBar(Protocol):
    r"""Bar of a program, such as one of tqdm."""

    total: Any
    r"""Value at which the bar is full."""

    def update(self, n: int, /) -> Any:
        r"""Move the bar on."""


ShowProgress: TypeAlias = Callable[[Progress], object] | ProgressBar | type[ProgressBar]

# Seconds between two moves of a bar, and before the first and the other lines
_MOVE = 0.1
_FIRST_LINE = 10.0
_NEXT_LINE = 30.0


class Function:
    r"""Function of a program that is called with each state."""

    interval = _MOVE

    def __init__(self, function: Callable[[Progress], object]) -> None:
        self._function = function

    def show(self, state: Progress) -> None:
        r"""Call the function."""
        self._function(state)

    def close(self, state: Progress | None) -> None:
        r"""Call the function with the last state."""
        if state is not None:
            self._function(state)


class Bar:
    r"""Bar that is moved. One that cannot be drawn is no reason to fail.

    Args:
        make: makes the bar, or gives that of a program, once there is something to do
        is_ours: whether the bar is made for this call alone

    """

    interval = _MOVE

    def __init__(
        self, make: Callable[[Progress], ProgressBar], *, is_ours: bool
    ) -> None:
        self._make = make
        self._is_ours = is_ours
        self._bar: Any = None
        self._first_total = 0
        self._done = 0

    def show(self, state: Progress) -> None:
        r"""Move the bar."""
        with _unseen():
            if self._bar is None:
                self._bar = self._make(state)
                self._first_total = state.total
            bar = self._bar
            bar.total = state.total
            if hasattr(bar, "initial"):
                # tqdm leaves them out of rate and time left
                bar.initial = state.kept + state.copied
            if self._is_ours:
                bar.desc = ", ".join((state.task, *_remarks(state)))
            bar.update(state.done - self._done)
            self._done = state.done

    def close(self, state: Progress | None) -> None:
        r"""Move the bar to its end, and close it if it is ours."""
        if state is not None:
            self.show(state)
        if self._bar is not None and self._is_ours:
            with _unseen():
                if hasattr(self._bar, "container"):
                    self._fit(self._bar)
                self._bar.close()

    def _fit(self, bar: Any) -> None:
        r"""Let a bar in a notebook be full, which only looks at its first total."""
        if bar.total != self._first_total:
            start, initial = bar.start_t, bar.initial
            bar.reset(bar.total)
            bar.start_t, bar.initial = start, initial
            bar.update(self._done)


class Lines:
    r"""A line now and then, and one at the end, for logs."""

    interval = 1.0

    def __init__(self) -> None:
        self._next = _FIRST_LINE

    def show(self, state: Progress) -> None:
        r"""Write a line if the last one was a while ago."""
        if state.seconds >= self._next:
            self._next = state.seconds + _NEXT_LINE
            self._write(state)

    def close(self, state: Progress | None) -> None:
        r"""Write the last line."""
        if state is not None:
            self._write(state)

    def _write(self, state: Progress) -> None:
        with _unseen():
            sys.stderr.write(f"{line(state)}\n")
            sys.stderr.flush()


def line(state: Progress) -> str:
    r"""Progress in words.

    Args:
        state: how far a call is

    """
    percentage = 100 * state.done // state.total if state.total else 100
    done, total = _size(state, state.done), _size(state, state.total)
    texts = [f"{percentage} %", f"{done} of {total}"]
    if state.rate is not None:
        texts.append(f"{_size(state, state.rate)}/s")
    if state.done == state.total:
        texts.append(f"in {state.seconds:.1f} s")
    elif state.seconds_left is not None:
        texts.append(f"{state.seconds_left:.0f} s left")
    return f"{state.task}: {', '.join([*texts, *_remarks(state)])}"


def _remarks(state: Progress) -> list[str]:
    r"""What else is to be known, in words."""
    if state.waiting:
        return ["waits for another process"]
    found = {"was there": state.kept, "copied": state.copied}
    return [f"{_size(state, size)} {what}" for what, size in found.items() if size]


def _size(state: Progress, count: float) -> str:
    return units.size(count) if state.unit == "B" else f"{count:.0f} {state.unit}"


def own_bar(state: Progress) -> ProgressBar:
    r"""Bar for a terminal or a notebook."""
    from audmodel.parallel import bars

    bar: ProgressBar = bars.byte_bar(
        total=state.total, desc=state.task, unit=state.unit
    )
    return bar


def _unseen() -> contextlib.AbstractContextManager[None]:
    r"""Ignore errors if stderr is closed, broken or full."""
    return contextlib.suppress(OSError, ValueError)
