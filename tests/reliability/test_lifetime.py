"""Processes that live long: they fork, start threads, and end in their own way."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
import json
import os
from pathlib import Path
import random
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import pytest

import audmodel
from audmodel.core.backend.artifactory import server as artifactory_server
from audmodel.core.backend.http import transfer
from audmodel.core.backend.s3 import endpoint as s3_endpoint
from tests.backends import artifactory_server as artifactory
from tests.backends import proxy as faults
from tests.backends import seaweedfs
from tests.backends.forget import forget_servers
from tests.backends.proxy import Proxy
from tests.behaviour.backends import BACKENDS
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
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
PATIENCE = 40


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


def test_a_fork_that_waits_for_logging_imports_what_a_thread_begins_to_import(
    python: Interpreter,
) -> None:
    code = """
    import logging.config, signal, threading
    is_configuring, is_forking, is_importing = (threading.Event() for _ in range(3))
    class Slow:
        def find_spec(self, name, path=None, target=None):
            if name == "wave" and not is_importing.is_set():
                is_importing.set()
                time.sleep(0.5)
    sys.meta_path.insert(0, Slow())
    def handler():
        # Here, logging is locked
        is_configuring.set()
        is_importing.wait(args["patience"])
        import colorsys
        return logging.NullHandler()
    def configure():
        logging.config.dictConfig({"version": 1, "handlers": {"null": {"()": handler}}})
    def keep_quiet_and_import():
        is_forking.wait(args["patience"])
        time.sleep(0.1)
        import wave
    threads = [
        threading.Thread(target=target) for target in (configure, keep_quiet_and_import)
    ]
    for thread in threads:
        thread.start()
    is_configuring.wait(args["patience"])
    is_forking.set()
    pid = os.fork()
    if not pid:
        signal.alarm(args["patience"])
        import wave
        os._exit(0)
    for thread in threads:
        thread.join()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    """
    assert python.run(code, patience=PATIENCE) == 0


def test_a_fork_imports_anew_what_a_thread_imports_for_too_long(
    python: Interpreter, tmp_path: Path
) -> None:
    (tmp_path / "outer.py").write_text("import inner\nvalue = inner.value")
    (tmp_path / "inner.py").write_text("begun()\nvalue = 7")
    code = """
    import builtins, signal, threading
    from audmodel.core.process import forks
    forks._TIMEOUT = 0.1
    sys.path.insert(0, args["folder"])
    is_importing, is_forked = threading.Event(), threading.Event()
    def begun():
        is_importing.set()
        is_forked.wait(args["patience"])
    builtins.begun = begun
    thread = threading.Thread(target=lambda: __import__("outer"))
    thread.start()
    is_importing.wait(args["patience"])
    pid = os.fork()
    if not pid:
        signal.alarm(args["patience"])
        is_forked.set()
        import outer
        os._exit(outer.value)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    is_forked.set()
    thread.join()
    return [code, sys.modules["outer"].value]
    """
    assert python.run(code, folder=str(tmp_path), patience=PATIENCE) == [7, 7]


def test_a_fork_waits_for_sessions_that_are_being_made(python: Interpreter) -> None:
    code = """
    import threading
    from audmodel.core.process.shared import Shared
    sessions = Shared()
    is_making, is_made = threading.Event(), threading.Event()
    def make():
        is_making.set()
        time.sleep(0.3)
        is_made.set()
    thread = threading.Thread(target=sessions.get, args=["key", make])
    thread.start()
    is_making.wait(args["patience"])
    pid = os.fork()
    if not pid:
        os._exit(not is_made.is_set())
    thread.join()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    """
    assert python.run(code, patience=PATIENCE) == 0


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


def test_a_fork_while_a_bar_is_drawn_draws_its_own(
    python: Interpreter, uid: str, tmp_path: Path
) -> None:
    code = """
    import io, signal, threading
    is_drawing, is_forked = threading.Event(), threading.Event()
    class Slow(io.StringIO):
        def write(self, text):
            if threading.current_thread() is thread and not is_forked.is_set():
                is_drawing.set()
                is_forked.wait(args["patience"])
            return super().write(text)
    def same(items):
        return items
    def load(cache):
        audmodel.load(args["uid"], cache_root=cache, verbose=True)
        with audmodel.parallel.MultiWorker(same, 1, verbose=True) as worker:
            worker([1])
        return f"Load {args['uid']}" in sys.stderr.getvalue()
    thread = threading.Thread(target=load, args=[args["caches"][0]])
    sys.stderr = Slow()
    thread.start()
    assert is_drawing.wait(args["patience"])
    pid = os.fork()
    if not pid:
        signal.alarm(args["patience"])
        sys.stderr = io.StringIO()
        os._exit(not load(args["caches"][1]))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    is_forked.set()
    signal.alarm(args["patience"])
    thread.join()
    drawn = load(args["caches"][2])
    sys.stderr = sys.__stderr__
    return [code, drawn]
    """
    caches = [str(tmp_path / f"cache-{number}") for number in range(3)]
    assert python.run(code, uid=uid, caches=caches, patience=PATIENCE) == [0, True]


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


@pytest.fixture
def large_model(tmp_path: Path) -> Path:
    """The folder of a model of some megabytes."""
    folder = tmp_path / "large"
    folder.mkdir()
    pattern = random.Random(7)
    (folder / "large").write_bytes(pattern.randbytes(9_000_000))
    for number in range(20):
        (folder / f"small-{number}").write_bytes(pattern.randbytes(1000))
    return folder


@pytest.fixture(params=["file-system", "s3"])
def served(
    request: pytest.FixtureRequest, cache: Path, large_model: Path
) -> Iterator[str]:
    """A model of some megabytes in a repository, the only one configured."""
    with BACKENDS[request.param](request) as repository:
        audmodel.config.REPOSITORIES = [repository]
        yield audmodel.publish(str(large_model), "name", {}, "1.0.0", num_workers=4)


SERVER = """
    import faulthandler, shutil, signal, tempfile, threading, traceback
    def serve(number):
        cache = tempfile.mkdtemp(dir=args["folder"])
        for workers in (1, 4):
            root = audmodel.load(args["uid"], cache_root=cache, num_workers=workers)
            assert len(os.listdir(root)) == 21
            assert audmodel.remove_cached(args["uid"], cache_root=cache)
        assert len(list(audmodel.stream(args["uid"], cache_root=cache))) == 21
        audmodel.update_meta(args["uid"], {f"worker-{number}": number})
        assert audmodel.load(args["uid"]), "the cache of all"
        shutil.rmtree(cache)
    def fork(number):
        pid = os.fork()
        if pid:
            return pid
        try:
            # Says where it hangs
            faulthandler.dump_traceback_later(args["patience"] - 1)
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

