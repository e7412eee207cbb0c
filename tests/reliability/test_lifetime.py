"""Processes that live long: they fork, start threads, and end in their own way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import audmodel
from tests.core.conftest import Interpreter


# Of each family of faults
pytestmark = pytest.mark.sample(1)


# Modules that a first call imports, the last one not by a statement of audmodel
FIRST_IMPORTS = ("audmodel.core.lookup", "audbackend", "filelock", "blake3", "wave")
# Ends a process that hangs, before the test does
PATIENCE = 20


@pytest.fixture
def uid(repository: audmodel.Repository, model_folder: Path) -> str:
    uid = audmodel.publish(str(model_folder), "name", {}, "1.0.0")
    audmodel.update_meta(uid, {"uar": 0.7})
    return uid


# Forks ---------------------------------------------------------------------


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


@pytest.mark.parametrize("workers", [1, 4])
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
