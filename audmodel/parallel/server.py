"""The process that workers are forked from.

It has one thread and nothing of the program,
so at the moment of a fork no lock is held,
and a fork is as safe as a process that starts from scratch.
What it saves is the start of Python and the import of this package.

"""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import functools
import importlib
from multiprocessing import resource_tracker as resource_tracker
from multiprocessing import spawn
import os
import selectors
import signal
import socket
import struct
from typing import Any
from typing import NamedTuple
from typing import TypeAlias


# Number of a process, its exit code, or minus the number of an error
STATUS = struct.Struct("q")
_MAX_DESCRIPTORS = 16
# The last message to a server
NO_MORE = b"."

# Descriptors that this process got with its start
received: list[int] = []


class Fork(NamedTuple):
    """What a fork of the server gets."""

    # Where it reads what to do
    orders: int
    # Pipe to the resource tracker of the program
    tracker: int
    # Numbers of standard streams that were sent, and these streams
    streams: dict[int, int]
    # Further descriptors
    others: list[int]


def request(
    server: socket.socket,
    status: int,
    orders: int,
    streams: list[int],
    others: list[int],
) -> None:
    """Ask a server for a fork.

    Args:
        server: connection to the server
        status: where the server writes the number of the process,
            and its exit code
        orders: where the process reads what to do
        streams: open standard streams
        others: further descriptors for the process

    Raises:
        OSError: if the server has ended

    """
    tracker = resource_tracker.getfd()
    assert tracker is not None
    # A message without a byte would mean the end
    message = bytes([len(streams), *streams])
    descriptors = [status, orders, tracker, *streams, *others]
    socket.send_fds(server, [message], descriptors)


def main(number: int) -> None:
    """Fork processes until the program has ended.

    Args:
        number: descriptor of the connection to the program

    """
    # All that workers need before what they import of the program
    for module in ("audmodel.parallel.starting", "audmodel.parallel.worker", "pkgutil"):
        importlib.import_module(module)
    # The folder of the program can be removed
    os.chdir("/")
    with socket.socket(fileno=number) as requests, _Server(requests) as server:
        fork = server.run()
    if fork is not None:
        _begin(fork)


def _begin(fork: Fork) -> None:
    """Become what the program has requested."""
    for number, stream in fork.streams.items():
        os.dup2(stream, number)
        os.close(stream)
    received[:] = fork.others
    spawn.spawn_main(pipe_handle=fork.orders, tracker_fd=fork.tracker)


class _Child:
    """A process that was forked."""

    def __init__(self, pid: int, status: socket.socket) -> None:
        self.pid = pid
        # None if the program does not need its number any more
        self.status: socket.socket | None = status
        self.is_reported = False


_Handler: TypeAlias = Callable[[], Fork | None]


class _Server:
    """A loop over requests and ends of processes."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._is_needed = True
        self._children: dict[int, _Child] = {}
        self._selector = selectors.DefaultSelector()
        self._wakeup, self._signals = socket.socketpair()

    def __enter__(self) -> _Server:
        for end in (self._wakeup, self._signals):
            end.setblocking(False)
        self._listen(self._requests, self._fork)
        self._listen(self._wakeup, self._find_ended)
        signal.set_wakeup_fd(self._signals.fileno(), warn_on_full_buffer=False)
        self._handler = signal.signal(signal.SIGCHLD, lambda *_: None)
        return self

    def __exit__(self, *_: object) -> None:
        # In a fork as well
        signal.signal(signal.SIGCHLD, self._handler)
        signal.set_wakeup_fd(-1)
        self._selector.close()
        for end in (self._wakeup, self._signals):
            end.close()
        for child in self._children.values():
            if child.status is not None:
                child.status.close()

    def run(self) -> Fork | None:
        """Serve requests.

        Returns:
            what to become in a fork,
            ``None`` when there will be no more requests,
            and all processes have ended

        """
        while self._is_needed or self._children:
            for key, _ in self._selector.select():
                handler: _Handler = key.data
                fork = handler()
                if fork is not None:
                    return fork
        return None

    def _listen(self, connection: socket.socket, handler: _Handler) -> None:
        self._selector.register(connection, selectors.EVENT_READ, handler)

    def _fork(self) -> Fork | None:
        message, descriptors, flags, _ = socket.recv_fds(
            self._requests, _MAX_DESCRIPTORS, _MAX_DESCRIPTORS
        )
        if not message:
            self._close()
            return None
        if message == NO_MORE:
            self._is_needed = False
            return None
        if flags & socket.MSG_CTRUNC:
            # Too many are open. The program notices that its ends are closed
            for number in descriptors:
                os.close(number)
            return None
        number_of_streams, *streams = message
        status_fd, orders, tracker, *others = descriptors
        fork = Fork(
            orders,
            tracker,
            dict(zip(streams, others)),
            others[number_of_streams:],
        )
        status = socket.socket(fileno=status_fd)
        try:
            pid = os.fork()
        except OSError as error:
            status.send(STATUS.pack(-(error.errno or 0)))
            status.close()
        else:
            if pid == 0:
                status.close()
                return fork
            self._remember(pid, status)
        for number in (orders, tracker, *others):
            os.close(number)
        return None

    def _remember(self, pid: int, status: socket.socket) -> None:
        child = _Child(pid, status)
        self._children[pid] = child
        self._listen(status, functools.partial(self._release, child))
        with contextlib.suppress(OSError):
            status.send(STATUS.pack(pid))

    def _close(self) -> None:
        """End all processes, as the program has ended."""
        self._is_needed = False
        self._selector.unregister(self._requests)
        for child in list(self._children.values()):
            # Not reaped yet, so it has its number
            os.kill(child.pid, signal.SIGKILL)
            self._release(child)

    def _release(self, child: _Child) -> None:
        """Reap a process as soon as it has ended."""
        if child.status is not None:
            self._selector.unregister(child.status)
            child.status.close()
            child.status = None
        self._look_at(child)

    def _find_ended(self) -> None:
        self._wakeup.recv(1024)
        for child in list(self._children.values()):
            self._look_at(child)

    def _look_at(self, child: _Child) -> None:
        keep = 0 if child.status is None else os.WNOWAIT
        end = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | keep)
        if end is None:
            return
        if child.status is None:
            del self._children[child.pid]
        elif not child.is_reported:
            child.is_reported = True
            with contextlib.suppress(OSError):
                child.status.send(STATUS.pack(_exit_code(end)))


def _exit_code(end: Any) -> int:
    """Exit code, or minus the number of the signal that has ended a process."""
    status: int = end.si_status
    return status if end.si_code == os.CLD_EXITED else -status
