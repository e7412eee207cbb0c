r"""Cancel requests whose results are not needed any more."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import contextmanager
import os
import threading
import time
from typing import Any
from typing import TypeVar
import weakref

from audmodel.core.process.workers import start_thread
from audmodel.parallel import prefetch
from audmodel.parallel.waiting import wait_for


Item = TypeVar("Item")
Result = TypeVar("Result")

# Seconds that requests may take after an interruption
GRACE = 1.5
# Seconds after which they have ended for sure
_LATE = 0.3

_local = threading.local()
# Garbage may be collected, and end its requests, in the middle of anything
_lock = threading.RLock()


def _after_fork() -> None:
    global _lock
    # The thread that held it does not exist in the child
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)


class Requests:
    r"""Requests of one or several threads that can be cancelled at once."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self._connections: weakref.WeakSet[Any] = weakref.WeakSet()
        self._inner: weakref.WeakSet[Requests] = weakref.WeakSet()

    @property
    def cancelled(self) -> bool:
        r"""Whether no more requests are wanted."""
        return self._cancelled.is_set()

    @contextmanager
    def here(self) -> Iterator[None]:
        r"""What the thread sends inside the block can be cancelled.

        It is cancelled as well with the requests of a block around this one.
        """
        outer = current()
        if outer is not None and outer is not self:
            outer.adopt(self)
        _local.requests = self
        try:
            yield
        finally:
            _local.requests = outer

    def adopt(self, inner: Requests) -> None:
        r"""Cancel other requests as well."""
        with _lock:
            self._inner.add(inner)
        if self.cancelled:
            inner.cancel()

    def cancel(self) -> None:
        r"""Let all requests fail, those of the future as well."""
        self._cancelled.set()
        with _lock:
            inner = list(self._inner)
            for connection in list(self._connections):
                # It may be used for something else by now
                if connection.used_for() is self:
                    connection.shut_down()
        for requests in inner:
            requests.cancel()

    def take(self, connection: Any) -> None:
        r"""Use a connection.

        Raises:
            InterruptedError: if no more requests are wanted

        """
        with _lock:
            if self.cancelled:
                raise InterruptedError("The request was cancelled.")
            self._connections.add(connection)
            connection.used_for = weakref.ref(self)

    def wait(self, seconds: float) -> None:
        r"""Do nothing for a while, unless no more requests are wanted."""
        self._cancelled.wait(seconds)


def current() -> Requests | None:
    r"""Requests that this thread sends something for."""
    found: Requests | None = getattr(_local, "requests", None)
    return found


def cancelled() -> bool:
    r"""Whether no more requests of this thread are wanted."""
    requests = current()
    return requests is not None and requests.cancelled


def wait(seconds: float) -> None:
    r"""Do nothing for a while, unless no more requests of this thread are wanted."""
    requests = current()
    if requests is None:
        time.sleep(seconds)
    else:
        requests.wait(seconds)


def prefetch_requests(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    num_workers: int,
    ahead: int | None = None,
) -> Generator[Result, None, None]:
    r"""Results of a function that sends requests, computed ahead.

    Requests whose results are not needed any more are cancelled.

    Args:
        function: called with each item
        items: what to call ``function`` with
        num_workers: number of threads
        ahead: see :func:`audmodel.parallel.prefetch`

    """
    requests = Requests()
    outer = current()
    if outer is not None:
        outer.adopt(requests)

    def call(item: Item) -> Result:
        with requests.here():
            return function(item)

    return prefetch(
        call, items, num_workers=num_workers, ahead=ahead, on_abort=requests.cancel
    )


def finish(function: Callable[[], Result]) -> Result:
    r"""Call a function that continues for a while if its caller is interrupted.

    The outcome of a request is unknown until its response arrives.
    So requests inside the function have some time to complete
    before the interruption is raised.

    Args:
        function: sends requests that change something

    """
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread is interrupted
        return function()
    requests = current() or Requests()
    results: list[Result] = []
    errors: list[BaseException] = []

    done = threading.Event()

    def run() -> None:
        try:
            with requests.here():
                results.append(function())
        # The caller raises it
        except BaseException as error:  # noqa: BLE001
            errors.append(error)
        finally:
            done.set()

    try:
        if not start_thread(run):
            return function()
        wait_for(done)
    except BaseException:
        if not done.wait(GRACE):
            requests.cancel()
            # A thread that was not started, or looks for a host, does not end
            done.wait(_LATE)
        raise
    if errors:
        try:
            raise errors[0]
        finally:
            errors.clear()
    return results[0]
