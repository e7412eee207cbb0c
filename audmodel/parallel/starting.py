"""Start the process of a worker.

All processes start from scratch or in a way that has the same effect:
a fork of the program has none of its other threads,
but may have a lock that one of them holds.
On Linux a server does what all starts have in common once.

"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
from multiprocessing import context
from multiprocessing import popen_forkserver
from multiprocessing import reduction
from multiprocessing import spawn
from multiprocessing import util
from multiprocessing.connection import Connection
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
import os
import signal
import threading
from typing import Any
from typing import ClassVar

from audmodel.parallel import forks
from audmodel.parallel import server
from audmodel.parallel.worker import serve


# How the main module is called, in what multiprocessing tells a process
_MAIN = ("init_main_from_name", "init_main_from_path")


def start_worker(connection: Connection) -> BaseProcess:
    """Start a process that carries out calls.

    Args:
        connection: its end of the pipe for them

    Raises:
        OSError: if the system allows no further process
        RuntimeError: if this process is daemonic,
            or is itself one that still imports the main module

    """
    this = multiprocessing.current_process()
    if this.daemon:
        raise RuntimeError(
            "A daemonic process, like one of multiprocessing.Pool, "
            "must not start processes. Use a ProcessPoolExecutor instead of it, "
            "or call with n_processes=1."
        )
    if getattr(this, "_inheriting", False):
        raise RuntimeError(
            "Processes must not be started while the main module is imported."
        )
    process: BaseProcess
    if forks.are_possible():
        process = WorkerProcess(target=serve, args=(connection, _main_module()))
    else:
        process = multiprocessing.get_context("spawn").Process(
            target=serve, args=(connection, {})
        )
    process.start()
    return process


def _main_module() -> dict[str, Any]:
    """What a process has to import first, if it can be imported."""
    data = spawn.get_preparation_data("")
    # Of a program that comes from the standard input, there is no such file
    data = {name: data[name] for name in _MAIN if name in data}
    return data if os.path.exists(data.get(_MAIN[1], "/")) else {}


class WorkerProcess(BaseProcess):
    """A fork of the server."""

    # The method that is set in the process
    _start_method = "spawn"

    @staticmethod
    def _Popen(process: BaseProcess) -> _Popen:  # noqa: N802
        # Called by multiprocessing
        return _Popen(process)


class _SentDescriptor:
    """Stands for a descriptor in what is sent to a process."""

    def __init__(self, index: int) -> None:
        self._index = index

    def detach(self) -> int:
        return server.received[self._index]


class _Popen(popen_forkserver.Popen):
    """A process, as multiprocessing sees it."""

    method = "spawn"
    DupFd: ClassVar[Any] = _SentDescriptor

    def __init__(self, process: BaseProcess) -> None:
        self._descriptors: list[int] = []
        self._lock = threading.Lock()
        super().__init__(process)

    def duplicate_for_child(self, fd: int) -> int:
        self._descriptors.append(fd)
        return len(self._descriptors) - 1

    def _launch(self, process: BaseProcess) -> None:
        message = self._orders(process)
        fork = forks.fork(self._descriptors)
        self.pid = fork.pid
        with contextlib.suppress(BrokenPipeError):
            # If it has ended already, this is found out like later ends
            fork.orders.sendall(message)
        self.sentinel = fork.status.detach()
        # While the other one is open, the process knows that its parent lives
        self.finalizer = util.Finalize(
            self, _close, (self.sentinel, fork.orders.detach())
        )

    def _orders(self, process: BaseProcess) -> bytes:
        # The worker imports the main module, and can say what went wrong
        data = spawn.get_preparation_data(process.name)
        data = {name: value for name, value in data.items() if name not in _MAIN}
        message = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            reduction.dump(data, message)
            reduction.dump(process, message)
        finally:
            context.set_spawning_popen(None)
        return message.getvalue()

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        seconds = 0 if flag == os.WNOHANG else None
        if self.returncode is None and wait([self.sentinel], seconds):
            with self._lock:
                if self.returncode is None:
                    self.returncode = self._end()
        return self.returncode

    def _send_signal(self, number: int) -> None:
        # Called by multiprocessing.
        # The number of the process is not used again before poll() was told
        with self._lock:
            if self.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, number)

    def _end(self) -> int:
        """Exit code of the process, which has ended, or lost its server."""
        message = os.read(self.sentinel, server.STATUS.size)
        if not message:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            return -signal.SIGKILL
        with contextlib.suppress(OSError):
            os.write(self.sentinel, b"+")
        code: int = server.STATUS.unpack(message)[0]
        return code


def _close(*descriptors: int) -> None:
    for number in descriptors:
        os.close(number)
