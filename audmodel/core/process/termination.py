r"""Clean up before a signal ends the process, but not for long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import os
import queue
import signal
import threading
from types import FrameType
from typing import Any

from audmodel.core.process.requests import GRACE
from audmodel.core.process.requests import Requests
from audmodel.core.process.workers import start_thread


class TerminatedError(SystemExit):
    r"""The process was asked to end."""


_is_active = False


@contextmanager
def terminable() -> Iterator[None]:
    r"""Run a block that cleans up even if SIGTERM ends the process.

    By default SIGTERM ends the process at once.
    Inside the block it raises an exception.
    After the block
    the signal ends the process,
    even if the exception was caught.
    After SIGTERM and Ctrl-C
    requests to a storage get little time to clean up,
    so that a server that does not respond does not block the end.
    Outside the main thread, inside another such block,
    and if the program handles a signal itself,
    nothing changes.

    """
    global _is_active
    is_main = threading.current_thread() is threading.main_thread()
    if _is_active or not is_main:
        yield
        return
    ending = _Ending()
    try:
        _is_active = True
        # Without it, requests have the time that they always have
        start_thread(ending.watch)
        with (
            ending.requests.here(),
            _handling(signal.SIGTERM, signal.SIG_DFL, ending.terminate),
            _handling(signal.SIGINT, signal.default_int_handler, ending.interrupt),
        ):
            yield
    finally:
        _is_active = False
        ending.over()


class _Ending:
    r"""The end of a process after a signal."""

    def __init__(self) -> None:
        self.requests = Requests()
        self._process = os.getpid()
        self._is_terminated = False
        # A handler runs in the middle of anything, and must not wait for a lock
        self._signals: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def terminate(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._process:
            # A child process, which has nothing to clean up
            _end()
        # A second signal must not interrupt the clean-up
        if not self._is_terminated:
            self._is_terminated = True
            self._signals.put(True)
            raise TerminatedError(128 + number)

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        self._signals.put(True)
        signal.default_int_handler(number, frame)

    def watch(self) -> None:
        r"""Cancel requests that take long after the last signal."""
        try:
            if self._signals.get():
                while self._signals.get(timeout=GRACE):
                    pass
        except queue.Empty:
            self.requests.cancel()

    def over(self) -> None:
        self._signals.put(False)
        if self._is_terminated:
            _end()


def _end() -> None:
    r"""Let SIGTERM end the process."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _handling(number: signal.Signals, usual: Any, handler: Any) -> Iterator[None]:
    r"""Handle a signal, unless the program handles it."""
    if signal.getsignal(number) is not usual:
        yield
        return
    try:
        signal.signal(number, handler)
        yield
    finally:
        try:
            signal.signal(number, usual)
        except BaseException:
            # It came just now
            signal.signal(number, usual)
            raise
