r"""Progress bars in bytes."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
import threading
from typing import Any


@contextmanager
def progress_bar(
    description: str, *, verbose: bool
) -> Iterator[Callable[[int], Callable[[int], None]]]:
    r"""Show how many bytes are done.

    Args:
        description: text in front of the bar
        verbose: whether to show the bar

    Yields:
        function that starts the bar,
        called with the number of all bytes.
        It gives a function that moves the bar,
        called with the number of bytes that were done since the last call,
        from any thread

    """
    if not verbose:
        yield lambda _: _ignore
        return

    import audeer

    bars: list[Any] = []
    lock = threading.Lock()

    def start(total: int) -> Callable[[int], None]:
        text = audeer.format_display_message(description, pbar=True)
        bar = audeer.progress_bar(total=total, desc=text)
        bar.unit = "B"
        bar.unit_scale = True
        # audeer's look, with bytes in front of the times
        bar.bar_format = bar.bar_format.replace(
            "[{elapsed}", "{n_fmt}/{total_fmt}{unit} [{elapsed}"
        )
        bars.append(bar)

        def move(count: int) -> None:
            with lock:
                # What is done once more, since it was damaged, does not count
                bar.update(min(count, total - bar.n))
                if bar.n >= total:
                    # tqdm leaves out updates that follow each other closely
                    bar.refresh()

        return move

    try:
        yield start
    finally:
        for bar in bars:
            bar.close()


def _ignore(_: int) -> None:
    r"""Progress that nobody looks at."""
