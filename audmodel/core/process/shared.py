r"""What all threads of a process use together."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from collections.abc import Hashable
import os
import threading
from typing import Generic
from typing import TypeVar

from audmodel.core.process import forks


Value = TypeVar("Value")


class Shared(Generic[Value]):
    r"""Values that are made once for each key, e.g. sessions with servers.

    A child process must not share connections with its parent,
    and makes its own.

    Args:
        most: number of values that are kept, those that were used last
        inherited: whether a child process keeps the values

    """

    def __init__(self, most: int = 16, *, inherited: bool = False) -> None:
        self._most = most
        self._inherited = inherited
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._start_anew()
        os.register_at_fork(after_in_child=self._start_anew)

    def _start_anew(self) -> None:
        # Another thread may have held the lock when the process was forked
        self._lock = threading.Lock()
        if not self._inherited:
            self._values.clear()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        r"""Value for a key, the same one as before if there is one."""
        with self._lock:
            if key not in self._values:
                # Libraries may hold locks of their own meanwhile, as OpenSSL does
                with forks.hold_off():
                    self._values[key] = make()
            self._values.move_to_end(key)
            if len(self._values) > self._most:
                # Requests that still use it end first
                self._values.popitem(last=False)
            return self._values[key]

    def put(self, key: Hashable, value: Value) -> None:
        r"""Replace a value."""
        with self._lock:
            self._values[key] = value

    def peek(self, key: Hashable) -> Value | None:
        r"""Value for a key, ``None`` if there is none."""
        return self._values.get(key)

    def forget(self, key: Hashable, value: Value) -> None:
        r"""Make a new value the next time, unless that was done."""
        with self._lock:
            if self._values.get(key) is value:
                del self._values[key]
