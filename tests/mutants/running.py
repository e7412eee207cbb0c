"""Run tests in forks of a process that has imported what they need.

A copy of the project is changed, so that one may work on the project meanwhile.

"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from collections.abc import Iterator
import contextlib
import ctypes
import dataclasses
import hashlib
import importlib
import itertools
import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import traceback
from typing import Any
import venv

import coverage
import psutil
import pytest


_PREPARED = ["audbackend", "boto3", "hypothesis", "requests", "trustme", "yaml"]
_PR_SET_CHILD_SUBREAPER = 36
_COVERAGE = "[run]\nsource = audmodel\nconcurrency = thread\n"
_FOREIGN = 99


@contextlib.contextmanager
def copied(root: Path) -> Iterator[tuple[Path, Path]]:
    """A copy of a project, of what is not committed as well, and a Python for it."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=root, stdout=subprocess.PIPE, check=True)
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        folder = Path(name).resolve()
        # Tests become other users, who have to get in
        folder.chmod(0o755)
        copy = folder / "project"
        for path in filter(None, names.stdout.decode().split("\0")):
            if (root / path).is_file():
                (copy / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / path, copy / path)
        (copy / ".venv-1.5.3").symlink_to(root / ".venv-1.5.3")
        venv.create(folder / "venv", symlinks=True)
        paths = sysconfig.get_path("purelib", vars={"base": str(folder / "venv")})
        # All that is installed, but for the project itself, which is another path
        lines = f"{copy}\n{sysconfig.get_path('purelib')}\n"
        Path(paths, "copy.pth").write_text(lines)
        programs = folder / "venv" / "bin"
        for program in Path(sys.executable).parent.iterdir():
            # The command of the package would run the project itself
            if program.name != "audmodel" and not (programs / program.name).exists():
                (programs / program.name).symlink_to(program)
        yield copy, programs / "python"


def prepare() -> None:
    """Import what tests need, and become the parent of what they leave."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for module in _PREPARED:
        importlib.import_module(module)


_ticks = itertools.count(int(time.time()) - 10**7, 10)


def write(path: Path, content: bytes) -> None:
    """Replace a module, in such a way that no earlier bytecode is taken for its."""
    path.write_bytes(content)
    tick = next(_ticks)
    os.utime(path, (tick, tick))


class Recorder:
    """Choose tests, and remember how they ended.

    Args:
        chosen: tests to run, in this order, all of the quick ones if ``None``

    """

    def __init__(self, chosen: Collection[str] | None = None) -> None:
        self._order = None if chosen is None else {x: k for k, x in enumerate(chosen)}
        self.seconds: dict[str, float] = defaultdict(float)
        self.failed: list[str] = []
        self.passed: set[str] = set()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self._order is not None:
            order = self._order
            items[:] = [item for item in items if item.nodeid in order]
            items.sort(key=lambda item: order[item.nodeid])

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.duration
        if report.failed:
            self.failed.append(report.nodeid)
        elif report.when == "call" and report.passed:
            self.passed.add(report.nodeid)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How tests ended: ``failed`` names the first one, ``seconds`` all that passed."""

    hung: bool
    failed: list[str]
    seconds: dict[str, float]


def run(
    copy: Path,
    files: Collection[str],
    limit: float,
    *,
    chosen: Collection[str] | None = None,
    options: Collection[str] = (),
) -> Outcome:
    """Run tests in a fork, which is killed with all it started if it takes too long."""
    temporary = copy.parent / "temporary"
    temporary.mkdir()
    temporary.chmod(0o1777)
    result = copy.parent / "result.json"
    result.unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        _run_here(copy, files, chosen, options, temporary, result)
    try:
        ended = _wait(pid, limit)
    finally:
        _end_all()
        shutil.rmtree(temporary, ignore_errors=True)
    if ended == _FOREIGN:
        raise RuntimeError("The tests did not import the copy of the package.")
    if not result.exists():
        # It ended at once, by a crash or by the time limit of a test
        return Outcome(ended is None, [f"exit status {ended}"], {})
    return Outcome(False, **json.loads(result.read_text()))


def _wait(pid: int, limit: float) -> int | None:
    """Exit status of a process, ``None`` if it is still running."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            # Other processes become our children when theirs is gone
            ended, status = os.waitpid(-1, os.WNOHANG)
            if ended == pid:
                return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    return None


def _end_all() -> None:
    """Kill what was started, and what that has started."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            process.kill()
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, 0):
            pass


