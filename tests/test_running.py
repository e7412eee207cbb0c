"""Tests give the same result however they are started."""

from __future__ import annotations

import os
from pathlib import Path
import signal
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import ROOT


def run_pytest(*arguments: str | Path, **options: Any) -> str:
    """Output of pytest in a process of its own, with what is set up for all tests."""
    result: subprocess.CompletedProcess[str] = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", "/dev/null", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
        **options,
    )
    return result.stdout


@pytest.fixture(params=["0", "2"], ids=["one process", "two workers"])
def options(request: pytest.FixtureRequest) -> list[str]:
    return ["-p", "tests.conftest", "-W", "ignore", "-n", request.param]


# Signals ---------------------------------------------------------------------

SIGNALS = r"""
import signal
import subprocess
import sys

SHOW = '''
import signal
print(*(int(signal.getsignal(n) is signal.SIG_IGN) for n in (1, 2, 3, 15)))
print(signal.pthread_sigmask(signal.SIG_BLOCK, []))
'''

def test_signals():
    shown = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True)
    assert shown.stdout.splitlines() == ["0 0 0 0", "set()"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""


def ignore_signals() -> None:
    """Be what a script starts in the background, with nohup."""
    ignored = [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM]
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, ignored)


def test_ignored_signals_reach_what_tests_start(
    tmp_path: Path, options: list[str]
) -> None:
    test = tmp_path / "test_signals.py"
    test.write_text(SIGNALS)
    output = run_pytest(
        *options, test, preexec_fn=ignore_signals, start_new_session=True
    )
    assert "1 passed" in output, output


# Temporary folders -----------------------------------------------------------

LETS_IN = """
import os
import subprocess
import sys
import tempfile
from tests.users import let_in

def test_lets_in(tmp_path):
    let_in(tmp_path)
    options = ["-c", "/dev/null", "-p", "tests.conftest", "-W", "ignore"]
    command = [sys.executable, "-m", "pytest", *options, __file__, "-k", "other"]
    subprocess.run(command, check=True)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to(tempfile.gettempdir()):
            assert folder.stat().st_mode & 0o055 == 0o055

def test_other(tmp_path):
    assert os.listdir(tmp_path) == []
"""


def test_folders_stay_open_while_other_tests_run(tmp_path: Path) -> None:
    test = tmp_path / "test_folders.py"
    test.write_text(LETS_IN)
    output = run_pytest("-p", "tests.conftest", "-W", "ignore", test)
    assert "2 passed" in output, output


# The released version --------------------------------------------------------

RELEASED = """
def test_released(released_python):
    pass
"""


def test_every_worker_knows_the_released_python_that_was_chosen(
    tmp_path: Path,
) -> None:
    test = tmp_path / "test_released.py"
    test.write_text(RELEASED)
    missing = tmp_path / "python"
    output = run_pytest(
        *("-p", "tests.conftest", "-W", "ignore", "-n", "2", test),
        env={**os.environ, "AUDMODEL_RELEASED_PYTHON": str(missing)},
    )
    assert f"There is no {missing}" in output, output


# Parts -----------------------------------------------------------------------

FAMILIES = """
import pytest

def test_plain():
    pass

@pytest.mark.thorough
def test_thorough():
    pass

@pytest.mark.sample(2)
@pytest.mark.parametrize("number", range(10))
def test_family(number):
    pass
"""


@pytest.mark.parametrize(("part", "passed"), [("quick", 3), ("rest", 9), ("all", 12)])
def test_parts_make_up_the_whole(tmp_path: Path, part: str, passed: int) -> None:
    test = tmp_path / "test_families.py"
    test.write_text(FAMILIES)
    output = run_pytest(*("-p", "tests.conftest", "-W", "ignore", "--part", part, test))
    assert f"{passed} passed" in output, output


# Programs --------------------------------------------------------------------

PROGRAMS = """
import pytest
from tests.parts import skip_without

@pytest.mark.parametrize("number", range(3))
def test_needs_a_program(number):
    skip_without("frobnicate")
"""


@pytest.mark.sample(1)
def test_the_last_line_names_programs_that_were_missing(
    tmp_path: Path, options: list[str]
) -> None:
    test = tmp_path / "test_programs.py"
    test.write_text(PROGRAMS)
    output = run_pytest(*options, test)
    last = output.splitlines()[-1]
    assert last == "Missing programs: frobnicate (3 tests left out)", output
