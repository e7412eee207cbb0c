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
    r"""Run what has to be cleaned up even if the process is asked to end.

    SIGTERM, which otherwise ends the process on the spot,
    raises an exception inside the block.
    When the block was left,
    the process ends by the signal after all,
    whatever became of the exception.
    After SIGTERM and Ctrl-C
    requests to a storage get little time to clean up,
    as nobody wants to wait for a server that does not answer.
    Outside the main thread, inside another such block,
    and if the program handles a signal itself,
    nothing changes.

    """
    global _is_active
    is_main = threading.current_thread() is threading.main_thread()
    if _is_active or not is_main:
        yield
        return
    requests = Requests()
    process = os.getpid()
    # A handler runs in the middle of anything, and must not wait for a lock
    signals: queue.SimpleQueue[bool] = queue.SimpleQueue()
    is_asked = False

    def terminate(number: int, _: FrameType | None) -> None:
        nonlocal is_asked
        if os.getpid() != process:
            # A child process, which has nothing to clean up
            _end()
        # A second signal must not interrupt the clean-up
        if not is_asked:
            is_asked = True
            signals.put(True)
            raise TerminatedError(128 + number)

    def interrupt(number: int, frame: FrameType | None) -> None:
        signals.put(True)
        signal.default_int_handler(number, frame)

    def watch() -> None:
        try:
            if signals.get():
                while signals.get(timeout=GRACE):
                    pass
        except queue.Empty:
            requests.end()

    try:
        _is_active = True
        # Without it, requests have the time that they always have
        start_thread(watch)
        with (
            requests.here(),
            _handling(signal.SIGTERM, signal.SIG_DFL, terminate),
            _handling(signal.SIGINT, signal.default_int_handler, interrupt),
        ):
            yield
    finally:
        _is_active = False
        signals.put(False)
        if is_asked:
            _end()


def _end() -> None:
    r"""Let SIGTERM end the process."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _handling(number: signal.Signals, usual: Any, handler: Any) -> Iterator[None]:
    r"""Handle a signal, unless somebody does."""
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
