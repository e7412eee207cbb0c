r"""Workers: their number, threads for them, and how long to wait for others."""

from __future__ import annotations

from collections.abc import Callable
import math
import numbers
import os
import threading

from audmodel.core.errors import InvalidInputError


def check_num_workers(num_workers: int | None) -> int:
    r"""Number of workers for what a user asked for.

    Args:
        num_workers: number of workers,
            ``None`` chooses one for the machine

    Raises:
        InvalidInputError: if it is not a positive integer

    """
    if num_workers is None:
        # Waiting for a link takes no core
        return min(16, 4 * (os.cpu_count() or 1))
    return check_positive("num_workers", num_workers, "a positive integer or None")


def check_positive(name: str, value: int, allowed: str = "a positive integer") -> int:
    r"""Raise an error if an argument is not a positive integer.

    Raises:
        InvalidInputError: if it is not a positive integer

    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidInputError(f"'{name}' has to be {allowed}, not {value!r}.")
    return value


def start_thread(function: Callable[[], object]) -> bool:
    r"""Run a function in a daemon thread, unless the system allows no more threads."""
    try:
        threading.Thread(target=function, daemon=True).start()
    except RuntimeError:
        return False
    return True


def check_timeout(timeout: float | None) -> float:
    r"""Seconds to wait for another process.

    Args:
        timeout: seconds that a user gave, ``None`` is forever

    Returns:
        seconds, negative for forever

    Raises:
        TypeError: if it is not a number
        InvalidInputError: if it is not a number of seconds

    """
    if timeout is None:
        return -1
    if isinstance(timeout, bool) or not isinstance(timeout, numbers.Real):
        raise TypeError(
            f"'timeout' has to be a number of seconds or None, not {timeout!r}."
        )
    if math.isnan(timeout):
        raise InvalidInputError("'timeout' has to be a number of seconds, not NaN.")
    return float(timeout)
