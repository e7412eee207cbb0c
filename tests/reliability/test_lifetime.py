"""Processes that live long: they fork, start threads, and end in their own way."""

from __future__ import annotations

from collections.abc import Iterator
import json
from pathlib import Path
import random

import pytest

import audmodel
from tests.backends import seaweedfs
from tests.behaviour.backends import BACKENDS
from tests.processes import Interpreter


# Of each family of faults
pytestmark = pytest.mark.sample(1)


# Modules that a first call imports, the last one not by a statement of audmodel
FIRST_IMPORTS = (
    "audmodel.core.repository.lookup",
    "audbackend",
    "filelock",
    "blake3",
    "wave",
)
# Ends a process that hangs, before the test does
PATIENCE = 20


@pytest.fixture
def uid(repository: audmodel.Repository, model_folder: Path) -> str:
    uid = audmodel.publish(str(model_folder), "name", {}, "1.0.0")
    audmodel.update_meta(uid, {"uar": 0.7})
    return uid


# Forks ---------------------------------------------------------------------


@pytest.mark.sample(2)
@pytest.mark.parametrize("module", FIRST_IMPORTS)
def test_a_fork_during_the_first_call_of_a_thread_loads(
    python: Interpreter, uid: str, module: str
) -> None:
    code = """
    import signal, threading
    is_importing = threading.Event()
    class Slow:
        def find_spec(self, name, path=None, target=None):
            if name == args["module"] and not is_importing.is_set():
                is_importing.set()
                time.sleep(0.5)
    sys.meta_path.insert(0, Slow())
    def call():
        audmodel.load(args["uid"], num_workers=2)
        __import__(args["module"])
    thread = threading.Thread(target=call)
    thread.start()
    assert is_importing.wait(args["patience"])
    pid = os.fork()
    if not pid:
        signal.alarm(args["patience"])
        call()
        os._exit(0)
    thread.join()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    """
    assert python.run(code, uid=uid, module=module, patience=PATIENCE) == 0


def test_a_fork_while_an_attribute_is_computed_computes_it_as_well(
    python: Interpreter,
) -> None:
    code = """
    import signal, threading
    from audmodel.core.process.lazy import lazy
    is_computing, is_forked = threading.Event(), threading.Event()
    class Slow:
        @lazy
        def attribute(self):
            if not is_computing.is_set():
                is_computing.set()
                is_forked.wait(args["patience"])
            return "value"
    thread = threading.Thread(target=lambda: Slow().attribute)
    thread.start()
    is_computing.wait(args["patience"])
    pid = os.fork()
    if not pid:
        signal.alarm(args["patience"])
        os._exit(Slow().attribute != "value")
    is_forked.set()
    thread.join()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    """
    assert python.run(code, patience=PATIENCE) == 0


# The end of the interpreter --------------------------------------------------

WORKS = """
    import atexit, threading
    def work():
        model = audmodel.load(args["uid"], num_workers=args["workers"])
        both = audmodel.load([args["uid"]] * 2, num_workers=args["workers"])
        paths = list(audmodel.stream(args["uid"], num_workers=args["workers"]))
        meta = audmodel.update_meta(args["uid"], {"late": True})
        found = [model.uid for model in audmodel.models(num_workers=args["workers"])]
        os.write(2, json.dumps([len(os.listdir(model)), meta, found]).encode())
"""
AT_EXIT = """
    atexit.register(work)
"""
IN_A_THREAD_THAT_OUTLIVES_THE_MAIN_THREAD = """
    def outlive():
        threading.main_thread().join()
        work()
    threading.Thread(target=outlive).start()
"""
WHILE_THE_MAIN_THREAD_ENDS = """
    from audmodel.core.backend.filesystem import FileSystem
    original = FileSystem.read_object
    is_reading = threading.Event()
    def read_object(*arguments):
        is_reading.set()
        time.sleep(0.05)
        return original(*arguments)
    FileSystem.read_object = read_object
    threading.Thread(target=work).start()
    is_reading.wait(args["patience"])
"""


@pytest.mark.sample(3)
@pytest.mark.parametrize("workers", [4, 1])
@pytest.mark.parametrize(
    "end",
    [AT_EXIT, IN_A_THREAD_THAT_OUTLIVES_THE_MAIN_THREAD, WHILE_THE_MAIN_THREAD_ENDS],
    ids=["atexit", "outlive", "meanwhile"],
)
def test_a_process_that_ends_works(
    python: Interpreter, uid: str, end: str, workers: int
) -> None:
    process = python.start(WORKS + end, uid=uid, workers=workers, patience=PATIENCE)
    _, output = process.process.communicate(timeout=PATIENCE)
    assert process.process.returncode == 0, output
    assert output.startswith("["), output
    assert json.loads(output) == [4, {"uar": 0.7, "late": True}, [uid]]


# Servers that fork their workers ---------------------------------------------


@pytest.fixture(params=["file-system", "s3"])
def served(
    request: pytest.FixtureRequest, cache: Path, tmp_path: Path
) -> Iterator[str]:
    """A model of some megabytes in a repository, the only one configured."""
    folder = tmp_path / "served"
    folder.mkdir()
    pattern = random.Random(7)
    (folder / "large").write_bytes(pattern.randbytes(9_000_000))
    for number in range(20):
        (folder / f"small-{number}").write_bytes(pattern.randbytes(1000))
    with BACKENDS[request.param](request) as repository:
        audmodel.config.REPOSITORIES = [repository]
        yield audmodel.publish(str(folder), "name", {}, "1.0.0", num_workers=4)