def _run_here(
    copy: Path,
    files: Collection[str],
    chosen: Collection[str] | None,
    options: Collection[str],
    temporary: Path,
    result: Path,
) -> None:
    try:
        os.setsid()
        with (copy.parent / "output").open("wb") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        recorder = Recorder(chosen)
        arguments = ["-x"] if chosen is not None else []
        arguments += ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", *options]
        ignored = "ignore:Module already imported:pytest.PytestAssertRewriteWarning"
        status = pytest.main([*arguments, "-W", ignored, *files], [recorder])
        package = sys.modules.get("audmodel")
        if package and not str(package.__file__).startswith(str(copy)):
            os._exit(_FOREIGN)
        if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            recorder.failed.append(f"pytest ended with {status!r}")
        passed = {x: recorder.seconds[x] for x in recorder.passed}
        result.write_text(json.dumps({"failed": recorder.failed, "seconds": passed}))
    except BaseException:  # noqa: BLE001 - a fork must not go on as its parent would
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


# What reaches what --------------------------------------------------------------


class Reach:
    """Which tests reach which lines, and how long they take.

    Args:
        copy: copy of the project
        folder: remembers what was measured

    """

    def __init__(self, copy: Path, folder: Path) -> None:
        self._copy = copy
        self._folder = folder
        self._known: dict[str, dict[str, Any]] = {}

    def measure(self, files: Collection[str], deadline: float) -> bool:
        """Run the tests of files, unless that is known of them and of the package.

        Returns:
            whether it was done in time

        """
        for file in files:
            if file not in self._known:
                if time.monotonic() > deadline:
                    return False
                self._known[file] = self._remembered(file)
        return True

    def _remembered(self, file: str) -> dict[str, Any]:
        digest = hashlib.sha256((self._copy / file).read_bytes())
        for path in sorted(self._copy.glob("audmodel/**/*.py")):
            digest.update(path.read_bytes())
        known = self._folder / f"{digest.hexdigest()[:16]}.json"
        if not known.exists():
            found = self._measured(file)
            # Another process may read it at any time
            part = known.with_suffix(f".{os.getpid()}")
            part.write_text(json.dumps(found))
            part.rename(known)
        return dict(json.loads(known.read_text()))

    def _measured(self, file: str) -> dict[str, Any]:
        config, data = (self._copy.parent / name for name in ("coveragerc", "data"))
        config.write_text(_COVERAGE)
        data.unlink(missing_ok=True)
        os.environ["COVERAGE_FILE"] = str(data)
        options = ["--cov", f"--cov-config={config}", "--cov-report="]
        outcome = run(self._copy, [file], 600, options=[*options, "--cov-context=test"])
        del os.environ["COVERAGE_FILE"]
        reached = coverage.CoverageData(str(data))
        reached.read()
        numbers = {test: k for k, test in enumerate(outcome.seconds)}
        lines: dict[str, dict[int, list[int]]] = {}
        for path in reached.measured_files():
            name = str(Path(path).relative_to(self._copy))
            lines[name] = {}
            for line, contexts in reached.contexts_by_lineno(path).items():
                tests = {context.rpartition("|")[0] for context in contexts}
                lines[name][line] = [numbers[x] for x in tests & numbers.keys()]
        return {"seconds": outcome.seconds, "failed": outcome.failed, "lines": lines}

    def failed(self) -> list[str]:
        """Tests that fail without any change."""
        return [test for known in self._known.values() for test in known["failed"]]

    def choose(
        self,
        files: Collection[str],
        module: str,
        lines: range,
        budget: float,
        *,
        guess: bool,
    ) -> dict[str, float]:
        """Tests of some lines and their seconds, those that are over soonest first.

        If none is known to reach the lines, a guess takes all tests:
        processes that tests start, and the import, may reach them.

        """
        seconds: dict[str, float] = {}
        reaching: set[str] = set()
        for known in (self._known[file] for file in files):
            seconds.update(known["seconds"])
            names = list(known["seconds"])
            reached = known["lines"].get(module, {})
            for line in lines:
                reaching.update(names[k] for k in reached.get(str(line), ()))
        if guess and not reaching:
            reaching.update(seconds)
        tests = sorted(reaching, key=seconds.__getitem__)
        sums = itertools.accumulate(seconds[test] for test in tests)
        return {
            test: seconds[test]
            for test, total in zip(tests, sums)
            if total <= budget or test == tests[0]
        }
