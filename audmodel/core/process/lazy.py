r"""Attributes that are computed when they are needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import Generic
from typing import TypeVar


T = TypeVar("T")


class lazy(Generic[T]):  # noqa: N801 - a decorator, like property
    r"""Property whose value is kept.

    ``functools.cached_property`` of Python 3.11 holds a lock while it computes,
    which a process that is forked meanwhile has for ever.
    Here two threads may compute the same value.

    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self._name = compute.__name__
        self.__doc__ = compute.__doc__

    def __get__(self, instance: Any, owner: type | None = None) -> T:
        value = self._compute(instance)
        # From now on it is found before this descriptor, which has no setter
        instance.__dict__[self._name] = value
        return value
