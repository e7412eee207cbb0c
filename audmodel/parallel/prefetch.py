"""Compute ahead of a consumer, in order and within a bound."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Iterator
import contextvars
import importlib
import os
import threading
from typing import TYPE_CHECKING
from typing import Generic
from typing import TypeAlias
from typing import TypeVar

from audmodel.parallel.arguments import positive_int
from audmodel.parallel.waiting import result_of


if TYPE_CHECKING:
    from concurrent.futures import Future


Item = TypeVar("Item")
Result = TypeVar("Result")
# A context, an item, and what becomes its result, until a thread takes them
_Call: TypeAlias = "list[tuple[contextvars.Context, Item, Future[Result]]]"


def prefetch(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    num_workers: int | None = 2,
    ahead: int | None = None,
    on_abort: Callable[[], None] | None = None,
) -> Generator[Result, None, None]:
    """Results of a function over items, computed ahead of the consumer.

    ``function`` runs in threads
    while the consumer is busy with earlier results.
    Results come in the order of ``items``.
    However slow the consumer
    and however long ``items``,
    never more than ``ahead`` results are started and not yet taken,
    so memory stays flat.

    Each call sees the context variables of the thread that asks for results,
    as they are when the call is started.
    What it sets in them stays its own.

    ``items`` is advanced in the thread that asks for results,
    and only as far as results are started.
    No thread exists before the first result is asked for.
    None is left
    when the last result was taken,
    when an exception was raised,
    or when the generator is closed,
    which leaving a ``for`` loop does:
    calls that have not started are cancelled,
    running ones are waited for.

    Args:
        function: called with each item.
            With more than one worker it is called from several threads at once
        items: what to call ``function`` with,
            may be endless
        num_workers: number of threads.
            With ``1`` no thread is used:
            each result is computed in the calling thread
            when it is asked for.
            If ``None``,
            five threads per processor of the machine
        ahead: largest number of results that are started and not yet taken,
            counting the one that is being waited for.
            Fewer than ``num_workers`` leaves workers idle.
            If ``None``, ``2 * num_workers``
        on_abort: called once when the generator is left before its end,
            or ends with an exception,
            after calls that have not started were cancelled
            and before those that run are waited for.
            Tells long calls to stop early.
            Not used with one worker,
            where no call runs at that moment

    Returns:
        generator of results.
        An exception of ``function`` is raised in place of its result,
        an exception of ``items`` in place of the item it replaced,
        each after all earlier results.
        What ``items`` raises that is no ``Exception``,
        like ``KeyboardInterrupt`` or ``SystemExit``,
        may come from the handler of a signal:
        it is raised at once,
        and results that were started and not taken are dropped.
        With one worker none are.
        A ``RuntimeError`` is raised in a fork of the process
        that has asked for the first result, which has no such threads

    Raises:
        TypeError: if ``function`` cannot be called,
            or ``items`` cannot be iterated
        ValueError: if ``num_workers`` or ``ahead`` is not a positive integer

    Examples:
        >>> list(prefetch(abs, [-1, 2, -3]))
        [1, 2, 3]
        >>> from itertools import count
        >>> for square in prefetch(lambda n: n * n, count(), num_workers=4):
        ...     if square > 20:
        ...         break
        >>> square
        25

    """
    if not callable(function):
        raise TypeError(f"function must be callable, but is {function!r}.")
    if num_workers is None:
        num_workers = 5 * (os.cpu_count() or 1)
    num_workers = positive_int("num_workers", num_workers)
    ahead = positive_int("ahead", 2 * num_workers if ahead is None else ahead)
    iterator = iter(items)
    # The work is in generators of their own,
    # as the checks above would otherwise wait for the first result
    if num_workers == 1 or not _has_executors():
        return _in_calling_thread(function, iterator)
    return _in_threads(function, iterator, num_workers, ahead, on_abort)


def _has_executors() -> bool:
    """Whether threads can still be started, which is not so while Python exits."""
    try:
        # Imported here as it costs more than the rest of the package
        importlib.import_module("concurrent.futures.thread")
    except RuntimeError:
        return False
    return True


def _in_calling_thread(
    function: Callable[[Item], Result],
    iterator: Iterator[Item],
) -> Generator[Result, None, None]:
    for item in iterator:
        yield contextvars.copy_context().run(function, item)


def _in_threads(
    function: Callable[[Item], Result],
    iterator: Iterator[Item],
    num_workers: int,
    ahead: int,
    on_abort: Callable[[], None] | None,
) -> Generator[Result, None, None]:
    process = os.getpid()
    calls = _Calls(function, iterator, num_workers, ahead)
    try:
        while calls.start_ahead():
            # Neither future nor result gets a name:
            # the consumer holds the only reference to a result,
            # and an exception is not tied into a cycle with this frame
            yield result_of(calls.take())
            _refuse_forks_of(process)
        calls.raise_failure()
        on_abort = None
    finally:
        calls.close(on_abort)


class _Calls(Generic[Item, Result]):
    """Calls that run in threads, ahead of the consumer of their results."""

    def __init__(
        self,
        function: Callable[[Item], Result],
        iterator: Iterator[Item],
        num_workers: int,
        ahead: int,
    ) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self._function = function
        self._iterator = iterator
        self._ahead = ahead
        self._pending: deque[tuple[_Call[Item, Result], Future[Result]]] = deque()
        self._is_exhausted = False
        self._failure: Exception | None = None
        self._lacks_threads = False
        threads: set[int] = set()
        self._threads = threads
        self._executor = ThreadPoolExecutor(
            num_workers,
            thread_name_prefix="audmodel-prefetch",
            initializer=lambda: threads.add(threading.get_ident()),
        )

    def start_ahead(self) -> bool:
        """Start as many calls as the bound allows, and say if there are any."""
        while not self._is_exhausted and len(self._pending) < self._ahead:
            self._start_next()
        return bool(self._pending)

    def _start_next(self) -> None:
        from concurrent.futures import Future

        try:
            item = next(self._iterator)
        except StopIteration:
            self._is_exhausted = True
            return
        except Exception as error:  # noqa: BLE001
            # Its turn comes after the results that are still pending.
            # That of a signal, which may look like one of the items, is now
            self._is_exhausted = True
            self._failure = error
            return
        future: Future[Result] = Future()
        # The call owns the item, a reference here would keep it alive beyond it
        call = [(contextvars.copy_context(), item, future)]
        self._pending.append((call, future))
        try:
            self._executor.submit(_run, self._function, call)
        except RuntimeError:
            # The system, or the end of the program, allows no more
            self._lacks_threads = True

    def take(self) -> Future[Result]:
        """Remove the oldest call, and return what becomes its result."""
        while self._lacks_threads and not self._pending[0][1].done():
            # This thread does what none of the others has begun
            left = [call for call, _ in self._pending if call]
            if not left:
                break
            _run(self._function, left[0])
        return self._pending.popleft()[1]

    def raise_failure(self) -> None:
        """Raise what ended the items, if it was an error."""
        if self._failure is not None:
            raise self._failure

    def close(self, on_abort: Callable[[], None] | None) -> None:
        """Cancel calls that have not started, and wait for those that run."""
        # Its traceback refers to this object
        self._failure = None
        try:
            # First of all, as a call that ends would make room for the next one
            self._executor.shutdown(wait=False, cancel_futures=True)
        finally:
            try:
                if on_abort is not None:
                    on_abort()
            finally:
                # A generator that is garbage of a cycle
                # may be closed by any thread that collects it,
                # and a worker cannot wait for itself
                is_worker = threading.get_ident() in self._threads
                self._executor.shutdown(wait=not is_worker)


def _refuse_forks_of(process: int) -> None:
    if os.getpid() != process:
        raise RuntimeError(
            "The results are computed in threads of another process, "
            "of which this one is a fork. Start over here, with a new call."
        )


def _run(function: Callable[[Item], Result], call: _Call[Item, Result]) -> None:
    """Call a function, in the first thread that takes the call."""
    try:
        context, item, future = call.pop()
    except IndexError:
        return
    try:
        future.set_result(context.run(function, item))
    # It is raised where the result is waited for
    except BaseException as error:
        future.set_exception(error)
        if not isinstance(error, Exception):
            raise
    finally:
        # The traceback of an exception would refer to this frame and back
        del context, item, future
