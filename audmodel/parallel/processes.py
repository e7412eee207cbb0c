"""Processes of this machine that carry out calls."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING
from typing import Any
from typing import NoReturn
import weakref

from audmodel.parallel.waiting import LATE


if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess


# Instead of a call: there are no more. Cannot be a pickle
_STOP = b"stop"


class ProcessPool:
    """Processes that carry out calls, one at a time each.

    They start when they are needed first, and end with :meth:`close`.
    Each has a pipe of its own,
    and the thread that makes calls talks to it directly.
    So the pool has no thread,
    which another one could not be forked next to,
    and no lock that a process could take with it when it dies.

    Args:
        num_processes: number of processes
        start_method: how they start.
            If ``None``, by a fork where that is safe

    """

    def __init__(self, num_processes: int, start_method: str | None = None) -> None:
        from multiprocessing import util

        self._workers = [_Worker(start_method) for _ in range(num_processes)]
        # Threads that are in run(), by something that stands for the run
        self._runs: dict[object, int] = {}
        # A worker was given back, or a run has ended
        self._changed = threading.Condition()
        self._is_closed = False
        # If nobody calls close().
        # At the end of the program this has to happen
        # before multiprocessing waits for its processes
        self._end = util.Finalize(self, _end, args=(self._workers,), exitpriority=10)
        _pools.add(self)

    def run(
        self,
        calls: Sequence[Callable[[], Any]],
        on_success: Callable[[int], Any],
    ) -> list[Any]:
        """Carry out calls.

        Several threads may do so at the same time.

        Args:
            calls: the calls, which must be picklable
            on_success: called with the number of each call that has succeeded

        Returns:
            what the calls returned, in order

        Raises:
            BaseException: what a call raised,
                of several failures that of the first call in order.
                After a failure no further call starts,
                and all that run have ended.
                If this thread is interrupted, they are killed at once.
                Those that another interrupt has spared
                are killed by the next call that needs a process,
                and by :meth:`close`
            BrokenProcessPool: if a process died in the middle of a call.
                The next call of it starts another one
            RuntimeError: if the pool was closed before,
                or a call raised what cannot be unpickled here

        """
        run = object()
        try:
            # In this order: close() waits for this run, or is noticed by it
            self._runs[run] = threading.get_ident()
            if self._is_closed:
                _refuse()
            return self._carry_out(run, calls, on_success)
        finally:
            try:
                # Interrupted, most likely by Ctrl-C
                left = [worker for worker in self._workers if worker.run is run]
                # All of them before any is waited for
                for worker in left:
                    worker.kill()
                for worker in left:
                    worker.end()
                    self._give_back(worker)
            finally:
                self._runs.pop(run, None)
                with self._changed:
                    self._changed.notify_all()

    def close(self) -> None:
        """Wait for calls of other threads, and end all processes.

        If the wait is interrupted, those calls fail.

        Raises:
            RuntimeError: if it is called in the middle of a call of this thread

        """
        if self._is_closed:
            return
        if threading.get_ident() in self._runs.values():
            raise RuntimeError("The processes carry out a call of this thread.")
        try:
            self._is_closed = True
            self._wait_for_runs()
            for worker in self._workers:
                if worker.run is None:
                    worker.stop()
                else:
                    # Lost, and may be in the middle of a call
                    worker.end()
            for worker in self._workers:
                worker.wait()
        except BaseException:
            # Most likely Ctrl-C
            for worker in self._workers:
                worker.retire()
            self._wait_for_runs()
            raise
        finally:
            self._end()

    def forget(self) -> None:
        """Let go of all processes, in a fork that they do not belong to."""
        self._is_closed = True
        # A thread that the fork does not have may hold its lock
        self._changed = threading.Condition()
        for worker in self._workers:
            worker.disconnect()

    def _carry_out(
        self,
        run: object,
        calls: Sequence[Callable[[], Any]],
        on_success: Callable[[int], Any],
    ) -> list[Any]:
        import selectors

        results: list[Any] = [None] * len(calls)
        failures: dict[int, BaseException] = {}
        waiting = deque(range(len(calls)))
        running: dict[_Worker, int] = {}
        worker: _Worker | None
        with selectors.PollSelector() as selector:
            while waiting or running:
                # One that has work to wait for must not wait for other threads
                worker = self._take(run, wait=not running) if waiting else None
                if worker is not None:
                    number = waiting.popleft()
                    error = self._start(worker, calls[number])
                    if error is None:
                        running[worker] = number
                        for handle in worker.handles():
                            selector.register(handle, selectors.EVENT_READ, worker)
                    else:
                        failures[number] = error
                        waiting.clear()
                        self._give_back(worker)
                # Who is done already spares the start of another process
                timeout = 0 if worker is not None and waiting else LATE
                ready = selector.select(timeout) if running else []
                for worker in dict.fromkeys(key.data for key, _ in ready):
                    for handle in worker.handles():
                        selector.unregister(handle)
                    result, error = worker.receive()
                    number = running.pop(worker)
                    self._give_back(worker)
                    if error is None:
                        results[number] = result
                        on_success(number)
                    else:
                        failures[number] = error
                        waiting.clear()
        if not failures:
            return results
        try:
            raise failures[min(failures)]
        finally:
            # The traceback would refer to this frame and back
            del failures, error

    def _take(self, run: object, *, wait: bool) -> _Worker | None:
        """A worker without work, or ``None`` if there is none."""
        with self._changed:
            while True:
                # In order, to prefer one that has started
                for worker in self._workers:
                    if worker.run not in self._runs:
                        if worker.run is not None:
                            # Lost by a run that was interrupted once more
                            # when it ended its processes
                            worker.end()
                        worker.run = run
                        return worker
                if not wait:
                    return None
                self._changed.wait(LATE)

    def _give_back(self, worker: _Worker) -> None:
        with self._changed:
            worker.run = None
            self._changed.notify_all()

    def _start(self, worker: _Worker, call: Callable[[], Any]) -> BaseException | None:
        try:
            worker.send(call)
        except Exception as error:  # noqa: BLE001
            return error
        return None

    def _wait_for_runs(self) -> None:
        with self._changed:
            while self._runs:
                self._changed.wait(LATE)


class _Worker:
    """A process, once it was needed, and the pipe to it."""

    def __init__(self, start_method: str | None) -> None:
        # What it works for. Nothing else says whether it is free,
        # so an interrupt cannot lose it on the way from one place to another
        self.run: object | None = None
        self._start_method = start_method
        self._starting = threading.Lock()
        self._is_retired = False
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._pidfd: int | None = None

    def handles(self) -> list[int]:
        """What to wait on for a result, or the end of the process."""
        assert self._connection is not None
        return [self._connection.fileno(), self._sentinel()]

    def send(self, call: Callable[[], Any]) -> None:
        """Let the process carry out a call."""
        from multiprocessing.reduction import ForkingPickler

        message = ForkingPickler.dumps(call)
        if self._process is not None and not self._process.is_alive():
            # It had nothing to do, so nothing is lost
            self.end()
        if self._connection is None:
            self._start()
        assert self._connection is not None
        try:
            self._connection.send_bytes(message)
        except OSError:
            raise self._death() from None

    def receive(self) -> tuple[Any, BaseException | None]:
        """Result of the call, or what it raised."""
        assert self._connection is not None
        try:
            # The pipe may be kept open by a fork that was not made by Python
            reply = self._connection.recv_bytes() if self._connection.poll() else None
        except (EOFError, OSError):
            reply = None
        if reply is None:
            return None, self._death()
        return _unpacked(reply)

    def stop(self) -> None:
        """Tell the process to end."""
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.send_bytes(_STOP)

    def wait(self) -> None:
        """Wait for the end of the process."""
        if self._process is not None:
            self._process.join()

    def kill(self) -> None:
        """Kill the process, which whoever waits for it notices."""
        process = self._process
        if process is not None:
            process.kill()

    def retire(self) -> None:
        """Kill the process, and start no other one."""
        # Not before one that another thread starts at the moment can be killed
        with self._starting:
            self._is_retired = True
        self.kill()

    def end(self) -> None:
        """End the process, whatever it is doing."""
        process = self._process
        if process is not None:
            process.kill()
            process.join()
            self._process = None
        self.disconnect()

    def disconnect(self) -> None:
        """Close the pipe."""
        # Whoever closes a number twice may close that of something else
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        pidfd, self._pidfd = self._pidfd, None
        if pidfd is not None:
            os.close(pidfd)

    def _start(self) -> None:
        import multiprocessing

        with self._starting, _no_interrupts():
            if self._is_retired:
                _refuse()
            context: Any = multiprocessing.get_context(
                self._start_method or _safe_start_method()
            )
            self._connection, theirs = context.Pipe()
            try:
                process = context.Process(target=_serve, args=(theirs,))
                process.start()
            except BaseException:
                self.disconnect()
                raise
            finally:
                theirs.close()
            self._process = process
            self._pidfd = _pidfd(process.pid)

    def _sentinel(self) -> int:
        assert self._process is not None
        return self._process.sentinel if self._pidfd is None else self._pidfd

    def _death(self) -> Exception:
        from concurrent.futures.process import BrokenProcessPool
        from multiprocessing.connection import wait

        assert self._process is not None
        process = self._process
        # Its pipe may end a moment before
        wait([self._sentinel()], 1)
        self.end()
        error = BrokenProcessPool(f"A process ended with code {process.exitcode}.")
        explain_dead_worker(error)
        return error


class _InProcessError(Exception):
    """Shows where in a process an exception was raised."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


