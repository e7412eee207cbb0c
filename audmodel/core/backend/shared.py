r"""What all threads of a process use together, and its children must not."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Hashable
import os
import threading
from typing import Generic
from typing import TypeVar


Value = TypeVar("Value")


class Shared(Generic[Value]):
    r"""Values that are made once for each key, e.g. sessions with servers.

    A child process must not share connections with its parent,
    and makes its own.
    """

    def __init__(self) -> None:
        self._values: dict[Hashable, Value] = {}
        self._start_anew()
        os.register_at_fork(after_in_child=self._start_anew)

    def _start_anew(self) -> None:
        # Another thread may have held the lock when the process was forked
        self._lock = threading.Lock()
        self._values.clear()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        r"""Value for a key, the same one as before if there is one.

        Args:
            key: what it is made for
            make: makes it

        Returns:
            value

        """
        with self._lock:
            if key not in self._values:
                self._values[key] = make()
            return self._values[key]
