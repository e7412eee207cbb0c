r"""Clean up before SIGTERM ends the process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import os
import signal
import threading
from types import FrameType


class TerminatedError(SystemExit):
    r"""The process was asked to end."""


@contextmanager
def terminable() -> Iterator[None]:
    r"""Run what has to be cleaned up even if the process is asked to end.

    SIGTERM, which otherwise ends the process on the spot,
    raises an exception inside the block.
    When it has passed through,
    the process ends by the signal after all.
    Outside the main thread,
    and if the program handles the signal itself,
    nothing changes.

    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return

    def terminate(number: int, _: FrameType | None) -> None:
        # A second signal must not interrupt the clean-up
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise TerminatedError(128 + number)

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except TerminatedError:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
