"""Progress bars that leave no thread behind."""

from __future__ import annotations

import threading
from typing import Any


_lock = threading.Lock()


def progress_bar(*, total: int, desc: str) -> Any:
    """Start a progress bar.

    tqdm starts a thread with its first bar, which looks after bars that stand still,
    and is left until the program ends.
    Without that thread a program can still fork safely.

    Args:
        total: value at which the bar is full
        desc: text in front of the bar

    Returns:
        bar of tqdm

    """
    import audeer
    from tqdm import tqdm

    with _lock:
        interval = tqdm.monitor_interval
        tqdm.monitor_interval = 0
        try:
            return audeer.progress_bar(total=total, desc=desc)
        finally:
            tqdm.monitor_interval = interval