RECYCLES_ITS_WORKERS = """
    # As celery does: daemonic processes, each of which ends after some tasks
    import multiprocessing
    context = multiprocessing.get_context("fork")
    def work(number):
        signal.alarm(args["patience"])
        for _ in range(2):
            serve(number)
    audmodel.load(args["uid"], num_workers=4)
    codes = []
    for first in (0, 2):
        workers = [
            context.Process(target=work, args=[first + number], daemon=True)
            for number in range(2)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        codes += [worker.exitcode for worker in workers]
    return codes
"""


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "server",
    [PRELOADS, IN_THE_MIDDLE_OF_A_LOAD, REPLACES_ITS_WORKERS, RECYCLES_ITS_WORKERS],
    ids=["preload", "middle", "replace", "recycle"],
)
def test_workers_of_a_server_load(
    python: Interpreter, served: str, server: str, tmp_path: Path, unmeasured: None
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


@pytest.mark.thorough
@pytest.mark.parametrize("served", ["s3"], indirect=True)
def test_a_fork_while_credentials_are_renewed_renews_them_as_well(
    python: Interpreter, served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"):
        monkeypatch.delenv(name)
    code = """
    import datetime, signal, threading
    import boto3, botocore.credentials, botocore.session
    is_renewing, is_forked = threading.Event(), threading.Event()
    def expires(minutes):
        now = datetime.datetime.now(datetime.timezone.utc)
        return now + datetime.timedelta(minutes=minutes)
    def renew():
        if threading.current_thread() is thread:
            is_renewing.set()
            is_forked.wait(args["patience"])
        keys = {"access_key": args["keys"][0], "secret_key": args["keys"][1]}
        return {**keys, "token": None, "expiry_time": expires(60).isoformat()}
    core = botocore.session.get_session()
    core._credentials = botocore.credentials.RefreshableCredentials(
        "expired", "expired", None, expires(-1), renew, "test"
    )
    boto3.setup_default_session(botocore_session=core)
    def load(cache):
        return len(os.listdir(audmodel.load(args["uid"], cache_root=cache)))
    thread = threading.Thread(target=load, args=[args["caches"][0]])
    thread.start()
    assert is_renewing.wait(args["patience"])
    pid = os.fork()
    if not pid:
        signal.alarm(args["patience"])
        os._exit(load(args["caches"][1]))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    is_forked.set()
    thread.join()
    return [code, load(args["caches"][0])]
    """
    caches = [str(tmp_path / f"cache-{number}") for number in range(2)]
    keys = [seaweedfs.ACCESS_KEY, seaweedfs.SECRET_KEY]
    seen = python.run(code, uid=served, caches=caches, keys=keys, patience=PATIENCE)
    assert seen == [21, 21]


def test_credentials_for_artifactory_are_rotated(
    python: Interpreter, model_folder: Path, cache: Path, home: Path
) -> None:
    user = artifactory.User("first")
    with artifactory.artifactory(tester=user) as server:
        repository = audmodel.Repository("models", server.url, "artifactory")
        audmodel.config.REPOSITORIES = [repository]
        path = home / "artifactory.cfg"
        config = f"[{server.url}]\nusername = tester\npassword = "
        path.write_text(f"{config}first\n", encoding="utf-8")
        os.environ["ARTIFACTORY_CONFIG_FILE"] = str(path)
        os.environ["TMPDIR"] = str(home)
        uid = publish(model_folder)
        code = """
        import tempfile
        seen = []
        for secret in ("first", "wrong", "second"):
            with open(os.environ["ARTIFACTORY_CONFIG_FILE"], "w") as file:
                file.write(args["config"] + secret)
            open(args["go"], "w").close()
            while os.path.exists(args["go"]):
                time.sleep(0.01)
            # A worker that was forked from a process with older ones, too
            pid = os.fork()
            try:
                audmodel.load(args["uid"], cache_root=tempfile.mkdtemp())
                found = 0
            except audmodel.errors.RepositoryError:
                found = 1
            if not pid:
                os._exit(found)
            seen.append([found, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])])
        return seen
        """
        go = home / "go"
        process = python.start(code, uid=uid, config=config, go=str(go))
        for secret in ("first", "first", "second"):
            deadline = time.monotonic() + PATIENCE
            while not go.exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            server.users["tester"] = artifactory.User(secret)
            go.unlink()
        assert process.result() == [[0, 0], [1, 1], [0, 0]]


# A server that moves to another address ---------------------------------------

Death = Callable[[Proxy], None]


def gone(server: Proxy) -> None:
    """The process ended: connections break, and new ones are refused."""
    server.fault = faults.break_before
    server.close()


def silent(server: Proxy) -> None:
    """The machine is off: what is sent there is lost."""

    def wait(*_: object) -> None:
        server.released.wait(PATIENCE)

    server.fault = wait


class Names:
    """What names stand for, in place of what a name server says."""

    def __init__(self) -> None:
        # None stands for a name that is not known
        self.addresses: dict[str, str | None] = {}
        # Seconds that an answer takes
        self.pause = 0.0
        self._resolve = socket.getaddrinfo

    def getaddrinfo(self, host: Any, *arguments: Any, **options: Any) -> Any:
        address = self.addresses.get(host, host)
        if host in self.addresses:
            time.sleep(self.pause)
        if address is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self._resolve(address, *arguments, **options)


@dataclass
class Moving:
    """A storage that can be reached at two addresses, the first one by its name.

    Args:
        repository: the storage, by its name
        names: what its name stands for
        first: what listens at the first address
        second: what listens at the second address

    """

    repository: audmodel.Repository
    names: Names
    first: Proxy
    second: Proxy

    def move(self) -> None:
        """Let the name stand for the second address."""
        self.names.addresses[NAME] = SECOND


NAME = "storage.test"
FIRST, SECOND = "127.0.0.2", "127.0.0.3"
READ_TIMEOUT = 2.0


@pytest.fixture(params=["s3", "artifactory"])
def moving(
    request: pytest.FixtureRequest, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Moving]:
    for module in (s3_endpoint, artifactory_server):
        monkeypatch.setattr(module, "READ_TIMEOUT", READ_TIMEOUT)
    # In the same proportion as without tests
    monkeypatch.setattr(transfer, "BUDGET", 1.5 * READ_TIMEOUT)
    names = Names()
    names.addresses[NAME] = FIRST
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    with BACKENDS[request.param](request) as behind:
        url = urlsplit(behind.host)
        with (
            Proxy(url.netloc, (FIRST, 0)) as first,
            Proxy(url.netloc, (SECOND, first.port)) as second,
        ):
            host = f"http://{NAME}:{first.port}{url.path}"
            repository = audmodel.Repository(behind.name, host, request.param)
            audmodel.config.REPOSITORIES = [repository]
            yield Moving(repository, names, first, second)
    forget_servers()


@pytest.mark.sample(1)
@pytest.mark.parametrize("workers", [4, 1])
@pytest.mark.parametrize("death", [silent, gone])
def test_a_server_moves(
    moving: Moving, large_model: Path, death: Death, workers: int
) -> None:
    uid = publish(large_model)
    audmodel.load(uid, num_workers=workers)
    assert moving.first.requests
    audmodel.remove_cached(uid)
    death(moving.first)
    moving.move()
    start = time.monotonic()
    root = audmodel.load(uid, num_workers=workers)
    # One connection after the other would be found to be dead
    assert time.monotonic() - start < 2 * READ_TIMEOUT
    assert files(root) == files(large_model)
    assert moving.second.requests
    before = len(moving.first.requests)
    audmodel.update_meta(uid, {"after": True})
    assert publish(large_model, version="2.0.0", num_workers=workers)
    assert audmodel.versions(uid) == ["1.0.0", "2.0.0"]
    assert len(moving.first.requests) == before


def test_an_overloaded_server_moves(moving: Moving, large_model: Path) -> None:
    uid = publish(large_model)
    moving.first.fault = faults.status(503)
    moving.move()
    # Its connection is open, and it would say the same for ever
    audmodel.update_meta(uid, {"after": True})
    assert audmodel.meta(uid)["after"]


@pytest.fixture
def other(moving: Moving, tmp_path: Path) -> audmodel.Repository:
    """A repository that answers beside the one that moves."""
    (tmp_path / "other" / "models").mkdir(parents=True)
    other = audmodel.Repository("models", str(tmp_path / "other"), "file-system")
    audmodel.config.REPOSITORIES = [moving.repository, other]
    return other


@pytest.mark.sample(1)
@pytest.mark.parametrize("death", [gone, silent])
@pytest.mark.parametrize("is_known", [True, False])
def test_a_server_that_moved_is_not_left_out(
    moving: Moving,
    other: audmodel.Repository,
    large_model: Path,
    death: Death,
    is_known: bool,
) -> None:
    uid = publish(large_model, repository=moving.repository)
    death(moving.first)
    if not is_known:
        moving.names.addresses[NAME] = None
    with pytest.warns(UserWarning, match="left out"):
        assert not audmodel.exists(uid)
    before = len(moving.first.requests)
    with pytest.warns(UserWarning, match="tried again in"):
        assert not audmodel.exists(uid)
    assert len(moving.first.requests) == before
    moving.move()
    assert audmodel.exists(uid)
    assert files(audmodel.load(uid)) == files(large_model)


@pytest.mark.thorough
def test_a_lookup_does_not_wait_for_names(
    moving: Moving, other: audmodel.Repository, large_model: Path
) -> None:
    uid = publish(large_model, repository=moving.repository)
    gone(moving.first)
    with pytest.warns(UserWarning, match="left out"):
        assert not audmodel.exists(uid)
    moving.names.pause = 5.0
    start = time.monotonic()
    for _ in range(3):
        with pytest.warns(UserWarning, match="tried again in"):
            assert not audmodel.exists(uid)
    assert time.monotonic() - start < 3
