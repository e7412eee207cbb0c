"""Ctrl-C and SIGTERM at any time, and forks in between."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
import random
import shutil
import signal
import tempfile
import time

import pytest

import audmodel
from tests.behaviour.backends import content
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.behaviour.backends import s3
from tests.processes import Interpreter
from tests.reliability.conftest import patience
from tests.reliability.test_races import RACE


# Of each family of faults
pytestmark = pytest.mark.sample(1)


Count = Callable[[str, int], None]

SIGNALS = (signal.SIGINT, signal.SIGTERM)

# Starts an operation in forks and sends each a signal after a while
INTERRUPT = """
    import signal, threading
    def interrupted(function, number, seconds):
        ready, done = os.pipe(), os.pipe()
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.write(ready[1], b"x")
            try:
                function()
                code = 0
            except KeyboardInterrupt:
                # Nobody else is at work any more,
                # a thread that was just about to start ends at once,
                # if the machine has time for it
                deadline = time.monotonic() + 1.5
                while threading.active_count() > 1 and time.monotonic() < deadline:
                    time.sleep(0.001)
                code = 10 + threading.active_count()
            except BaseException:
                traceback.print_exc()
                code = 1
            os._exit(code)
        os.read(ready[0], 1)
        for fd in ready + done:
            os.close(fd)
        time.sleep(seconds)
        start = time.monotonic()
        os.kill(pid, number)
        status = os.waitpid(pid, 0)[1]
        return [os.waitstatus_to_exitcode(status), time.monotonic() - start]
    def slow(seconds):
        # As fast as a link, not as a disk
        from audmodel.core.backend.reader import FileReader
        original = FileReader._readinto
        def readinto(self, offset, view):
            time.sleep(seconds)
            original(self, offset, view)
        FileReader._readinto = readinto