def explain_dead_worker(error: BaseException) -> None:
    """Say in an error that a process has died what may be the reason.

    Args:
        error: any error.
            Those of other kinds are left as they are

    """
    from concurrent.futures.process import BrokenProcessPool

    if isinstance(error, BrokenProcessPool):
        error.add_note(
            "A process ended before its result was there. "
            "It crashed, ran out of memory, or could not start: "
            "a script needs 'if __name__ == \"__main__\":' around its main part, "
            "and what processes run must be in a module that they can import."
        )


def _pidfd(pid: int) -> int | None:
    """Handle that tells the end of a process, on systems that have such.

    The sentinel of :mod:`multiprocessing` is a pipe,
    which ends only with everything that the process has started.

    """
    with contextlib.suppress(AttributeError, OSError):
        return os.pidfd_open(pid)
    return None


def _end(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.retire()
    for worker in workers:
        # One that fails must not keep the others
        with contextlib.suppress(Exception):
            if worker.run is None:
                worker.end()
            else:
                # A thread that the program did not wait for will close its pipe
                worker.wait()


def _refuse() -> NoReturn:
    raise RuntimeError("The processes have ended, or are those of a parent.")


# Start ---------------------------------------------------------------------


def _safe_start_method() -> str:
    """How to start a process: by a fork where that is safe.

    A start method that was set is respected.
    A *fork* that was set counts as none:
    many things set it by the way, like a lock of :mod:`multiprocessing`,
    and it does not make a fork any safer.

    """
    import multiprocessing

    method = multiprocessing.get_start_method(allow_none=True)
    if method is not None and method != "fork":
        return method
    return "fork" if _is_fork_safe() else "spawn"


def _is_fork_safe() -> bool:
    """Whether this process has one thread, and so would a fork of it.

    A fork has only the thread that made it.
    What others were about to do never happens in it,
    like giving back a lock.

    """
    # Libraries of macOS do not survive a fork
    if sys.platform != "linux" or threading.active_count() != 1:
        return False
    try:
        return _num_threads() == 1 or _num_threads_after_fork() == 1
    except OSError:
        return False


def _num_threads() -> int:
    """Number of threads of this process, those included that Python does not know."""
    return len(os.listdir("/proc/self/task"))


def _num_threads_after_fork() -> int:
    """Number of threads when a fork was made, which does nothing.

    OpenBLAS, and thereby numpy, ends its threads before a fork,
    and starts them again when it needs them.
    What other libraries have, like OpenMP or CUDA, remains.

    """
    import signal
    import warnings

    with warnings.catch_warnings():
        # Says what is about to be found out
        warnings.simplefilter("ignore", DeprecationWarning)
        process = os.fork()
        if process == 0:
            os._exit(0)
    try:
        return _num_threads()
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


@contextlib.contextmanager
def _no_interrupts() -> Iterator[None]:
    """Hold back Ctrl-C in this thread, and in processes that it starts."""
    import signal

    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


# Pools of this process, whose pipes a fork of it must not keep open,
# since their processes end when the last one who has them does.
_pools: weakref.WeakSet[ProcessPool] = weakref.WeakSet()


def _forget_pools() -> None:
    for pool in list(_pools):
        pool.forget()
    _pools.clear()


os.register_at_fork(after_in_child=_forget_pools)


# In the process ------------------------------------------------------------


def _serve(connection: Connection) -> None:
    """Carry out calls until there are no more."""
    import signal

    # What a fork has inherited.
    # Ctrl-C reaches all processes of a terminal,
    # and the one that has started this one decides what happens.
    # A handler, since programs started from here would inherit SIG_IGN
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if "numpy.random" in sys.modules:
        # Python does it for its own
        sys.modules["numpy.random"].seed()
    # The pipe ends with this process, also in the middle of a message
    os.register_at_fork(after_in_child=connection.close)
    # Ends with an error if the other process is gone
    with contextlib.suppress(EOFError, OSError):
        while _serve_one(connection):
            pass


def _serve_one(connection: Connection) -> bool:
    """Carry out the next call, if there is one.

    Arguments and results may be large,
    so each of them is let go as soon as it is not needed any more.

    """
    from multiprocessing.reduction import ForkingPickler
    import pickle

    message = connection.recv_bytes()
    if message == _STOP:
        return False
    try:
        call = pickle.loads(message)  # noqa: S301
        del message
        result = call()
        del call
        reply = ForkingPickler.dumps((result, None))
        del result
    except BaseException as error:  # noqa: BLE001
        reply = ForkingPickler.dumps((None, _packed(error)))
    connection.send_bytes(reply)
    return True


# What a call raised, on its way ---------------------------------------------


def _packed(error: BaseException) -> tuple[bytes, str, str]:
    """An exception, pickled on its own as that may fail, and in words."""
    import pickle
    import traceback

    try:
        pickled = pickle.dumps(error)
    except Exception:  # noqa: BLE001
        # Whatever its own code raises, the words below still arrive
        pickled = b""
    summary = "".join(traceback.format_exception_only(error)).strip()
    return pickled, summary, "".join(traceback.format_exception(error))


def _unpacked(reply: bytes) -> tuple[Any, BaseException | None]:
    """Result of a call, and what it raised."""
    import pickle

    try:
        # It comes from a process of this program, and from nobody else
        result, failure = pickle.loads(reply)  # noqa: S301
    except KeyboardInterrupt:
        raise
    except BaseException as failed:  # noqa: BLE001
        # Of what somebody wrote to unpickle
        return None, failed
    if failure is None:
        return result, None
    pickled, summary, description = failure
    try:
        error = pickle.loads(pickled)  # noqa: S301
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001
        # Many exceptions take other arguments than they say
        error = None
    if not isinstance(error, BaseException):
        error = RuntimeError(f"A process raised {summary}")
    error.__cause__ = _InProcessError(description)
    return None, error
