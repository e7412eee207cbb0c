"""Ask for forks of a server, which starts with the first one."""

from __future__ import annotations

import contextlib
from multiprocessing import spawn
from multiprocessing import util
import os
from pathlib import Path
import socket
import subprocess
import sys
import threading
from typing import NamedTuple

from audmodel.parallel import server


# Of what /proc tells about a process, what it takes over at its start
_STATUS = Path("/proc/self/status")
_LIMITS = Path("/proc/self/limits")
_INHERITED = (
    "Umask",
    "Uid",
    "Gid",
    "Groups",
    "SigIgn",
    "Cap",
    "NoNewPrivs",
    "Seccomp",
    "Cpus_allowed",
    "Mems_allowed",
)


def are_possible() -> bool:
    """Whether processes can be forked from a server.

    Returns:
        ``True`` on Linux,
        unless the program was made one file, which starts in its own way

    """
    return (
        sys.platform == "linux"
        and not getattr(sys, "frozen", False)
        and _STATUS.exists()
    )


class Fork(NamedTuple):
    """A process that was forked."""

    pid: int
    # Gives its exit code. The number is not used again before a byte comes back
    status: socket.socket
    # Takes what the process has to do
    orders: socket.socket


def fork(descriptors: list[int]) -> Fork:
    """Fork a process from the server.

    Args:
        descriptors: what the process gets, besides standard streams

    Raises:
        OSError: if the system allows no further process
        RuntimeError: if there is no server

    """
    # One that was killed may still seem to be alive
    for _ in range(2):
        started = _servers.fork(descriptors)
        if started is not None:
            return started
    raise RuntimeError(
        "A process could not be started: the one that others are forked from "
        "has ended, or has too many open files."
    )


class _Server:
    """A server that runs."""

    def __init__(self, command: list[str], origin: object) -> None:
        self.origin = origin
        self.connection, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        path = [os.path.abspath(name) for name in sys.path if isinstance(name, str)]
        code = (
            f"import sys; sys.path[:] = {path!r}; "
            f"from audmodel.parallel.server import main; main({theirs.fileno()})"
        )
        try:
            with theirs:
                self.process = subprocess.Popen(  # noqa: S603
                    # This Python. Without the last word, multiprocessing refuses
                    [*command, "-c", code, "--multiprocessing-fork"],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                )
        except BaseException:
            self.connection.close()
            raise

    def retire(self) -> None:
        """Let the server end when its processes have ended."""
        with contextlib.suppress(OSError):
            self.connection.send(server.NO_MORE)

    def has_ended(self) -> bool:
        if self.process.poll() is None:
            return False
        self.connection.close()
        return True

    def forget(self) -> None:
        """Let go of the server in a fork, which it does not belong to."""
        self.connection.close()
        # It is no child of this process, and remembers that
        self.process.poll()


class _Servers:
    """The server of this program, and earlier ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: _Server | None = None
        self._retired: list[_Server] = []
        self._has_finalizer = False

    def fork(self, descriptors: list[int]) -> Fork | None:
        status, their_status = socket.socketpair()
        orders, their_orders = socket.socketpair()
        pid = None
        try:
            with their_status, their_orders:
                current = self._send_request(
                    their_status.fileno(), their_orders.fileno(), descriptors
                )
            pid = _number_of_process(status)
        finally:
            if pid is None:
                status.close()
                orders.close()
        if pid is None:
            with self._lock:
                if self._current is current:
                    self._replace(None)
            return None
        return Fork(pid, status, orders)

    def _send_request(self, status: int, orders: int, others: list[int]) -> _Server:
        streams = [number for number in (1, 2) if _is_open(number)]
        with self._lock:
            current = self._server()
            # If it has ended, it gives no number
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                server.request(current.connection, status, orders, streams, others)
        return current

    def shut_down(self) -> None:
        """Let all servers end, and wait for that."""
        with self._lock:
            self._replace(None)
            for each in self._retired:
                each.connection.close()
                # A moment, since processes of others may still run
                with contextlib.suppress(subprocess.TimeoutExpired):
                    each.process.wait(1)

    def forget(self) -> None:
        """Let go of servers in a fork, which they do not belong to."""
        for each in (self._current, *self._retired):
            if each is not None:
                each.forget()

    def _server(self) -> _Server:
        command = spawn.get_command_line()[:-3]
        origin = _origin(command)
        current = self._current
        if not self._has_finalizer:
            # Before multiprocessing waits for processes, and after pools have ended
            util.Finalize(self, self.shut_down, exitpriority=5)
            self._has_finalizer = True
        if current is None or current.origin != origin or current.has_ended():
            current = _Server(command, origin)
            self._replace(current)
        return current

    def _replace(self, fresh: _Server | None) -> None:
        previous, self._current = self._current, fresh
        if previous is not None:
            previous.retire()
            self._retired.append(previous)
        self._retired = [each for each in self._retired if not each.has_ended()]


def _origin(command: list[str]) -> object:
    """What a process takes over from the one that starts it.

    A fork has it from its server,
    so a server is of use as long as it does not change.

    """
    status = _STATUS.read_text("utf-8", "replace").splitlines()
    return (
        command,
        dict(os.environ),
        [line for line in status if line.startswith(_INHERITED)],
        _LIMITS.read_bytes(),
        os.getpriority(os.PRIO_PROCESS, 0),
        os.getpgrp(),
        os.getsid(0),
    )


def _number_of_process(status: socket.socket) -> int | None:
    """Number of a process, ``None`` if the server cannot serve any more."""
    message = status.recv(server.STATUS.size)
    if not message:
        return None
    number: int = server.STATUS.unpack(message)[0]
    if number < 0:
        raise OSError(-number, os.strerror(-number))
    return number


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


_servers = _Servers()


def _forget_servers() -> None:
    global _servers
    _servers.forget()
    _servers = _Servers()


os.register_at_fork(after_in_child=_forget_servers)
