"""Whatever a test does, it leaves no thread and no process."""

from __future__ import annotations

from collections.abc import Iterator
import gc
import os
import threading
import time

import psutil
import pytest


# Live as long as the process that needs them:
# the threads of dask's clients.
LASTING_THREADS = (
    "Dask-",
    "Profile",
    "IO loop",
    "TCP-",
    "AsyncProcess",
)


def _threads() -> set[threading.Thread]:
    return {
        thread
        for thread in threading.enumerate()
        if not thread.name.startswith(LASTING_THREADS)
    }


def _lasts(process: psutil.Process) -> bool:
    """Whether a process is a service for others, which ends with this one."""
    command = " ".join(process.cmdline())
    # Forks of a server have its command
    is_server = "parallel.server" in command and process.ppid() == os.getpid()
    return is_server or "resource_tracker" in command


def _processes() -> set[psutil.Process]:
    processes = set()
    for process in psutil.Process().children(recursive=True):
        try:
            if not _lasts(process):
                processes.add(process)
        except psutil.NoSuchProcess:
            pass
    return processes


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail if a thread or process outlives the test."""
    if "cluster" in request.fixturenames:
        request.getfixturevalue("cluster")
    threads = _threads()
    processes = _processes()
    yield
    gc.collect()
    # The end of a process is seen a moment after it was waited for,
    # and a thread of a pool that was dropped ends a moment after the pool
    end = time.monotonic() + 1
    while _left(threads, processes) and time.monotonic() < end:
        time.sleep(0.01)
    assert not _left(threads, processes)


def _left(
    threads: set[threading.Thread],
    processes: set[psutil.Process],
) -> set[threading.Thread | psutil.Process]:
    """What there is beside these threads and processes."""
    return (_threads() - threads) | (_processes() - processes)
