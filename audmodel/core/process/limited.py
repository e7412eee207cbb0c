r"""Make something in a thread, as far as time allows."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import threading
import time
from typing import Generic
from typing import TypeVar

from audmodel.core.process.requests import Requests
from audmodel.core.process.workers import start_thread
from audmodel.parallel.waiting import LATE


Item = TypeVar("Item")


class Limited(Generic[Item]):
    r"""Items that a thread makes one after the other, beginning at once.

    A host or a network share that hangs keeps that thread, and no other.

    Args:
        make: makes the items
        seconds: time for all of them

    """

    def __init__(self, make: Callable[[], Iterable[Item]], seconds: float) -> None:
        self._make = make
        self._deadline = time.monotonic() + seconds
        self._requests = Requests()
        self._made: list[Item] = []
        self._errors: list[BaseException] = []
        self._done = threading.Event()
        if not start_thread(self._run):
            self._run()

    def _run(self) -> None:
        try:
            with self._requests.here():
                for item in self._make():
                    self._made.append(item)
                    if self._requests.cancelled:
                        break
        # Who waits for the items raises it
        except BaseException as error:  # noqa: BLE001
            self._errors.append(error)
        finally:
            self._done.set()

    def result(self) -> tuple[list[Item], bool]:
        r"""Items that were made in time, and whether these are all.

        Requests for others are cancelled.

        Raises:
            Exception: what the making of items raised in time

        """
        while not self._done.is_set() and time.monotonic() < self._deadline:
            left = self._deadline - time.monotonic()
            self._done.wait(max(0.0, min(LATE, left)))
        is_whole = self._done.is_set()
        made = list(self._made)
        self.cancel()
        if is_whole and self._errors:
            raise self._errors[0]
        return made, is_whole

    def cancel(self) -> None:
        r"""Let requests that are under way fail, and make no other item."""
        self._requests.cancel()
