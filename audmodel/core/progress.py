r"""Progress bars in bytes."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
from contextlib import contextmanager
import sys
import threading
from typing import Any
from typing import TypeAlias


# Called with what was done since the last call, from any thread
Progress: TypeAlias = Callable[[int], None]
# Called with what there is to do
StartProgress: TypeAlias = Callable[[int], Progress]


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
        It gives a function that moves the bar,
        called with the number of bytes that were done since the last call,
        from any thread

    """
    # Some processes have no place for messages
    if not verbose or sys.stderr is None:
        yield no_progress
        return

    import audeer

    from audmodel.parallel import bars

    started: list[Any] = []
    lock = threading.Lock()

    def start(total: int) -> Progress:
        with lock, _unseen():
            if started:
                started[0].total += total
            else:
                started.append(make(total))
        return move if started else no_progress(total)

    def make(total: int) -> Any:
        text = audeer.format_display_message(description, pbar=True)
        bar = bars.progress_bar(total=total, desc=text)
        bar.unit = unit
        bar.unit_scale = True
        # audeer's look, with bytes in front of the times
        bar.bar_format = bar.bar_format.replace(
            "[{elapsed}", "{n_fmt}/{total_fmt}{unit} [{elapsed}"
        )
        return bar

    def move(count: int) -> None:
        bar = started[0]
        with lock, _unseen():
            # What is done once more, since it was damaged, does not count
            bar.update(min(count, bar.total - bar.n))
            if bar.n >= bar.total:
                # tqdm leaves out updates that follow each other closely
                bar.refresh()

    try:
        yield start
    finally:
        for bar in started:
            with _unseen():
                bar.close()


def _unseen() -> contextlib.AbstractContextManager[None]:
    r"""Ignore errors of a progress bar if stderr is closed, broken or full."""
    return contextlib.suppress(OSError, ValueError)


def no_progress(_: int) -> Progress:
    r"""Progress that is not shown."""
    return lambda _: None
