"""Checks of arguments."""

from __future__ import annotations

import math
import numbers
import operator
from typing import Any


def integer(name: str, value: Any) -> int:
    """The value as an ``int``, which must be an integer.

    Args:
        name: name of the argument, for the message
        value: value of the argument, may be an integer of NumPy

    Raises:
        ValueError: if it is not an integer, or is a bool

    """
    if not _is_integer(value):
        raise ValueError(f"{name} must be an integer, but is {value!r}.")
    return operator.index(value)


def positive_int(name: str, value: Any) -> int:
    """The value as an ``int``, which must be a positive integer.

    Args:
        name: name of the argument, for the message
        value: value of the argument, may be an integer of NumPy

    Raises:
        ValueError: if it is not an integer, is a bool, or is less than 1

    """
    number = operator.index(value) if _is_integer(value) else 0
    if number < 1:
        raise ValueError(f"{name} must be a positive integer, but is {value!r}.")
    return number


def duration(name: str, value: Any) -> float:
    """The value as a ``float``, which must be a number of seconds.

    Args:
        name: name of the argument, for the message
        value: value of the argument, may be a number of NumPy

    Raises:
        ValueError: if it is not a finite number of at least zero

    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    seconds = float(value) if is_number else -1.0
    if not 0 <= seconds < math.inf:
        raise ValueError(
            f"{name} must be a number of seconds, zero or more, but is {value!r}."
        )
    return seconds


def _is_integer(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)