"""


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, as nothing ends a process that waits for a busy disk."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or shutil.disk_usage(memory).free < 1 << 30:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="audmodel-") as folder:
        yield Path(folder)


@pytest.fixture
def large_folder(tmp_path: Path) -> Path:
    root = tmp_path / "large"
    (root / "sub").mkdir(parents=True)
    pattern = random.Random(5)
    for number in range(4):
        (root / "sub" / f"large-{number}").write_bytes(pattern.randbytes(10_000_000))
    for number in range(50):
        (root / f"small-{number}").write_bytes(pattern.randbytes(1000))
    return root


def run(python: Interpreter, code: str, **arguments: object) -> list[list[float]]:
    lines = [*RACE.splitlines(), *INTERRUPT.replace("\n    ", "\n").splitlines()]
    body = "\n".join([*lines, *code.replace("\n    ", "\n").splitlines()])
    results: list[list[float]] = python.start(body, **arguments).result(patience())
    return results


def check(results: list[list[float]], number: signal.Signals) -> int:
    """Check how each process has ended, return how many were interrupted."""
    interrupted = 0
    for code, seconds in results:
        if code == 0:
            continue
        interrupted += 1
        assert code == (11 if number == signal.SIGINT else -signal.SIGTERM)
        assert seconds < 2
    return interrupted


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("workers", [1, 8])
def test_load(
    workers: int,
    number: signal.Signals,
    repository: audmodel.Repository,
    python: Interpreter,
    large_folder: Path,
    cache: Path,
    chance: random.Random,
    torture: int,
    count: Count,
) -> None:
    uid = publish(large_folder)
    code = """
    slow(0.04 * args["workers"])
    results = []
    for seconds in args["delays"]:
        load = lambda: audmodel.load(args["uid"], num_workers=args["workers"])
        results.append(interrupted(load, args["signal"], seconds))
        parent = os.path.join(args["cache_root"], args["uid"].split("-")[0])
        left = os.listdir(parent) if os.path.exists(parent) else []
        # A load that goes on from another one moves its files, and is interrupted
        # before, after or while it does: nothing is kept twice
        attempts = [os.path.join(parent, n) for n in left if n.startswith(".1.0.0~")]
        kept = [
            os.path.relpath(os.path.join(folder, name), attempt)
            for attempt in attempts
            for folder, _, names in os.walk(attempt)
            for name in names
        ]
        assert len(kept) == len(set(kept)), kept
        if "1.0.0" in left:
            shutil.rmtree(args["cache_root"])
    return results
    """
    # The first one comes early enough on any machine
    delays = [0.1, *(chance.uniform(0, 0.4) for _ in range(7 + 12 * torture))]
    results = run(
        python, code, uid=uid, workers=workers, signal=int(number), delays=delays
    )
    interrupted = check(results, number)
    assert interrupted
    start = time.monotonic()
    root = audmodel.load(uid, timeout=0)
    assert time.monotonic() - start < 5
    assert files(root) == files(large_folder)
    assert not list(Path(root).parent.glob(".*~*"))
    count("load calls ended by a signal within 2 s (file-system)", interrupted)


@pytest.mark.thorough
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("workers", [1, 8])
def test_publish(
    workers: int,
    number: signal.Signals,
    repository: audmodel.Repository,
    python: Interpreter,
    large_folder: Path,
    chance: random.Random,
    torture: int,
    count: Count,
) -> None:
    code = """
    # As slow as a disk in demand
    from audmodel.core.archive import writer
    original = writer._read
    def read(*arguments):
        time.sleep(0.01)
        return original(*arguments)
    writer._read = read
    results, unclean = [], []
    host = os.path.join(args["repositories"][0][1], "models")
    for seconds in args["delays"]:
        publish = lambda: audmodel.publish(
            args["root"], "torch", {}, "1.0.0", compression=9,
            num_workers=args["workers"],
        )
        results.append(interrupted(publish, args["signal"], seconds))
        uid = audmodel.uid("torch", {}, "1.0.0")
        left = [name for _, _, names in os.walk(host) for name in names]
        if audmodel.exists(uid):
            assert len(left) == 3, left
        elif left and not {f"{uid}.zip", f"{uid}.meta.yaml"} <= set(left):
            # While the header is stored nobody knows whether it is needed
            unclean.append(left)
        shutil.rmtree(host)
        os.mkdir(host)
    # A signal may come between the making of a file and the note of it
    assert len(unclean) <= len(results) // 50, unclean
    return results
    """
    delays = [0.1, *(chance.uniform(0, 0.5) for _ in range(7 + 12 * torture))]
    results = run(
        python,
        code,
        root=str(large_folder),
        workers=workers,
        signal=int(number),
        delays=delays,
    )
    interrupted = check(results, number)
    assert interrupted
    uid = publish(large_folder)
    assert files(audmodel.load(uid)) == files(large_folder)
    assert len(content(repository)) == 3
    count("publish calls ended by a signal within 2 s (file-system)", interrupted)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("operation", ["load", "publish"])
def test_s3(
    operation: str,
    number: signal.Signals,
    request: pytest.FixtureRequest,
    cache: Path,
    python: Interpreter,
    large_folder: Path,
    chance: random.Random,
    torture: int,
    count: Count,
) -> None:
    code = """
    # Forks must not share connections
    import audmodel.core.backend.s3.backend, audmodel.core.backend.s3.client
    results = []
    for n, seconds in enumerate(args["delays"]):
        def load():
            audmodel.load(args["uid"], num_workers=4)
        def publish():
            audmodel.publish(args["root"], "torch", {}, f"{n}.0.0", num_workers=4)
        function = {"load": load, "publish": publish}[args["operation"]]
        results.append(interrupted(function, args["signal"], seconds))
        shutil.rmtree(args["cache_root"], ignore_errors=True)
    return results
    """
    delays = [chance.uniform(0, 0.8) for _ in range(2 + 18 * torture)]
    with s3(request) as place:
        audmodel.config.REPOSITORIES = [place]
        uid = publish(large_folder)
        results = run(
            python,
            code,
            uid=uid,
            root=str(large_folder),
            operation=operation,
            signal=int(number),
            delays=delays,
        )
        interrupted = check(results, number)
        # No upload goes on, no claim is held
        left = [item.kind for item in audmodel.leftovers(place, min_age=0)]
        assert "claim" not in left
        # While one of its parts is sent nobody knows whether it arrives
        assert left.count("upload") <= len(delays) // 10
        assert files(audmodel.load(uid)) == files(large_folder)
    count(f"{operation} calls ended by a signal within 2 s (s3)", interrupted)


def test_fork_during_load(
    repository: audmodel.Repository,
    python: Interpreter,
    large_folder: Path,
    model_folder: Path,
    torture: int,
    count: Count,
) -> None:
    uid = publish(large_folder)
    small = publish(model_folder, version="2.0.0")
    code = """
    import faulthandler, threading, warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    slow(0.01)
    results = []
    for n in range(args["forks"]):
        cache = os.path.join(args["cache_root"], str(n))
        thread = threading.Thread(
            target=lambda: results.append(
                audmodel.load(args["uid"], num_workers=4, cache_root=cache)
            )
        )
        thread.start()
        time.sleep(0.05)
        pids = []
        for uid in (args["small"], args["uid"]):
            pid = os.fork()
            if not pid:
                # A lock that some other thread held would never be free
                faulthandler.dump_traceback_later(40, exit=True)
                try:
                    # The model that the parent loads is waited for
                    root = audmodel.load(uid, num_workers=2, cache_root=cache)
                    os._exit(0 if os.path.isdir(root) else 1)
                except BaseException:
                    traceback.print_exc()
                    os._exit(2)
            pids.append(pid)
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
        thread.join()
    return results
    """
    forks = 4 + 16 * torture
    results = run(python, code, uid=uid, small=small, forks=forks)
    assert len(results) == forks
    for root in results:
        assert files(str(root)) == files(large_folder)
    count("forks during a load, both load", 2 * forks)
