"""A signal ends a wait, even if it comes a moment before the wait begins."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from tests.conftest import ROOT


# A signal that is handled by another thread interrupts no wait of the main thread,
# which is what happens if it arrives too early for that
SCRIPT = """
import faulthandler, os, signal, threading, time

faulthandler.dump_traceback_later(20, exit=True)
open_, taken = threading.Event(), threading.Event()
threading.Thread(target=open_.wait, daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])

def interrupt():
    taken.wait()
    time.sleep(0.3)
    global start
    start = time.monotonic()
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()

def call(_=None):
    taken.set()
    open_.wait(60)

try:
    {wait}
except KeyboardInterrupt:
    seconds = time.monotonic() - start
    assert seconds < 5, seconds
    print("interrupted")
"""

WAITS = {
    "prefetch": """
    from audmodel.parallel import prefetch
    list(prefetch(call, [1, 2], on_abort=open_.set))
    """,
    "multiworker": """
    from audmodel.parallel import MultiWorker
    taken.set()
    with MultiWorker(signal.sigwait, 2) as parallel_wait:
        parallel_wait([signal.SIGTERM, signal.SIGTERM])
    """,
    "finish": """
    from audmodel.core.process.requests import finish
    finish(call)
    """,
}


@pytest.mark.sample(1)
@pytest.mark.skipif(os.name == "nt", reason="signals are not sent to threads")
@pytest.mark.parametrize("name", WAITS)
def test_wait_ends(name: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(wait=WAITS[name].strip())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout == "interrupted\n", result.stderr


@pytest.mark.skipif(os.name == "nt", reason="there is no alarm")
def test_time_limit_of_a_handler() -> None:
    """It raises what a wait that is over raises as well."""
    from audmodel.parallel import prefetch

    def handler(number: int, frame: object) -> None:
        raise TimeoutError("of the handler")

    end = threading.Event()
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(TimeoutError, match="of the handler"):
            list(
                prefetch(
                    lambda _: end.wait(20), [1, 2], num_workers=2, on_abort=end.set
                )
            )
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_error_of_a_call_that_timed_out() -> None:
    from audmodel.parallel import prefetch

    def call(_: int) -> None:
        raise TimeoutError("of the call")

    with pytest.raises(TimeoutError, match="of the call"):
        list(prefetch(call, [1]))
    with pytest.raises(TimeoutError, match="of the call"):
        list(prefetch(call, [1, 2]))
