"""Progress bars that leave no thread behind, and that a fork can draw."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import threading
from typing import Any


def progress_bar(*, total: int, desc: str) -> Any:
    """Start a progress bar that looks like those of audeer.

    tqdm starts a thread with its first bar, which looks after bars that stand still,
    and is left until the program ends.
    Without that thread a program can still fork safely.

    Args:
        total: value at which the bar is full
        desc: text in front of the bar

    """
    import audeer

    return _bar_class()(
        total=total,
        desc=audeer.format_display_message(desc, pbar=True),
        ncols=audeer.config.TQDM_COLUMNS,
        bar_format=audeer.config.TQDM_FORMAT,
        leave=audeer.config.TQDM_LEAVE,
        smoothing=0,
    )


def byte_bar(*, total: int, desc: str, unit: str) -> Any:
    """Start a progress bar that is drawn each time it is moved.

    It has rate and time left, and fits into the terminal.

    Args:
        total: value at which the bar is full
        desc: text behind the bar
        unit: what is counted

    """
    form = (
        "{percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} "
        "[{elapsed}<{remaining}, {rate_fmt}] {desc}"
    )
    return _bar_class()(
        total=total,
        desc=desc,
        unit=unit if unit == "B" else f" {unit}",
        unit_scale=unit == "B",
        # A notebook has a bar of its own
        bar_format=None if is_notebook() else form,
        dynamic_ncols=not is_notebook(),
        # tqdm would leave out moves after a fast one, and look at each second's rate
        mininterval=0,
        miniters=0,
        smoothing=0,
    )


def is_notebook() -> bool:
    """Whether this process runs the cells of a notebook that can show bars."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return (
        shell is not None
        and "IPKernelApp" in shell.config
        and importlib.util.find_spec("ipywidgets") is not None
    )


@functools.cache
def _bar_class() -> Any:
    from tqdm import tqdm

    if is_notebook():
        from tqdm.notebook import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        monitor_interval = 0

    # All bars share the lock, and it is there when a process is forked
    tqdm.get_lock()
    os.register_at_fork(after_in_child=_free_lock)
    return Bar


def _free_lock() -> None:
    """Let bars be drawn although the thread that drew one is not in this fork.

    tqdm draws under one lock for threads and another one for processes.
    A fork that waited for the latter would never give it back.

    """
    from tqdm import tqdm

    lock = tqdm.get_lock()
    if not all(map(_is_free, getattr(lock, "locks", [lock]))):
        tqdm.set_lock(threading.RLock())


def _is_free(lock: Any) -> bool:
    if not lock.acquire(False):
        return False
    lock.release()
    return True
