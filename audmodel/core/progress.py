r"""Progress bars in bytes."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
from contextlib import contextmanager
import functools
import sys
import threading
from typing import Any
from typing import Protocol
from typing import TypeAlias


class Progress(Protocol):
    r"""What is told of work that was done, by any thread."""

    def __call__(self, count: int, /) -> None:
        r"""Take note of what was done since the last call."""

    def copied(self, count: int, /) -> None:
        r"""Take note of bytes that were done, and did not have to be fetched."""


# Called with what there is to do
StartProgress: TypeAlias = Callable[[int], Progress]


class _NoProgress:
    r"""Progress that is not shown."""

    def __call__(self, count: int, /) -> None:
        pass

    def copied(self, count: int, /) -> None:
        pass


class _Bar:
    r"""Progress bar.

    Args:
        description: text in front of the bar
        unit: what is counted

    """

    def __init__(self, description: str, unit: str) -> None:
        import audeer

        from audmodel.parallel import bars

        self._show = bars.progress_bar
        self._text = functools.partial(audeer.format_display_message, pbar=True)
        self._description = description
        self._unit = unit
        self._bar: Any = None
        self._copied = 0
        self._lock = threading.Lock()

    def start(self, total: int) -> Progress:
        r"""Start the bar, or make it longer if it was started."""
        with self._lock, _unseen():
            if self._bar is None:
                self._bar = self._make(total)
            else:
                self._bar.total += total
        return self if self._bar is not None else no_progress(total)

    def __call__(self, count: int, /) -> None:
        bar = self._bar
        with self._lock, _unseen():
            # What is done once more, since it was damaged, does not count
            bar.update(min(count, bar.total - bar.n))
            self._show_end()

    def copied(self, count: int, /) -> None:
        bar = self._bar
        with self._lock, _unseen():
            self._copied += count
            size = bar.format_sizeof(self._copied, self._unit)
            bar.desc = self._text(f"{self._description}, {size} of it from the cache")
            self._show_end()

    def _show_end(self) -> None:
        # tqdm leaves out updates that follow each other closely
        if self._bar.n >= self._bar.total:
            self._bar.refresh()

    def close(self) -> None:
        if self._bar is not None:
            with _unseen():
                self._bar.close()

    def _make(self, total: int) -> Any:
        bar = self._show(total=total, desc=self._text(self._description))
        bar.unit = self._unit
        bar.unit_scale = True
        # audeer's look, with bytes in front of the times
        bar.bar_format = bar.bar_format.replace(
            "[{elapsed}", "{n_fmt}/{total_fmt}{unit} [{elapsed}"
        )
        return bar


@contextmanager
def progress_bar(
    description: str, *, verbose: bool, unit: str = "B"
) -> Iterator[StartProgress]:
    r"""Show how much is done, in bytes as a rule.

    Args:
        description: text in front of the bar
        verbose: whether to show the bar
        unit: what is counted

    Yields:
        function that starts the bar,
        called with the number of all bytes,
        or makes it longer if it was started.
        It gives what moves the bar

    """
    # Some processes have no place for messages
    if not verbose or sys.stderr is None:
        yield no_progress
        return
    bar = _Bar(description, unit)
    try:
        yield bar.start
    finally:
        bar.close()


def _unseen() -> contextlib.AbstractContextManager[None]:
    r"""Ignore errors of a progress bar if stderr is closed, broken or full."""
    return contextlib.suppress(OSError, ValueError)


def no_progress(_: int) -> Progress:
    r"""Progress that is not shown."""
    return _NoProgress()
