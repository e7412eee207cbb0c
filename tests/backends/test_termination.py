"""What has to be cleaned up is, even if the process is asked to end."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from types import FrameType

import pytest

from audmodel.core.backend.termination import terminable
from tests.conftest import ROOT


SCRIPT = """
import os, signal, time
from audmodel.core.backend.termination import terminable

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
