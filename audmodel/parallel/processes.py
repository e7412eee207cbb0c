"""Processes of this machine that carry out calls."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import contextlib
import functools
import importlib
import os
import sys
import threading
import time
from typing import TYPE_CHECKING
from typing import Any
import weakref

from audmodel.parallel.messages import Outcome
from audmodel.parallel.messages import by_value
from audmodel.parallel.messages import outcome_of
from audmodel.parallel.messages import serialize
from audmodel.parallel.threads import Threads
from audmodel.parallel.waiting import carry_out
from audmodel.parallel.waiting import wait_for_all
from audmodel.parallel.worker import set_up


if TYPE_CHECKING:
    from concurrent.futures import Future
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from audmodel.parallel.messages import Message


class ProcessPool:
    """Processes that carry out calls, one at a time each.

    They start when they are needed first, and end with :meth:`close`.
    Each has a thread that talks to it, and a pipe of its own,
    so a process that dies leaves no lock or half of a message to others.

    Args:
        num_processes: number of processes
        initializer: called in each process before its first call

    Raises:
        RuntimeError: if no thread can be started, as while Python exits

    """

    def __init__(
        self,
        num_processes: int,
        initializer: Callable[[], Any] | None = None,
    ) -> None:
        from multiprocessing import util

        self._workers = [_Worker(n, initializer) for n in range(num_processes)]
        # The last one is taken first: it was used last, or else is the first one
        self._idle = self._workers[::-1]
        self._threads = Threads(num_processes, "audmodel-process", _block_interrupts)
        # For the error that a process has died, which may be while Python exits
        importlib.import_module("concurrent.futures.process")
        self._futures: set[Future[Any]] = set()
        self._interrupted: set[Future[Any]] = set()
        self._lock = threading.Lock()
        self._is_closed = False
        # Without a call of close(), at the end of the program:
        # before multiprocessing waits for its processes
        util.Finalize(self, _shut_down, args=(self._workers,), exitpriority=10)
        _pools.add(self)

    def run(
        self,
        calls: Iterable[Callable[[], Any]],
        on_success: Callable[[int], Any] = lambda _: None,
        timeout: float | None = None,
    ) -> list[Any]:
        """Carry out calls.

        Several threads may do so at the same time.

        Args:
            calls: the calls, which must be picklable
            on_success: called with the number of each call that has succeeded
            timeout: time in seconds after which processes
                that are not done are killed.
                If ``None`` there is no limit

        Returns:
            what the calls returned, in order

        Raises:
            BaseException: what a call raised,
                of several failures that of the first call in order.
                After a failure no further call starts,
                and all that run have ended.
                If this thread is interrupted, they are killed at once
            BrokenProcessPool: if a process died in the middle of a call.
                The next call starts another one
            RuntimeError: if the pool was closed before,
                if a fork of the process that made the pool uses it,
                a call raised what cannot be unpickled here,
                or no thread can be started, as while Python exits
            TimeoutError: if the calls were not done in time

        """
        self._kill_interrupted()
        return carry_out(calls, self._submit, self._stop, on_success, timeout)

    def close(self) -> None:
        """Wait for calls of other threads, and end all processes.

        If the wait is interrupted, those calls fail.

        """
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._kill_interrupted()
            wait_for_all(self._futures)
        except BaseException:
            # Most likely Ctrl-C
            self._stop(list(self._futures), at_once=True)
            raise
        finally:
            _shut_down(self._workers)
            self._threads.shut_down()

    def forget(self) -> None:
        """Close the pipes, in a fork that the processes do not belong to."""
        self._is_closed = True
        self._interrupted.clear()
        for worker in self._workers:
            worker.disconnect()
        # They are not killed by the fork
        self._workers.clear()

    def _submit(self, call: Callable[[], Any], futures: list[Future[Any]]) -> None:
        from concurrent.futures import Future

        if self._is_closed:
            raise RuntimeError("The processes have ended, or are those of a parent.")
        future: Future[Any] = Future()
        # Before it starts, so that an interrupt finds it there
        futures.append(future)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        self._threads.submit(self._carry_out, future, call)

    def _carry_out(self, future: Future[Any], call: Callable[[], Any]) -> None:
        """Let a process carry out a call, in the thread that talks to it."""
        if not future.set_running_or_notify_cancel():
            return
        result, error = None, None
        with self._lock:
            worker = self._idle.pop()
            worker.future = future
        try:
            if future in self._interrupted:
                raise RuntimeError("The processes have ended.")
            result = worker.call(call)
        except BaseException as failure:  # noqa: BLE001
            # It belongs to the thread that waits for the future
            error = failure
        with self._lock:
            worker.future = None
            self._idle.append(worker)
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
        # The traceback of an exception would refer to this frame and back
        del error, future

    def _stop(self, futures: list[Future[Any]], at_once: bool) -> None:
        """Wait for calls, or kill the processes that carry them out."""
        if at_once:
            self._interrupted.update(futures)
            self._kill_interrupted()
        else:
            wait_for_all(futures)

    def _kill_interrupted(self) -> None:
        # Repeated, as a process may be about to start.
        # After another interrupt, the next call or close() does the rest
        while self._interrupted:
            with self._lock:
                for worker in self._workers:
                    if worker.future in self._interrupted:
                        worker.kill()
            time.sleep(0.001)
            self._interrupted = {f for f in self._interrupted if not f.done()}


class _Worker:
    """A process, once it was needed, and the pipe to it."""

    def __init__(self, number: int, initializer: Callable[[], Any] | None) -> None:
        # What it works for
        self.future: Future[Any] | None = None
        self._number = number
        self._initializer = initializer
        self._serialize = serialize
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._is_killed = False

    def call(self, call: Callable[[], Any]) -> Any:
        """Let the process carry out a call.

        Raises:
            BaseException: what it raised
            BrokenProcessPool: if the process died

        """
        if self._process is not None and not self._is_idle(self._process):
            # It had nothing to do, so nothing is lost
            self.shut_down()
        if self._process is None:
            self._start()
        return self._run(call)

    def _is_idle(self, process: BaseProcess) -> bool:
        """Whether the process waits for a call, unless it has just died."""
        assert self._connection is not None
        # The end of its pipe comes first
        is_at_end = self._connection.poll()
        return not self._is_killed and not is_at_end and process.is_alive()

    def kill(self) -> None:
        """Kill the process, which its thread notices."""
        process = self._process
        if process is not None:
            # It may seem to be alive for a moment
            self._is_killed = True
            process.kill()

    def shut_down(self) -> None:
        """End the process, and wait for that."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.join()
        self._is_killed = False
        self.disconnect()

    def disconnect(self) -> None:
        """Close the pipe."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _start(self) -> None:
        from multiprocessing import Pipe

        from audmodel.parallel.starting import start_worker

        self._connection, theirs = Pipe()
        try:
            process = start_worker(theirs)
        except BaseException:
            self.disconnect()
            raise
        finally:
            theirs.close()
        self._process = process
        try:
            self._run(functools.partial(set_up, self._number, self._initializer))
        except BaseException:
            self.shut_down()
            raise

    def _run(self, call: Callable[[], Any]) -> Any:
        """Result of a call in the process, which has started."""
        outcome = self._exchange(self._serialize(call))
        if outcome.is_unknown:
            # Defined in a notebook, or in the guarded part of a script
            try:
                message = by_value(call)
            except Exception:  # noqa: BLE001
                return outcome.get()
            outcome = self._exchange(message)
            self._serialize = by_value
        return outcome.get()

    def _exchange(self, message: Message) -> Outcome:
        """What became of a call that is sent to the process."""
        from multiprocessing.connection import wait

        assert self._connection is not None
        assert self._process is not None
        try:
            self._connection.send_bytes(message)
            del message
            # A fork that was not made by Python may keep the pipe open
            wait([self._connection, self._process.sentinel])
            reply = self._connection.recv_bytes() if self._connection.poll() else None
        except (EOFError, OSError):
            reply = None
        if reply is None:
            raise self._death()
        return outcome_of(reply)

    def _death(self) -> Exception:
        from concurrent.futures.process import BrokenProcessPool

        process = self._process
        assert process is not None
        # Its pipe may end a moment before
        process.join(1)
        self.shut_down()
        error = BrokenProcessPool(f"A process ended with code {process.exitcode}.")
        explain_dead_worker(error)
        return error


def explain_dead_worker(error: BaseException) -> None:
    """Say in an error that a process has died what may be the reason.

    Args:
        error: any error.
            Those of other kinds are left as they are

    """
    # If it was not imported, the error is none of its.
    # It cannot be imported any more while Python exits.
    module = sys.modules.get("concurrent.futures.process")
    if module is not None and isinstance(error, module.BrokenProcessPool):
        error.add_note(
            "A process ended before its result was there. "
            "It crashed, ran out of memory, or could not start: "
            "a script needs 'if __name__ == \"__main__\":' around its main part, "
            "and what processes run must be in a module that they can import."
        )


def _shut_down(workers: Iterable[_Worker]) -> None:
    for worker in workers:
        worker.kill()
    for worker in workers:
        # One that fails must not keep the others
        with contextlib.suppress(Exception):
            worker.shut_down()


def _block_interrupts() -> None:
    """Leave Ctrl-C to the main thread, and start processes that do not see it."""
    import signal

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


# Pools of this process. A fork of it must not keep their pipes open:
# a process of a pool ends when the last process that holds its pipe does.
_pools: weakref.WeakSet[ProcessPool] = weakref.WeakSet()


def _forget_pools() -> None:
    for pool in list(_pools):
        pool.forget()
    _pools.clear()


os.register_at_fork(after_in_child=_forget_pools)
