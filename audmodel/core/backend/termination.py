r"""Clean up before a signal ends the process, but not for long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import os
import signal
import threading
from types import FrameType
from typing import Any

from audmodel.core.backend.connections import Requests


# Seconds that requests may take after a signal
GRACE = 1.5


class TerminatedError(SystemExit):
    r"""The process was asked to end."""


@contextmanager
def terminable() -> Iterator[None]:
    r"""Run what has to be cleaned up even if the process is asked to end.

    SIGTERM, which otherwise ends the process on the spot,
    raises an exception inside the block.
    When it has passed through,
    the process ends by the signal after all.
    After SIGTERM and Ctrl-C
    requests to a storage get little time to clean up,
    as nobody wants to wait for a server that does not answer.
    Outside the main thread,
    and if the program handles a signal itself,
    nothing changes.

    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    requests = Requests()

    def terminate(number: int, _: FrameType | None) -> None:
        # A second signal must not interrupt the clean-up
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        requests.end_in(GRACE)
        raise TerminatedError(128 + number)

    def interrupt(_: int, __: FrameType | None) -> None:
        requests.end_in(GRACE)
        raise KeyboardInterrupt

    with (
        requests.here(),
        _handling(signal.SIGTERM, signal.SIG_DFL, terminate) as is_ours,
        _handling(signal.SIGINT, signal.default_int_handler, interrupt),
    ):
        try:
            yield
        except TerminatedError:
            if not is_ours:
                raise
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
            raise
        finally:
            requests.keep()


@contextmanager
def _handling(number: signal.Signals, usual: Any, handler: Any) -> Iterator[bool]:
    r"""Handle a signal, unless somebody does, and say so."""
    if signal.getsignal(number) is not usual:
        yield False
        return
    signal.signal(number, handler)
    try:
        yield True
    finally:
        signal.signal(number, usual)
