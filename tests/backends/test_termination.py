"""What has to be cleaned up is, even if the process is asked to end."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from types import FrameType

import pytest

from audmodel.core.backend import conditions
from audmodel.core.process.termination import terminable
from tests.conftest import ROOT


pytestmark = pytest.mark.usefixtures("unmeasured")

SCRIPT = """
import os, signal, time
from audmodel.core.process.termination import terminable

try:
    with terminable():
        try:
            with terminable():
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(60)
        finally:
            # Asking again does not interrupt this
            os.kill(os.getpid(), signal.SIGTERM)
            print("inside", flush=True)
finally:
    print("outside", flush=True)
"""


def test_clean_up_comes_first() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=30,
        check=False,
    )
    assert done.stdout == "inside\n"
    assert done.returncode == -signal.SIGTERM, done.stderr


def test_the_handler_of_the_program_stays() -> None:
    calls: list[int] = []

    def handler(number: int, _: FrameType | None) -> None:
        calls.append(number)

    before = signal.signal(signal.SIGTERM, handler)
    try:
        with terminable():
            signal.raise_signal(signal.SIGTERM)
        assert calls == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_nothing_is_left_behind() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with terminable():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(ValueError, match="inside"), terminable():
        raise ValueError("inside")
    assert signal.getsignal(signal.SIGTERM) is before


def test_other_threads() -> None:
    seen: list[object] = []

    def run() -> None:
        with terminable():
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]


def ended_by(code: str) -> subprocess.CompletedProcess[str]:
    """Run a program that is asked to end."""
    head = SCRIPT.split("\ntry:")[0]
    return subprocess.run(
        [sys.executable, "-c", head + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=30,
        check=False,
    )


def test_an_exception_that_got_lost() -> None:
    """Python ignores it where a destructor runs, and anybody may catch it."""
    done = ended_by(
        """
        class Object:
            def __del__(self):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(1)

        with terminable():
            Object()
            print("goes on", flush=True)
        print("outside", flush=True)
        """
    )
    assert done.stdout == "goes on\n"
    assert done.returncode == -signal.SIGTERM, done.stderr


def test_a_child_process_ends_at_once() -> None:
    done = ended_by(
        """
        with terminable():
            pid = os.fork()
            if not pid:
                try:
                    time.sleep(60)
                finally:
                    print("child cleans up", flush=True)
            time.sleep(0.3)
            os.kill(pid, signal.SIGTERM)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        """
    )
    assert done.stdout == f"{-signal.SIGTERM}\n", done.stderr
    assert done.returncode == 0


def test_the_first_of_all_moments() -> None:
    """Signals that come while handlers are put in place or taken away."""
    done = ended_by(
        """
        import sys, random
        seed = random.Random(3)
        for number in range(60):
            pid = os.fork()
            if not pid:
                left = seed.randrange(400)
                def trace(frame, event, argument):
                    global left
                    left -= 1
                    if not left:
                        sys.settrace(None)
                        os.kill(os.getpid(), signal.SIGTERM)
                    return trace
                sys.settrace(trace)
                try:
                    with terminable():
                        pass
                except SystemExit:
                    pass
                sys.settrace(None)
                # The signal was neither lost nor is it ignored from now on
                os.kill(os.getpid(), signal.SIGTERM)
                os._exit(1)
            seed.random()
            assert os.waitpid(pid, 0)[1] == signal.SIGTERM
        """
    )
    assert done.returncode == 0, done.stderr


def test_writers_that_cannot_all_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were do not wait for the others for ever, and write for them."""
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def limited(self: threading.Thread) -> None:
        if len(started) == 3:
            raise RuntimeError("can't start new thread")
        started.append(self)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", limited)
    monkeypatch.setattr(conditions, "_MEETING", 0.2)
    assert len(conditions.race(8, lambda _: True)) == 8
    assert not any(thread.is_alive() for thread in started)
