"""The process of a worker."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import os
import sys
from typing import TYPE_CHECKING
from typing import Any
from typing import TextIO

from audmodel.parallel.messages import reply_of_error
from audmodel.parallel.messages import serialize


if TYPE_CHECKING:
    from multiprocessing.connection import Connection


_number = 0


def worker_number() -> int:
    """Number of the worker that this process is.

    A process that takes the place of one that has died has the same number.

    Returns:
        ``0`` in the first process of a :class:`MultiWorker`,
        or of a :class:`FlowStep` with ``process=True``,
        and one less than the number of workers in the last one.
        ``0`` in a process that is no worker

    Examples:
        >>> worker_number()
        0

    """
    return _number


def set_up(number: int, initializer: Callable[[], Any] | None) -> None:
    """Get ready for calls."""
    global _number
    _number = number
    if initializer is not None:
        initializer()


def serve(connection: Connection, main_module: dict[str, Any]) -> None:
    """Carry out calls until the other end of the pipe is closed.

    Args:
        connection: pipe to the process that makes the calls
        main_module: the main module of the program,
            as multiprocessing describes it.
            If it cannot be imported,
            this is the reply to the first call

    """
    import signal

    # Ctrl-C reaches all processes of a terminal,
    # and the one that has started this one decides what happens.
    # A handler, since programs started from here would inherit SIG_IGN
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    # The pipe ends with this process, also in the middle of a message
    os.register_at_fork(after_in_child=connection.close)
    with contextlib.suppress(EOFError, OSError):
        failure = _import_main(main_module)
        if failure is not None:
            connection.recv_bytes()
            connection.send_bytes(failure)
            return
        while True:
            connection.send_bytes(_reply_to(connection.recv_bytes()))


def _import_main(main_module: dict[str, Any]) -> Any:
    """Import the main module of the program, or reply why it cannot be imported."""
    from multiprocessing import current_process
    from multiprocessing import spawn

    process = current_process()
    # As multiprocessing does, so that it starts no processes meanwhile
    vars(process)["_inheriting"] = True
    try:
        spawn.prepare(main_module)
    except BaseException as error:  # noqa: BLE001
        failure = RuntimeError(
            f"A process could not import the main module of the program: {error} "
            f"({type(error).__name__}). "
            f"What a script does must be in 'if __name__ == \"__main__\":'."
        )
        failure.__cause__ = error
        return reply_of_error(failure)
    finally:
        del vars(process)["_inheriting"]
    return None


def _reply_to(message: bytes) -> Any:
    """Reply to a call.

    Arguments and results may be large,
    so each of them is let go as soon as it is not needed any more.

    """
    import pickle

    try:
        call = pickle.loads(message)  # noqa: S301
    except (AttributeError, ImportError) as error:
        return reply_of_error(error, is_unknown=True)
    except BaseException as error:  # noqa: BLE001
        return reply_of_error(error)
    del message
    try:
        result = call()
        del call
        return serialize((result, None))
    except BaseException as error:  # noqa: BLE001
        return reply_of_error(error)
    finally:
        _flush(sys.stdout)
        _flush(sys.stderr)


def _flush(stream: TextIO | None) -> None:
    """Write what was printed, as the process is killed when it is not needed."""
    if stream is not None:
        # It may be closed, or its reader gone
        with contextlib.suppress(ValueError, OSError):
            stream.flush()