SERVER = """
    import shutil, signal, tempfile, threading, traceback
    def serve(number):
        cache = tempfile.mkdtemp(dir=args["folder"])
        for workers in (1, 4):
            root = audmodel.load(args["uid"], cache_root=cache, num_workers=workers)
            assert len(os.listdir(root)) == 21
            assert audmodel.remove_cached(args["uid"], cache_root=cache)
        assert len(list(audmodel.stream(args["uid"], cache_root=cache))) == 21
        audmodel.update_meta(args["uid"], {f"worker-{number}": number})
        assert audmodel.load(args["uid"]), "the cache of all"
    def fork(number):
        pid = os.fork()
        if pid:
            return pid
        try:
            signal.alarm(args["patience"])
            serve(number)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    def wait(pids):
        return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
"""
PRELOADS = """
    # The master loads before it forks, and goes on while its workers work
    audmodel.load(args["uid"], num_workers=4)
    codes = wait([fork(number) for number in range(3)])
    serve("master")
    return codes
"""
IN_THE_MIDDLE_OF_A_LOAD = """
    is_over = threading.Event()
    def keep_loading():
        while not is_over.is_set():
            serve("thread")
    threads = [threading.Thread(target=keep_loading) for _ in range(2)]
    for thread in threads:
        thread.start()
    pids = []
    for number in range(4):
        time.sleep(0.15)
        pids.append(fork(number))
    codes = wait(pids)
    is_over.set()
    for thread in threads:
        thread.join()
    return codes
"""
REPLACES_ITS_WORKERS = """
    # Nothing but the import happens before a fork
    return [wait([fork(number)])[0] for number in range(3)]
"""


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "server",
    [PRELOADS, IN_THE_MIDDLE_OF_A_LOAD, REPLACES_ITS_WORKERS],
    ids=["preload", "middle", "replace"],
)
def test_workers_of_a_server_load(
    python: Interpreter, served: str, server: str, tmp_path: Path
) -> None:
    folder = tmp_path / "caches"
    folder.mkdir()
    codes = python.run(
        SERVER + server, uid=served, folder=str(folder), patience=PATIENCE
    )
    assert codes == [0] * len(codes)
    workers = {f"worker-{number}": number for number in range(len(codes))}
    assert workers.items() <= audmodel.meta(served).items()


# A notebook that stays open for a week ---------------------------------------

WEEK = """
    import gc, random, subprocess, threading
    def call(function, *arguments, **options):
        # Threads come and go
        results = []
        def run():
            results.append(function(*arguments, **options))
        thread = threading.Thread(target=run)
        thread.start()
        thread.join(args["patience"])
        return results[0]
    def age(seconds):
        for root, folders, names in os.walk(args["cache"]):
            for name in [*folders, *names]:
                path = os.path.join(root, name)
                if not os.path.islink(path):
                    used = os.stat(path).st_mtime - seconds
                    os.utime(path, (used, used))
    def held():
        gc.collect()
        return len(os.listdir("/proc/self/fd")), threading.active_count()
    def others(code):
        # Another process takes care of the same cache
        code = f"import datetime, audmodel; {code}"
        subprocess.run([sys.executable, "-c", code], check=True)
    prune = "audmodel.prune_cache(max_age=datetime.timedelta(days=1), cache_root={!r})"
    prune = prune.format(args["cache"])
    seen = []
    for day in range(7):
        root = call(audmodel.load, args["uid"], num_workers=4)
        assert len(os.listdir(root)) == 21
        with audmodel.open(args["uid"], "large") as file:
            assert len(file.read()) == 9_000_000
            # What is open stays so, whatever happens to the cache
            age(86400 * 2)
            others(prune)
            assert not os.path.exists(root)
            file.seek(0)
            assert len(file.read()) == 9_000_000
        paths = call(audmodel.stream, args["uid"], files="small-*", num_workers=2)
        assert len(list(paths)) == 20
        call(audmodel.update_meta, args["uid"], {"day": day})
        assert audmodel.meta(args["uid"])["day"] == day
        seen.append(held())
    return seen
"""


@pytest.mark.sample(1)
def test_a_notebook_lives_for_a_week(
    python: Interpreter, served: str, cache: Path
) -> None:
    seen = python.run(WEEK, uid=served, cache=str(cache), patience=PATIENCE)
    assert len(seen) == 7
    # Nothing grows from day to day
    assert max(seen[3:]) <= max(seen[:3])
    assert audmodel.meta(served) == {"day": 6}


ROTATION = """
    import tempfile
    seen = []
    for keys in args["keys"]:
        path = os.path.expanduser("~/.aws/credentials")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(f"{path}.new", "w") as file:
            file.write("[default]\\n")
            file.write(f"aws_access_key_id = {keys[0]}\\n")
            file.write(f"aws_secret_access_key = {keys[1]}\\n")
        os.replace(f"{path}.new", path)
        # A worker that was forked from a process with older ones, too
        pid = os.fork()
        try:
            audmodel.load(args["uid"], cache_root=tempfile.mkdtemp())
            found = "loaded"
        except audmodel.errors.RepositoryError:
            found = "refused"
        if not pid:
            os._exit(0 if found == "loaded" else 1)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        seen.append([found, code])
    return seen
"""


@pytest.mark.parametrize("served", ["s3"], indirect=True)
def test_credentials_are_rotated(
    python: Interpreter, served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    keys = [
        (seaweedfs.ACCESS_KEY, seaweedfs.SECRET_KEY),
        ("expired", "expired"),
        (seaweedfs.READER_ACCESS_KEY, seaweedfs.READER_SECRET_KEY),
        (seaweedfs.ACCESS_KEY, seaweedfs.SECRET_KEY),
    ]
    seen = python.run(ROTATION, uid=served, keys=keys)
    loaded, refused = ["loaded", 0], ["refused", 1]
    assert seen == [loaded, refused, loaded, loaded]
